using System;
using System.Collections.Generic;
using Kvc;

// What leaves a sequence, and what is read of it; the prefix index; snapshots.
sealed partial class Replay {
  delegate long NumberReader(long layer, long head, Span<long> to);

  // ---- Evict, merge, step down ----

  static EvictOptions EvictOptions(Operation operation) {
    operation.Range("layers", out long layerBegin, out long layerEnd);
    operation.Range("heads", out long headBegin, out long headEnd);
    return new EvictOptions {
      Budget = operation.Number("budget"), Recent = operation.Number("recent"),
      LayerBegin = layerBegin, LayerEnd = layerEnd, HeadBegin = headBegin, HeadEnd = headEnd
    };
  }

  void Report(EvictReport r) => answer.Numbers(r.TokensEvicted, r.RecordsFreed, r.BytesFreed, r.TokensRepacked);

  static int TokensOf(Track track) => (int)Math.Max(OrZero(() => track.Sequence.Length) - track.First, 0);

  void Evict(Operation operation) {
    Track track = TrackOf(operation.Name(0));
    if (!operation.Has("scores")) {
      Report(track.Sequence.Evict(EvictOptions(operation)));
      return;
    }
    var scores = new List<float>();
    var numbers = new Numbers(operation.Seed("scores"), track.Data);
    int n = TokensOf(track);
    foreach (KeyValuePair<long, long> at in shapes.ActedOn(operation)) {
      ulong row = numbers.Row(at.Key, Source.Scores, at.Value);
      for (int i = 0; i < n; i++) scores.Add(Numbers.Bell(row, i) / 65536f);
    }
    Report(track.Sequence.Evict(EvictOptions(operation), scores.ToArray()));
  }

  void Keep(Operation operation) => Report(Of(operation).EvictKeep(operation.List("positions"), EvictOptions(operation)));

  void Merge(Operation operation) {
    Track track = TrackOf(operation.Name(0));
    var numbers = new Numbers(operation.Seed("seed"), track.Data);
    long first = operation.Number("first"), recent = operation.Number("recent");
    int n = TokensOf(track);
    var clusters = new List<int>();
    foreach (KeyValuePair<long, long> at in shapes.ActedOn(operation)) {
      ulong row = numbers.Row(at.Key, Source.Clusters, at.Value);
      for (int i = 0; i < n; i++) {
        long choice = Numbers.Bell(row, i) & 3;
        bool stays = i % 4 == 0 || i < first || i >= n - recent || choice >= 2;
        clusters.Add(stays ? i : choice == 0 ? i - i % 4 : -1);
      }
    }
    EvictOptions range = EvictOptions(operation);
    EvictReport r = track.Sequence.Merge(clusters.ToArray(), new MergeOptions {
      LayerBegin = range.LayerBegin, LayerEnd = range.LayerEnd, HeadBegin = range.HeadBegin, HeadEnd = range.HeadEnd,
      ValuesOnly = operation.Flag("values_only"), Unbiased = operation.Flag("unbiased")
    });
    Report(r);
    answer.Numbers(r.TokensMerged);
  }

  void StepDown(Operation operation) {
    operation.Range("layers", out long begin, out long end);
    StepDownReport r = Of(operation).StepDown(new StepDownOptions {
      Rung = checked((int)operation.Number("rung")), LayerBegin = begin, LayerEnd = end,
      BudgetBytes = operation.Number("budget_bytes"), Recent = operation.Number("recent")
    });
    answer.Numbers(r.Pages, r.TokensRequantized, r.BytesFreed, r.RecordBytes);
  }

  // ---- Read-back ----

  static Part PartOf(Operation operation) {
    switch (operation.Word("part", "keys")) {
    case "keys": return Part.Keys;
    case "values": return Part.Values;
    default: throw new ScriptException("unknown part " + operation.Word("part"));
    }
  }

  long DimOf(Operation operation) {
    LayerOptions shape = shapes.Of(operation);
    return PartOf(operation) == Part.Keys ? shape.KDim : shape.VDim;
  }

