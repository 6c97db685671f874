import java.nio.LongBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.TimeUnit;
import kvc.Cache;
import kvc.Direct;
import kvc.KvcException;
import kvc.PrefixHit;
import kvc.SequenceOptions;
import kvc.Step;

/** Owns model and cache. One thread runs it; connections submit streams and take their events. */
final class Engine implements Runnable {
  final Model model;
  final Cache cache;
  final Counters count = new Counters();
  private final Policy policy;
  private final int maxQueue;
  private final Batch batch;
  private final LongBuffer ids; // the tokens of one prompt, for the prefix index

  // The lock is this object; what follows is changed under it.
  private final Admission admission;
  private final Deque<Stream> queue = new ArrayDeque<>();
  private final List<Stream> running = new ArrayList<>(); // oldest first; changed by the engine's thread alone
  private boolean closing, ended;
  private long cutAt; // nanoseconds of System.nanoTime, once closing

  Engine(Model model, Cache cache, Admission admission, int maxQueue) {
    this.model = model;
    this.cache = cache;
    this.admission = admission;
    this.maxQueue = maxQueue;
    policy = admission.policy();
    batch = new Batch(model);
    ids = Direct.longs(model.context);
  }

  // ---- What connections call ----

  /**
   * Queues a stream; refused if it can never be admitted, or not at once and the queue is full. A prompt without tokens has no row to
   * choose from: such a stream would be handed its neighbour's tokens.
   */
  synchronized void submit(Stream stream) throws Refusal {
    if (closing) throw Refusal.shutdown();
    if (stream.prompt == 0) throw Refusal.invalid("the prompt has no tokens");
    stream.share = admission.share(stream.prompt + stream.maxTokens);
    if (stream.share == 0)
      throw Refusal.invalid(stream.prompt + " tokens of prompt and " + stream.maxTokens
          + " of max_tokens are more than the server's memory holds");
    queue.addLast(stream);
    if (beyondRoom() > maxQueue) {
      queue.removeLast();
      count.rejected.incrementAndGet();
      throw Refusal.busy();
    }
    notifyAll();
  }

  /** How many of the queue cannot be admitted now. */
  private int beyondRoom() {
    int waiting = 0;
    double taken = taken();
    for (Stream stream : queue)
      if ((taken += stream.share) > policy.most() + Admission.TOLERANCE) waiting++;
    return waiting;
  }

  private double taken() {
    double sum = 0;
    for (Stream stream : running) sum += stream.share;
    return sum;
  }

  /** Refuses what waits, lets what runs go on for a while, and returns when nothing runs. */
  synchronized void shutdown(long graceMillis) {
    cutAt = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(graceMillis);
    closing = true;
    notifyAll();
    while (!ended) await();
  }

