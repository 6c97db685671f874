"""One exception per status of the library; all are KvcError."""


class KvcError(Exception):
    """A call of kvc that failed; the cache is as it was before the call."""
    status_name = ""

    def __init__(self, message: str, status: int = 0, operation: str = ""):
        super().__init__(message)
        if not status and self.status_name:  # refused by the binding itself
            from .structs import Status
            status = Status[self.status_name.removeprefix("KVC_")]
        self.message = message      # what, which and the limit
        self.status = status        # a kvc.Status, or a number that this binding does not know
        self.operation = operation  # the function of kvc.h, without "kvc_"


class ArgumentError(KvcError, ValueError):
    status_name = "KVC_E_ARGUMENT"


class HandleError(KvcError):
    status_name = "KVC_E_HANDLE"


class RangeError(KvcError, IndexError):
    status_name = "KVC_E_RANGE"


class OrderError(KvcError):
    status_name = "KVC_E_ORDER"


class BusyError(KvcError):
    status_name = "KVC_E_BUSY"


class OutOfMemoryError(KvcError, MemoryError):
    status_name = "KVC_E_NO_MEMORY"


class NonFiniteError(KvcError, ValueError):
    status_name = "KVC_E_NONFINITE"


class UnsupportedError(KvcError, NotImplementedError):
    status_name = "KVC_E_UNSUPPORTED"


class ForkedError(KvcError):
    status_name = "KVC_E_FORKED"


class InternalError(KvcError):
    status_name = "KVC_E_INTERNAL"


class CorruptError(KvcError, ValueError):
    status_name = "KVC_E_CORRUPT"


class FileError(KvcError, OSError):
    status_name = "KVC_E_IO"


class DeviceError(KvcError):
    status_name = "KVC_E_DEVICE"


class CaptureError(KvcError):
    status_name = "KVC_E_CAPTURE"


class AgainError(KvcError, BlockingIOError):
    status_name = "KVC_E_AGAIN"


class LibraryError(KvcError, ImportError):
    """libkvc or the compiled part of this binding was not found, or is another version than this binding can use."""


BY_STATUS_NAME = {kind.status_name: kind for kind in KvcError.__subclasses__() if kind.status_name}


def of_status(status: int, operation: str, message: str) -> KvcError:
    """The exception for a failed call; the compiled part raises what this returns."""
    from .structs import Status
    try:
        known = Status(status)
    except ValueError:
        return InternalError(f"{operation}: status {status}, which this binding does not know: {message}", status, operation)
    return BY_STATUS_NAME["KVC_" + known.name](message or f"{operation}: {known.name}", known, operation)
