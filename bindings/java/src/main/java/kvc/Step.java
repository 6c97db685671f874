package kvc;

import static kvc.raw.kvc.*;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;

/**
 * One forward pass over a batch of sequences: append and attend once per layer, then commit. A step that is closed without a commit is
 * aborted: the cache is as if it had never begun.
 *
 * <p>Buffers are direct ByteBuffers, from position to limit, or addresses and lengths. Of a step whose buffers
 * lie on a device (StepOptions.buffers) they are addresses.
 */
public final class Step extends Handle {
  private static final AddressCalls ADDRESSES = AddressCalls.CALLS; // so that a way of calling that there is not is refused at the first step
  private final Sequence[] sequences; // not collected before the step
  private final Graph graph;          // likewise; null: none
  private final boolean onDevice;     // its buffers lie there
  final long handle;

  /** options: those that it was begun with, or null. */
  Step(Cache cache, Sequence[] sequences, StepOptions options, long handle) {
    super(new State(cache, handle));
    this.sequences = sequences;
    graph = options == null ? null : options.named;
    onDevice = options != null && options.raw.getBuffers() > Device.CPU.raw.swigValue();
    this.handle = handle;
  }

  /** A buffer is memory of the host, which C would take for an address of the device. */
  void requireHost(String operation) {
    if (onDevice) throw new KvcException.Argument(operation, "the step's buffers lie on the device: hand over their addresses");
  }

  /** Stores the keys and values of one layer: k [tokens, kvHeads, kDim], v [tokens, kvHeads, vDim]. */
  public void append(long layer, ByteBuffer k, ByteBuffer v) {
    requireHost("kvc_append");
    try {
      kvc_append(handle, layer, k, v);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** The same from addresses. */
  public void append(long layer, long k, long kBytes, long v, long vBytes) {
    try {
      ADDRESSES.append(handle, layer, k, kBytes, v, vBytes);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** Attention of the step's tokens: q [tokens, qHeads, kDim], out [tokens, qHeads, vDim]. */
  public void attend(long layer, ByteBuffer q, ByteBuffer out) { attend(layer, q, out, null, null); }

  /** The same; lse, f32 [tokens, qHeads], takes the log-sum-exps. lse and options may be null. */
  public void attend(long layer, ByteBuffer q, ByteBuffer out, FloatBuffer lse, AttendOptions options) {
    requireHost("kvc_attend");
    try {
      kvc_attend(handle, layer, q, out, lse, options == null ? null : options.raw);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** The same with addresses; lse = 0, lseBytes = 0: none. */
  public void attend(long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes, AttendOptions options) {
    try {
      ADDRESSES.attend(handle, layer, q, qBytes, out, outBytes, lse, lseBytes, options == null ? null : options.raw);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** Publishes all tokens and ends the step; on failure it stays open. */
  public void commit() { commit((LongBuffer) null); }

  /** Publishes the first accepted[i] tokens of each sequence, of a step with partialCommit. */
  public void commit(long... accepted) { commit(Direct.scratch(accepted.length).slice(0, accepted.length).put(accepted).flip()); }

  private void commit(LongBuffer accepted) {
    try {
      kvc_step_commit(handle, accepted);
    } finally {
      Reference.reachabilityFence(this);
    }
    ended();
  }

  /** Ends the step as if it had never begun, and throws if it is no open one; close() does not. */
  public void abort() {
    run(() -> kvc_step_abort(handle));
    ended();
  }

  /** The graph that it is captured in or replays, or null. */
  public Graph graph() { return graph; }

  /** The sequences that it was begun with. */
  public Sequence[] sequences() { return sequences.clone(); }

  private static final class State extends Handle.State {
    private final Cache.State cache;
    private final long handle;

    State(Cache cache, long handle) {
      this.cache = cache.state;
      this.handle = handle;
    }

    @Override
    String noun() { return "Step"; }

    @Override
    void destroy() { kvc_step_abort(handle); }

    @Override
    boolean covered() { return handle == 0 || !cache.open.get(); }

    @Override
    public void run() {
      boolean dropped = open.get();
      super.run();
      if (dropped) cache.stepDropped();
    }
  }
}
