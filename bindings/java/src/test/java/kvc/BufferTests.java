package kvc;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;

/** What reaches C is the memory of the buffer itself, from position to limit. */
final class BufferTests {
  private static ByteBuffer inTheMiddle(ByteBuffer rows) {
    ByteBuffer room = Direct.bytes(rows.remaining() + 256);
    return room.position(128).put(rows.duplicate()).position(128).limit(128 + rows.remaining());
  }

  /** The outputs of one token in layer 0, by one way of calling. */
  private interface Call {
    void run(Step step, ByteBuffer k, ByteBuffer v, ByteBuffer q, ByteBuffer out, FloatBuffer lse);
  }

  private static ByteBuffer outputs(Call call, boolean middle) {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 3)) {
      ByteBuffer k = Fixture.keys(0, 0, 3), v = Fixture.values(0, 0, 3), q = Fixture.queries(0, 0, 3), out = Fixture.output(3);
      ByteBuffer seen = Direct.bytes(out.remaining() + 4 * 3 * Fixture.Q_HEADS), room = inTheMiddle(out);
      FloatBuffer lse = seen.slice(out.remaining(), 4 * 3 * Fixture.Q_HEADS).order(ByteOrder.nativeOrder()).asFloatBuffer();
      if (middle) call.run(step, inTheMiddle(k), inTheMiddle(v), inTheMiddle(q), room, lse);
      else call.run(step, k, v, q, out, lse);
      if (middle) {
        Expect.equal(128, room.position());
        Expect.equal(128 + out.remaining(), room.limit());
        room.clear();
        for (int i = 0; i < 128; i++) Expect.equal((byte) 0, room.get(i));
        for (int i = 128 + out.remaining(); i < room.capacity(); i++) Expect.equal((byte) 0, room.get(i));
        out = room.slice(128, out.remaining());
      }
      return seen.put(0, out, 0, out.remaining());
    }
  }

  private static void byBuffers(Step step, ByteBuffer k, ByteBuffer v, ByteBuffer q, ByteBuffer out, FloatBuffer lse) {
    step.append(0, k, v);
    step.attend(0, q, out, lse, null);
  }

  private static void byAddresses(Step step, ByteBuffer k, ByteBuffer v, ByteBuffer q, ByteBuffer out, FloatBuffer lse) {
    ByteBuffer room = Direct.bytes(4L * lse.remaining());
    step.append(0, address(k), k.remaining(), address(v), v.remaining());
    step.attend(0, address(q), q.remaining(), address(out), out.remaining(), address(room), room.remaining(), null);
    lse.put(room.asFloatBuffer());
  }

  private static long address(ByteBuffer buffer) { return kvc.raw.kvc.kvc_address_of(buffer); }

  static void positionAndLimitAreHonoured() { Expect.equal(outputs(BufferTests::byBuffers, false), outputs(BufferTests::byBuffers, true)); }

  static void addressesAndBuffersAreTheSame() { Expect.equal(outputs(BufferTests::byBuffers, false), outputs(BufferTests::byAddresses, false)); }

  static void outputsAreNoZeros() {
    ByteBuffer seen = outputs(BufferTests::byBuffers, false);
    Expect.that(seen.mismatch(Direct.bytes(seen.remaining())) >= 0, "nothing was written");
  }

  static void addressesAreThoseOfTheMemory() {
    ByteBuffer room = Direct.bytes(64);
    Expect.equal(address(room) + 16, address(room.duplicate().position(16)));
    Expect.equal(address(room) + 16, address(room.slice(16, 8)));
  }

  private static final String NATIVE =
      ": a buffer in native byte order is needed: say .order(ByteOrder.nativeOrder()), after slice() and duplicate(), too";

  /** As an argument, and says in which function of kvc.h, which argument and why. */
  static void refused(String operation, String message, Runnable call) {
    KvcException e = Expect.thrown(KvcException.Argument.class, call);
    Expect.equal(message, e.getMessage());
    Expect.equal(operation, e.operation());
  }

  static void whatCannotReachCIsRefused() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      ByteBuffer k = Fixture.keys(0, 0, 1), q = Fixture.queries(0, 0, 1), out = Fixture.output(1);
      ByteBuffer heap = ByteBuffer.allocate(k.remaining());
      FloatBuffer foreign = ByteBuffer.allocateDirect(16).order(ByteOrder.BIG_ENDIAN).asFloatBuffer();
      String needed = ": a direct buffer is needed";
      refused("kvc_append", "k" + needed, () -> step.append(0, heap, k));
      refused("kvc_append", "v" + needed, () -> step.append(0, k, heap));
      Expect.thrown(KvcException.Argument.class, () -> step.append(0, null, k));
      Expect.thrown(KvcException.Argument.class, () -> step.append(0, ordered(k.duplicate()).limit(8), k));
      step.append(0, ordered(k.asReadOnlyBuffer()), k);
      refused("kvc_attend", "q" + needed, () -> step.attend(0, heap, out));
      refused("kvc_attend", "out" + needed, () -> step.attend(0, q, heap));
      refused("kvc_attend", "out: a buffer that can be written is needed", () -> step.attend(0, q, ordered(out.asReadOnlyBuffer())));
      refused("kvc_attend", "lse" + NATIVE, () -> step.attend(0, q, out, foreign, null));
      refused("kvc_attend", "lse" + needed, () -> step.attend(0, q, out, FloatBuffer.allocate(4), null));
      refused("kvc_seq_positions", "out" + needed, () -> sequence.positions(0, 0, java.nio.LongBuffer.allocate(4)));
      refused("kvc_sink_logits_set", "logits" + needed, () -> cache.sinkLogits(0, FloatBuffer.allocate(4)));
      refused("kvc_prefix_lookup", "salt" + needed, () -> cache.lookup(Direct.of(1L), ByteBuffer.allocate(4), null));
      Expect.thrown(KvcException.Argument.class, () -> step.attend(0, q, ordered(out.duplicate()).limit(4)));
      step.attend(0, q, out, Direct.floats(Fixture.Q_HEADS), new AttendOptions().scale(1));
    }
    Expect.thrown(IllegalArgumentException.class, () -> Direct.bytes(1L << 31));
    for (long n : new long[] {1L << 61, 1L << 62, -1, Long.MIN_VALUE}) {
      Expect.thrown(IllegalArgumentException.class, () -> Direct.longs(n));
      Expect.thrown(IllegalArgumentException.class, () -> Direct.floats(n));
    }
  }

  static void aTextThatDoesNotFitIsNamed() {
    for (String text : List.of("x".repeat(128), "é".repeat(64))) {
      KvcException.Argument e = Expect.thrown(KvcException.Argument.class, () -> new CacheOptions().codec(text));
      Expect.equal("kvc_options", e.operation());
      Expect.equal("codec: a text of 128 bytes (at most 127)", e.getMessage());
    }
    Expect.equal("target: a text of 16 bytes (at most 15)",
        Expect.thrown(KvcException.Argument.class, () -> new CacheOptions().target("x".repeat(16))).getMessage());
    Expect.equal("kvc_layer", Expect.thrown(KvcException.Argument.class, () -> new LayerOptions().codec("x".repeat(128))).operation());
  }

  private static ByteBuffer ordered(ByteBuffer buffer) { return buffer.order(ByteOrder.nativeOrder()); }

  /** Every ByteBuffer begins so, and slices and duplicates do again: numbers that were put there would be others in C. */
  static void numbersInForeignOrderAreRefused() {
    ByteOrder order = ByteOrder.nativeOrder() == ByteOrder.BIG_ENDIAN ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN;
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      ByteBuffer k = Fixture.keys(0, 0, 1), q = Fixture.queries(0, 0, 1), out = Fixture.output(1);
      for (ByteBuffer foreign : List.of(k.duplicate().order(order), k.asReadOnlyBuffer().order(order), k.slice().order(order))) {
        refused("kvc_append", "k" + NATIVE, () -> step.append(0, foreign, k));
        refused("kvc_append", "v" + NATIVE, () -> step.append(0, k, foreign));
      }
      step.append(0, k, k);
      refused("kvc_attend", "q" + NATIVE, () -> step.attend(0, q.duplicate().order(order), out));
      refused("kvc_attend", "out" + NATIVE, () -> step.attend(0, q, out.duplicate().order(order)));
      Expect.equal(out, Fixture.output(1));
      step.attend(0, q, out);
    }
  }

  static void bytesHaveNoOrder() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Sequence salted = cache.newSequence()) {
      Fixture.grow(cache, sequence, 3);
      ByteBuffer expected = cache.exportSnapshot(), out = ByteBuffer.allocateDirect(expected.remaining() + 16).position(16);
      Expect.equal((long) expected.remaining(), cache.exportSnapshot(null, out));
      Expect.equal(expected, out);
      Expect.equal(2, cache.importSnapshot(out).size());
      refused("kvc_snapshot_export", "out: a buffer that can be written is needed", () -> cache.exportSnapshot(null, out.asReadOnlyBuffer()));
      refused("kvc_snapshot_export", "out: a direct buffer is needed", () -> cache.exportSnapshot(null, ByteBuffer.allocate(1 << 20)));
      salted.codes(0, 0, Sequence.Part.KEYS, ByteBuffer.allocateDirect(1 << 16));
      sequence.publish(Direct.of(1L, 2L, 3L), ByteBuffer.allocateDirect(4), null);
    }
  }

  static void anArenaOfTheCallersIsUsed() {
    CacheOptions options = Fixture.options();
    long bytes = Kvc.plan(options, new PlanRequest().tokens(256).stepTokens(64)).arenaBytes();
    ByteBuffer room = ByteBuffer.allocateDirect(Math.toIntExact(bytes) + 256).alignedSlice(128);
    ByteBuffer block = room.slice(0, (int) bytes);
    try (Cache cache = new Cache(options.arenaTokens(0).arenaBlock(block)); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 64);
      Expect.equal(64L, sequence.length());
      Expect.that(block.mismatch(ByteBuffer.allocate(block.remaining())) >= 0, "the arena is untouched");
      Expect.equal(bytes, cache.stats().arenaBytes());
    }
    refused("kvc_options", "arena_block: a buffer that can be written is needed", () -> new CacheOptions().arenaBlock(block.asReadOnlyBuffer()));
    refused("kvc_options", "arena_block: a direct buffer is needed", () -> new CacheOptions().arenaBlock(ByteBuffer.allocate(1 << 20)));
    ByteBuffer crooked = room.slice(1, (int) bytes - 128);
    Expect.thrown(KvcException.Argument.class, () -> new Cache(Fixture.options().arenaTokens(0).arenaBlock(crooked)));
    long address = address(room);
    try (Cache cache = new Cache(Fixture.options().arenaTokens(0).arenaBlock(address, bytes)); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 64);
      Expect.equal(64L, sequence.length());
    }
    java.lang.ref.Reference.reachabilityFence(room);
  }

  static void sequencesAndCountsBelongTogether() {
    try (Cache cache = new Cache(Fixture.options()); Sequence a = cache.newSequence(); Sequence b = cache.newSequence()) {
      refused("kvc_step_begin", "token_counts: 1 of them for 2 sequences", () -> cache.begin(List.of(a, b), new long[] {1}, null));
      Expect.thrown(KvcException.Argument.class, () -> cache.begin(List.of(a, a), new long[] {1, 1}, null));
      Expect.thrown(KvcException.Argument.class, () -> cache.begin(List.of(a), new long[] {1}, new long[] {5}, null));
      cache.begin(List.of(a, b), new long[] {1, 0}, new long[] {0, 0}, null).close();
    }
  }
}
