package kvc.raw;

/** A call of kvc failed and changed nothing. The status is one of {@link kvc_status}. */
public final class KvcException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private final int status;

  KvcException(int status, String message) {
    super(message);
    this.status = status;
  }

  /** The status of the failed call; a status that this binding does not know is an IllegalArgumentException. */
  public kvc_status status() {
    return kvc_status.swigToEnum(status);
  }
}