  void Read(Operation operation) {
    Sequence sequence = Of(operation);
    long layer = operation.Number("layer"), head = operation.Number("head"), first = operation.Number("first");
    long n = operation.Has("n") ? operation.Number("n") : OrZero(() => sequence.Live(layer, head)) - first;
    var rows = new float[Math.Max(n, 0) * DimOf(operation)];
    sequence.Read(layer, head, PartOf(operation), first, n, rows);
    answer.Add<float>(rows);
  }

  void Codes(Operation operation) {
    Sequence sequence = Of(operation);
    long layer = operation.Number("layer"), head = operation.Number("head");
    Part part = PartOf(operation);
    long tokens = sequence.ReadCodes(layer, head, part);
    var codes = new byte[tokens * DimOf(operation)];
    sequence.ReadCodes(layer, head, part, codes);
    answer.Numbers(tokens);
    answer.Add<byte>(codes);
  }

  void ReadNumbers(Operation operation, NumberReader read) {
    Sequence sequence = Of(operation);
    long layer = operation.Number("layer"), head = operation.Number("head");
    var numbers = new long[OrZero(() => sequence.Live(layer, head))];
    Array.Resize(ref numbers, checked((int)read(layer, head, numbers)));
    answer.Numbers(numbers);
  }

  // ---- Prefix index ----

  static long[] TokensOf(Operation operation) {
    var tokens = new long[operation.Number("n")];
    long turn = operation.Number("turn", tokens.Length);
    for (long i = 0; i < tokens.Length; i++) tokens[i] = 1000 * i + operation.Number(i < turn ? "text" : "other");
    return tokens;
  }

  static byte[] SaltOf(Operation operation) => PrefixIndex.Salt(operation.Word("salt"));

  void Publish(Operation operation) =>
      cache.Prefixes.Publish(Of(operation), TokensOf(operation), SaltOf(operation), 
        new PrefixOptions {Pinned = operation.Flag("pinned"), Seal = operation.Flag("seal")});

  void Lookup(Operation operation) {
    Sequence found = cache.Prefixes.Lookup(TokensOf(operation), SaltOf(operation), out PrefixHit hit, SequenceOptions(operation));
    Name(operation.Name(0), found, operation.Seed("data"), operation.Number("first_position"));
    answer.Numbers(hit.Tokens, hit.Shared);
  }

  void Unpublish(Operation operation) => answer.Numbers(cache.Prefixes.Remove(TokensOf(operation), SaltOf(operation)));

  void PrefixStats(Operation operation) {
    PrefixStats s = cache.Prefixes.Stats();
    answer.Numbers(s.Entries, s.Tokens, s.RecordBytes, s.BudgetBytes, s.Hits, s.Misses, s.HitTokens, s.Evictions);
  }

  // ---- Snapshots ----

  void Export(Operation operation) {
    var exported = new Sequence[Math.Max(operation.Names.Count - 1, 0)];
    for (int i = 0; i < exported.Length; i++) exported[i] = TrackOf(operation.Names[i + 1]).Sequence;
    byte[] bytes = exported.Length == 0 ? cache.Export() : cache.Export(exported);
    answer.Numbers(bytes.Length);
    answer.Add<byte>(bytes);
    snapshots[operation.Name(0)] = bytes;
  }

  void Import(Operation operation) {
    byte[] bytes = snapshots.TryGetValue(operation.Name(0), out byte[] kept) ? (byte[])kept.Clone() : new byte[0];
    if (operation.Has("flip") && bytes.Length > 0) bytes[operation.Seed("flip") % (ulong)bytes.Length] ^= 1;
    var imported = new Sequence[Math.Max(operation.Names.Count - 1, 0)];
    long n = cache.Import(bytes, imported);
    for (int i = 0; i < imported.Length && i < n; i++)
      Name(operation.Names[i + 1], imported[i], operation.Seed("data"), operation.Number("first_position"));
    answer.Numbers(n);
  }
}
