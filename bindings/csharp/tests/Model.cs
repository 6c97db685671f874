using System;
using Kvc;

/// <summary>A small model of one kv head and two layers, with numbers that are the same every time.</summary>
sealed class Model {
  internal const int Layers = 2, Dim = 16;

  internal static CacheOptions Options() => new CacheOptions {
    Layers = Layers, KvHeads = 1, KDim = Dim, Codec = "int4", Target = "scalar", ArenaTokens = 2048, ArenaSequences = 2,
    ArenaGrowth = true
  };

  internal static Cache Cache() => new Cache(Options());

  internal static float[] Row(long tokens, int seed) {
    var row = new float[tokens * Dim];
    uint state = (uint)seed * 2654435761 + 1;
    for (int i = 0; i < row.Length; i++) {
      state = unchecked(state * 1664525 + 1013904223);
      row[i] = ((int)(state >> 16) - 32768) / 32768f;
    }
    return row;
  }

  /// <summary>One step; returns what the last layer attended to.</summary>
  internal static float[] Run(Cache cache, Sequence sequence, long tokens) {
    using (Step step = cache.Begin(sequence, tokens)) {
      float[] output = Layer(step, tokens);
      step.Commit();
      return output;
    }
  }

  internal static float[] Layer(Step step, long tokens) {
    var output = new float[tokens * Dim];
    for (int layer = 0; layer < Layers; layer++) {
      step.Append(layer, Row(tokens, layer), Row(tokens, layer + 10));
      step.Attend(layer, Row(tokens, layer + 20), output);
    }
    return output;
  }
}
