package kvc;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;

/** Over the bridge with witness.c inside: what C was given, and that what a call uses outlives it. */
final class WitnessTests {
  private static final int K = 0, V = 1, Q = 2, OUT = 3, LSE = 4, EXPORTED = 5, IMPORTED = 6, READ = 7, SCORES = 8;

  /** The address that C got last, by the order in witness.c. */
  private static native long seen(int which);

  /** Where a direct buffer's memory begins, as the JVM says. */
  private static native long memory(Object buffer);

  /** Calls over sequences and steps wait so long before they begin. */
  private static native void pause(int milliseconds);

  private static long address(ByteBuffer buffer) { return memory(buffer) + buffer.position(); }

  private static FloatBuffer floats(int n) {
    return Direct.bytes(4L * n + 64).position(64).slice().order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  private static ByteBuffer inTheMiddle(ByteBuffer rows) {
    return Direct.bytes(rows.remaining() + 256).position(128).put(rows.duplicate()).position(128).limit(128 + rows.remaining());
  }

  static void nothingIsCopied() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      ByteBuffer k = inTheMiddle(Fixture.keys(0, 0, 3)), v = inTheMiddle(Fixture.values(0, 0, 3));
      ByteBuffer q = inTheMiddle(Fixture.queries(0, 0, 3)), out = inTheMiddle(Fixture.output(3));
      FloatBuffer lse = floats(3 * Fixture.Q_HEADS);
      try (Step step = cache.begin(sequence, 3)) {
        step.append(0, k, v);
        step.attend(0, q, out, lse, null);
        step.append(1, k, v);
        step.commit();
      }
      for (var given : List.of(List.of(K, k), List.of(V, v), List.of(Q, q), List.of(OUT, out)))
        Expect.equal(address((ByteBuffer) given.get(1)), seen((Integer) given.get(0)));
      Expect.equal(memory(lse), seen(LSE));
      FloatBuffer read = floats(3 * Fixture.DIM);
      sequence.read(0, 0, Sequence.Part.KEYS, 0, 3, read);
      Expect.equal(memory(read), seen(READ));
      ByteBuffer snapshot = inTheMiddle(Direct.bytes(cache.exportSnapshot(null, null)));
      cache.exportSnapshot(null, snapshot);
      Expect.equal(address(snapshot), seen(EXPORTED));
      cache.importSnapshot(snapshot);
      Expect.equal(address(snapshot), seen(IMPORTED));
      FloatBuffer scores = floats(Fixture.LAYERS * Fixture.KV_HEADS * 3);
      sequence.evict(scores, new EvictOptions().budget(3));
      Expect.equal(memory(scores), seen(SCORES));
    }
  }

  interface Call {
    void run() throws IOException;
  }

  /**
   * With the collector at work, and time for it after the last line of Java and before the first of C. Before that the call is made until it
   * is compiled for good: the interpreter holds what it does not use any more.
   */
  static void underCollections(Call call) throws IOException, InterruptedException {
    for (int i = 0; i < 300; i++) call.run();
    AtomicBoolean ended = new AtomicBoolean();
    Thread collector = new Thread(() -> {
      while (!ended.get()) System.gc();
    });
    collector.start();
    pause(200);
    try {
      call.run();
    } finally {
      pause(0);
      ended.set(true);
      collector.join();
    }
  }

  /** The lists and their sequences are held by the call alone. */
  static void sequencesOutliveTheCallThatNamesThem() throws IOException, InterruptedException {
    Path file = Files.createTempFile("kvc-", ".snapshot");
    try (Cache cache = new Cache(Fixture.options())) {
      ByteBuffer room = Direct.bytes(1 << 20);
      underCollections(() -> cache.exportSnapshot(List.of(cache.newSequence(), cache.newSequence()), room));
      underCollections(() -> Expect.equal(2L, cache.checkSnapshot(cache.exportSnapshot(List.of(cache.newSequence(), cache.newSequence())))));
      underCollections(() -> cache.saveSnapshot(file, List.of(cache.newSequence(), cache.newSequence())));
      underCollections(() -> cache.begin(List.of(cache.newSequence(), cache.newSequence()), new long[] {1, 1}, null).close());
      underCollections(() -> cache.newSequence().evict(floats(0), new EvictOptions().budget(1)));
    } finally {
      Files.delete(file);
    }
  }

  /** The step is held by its last call alone, and would be aborted under it. */
  static void stepsOutliveTheirCalls() throws IOException, InterruptedException {
    ByteBuffer k = Fixture.keys(0, 0, 1), v = Fixture.values(0, 0, 1), q = Fixture.queries(0, 0, 1), out = Fixture.output(1);
    long at = kvc.raw.kvc.kvc_address_of(k), from = kvc.raw.kvc.kvc_address_of(q), to = kvc.raw.kvc.kvc_address_of(out);
    int bytes = k.remaining(), rows = q.remaining();
    try (Cache cache = new Cache(Fixture.options().layers(1).arenaGrowth(true))) {
      underCollections(() -> begun(cache).append(0, k, v));
      underCollections(() -> begun(cache).append(0, at, bytes, at, bytes));
      underCollections(() -> appended(cache, k).attend(0, q, out));
      underCollections(() -> appended(cache, k).attend(0, from, rows, to, rows, 0, 0, null));
      underCollections(() -> appended(cache, k).commit());
    }
    java.lang.ref.Reference.reachabilityFence(List.of(k, q, out));
  }

  static Step begun(Cache cache) { return cache.begin(cache.newSequence(), 1); }

  static Step appended(Cache cache, ByteBuffer rows) {
    Step step = begun(cache);
    step.append(0, rows, rows);
    return step;
  }
}
