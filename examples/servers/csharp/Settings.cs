using System;
using System.Collections.Generic;

namespace SmolServer {

/// <summary>The command line.</summary>
sealed class Settings {
  public int Port { get; private set; } = 8080;
  public string Folder { get; private set; } = "build/servers/model";
  public string Mode { get; private set; } = "int4";
  public long ArenaBytes { get; private set; } = 256L << 20;
  public string Policy { get; private set; } = "";
  public int Threads { get; private set; } = DefaultThreads(Environment.ProcessorCount);
  public int MaxQueue { get; private set; } = 64;
  public int WriteTimeout { get; private set; } = 30;   // seconds

  const int ThreadsMost = 257;   // the calling one, and as many as the model library starts

  public static int DefaultThreads(int processors) => Math.Min(processors, ThreadsMost);

  public const string Help =
      "options, as --name value:\n" +
      "  --port P           loopback port; 0 = a free one (8080)\n" +
      "  --model DIR        folder of the model's files (build/servers/model)\n" +
      "  --mode CODEC       codec of the cache (int4)\n" +
      "  --arena-bytes N    byte budget of the cache (268435456)\n" +
      "  --policy TEXT      what is given up when memory is full (nothing)\n" +
      "  --threads N        threads that compute, 1 to 257 (processors)\n" +
      "  --max-queue N      requests that may wait (64)\n" +
      "  --write-timeout S  seconds after which a client that takes nothing has gone (30)";

  /// <summary>ArgumentException says what is wrong.</summary>
  public static Settings Parse(string[] words) {
    var settings = new Settings();
    var known = new Dictionary<string, Action<string>> {
      {"--port", text => settings.Port = (int)Number("--port", text, 0, ushort.MaxValue)},
      {"--model", text => settings.Folder = text},
      {"--mode", text => settings.Mode = text},
      {"--arena-bytes", text => settings.ArenaBytes = Number("--arena-bytes", text, 1, long.MaxValue)},
      {"--policy", text => settings.Policy = text},
      {"--threads", text => settings.Threads = (int)Number("--threads", text, 1, ThreadsMost)},
      {"--max-queue", text => settings.MaxQueue = (int)Number("--max-queue", text, 0, int.MaxValue)},
      {"--write-timeout", text => settings.WriteTimeout = (int)Number("--write-timeout", text, 1, 86400)},
    };
    for (int i = 0; i < words.Length; i += 2) {
      if (!known.TryGetValue(words[i], out Action<string> take)) {
        throw new ArgumentException("there is no option " + words[i] + "; there are " + string.Join(", ", known.Keys));
      }
      if (i + 1 == words.Length) throw new ArgumentException(words[i] + " needs a value");
      take(words[i + 1]);
    }
    return settings;
  }

  static long Number(string option, string text, long least, long most) {
    if (long.TryParse(text, out long value) && value >= least && value <= most) return value;
    throw new ArgumentException(option + " must be an integer from " + least + " to " + most + ", not " + text);
  }
}

}
