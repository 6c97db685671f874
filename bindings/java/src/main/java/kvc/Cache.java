package kvc;

import static kvc.raw.kvc.*;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import kvc.raw.kvc_prefix_hit;
import kvc.raw.kvc_prefix_stats;
import kvc.raw.kvc_stats;

/** The keys and values of attention layers, kept compressed. kvc.h says what each call promises. */
public final class Cache extends Handle {
  final State state;
  final long handle;

  /** layers: what differs in each layer, or nothing. */
  public Cache(CacheOptions options, LayerOptions... layers) {
    this(create(options, layers));
  }

  private static State create(CacheOptions options, LayerOptions[] layers) {
    long held = kvc_hold(options.block);
    try {
      return new State(Kvc.withLayers(layers, rows -> kvc_create(options.raw, rows, layers.length)), options.block, held);
    } catch (RuntimeException | Error e) {
      kvc_let_go(held);
      throw e;
    }
  }

  Cache(State state) {
    super(state);
    this.state = state;
    handle = state.handle;
  }

  // ---- The cache as a whole ----

  /** Learned sink logits of a layer, one per query head; null takes them away. */
  public void sinkLogits(long layer, FloatBuffer logits) { run(() -> kvc_sink_logits_set(handle, layer, logits)); }

  /** RoPE frequencies of a layer, radians per position, before the first sequence. */
  public void ropeFrequencies(long layer, DoubleBuffer frequencies) { run(() -> kvc_rope_frequencies_set(handle, layer, frequencies)); }

  /** Waits for all that was launched on the device. */
  public void synchronize() { run(() -> kvc_synchronize(handle)); }

  public CacheStats stats() {
    return get(() -> {
      kvc_stats out = new kvc_stats();
      kvc_stats_get(handle, out);
      return new CacheStats(out);
    });
  }

  // ---- Sequences and steps ----

  public Sequence newSequence() { return newSequence(null); }

  /** An empty sequence; options may be null. */
  public Sequence newSequence(SequenceOptions options) {
    return get(() -> new Sequence(this, kvc_seq_create(handle, options == null ? null : options.raw)));
  }

  /** A step that adds tokens to one sequence. */
  public Step begin(Sequence sequence, long tokens) { return begin(List.of(sequence), new long[] {tokens}, null, null); }

  /** A step that adds tokenCounts[i] tokens to each sequence; options may be null. */
  public Step begin(List<Sequence> sequences, long[] tokenCounts, StepOptions options) { return begin(sequences, tokenCounts, null, options); }

  /** The same, if each sequence has the length that positions say. */
  public Step begin(List<Sequence> sequences, long[] tokenCounts, long[] positions, StepOptions options) {
    Sequence[] members = sequences.toArray(new Sequence[0]);
    int n = members.length, m = tokenCounts.length, g = positions == null ? 0 : positions.length;
    LongBuffer room = Direct.scratch(n + m + g), seqs = handles("kvc_step_begin", room.slice(0, n), members);
    LongBuffer counts = room.slice(n, m).put(tokenCounts).flip();
    LongBuffer guard = positions == null ? null : room.slice(n + m, g).put(positions).flip();
    return get(() -> new Step(this, members, options, kvc_step_begin(handle, seqs, counts, guard, options == null ? null : options.raw)));
  }

  /** Of sequences of this cache. One of another cache could have the number of one of ours. */
  private LongBuffer handles(String operation, LongBuffer room, Sequence[] sequences) {
    for (Sequence sequence : sequences) {
      if (sequence.cache() != this) throw new KvcException.Handle(operation, "a sequence belongs to another cache");
      room.put(sequence.handle);
    }
    return room.flip();
  }

  // ---- Prefix index ----

  /** A new sequence with the longest published beginning of a prompt, an empty one if there is none; salt and options may be null. */
  public PrefixHit lookup(LongBuffer tokens, ByteBuffer salt, SequenceOptions options) {
    return get(() -> {
      kvc_prefix_hit out = new kvc_prefix_hit();
      long found = kvc_prefix_lookup(handle, tokens, salt, options == null ? null : options.raw, out);
      return new PrefixHit(new Sequence(this, found), out);
    });
  }

  /** Removes all entries of the salt whose tokens begin with these, and says how many. */
  public long removePrefixes(LongBuffer tokens, ByteBuffer salt) {
    return number(() -> {
      long[] out = new long[1];
      kvc_prefix_remove(handle, tokens, salt, out);
      return out[0];
    });
  }

  public void clearPrefixes() { run(() -> kvc_prefix_clear(handle)); }

  /** The most bytes of records that entries may hold; 0 = no bound but the arena. */
  public void prefixBudget(long bytes) { run(() -> kvc_prefix_budget_set(handle, bytes)); }

  public PrefixStats prefixStats() {
    return get(() -> {
      kvc_prefix_stats out = new kvc_prefix_stats();
      kvc_prefix_stats_get(handle, out);
      return new PrefixStats(out);
    });
  }

  // ---- Snapshots ----

  /** All sequences as bytes, ascending by their handles. */
  public ByteBuffer exportSnapshot() { return export(null); }

  /** These sequences as bytes, in their order. */
  public ByteBuffer exportSnapshot(List<Sequence> sequences) { return export(named("kvc_snapshot_export", sequences)); }

  /** Into a buffer that is there; gives the bytes written. null only asks for the size. sequences = null: all. */
  public long exportSnapshot(List<Sequence> sequences, ByteBuffer out) {
    return export(sequences == null ? null : named("kvc_snapshot_export", sequences), out);
  }

