"""Finds and loads libkvc, and turns its statuses into exceptions."""
import ctypes
import ctypes.util
import os
from pathlib import Path

from .abi import Abi
from .errors import BY_STATUS_NAME, ArgumentError, InternalError, KvcError, LibraryError

ABI_VERSION = 1

_I64, _I32, _POINTER, _TEXT = ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p, ctypes.c_char_p
# Result and arguments of every function of kvc.h, in its order. Structs and buffers go as addresses.
_SIGNATURES = {
    "kvc_version": (_TEXT, []),
    "kvc_abi_version": (_I64, []),
    "kvc_build_info": (_TEXT, []),
    "kvc_abi_describe": (_I64, [_POINTER, _I64]),
    "kvc_status_name": (_TEXT, [_I32]),
    "kvc_preset_count": (_I64, []),
    "kvc_preset_name": (_TEXT, [_I64]),
    "kvc_codec_format": (_I64, [_TEXT, _POINTER, _I64, _POINTER]),
    "kvc_policy_count": (_I64, []),
    "kvc_policy_name": (_TEXT, [_I64]),
    "kvc_policy_format": (_I64, [_TEXT, _POINTER, _I64, _POINTER]),
    "kvc_target_count": (_I64, []),
    "kvc_target_name": (_TEXT, [_I64]),
    "kvc_device_count": (_I64, [_I32, _POINTER]),
    "kvc_device_describe": (_I64, [_I32, _I64, _POINTER, _I64, _POINTER]),
    "kvc_options_init": (_I32, [_POINTER, _I64]),
    "kvc_layer_init": (_I32, [_POINTER, _I64]),
    "kvc_supports": (_I32, [_POINTER, _POINTER, _I64, _POINTER]),
    "kvc_plan_request_init": (_I32, [_POINTER, _I64]),
    "kvc_plan_compute": (_I32, [_POINTER, _POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_create": (_POINTER, [_POINTER, _POINTER, _I64, _POINTER]),
    "kvc_destroy": (_I32, [_POINTER, _POINTER]),
    "kvc_sink_logits_set": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER]),
    "kvc_rope_frequencies_set": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER]),
    "kvc_seq_options_init": (_I32, [_POINTER, _I64]),
    "kvc_seq_create": (_I64, [_POINTER, _POINTER, _POINTER]),
    "kvc_seq_destroy": (_I32, [_POINTER, _I64, _POINTER]),
    "kvc_seq_fork": (_I64, [_POINTER, _I64, _I64, _I32, _POINTER]),
    "kvc_seq_truncate": (_I32, [_POINTER, _I64, _I64, _I32, _POINTER]),
    "kvc_seq_length": (_I32, [_POINTER, _I64, _POINTER, _POINTER]),
    "kvc_seq_exact_floor": (_I32, [_POINTER, _I64, _POINTER, _POINTER]),
    "kvc_seq_live": (_I32, [_POINTER, _I64, _I64, _I64, _POINTER, _POINTER]),
    "kvc_seq_positions": (_I32, [_POINTER, _I64, _I64, _I64, _POINTER, _I64, _POINTER]),
    "kvc_seq_prompt_set": (_I32, [_POINTER, _I64, _I64, _POINTER]),
    "kvc_seq_budget_set": (_I32, [_POINTER, _I64, _I64, _POINTER]),
    "kvc_seq_step_limit": (_I32, [_POINTER, _I64, _POINTER, _POINTER]),
    "kvc_step_options_init": (_I32, [_POINTER, _I64]),
    "kvc_step_begin": (_POINTER, [_POINTER, _POINTER, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_append": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _I64, _POINTER]),
    "kvc_step_commit": (_I32, [_POINTER, _POINTER, _I64, _POINTER]),
    "kvc_step_abort": (_I32, [_POINTER, _POINTER]),
    "kvc_synchronize": (_I32, [_POINTER, _POINTER]),
    "kvc_buffer_create": (_POINTER, [_POINTER, _I32, _I64, _POINTER]),
    "kvc_buffer_destroy": (_I32, [_POINTER, _I32, _POINTER, _POINTER]),
    "kvc_buffer_copy": (_I32, [_POINTER, _POINTER, _I32, _POINTER, _I32, _I64, _POINTER]),
    "kvc_attend_options_init": (_I32, [_POINTER, _I64]),
    "kvc_attend": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_evict_options_init": (_I32, [_POINTER, _I64]),
    "kvc_evict": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_evict_keep": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_prefix_options_init": (_I32, [_POINTER, _I64]),
    "kvc_prefix_publish": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_prefix_lookup": (_I64, [_POINTER, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_prefix_remove": (_I32, [_POINTER, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_prefix_clear": (_I32, [_POINTER, _POINTER]),
    "kvc_prefix_budget_set": (_I32, [_POINTER, _I64, _POINTER]),
    "kvc_prefix_stats_get": (_I32, [_POINTER, _POINTER, _POINTER]),
    "kvc_merge_options_init": (_I32, [_POINTER, _I64]),
    "kvc_merge": (_I32, [_POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_seq_read_counts": (_I32, [_POINTER, _I64, _I64, _I64, _POINTER, _I64, _POINTER]),
    "kvc_step_down_options_init": (_I32, [_POINTER, _I64]),
    "kvc_step_down": (_I32, [_POINTER, _I64, _POINTER, _POINTER, _POINTER]),
    "kvc_seq_read_rungs": (_I32, [_POINTER, _I64, _I64, _I64, _POINTER, _I64, _POINTER]),
    "kvc_seq_read": (_I32, [_POINTER, _I64, _I64, _I64, _I32, _I64, _I64, _POINTER, _I64, _POINTER]),
    "kvc_seq_read_codes": (_I32, [_POINTER, _I64, _I64, _I64, _I32, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_seq_read_mass": (_I32, [_POINTER, _I64, _I64, _I64, _POINTER, _I64, _POINTER]),
    "kvc_stats_get": (_I32, [_POINTER, _POINTER, _POINTER]),
    "kvc_seq_stats_get": (_I32, [_POINTER, _I64, _POINTER, _POINTER]),
    "kvc_snapshot_export": (_I32, [_POINTER, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_snapshot_import": (_I32, [_POINTER, _POINTER, _I64, _POINTER, _I64, _POINTER, _POINTER]),
    "kvc_snapshot_save": (_I32, [_POINTER, _POINTER, _I64, _TEXT, _POINTER]),
    "kvc_snapshot_load": (_I32, [_POINTER, _TEXT, _POINTER, _I64, _POINTER, _POINTER]),
}


def library_path(path: str | os.PathLike | None = None) -> str:
    """The argument, KVC_LIBRARY, the clone's release build, or what the system's loader finds; in this order."""
    if path:
        return os.fspath(path)
    if os.environ.get("KVC_LIBRARY"):
        return os.environ["KVC_LIBRARY"]
    for folder in Path(__file__).resolve().parents:
        built = folder / "build" / "release" / "libkvc.so"
        if built.exists():
            return str(built)
    found = ctypes.util.find_library("kvc")
    if not found:
        raise LibraryError("libkvc.so was not found: build it (make build), install it, or set KVC_LIBRARY to its path")
    return found


class Library:
    """A loaded libkvc: its functions by name, its structs, its enums."""

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = library_path(path)
        try:
            self._dll = ctypes.CDLL(self.path)
        except OSError as fault:
            raise LibraryError(f"{self.path}: {fault}") from fault
        for name, (result, arguments) in _SIGNATURES.items():
            try:
                function = getattr(self._dll, name)
            except AttributeError as fault:
                raise LibraryError(f"{self.path}: it has no {name}; it is older than this binding") from fault
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        if self.kvc_abi_version() != ABI_VERSION:
            raise LibraryError(f"{self.path}: ABI {self.kvc_abi_version()}, this binding knows {ABI_VERSION}")
        self.abi = Abi(self._describe())

    def _describe(self) -> str:
        size = self.kvc_abi_describe(None, 0)
        text = ctypes.create_string_buffer(size)
        self.kvc_abi_describe(text, size)
        return text.value.decode()

    def new_error(self) -> ctypes.Structure:
        return self.abi.new("kvc_error")

    def check(self, status: int, error: ctypes.Structure) -> None:
        if status != 0:
            raise self.exception(status, error)

    def exception(self, status: int, error: ctypes.Structure) -> KvcError:
        name = self.kvc_status_name(status).decode()
        message = error.message.decode("utf-8", "replace") or name
        kind = BY_STATUS_NAME.get(name)
        if kind is None:
            return InternalError(f"status {status}, which this binding does not know: {message}", status)
        return kind(message, status)

    def options(self, struct: str, values: dict) -> ctypes.Structure:
        """A struct with the library's defaults and the given fields; an unknown name is an error."""
        result = self.abi.new(struct)
        status = getattr(self, f"{struct}_init")(ctypes.byref(result), ctypes.sizeof(result))
        self.check(status, self.new_error())
        for name, value in values.items():
            if name.startswith("_") or not hasattr(result, name):
                raise ArgumentError(f"{struct} has no field {name}")
            setattr(result, name, value.encode() if isinstance(value, str) else value)
        return result

    def layer_array(self, layers: list[dict] | None):
        """An array of kvc_layer, or None where all layers are alike."""
        if not layers:
            return None, 0
        array = (self.abi.structs["kvc_layer"] * len(layers))()
        for i, values in enumerate(layers):
            array[i] = self.options("kvc_layer", values)
        return array, len(layers)

    def presets(self) -> list[str]:
        return [self.kvc_preset_name(i).decode() for i in range(self.kvc_preset_count())]

    def policies(self) -> list[str]:
        return [self.kvc_policy_name(i).decode() for i in range(self.kvc_policy_count())]

    def targets(self) -> list[str]:
        return [self.kvc_target_name(i).decode() for i in range(self.kvc_target_count())]

    def version(self) -> str:
        return self.kvc_version().decode()

    def build_info(self) -> str:
        return self.kvc_build_info().decode()

    def codec_format(self, codec: str) -> str:
        """The canonical string of a preset name or codec string."""
        return self._format(self.kvc_codec_format, codec)

    def policy_format(self, policy: str) -> str:
        """The canonical string of a policy, with all defaults."""
        return self._format(self.kvc_policy_format, policy)

    def _format(self, function, given: str) -> str:
        error = self.new_error()
        size = function(given.encode(), None, 0, ctypes.byref(error))
        if size == 0:
            raise self.exception(error.status, error)
        text = ctypes.create_string_buffer(size)
        function(given.encode(), text, size, ctypes.byref(error))
        return text.value.decode()


_default: Library | None = None


def default_library() -> Library:
    """The library that is loaded once for everybody who names none."""
    global _default
    if _default is None:
        _default = Library()
    return _default
