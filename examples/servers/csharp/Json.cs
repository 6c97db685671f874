using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace SmolServer {

/// <summary>
/// Reads and quotes JSON: mono's System has no reader of its own. Objects become dictionaries (of equal names the last one counts),
/// arrays lists, numbers doubles.
/// </summary>
sealed class Json {
  const int DepthMost = 100;   // so that no body exhausts a thread's stack
  readonly string text;
  int at;

  Json(string text) { this.text = text; }

  /// <summary>FormatException: the text is not one JSON value.</summary>
  public static object Parse(string text) {
    var reader = new Json(text);
    object value = reader.Value(0);
    reader.SkipSpace();
    if (reader.at < text.Length) throw reader.Wrong("more text follows");
    return value;
  }

  /// <summary>A text as a JSON string.</summary>
  public static string Quote(string text) {
    var to = new StringBuilder("\"");
    foreach (char c in text) {
      if (c == '"' || c == '\\') {
        to.Append('\\').Append(c);
      } else if (c < ' ' || c == '\u2028' || c == '\u2029') {
        to.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
      } else {
        to.Append(c);
      }
    }
    return to.Append('"').ToString();
  }

  FormatException Wrong(string what) => new FormatException(what + " at character " + at);

  char Peek => at < text.Length ? text[at] : '\0';

  void SkipSpace() {
    while (at < text.Length && " \t\r\n".IndexOf(text[at]) >= 0) at++;
  }

  bool Take(char c) {
    SkipSpace();
    if (at == text.Length || text[at] != c) return false;
    at++;
    return true;
  }

  void Expect(char c) {
    if (!Take(c)) throw Wrong("'" + c + "' is missing");
  }

  object Value(int depth) {
    if (depth > DepthMost) throw Wrong("more than " + DepthMost + " values lie in each other");
    SkipSpace();
    switch (Peek) {
    case '{': return Object(depth);
    case '[': return Array(depth);
    case '"': return String();
    case 't': return Word("true", true);
    case 'f': return Word("false", false);
    case 'n': return Word("null", null);
    default: return Number();
    }
  }

  object Word(string word, object value) {
    if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0) throw Wrong("a value is missing");
    at += word.Length;
    return value;
  }

  Dictionary<string, object> Object(int depth) {
    var fields = new Dictionary<string, object>();
    Expect('{');
    if (Take('}')) return fields;
    do {
      SkipSpace();
      string name = String();
      Expect(':');
      fields[name] = Value(depth + 1);
    } while (Take(','));
    Expect('}');
    return fields;
  }

  List<object> Array(int depth) {
    var values = new List<object>();
    Expect('[');
    if (Take(']')) return values;
    do {
      values.Add(Value(depth + 1));
    } while (Take(','));
    Expect(']');
    return values;
  }

  string String() {
    var to = new StringBuilder();
    if (Peek != '"') throw Wrong("a string is missing");
    for (at++; Peek != '"'; at++) {
      if (Peek < ' ') throw Wrong("a string does not end, or holds a control character");
      to.Append(Peek == '\\' ? Escape() : Peek);
    }
    at++;
    for (int i = 0; i < to.Length; i++) {
      if (!char.IsSurrogate(to[i])) continue;
      if (i + 1 == to.Length || !char.IsSurrogatePair(to[i], to[i + 1])) throw Wrong("half of a surrogate pair");
      i++;
    }
    return to.ToString();
  }

  // Ends on the last character of it.
  char Escape() {
    const string Names = "\"\\/bfnrt", Meanings = "\"\\/\b\f\n\r\t";
    at++;
    if (Peek != 'u') {
      int which = Names.IndexOf(Peek);
      if (which < 0) throw Wrong("an escape that JSON has not");
      return Meanings[which];
    }
    if (at + 4 >= text.Length ||
        !ushort.TryParse(text.Substring(at + 1, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort code)) {
      throw Wrong("four hexadecimal digits follow \\u");
    }
    at += 4;
    return (char)code;
  }

  int Digits() {
    int from = at;
    while (Peek >= '0' && Peek <= '9') at++;
    if (at == from) throw Wrong("a value or a digit is missing");
    return at - from;
  }

  object Number() {
    int from = at;
    if (Peek == '-') at++;
    bool zero = Peek == '0';
    if (Digits() > 1 && zero) throw Wrong("a number begins with 0");
    if (Peek == '.') {
      at++;
      Digits();
    }
    if (Peek == 'e' || Peek == 'E') {
      at++;
      if (Peek == '+' || Peek == '-') at++;
      Digits();
    }
    const NumberStyles Style = NumberStyles.Float;
    if (!double.TryParse(text.Substring(from, at - from), Style, CultureInfo.InvariantCulture, out double value) || double.IsInfinity(value)) {
      throw Wrong("a number is out of range");
    }
    return value;
  }
}

}
