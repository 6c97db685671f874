package kvc;

import kvc.raw.kvc_status;

/** What became of a call: the statuses of kvc.h. */
public enum Status {
  OK(kvc_status.KVC_OK),
  ARGUMENT(kvc_status.KVC_E_ARGUMENT),
  HANDLE(kvc_status.KVC_E_HANDLE),
  RANGE(kvc_status.KVC_E_RANGE),
  ORDER(kvc_status.KVC_E_ORDER),
  BUSY(kvc_status.KVC_E_BUSY),
  NO_MEMORY(kvc_status.KVC_E_NO_MEMORY),
  NONFINITE(kvc_status.KVC_E_NONFINITE),
  UNSUPPORTED(kvc_status.KVC_E_UNSUPPORTED),
  FORKED(kvc_status.KVC_E_FORKED),
  INTERNAL(kvc_status.KVC_E_INTERNAL),
  CORRUPT(kvc_status.KVC_E_CORRUPT),
  IO(kvc_status.KVC_E_IO),
  DEVICE(kvc_status.KVC_E_DEVICE),
  CAPTURE(kvc_status.KVC_E_CAPTURE),
  AGAIN(kvc_status.KVC_E_AGAIN);

  private final kvc_status raw;

  Status(kvc_status raw) { this.raw = raw; }

  /** Its number in kvc.h. */
  public int code() { return raw.swigValue(); }

  /** The status of a number; one that this binding does not know is refused. */
  public static Status of(int code) {
    kvc_status raw = kvc_status.swigToEnum(code);
    for (Status status : values()) if (status.raw == raw) return status;
    throw new IllegalArgumentException("kvc: no status " + code);
  }

  /** Its name in kvc.h, as the library says it. */
  public String cName() { return kvc.raw.kvc.kvc_status_name(code()); }
}
