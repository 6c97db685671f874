using System;

/// <summary>A script that makes no sense: an unknown verb, a word that is no number.</summary>
sealed class ScriptException : Exception {
  internal ScriptException(string message) : base(message) {}
}
