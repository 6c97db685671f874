import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import kvc.Sequence;

/** One request. Before it is admitted the queue owns it, afterwards the engine. */
final class Stream {
  private static final int SYSTEM_LEAST = 64;

  /** What a connection hears of its request: text, and in the last one how it ended ("stop", "length"), or why there is no more. */
  record Event(String text, String finish, Refusal refusal) {
    static final Event ADMITTED = new Event("", null, null);
    static final Event GONE = new Event("", null, null);
  }

  final int prompt; // tokens of it
  final int system; // tokens of the system prompt, 0 = none
  final int maxTokens;
  double share; // of the arena

  final long[] tokens; // prompt and text
  int count; // of tokens
  int length; // of them in the cache
  Sequence sequence;
  boolean published; // the system prompt needs no publishing
  final byte[] pending = new byte[8];
  private boolean started;

  final BlockingQueue<Event> events = new LinkedBlockingQueue<>(); // holds at most what maxTokens makes
  private volatile boolean gone;

  Stream(long[] promptTokens, int maxTokens, int system) {
    prompt = count = promptTokens.length;
    this.system = system;
    this.maxTokens = maxTokens;
    tokens = Arrays.copyOf(promptTokens, prompt + maxTokens);
  }

  /** Tokens of text. */
  int written() { return count - prompt; }

  /** Tokens that are not in the cache yet: a stream that writes has one. */
  int unread() { return count - length; }

  /** It has a prompt before it, or after a preemption all that it had. */
  boolean reads() { return written() == 0 || unread() > 1; }

  /** True the first time. */
  boolean start() {
    if (started) return false;
    started = true;
    events.add(Event.ADMITTED);
    return true;
  }

  /** Ends the request; the connection hears why. */
  void fail(Refusal why) { events.add(new Event("", null, why)); }

  /** The client has gone. */
  void leave() {
    gone = true;
    events.add(Event.GONE);
  }

  boolean gone() { return gone; }

  /** Tokens of the system prompt that a prompt begins with, if it is worth sharing. */
  static int systemTokens(long[] tokens, long[] opening, long end) {
    if (tokens.length < opening.length || !Arrays.equals(tokens, 0, opening.length, opening, 0, opening.length)) return 0;
    for (int i = 0; i < tokens.length; i++)
      if (tokens[i] == end) return i + 2 >= SYSTEM_LEAST && i + 2 < tokens.length ? i + 2 : 0;
    return 0;
  }
}
