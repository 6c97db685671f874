using System;
using System.Threading;

namespace SmolServer {

static class StreamTests {
  // Who waits for an event sleeps on over the start, and no longer than it said.
  public static void EventsAreWaitedFor() {
    var stream = new Stream(new long[] {1}, 1, 0);
    Tests.That(stream.Receive(0) == null && stream.Receive(20) == null && !stream.WaitForStart(20), "there was nothing to wait for");
    var engine = new Thread(() => {
      Thread.Sleep(100);
      stream.Start();
      Thread.Sleep(100);
      stream.Send(new Event {Text = "a"});
    });
    engine.Start();
    Tests.Equal("a", stream.Receive(60000)?.Text, "the event");
    engine.Join();
    Tests.That(stream.WaitForStart(0), "it was started");
  }

  public static void SystemPromptsEndBehindTheirMark() {
    const long End = 2;
    long[] opening = {1, 9};
    var cases = new (int Mark, int Length, int Expected)[] {(70, 100, 72), (62, 100, 64), (61, 100, 0), (70, 72, 0), (70, 73, 72), (200, 100, 0)};
    foreach ((int Mark, int Length, int Expected) one in cases) {
      var tokens = new long[one.Length];
      opening.CopyTo(tokens, 0);
      if (one.Mark < one.Length) tokens[one.Mark] = End;
      Tests.Equal(one.Expected, Stream.SystemTokens(tokens, opening, End), "mark at " + one.Mark + " of " + one.Length);
      Tests.Equal(0, Stream.SystemTokens(tokens, new long[] {1, 8}, End), "another opening");
    }
  }
}

}
