package kvc;

import static kvc.raw.kvc.kvc_address_of;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The steps of a script: begin, append, attend, commit, abort. */
final class ReplaySteps {
  /** A step as it was begun; one that never was has no handle and no tokens. */
  private record Open(Step step, long[] counts, long[] first, long[] data, StepOptions.Dtype kv, StepOptions.Dtype q, StepOptions.Dtype out,
      long padding) {
    long tokens() { return Arrays.stream(counts).sum(); }
  }

  private static final boolean BY_ADDRESS = Kvc.calls().equals("ffm"); // which FFM takes: buffers go through JNI

  private final Replay replay;
  private final Map<String, Open> steps = new HashMap<>();
  private final ByteBuffer[] rooms = new ByteBuffer[4]; // for k, v, q and out, grown as needed

  ReplaySteps(Replay replay) { this.replay = replay; }

  static void addVerbs(Map<String, Replay.Verb> verbs) {
    verbs.put("begin", (r, line) -> r.steps.begin(line));
    verbs.put("append", (r, line) -> r.steps.append(line));
    verbs.put("attend", (r, line) -> r.steps.attend(line));
    verbs.put("commit", (r, line) -> r.steps.commit(line));
    verbs.put("abort", (r, line) -> r.steps.step(line).step.abort());
  }

  private Open step(ScriptLine line) {
    Open open = steps.get(line.name(0));
    if (open != null) return open;
    StepOptions.Dtype f32 = StepOptions.Dtype.F32;
    return new Open(new Step(replay.cache, new Sequence[0], null, 0), new long[0], new long[0], new long[0], f32, f32, f32, 0);
  }

  private void begin(ScriptLine line) {
    int n = line.counts.size();
    List<Sequence> sequences = new ArrayList<>();
    long[] counts = new long[n], first = new long[n], data = new long[n], positions = new long[n];
    for (int i = 0; i < n; i++) {
      Sequence sequence = replay.sequence(line.counts.get(i).name());
      sequences.add(sequence);
      counts[i] = line.counts.get(i).count();
      try {
        first[i] = sequence.length();
      } catch (KvcException.Handle stale) {
        first[i] = 0;
      }
      data[i] = replay.data(sequence);
      positions[i] = first[i] + line.number("position_error");
    }
    StepOptions.Dtype kv = ScriptNumbers.dtype(line.word("kv", "f32")), q = ScriptNumbers.dtype(line.word("q", "f32"));
    StepOptions.Dtype out = ScriptNumbers.dtype(line.word("out", "f32"));
    long padding = line.number("padding");
    StepOptions options = new StepOptions().kvDtype(kv).qDtype(q).outDtype(out).partialCommit(line.flag("partial_commit"))
        .strict(line.flag("strict")).accumulate(line.flag("accumulate"));
    if (padding > 0) {
      ScriptShapes.Shape shape = replay.shapes.of(line);
      options.kTokenStride(shape.kvHeads() * shape.kDim() + padding).vTokenStride(shape.kvHeads() * shape.vDim() + padding)
          .qTokenStride(shape.qHeads() * shape.kDim() + padding).outTokenStride(shape.qHeads() * shape.vDim() + padding);
    }
    boolean guarded = line.flag("guard") || line.has("position_error");
    Step step = replay.cache.begin(sequences, counts, guarded ? positions : null, options);
    steps.put(line.name(0), new Open(step, counts, first, data, kv, q, out, padding));
  }

  private ByteBuffer room(int slot, long bytes) {
    if (rooms[slot] == null || rooms[slot].capacity() < bytes) rooms[slot] = Direct.bytes(bytes);
    return rooms[slot].clear().limit(Math.toIntExact(bytes));
  }

