using System;
using System.Collections.Generic;
using Kvc;

/// <summary>Shapes and options of a script's cache, as "layer" lines and "create" give them.</summary>
sealed class Shapes {
  readonly SortedDictionary<long, Operation> lines = new SortedDictionary<long, Operation>();

  internal readonly CacheOptions Options = new CacheOptions();

  /// <summary>One for each layer, with nothing left open; empty before "create".</summary>
  internal LayerOptions[] All = new LayerOptions[0];

  /// <summary>What the cache is created with: nothing where no layer differs.</summary>
  internal LayerOptions[] Given = new LayerOptions[0];

  internal void Line(Operation operation) { lines[Operation.ParseNumber(operation.Name(0))] = operation; }

  internal void Create(Operation line, string target, long threads) {
    CacheOptions o = Options;
    o.Target = target;
    o.Threads = threads;
    o.Layers = line.Number("layers", 1);
    o.KvHeads = line.Number("kv_heads", 1);
    o.QHeads = line.Number("q_heads");
    o.KDim = line.Number("k_dim", 64);
    o.VDim = line.Number("v_dim");
    o.SlidingWindow = line.Number("sliding_window");
    o.ArenaBytes = line.Number("arena_bytes");
    o.ArenaTokens = line.Number("arena_tokens");
    o.ArenaSequences = line.Number("arena_sequences");
    o.ArenaGrowth = line.Flag("growth");
    o.SparePages = checked((int)line.Number("spare_pages"));
    o.Saturate = line.Flag("saturate");
    o.Keys = line.Word("keys") == "before" ? Keys.BeforeRope : Keys.AfterRope;
    o.Positions = line.Word("positions") == "in_cache" ? Positions.InCache : Positions.True;
    o.RopePairs = line.Word("pairs") == "interleaved" ? RopePairs.Interleaved : RopePairs.Halves;
    o.RopeTheta = line.Real("rope_theta");
    o.RopeDims = line.Number("rope_dims");
    o.Codec = line.Word("codec");
    o.Policy = line.Word("policy");
    o.ContextTokens = line.Number("context_tokens");
    All = new LayerOptions[Math.Max(o.Layers, 1)];
    for (int i = 0; i < All.Length; i++) All[i] = Layer(lines.TryGetValue(i, out Operation own) ? own : new Operation());
    foreach (Operation own in lines.Values)
      if (!own.IsBare && o.Layers > 0) Given = All;
  }

  LayerOptions Layer(Operation line) {
    CacheOptions o = Options;
    long kvHeads = line.Number("kv_heads", o.KvHeads), kDim = line.Number("k_dim", o.KDim);
    return new LayerOptions {
      KvHeads = kvHeads,
      QHeads = line.Number("q_heads", o.QHeads != 0 ? o.QHeads : kvHeads),
      KDim = kDim,
      VDim = line.Number("v_dim", o.VDim != 0 ? o.VDim : kDim),
      SlidingWindow = line.Number("sliding_window", o.SlidingWindow),
      RopeTheta = line.Has("rope_theta") ? line.Real("rope_theta") : o.RopeTheta,
      Codec = line.Word("codec", o.Codec)
    };
  }

  /// <summary>The layer that an operation names; where there is none of that number, the buffers have the first one's shape.</summary>
  internal LayerOptions Of(Operation operation) {
    if (All.Length == 0) throw new ScriptException("no cache was created");
    long layer = operation.Number("layer");
    return All[layer >= 0 && layer < Options.Layers ? layer : 0];
  }

  /// <summary>The kv heads that a line with layers= and heads= acts on, as (layer, head).</summary>
  internal IEnumerable<KeyValuePair<long, long>> ActedOn(Operation operation) {
    operation.Range("layers", out long layerBegin, out long layerEnd);
    operation.Range("heads", out long headBegin, out long headEnd);
    if (layerEnd == 0) layerEnd = Options.Layers;
    for (long layer = Math.Max(layerBegin, 0); layer < Math.Min(layerEnd, Options.Layers); layer++) {
      long heads = headEnd == 0 ? All[layer].KvHeads : Math.Max(headEnd - headBegin, 0);
      for (long head = headBegin; head < headBegin + heads; head++) yield return new KeyValuePair<long, long>(layer, head);
    }
  }
}
