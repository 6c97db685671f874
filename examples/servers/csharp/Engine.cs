using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using Kvc;

namespace SmolServer {

/// <summary>Owns model and cache. One thread runs it; connections submit streams and receive their events.</summary>
sealed partial class Engine {
  public const int StepRows = 256;   // of one step, decoded tokens and prompt together

  public readonly Model Model;
  public readonly Cache Cache;
  public readonly Counters Count = new Counters();
  readonly Policy policy;
  readonly int maxQueue;
  readonly Thread thread;
  readonly Stopwatch clock = Stopwatch.StartNew();

  readonly object mutex = new object();   // of what follows
  readonly Admission admission;
  readonly LinkedList<Stream> queue = new LinkedList<Stream>();
  readonly List<Stream> running = new List<Stream>();   // oldest first; changed by the engine alone, which reads it without the lock
  TimeSpan? closing;                                    // when running streams are cut

  public Engine(Model model, Cache cache, Admission admission, int maxQueue) {
    Model = model;
    Cache = cache;
    this.admission = admission;
    policy = admission.Policy;
    this.maxQueue = maxQueue;
    thread = new Thread(Run) {Name = "engine"};
  }

  public void Start() => thread.Start();

  /// <summary>
  /// Queues a stream. RequestException: it never fits, the queue is full, the server shuts down. A prompt without tokens has no row to
  /// choose from: such a stream would be handed its neighbour's tokens.
  /// </summary>
  public void Submit(Stream stream) {
    lock (mutex) {
      if (closing != null) throw RequestException.Closing();
      if (stream.Prompt == 0) throw RequestException.Invalid("the prompt has no tokens");
      stream.Share = admission.Share((long)stream.Prompt + stream.MaxTokens);
      if (stream.Share == 0) {
        throw RequestException.Invalid(stream.Prompt + " tokens of prompt and " + stream.MaxTokens +
                                       " of max_tokens are more than the server's memory holds");
      }
      double taken = Taken;
      int waiting = queue.Append(stream).Count(one => !admission.Fits(taken += one.Share));
      if (waiting > maxQueue) {
        Count.Rejected.Add();
        throw RequestException.Busy();
      }
      queue.AddLast(stream);
      Monitor.PulseAll(mutex);
    }
  }

  double Taken => running.Sum(stream => stream.Share);

  /// <summary>Refuses what waits, lets what runs go on for a while, and returns when nothing runs.</summary>
  public void Shutdown(TimeSpan grace) {
    lock (mutex) {
      closing = clock.Elapsed + grace;
      Monitor.PulseAll(mutex);
    }
    thread.Join();
  }

  /// <summary>No new requests are taken.</summary>
  public bool Closing { get { lock (mutex) return closing != null; } }

  /// <summary>How many run and how many wait.</summary>
  public (int Running, int Waiting) Depth { get { lock (mutex) return (running.Count, queue.Count); } }

  // The loop; it ends after Shutdown.
  void Run() {
    for (;;) {
      lock (mutex) {
        DropGone();
        if (Cut()) return;
        Admit();
        if (running.Count == 0) {
          if (queue.Count == 0) Monitor.Wait(mutex);
          continue;
        }
      }
      ComputeStep();
    }
  }

  // Streams whose clients have gone leave.
  void DropGone() {
    foreach (Stream stream in queue.Where(one => one.Gone).ToList()) {
      Count.Aborted.Add();
      queue.Remove(stream);
    }
    foreach (Stream stream in running.Where(one => one.Gone).ToList()) {
      Count.Aborted.Add();
      Release(stream);
    }
    Count.HeldTokens.Value = running.Sum(stream => (long)stream.Length);
  }

  // Ends streams once the server shuts down: true if nothing is left.
  bool Cut() {
    if (closing == null) return false;
    foreach (Stream stream in queue) stream.Fail(RequestException.Closing());
    queue.Clear();
    if (clock.Elapsed > closing) {
      foreach (Stream stream in running.ToList()) {
        Release(stream);
        stream.Fail(RequestException.Closing());
      }
    }
    return running.Count == 0;
  }

  // Takes a running stream's sequence away and forgets the stream. No step is open: only a fault of the program or of the library
  // makes Destroy throw, and that ends the program.
  void Release(Stream stream) {
    stream.Sequence.Destroy();
    stream.Sequence = null;
    running.Remove(stream);
  }

  // Takes requests from the head of the queue while their shares fit.
  void Admit() {
    while (queue.Count > 0) {
      Stream stream = queue.First.Value;
      if (!admission.Fits(Taken + stream.Share)) return;
      try {
        var prompt = new ReadOnlySpan<long>(stream.Tokens, 0, stream.Prompt);
        stream.Sequence = Cache.Prefixes.Lookup(prompt, default(ReadOnlySpan<byte>), out PrefixHit hit,
                                                new SequenceOptions {PromptLength = stream.Prompt});
        stream.Length = (int)hit.Tokens;
      } catch (KvcNoMemoryException) when (running.Count > 0) {
        return;   // a later step will have ended something
      } catch (KvcException e) {
        queue.RemoveFirst();
        stream.Fail(e);
        continue;
      }
      queue.RemoveFirst();
      stream.Published = stream.System == 0 || stream.Length >= stream.System;
      if (!stream.Started) Count.PromptTokens.Add(stream.Prompt);
      Count.LookedUp.Add(stream.Prompt);
      Count.Found.Add(stream.Length);
      running.Add(stream);
      stream.Start();
    }
  }

  // Takes the youngest running stream but one off the cache and puts it back to the head of the queue; what it has in the cache counts
  // anew at its admission.
  bool Preempt(Stream but) {
    lock (mutex) {
      Stream stream = running.LastOrDefault(one => one != but);
      if (stream == null) return false;
      Release(stream);
      queue.AddFirst(stream);
      Count.Preempted.Add();
      return true;
    }
  }

  // Gives a stream the token that follows what it has read, and ends it where it is complete.
  void Advance(Stream stream, long token) {
    var one = new Event();
    if (token == Model.EndToken) {
      one.Finish = "stop";
      Count.Stopped.Add();
    } else {
      stream.Tokens[stream.Count++] = token;
      one.Text = Model.Text(token, stream.Pending);
      Count.TextTokens.Add();
      if (stream.Written == stream.MaxTokens) {
        one.Finish = "length";
        Count.ReachedLength.Add();
      }
    }
    if (one.Finish != null) {
      one.Text += Model.Text(-1, stream.Pending);
      lock (mutex) Release(stream);
    }
    stream.Send(one);
  }

  // Makes room among running streams, first those that hold the most of what the policy gives up: true if one gave something up.
  bool Relieve() {
    if (!policy.StepsDown && policy.EvictTo == 0) return false;
    foreach (Sequence sequence in running.Select(stream => stream.Sequence).OrderByDescending(Weight)) {
      if (!Gives(sequence)) continue;
      (policy.StepsDown ? Count.SteppedDown : Count.Evicted).Add();
      return true;
    }
    return false;
  }

  bool Gives(Sequence sequence) {
    try {
      return policy.StepsDown ? sequence.StepDown().Pages > 0
                              : sequence.Evict(new EvictOptions {Budget = policy.EvictTo}).TokensEvicted > 0;
    } catch (KvcNoMemoryException) {
      return false;   // what is left is written anew before the old goes, and even that found no room
    }
  }

  long Weight(Sequence sequence) => policy.EvictTo > 0 ? sequence.Live(0, 0) : sequence.Stats().RecordBytes;
}

}
