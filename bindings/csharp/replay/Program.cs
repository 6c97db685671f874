using System;
using System.Globalization;
using System.IO;

/// <summary>replay_csharp [target=T] [threads=N] FILE...: prints the digest of each operation script, as sha256sum does.</summary>
static class Program {
  const string Usage = "replay_csharp [target=T] [threads=N] FILE...";

  static int Main(string[] arguments) {
    string target = "";
    long threads = 0;
    int faults = 0, files = 0;
    foreach (string argument in arguments) {
      if (argument.StartsWith("target=", StringComparison.Ordinal)) {
        target = argument.Substring("target=".Length);
      } else if (argument.StartsWith("threads=", StringComparison.Ordinal)) {
        if (!long.TryParse(argument.Substring("threads=".Length), NumberStyles.None, CultureInfo.InvariantCulture, out threads)) files = -1;
      } else if (files >= 0) {
        files++;
        if (!Run(argument, target, threads)) faults++;
      }
    }
    if (files > 0) return faults == 0 ? 0 : 1;
    Console.Error.WriteLine(Usage);
    return 2;
  }

  static bool Run(string file, string target, long threads) {
    int line = 0;
    try {
      using (var replay = new Replay(target, threads)) {
        foreach (string text in File.ReadAllLines(file)) {
          line++;
          Operation operation = Operation.Parse(text);
          string fault = operation == null ? null : replay.Run(operation);
          if (fault != null) throw new ScriptException(text.Trim() + "\n  answered " + fault);
        }
        Console.WriteLine(replay.Digest() + "  " + file);
      }
      return true;
    } catch (Exception e) when (e is ScriptException || e is IOException || e is UnauthorizedAccessException || e is OverflowException ||
                              e is ArgumentException) {
      Console.Error.WriteLine(file + ":" + line + ": " + e.Message);
      return false;
    }
  }
}
