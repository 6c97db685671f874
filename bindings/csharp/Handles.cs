using System;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Kvc.Raw {

/// <summary>A call of kvc failed and changed nothing.</summary>
public sealed class KvcException : Exception {
  readonly int status;

  internal KvcException(int status, string message) : base(message) { this.status = status; }

  /// <summary>The status of the failed call; one that this binding does not know is an exception of its own.</summary>
  public kvc_status Status {
    get {
      if (!Enum.IsDefined(typeof(kvc_status), status)) throw new InvalidOperationException("unknown kvc_status " + status, this);
      return (kvc_status)status;
    }
  }
}

/// <summary>A cache. Destroyed by Dispose, by kvc_destroy, or when nothing refers to it any more.</summary>
public sealed class CacheHandle : SafeHandleZeroOrMinusOneIsInvalid {
  CacheHandle() : base(true) {}

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseCache(IntPtr cache);

  // Handles carry a generation: releasing a cache that kvc_destroy ended already is refused by the library and harmless.
  protected override bool ReleaseHandle() {
    KvcReleaseCache(handle);
    return true;
  }
}

/// <summary>A step. Commit or abort ends it; one that is left open is aborted when nothing refers to it any more.</summary>
public sealed class StepHandle : SafeHandleZeroOrMinusOneIsInvalid {
  StepHandle() : base(true) {}

  [DllImport("kvc_csharp")]
  static extern void KvcReleaseStep(IntPtr step);

  protected override bool ReleaseHandle() {
    KvcReleaseStep(handle);
    return true;
  }
}

}
