using System;
using System.Runtime.InteropServices;
using System.Threading;
using Kvc;

/// <summary>What the binding does with buffers, over the device that witness.c plays.</summary>
static unsafe class DeviceTests {
  [DllImport("libwitness.so")]
  static extern long witness_buffers();
  [DllImport("libwitness.so")]
  static extern long witness_late();

  static DeviceBuffer Buffer(Cache cache) => cache.CreateBuffer(BufferKind.Pinned, 256);

  public static void BuffersGoBeforeTheirCacheInAnyOrder() {
    foreach (int[] order in new[] {new[] {0, 1, 2}, new[] {1, 0, 2}, new[] {1, 2, 0}, new[] {2, 0, 1}}) {
      Cache cache = Model.Cache();
      IDisposable[] all = {cache, Buffer(cache), Buffer(cache)};
      Check.Equal(2, witness_buffers(), "live buffers");
      foreach (int i in order) all[i].Dispose();
      foreach (int i in order) all[i].Dispose();
      Check.Equal(0, witness_buffers(), "live buffers");
      Check.Throws<ObjectDisposedException>(() => cache.CreateSequence());
    }
    Check.Equal(0, witness_late(), "buffers destroyed later than their cache");
  }

  public static void DroppedBuffersLeaveNothing() {
    Check.Apart(() => {
      for (int i = 0; i < 200; i++) {
        Cache cache = Model.Cache();
        for (int j = 0; j < 50; j++) Buffer(cache);
      }
    });
    Check.Apart(() => {});   // overwrites what the first thread left on its stack
    Check.Collect();
    Check.Equal(0, witness_buffers(), "live buffers");
    Check.Equal(0, witness_late(), "buffers destroyed later than their cache");
  }

  public static void BuffersAreDestroyedOnce() {
    using (Cache cache = Model.Cache()) {
      DeviceBuffer buffer = Buffer(cache);
      buffer.Destroy();
      Check.Throws<ObjectDisposedException>(buffer.Destroy);
      Check.Throws<ObjectDisposedException>(() => GC.KeepAlive(buffer.Address));
      buffer.Dispose();
      Check.Equal(0, witness_buffers(), "live buffers");
      for (int i = 0; i < 200; i++) {
        DeviceBuffer one = Buffer(cache);
        Check.Together(one.Dispose, one.Dispose);
      }
      for (int i = 0; i < 200; i++) {
        DeviceBuffer one = Buffer(cache);
        int destroyed = 0;
        Action destroy = () => {
          try {
            one.Destroy();
            Interlocked.Increment(ref destroyed);
          } catch (ObjectDisposedException) {
          }
        };
        Check.Together(destroy, destroy, one.Dispose);
        Check.That(destroyed <= 1, "destroyed twice");
      }
      Check.Equal(0, witness_buffers(), "live buffers");
      Check.Throws<KvcUnsupportedException>(() => cache.CreateBuffer(BufferKind.Device, 256));
    }   // what was refused holds no cache
    Check.Equal(0, witness_late(), "buffers destroyed later than their cache");
  }

  public static void AnAddressEndsWithItsMemory() {
    Cache cache = Model.Cache();
    DeviceBuffer disposed = Buffer(cache), held = Buffer(cache);
    disposed.Dispose();
    Check.Throws<ObjectDisposedException>(() => GC.KeepAlive(disposed.Address));
    cache.Dispose();   // waits for its buffers
    Check.That(held.Address != IntPtr.Zero, "the address of a buffer that holds its cache");
    held.Dispose();
    Check.Equal(0, witness_late(), "buffers destroyed later than their cache");
    cache = Model.Cache();
    held = Buffer(cache);
    cache.Destroy();   // does not wait
    Check.Throws<ObjectDisposedException>(() => GC.KeepAlive(held.Address));
    held.Dispose();
    Check.Equal(1, witness_late(), "buffers destroyed later than their cache");
  }

  public static void CopiesGoFromHereToThere() {
    using (Cache cache = Model.Cache())
    using (DeviceBuffer buffer = Buffer(cache)) {
      long number = 0x0123456789abcdef;
      cache.Copy(buffer.Address, Device.Cuda, (IntPtr)(&number), Device.Cpu, 8);
      Check.Equal(number, *(long*)buffer.Address, "what arrived");
      Check.Equal(256, buffer.Bytes, "bytes");
      Check.Equal(BufferKind.Pinned, buffer.Kind, "kind");
    }
  }
}
