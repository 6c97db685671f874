using System;
using System.Runtime.InteropServices;
using System.Threading;
using Microsoft.Win32.SafeHandles;

namespace Kvc.Raw {

// A SafeHandle that a call uses is not released before the call has returned, whatever Dispose and the collector do meanwhile. The
// values carry a generation: releasing what kvc ended already is refused by kvc and harmless, so that finalizers may run in any order.

/// <summary>A cache. Destroyed by Dispose, by kvc_destroy, or when nothing refers to it any more.</summary>
sealed class CacheHandle : SafeHandleZeroOrMinusOneIsInvalid {
  internal CacheHandle() : base(true) {}

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseCache(IntPtr cache);

  protected override bool ReleaseHandle() {
    KvcReleaseCache(handle);
    return true;
  }
}

/// <summary>A sequence. Destroyed by Dispose, by kvc_seq_destroy, or when nothing refers to it any more; not before the steps it is in.</summary>
sealed class SequenceHandle : SafeHandleZeroOrMinusOneIsInvalid {
  IntPtr cache;   // as a value: a sequence of a destroyed cache is gone already

  internal SequenceHandle() : base(true) {}

  internal SequenceHandle(long value) : base(true) { SetHandle((IntPtr)value); }

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseSequence(IntPtr cache, IntPtr seq);

  internal long Value => (long)handle;

  internal SequenceHandle Of(CacheHandle owner) {
    cache = owner.DangerousGetHandle();
    return this;
  }

  protected override bool ReleaseHandle() {
    KvcReleaseSequence(cache, handle);
    return true;
  }
}

/// <summary>A step. Commit or abort ends it; one that is left open is aborted when nothing refers to it any more.</summary>
sealed class StepHandle : SafeHandleZeroOrMinusOneIsInvalid {
  SequenceHandle[] held;
  GraphHandle graph;   // held; null: none

  internal StepHandle() : base(true) {}

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseStep(IntPtr step);

  /// <summary>Takes over references to the step's sequences and graph: kvc destroys none that an open step has.</summary>
  internal void Hold(SequenceHandle[] sequences, GraphHandle named) {
    graph = named;
    held = sequences;
  }

  /// <summary>The step has ended in kvc. The handle stays as the stale value that it is now.</summary>
  internal void End() {
    GC.SuppressFinalize(this);
    Let();
  }

  void Let() {
    SequenceHandle[] let = Interlocked.Exchange(ref held, null);
    if (let == null) return;
    foreach (SequenceHandle sequence in let) sequence.DangerousRelease();
    graph?.DangerousRelease();
  }

  protected override bool ReleaseHandle() {
    KvcReleaseStep(handle);
    Let();
    return true;
  }
}

/// <summary>A graph. The cache is not destroyed by Dispose or the collector before its graphs are.</summary>
sealed class GraphHandle : SafeHandleZeroOrMinusOneIsInvalid {
  CacheHandle cache;   // held; null once it was let go

  internal GraphHandle(CacheHandle cache) : base(true) {
    bool held = false;
    cache.DangerousAddRef(ref held);
    this.cache = cache;
  }

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseGraph(IntPtr graph);

  internal void Set(IntPtr graph) => SetHandle(graph);

  /// <summary>For a graph that kvc did not make, or destroyed itself.</summary>
  internal void Forget() {
    SetHandleAsInvalid();
    Interlocked.Exchange(ref cache, null)?.DangerousRelease();
  }

  protected override bool ReleaseHandle() {
    CacheHandle held = Interlocked.Exchange(ref cache, null);
    if (held == null) return true;
    KvcReleaseGraph(handle);
    held.DangerousRelease();
    return true;
  }
}

/// <summary>Memory of a cache's device. The cache is not destroyed by Dispose or the collector before its buffers are.</summary>
sealed class BufferHandle : SafeHandleZeroOrMinusOneIsInvalid {
  readonly int kind;
  CacheHandle cache;   // held; null once it was let go

  internal BufferHandle(CacheHandle cache, int kind) : base(true) {
    bool held = false;
    cache.DangerousAddRef(ref held);
    this.cache = cache;
    this.kind = kind;
  }

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseBuffer(IntPtr cache, int kind, IntPtr buffer);

  internal void Set(IntPtr buffer) => SetHandle(buffer);

  /// <summary>For a buffer that kvc did not make, or destroyed itself.</summary>
  internal void Forget() {
    SetHandleAsInvalid();
    Interlocked.Exchange(ref cache, null)?.DangerousRelease();
  }

  protected override bool ReleaseHandle() {
    CacheHandle held = Interlocked.Exchange(ref cache, null);
    if (held == null) return true;
    KvcReleaseBuffer(held.DangerousGetHandle(), kind, handle);
    held.DangerousRelease();
    return true;
  }
}

}
