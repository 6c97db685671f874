using System;
using System.Collections.Generic;
using System.Linq;

namespace SmolServer {

static class JsonTests {
  public static void ValuesAreRead() {
    var fields = (Dictionary<string, object>)Json.Parse(
        " {\"a\" : [1, -0.5e+1,\t0, true,false , null, {}, []],\r\n " +
        "\"\\u00e9\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\" : \"b\", \"a b\": 1, \"a b\": 2} ");
    Tests.Equal("1 -5 0 True False  {} []", string.Join(" ", ((List<object>)fields["a"]).Select(Form)), "values");
    Tests.Equal("b", fields["\u00e9\ud83d\ude00\"\\/\b\f\n\r\t"], "escapes");
    Tests.Equal(2.0, fields["a b"], "the last of equal names");
    Json.Parse(new string('[', 90) + new string(']', 90));
  }

  static string Form(object value) {
    if (value is Dictionary<string, object>) return "{}";
    return value is List<object> ? "[]" : Convert.ToString(value);
  }

  public static void WhatIsNoJsonIsRefused() {
    string[] wrong = {
      "", " ", "{", "}", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "'a'", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\\u12",
      "\"\\u+123\"", "\"\\ud83d\"", "\"\\ud83d\\u0041\"", "\"\\ude00\\ud83d\"",
      "\"a\nb\"", "\"\0\"", "01", "-", "+1", "1.", ".5", "1e", "1e999", "NaN", "tru", "nulll", "1 2", "\ufeff{}", new string('[', 100000),
    };
    foreach (string text in wrong) {
      try {
        Json.Parse(text);
      } catch (FormatException) {
        continue;
      }
      throw new InvalidOperationException("taken for JSON: " + text.Substring(0, Math.Min(text.Length, 20)));
    }
  }

  public static void QuotedTextIsReadBack() {
    string all = new string(Enumerable.Range(0, 0x3000).Select(code => (char)code).ToArray()) + "\ud83d\ude00";
    Tests.Equal(all, (string)Json.Parse(Json.Quote(all)), "quoted text");
    Tests.That(!Json.Quote(all).Any(char.IsControl) || Json.Quote(all).All(c => c >= ' '), "quoted text holds control characters");
  }
}

}