  /** Rows as a line wants them, padding included. */
  private ByteBuffer input(ScriptLine line, Open open, int part, StepOptions.Dtype type, long heads, long dim) {
    String kind = line.word("kind", "normal");
    int element = ScriptNumbers.elementBytes(type);
    ByteBuffer rows = room(part - 1, open.tokens() * (heads * dim + open.padding) * element);
    int last = -1;
    for (int i = 0; i < open.counts.length; i++) {
      for (long t = 0; t < open.counts[i]; t++) {
        long position = kind.equals("constant") ? 0 : open.first[i] + t;
        long row = ScriptNumbers.row(line.number("seed"), open.data[i], line.number("layer"), part, position);
        ScriptNumbers.putRow(rows, type, kind, row, heads, dim);
        last = rows.position() - element;
        for (long p = 0; p < open.padding * element; p++) rows.put((byte) 0xff);
      }
    }
    rows.flip();
    if (last >= 0 && kind.equals("nan")) ScriptNumbers.put(rows.duplicate().order(rows.order()).position(last), type, Float.NaN);
    if (last >= 0 && kind.equals("inf")) ScriptNumbers.put(rows.duplicate().order(rows.order()).position(last), type, Float.POSITIVE_INFINITY);
    return rows;
  }

  private void append(ScriptLine line) {
    Open open = step(line);
    ScriptShapes.Shape shape = replay.shapes.of(line);
    ByteBuffer k = input(line, open, ScriptNumbers.KEYS, open.kv, shape.kvHeads(), shape.kDim());
    ByteBuffer v = input(line, open, ScriptNumbers.VALUES, open.kv, shape.kvHeads(), shape.vDim());
    if (!BY_ADDRESS) {
      open.step.append(line.number("layer"), k, v);
      return;
    }
    open.step.append(line.number("layer"), kvc_address_of(k), k.remaining(), kvc_address_of(v), v.remaining());
    Reference.reachabilityFence(k);
    Reference.reachabilityFence(v);
  }

  private void attend(ScriptLine line) {
    Open open = step(line);
    ScriptShapes.Shape shape = replay.shapes.of(line);
    ByteBuffer q = input(line, open, ScriptNumbers.QUERIES, open.q, shape.qHeads(), shape.kDim());
    int element = ScriptNumbers.elementBytes(open.out);
    int row = Math.toIntExact(shape.qHeads() * shape.vDim() * element), padding = Math.toIntExact(open.padding * element);
    ByteBuffer out = room(3, open.tokens() * (row + padding));
    for (int i = 0; i < out.limit(); i++) out.put(i, (byte) 0xff);
    ByteBuffer lse = line.number("lse", 1) != 0 ? Direct.bytes(4 * open.tokens() * shape.qHeads()) : null;
    AttendOptions options = new AttendOptions().scale((float) line.real("scale")).softCap((float) line.real("soft_cap"))
        .partial(line.flag("partial")).slidingWindow(line.number("sliding_window")).causalOffset(line.number("causal_offset"));
    try {
      if (!BY_ADDRESS) open.step.attend(line.number("layer"), q, out, lse == null ? null : lse.asFloatBuffer(), options);
      else open.step.attend(line.number("layer"), kvc_address_of(q), q.remaining(), kvc_address_of(out), out.remaining(),
          lse == null ? 0 : kvc_address_of(lse), lse == null ? 0 : lse.remaining(), options);
    } finally {
      for (int t = 0; t < open.tokens(); t++) unpadded(out, t, row, padding);
      Reference.reachabilityFence(q);
    }
    if (lse != null) replay.seen.add(lse);
  }

  /** One row of out for the digest, once its padding was found as it was. */
  private void unpadded(ByteBuffer out, int token, int row, int padding) {
    int begin = token * (row + padding);
    for (int i = begin + row; i < begin + row + padding; i++)
      if (out.get(i) != (byte) 0xff) throw new ScriptLine.Nonsense("attend wrote between the rows of out");
    replay.seen.add(out.slice(begin, row));
  }

  private void commit(ScriptLine line) {
    Step step = step(line).step;
    long[] accepted = line.counts.stream().mapToLong(ScriptLine.Count::count).toArray();
    if (accepted.length == 0) step.commit(); else step.commit(accepted);
  }
}
