"""Memory of a cache's device, for callers that have no library of the device's own; others see it through DLPack, uncopied."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .library import raw
from .structs import BufferKind, Device

if TYPE_CHECKING:
    from .cache import Cache

_BYTE = 0x108  # DLPack's unsigned integers of 8 bits, as kvc_dtype counts


class Buffer:
    """bytes of device memory (or pinned memory of the host); close it, use it in a with statement, or drop it."""

    def __init__(self, cache: Cache, size: int, kind: int):
        self._cache, self.kind, self.size = cache, BufferKind(kind), size
        self.address: int = 0
        self.address = raw.buffer_create(cache._handle, kind, size)

    @property
    def device(self) -> Device:
        return Device.CPU if self.kind == BufferKind.BUFFER_PINNED else self._cache.device

    def copy_from(self, address: int, device: int, size: int) -> None:
        """Copies from an address of the host or of the device, behind all that was launched before."""
        raw.buffer_copy(self._cache._handle, self.address, self.device, address, device, size)

    def copy_to(self, address: int, device: int, size: int) -> None:
        raw.buffer_copy(self._cache._handle, address, device, self.address, self.device, size)

    def view(self, shape: tuple[int, ...], dtype: int):
        """The buffer as a DLPack array of kvc.Dtype, for torch.from_dlpack and its like."""
        from .errors import ArgumentError
        if math.prod(shape) * (dtype % 256) > self.size * 8:
            raise ArgumentError(f"view: {shape} of {dtype % 256} bits is more than the {self.size} bytes of the buffer")
        return raw.view(self.address, shape, dtype, self.device, self._cache.device_ordinal, self)

    def __dlpack__(self, **arguments):
        return self.view((self.size,), _BYTE).__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return int(self.device), self._cache.device_ordinal

    def close(self) -> None:
        address, self.address = self.address, 0
        if address:
            raw.buffer_destroy(self._cache._handle, self.kind, address)

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        self.close()
