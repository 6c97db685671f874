using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>Memory of a cache's device, or of the host for it. Its cache lives at least as long, unless Cache.Destroy ends it.</summary>
public sealed class DeviceBuffer : IDisposable {
  readonly BufferHandle handle;
  readonly Cache cache;
  readonly IntPtr address;

  internal DeviceBuffer(Cache cache, BufferKind kind, long bytes) {
    this.cache = cache;
    Kind = kind;
    Bytes = bytes;
    handle = new BufferHandle(cache.handle, (int)kind);
    try {
      handle.Set(kvc.kvc_buffer_create(cache.handle, (int)kind, bytes));
    } catch {
      handle.Forget();
      throw;
    }
    address = handle.DangerousGetHandle();
  }

  /// <summary>Its address, for Step and Cache.Copy. The memory is gone with this object: keep it until they have returned.</summary>
  public IntPtr Address => handle.IsClosed || cache.Ended ? throw new ObjectDisposedException(nameof(DeviceBuffer)) : address;

  public long Bytes { get; }

  public BufferKind Kind { get; }

  /// <summary>Waits for what still uses the buffer and destroys it; reports what Dispose would keep to itself.</summary>
  public void Destroy() {
    lock (handle) {   // an address is no handle: destroyed twice, it could be another buffer's
      if (handle.IsClosed) throw new ObjectDisposedException(nameof(DeviceBuffer));
      kvc.kvc_buffer_destroy(cache.handle, (int)Kind, address);
      handle.Forget();
    }
  }

  /// <summary>Waits for what still uses the buffer and destroys it.</summary>
  public void Dispose() {
    lock (handle) handle.Dispose();
  }
}

}
