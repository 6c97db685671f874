// What the calls of a decode step cost from C#; bench/README.md says what is timed.
using System;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using Kvc;

static class Ffi {
  const int Layers = 30, KvHeads = 3, QHeads = 9, Dim = 64;
  const int Rounds = 21, NoOps = 20000, Sequences = 300, ShortSteps = 32;
  static readonly float[] k = Rows(KvHeads * Dim, 1), v = Rows(KvHeads * Dim, 1), q = Rows(QHeads * Dim, 1);
  static readonly float[] output = new float[QHeads * Dim];

  static float[] Rows(int width, int count) {
    var rows = new float[width * count];
    for (int i = 0; i < rows.Length; i++) rows[i] = (i % width * 37 % 101 - 50) / 50f;
    return rows;
  }

  static double Median(double[] samples) {
    Array.Sort(samples);
    return samples[samples.Length / 2];
  }

  static double Nanoseconds(long from, long to) => (to - from) * 1e9 / Stopwatch.Frequency;

  static Cache NewCache(long tokens) => new Cache(new CacheOptions {
    Layers = Layers, KvHeads = KvHeads, QHeads = QHeads, KDim = Dim, Codec = "int4", ArenaTokens = tokens
  });

  static double NoOpNs() {
    var samples = new double[Rounds];
    for (int round = 0; round < Rounds; round++) {
      long sum = 0, from = Stopwatch.GetTimestamp();
      for (int i = 0; i < NoOps; i++) sum += Discovery.AbiVersion;
      samples[round] = Nanoseconds(from, Stopwatch.GetTimestamp()) / NoOps;
      if (sum == 0) throw new InvalidOperationException();
    }
    return Median(samples);
  }

  /// <summary>Of one append and one attend over next to nothing.</summary>
  static void CallsNs(out double append, out double attend) {
    double[] appends = new double[Sequences * ShortSteps], attends = new double[Sequences * ShortSteps];
    using (Cache cache = NewCache(1024)) {
      for (int at = 0; at < appends.Length;) {
        using (Sequence sequence = cache.CreateSequence()) {
          for (int i = 0; i < ShortSteps; i++, at++) {
            using (Step step = cache.Begin(sequence, 1)) {
              long from = Stopwatch.GetTimestamp();
              for (int layer = 0; layer < Layers; layer++) step.Append(layer, k, v);
              long middle = Stopwatch.GetTimestamp();
              for (int layer = 0; layer < Layers; layer++) step.Attend(layer, q, output);
              appends[at] = Nanoseconds(from, middle) / Layers;
              attends[at] = Nanoseconds(middle, Stopwatch.GetTimestamp()) / Layers;
              step.Commit();
            }
          }
        }
      }
    }
    append = Median(appends);
    attend = Median(attends);
  }

  static void Decode(Cache cache, Sequence sequence) {
    using (Step step = cache.Begin(sequence, 1)) {
      for (int layer = 0; layer < Layers; layer++) {
        step.Append(layer, k, v);
        step.Attend(layer, q, output);
      }
      step.Commit();
    }
  }

  static void Print(string format, params object[] figures) => Console.WriteLine(string.Format(CultureInfo.InvariantCulture, format, figures));

  /// <summary>A line on stdin asks for so many steps and is answered with the median of their second half; the end, with the bytes
  /// of the managed heap that one step allocates.</summary>
  static void Answer(int context, int mostSteps) {
    using (Cache cache = NewCache(context + mostSteps))
    using (Sequence sequence = cache.CreateSequence()) {
      float[] rows = Rows(KvHeads * Dim, context);
      using (Step step = cache.Begin(sequence, context)) {
        for (int layer = 0; layer < Layers; layer++) step.Append(layer, rows, rows);
        step.Commit();
      }
      long allocated = 0, taken = 0;
      for (string line; (line = Console.ReadLine()) != null;) {
        var samples = new double[int.Parse(line)];
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < samples.Length; i++) {
          long from = Stopwatch.GetTimestamp();
          Decode(cache, sequence);
          samples[i] = Nanoseconds(from, Stopwatch.GetTimestamp()) / 1000;
        }
        allocated += GC.GetAllocatedBytesForCurrentThread() - before;
        taken += samples.Length;
        Print("{0:F2}", Median(samples.Skip(samples.Length / 2).ToArray()));
      }
      Print("{{\"allocated\": {0:F2} }}", (double)allocated / taken);
    }
  }

  static int Main(string[] arguments) {
    if (arguments.Length != 2) {
      Console.Error.WriteLine("usage: ffi CONTEXT MOST_STEPS");
      return 2;
    }
    double noOp = NoOpNs(), append, attend;
    CallsNs(out append, out attend);
    Print("{{\"noop_ns\": {0:F2}, \"append_ns\": {1:F1}, \"attend_ns\": {2:F1} }}", noOp, append, attend);
    Answer(int.Parse(arguments[0]), int.Parse(arguments[1]));
    return 0;
  }
}
