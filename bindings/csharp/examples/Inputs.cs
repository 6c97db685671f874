using System;
using Kvc;

/// <summary>What the examples feed: the numbers of docs/SCRIPTS.md, seed 1. A model would give its own keys, values and queries.</summary>
static class Inputs {
  internal const int Layers = 2, KvHeads = 2, QHeads = 4, Dim = 64;

  internal static Cache NewCache() => new Cache(new CacheOptions {
    Layers = Layers, KvHeads = KvHeads, QHeads = QHeads, KDim = Dim, Codec = "int4", Target = "scalar", ArenaTokens = 4096
  });

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
  internal static void Run(Cache cache, Sequence sequence, long tokens, ulong data, Sha256 digest) {
    long position = sequence.Length;
    var output = new float[tokens * QHeads * Dim];
    using (Step step = cache.Begin(sequence, tokens)) {
      for (int layer = 0; layer < Layers; layer++) {
        step.Append(layer, Rows(Source.Keys, layer, position, tokens, data), Rows(Source.Values, layer, position, tokens, data));
        step.Attend(layer, Rows(Source.Queries, layer, position, tokens, data), output);
        digest.Add(System.Runtime.InteropServices.MemoryMarshal.AsBytes(new Span<float>(output)));
      }
      step.Commit();
    }
  }
}
