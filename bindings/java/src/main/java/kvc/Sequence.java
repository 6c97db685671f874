package kvc;

import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import kvc.raw.kvc_cut;
import kvc.raw.kvc_evict_report;
import kvc.raw.kvc_part;
import kvc.raw.kvc_seq_stats;
import kvc.raw.kvc_step_down_report;

/** A sequence of one cache: the keys and values of its tokens in all layers. kvc.h says what each call promises. */
public final class Sequence extends Handle {
  /** What truncate and fork may do below the exact floor. */
  public enum Cut {
    EXACT(kvc_cut.KVC_CUT_EXACT),
    INEXACT(kvc_cut.KVC_CUT_INEXACT);

    final kvc_cut raw;

    Cut(kvc_cut raw) { this.raw = raw; }
  }

  /** Which half of a token is read. */
  public enum Part {
    KEYS(kvc_part.KVC_KEYS),
    VALUES(kvc_part.KVC_VALUES);

    final kvc_part raw;

    Part(kvc_part raw) { this.raw = raw; }
  }

  private final Cache cache;
  final State state;
  final long handle;

  Sequence(Cache cache, long handle) { this(cache, new State(cache.state, handle)); }

  private Sequence(Cache cache, State state) {
    super(state);
    this.cache = cache;
    this.state = state;
    handle = state.handle;
  }

  public Cache cache() { return cache; }

  // ---- Length ----

  /** Position of the next token: the first position and the tokens committed. */
  public long length() { return one(out -> kvc_seq_length(cache.handle, handle, out)); }

  public long exactFloor() { return one(out -> kvc_seq_exact_floor(cache.handle, handle, out)); }

  /** The most tokens that a step may add. */
  public long stepLimit() { return one(out -> kvc_seq_step_limit(cache.handle, handle, out)); }

  public Sequence fork(long length) { return fork(length, Cut.EXACT); }

  public Sequence fork(long length, Cut cut) {
    return get(() -> new Sequence(cache, kvc_seq_fork(cache.handle, handle, length, cut.raw.swigValue())));
  }

  public void truncate(long length) { truncate(length, Cut.EXACT); }

  public void truncate(long length, Cut cut) { run(() -> kvc_seq_truncate(cache.handle, handle, length, cut.raw.swigValue())); }

  /** Queries at positions below end use the prompt kernels. */
  public void promptEnd(long end) { run(() -> kvc_seq_prompt_set(cache.handle, handle, end)); }

  /** Replaces the amount of the cache's policy for this sequence; 0 = the policy's own again. */
  public void budget(long budget) { run(() -> kvc_seq_budget_set(cache.handle, handle, budget)); }

  // ---- Evict, merge, precision ----

  /** Evicts down to the budget by the cache's policy; options may be null. */
  public EvictReport evict(EvictOptions options) { return evict(null, options); }

  /** The highest scores stay: [layers acted on, heads acted on, length - first position]. */
  public EvictReport evict(FloatBuffer scores, EvictOptions options) {
    return get(() -> {
      kvc_evict_report out = new kvc_evict_report();
      kvc_evict(cache.handle, handle, scores, options == null ? null : options.raw, out);
      return new EvictReport(out);
    });
  }

  /** Evicts all but these positions, sinks and the residual window. */
  public EvictReport keep(LongBuffer positions, EvictOptions options) {
    return get(() -> {
      kvc_evict_report out = new kvc_evict_report();
      kvc_evict_keep(cache.handle, handle, positions, options == null ? null : options.raw, out);
      return new EvictReport(out);
    });
  }

  /** Tokens join others: clusters [layers acted on, heads acted on, length - first position]. */
  public EvictReport merge(IntBuffer clusters, MergeOptions options) {
    return get(() -> {
      kvc_evict_report out = new kvc_evict_report();
      kvc_merge(cache.handle, handle, clusters, options == null ? null : options.raw, out);
      return new EvictReport(out);
    });
  }

  /** Coded pages go down their ladder; options may be null. */
  public StepDownReport stepDown(StepDownOptions options) {
    return get(() -> {
      kvc_step_down_report out = new kvc_step_down_report();
      kvc_step_down(cache.handle, handle, options == null ? null : options.raw, out);
      return new StepDownReport(out);
    });
  }

  // ---- Prefix ----

  /** Publishes the first tokens of this sequence under their ids; salt and options may be null. */
  public void publish(LongBuffer tokens, ByteBuffer salt, PrefixOptions options) {
    run(() -> kvc_prefix_publish(cache.handle, handle, tokens, salt, options == null ? null : options.raw));
  }

  // ---- Read-back ----

  /** Tokens kept by one layer and kv head. */
  public long live(long layer, long head) { return one(out -> kvc_seq_live(cache.handle, handle, layer, head, out)); }

  /** Their positions, ascending, from out's position on. Gives how many these are, as do the next three: fewer than were live where a commit evicts meanwhile. */
  public long positions(long layer, long head, LongBuffer out) {
    return one(tokens -> kvc_seq_positions(cache.handle, handle, layer, head, out, tokens));
  }

  /** Tokens that each of them stands for. */
  public long counts(long layer, long head, LongBuffer out) {
    return one(tokens -> kvc_seq_read_counts(cache.handle, handle, layer, head, out, tokens));
  }

  /** The rung of the page of each. */
  public long rungs(long layer, long head, LongBuffer out) {
    return one(tokens -> kvc_seq_read_rungs(cache.handle, handle, layer, head, out, tokens));
  }

  /** Attention mass of each, in units of 2^-30. */
  public long mass(long layer, long head, LongBuffer out) {
    return one(tokens -> kvc_seq_read_mass(cache.handle, handle, layer, head, out, tokens));
  }

  /** Keys or values of n live tokens, [n, dim]. */
  public void read(long layer, long head, Part part, long first, long n, FloatBuffer out) {
    run(() -> kvc_seq_read(cache.handle, handle, layer, head, part.raw.swigValue(), first, n, out));
  }

  /** Integer codes of the tokens in compressed pages, [tokens, dim]; gives their number, with out = null only that. */
  public long codes(long layer, long head, Part part, ByteBuffer out) {
    return one(tokens -> kvc_seq_read_codes(cache.handle, handle, layer, head, part.raw.swigValue(), out, tokens));
  }

  public SequenceStats stats() {
    return get(() -> {
      kvc_seq_stats out = new kvc_seq_stats();
      kvc_seq_stats_get(cache.handle, handle, out);
      return new SequenceStats(out);
    });
  }

  /** Destroys it, and throws if it is no live one; close() is what programs want. */
  void destroy() {
    run(() -> kvc_seq_destroy(cache.handle, handle));
    ended();
  }

  private interface OneNumber {
    void into(long[] out);
  }

  private long one(OneNumber call) {
    return number(() -> {
      long[] out = new long[1];
      call.into(out);
      return out[0];
    });
  }

  static final class State extends Handle.State {
    private final Cache.State cache;
    private final long handle;

    State(Cache.State cache, long handle) {
      this.cache = cache;
      this.handle = handle;
    }

    @Override
    String noun() { return "Sequence"; }

    @Override
    void destroy() { kvc_seq_destroy(cache.handle, handle); }

    @Override
    boolean covered() { return handle == 0 || !cache.open.get(); }

    @Override
    void busy() { cache.abandoned.add(this); }
  }
}
