package kvc;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/** Threads, collections and closings at the same time. -Dkvc.storm=SECONDS makes each last longer. */
final class StormTests {
  private static final long NANOS = Long.getLong("kvc.storm", 1) * 1_000_000_000L;

  private interface Work {
    void run(int thread);
  }

  /** Runs it over and over on so many threads; what one of them throws is thrown. */
  private static void storm(int threads, Work work) {
    long end = System.nanoTime() + NANOS;
    AtomicReference<Throwable> wrong = new AtomicReference<>();
    List<Thread> running = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      int number = i;
      Thread thread = new Thread(() -> {
        try {
          while (System.nanoTime() < end && wrong.get() == null) work.run(number);
        } catch (Throwable e) {
          wrong.set(e);
        }
      });
      running.add(thread);
      thread.start();
    }
    running.forEach(StormTests::join);
    if (wrong.get() != null) throw new AssertionError(wrong.get());
  }

  private static void join(Thread thread) {
    try {
      thread.join();
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  /** Objects and options that nobody holds beyond their last call, under collections without pause: no call may lose its object. */
  static void collectionsTakeNothingThatIsInUse() {
    ByteBuffer expected;
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      expected = Fixture.grow(cache, sequence, 1);
    }
    ThreadLocal<ByteBuffer> room = ThreadLocal.withInitial(() -> Direct.bytes(1 << 16));
    try (Cache cache = new Cache(Fixture.options().arenaGrowth(true))) {
      storm(3, thread -> {
        if (thread == 0) {
          System.gc();
          return;
        }
        ByteBuffer out = Fixture.output(1);
        Step step = cache.begin(cache.newSequence(new SequenceOptions().promptLength(0)), 1);
        for (int layer = 0; layer < Fixture.LAYERS; layer++) {
          step.append(layer, Fixture.keys(layer, 0, 1), Fixture.values(layer, 0, 1));
          step.attend(layer, Fixture.queries(layer, 0, 1), out, null, new AttendOptions().softCap(0));
        }
        step.commit();
        Expect.equal(expected, out);
        Expect.equal(3L, cache.newSequence(new SequenceOptions().firstPosition(3)).length());
        cache.exportSnapshot(List.of(cache.newSequence(), cache.newSequence()));
        cache.exportSnapshot(List.of(cache.newSequence(), cache.newSequence()), room.get());
      });
      LifetimeTests.collectUntil("no sequence", () -> cache.stats().sequences() == 0 && cache.stats().openSteps() == 0);
    }
  }

  /** Closing a cache under other threads' calls: they end well, or with the error of a closed handle. */
  static void closingWhileInUse() {
    AtomicInteger closedInUse = new AtomicInteger();
    storm(1, unused -> {
      Cache cache = new Cache(Fixture.options());
      AtomicBoolean closing = new AtomicBoolean();
      List<Thread> users = new ArrayList<>();
      AtomicReference<Throwable> wrong = new AtomicReference<>();
      AtomicInteger calls = new AtomicInteger();
      for (int i = 0; i < 3; i++) {
        Thread user = new Thread(() -> {
          try (Sequence sequence = cache.newSequence()) {
            while (true) {
              Fixture.grow(cache, sequence, 1);
              if (sequence.length() > 200) sequence.truncate(0, Sequence.Cut.INEXACT);
              calls.incrementAndGet();
            }
          } catch (KvcException.Handle e) {
            if (!closing.get()) wrong.set(e);
            closedInUse.incrementAndGet();
          } catch (Throwable e) {
            wrong.set(e);
          }
        });
        users.add(user);
        user.start();
      }
      while (calls.get() < 20 && users.stream().anyMatch(Thread::isAlive)) Thread.onSpinWait();
      closing.set(true);
      cache.close();
      users.forEach(StormTests::join);
      if (wrong.get() != null) throw new AssertionError(wrong.get());
      Expect.thrown(KvcException.Handle.class, cache::stats);
    });
    Expect.that(closedInUse.get() >= 3, "no cache was closed while in use");
  }

  /** Closing a step while another thread attends with it. */
  static void closingAStepWhileInUse() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      AtomicInteger ended = new AtomicInteger();
      storm(1, unused -> {
        Step step = cache.begin(sequence, 4);
        for (int layer = 0; layer < Fixture.LAYERS; layer++) step.append(layer, Fixture.keys(layer, 0, 4), Fixture.values(layer, 0, 4));
        AtomicInteger calls = new AtomicInteger();
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        Thread user = new Thread(() -> {
          ByteBuffer q = Fixture.queries(0, 0, 4), out = Fixture.output(4);
          try {
            while (true) {
              step.attend(0, q, out);
              calls.incrementAndGet();
            }
          } catch (KvcException.Handle e) {
            ended.incrementAndGet();
          } catch (Throwable e) {
            wrong.set(e);
          }
        });
        user.start();
        while (calls.get() < 5 && user.isAlive()) Thread.onSpinWait();
        step.close();
        join(user);
        if (wrong.get() != null) throw new AssertionError(wrong.get());
        Expect.equal(0L, sequence.length());
      });
      Expect.that(ended.get() > 0, "no step was closed while in use");
    }
  }

  /** Both threads close; each object ends once. */
  static void closingTwiceAtOnce() {
    try (Cache cache = new Cache(Fixture.options())) {
      storm(1, unused -> {
        Sequence sequence = cache.newSequence();
        Thread other = new Thread(sequence::close);
        other.start();
        sequence.close();
        join(other);
        Expect.equal(0L, cache.stats().sequences());
      });
    }
  }

  /** Steps over different sequences run in parallel, and each sequence comes out as if it were alone. */
  /** The number of bytes that an export asks for is that of one moment, and the next commit makes it more. */
  static void exportsGoOnWhileOthersCommit() {
    try (Cache cache = new Cache(Fixture.options().threads(1))) {
      AtomicInteger exports = new AtomicInteger();
      storm(3, thread -> {
        if (thread == 0) {
          try {
            cache.exportSnapshot();
            exports.incrementAndGet();
          } catch (KvcException.Busy inAStep) {
            // as a sequence is most of the time
          }
          return;
        }
        try (Sequence sequence = cache.newSequence()) {
          ByteBuffer k = Fixture.keys(0, 0, 9);
          for (int i = 0; i < 20; i++) {
            try (Step step = cache.begin(sequence, 9)) {
              for (int layer = 0; layer < Fixture.LAYERS; layer++) step.append(layer, k, k);
              step.commit();
            }
            for (int spins = 0; spins < 2000; spins++) Thread.onSpinWait(); // the time in which an export can begin
          }
        }
      });
      Expect.that(exports.get() > 0, "no export was made");
    }
  }

  static void parallelSteps() {
    ByteBuffer expected;
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 66);
      expected = Fixture.grow(cache, sequence, 2);
    }
    try (Cache cache = new Cache(Fixture.options().threads(1))) {
      storm(4, thread -> {
        try (Sequence sequence = cache.newSequence()) {
          Fixture.grow(cache, sequence, 66);
          Expect.equal(expected, Fixture.grow(cache, sequence, 2));
        }
      });
      Expect.equal(0L, cache.stats().sequences());
      Expect.equal(0L, cache.stats().recordBytes());
    }
  }
}
