package kvc;

import java.nio.LongBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/** Objects end when they are closed, in any order, or when nobody holds them any more. */
final class LifetimeTests {
  static void closingTwiceDoesNothing() {
    Cache cache = new Cache(Fixture.options());
    Sequence sequence = cache.newSequence();
    Step step = cache.begin(sequence, 1);
    for (Handle object : List.of(step, sequence, cache)) {
      object.close();
      object.close();
    }
    Expect.thrown(KvcException.Handle.class, cache::stats);
  }

  static void useAfterCloseIsAHandleError() {
    Cache cache = new Cache(Fixture.options());
    Sequence kept = cache.newSequence(), closed = cache.newSequence();
    Step ended = cache.begin(kept, 0);
    ended.close();
    closed.close();
    KvcException e = Expect.thrown(KvcException.Handle.class, closed::length);
    Expect.equal("kvc_seq_length", e.operation());
    Expect.equal(Status.HANDLE, e.status());
    Expect.that(!e.getMessage().isEmpty(), "no message");
    Expect.thrown(KvcException.Handle.class, () -> closed.fork(0));
    Expect.thrown(KvcException.Handle.class, () -> cache.begin(closed, 1));
    Expect.thrown(KvcException.Handle.class, closed::destroy);
    Expect.equal("kvc_append", Expect.thrown(KvcException.Handle.class, () -> ended.append(0, Direct.bytes(0), Direct.bytes(0))).operation());
    Expect.equal("kvc_append", Expect.thrown(KvcException.Handle.class, () -> ended.append(0, 0, 0, 0, 0)).operation());
    Expect.equal("kvc_attend", Expect.thrown(KvcException.Handle.class, () -> ended.attend(0, Direct.bytes(0), Direct.bytes(0))).operation());
    Expect.equal("kvc_attend", Expect.thrown(KvcException.Handle.class, () -> ended.attend(0, 0, 0, 0, 0, 0, 0, null)).operation());
    Expect.equal("kvc_step_commit", Expect.thrown(KvcException.Handle.class, ended::commit).operation());
    Expect.thrown(KvcException.Handle.class, ended::abort);
    cache.close();
    Expect.thrown(KvcException.Handle.class, kept::length);
    Expect.thrown(KvcException.Handle.class, cache::newSequence);
    kept.close();
  }

  static void objectsOfOtherCachesAreRefused() {
    try (Cache one = new Cache(Fixture.options()); Cache other = new Cache(Fixture.options()); Sequence sequence = one.newSequence();
        Sequence own = other.newSequence()) {
      foreign("kvc_step_begin", () -> other.begin(sequence, 1));
      foreign("kvc_step_begin", () -> other.begin(List.of(own, sequence), new long[] {1, 1}, null));
      foreign("kvc_snapshot_export", () -> other.exportSnapshot(List.of(own, sequence)));
      foreign("kvc_snapshot_export", () -> other.exportSnapshot(List.of(sequence), Direct.bytes(1 << 16)));
      foreign("kvc_snapshot_save", () -> other.saveSnapshot(Path.of("nowhere"), List.of(sequence)));
    }
  }

  private static void foreign(String operation, Runnable call) {
    KvcException e = Expect.thrown(KvcException.Handle.class, call);
    Expect.equal(operation, e.operation());
    Expect.equal("a sequence belongs to another cache", e.getMessage());
  }