  private ByteBuffer export(Sequence[] members) {
    for (;;) {
      ByteBuffer out = Direct.bytes(export(members, null)); // refuses what is wrong with the call
      try {
        return out.limit(Math.toIntExact(export(members, out)));
      } catch (KvcException.Argument tooSmall) {
        // A commit of another thread has added tokens since.
      }
    }
  }

  private long export(Sequence[] members, ByteBuffer out) {
    LongBuffer seqs = handlesOf("kvc_snapshot_export", members);
    ByteBuffer bytes = out == null ? null : out.duplicate().order(ByteOrder.nativeOrder()); // a snapshot has no order
    try {
      return number(() -> {
        long[] written = new long[1];
        kvc_snapshot_export(handle, seqs, bytes, written);
        return written[0];
      });
    } finally {
      Reference.reachabilityFence(members); // C has their numbers alone
    }
  }

  /** New sequences from a snapshot, in the order of the export. */
  public List<Sequence> importSnapshot(ByteBuffer data) { return importSnapshot(data, checkSnapshot(data)); }

  /** The same in one call, if they are at most so many. */
  public List<Sequence> importSnapshot(ByteBuffer data, long most) { return adopted(most, (out, n) -> kvc_snapshot_import(handle, data, out, n)); }

  /** Checks a snapshot's bytes, and gives its number of sequences. */
  public long checkSnapshot(ByteBuffer data) {
    return number(() -> {
      long[] n = new long[1];
      kvc_snapshot_import(handle, data, null, n);
      return n[0];
    });
  }

  /** All sequences to a file. */
  public void saveSnapshot(Path file) { save(file, null); }

  public void saveSnapshot(Path file, List<Sequence> sequences) { save(file, named("kvc_snapshot_save", sequences)); }

  private void save(Path file, Sequence[] members) {
    String name = file.toFile().getPath(); // refuses a path that is none of this system's
    LongBuffer seqs = handlesOf("kvc_snapshot_save", members);
    try {
      run(() -> kvc_snapshot_save(handle, seqs, name));
    } finally {
      Reference.reachabilityFence(members);
    }
  }

  /** New sequences from a file. */
  public List<Sequence> loadSnapshot(Path file) {
    String name = file.toFile().getPath();
    long count = number(() -> {
      long[] n = new long[1];
      kvc_snapshot_load(handle, name, null, n);
      return n[0];
    });
    return adopted(count, (out, n) -> kvc_snapshot_load(handle, name, out, n));
  }

  private interface Import {
    void into(LongBuffer out, long[] n);
  }

  private List<Sequence> adopted(long count, Import call) {
    return get(() -> {
      LongBuffer out = Direct.longs(count);
      long[] n = new long[1];
      call.into(out, n);
      List<Sequence> made = new ArrayList<>();
      for (int i = 0; i < n[0]; i++) made.add(new Sequence(this, out.get(i)));
      return made;
    });
  }

  /** In C an empty list stands for all sequences, which nobody means who computed one. */
  private static Sequence[] named(String operation, List<Sequence> sequences) {
    Sequence[] members = sequences.toArray(new Sequence[0]);
    if (members.length == 0) throw new KvcException.Argument(operation, "no sequences were named; without a list it is all of them");
    return members;
  }

  private LongBuffer handlesOf(String operation, Sequence[] members) {
    return members == null ? null : handles(operation, Direct.longs(members.length), members);
  }

  // ---- Device memory ----

  /** Memory in, or for, the cache's device. */
  public DeviceBuffer newBuffer(DeviceBuffer.Kind kind, long bytes) {
    return get(() -> new DeviceBuffer(this, kind, bytes, kvc_buffer_create(handle, kind.raw.swigValue(), bytes)));
  }

  /**
   * A graph for steps of counts[i] tokens of so many sequences, each of which then has at most maxTokens. attends: calls of attend in a
   * step, 0 = one for each layer; slots: steps whose tables may be on their way at a time, 0 = 4.
   */
  public Graph newGraph(long[] counts, long maxTokens, long attends, long slots) {
    LongBuffer values = Direct.scratch(counts.length).slice(0, counts.length).put(counts).flip();
    return get(() -> new Graph(this, kvc_graph_create(handle, values, maxTokens, attends, slots)));
  }

  /** Copies between memory of the device and of the host, given as addresses. */
  public void copy(long to, Device toDevice, long from, Device fromDevice, long bytes) {
    run(() -> kvc_buffer_copy(handle, to, toDevice.raw.swigValue(), from, fromDevice.raw.swigValue(), bytes));
  }

  static final class State extends Handle.State {
    final long handle;
    final ByteBuffer block; // the caller's arena: in use until the cache is destroyed
    private final long held; // what keeps its memory from being freed, or 0
    final Set<DeviceBuffer.State> buffers = ConcurrentHashMap.newKeySet();
    /** Sequences and graphs that were dropped together with an open step. */
    final Queue<Handle.State> abandoned = new ConcurrentLinkedQueue<>();

    State(long handle, ByteBuffer block, long held) {
      this.handle = handle;
      this.block = block;
      this.held = held;
    }

    /** A dropped step has ended: what was dropped with it can go. */
    void stepDropped() {
      abandoned.removeIf(dropped -> {
        try {
          dropped.destroy();
        } catch (KvcException.Busy e) {
          return false;
        } catch (KvcException.Handle gone) {
          // The cache went first.
        }
        return true;
      });
    }

    @Override
    String noun() { return "Cache"; }

    @Override
    void destroy() {
      for (DeviceBuffer.State buffer : buffers) if (buffer.open.compareAndSet(true, false)) buffer.destroy();
      try {
        kvc_destroy(handle);
      } catch (KvcException.Handle gone) {
        kvc_let_go(held);
        throw gone;
      }
      kvc_let_go(held);
    }

    @Override
    boolean covered() { return handle == 0; }
  }
}
