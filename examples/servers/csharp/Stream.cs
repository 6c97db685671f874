using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;
using Kvc;

namespace SmolServer {

/// <summary>What a connection hears of its request: text, and at the end how it ended.</summary>
sealed class Event {
  public string Text = "";
  public string Finish;       // "stop" or "length" with the last event
  public Exception Failure;   // or why there is no more
}

/// <summary>One request. Before it is admitted the queue owns it, afterwards the engine.</summary>
sealed class Stream {
  public readonly int Prompt;      // tokens of it
  public readonly int System;      // tokens of the system prompt, 0 = none
  public readonly int MaxTokens;
  public readonly long[] Tokens;   // prompt and text, with room for all of it
  public readonly byte[] Pending = new byte[8];
  public double Share;             // of the arena
  public int Count;                // tokens so far
  public int Length;               // of them in the cache
  public Sequence Sequence;
  public bool Published;           // the system prompt needs no publishing
  readonly Queue<Event> events = new Queue<Event>();   // also the lock of what follows; holds at most what MaxTokens allow
  bool started;
  volatile bool gone;

  public Stream(long[] prompt, int maxTokens, int system) {
    Prompt = Count = prompt.Length;
    System = system;
    MaxTokens = maxTokens;
    Tokens = new long[prompt.Length + maxTokens];
    prompt.CopyTo(Tokens, 0);
  }

  /// <summary>Tokens of text.</summary>
  public int Written => Count - Prompt;

  /// <summary>Tokens that are not in the cache yet: a stream that writes has one.</summary>
  public int Unread => Count - Length;

  /// <summary>The stream has a prompt before it, or after a preemption all that it had.</summary>
  public bool Reads => Written == 0 || Unread > 1;

  /// <summary>Its client has gone.</summary>
  public bool Gone => gone;

  public void Leave() => gone = true;

  /// <summary>It was admitted, or has ended.</summary>
  public bool Started { get { lock (events) return started; } }

  public void Start() {
    lock (events) {
      started = true;
      Monitor.PulseAll(events);
    }
  }

  /// <summary>Waits a while for the start.</summary>
  public bool WaitForStart(int milliseconds) {
    lock (events) {
      if (!started) Monitor.Wait(events, milliseconds);
      return started;
    }
  }

  public void Send(Event one) {
    lock (events) {
      events.Enqueue(one);
      Monitor.PulseAll(events);
    }
  }

  /// <summary>Ends the request; the connection hears why.</summary>
  public void Fail(Exception failure) {
    Send(new Event {Failure = failure});
    Start();
  }

  /// <summary>The next event; null if none came for a while.</summary>
  public Event Receive(int milliseconds) {
    Stopwatch waited = Stopwatch.StartNew();
    lock (events) {
      for (long left; events.Count == 0 && (left = milliseconds - waited.ElapsedMilliseconds) > 0;) {
        Monitor.Wait(events, (int)left);   // the start wakes, too
      }
      return events.Count == 0 ? null : events.Dequeue();
    }
  }

  /// <summary>Counts the tokens of the system prompt that a prompt begins with, if it is worth sharing.</summary>
  public static int SystemTokens(long[] tokens, long[] opening, long end) {
    const int Least = 64;
    for (int i = 0; i < opening.Length; i++) {
      if (i >= tokens.Length || tokens[i] != opening[i]) return 0;
    }
    int mark = Array.IndexOf(tokens, end);
    return mark >= 0 && mark + 2 >= Least && mark + 2 < tokens.Length ? mark + 2 : 0;
  }
}

}
