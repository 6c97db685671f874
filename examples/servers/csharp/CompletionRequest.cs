using System;
using System.Collections.Generic;
using System.Text;

namespace SmolServer {

/// <summary>The part of a body that matters.</summary>
sealed class CompletionRequest {
  static readonly Encoding strict = new UTF8Encoding(false, true);

  public string Prompt = "";
  public int MaxTokens = 16;
  public bool Stream;

  /// <summary>RequestException says what is not allowed.</summary>
  public static CompletionRequest Parse(byte[] body) {
    Dictionary<string, object> fields;
    try {
      fields = Json.Parse(strict.GetString(body)) as Dictionary<string, object>;
    } catch (DecoderFallbackException) {
      throw RequestException.Invalid("the body is not UTF-8");
    } catch (FormatException e) {
      throw RequestException.Invalid("the body is not JSON: " + e.Message);
    }
    if (fields == null) throw RequestException.Invalid("the body is not a JSON object");
    var request = new CompletionRequest();
    foreach (KeyValuePair<string, object> field in fields) {
      if (field.Value != null) request.Take(field.Key, field.Value);
    }
    return request.Prompt != "" ? request : throw RequestException.Invalid("prompt is required");
  }

  void Take(string name, object value) {
    double number = value as double? ?? double.NaN;   // which equals nothing
    switch (name) {
    case "prompt":
      Prompt = value as string ?? "";
      if (Prompt == "") throw RequestException.Invalid("prompt must be a string that is not empty");
      break;
    case "max_tokens":
      if (!(number >= 1 && number <= int.MaxValue && number == Math.Floor(number))) {
        throw RequestException.Invalid("max_tokens must be an integer from 1");
      }
      MaxTokens = (int)number;
      break;
    case "stream":
      Stream = value as bool? ?? throw RequestException.Invalid("stream must be a boolean");
      break;
    case "temperature":
      if (number != 0) throw RequestException.Invalid("temperature must be 0: text is greedy");
      break;
    case "n":
    case "best_of":
      if (number != 1) throw RequestException.Invalid(name + " must be 1: text is greedy");
      break;
    case "stop":
    case "suffix":
    case "logprobs":
    case "echo":
      if (name != "echo" || !false.Equals(value)) throw RequestException.Invalid(name + " is not offered");
      break;
    }
  }
}

}
