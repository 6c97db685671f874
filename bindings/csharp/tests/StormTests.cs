using System;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using Kvc;

/// <summary>The collector at every turn, and objects that are closed while other threads use them.</summary>
static class StormTests {
  static void WhileCollecting(params Action[] actions) {
    bool over = false;
    var storm = new Thread(() => {
      while (!Volatile.Read(ref over)) {
        GC.Collect();
        GC.WaitForPendingFinalizers();
      }
    });
    storm.Start();
    try {
      Check.Together(actions);
    } finally {
      Volatile.Write(ref over, true);
      storm.Join();
    }
  }

  // Every step computes the same: a buffer that moved, or an object that was finalized too early, would show.
  public static void StepsInACollectorStorm() {
    using (Cache cache = Model.Cache()) {
      Sequence source = cache.CreateSequence();
      Model.Run(cache, source, 100);
      float[] expected = Model.Run(cache, source.Fork(100), 1);
      Action work = () => {
        for (int i = 0; i < 600 * Program.Long; i++) {
          // Neither the fork nor the step outlives its last use.
          Check.That(Model.Run(cache, source.Fork(100), 1).SequenceEqual(expected), "a step in the storm gave other numbers");
          float[] dropped = Model.Layer(cache.Begin(source.Fork(100), 1), 1);
          Check.That(dropped.SequenceEqual(expected), "a step that nobody ends gave other numbers");
        }
      };
      WhileCollecting(work, work);
      GC.KeepAlive(source);
    }
  }

  public static void OptionsAndReportsInACollectorStorm() {
    WhileCollecting(() => {
      for (int i = 0; i < 100 * Program.Long; i++) {
        using (Cache cache = Model.Cache()) {
          Check.Equal(1, cache.Stats().Sequences + 1, "sequences");
          Check.That(Discovery.Plan(Model.Options(), new PlanRequest {Tokens = 100}).ArenaBytes > 0, "plan");
          Check.Throws<KvcArgumentException>(() => cache.CreateSequence(new SequenceOptions {FirstPosition = -1}));
        }
      }
    });
  }

  // The other thread's calls end well, or are told what happened; the process lives either way.
  static void CloseWhileInUse(Func<Cache, Sequence, Step, Action> closer, Action<Cache, Sequence, Step> use) {
    for (int i = 0; i < 60 * Program.Long; i++) {
      Cache cache = Model.Cache();
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 500);
      Step step = cache.Begin(sequence, 1);
      step.Append(0, Model.Row(1, 1), Model.Row(1, 2));
      Action close = closer(cache, sequence, step);
      using (var started = new ManualResetEventSlim()) {
        Action user = () => {
          try {
            for (var clock = Stopwatch.StartNew(); clock.Elapsed.TotalSeconds < 60;) {
              use(cache, sequence, step);
              started.Set();
            }
            throw new Exception("nothing was closed");
          } catch (ObjectDisposedException) {
          } catch (KvcHandleException) {
          } finally {
            started.Set();
          }
        };
        Check.Together(user, user, () => {
          started.Wait();
          close();
        });
      }
      step.Dispose();
      sequence.Dispose();
      cache.Dispose();
    }
  }

  // The number of bytes that an export asks for is that of one moment, and the next commit makes it more.
  public static void ExportsGoOnWhileOthersCommit() {
    using (Cache cache = Model.Cache()) {
      bool over = false;
      int exports = 0;
      var watch = Stopwatch.StartNew();
      Action commit = () => {
        while (!Volatile.Read(ref over)) {
          Sequence sequence = cache.CreateSequence();
          for (int i = 0; i < 30; i++) {
            using (Step step = cache.Begin(sequence, 9)) {
              Model.Layer(step, 9);
              step.Commit();
            }
            Thread.SpinWait(2000);   // the time in which an export can begin
          }
          sequence.Dispose();
        }
      };
      Check.Together(commit, () => {
        try {
          while (watch.ElapsedMilliseconds < (exports > 0 ? 1000 : 20000)) {
            try {
              cache.Export();
              exports++;
            } catch (KvcBusyException) {   // a sequence is in a step, most of the time
            }
          }
        } finally {
          Volatile.Write(ref over, true);
        }
      });
      Check.That(exports > 0, "no export was made");
    }
  }

  static void Attend(Cache cache, Sequence sequence, Step step) => step.Attend(0, Model.Row(1, 3), new float[Model.Dim]);

  public static void AStepIsClosedInUse() => CloseWhileInUse((cache, sequence, step) => step.Dispose, Attend);

  public static void AStepIsAbortedInUse() => CloseWhileInUse((cache, sequence, step) => step.Abort, Attend);

  public static void ACacheIsClosedInUse() => CloseWhileInUse((cache, sequence, step) => cache.Dispose, Attend);

  public static void ASequenceIsClosedInUse() => CloseWhileInUse(
      (cache, sequence, step) => sequence.Dispose, (cache, sequence, step) => GC.KeepAlive(sequence.Live(0, 0)));
}
