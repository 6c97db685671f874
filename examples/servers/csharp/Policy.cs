using System;
using System.Globalization;
using Kvc;

namespace SmolServer {

/// <summary>What a server gives up when memory is full, and how much of the arena requests may count on.</summary>
sealed class Policy {
  const double OfRoom = 7.0 / 8;

  public string Library = "";    // for kvc itself: acts at all times
  public bool StepsDown;
  public int EvictTo;            // tokens; 0 = never
  public double Most = 1;        // sum of shares
  public string Planned;         // codec that admission counts

  public static Policy Parse(string text, string mode) {
    const string Evict = "evict:";
    if (text == "step-down") return new Policy {StepsDown = true, Most = OfRoom, Planned = LastRung(mode)};
    if (!text.StartsWith(Evict, StringComparison.Ordinal)) return new Policy {Library = text, Planned = mode};
    if (!int.TryParse(text.Substring(Evict.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int tokens) || tokens < 1) {
      throw new ArgumentException("--policy " + text + ": a number of tokens follows " + Evict);
    }
    return new Policy {EvictTo = tokens, Most = OfRoom, Planned = mode};
  }

  // The codec of a ladder's last rung, with the window and sinks that the first one says for all.
  static string LastRung(string ladder) {
    string[] rungs = Discovery.FormatCodec(ladder).Split('/');
    if (rungs.Length < 2) throw new ArgumentException("--policy step-down needs a ladder as --mode, such as int8/int4, not " + ladder);
    return rungs[rungs.Length - 1].Split('@')[0] + rungs[0].Substring(rungs[0].IndexOf(",window=", StringComparison.Ordinal));
  }
}

}
