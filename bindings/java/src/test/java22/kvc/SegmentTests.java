package kvc;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;

/** Steps over memory segments, on Java 22 and newer. */
final class SegmentTests {
  private static MemorySegment segment(Arena arena, ByteBuffer rows) {
    return arena.allocate(rows.remaining(), 64).copyFrom(MemorySegment.ofBuffer(rows));
  }

  static void segmentsAndBuffersAreTheSame() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Arena arena = Arena.ofConfined()) {
      ByteBuffer expected = Fixture.grow(cache, sequence, 3);
      MemorySegment out = arena.allocate(expected.remaining()), lse = arena.allocate(4L * 3 * Fixture.Q_HEADS);
      try (Sequence second = cache.newSequence(); Step step = cache.begin(second, 3)) {
        for (int layer = 0; layer < Fixture.LAYERS; layer++) {
          Segments.append(step, layer, segment(arena, Fixture.keys(layer, 0, 3)), segment(arena, Fixture.values(layer, 0, 3)));
          Segments.attend(step, layer, segment(arena, Fixture.queries(layer, 0, 3)), out, lse, new AttendOptions());
        }
        step.commit();
        Expect.equal(3L, second.length());
      }
      Expect.equal(expected, out.asByteBuffer());
      Expect.that(lse.get(java.lang.foreign.ValueLayout.JAVA_FLOAT, 0) != 0, "no log-sum-exp");
    }
  }

  static void whatCannotReachCIsRefused() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      MemorySegment closed, none = MemorySegment.NULL, heap = MemorySegment.ofArray(new byte[Fixture.KV_HEADS * Fixture.DIM * 4]);
      try (Arena arena = Arena.ofConfined()) {
        closed = arena.allocate(heap.byteSize());
        Expect.thrown(KvcException.Argument.class, () -> Segments.append(step, 0, none, none));
        Expect.thrown(KvcException.Argument.class, () -> Segments.append(step, 0, closed.asSlice(0, 8), closed));
        Expect.thrown(IllegalArgumentException.class, () -> Segments.append(step, 0, heap, closed));
        Segments.append(step, 0, closed, closed);
        BufferTests.refused("kvc_attend", "out: a segment that can be written is needed", () -> Segments.attend(step, 0, closed, closed.asReadOnly(), none, null));
      }
      Expect.thrown(IllegalStateException.class, () -> Segments.append(step, 1, closed, closed));
    }
  }

  static void segmentsAllocateNothing() {
    try (Cache cache = new Cache(new CacheOptions().layers(1).kvHeads(1).kDim(16).codec("int4").arenaTokens(128)); Arena arena = Arena.ofConfined();
        Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      MemorySegment q = arena.allocate(64), out = arena.allocate(64);
      Segments.append(step, 0, q, q);
      Expect.equal(0L, HotPathTests.fewestBytes(() -> {
        for (int i = 0; i < 2000; i++) Segments.attend(step, 0, q, out, MemorySegment.NULL, null);
      }));
    }
  }

  static void theDeviceGetsNoSegmentsOfTheHost() {
    try (Cache cache = new Cache(Fixture.options()); Arena arena = Arena.ofConfined()) {
      MemorySegment rows = segment(arena, Fixture.queries(0, 0, 1));
      Step there = new Step(cache, new Sequence[0], new StepOptions().buffers(Device.CUDA), 0);
      String why = "the step's buffers lie on the device: hand over their addresses";
      BufferTests.refused("kvc_append", why, () -> Segments.append(there, 0, rows, rows));
      BufferTests.refused("kvc_attend", why, () -> Segments.attend(there, 0, rows, rows, MemorySegment.NULL, null));
    }
  }

  static void ffmIsTaken() { Expect.equal(System.getProperty("kvc.calls", "ffm"), Kvc.calls()); }
}