  /** Until something changes. Nobody interrupts threads here. */
  private void await() {
    try {
      wait();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** No new requests are taken. */
  synchronized boolean closing() { return closing; }

  /** What runs and what waits. */
  synchronized int[] depth() { return new int[] {running.size(), queue.size()}; }

  // ---- The engine's thread ----

  /** Ends after shutdown. */
  @Override
  public void run() {
    while (true) {
      leave();
      if (cut()) break;
      admit();
      if (!running.isEmpty()) step();
      else sleep();
    }
    synchronized (this) {
      ended = true;
      notifyAll();
    }
  }

  /** With nothing running the head of the queue is always admitted: only new requests wake. */
  private synchronized void sleep() {
    while (queue.isEmpty() && !closing) await();
  }

  /** Drops the streams whose clients have gone. */
  private synchronized void leave() {
    queue.removeIf(stream -> {
      if (stream.gone()) count.aborted.incrementAndGet();
      return stream.gone();
    });
    for (Stream stream : List.copyOf(running)) {
      if (!stream.gone()) continue;
      count.aborted.incrementAndGet();
      release(stream);
    }
    count.heldTokens.set(running.stream().mapToLong(stream -> stream.length).sum());
  }

  /** Ends streams once the server shuts down: true if nothing is left. */
  private synchronized boolean cut() {
    if (!closing) return false;
    for (Stream stream : queue) stream.fail(Refusal.shutdown());
    queue.clear();
    if (System.nanoTime() - cutAt > 0) fail(List.copyOf(running), Refusal.shutdown());
    return running.isEmpty();
  }

  private void fail(List<Stream> streams, Refusal why) {
    for (Stream stream : streams) {
      stream.fail(why);
      release(stream);
    }
  }

  /** Takes a running stream's sequence away and forgets the stream. The lock is held. */
  private void release(Stream stream) {
    stream.sequence.close(); // no step is open: only a fault of the program or of the library throws here
    stream.sequence = null;
    running.remove(stream);
  }

  /** Takes requests from the head of the queue while their shares fit. */
  private synchronized void admit() {
    while (!queue.isEmpty()) {
      Stream stream = queue.peekFirst();
      if (taken() + stream.share > policy.most() + Admission.TOLERANCE) return;
      PrefixHit hit;
      try {
        hit = cache.lookup(ids(stream, stream.prompt), null, new SequenceOptions().promptLength(stream.prompt));
      } catch (KvcException e) {
        if (e instanceof KvcException.NoMemory && !running.isEmpty()) return; // a later step will have ended something
        queue.removeFirst().fail(Refusal.failed(e));
        continue;
      }
      queue.removeFirst();
      stream.sequence = hit.sequence();
      stream.length = (int) hit.tokens();
      stream.published = stream.system == 0 || stream.length >= stream.system;
      count.lookedUp.addAndGet(stream.prompt);
      count.found.addAndGet(stream.length);
      running.add(stream);
      if (stream.start()) count.promptTokens.addAndGet(stream.prompt);
    }
  }

  private LongBuffer ids(Stream stream, int n) { return ids.clear().put(stream.tokens, 0, n).flip(); }

  /** One step. What fails, fails for the streams in it. */
  private void step() {
    batch.compose(running);
    try {
      try (Step step = begin()) {
        batch.forward(step);
      }
      batch.choose();
    } catch (KvcException | IllegalStateException e) {
      synchronized (this) {
        fail(List.copyOf(batch.streams), Refusal.failed(e));
      }
      return;
    }
    for (int i = 0, next = 0; i < batch.streams.size(); i++) {
      Stream stream = batch.streams.get(i);
      stream.length += batch.tokens(i);
      if (!stream.published && stream.length == stream.system) publish(stream);
      if (stream.unread() == 0) advance(stream, batch.chosen(next++));
    }
  }

  private void publish(Stream stream) {
    stream.published = true;
    try {
      stream.sequence.publish(ids(stream, stream.system), null, null);
    } catch (KvcException.NoMemory noRoom) {
      // The next one with this system prompt reads it again.
    }
  }

  /** Opens the step, and makes room for it where there is none. */
  private Step begin() {
    while (true) {
      try {
        return cache.begin(batch.sequences(), batch.counts(), null);
      } catch (KvcException.NoMemory e) {
        boolean roomier = Pressure.relieve(running, policy, count) || batch.leaveLastOut() || preempt(batch.streams.get(0))
            || batch.halve();
        if (!roomier) throw e;
      }
    }
  }

  /** Takes the youngest running stream but one off the cache and puts it back to the head of the queue. */
  private synchronized boolean preempt(Stream but) {
    for (int i = running.size() - 1; i >= 0; i--) {
      Stream stream = running.get(i);
      if (stream == but) continue;
      release(stream);
      queue.addFirst(stream);
      count.preempted.incrementAndGet();
      return true;
    }
    return false;
  }

  /** Gives a stream the token that follows what it has read, and ends it where it is complete. */
  private void advance(Stream stream, long token) {
    String text = "", finish = null;
    if (token == model.endToken) {
      finish = "stop";
      count.stopped.incrementAndGet();
    } else {
      stream.tokens[stream.count++] = token;
      text = model.text(token, stream.pending);
      count.textTokens.incrementAndGet();
      if (stream.written() == stream.maxTokens) {
        finish = "length";
        count.reachedLength.incrementAndGet();
      }
    }
    if (finish != null) {
      text += model.text(-1, stream.pending);
      synchronized (this) {
        release(stream);
      }
    }
    stream.events.add(new Stream.Event(text, finish, null));
  }
}
