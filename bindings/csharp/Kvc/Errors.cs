using System;
using Kvc.Raw;

namespace Kvc {

/// <summary>A call of kvc failed and changed nothing. There is a class for every status.</summary>
public abstract class KvcException : Exception {
  internal KvcException(Status status, string operation, string message) : base(message) {
    Status = status;
    Operation = operation;
  }

  /// <summary>The status of the failed call.</summary>
  public Status Status { get; }

  /// <summary>The function of kvc.h that failed.</summary>
  public string Operation { get; }

  // A status that this binding does not know is an exception of its own, never another status.
  internal static Exception Of(int status, string operation, string message) {
    switch ((kvc_status)status) {
    case kvc_status.KVC_E_ARGUMENT: return new KvcArgumentException(operation, message);
    case kvc_status.KVC_E_HANDLE: return new KvcHandleException(operation, message);
    case kvc_status.KVC_E_RANGE: return new KvcRangeException(operation, message);
    case kvc_status.KVC_E_ORDER: return new KvcOrderException(operation, message);
    case kvc_status.KVC_E_BUSY: return new KvcBusyException(operation, message);
    case kvc_status.KVC_E_NO_MEMORY: return new KvcNoMemoryException(operation, message);
    case kvc_status.KVC_E_NONFINITE: return new KvcNonfiniteException(operation, message);
    case kvc_status.KVC_E_UNSUPPORTED: return new KvcUnsupportedException(operation, message);
    case kvc_status.KVC_E_FORKED: return new KvcForkedException(operation, message);
    case kvc_status.KVC_E_INTERNAL: return new KvcInternalException(operation, message);
    case kvc_status.KVC_E_CORRUPT: return new KvcCorruptException(operation, message);
    case kvc_status.KVC_E_IO: return new KvcIOException(operation, message);
    case kvc_status.KVC_E_DEVICE: return new KvcDeviceException(operation, message);
    case kvc_status.KVC_E_CAPTURE: return new KvcCaptureException(operation, message);
    case kvc_status.KVC_E_AGAIN: return new KvcAgainException(operation, message);
    default: return new InvalidOperationException(operation + ": unknown kvc_status " + status + ": " + message);
    }
  }
}

/// <summary>A value is wrong; the message says which and what is allowed.</summary>
public sealed class KvcArgumentException : KvcException {
  internal KvcArgumentException(string operation, string message) : base(Status.Argument, operation, message) {}
}

/// <summary>Not a live cache, step or sequence.</summary>
public sealed class KvcHandleException : KvcException {
  internal KvcHandleException(string operation, string message) : base(Status.Handle, operation, message) {}
}

/// <summary>A position that is not held, or below the exact floor.</summary>
public sealed class KvcRangeException : KvcException {
  internal KvcRangeException(string operation, string message) : base(Status.Range, operation, message) {}
}

/// <summary>The calls of a step came in the wrong order.</summary>
public sealed class KvcOrderException : KvcException {
  internal KvcOrderException(string operation, string message) : base(Status.Order, operation, message) {}
}

/// <summary>The sequence belongs to an open step.</summary>
public sealed class KvcBusyException : KvcException {
  internal KvcBusyException(string operation, string message) : base(Status.Busy, operation, message) {}
}

/// <summary>Arena, budget or host memory is exhausted; retry after freeing.</summary>
public sealed class KvcNoMemoryException : KvcException {
  internal KvcNoMemoryException(string operation, string message) : base(Status.NoMemory, operation, message) {}
}

/// <summary>NaN, infinity, or a number beyond the window's type.</summary>
public sealed class KvcNonfiniteException : KvcException {
  internal KvcNonfiniteException(string operation, string message) : base(Status.Nonfinite, operation, message) {}
}

/// <summary>A valid request that this build or machine cannot serve.</summary>
public sealed class KvcUnsupportedException : KvcException {
  internal KvcUnsupportedException(string operation, string message) : base(Status.Unsupported, operation, message) {}
}

/// <summary>The process forked and this call needs what did not survive.</summary>
public sealed class KvcForkedException : KvcException {
  internal KvcForkedException(string operation, string message) : base(Status.Forked, operation, message) {}
}

/// <summary>A fault of kvc; please report it.</summary>
public sealed class KvcInternalException : KvcException {
  internal KvcInternalException(string operation, string message) : base(Status.Internal, operation, message) {}
}

/// <summary>Bytes that are no snapshot, or no longer one.</summary>
public sealed class KvcCorruptException : KvcException {
  internal KvcCorruptException(string operation, string message) : base(Status.Corrupt, operation, message) {}
}

/// <summary>A file could not be read or written; the message has the system's reason.</summary>
public sealed class KvcIOException : KvcException {
  internal KvcIOException(string operation, string message) : base(Status.Io, operation, message) {}
}

/// <summary>The device failed; the cache only answers now, dispose of it.</summary>
public sealed class KvcDeviceException : KvcException {
  internal KvcDeviceException(string operation, string message) : base(Status.Device, operation, message) {}
}

/// <summary>Not what a graph was created or captured for, or a call that a capture cannot hold.</summary>
public sealed class KvcCaptureException : KvcException {
  internal KvcCaptureException(string operation, string message) : base(Status.Capture, operation, message) {}
}

/// <summary>Nothing is free now: the same call later succeeds.</summary>
public sealed class KvcAgainException : KvcException {
  internal KvcAgainException(string operation, string message) : base(Status.Again, operation, message) {}
}

}
