package kvc;

import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;

/** Append and attend allocate nothing on the heap. */
final class HotPathTests {
  private static final com.sun.management.ThreadMXBean THREADS = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
  private static final int CALLS = 2000;

  /**
   * The fewest bytes that a thousand runs allocate. The interpreter allocates where compiled FFM does not, so it is given time; a call that
   * allocates once compiled is never 0.
   */
  static long fewestBytes(Runnable calls) {
    long thread = Thread.currentThread().getId(), fewest = Long.MAX_VALUE;
    for (int round = 0; round < 200 && fewest > 0; round++) {
      long before = THREADS.getThreadAllocatedBytes(thread);
      calls.run();
      fewest = Math.min(fewest, THREADS.getThreadAllocatedBytes(thread) - before);
    }
    return fewest;
  }

  private static void withStep(java.util.function.Consumer<Step> test) {
    try (Cache cache = new Cache(new CacheOptions().layers(1).kvHeads(1).kDim(16).codec("int4").arenaTokens(128));
        Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      test.accept(step);
    }
  }

  static void theMeasureSeesAllocations() {
    Object[] kept = new Object[1];
    Expect.that(fewestBytes(() -> kept[0] = new byte[100]) >= 100, "an array of 100 bytes was not seen");
  }

  /** An append can be made once a layer, so the others are refused: that costs an exception, and is measured apart. */
  static void appendAllocatesNothing() {
    int layers = 1000;
    long[] bytes = {Long.MAX_VALUE};
    ByteBuffer k = Direct.bytes(16 * 4), v = Direct.bytes(16 * 4);
    try (Cache cache = new Cache(new CacheOptions().layers(layers).kvHeads(1).kDim(16).codec("int4").arenaTokens(128));
        Sequence sequence = cache.newSequence()) {
      for (int round = 0; round < 60 && bytes[0] > 0; round++) {
        try (Step step = cache.begin(sequence, 1)) {
          long thread = Thread.currentThread().getId(), before = THREADS.getThreadAllocatedBytes(thread);
          for (int layer = 0; layer < layers; layer++) step.append(layer, k, v);
          bytes[0] = Math.min(bytes[0], THREADS.getThreadAllocatedBytes(thread) - before);
        }
      }
    }
    Expect.equal(0L, bytes[0]);
  }

  static void attendAllocatesNothing() {
    withStep(step -> {
      ByteBuffer k = Direct.bytes(16 * 4), q = Direct.bytes(16 * 4), out = Direct.bytes(16 * 4);
      FloatBuffer lse = Direct.floats(1);
      AttendOptions options = new AttendOptions().scale(0.5f);
      step.append(0, k, k);
      Expect.equal(0L, fewestBytes(() -> {
        for (int i = 0; i < CALLS; i++) step.attend(0, q, out);
      }));
      Expect.equal(0L, fewestBytes(() -> {
        for (int i = 0; i < CALLS; i++) step.attend(0, q, out, lse, options);
      }));
    });
  }

  static void addressesAllocateNothing() {
    withStep(step -> {
      ByteBuffer room = Direct.bytes(16 * 4 * 2);
      long q = kvc.raw.kvc.kvc_address_of(room), out = q + 16 * 4;
      step.append(0, q, 16 * 4, q, 16 * 4);
      Expect.equal(0L, fewestBytes(() -> {
        for (int i = 0; i < CALLS; i++) step.attend(0, q, 16 * 4, out, 16 * 4, 0, 0, null);
      }));
      java.lang.ref.Reference.reachabilityFence(room);
    });
  }

  /** What a decode step costs around its layers: bounded, whatever the number of layers. */
  static void aStepAllocatesLittle() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      long bytes = fewestBytes(() -> {
        for (int i = 0; i < 100; i++) cache.begin(sequence, 0).close();
      });
      Expect.that(bytes / 100 < 1500, "a step allocates " + bytes / 100 + " bytes");
    }
  }
}
