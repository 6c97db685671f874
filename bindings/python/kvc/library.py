"""Finds and loads libkvc, then the compiled part of the binding, which calls it; both once, when the package is imported."""
from __future__ import annotations

import ctypes
import os
from pathlib import Path

from .errors import LibraryError

SONAME = "libkvc.so.1"
_PACKAGE = Path(__file__).resolve().parent


def library_path() -> str:
    """KVC_LIBRARY, what a wheel brought along, the clone's release build, or what the system's loader finds; in this order."""
    if os.environ.get("KVC_LIBRARY"):
        return os.environ["KVC_LIBRARY"]
    for candidate in (_PACKAGE / SONAME, _clone() / "build" / "release" / "libkvc.so"):
        if candidate.exists():
            return str(candidate)
    return SONAME


def _clone() -> Path:
    return _PACKAGE.parents[2]


def _load():
    import numpy  # the compiled part needs it, and would fail without as one for another library  # noqa: F401
    path = library_path()
    try:
        # The compiled part needs a library of this soname; the one that is loaded already is taken.
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError as fault:
        raise LibraryError(f"{fault}: build it (make), install it, or set KVC_LIBRARY to its path") from fault
    # In a clone the compiled part lies in the build folder; an installed package holds it.
    import kvc
    built = _clone() / "build" / "bindings" / "python" / "kvc"
    if not any(_PACKAGE.glob("_kvc.*.so")) and str(built) not in kvc.__path__:
        if not any(built.glob("_kvc.*.so")):
            raise LibraryError("the compiled part of kvc's Python binding is not there; build it: make -C bindings python")
        kvc.__path__.append(str(built))
    try:
        from . import _kvc
    except LibraryError:
        raise
    except ImportError as fault:
        raise LibraryError(f"{path}: not the library that this binding was built for: {fault}") from fault
    mismatch = _kvc.abi_mismatch()
    if mismatch:
        raise LibraryError(f"{path}: {mismatch}")
    return _kvc


raw = _load()


class Abi:
    """The names and numbers of kvc.h's enums, as they were compiled in."""

    def __init__(self):
        self.enums: dict[str, dict[str, int]] = raw.enums()

    def value(self, enum: str, name: str) -> int:
        return self.enums[enum][name]


class Library:
    """The libkvc of this process: what it is and what it can do."""

    def __init__(self, path: str | os.PathLike | None = None):
        """A process has one libkvc, which is loaded with the package; a path only makes sure that it is this one."""
        self.path: str = raw.path()
        if path is not None and not (os.path.exists(path) and os.path.samefile(path, self.path)):
            raise LibraryError(f"{os.fspath(path)} is not the library of this process, {self.path}; set KVC_LIBRARY before kvc is imported")
        self.abi = Abi()

    def presets(self) -> list[str]:
        return [raw.preset_name(i) for i in range(raw.preset_count())]

    def policies(self) -> list[str]:
        return [raw.policy_name(i) for i in range(raw.policy_count())]

    def targets(self) -> list[str]:
        """Kernel targets that this machine can run, best first."""
        return [raw.target_name(i) for i in range(raw.target_count())]

    def devices(self, device: int) -> list[str]:
        """The devices of a kind (kvc.Device). UnsupportedError says why there are none."""
        return [raw.device_describe(device, i) for i in range(raw.device_count(device))]

    def version(self) -> str:
        return raw.version()

    def abi_version(self) -> int:
        return raw.abi_version()

    def build_info(self) -> str:
        return raw.build_info()

    def abi_description(self) -> str:
        """Every struct and enum of the loaded library, one line each."""
        return raw.abi_describe()

    def status_name(self, status: int) -> str:
        return raw.status_name(status)

    def codec_format(self, codec: str) -> str:
        """The canonical string of a preset name or codec string."""
        return raw.codec_format(codec)

    def policy_format(self, policy: str) -> str:
        """The canonical string of a policy, with all defaults."""
        return raw.policy_format(policy)


_default: Library | None = None


def default_library() -> Library:
    """The library of this process."""
    global _default
    if _default is None:
        _default = Library()
    return _default
