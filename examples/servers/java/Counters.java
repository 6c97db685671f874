import java.util.concurrent.atomic.AtomicLong;

/** They move while the engine runs and are read by /metrics. */
final class Counters {
  final AtomicLong promptTokens = new AtomicLong(), textTokens = new AtomicLong(), lookedUp = new AtomicLong(), found = new AtomicLong();
  final AtomicLong stopped = new AtomicLong(), reachedLength = new AtomicLong(), aborted = new AtomicLong(), rejected = new AtomicLong();
  final AtomicLong preempted = new AtomicLong(), steppedDown = new AtomicLong(), evicted = new AtomicLong();
  final AtomicLong heldTokens = new AtomicLong(); // of running sequences
}
