package kvc;

import java.nio.charset.StandardCharsets;

/** A call of kvc failed and changed nothing. Each status has a class of its own. */
public class KvcException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private final int code;
  private final String operation;

  private KvcException(int code, String operation, String message) {
    super(message);
    this.code = code;
    this.operation = operation;
  }

  /** The status; of a status that this binding does not know there is only the {@link #code}, and this throws. */
  public final Status status() { return Status.of(code); }

  /** The number of the status in kvc.h. */
  public final int code() { return code; }

  /** The function of kvc.h that failed, such as kvc_append. */
  public final String operation() { return operation; }

  /** Used by the raw layer. */
  public static KvcException of(int code, String operation, String message) {
    for (Status status : Status.values()) if (status.code() == code) return of(status, operation, message);
    return new KvcException(code, operation, message);
  }

  /** The same with the message as it left C, in UTF-8. */
  public static KvcException of(int code, String operation, byte[] message) {
    return of(code, operation, new String(message, StandardCharsets.UTF_8));
  }

  private static KvcException of(Status status, String operation, String message) {
    switch (status) {
      case ARGUMENT: return new Argument(operation, message);
      case HANDLE: return new Handle(operation, message);
      case RANGE: return new Range(operation, message);
      case ORDER: return new Order(operation, message);
      case BUSY: return new Busy(operation, message);
      case NO_MEMORY: return new NoMemory(operation, message);
      case NONFINITE: return new Nonfinite(operation, message);
      case UNSUPPORTED: return new Unsupported(operation, message);
      case FORKED: return new Forked(operation, message);
      case INTERNAL: return new Internal(operation, message);
      case CORRUPT: return new Corrupt(operation, message);
      case IO: return new Io(operation, message);
      case DEVICE: return new Device(operation, message);
      case CAPTURE: return new Capture(operation, message);
      case AGAIN: return new Again(operation, message);
      default: return new KvcException(status.code(), operation, message);
    }
  }

  /** A value is wrong; the message says which, and what is allowed. */
  public static final class Argument extends KvcException {
    private static final long serialVersionUID = 1L;

    Argument(String operation, String message) { super(Status.ARGUMENT.code(), operation, message); }
  }

  /** The cache, sequence or step was closed, or belongs to another cache. */
  public static final class Handle extends KvcException {
    private static final long serialVersionUID = 1L;

    Handle(String operation, String message) { super(Status.HANDLE.code(), operation, message); }
  }

  /** A position that is not held, or below the exact floor. */
  public static final class Range extends KvcException {
    private static final long serialVersionUID = 1L;

    Range(String operation, String message) { super(Status.RANGE.code(), operation, message); }
  }

  /** The calls of a step came in the wrong order. */
  public static final class Order extends KvcException {
    private static final long serialVersionUID = 1L;

    Order(String operation, String message) { super(Status.ORDER.code(), operation, message); }
  }

  /** The sequence belongs to an open step. */
  public static final class Busy extends KvcException {
    private static final long serialVersionUID = 1L;

    Busy(String operation, String message) { super(Status.BUSY.code(), operation, message); }
  }

  /** Arena, budget or host memory is exhausted; retry after freeing. */
  public static final class NoMemory extends KvcException {
    private static final long serialVersionUID = 1L;

    NoMemory(String operation, String message) { super(Status.NO_MEMORY.code(), operation, message); }
  }

  /** NaN, infinity, or a number beyond the window's type. */
  public static final class Nonfinite extends KvcException {
    private static final long serialVersionUID = 1L;

    Nonfinite(String operation, String message) { super(Status.NONFINITE.code(), operation, message); }
  }

  /** A valid request that this build or machine cannot serve; the message says why. */
  public static final class Unsupported extends KvcException {
    private static final long serialVersionUID = 1L;

    Unsupported(String operation, String message) { super(Status.UNSUPPORTED.code(), operation, message); }
  }

  /** The process forked, and this call needs what did not survive. */
  public static final class Forked extends KvcException {
    private static final long serialVersionUID = 1L;

    Forked(String operation, String message) { super(Status.FORKED.code(), operation, message); }
  }

  /** A fault of kvc; please report it. */
  public static final class Internal extends KvcException {
    private static final long serialVersionUID = 1L;

    Internal(String operation, String message) { super(Status.INTERNAL.code(), operation, message); }
  }

  /** Bytes that are no snapshot, or no longer one. */
  public static final class Corrupt extends KvcException {
    private static final long serialVersionUID = 1L;

    Corrupt(String operation, String message) { super(Status.CORRUPT.code(), operation, message); }
  }

  /** A file could not be read or written; the message has the system's reason. */
  public static final class Io extends KvcException {
    private static final long serialVersionUID = 1L;

    Io(String operation, String message) { super(Status.IO.code(), operation, message); }
  }

  /** The device failed, now or earlier; the cache is lost: it only answers, close it. */
  public static final class Device extends KvcException {
    private static final long serialVersionUID = 1L;

    Device(String operation, String message) { super(Status.DEVICE.code(), operation, message); }
  }

  /** Not what a graph was created or captured for, or a call that a capture cannot hold. */
  public static final class Capture extends KvcException {
    private static final long serialVersionUID = 1L;

    Capture(String operation, String message) { super(Status.CAPTURE.code(), operation, message); }
  }

  /** Nothing is free now: the same call later succeeds. */
  public static final class Again extends KvcException {
    private static final long serialVersionUID = 1L;

    Again(String operation, String message) { super(Status.AGAIN.code(), operation, message); }
  }
}
