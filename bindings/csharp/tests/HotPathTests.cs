using System;
using System.Runtime.InteropServices;
using Kvc;

/// <summary>Append and attend allocate nothing on the managed heap and hand the caller's own memory to C.</summary>
static unsafe class HotPathTests {
  const int Layers = 500;

  [DllImport("libwitness.so")]
  static extern IntPtr witness_seen(int which);

  public static void NothingIsAllocated() {
    CacheOptions shape = Model.Options();
    shape.Layers = Layers;
    shape.ArenaTokens = 128;
    float[] k = Model.Row(1, 1), v = Model.Row(1, 2), q = Model.Row(1, 3), output = new float[Model.Dim], lse = new float[1];
    var attend = new AttendOptions {Scale = 0.5f};
    using (var cache = new Cache(shape)) {
      Sequence sequence = cache.CreateSequence();
      for (int round = 0; round < 2; round++) {   // the first one compiles
        using (Step step = cache.Begin(sequence, 1)) {
          long before = GC.GetAllocatedBytesForCurrentThread();
          for (int layer = 0; layer < Layers; layer++) {
            step.Append(layer, k, v);
            step.Attend(layer, q, output, lse, attend);
          }
          long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
          if (round == 1) Check.Equal(0, allocated, "bytes allocated by " + Layers + " appends and attends");
          step.Commit();
        }
      }
      long start = GC.GetAllocatedBytesForCurrentThread();
      GC.KeepAlive(new byte[100]);
      Check.That(GC.GetAllocatedBytesForCurrentThread() > start, "this run time does not count what is allocated");
    }
  }

  public static void NothingIsCopied() {
    float[] k = Model.Row(1, 1), v = Model.Row(1, 2), q = Model.Row(1, 3), output = new float[Model.Dim], lse = new float[1];
    using (Cache cache = Model.Cache())
    using (Step step = cache.Begin(cache.CreateSequence(), 1))
      fixed (float* pk = k, pv = v, pq = q, po = output, pl = lse) {
        step.Append(0, k, v);
        step.Attend(0, q, output, lse);
        IntPtr[] given = {(IntPtr)pk, (IntPtr)pv, (IntPtr)pq, (IntPtr)po, (IntPtr)pl};
        for (int i = 0; i < given.Length; i++) Check.Equal(given[i], witness_seen(i), "address of buffer " + i);
      }
  }
}
