using System;
using System.Runtime.InteropServices;
using Kvc;

/// <summary>What the examples feed: the numbers of docs/SCRIPTS.md, seed 1. A model would give its own keys, values and queries.</summary>
static class Inputs {
  internal const int Layers = 2, KvHeads = 2, QHeads = 4, Dim = 64;

  internal static Cache NewCache() => NewCache(Device.Cpu, 0);

  /// <summary>On the CPU with the kernels that give the same bits on every machine.</summary>
  internal static Cache NewCache(Device device, long ordinal) => new Cache(new CacheOptions {
    Layers = Layers, KvHeads = KvHeads, QHeads = QHeads, KDim = Dim, Codec = "int4", ArenaTokens = 4096,
    Device = device, DeviceOrdinal = ordinal, Target = device == Device.Cpu ? "scalar" : ""
  });

  /// <summary>What a layer does with its keys, values and queries; output takes what it attends to.</summary>
  internal delegate void LayerRun(Step step, int layer, float[] k, float[] v, float[] q, float[] output);

  internal static unsafe float[] Rows(Source source, long layer, long position, long tokens, ulong data) {
    int width = (source == Source.Queries ? QHeads : KvHeads) * Dim;
    var rows = new float[tokens * width];
    var numbers = new Numbers(1, data);
    fixed (float* to = rows) {
      for (long i = 0; i < tokens; i++) numbers.Fill(layer, source, position + i, width, Dim, (byte*)(to + i * width));
    }
    return rows;
  }

  /// <summary>One step of one sequence. What each layer attends to goes into the digest.</summary>
  internal static void Run(Cache cache, Sequence sequence, long tokens, ulong data, Sha256 digest) =>
      Run(cache, sequence, tokens, data, null, RunLayer, output => digest.Add(MemoryMarshal.AsBytes(new Span<float>(output))));

  internal static void Run(Cache cache, Sequence sequence, long tokens, ulong data, StepOptions options, LayerRun run,
                           Action<float[]> see) {
    long position = sequence.Length;
    var output = new float[tokens * QHeads * Dim];
    using (Step step = cache.Begin(sequence, tokens, options)) {
      for (int layer = 0; layer < Layers; layer++) {
        run(step, layer, Rows(Source.Keys, layer, position, tokens, data), Rows(Source.Values, layer, position, tokens, data),
            Rows(Source.Queries, layer, position, tokens, data), output);
        see(output);
      }
      step.Commit();
    }
  }

  internal static void RunLayer(Step step, int layer, float[] k, float[] v, float[] q, float[] output) {
    step.Append(layer, k, v);
    step.Attend(layer, q, output);
  }
}
