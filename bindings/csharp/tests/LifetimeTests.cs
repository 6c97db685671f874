using System;
using System.Collections.Generic;
using System.Linq;
using Kvc;

/// <summary>Whatever goes first, and however it goes, nothing crashes, nothing is freed twice and nothing is left.</summary>
static class LifetimeTests {
  static IEnumerable<T[]> Orders<T>(T[] of) {
    if (of.Length < 2) {
      yield return of;
      yield break;
    }
    for (int i = 0; i < of.Length; i++)
      foreach (T[] rest in Orders(of.Where((one, at) => at != i).ToArray())) yield return new[] {of[i]}.Concat(rest).ToArray();
  }

  public static void AllOrdersOfDispose() {
    int orders = 0;
    foreach (int[] order in Orders(new[] {0, 1, 2, 3})) {
      Cache cache = Model.Cache();
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 70);
      IDisposable[] all = {cache, sequence, sequence.Fork(70), cache.Begin(sequence, 1)};
      foreach (int i in order) all[i].Dispose();
      foreach (int i in order) all[i].Dispose();   // a second time does nothing
      orders++;
    }
    Check.Equal(24, orders, "orders");
  }

  public static void AllOrdersOfDestroy() {
    foreach (int[] order in Orders(new[] {0, 1, 2})) {
      Cache cache = Model.Cache();
      Sequence sequence = cache.CreateSequence();
      Step step = cache.Begin(sequence, 1);
      Action[] ends = {cache.Destroy, sequence.Destroy, step.Abort};
      int cacheAt = Array.IndexOf(order, 0), sequenceAt = Array.IndexOf(order, 1), stepAt = Array.IndexOf(order, 2);
      for (int at = 0; at < 3; at++) {
        Action end = ends[order[at]];
        if (at > cacheAt)
          Check.Throws<KvcHandleException>(end);
        else if (at == sequenceAt && sequenceAt < stepAt)
          Check.Throws<KvcBusyException>(end);
        else
          end();
      }
      cache.Dispose();
      sequence.Dispose();
      step.Dispose();
    }
  }

  public static void UseAfterDispose() {
    Cache cache = Model.Cache();
    Sequence sequence = cache.CreateSequence(), other = cache.CreateSequence();
    Step step = cache.Begin(other, 1);
    step.Dispose();
    sequence.Dispose();
    Check.Throws<ObjectDisposedException>(() => step.Append(0, Model.Row(1, 1), Model.Row(1, 1)));
    Check.Throws<ObjectDisposedException>(() => step.Commit());
    Check.Throws<ObjectDisposedException>(() => GC.KeepAlive(sequence.Length));
    Check.Throws<ObjectDisposedException>(() => cache.Begin(sequence, 1));
    Check.Throws<ObjectDisposedException>(() => cache.Export(sequence));
    cache.Dispose();
    Check.Throws<ObjectDisposedException>(() => cache.CreateSequence());
    Check.Throws<ObjectDisposedException>(() => GC.KeepAlive(other.Length));
    Check.Throws<ObjectDisposedException>(() => cache.Prefixes.Clear());
  }

  public static void UseAfterTheEnd() {
    Cache cache = Model.Cache();
    Sequence sequence = cache.CreateSequence();
    Step step = cache.Begin(sequence, 0);
    Model.Layer(step, 0);
    step.Commit();
    Check.Throws<KvcHandleException>(() => step.Commit());
    Check.Throws<KvcHandleException>(step.Abort);
    cache.Destroy();
    Check.Throws<KvcHandleException>(cache.Destroy);
    Check.Throws<KvcHandleException>(() => GC.KeepAlive(sequence.Length));
  }

  public static void ASequenceOutlivesItsDisposeInAStep() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Step step = cache.Begin(sequence, 1);
      sequence.Dispose();
      Check.Equal(1, cache.Stats().Sequences, "sequences while the step is open");
      Model.Layer(step, 1);
      step.Commit();
      Check.Equal(0, cache.Stats().Sequences, "sequences after the step");
    }
  }

  public static void DroppedObjectsLeaveNothing() {
    using (Cache cache = Model.Cache()) {
      Check.Apart(() => {
        Sequence source = cache.CreateSequence();
        Model.Run(cache, source, 3);
        for (int i = 0; i < 40000; i++) cache.CreateSequence();
        for (int i = 0; i < 30000; i++) source.Fork(3);
        for (int i = 0; i < 15000; i++) cache.Begin(cache.CreateSequence(), 1);   // a sequence and a step that holds it
      });
      Check.Apart(() => {});   // overwrites what the first thread left on its stack
      Check.Collect();
      CacheStats stats = cache.Stats();
      Check.Equal(0, stats.Sequences, "live sequences");
      Check.Equal(0, stats.OpenSteps, "open steps");
      Check.Equal(0, stats.RecordBytes, "bytes of records");
    }
  }

  // Each takes an arena of 64 MB of address space: 400 that nobody destroyed would be 25 GB.
  public static void DroppedCachesLeaveNothing() {
    long before = AddressSpace();
    Check.Apart(() => {
      CacheOptions options = Model.Options();
      options.ArenaTokens = options.ArenaSequences = 0;
      options.ArenaBytes = 64 << 20;
      for (int i = 0; i < 400; i++) {
        var cache = new Cache(options);
        Model.Run(cache, cache.CreateSequence(), 64);
        if (i % 50 == 0) Check.Collect();
      }
    });
    Check.Collect();
    Check.That(AddressSpace() - before < 8L << 30, "the address space grew by " + (AddressSpace() - before));
  }

  static long AddressSpace() => long.Parse(System.IO.File.ReadAllText("/proc/self/statm").Split(' ')[0]) * 4096;
}
