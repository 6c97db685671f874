package kvc;

import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import kvc.raw.kvc_buffer_kind;

/** Memory of a cache's device, for callers that have no library of the device's own. It ends with its cache at the latest. */
public final class DeviceBuffer extends Handle {
  /** PINNED is memory of the host that the device reads and writes without a copy in between. */
  public enum Kind {
    DEVICE(kvc_buffer_kind.KVC_BUFFER_DEVICE),
    PINNED(kvc_buffer_kind.KVC_BUFFER_PINNED);

    final kvc_buffer_kind raw;

    Kind(kvc_buffer_kind raw) { this.raw = raw; }
  }

  private final Cache cache;
  private final State state;
  private final Device place;
  private final long bytes;

  DeviceBuffer(Cache cache, Kind kind, long bytes, long address) { this(cache, new State(cache.state, kind, address), kind, bytes); }

  private DeviceBuffer(Cache cache, State state, Kind kind, long bytes) {
    super(state);
    this.cache = cache;
    this.state = state;
    this.bytes = bytes;
    place = kind == Kind.DEVICE ? Device.CUDA : Device.CPU;
    cache.state.buffers.add(state);
  }

  /**
   * What steps take as k, v, q, out and lse. It does not hold this buffer: the memory is nobody's once it is closed, or collected, so close it
   * yourself after what was given the address, or say Reference.reachabilityFence(buffer) there.
   */
  public long address() { return live(); }

  public long bytes() { return bytes; }

  /** Copies from a direct buffer on the host, position to limit, to the beginning of this one. */
  public void copyFrom(ByteBuffer from) {
    copy(() -> kvc_buffer_copy_from(cache.handle, live(), place.raw.swigValue(), fitting("from", from, false)));
  }

  /** Copies the beginning of this one to a direct buffer on the host, from its position to its limit. */
  public void copyTo(ByteBuffer to) {
    copy(() -> kvc_buffer_copy_to(cache.handle, fitting("to", to, true), live(), place.raw.swigValue()));
  }

  private void copy(Runnable call) {
    state.copies.readLock().lock();
    try {
      run(call);
    } finally {
      state.copies.readLock().unlock();
    }
  }

  private ByteBuffer fitting(String name, ByteBuffer host, boolean written) {
    if (host.remaining() > bytes)
      throw new KvcException.Argument("kvc_buffer_copy", name + ": " + host.remaining() + " bytes, the device buffer has " + bytes);
    return direct("kvc_buffer_copy", name, host, host.order(), written); // what lies there is numbers, mostly
  }

  /** An address is no handle that C could check. */
  private long live() {
    if (!state.open.get()) throw new IllegalStateException("kvc: the device buffer is closed");
    return state.address;
  }

  static final class State extends Handle.State {
    private final Cache.State cache;
    private final Kind kind;
    private final long address;
    private final ReadWriteLock copies = new ReentrantReadWriteLock(); // an address is no handle: until they return, it may be nobody else's

    State(Cache.State cache, Kind kind, long address) {
      this.cache = cache;
      this.kind = kind;
      this.address = address;
    }

    @Override
    String noun() { return "DeviceBuffer"; }

    @Override
    void destroy() {
      copies.writeLock().lock();
      try {
        kvc_buffer_destroy(cache.handle, kind.raw.swigValue(), address);
      } finally {
        copies.writeLock().unlock();
      }
      cache.buffers.remove(this);
    }

    @Override
    boolean covered() { return !cache.open.get(); }
  }
}
