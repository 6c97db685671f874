using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>
/// A cache. Dispose, or the collector, destroys it with its sequences and open steps, once calls that still run have returned and
/// its device buffers are gone. Any method of any object may be called from any thread.
/// </summary>
public sealed unsafe partial class Cache : IDisposable {
  readonly CacheHandle own;
  bool disposed;   // a handle that a buffer still holds would not say so
  volatile bool ended;

  /// <summary>Creates a cache; with layers, one for each.</summary>
  public Cache(CacheOptions options, params LayerOptions[] layers) {
    using (var row = new LayerRow(layers)) own = kvc.kvc_create(LayerRow.Given(options), row.First, row.Count);
    Prefixes = new PrefixIndex(this);
  }

  internal Cache(CacheHandle handle) {
    own = handle;
    Prefixes = new PrefixIndex(this);
  }

  internal CacheHandle handle => disposed ? throw new ObjectDisposedException(nameof(Cache)) : own;

  /// <summary>Destroy has ended it, and with it the memory of its buffers, which Dispose waits for.</summary>
  internal bool Ended => ended;

  /// <summary>What was computed for one prompt, for the next that begins alike.</summary>
  public PrefixIndex Prefixes { get; }

  /// <summary>An empty sequence.</summary>
  public Sequence CreateSequence(SequenceOptions options = null) => new Sequence(this, kvc.kvc_seq_create(handle, options?.raw));

  /// <summary>Begins a step that adds tokenCounts[i] tokens to each of the sequences.</summary>
  public Step Begin(ReadOnlySpan<Sequence> sequences, ReadOnlySpan<long> tokenCounts, StepOptions options = null) =>
      Begin(sequences, tokenCounts, options, null, 0);

  /// <summary>The same with a guard against lost updates: the positions must be the lengths of the sequences.</summary>
  public Step Begin(ReadOnlySpan<Sequence> sequences, ReadOnlySpan<long> tokenCounts, StepOptions options,
                    ReadOnlySpan<long> positions) {
    fixed (long* at = &GivenList<long>.Of(positions)) return Begin(sequences, tokenCounts, options, at, positions.Length);
  }

  Step Begin(ReadOnlySpan<Sequence> sequences, ReadOnlySpan<long> tokenCounts, StepOptions options, long* positions, long n) {
    if (sequences.Length != tokenCounts.Length)
      throw new KvcArgumentException("kvc_step_begin", "tokenCounts: " + tokenCounts.Length + " of them for " + sequences.Length + " sequences");
    SequenceHandle[] held = Sequence.Hold(this, "kvc_step_begin", sequences);
    GraphHandle graph = options?.Graph?.handle;
    bool graphHeld = false;
    try {
      long* values = stackalloc long[Math.Min(held.Length, 128)];
      fixed (long* many = held.Length > 128 ? new long[held.Length] : null, counts = &tokenCounts.GetPinnableReference()) {
        long* seqs = many != null ? many : values;
        for (int i = 0; i < held.Length; i++) seqs[i] = held[i].Value;
        if (graph != null) graph.DangerousAddRef(ref graphHeld);
        StepHandle begun = kvc.kvc_step_begin(handle, seqs, counts, held.Length, positions, n, options?.raw);
        begun.Hold(held, graph);
        held = null;
        graphHeld = false;
        return new Step(begun, options);
      }
    } finally {
      if (held != null) Sequence.Let(held);
      if (graphHeld) graph.DangerousRelease();
    }
  }

  /// <summary>A step of one sequence.</summary>
  public Step Begin(Sequence sequence, long tokens, StepOptions options = null) {
    Sequence[] one = {sequence};
    return Begin(one, new ReadOnlySpan<long>(&tokens, 1), options);
  }

  /// <summary>Learned sink logits of a layer, one per query head; none take them away.</summary>
  public void SetSinkLogits(long layer, ReadOnlySpan<float> logits) {
    fixed (float* from = &logits.GetPinnableReference()) kvc.kvc_sink_logits_set(handle, layer, from, logits.Length);
  }

  /// <summary>The caller's own RoPE frequencies of a layer, in radians per position.</summary>
  public void SetRopeFrequencies(long layer, ReadOnlySpan<double> frequencies) {
    fixed (double* from = &frequencies.GetPinnableReference()) {
      kvc.kvc_rope_frequencies_set(handle, layer, from, frequencies.Length);
    }
  }

  /// <summary>Bytes and counters of the cache now.</summary>
  public CacheStats Stats() {
    var stats = new CacheStats();
    kvc.kvc_stats_get(handle, stats.raw);
    return stats;
  }

  /// <summary>Waits for all that was launched on the device; on the host it does nothing.</summary>
  public void Synchronize() => kvc.kvc_synchronize(handle);

  /// <summary>Memory in, or for, the cache's device.</summary>
  public DeviceBuffer CreateBuffer(BufferKind kind, long bytes) => new DeviceBuffer(this, kind, bytes);

  /// <summary>
  /// A graph for steps of counts[i] tokens of so many sequences, each of which then has at most maxTokens. attends: calls of Attend in
  /// a step, 0 = one for each layer; slots: steps whose tables may be on their way at a time, 0 = 4.
  /// </summary>
  public Graph CreateGraph(ReadOnlySpan<long> counts, long maxTokens, long attends = 0, long slots = 0) =>
      new Graph(this, counts, maxTokens, attends, slots);

  /// <summary>Copies between any two of device memory and host memory, behind all that was launched before.</summary>
  public void Copy(IntPtr to, Device toDevice, IntPtr from, Device fromDevice, long bytes) =>
      kvc.kvc_buffer_copy(handle, to, (int)toDevice, from, (int)fromDevice, bytes);

  /// <summary>Destroys the cache now and reports what Dispose would keep to itself. KvcHandleException if it is gone already.</summary>
  public void Destroy() {
    kvc.kvc_destroy(handle);
    ended = true;
  }

  /// <summary>Destroys the cache if it is still there.</summary>
  public void Dispose() {
    disposed = true;
    own.Dispose();
  }
}

}
