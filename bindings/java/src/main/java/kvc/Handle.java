package kvc;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * An object of kvc that ends with {@link #close}. One that is dropped unclosed is ended by the collector, with a warning.
 *
 * <p>A handle is a number with a generation inside: a closed object keeps it, every call with it is answered
 * {@link KvcException.Handle}, and so is a call that comes while another thread closes.
 */
public abstract class Handle implements AutoCloseable {
  private static final System.Logger LOG = System.getLogger("kvc");
  private static final AtomicLong LEAKS = new AtomicLong();

  private final State state;
  private final Cleaner.Cleanable cleanable;

  Handle(State state) {
    this.state = state;
    cleanable = kvc.raw.kvc.CLEANER.register(this, state);
  }

  /** Ends it; a second time does nothing. What closes while it is in use, like a sequence in an open step, throws and stays open. */
  @Override
  public final void close() {
    if (!state.open.compareAndSet(true, false)) return;
    try {
      state.destroy();
    } catch (KvcException.Handle gone) {
      // Its cache was closed first and took it along.
    } catch (RuntimeException | Error e) {
      state.open.set(true);
      throw e;
    }
    cleanable.clean();
  }

  /** It was ended by another call than close. */
  final void ended() {
    state.open.set(false);
    cleanable.clean();
  }

  /** Runs a call; the collector does not take this object before it returns. */
  final void run(Runnable call) {
    try {
      call.run();
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  final <T> T get(Supplier<T> call) {
    try {
      return call.get();
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  final long number(LongSupplier call) {
    try {
      return call.getAsLong();
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  /** How many were dropped unclosed in this process. */
  static long leaks() { return LEAKS.get(); }

  /** What the collector needs to end the object: everything but the object itself. */
  abstract static class State implements Runnable {
    final AtomicBoolean open = new AtomicBoolean(true);

    abstract String noun();

    abstract void destroy();

    /** Is it gone with its cache, so that nothing leaks? */
    boolean covered() { return false; }

    /** Dropped, but still part of an open step, which was dropped with it. */
    void busy() {}

    private void warn(long leaks) {
      LOG.log(System.Logger.Level.WARNING, "kvc: a " + noun() + " was dropped without close(), " + leaks + " objects so far");
    }

    @Override
    public void run() {
      if (!open.compareAndSet(true, false) || covered()) return;
      long leaks = LEAKS.incrementAndGet();
      for (long power = 1; power <= leaks; power *= 10) // a leak in a loop must not fill the log
        if (power == leaks) warn(leaks);
      try {
        destroy();
      } catch (KvcException.Handle gone) {
        // The collector may take a cache before what belongs to it.
      } catch (KvcException.Busy e) {
        busy();
      } catch (KvcException e) {
        LOG.log(System.Logger.Level.ERROR, "kvc: a dropped " + noun() + " could not be ended", e);
      }
    }
  }
}
