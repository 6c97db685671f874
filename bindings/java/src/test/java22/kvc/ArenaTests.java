package kvc;

import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.List;
import java.util.function.Consumer;

/** Buffers over memory that an Arena frees when it is told to: a call holds the Arena, and refuses one that is closed or another thread's. */
final class ArenaTests {
  private static final String CLOSED = ": its Arena is closed", FOREIGN = ": its Arena belongs to another thread";

  private static ByteBuffer bytes(Arena arena, ByteBuffer rows) {
    return arena.allocate(Math.max(rows.remaining(), 8), 128).asByteBuffer().order(ByteOrder.nativeOrder()).put(rows.duplicate()).flip();
  }

  private static ByteBuffer room(Arena arena, long n) { return arena.allocate(n, 128).asByteBuffer().order(ByteOrder.nativeOrder()); }

  /** Every call that takes a buffer of the caller's names the one that it refuses, and nothing happens. */
  private static void everyCall(String why, ByteBuffer bad) {
    LongBuffer longs = bad.asLongBuffer();
    FloatBuffer floats = bad.asFloatBuffer();
    IntBuffer ints = bad.asIntBuffer();
    LongBuffer ids = Direct.of(1L, 2L, 3L);
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Sequence grown = cache.newSequence();
        Step step = cache.begin(sequence, 1)) {
      ByteBuffer k = Fixture.keys(0, 0, 1), q = Fixture.queries(0, 0, 1), out = Fixture.output(1);
      Fixture.grow(cache, grown, 3);
      BufferTests.refused("kvc_append", "k" + why, () -> step.append(0, bad, k));
      BufferTests.refused("kvc_append", "v" + why, () -> step.append(0, k, bad));
      step.append(0, k, k);
      BufferTests.refused("kvc_attend", "q" + why, () -> step.attend(0, bad, out));
      BufferTests.refused("kvc_attend", "out" + why, () -> step.attend(0, q, bad));
      BufferTests.refused("kvc_attend", "lse" + why, () -> step.attend(0, q, out, floats, null));
      Expect.equal(out, Fixture.output(1));
      BufferTests.refused("kvc_sink_logits_set", "logits" + why, () -> cache.sinkLogits(0, floats));
      BufferTests.refused("kvc_rope_frequencies_set", "frequencies" + why, () -> cache.ropeFrequencies(0, bad.asDoubleBuffer()));
      BufferTests.refused("kvc_prefix_lookup", "tokens" + why, () -> cache.lookup(longs, null, null));
      BufferTests.refused("kvc_prefix_lookup", "salt" + why, () -> cache.lookup(ids, bad, null));
      BufferTests.refused("kvc_prefix_remove", "tokens" + why, () -> cache.removePrefixes(longs, null));
      BufferTests.refused("kvc_prefix_publish", "tokens" + why, () -> grown.publish(longs, null, null));
      BufferTests.refused("kvc_prefix_publish", "salt" + why, () -> grown.publish(ids, bad, null));
      BufferTests.refused("kvc_snapshot_export", "out" + why, () -> cache.exportSnapshot(List.of(grown), bad));
      BufferTests.refused("kvc_snapshot_import", "data" + why, () -> cache.importSnapshot(bad, 1));
      BufferTests.refused("kvc_snapshot_import", "data" + why, () -> cache.checkSnapshot(bad));
      BufferTests.refused("kvc_evict", "scores" + why, () -> grown.evict(floats, null));
      BufferTests.refused("kvc_evict_keep", "positions" + why, () -> grown.keep(longs, null));
      BufferTests.refused("kvc_merge", "clusters" + why, () -> grown.merge(ints, null));
      BufferTests.refused("kvc_seq_positions", "out" + why, () -> grown.positions(0, 0, longs));
      BufferTests.refused("kvc_seq_read", "out" + why, () -> grown.read(0, 0, Sequence.Part.KEYS, 0, 1, floats));
      BufferTests.refused("kvc_seq_read_codes", "out" + why, () -> grown.codes(0, 0, Sequence.Part.KEYS, bad));
      BufferTests.refused("kvc_options", "arena_block" + why, () -> new CacheOptions().arenaBlock(bad));
      Expect.equal(3L, grown.length());
    }
  }

  static void memoryOfAClosedArenaIsRefused() {
    for (Arena arena : List.of(Arena.ofShared(), Arena.ofConfined())) {
      ByteBuffer bad = room(arena, 1 << 16);
      arena.close();
      everyCall(CLOSED, bad);
    }
  }

  static void memoryOfAnotherThreadIsRefused() throws InterruptedException {
    ByteBuffer[] bad = new ByteBuffer[1];
    Thread owner = new Thread(() -> bad[0] = room(Arena.ofConfined(), 1 << 16));
    owner.start();
    owner.join();
    everyCall(FOREIGN, bad[0]);
  }

  /** Refused or not, no call keeps an Arena open that is not its own. */
  static void whatIsHeldIsLetGo() {
    for (Arena arena : List.of(Arena.ofShared(), Arena.ofConfined())) {
      Arena closed = Arena.ofShared();
      ByteBuffer bad = room(closed, 1 << 12);
      closed.close();
      try (arena; Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
        ByteBuffer k = bytes(arena, Fixture.keys(0, 0, 1)), q = bytes(arena, Fixture.queries(0, 0, 1)), out = bytes(arena, Fixture.output(1));
        FloatBuffer lse = room(arena, 4L * Fixture.Q_HEADS).asFloatBuffer();
        BufferTests.refused("kvc_append", "v" + CLOSED, () -> step.append(0, k, bad));
        Expect.thrown(KvcException.Argument.class, () -> step.append(9, k, k));
        Expect.thrown(KvcException.class, () -> cache.lookup(room(arena, 8).asLongBuffer(), bad, null));
        Expect.thrown(KvcException.class, () -> sequence.positions(7, 7, room(arena, 8).asLongBuffer()));
        step.append(0, k, k);
        step.attend(0, q, out, lse, null);
        Expect.that(out.mismatch(Fixture.output(1)) >= 0, "nothing was written");
      }
    }
  }

  private static CacheOptions over(ByteBuffer block) { return Fixture.options().arenaTokens(0).arenaBlock(block); }

  /** The block of a cache stays: its Arena cannot be closed before the cache. */
  @SuppressWarnings("try")
  static void aCacheHoldsTheArenaOfItsBlock() {
    long bytes = Kvc.plan(Fixture.options(), new PlanRequest().tokens(256).stepTokens(64)).arenaBytes();
    for (Arena arena : List.of(Arena.ofShared(), Arena.ofConfined())) {
      CacheOptions options = over(room(arena, bytes));
      Expect.thrown(KvcException.Argument.class, () -> new Cache(options.kDim(-1)));
      try (Cache cache = new Cache(options.kDim(Fixture.DIM)); Cache second = new Cache(over(room(arena, bytes))); Sequence sequence = cache.newSequence()) {
        Expect.thrown(IllegalStateException.class, arena::close);
        second.close();
        Expect.thrown(IllegalStateException.class, arena::close);
        Fixture.grow(cache, sequence, 64);
        Expect.equal(64L, sequence.length());
      }
      arena.close();
      BufferTests.refused("kvc_options", "arena_block" + CLOSED, () -> new Cache(options));
    }
  }

  /** A shared Arena that others close at any time: each call is made whole, or refused. */
  static void closingRacesWithCalls() throws InterruptedException {
    Consumer<Arena> close = arena -> {
      for (boolean open = true; open;) {
        try {
          arena.close();
          open = false;
        } catch (IllegalStateException inUse) {
          Thread.onSpinWait();
        }
      }
    };
    int made = 0, refused = 0;
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      ByteBuffer k = Fixture.keys(0, 0, 1);
      step.append(0, k, k);
      for (int round = 0; round < 20; round++) {
        Arena arena = Arena.ofShared();
        ByteBuffer q = bytes(arena, Fixture.queries(0, 0, 1)), out = bytes(arena, Fixture.output(1));
        Thread closer = new Thread(() -> close.accept(arena));
        closer.start();
        try {
          for (;; made++) {
            step.attend(0, q, out);
            if (made % 8 == 0) Thread.sleep(0, 1000); // or it is hardly ever free to close
          }
        } catch (KvcException.Argument e) {
          Expect.that(e.getMessage().endsWith(CLOSED), e.getMessage());
          refused++;
        }
        closer.join();
      }
    }
    Expect.equal(20, refused);
    Expect.that(made > 0, "no call was made");
  }
}
