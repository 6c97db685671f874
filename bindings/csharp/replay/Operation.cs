using System;
using System.Collections.Generic;
using System.Globalization;

/// <summary>One line of an operation script (docs/SCRIPTS.md).</summary>
sealed class Operation {
  static readonly char[] blanks = {' ', '\t', '\r'};
  readonly Dictionary<string, string> arguments = new Dictionary<string, string>();

  internal string Verb;
  internal readonly List<string> Names = new List<string>();
  internal readonly List<KeyValuePair<string, long>> Counts = new List<KeyValuePair<string, long>>();
  string expected = "ok";

  internal bool IsBare => arguments.Count == 0;

  /// <summary>Null for a line without an operation.</summary>
  internal static Operation Parse(string line) {
    int comment = line.IndexOf('#');
    if (comment >= 0) line = line.Substring(0, comment);
    string[] words = line.Split(blanks, StringSplitOptions.RemoveEmptyEntries);
    if (words.Length == 0) return null;
    var operation = new Operation {Verb = words[0]};
    for (int i = 1; i < words.Length; i++) {
      if (words[i] == "->") {
        if (i + 2 != words.Length) throw new ScriptException("one status ends the line after ->");
        operation.expected = words[i + 1];
        break;
      }
      operation.Add(words[i]);
    }
    return operation;
  }

  void Add(string word) {
    int equals = word.IndexOf('='), colon = word.IndexOf(':');
    if (equals >= 0)
      arguments[word.Substring(0, equals)] = word.Substring(equals + 1);
    else if (colon >= 0)
      Counts.Add(new KeyValuePair<string, long>(word.Substring(0, colon), ParseNumber(word.Substring(colon + 1))));
    else
      Names.Add(word);
  }

  internal bool Expects(string status) => Array.IndexOf(expected.Split('|'), status) >= 0;

  internal bool Has(string key) => arguments.ContainsKey(key);

  internal string Name(int index) => index < Names.Count ? Names[index] : "";

  internal string Word(string key, string otherwise = "") => arguments.TryGetValue(key, out string word) ? word : otherwise;

  internal long Number(string key, long otherwise = 0) =>
      arguments.TryGetValue(key, out string word) ? ParseNumber(word) : otherwise;

  internal bool Flag(string key) => Number(key) != 0;

  internal ulong Seed(string key) => unchecked((ulong)Number(key));

  internal double Real(string key) {
    if (!arguments.TryGetValue(key, out string word)) return 0;
    if (double.TryParse(word, NumberStyles.Float, CultureInfo.InvariantCulture, out double value)) return value;
    throw new ScriptException(key + "=" + word + " is no number");
  }

  internal void Range(string key, out long begin, out long end) {
    begin = end = 0;
    if (!arguments.TryGetValue(key, out string word)) return;
    string[] ends = word.Split(':');
    if (ends.Length != 2) throw new ScriptException(key + "=" + word + ": expected begin:end");
    begin = ParseNumber(ends[0]);
    end = ParseNumber(ends[1]);
  }

  internal long[] List(string key) {
    string word = Word(key);
    return word.Length == 0 ? new long[0] : Array.ConvertAll(word.Split(','), ParseNumber);
  }

  internal static long ParseNumber(string word) {
    if (long.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value)) return value;
    throw new ScriptException("\"" + word + "\" is no number");
  }
}
