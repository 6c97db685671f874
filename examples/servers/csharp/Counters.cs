using System.Threading;

namespace SmolServer {

/// <summary>A number that the engine moves and /metrics reads.</summary>
sealed class Counter {
  long value;

  public long Value { get => Interlocked.Read(ref value); set => Interlocked.Exchange(ref this.value, value); }

  public void Add(long n = 1) => Interlocked.Add(ref value, n);
}

sealed class Counters {
  public readonly Counter PromptTokens = new Counter(), TextTokens = new Counter(), LookedUp = new Counter(), Found = new Counter();
  public readonly Counter Stopped = new Counter(), ReachedLength = new Counter(), Aborted = new Counter(), Rejected = new Counter();
  public readonly Counter Preempted = new Counter(), SteppedDown = new Counter(), Evicted = new Counter();
  public readonly Counter HeldTokens = new Counter();   // of running sequences, now
}

}
