using System;
using System.Collections.Generic;
using System.Threading;

/// <summary>What tests claim.</summary>
static class Check {
  internal static void That(bool holds, string what) {
    if (!holds) throw new Exception(what);
  }

  internal static void Equal<T>(T expected, T actual, string what) {
    if (!EqualityComparer<T>.Default.Equals(expected, actual))
      throw new Exception(what + ": expected " + expected + ", got " + actual);
  }

  internal static T Throws<T>(Action call) where T : Exception {
    try {
      call();
    } catch (T e) {
      return e;
    }
    throw new Exception(typeof(T).Name + " was expected, nothing was thrown");
  }

  /// <summary>Runs all at once, each on a thread, and passes on what the first that failed threw.</summary>
  internal static void Together(params Action[] actions) {
    Exception fault = null;
    var threads = Array.ConvertAll(actions, action => new Thread(() => {
      try {
        action();
      } catch (Exception e) {
        Interlocked.CompareExchange(ref fault, e, null);
      }
    }));
    foreach (Thread thread in threads) thread.Start();
    foreach (Thread thread in threads) thread.Join();
    if (fault != null) throw new Exception("on another thread", fault);
  }

  /// <summary>On a thread of its own, so that nothing on this one's stack can keep alive what it dropped.</summary>
  internal static void Apart(Action action) => Together(action);

  internal static void Collect() {
    for (int i = 0; i < 3; i++) {
      GC.Collect();
      GC.WaitForPendingFinalizers();
    }
  }
}