  static void everyOrderOfClosingWorks() {
    int orders = 0;
    for (int code = 0; code < 256; code++) {
      int[] order = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3};
      if ((1 << order[0] | 1 << order[1] | 1 << order[2] | 1 << order[3]) != 15) continue;
      orders++;
      Cache cache = new Cache(Fixture.options());
      Sequence sequence = cache.newSequence();
      Fixture.grow(cache, sequence, 70);
      Sequence fork = sequence.fork(sequence.length());
      Step step = cache.begin(fork, 1);
      Handle[] objects = {cache, sequence, fork, step};
      boolean busy = false;
      for (int which : order) {
        try {
          objects[which].close();
        } catch (KvcException.Busy e) {
          Expect.equal(2, which); // the fork, whose step is open
          busy = true;
        }
      }
      boolean stepCameLater = position(order, 3) > position(order, 2) && position(order, 0) > position(order, 2);
      Expect.equal(stepCameLater, busy);
      for (Handle object : objects) object.close();
      Expect.thrown(KvcException.Handle.class, cache::stats);
    }
    Expect.equal(24, orders);
  }

  private static int position(int[] order, int which) {
    for (int i = 0; i < order.length; i++) if (order[i] == which) return i;
    throw new AssertionError(which);
  }

  @SuppressWarnings("try")
  static void aSequenceInAStepIsBusyAndStaysOpen() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      try (Step step = cache.begin(sequence, 1)) {
        Expect.equal(1, cache.stats().openSteps());
        Expect.equal("kvc_seq_destroy", Expect.thrown(KvcException.Busy.class, sequence::close).operation());
        Expect.equal(sequence, step.sequences()[0]);
        Expect.equal(0L, sequence.length());
      }
      Expect.equal(0, cache.stats().openSteps());
      sequence.close();
      Expect.equal(0L, cache.stats().sequences());
    }
  }

  // ---- Dropped ----

  /** Collects until it is so. Only the test's own deadline ends this. */
  static void collectUntil(String what, java.util.function.BooleanSupplier reached) {
    long deadline = System.nanoTime() + 30_000_000_000L;
    while (!reached.getAsBoolean()) {
      Expect.that(System.nanoTime() < deadline, "not reached after 30 s of collections: " + what);
      System.gc();
      try {
        Thread.sleep(5);
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    }
  }

  static void droppedSequencesAreDestroyed() {
    int dropped = Integer.getInteger("kvc.dropped", 100_000);
    long before = Handle.leaks();
    try (Cache cache = new Cache(Fixture.options()); Sequence kept = cache.newSequence()) {
      for (int i = 0; i < dropped; i++) cache.newSequence();
      collectUntil("0 live handles", () -> cache.stats().sequences() == 1);
      Expect.equal((long) dropped, Handle.leaks() - before);
      Expect.equal(0L, kept.length());
    }
  }

  private static void dropSteps(Cache cache, int n) {
    for (int i = 0; i < n; i++) {
      Sequence sequence = cache.newSequence(), second = sequence.fork(0);
      cache.begin(List.of(sequence, second), new long[] {1, 1}, null);
    }
  }

  static void droppedStepsEndWithTheirSequences() {
    try (Cache cache = new Cache(Fixture.options().arenaGrowth(true))) {
      dropSteps(cache, 200);
      Expect.that(cache.stats().openSteps() > 0, "no step was begun");
      collectUntil("no open step and no sequence", () -> cache.stats().openSteps() == 0 && cache.stats().sequences() == 0);
    }
  }

  /** Drops both, the sequence first, as a collector may that finds them together. */
  private static void dropSequenceThenStep(Cache cache) {
    Sequence sequence = cache.newSequence();
    cache.begin(sequence, 1);
    sequence.state.run();
    Expect.equal(1L, cache.stats().sequences());
  }

  static void aSequenceDroppedBeforeItsStepIsDestroyedAfterIt() {
    try (Cache cache = new Cache(Fixture.options())) {
      dropSequenceThenStep(cache);
      collectUntil("no sequence", () -> cache.stats().sequences() == 0);
    }
  }

  private static List<Long> dropCaches(int n) {
    List<Long> handles = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      Cache cache = new Cache(Fixture.options().arenaTokens(64));
      cache.begin(cache.newSequence(), 1);
      handles.add(cache.handle);
    }
    return handles;
  }

  static void droppedCachesAreDestroyed() {
    List<Long> handles = dropCaches(50);
    collectUntil("no live cache", () -> handles.stream().allMatch(LifetimeTests::isGone));
  }

  private static boolean isGone(long cache) {
    try {
      kvc.raw.kvc.kvc_stats_get(cache, new kvc.raw.kvc_stats());
      return false;
    } catch (KvcException.Handle e) {
      return true;
    }
  }

  static void aLeakIsWarnedOf() {
    List<String> messages = new ArrayList<>();
    Handler handler = new Handler() {
      @Override
      public synchronized void publish(LogRecord record) { messages.add(record.getMessage()); }

      @Override
      public void flush() {}

      @Override
      public void close() {}
    };
    Logger logger = Logger.getLogger("kvc");
    logger.addHandler(handler);
    logger.setUseParentHandlers(false);
    try (Cache cache = new Cache(Fixture.options())) {
      long before = Handle.leaks(), power = 1;
      while (power <= before) power *= 10;
      for (long i = before; i < Math.max(power, 1); i++) cache.newSequence();
      collectUntil("a warning", () -> !messages.isEmpty());
      Expect.that(messages.get(0).contains("a Sequence was dropped without close()"), messages.toString());
    } finally {
      logger.removeHandler(handler);
      logger.setUseParentHandlers(true);
    }
  }

  static void closedObjectsAreNoLeaks() {
    long before = Handle.leaks();
    try (Cache cache = new Cache(Fixture.options())) {
      for (int i = 0; i < 1000; i++) {
        try (Sequence sequence = cache.newSequence()) {
          Fixture.grow(cache, sequence, 1);
        }
      }
      cache.newSequence(); // ends with its cache
    }
    for (int i = 0; i < 5; i++) System.gc();
    Expect.equal(before, Handle.leaks());
  }

  static void optionsOutliveTheCallsThatReadThem() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(new SequenceOptions().firstPosition(5))) {
      System.gc();
      Expect.equal(5L, sequence.length());
      LongBuffer none = Direct.longs(0);
      sequence.positions(0, 0, none);
    }
  }
}
