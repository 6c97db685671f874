using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>
/// A sequence of a cache. Dispose, or the collector, destroys it, but not before the steps that it belongs to have ended.
/// </summary>
public sealed unsafe class Sequence : IDisposable {
  readonly SequenceHandle own;
  bool disposed;   // a handle that a step still holds would not say so

  internal Sequence(Cache cache, SequenceHandle handle) {
    Cache = cache;
    own = handle.Of(cache.handle);
  }

  internal SequenceHandle handle => disposed ? throw new ObjectDisposedException(nameof(Sequence)) : own;

  /// <summary>The cache that it belongs to.</summary>
  public Cache Cache { get; }

  CacheHandle In => Cache.handle;

  /// <summary>Position of the next token.</summary>
  public long Length {
    get {
      long value;
      kvc.kvc_seq_length(In, handle, &value);
      return value;
    }
  }

  /// <summary>Lowest length to which Truncate and Fork are exact.</summary>
  public long ExactFloor {
    get {
      long value;
      kvc.kvc_seq_exact_floor(In, handle, &value);
      return value;
    }
  }

  /// <summary>The most tokens that a step may add.</summary>
  public long StepLimit {
    get {
      long value;
      kvc.kvc_seq_step_limit(In, handle, &value);
      return value;
    }
  }

  /// <summary>Bytes and counters of the sequence now.</summary>
  public SequenceStats Stats() {
    var stats = new SequenceStats();
    kvc.kvc_seq_stats_get(In, handle, stats.raw);
    return stats;
  }

  /// <summary>A new sequence with the tokens below position length.</summary>
  public Sequence Fork(long length, Cut cut = Cut.Exact) => new Sequence(Cache, kvc.kvc_seq_fork(In, handle, length, (int)cut));

  /// <summary>Forgets the tokens at position length and above.</summary>
  public void Truncate(long length, Cut cut = Cut.Exact) => kvc.kvc_seq_truncate(In, handle, length, (int)cut);

  /// <summary>Queries at positions below end use the prompt kernels.</summary>
  public void SetPrompt(long end) => kvc.kvc_seq_prompt_set(In, handle, end);

  /// <summary>Replaces the amount of the cache's policy for this sequence; 0 = the policy's own again.</summary>
  public void SetBudget(long budget) => kvc.kvc_seq_budget_set(In, handle, budget);

  /// <summary>Evicts down to the budget by the cache's policy.</summary>
  public EvictReport Evict(EvictOptions options = null) {
    var report = new EvictReport();
    kvc.kvc_evict(In, handle, null, 0, options?.raw, report.raw);
    return report;
  }

  /// <summary>Evicts down to the budget so that the highest scores stay: [layers acted on, heads acted on, length - first position].</summary>
  public EvictReport Evict(EvictOptions options, ReadOnlySpan<float> scores) {
    var report = new EvictReport();
    fixed (float* from = &GivenList<float>.Of(scores)) {
      kvc.kvc_evict(In, handle, from, scores.Length, options?.raw, report.raw);
    }
    return report;
  }

  /// <summary>Evicts all tokens but those at the positions, sinks and the residual window.</summary>
  public EvictReport EvictKeep(ReadOnlySpan<long> positions, EvictOptions options = null) {
    var report = new EvictReport();
    fixed (long* from = &positions.GetPinnableReference()) {
      kvc.kvc_evict_keep(In, handle, from, positions.Length, options?.raw, report.raw);
    }
    return report;
  }

  /// <summary>Tokens that leave join tokens that stay, as the clusters say.</summary>
  public EvictReport Merge(ReadOnlySpan<int> clusters, MergeOptions options = null) {
    var report = new EvictReport();
    fixed (int* from = &clusters.GetPinnableReference()) {
      kvc.kvc_merge(In, handle, from, clusters.Length, options?.raw, report.raw);
    }
    return report;
  }

  /// <summary>Steps coded pages down the ladder of their codec.</summary>
  public StepDownReport StepDown(StepDownOptions options = null) {
    var report = new StepDownReport();
    kvc.kvc_step_down(In, handle, options?.raw, report.raw);
    return report;
  }

