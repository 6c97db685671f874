"""kvc: the key/value cache of LLM inference, kept compressed.

    import kvc, numpy as np
    with kvc.Cache(layers=1, kv_heads=2, q_heads=4, k_dim=64, codec="int4", arena_tokens=4096) as cache:
        sequence = cache.create_sequence()
        k = v = np.zeros((1, 2, 64), np.float32)
        q = np.zeros((1, 4, 64), np.float32)
        with cache.step([sequence], [1]) as step:      # commits at the end, aborts on an exception
            step.append(0, k, v)
            out = step.attend(0, q)
"""
from . import library  # loads libkvc and the compiled part, which the others need
from .buffer import Buffer
from .cache import Cache, Sequence, check_supported, plan
from .errors import (AgainError, ArgumentError, BusyError, CaptureError, CorruptError, DeviceError, FileError, ForkedError, HandleError, InternalError,
                     KvcError, LibraryError, NonFiniteError, OrderError, OutOfMemoryError, RangeError, UnsupportedError)
from .graph import Graph
from .library import Library, default_library
from .step import Step
from .structs import BufferKind, Cut, Device, Dtype, Keys, Part, Positions, RopePairs, Status

__version__ = "0.1.0"
__all__ = [
    "AgainError", "ArgumentError", "Buffer", "BufferKind", "BusyError", "Cache", "CaptureError", "CorruptError", "Cut", "Device", "DeviceError",
    "Dtype", "FileError", "ForkedError", "Graph", "HandleError", "InternalError", "Keys", "KvcError", "Library", "LibraryError", "NonFiniteError", "OrderError",
    "OutOfMemoryError", "Part", "Positions", "RangeError", "RopePairs", "Sequence", "Status", "Step", "UnsupportedError",
    "check_supported", "default_library", "library", "plan",
]
