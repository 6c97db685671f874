"""Memory of a cache's device, for callers that have no library of the device's own; others see it through DLPack, uncopied."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .arguments import listed, whole
from .errors import ArgumentError, HandleError
from .library import raw
from .owner import Owner
from .structs import BufferKind, Device

if TYPE_CHECKING:
    from .cache import Cache
    from .step import Array

_BYTE = 0x108  # DLPack's unsigned integers of 8 bits, as kvc_dtype counts


class Native(Owner):
    """The library's cache with its buffers. It ends with its Cache, or with the last view of a buffer's memory if that is later."""
    __slots__ = ("handle", "block", "buffers")

    def __init__(self, handle: int, block: Any):
        self.handle, self.block = handle, block  # block exports the caller's arena, which thus cannot be closed or resized meanwhile
        self.buffers: dict[int, int] = {}        # the kind of each, by its address

    def free(self, address: int) -> None:
        kind = self.buffers.pop(address, None)
        if kind is not None:
            raw.buffer_destroy(self.handle, kind, address)

    def end(self) -> None:
        for address in list(self.buffers):
            self.free(address)
        handle, self.handle = self.handle, 0
        if handle:
            raw.destroy(handle)
            self.block = None

    def __del__(self):
        self.end()


class _Memory(Owner):
    """What a buffer and its views hold."""
    __slots__ = ("address", "_native")

    def __init__(self, native: Native | None, kind: int, size: int):
        self.address = 0
        self.address = raw.buffer_create(native.handle if native else 0, kind, size)
        self._native = native
        native.buffers[self.address] = kind

    def __del__(self):
        if self.address:
            self._native.free(self.address)


class Buffer(Owner):
    """bytes of device memory (or pinned memory of the host); close it, use it in a with statement, or drop it."""

    def __init__(self, cache: Cache, size: int, kind: int):
        try:
            self.kind = BufferKind(kind)
        except ValueError:
            raise ArgumentError(f"buffer_create: kind is {kind!r}; it must be a kvc.BufferKind", operation="buffer_create") from None
        self._cache, self.size = cache, whole("size", size)
        self._memory: _Memory | None = _Memory(cache._native, self.kind, self.size)

    @property
    def address(self) -> int:
        """0 once it is closed."""
        memory = self._memory
        return memory.address if memory else 0

    @property
    def device(self) -> Device:
        return Device.CPU if self.kind == BufferKind.BUFFER_PINNED else self._cache.device

    def copy_from(self, source: Array | int, device: int | None = None, size: int | None = None) -> None:
        """Copies a whole array of the host or of the device, or size bytes at an address of that device, to the buffer's beginning,
        behind all that was launched for the cache before. One side must be the device's, where pinned memory is the host's. Of another
        library's memory of the device the caller sees to it that it is written before, and stays until Cache.synchronize."""
        memory = self._open("buffer_copy")
        if device is None and size is None:
            raw.buffer_copy_from(self._cache._handle, memory.address, self.device, self.size, source)
        else:
            raw.buffer_copy(self._cache._handle, memory.address, self.device, whole("source", source, "an address"), device, self._fitting(size))

    def copy_to(self, target: Array | int, device: int | None = None, size: int | None = None) -> None:
        """Copies the buffer's beginning to a whole array, or to an address, as copy_from does."""
        memory = self._open("buffer_copy")
        if device is None and size is None:
            raw.buffer_copy_to(self._cache._handle, memory.address, self.device, self.size, target)
        else:
            raw.buffer_copy(self._cache._handle, whole("target", target, "an address"), device, memory.address, self.device, self._fitting(size))

    def _fitting(self, size: int) -> int:
        """The library sees addresses alone."""
        size = whole("size", size)
        if size > self.size:
            raise ArgumentError(f"buffer_copy: {size} bytes, and the buffer has {self.size}", operation="buffer_copy")
        return size

    def view(self, shape: tuple[int, ...], dtype: int):
        """The buffer as a DLPack array of kvc.Dtype, for torch.from_dlpack and its like. The memory lives as long as any view of it."""
        dims, dtype = [whole("shape", n) for n in listed("shape", shape)], whole("dtype", dtype)
        if not 0 < dtype % 256 <= dtype < 1 << 16:
            raise ArgumentError(f"view: dtype {dtype} is no kvc.Dtype, nor a type code of DLPack * 256 + bits", operation="view")
        if min(dims, default=0) < 0:
            raise ArgumentError(f"view: shape {dims} has a dimension below 0", operation="view")
        if math.prod(dims) * (dtype % 256) > self.size * 8:
            raise ArgumentError(f"view: shape {dims} of {dtype % 256} bits is more than the {self.size} bytes of the buffer", operation="view")
        memory = self._open("view")
        return raw.view(memory.address, dims, dtype, self.device, self._cache.device_ordinal, memory)

    def __dlpack__(self, **arguments):
        return self.view((self.size,), _BYTE).__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return int(self.device), self._cache.device_ordinal

    def close(self) -> None:
        """Gives the memory back, at once or with the last view of it. May be called twice."""
        self._memory = None

    def _open(self, operation: str) -> _Memory:
        memory = self._memory
        if memory is None:
            raise HandleError(f"{operation}: the buffer is closed", operation=operation)
        return memory

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_) -> None:
        self.close()
