"""One exception per status of the library; all are KvcError."""


class KvcError(Exception):
    """A call of kvc that failed; the cache is as it was before the call."""
    status_name = ""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


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


class LibraryError(KvcError):
    """libkvc was not found, or is another version than this binding can use."""


BY_STATUS_NAME = {kind.status_name: kind for kind in KvcError.__subclasses__() if kind.status_name}