  /// <summary>Tokens kept by one layer and kv head.</summary>
  public long Live(long layer, long head) {
    long value;
    kvc.kvc_seq_live(In, handle, layer, head, &value);
    return value;
  }

  /// <summary>
  /// Positions of the live tokens, ascending; room for all of them is needed, here and in the next three. Returns how many there are: a
  /// commit on another thread may have evicted some since Live was asked.
  /// </summary>
  public long ReadPositions(long layer, long head, Span<long> to) => ReadPerToken(kvc.kvc_seq_positions, layer, head, to);

  /// <summary>Attention mass of each live token, in units of 2^-30.</summary>
  public long ReadMass(long layer, long head, Span<long> to) => ReadPerToken(kvc.kvc_seq_read_mass, layer, head, to);

  /// <summary>Tokens that each live token stands for.</summary>
  public long ReadCounts(long layer, long head, Span<long> to) => ReadPerToken(kvc.kvc_seq_read_counts, layer, head, to);

  /// <summary>The rung of the page of each live token; -1 for those that are not coded.</summary>
  public long ReadRungs(long layer, long head, Span<long> to) => ReadPerToken(kvc.kvc_seq_read_rungs, layer, head, to);

  delegate void PerToken(CacheHandle cache, SequenceHandle sequence, long layer, long head, long* to, long capacity, long* tokens);

  long ReadPerToken(PerToken read, long layer, long head, Span<long> to) {
    long tokens;
    fixed (long* first = &to.GetPinnableReference()) read(In, handle, layer, head, first, to.Length, &tokens);
    return tokens;
  }

  /// <summary>Live tokens first .. first + n of one layer and kv head, as numbers: [n, dim].</summary>
  public void Read(long layer, long head, Part part, long first, long n, Span<float> to) {
    fixed (float* out_ = &to.GetPinnableReference()) {
      kvc.kvc_seq_read(In, handle, layer, head, (int)part, first, n, out_, to.Length * 4L);
    }
  }

  /// <summary>Integer codes of the tokens in compressed pages: [tokens, dim]. Returns their number; an empty span asks for it alone.</summary>
  public long ReadCodes(long layer, long head, Part part, Span<byte> to = default(Span<byte>)) {
    long tokens;
    fixed (byte* out_ = &to.GetPinnableReference()) {
      kvc.kvc_seq_read_codes(In, handle, layer, head, (int)part, out_, to.Length, &tokens);
    }
    return tokens;
  }

  /// <summary>Destroys the sequence now and reports what Dispose would keep to itself: KvcBusyException while it is in a step.</summary>
  public void Destroy() {
    kvc.kvc_seq_destroy(In, handle);
    GC.SuppressFinalize(own);
  }

  /// <summary>Destroys the sequence, at the end of its steps if it is in some.</summary>
  public void Dispose() {
    disposed = true;
    own.Dispose();
  }

  // One of another cache could have the number of one of its own.
  internal void RequireIn(Cache cache, string operation) {
    if (cache != Cache) throw new KvcHandleException(operation, "a sequence belongs to another cache");
  }

  // References that keep kvc from destroying the sequences, all of that cache; Let gives them back.
  internal static SequenceHandle[] Hold(Cache cache, string operation, ReadOnlySpan<Sequence> sequences) {
    var held = new SequenceHandle[sequences.Length];
    int n = 0;
    try {
      for (; n < held.Length; n++) {
        if (sequences[n] == null) throw new ArgumentNullException(nameof(sequences), "one of the sequences is null");
        sequences[n].RequireIn(cache, operation);
        SequenceHandle handle = sequences[n].handle;
        bool added = false;
        handle.DangerousAddRef(ref added);
        held[n] = handle;
      }
    } catch {
      Let(held);
      throw;
    }
    return held;
  }

  internal static void Let(SequenceHandle[] held) {
    foreach (SequenceHandle sequence in held) sequence?.DangerousRelease();
  }
}

}
