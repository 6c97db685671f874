using System;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace SmolServer {

/// <summary>Answers HTTP requests. Every connection's thread is in here.</summary>
sealed class Server {
  const int BodyBytesMost = 1 << 20;
  const int LookMilliseconds = 100;   // between two looks whether the client is still there, while no token comes
  const string JsonType = "application/json";
  const string ModelName = "smollm2-135m";
  readonly Engine engine;
  readonly long[] opening;   // tokens that begin a system prompt
  readonly long ending;      // the token that ends it
  readonly long began = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
  long ids;

  public Server(Engine engine) {
    this.engine = engine;
    opening = engine.Model.Encode("<|im_start|>system");
    ending = engine.Model.Encode("<|im_end|>")[0];
  }

  /// <summary>Reads a request and answers it.</summary>
  public void Handle(Connection connection) {
    try {
      connection.ReadHead();
      if (!connection.HasHost) throw RequestException.Invalid("no Host was given");
      Route(connection);
    } catch (Exception e) when (!connection.Answered && !(e is IOException || e is SocketException)) {
      int status = RequestException.StatusOf(e);
      connection.Answer(status, JsonType, ErrorBody(e), status == 429 ? "Retry-After: 1\r\n" : "");
    }
  }

  void Route(Connection connection) {
    string method = connection.Path == "/v1/completions" ? "POST" : "GET";
    Action<Connection> handle;
    switch (connection.Path) {
    case "/v1/completions": handle = Complete; break;
    case "/v1/models": handle = SendModels; break;
    case "/metrics": handle = SendMetrics; break;
    case "/healthz": handle = SendHealth; break;
    default: throw new RequestException(404, "there is no " + connection.Path);
    }
    if (connection.Method == method) {
      handle(connection);
      return;
    }
    var refusal = new RequestException(405, connection.Method + " " + connection.Path + ": only " + method + " is allowed");
    connection.Answer(405, JsonType, ErrorBody(refusal), "Allow: " + method + "\r\n");
  }

  static string ErrorBody(Exception failure) {
    int status = RequestException.StatusOf(failure);
    string type = status == 429 ? "rate_limit_error" : status >= 500 ? "server_error" : "invalid_request_error";
    return "{\"error\": {\"message\": " + Json.Quote(failure.Message) + ", \"type\": \"" + type + "\", \"param\": null, \"code\": null}}";
  }

  void SendHealth(Connection connection) {
    if (engine.Closing) throw RequestException.Closing();
    connection.Answer(200, JsonType, "{\"status\": \"ok\"}");
  }

  void SendModels(Connection connection) =>
      connection.Answer(200, JsonType, "{\"object\": \"list\", \"data\": [{\"id\": \"" + ModelName + "\", \"object\": \"model\", \"created\": " +
                        began + ", \"owned_by\": \"kvc\"}]}");

  void SendMetrics(Connection connection) =>
      connection.Answer(200, "text/plain; version=0.0.4; charset=utf-8", new Metrics().Write(engine));

  void Complete(Connection connection) {
    CompletionRequest asked = CompletionRequest.Parse(connection.ReadBody(BodyBytesMost));
    int bytes = Encoding.UTF8.GetByteCount(asked.Prompt);
    if (bytes > engine.Model.PromptBytes) {
      throw RequestException.Invalid("a prompt of " + bytes + " bytes is longer than the model's context, which holds " +
                                     engine.Model.PromptBytes + " at most");
    }
    long[] tokens = engine.Model.Encode(asked.Prompt);
    if ((long)tokens.Length + asked.MaxTokens > engine.Model.ContextTokens) {
      throw RequestException.Invalid(tokens.Length + " tokens of prompt and " + asked.MaxTokens +
                                     " of max_tokens are more than the model's context of " + engine.Model.ContextTokens);
    }
    var stream = new Stream(tokens, asked.MaxTokens, Stream.SystemTokens(tokens, opening, ending));
    engine.Submit(stream);
    try {
      while (!stream.WaitForStart(LookMilliseconds)) connection.CheckPresence();
      string head = "{\"id\": \"cmpl-" + Interlocked.Increment(ref ids) + "\", \"object\": \"text_completion\", \"created\": " +
                    DateTimeOffset.UtcNow.ToUnixTimeSeconds() + ", \"model\": \"" + ModelName + "\", \"choices\": [";
      if (asked.Stream) {
        SendParts(connection, stream, head);
      } else {
        SendWhole(connection, stream, head);
      }
    } finally {
      stream.Leave();   // nobody listens from here on, however this ended
    }
  }

  // Throws if the client goes away.
  static Event Next(Connection connection, Stream stream) {
    for (;;) {
      connection.CheckPresence();
      Event one = stream.Receive(LookMilliseconds);
      if (one != null) return one;
    }
  }

  static string Choice(string text, string finish) =>
      "{\"text\": " + Json.Quote(text) + ", \"index\": 0, \"logprobs\": null, \"finish_reason\": " +
      (finish == null ? "null" : Json.Quote(finish)) + "}]";

  static void SendWhole(Connection connection, Stream stream, string head) {
    var text = new StringBuilder();
    Event one;
    do {
      one = Next(connection, stream);
      if (one.Failure != null) throw one.Failure;
      text.Append(one.Text);
    } while (one.Finish == null);
    string usage = string.Format(CultureInfo.InvariantCulture, "\"prompt_tokens\": {0}, \"completion_tokens\": {1}, \"total_tokens\": {2}",
                                 stream.Prompt, stream.Written, stream.Prompt + stream.Written);
    connection.Answer(200, JsonType, head + Choice(text.ToString(), one.Finish) + ", \"usage\": {" + usage + "}}");
  }

  static void SendParts(Connection connection, Stream stream, string head) {
    Event one = stream.Receive(0);
    if (one?.Failure != null) throw one.Failure;   // it was never admitted
    connection.BeginAnswer("text/event-stream");
    for (;;) {
      if (one == null) one = Next(connection, stream);
      if (one.Failure != null) {
        connection.SendPart("data: " + ErrorBody(one.Failure) + "\n\n");
        connection.EndAnswer();
        return;
      }
      if (one.Text != "" || one.Finish != null) connection.SendPart("data: " + head + Choice(one.Text, one.Finish) + "}\n\n");
      if (one.Finish != null) break;
      one = null;
    }
    connection.SendPart("data: [DONE]\n\n");
    connection.EndAnswer();
  }
}

}
