"""Step: kvc.h's verbs over a ragged batch; arrays are read and written where they lie."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

import numpy as np

from .arguments import refuse_type, whole
from .errors import ArgumentError
from .library import raw
from .owner import refuse_copy
from .structs import Device, Dtype

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .cache import Cache
    from .structs import AttendOptions, StepOptions


class Array(Protocol):
    """NumPy arrays, tensors of PyTorch, CuPy, JAX ...: what speaks DLPack."""
    def __dlpack__(self, *, stream: Any = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


_DTYPES = {
    "float32": Dtype.F32, "f32": Dtype.F32, "float16": Dtype.F16, "f16": Dtype.F16,
    "bfloat16": Dtype.BF16, "bf16": Dtype.BF16, "uint16": Dtype.BF16,  # NumPy has no bf16: its bits
}
_NUMPY = {Dtype.F32: np.dtype(np.float32), Dtype.F16: np.dtype(np.float16), Dtype.BF16: np.dtype(np.uint16)}


def dtype_of(name: str, given: Any) -> Dtype:
    """The element type that a kvc.Dtype, a type of NumPy or PyTorch, or a name such as "bf16" means."""
    if isinstance(given, Dtype):
        known = given or Dtype.F32
    elif isinstance(given, str) or type(given).__module__ == "torch":
        known = _DTYPES.get(str(given).removeprefix("torch."))
    else:
        try:
            known = _DTYPES.get(np.dtype(given).name)
        except TypeError:
            refuse_type(name, "a kvc.Dtype, a type of NumPy or PyTorch, or its name", given)
    if known is None:
        raise ArgumentError(f"step_begin: {name}: {given} is not float32, float16 or bfloat16 (uint16 in NumPy)", operation="step_begin")
    return known


def begin(cache: Cache, sequences: Iterable[SupportsIndex], counts: Iterable[SupportsIndex], positions: Iterable[SupportsIndex] | None,
          options: StepOptions) -> Step:
    """A step that is begun with options; one without any should not pay for them."""
    dtypes = {name: dtype_of(name, options.get(name, Dtype.F32)) for name in ("kv_dtype", "q_dtype", "out_dtype")}
    graph, options = options.get("graph"), {**options, **dtypes}
    if graph is not None:
        options["graph"] = whole("graph", graph, "a kvc.Graph")
    return raw.step_begin(Step, cache, cache._handle, sequences, counts, positions, options, graph)


class Step(raw.Step):
    """A step over a ragged batch. Leaving its with block commits it, or aborts it if an exception passes through.

    append, attend_into, commit, abort and the ends of the block are the compiled part's own. A step that is dropped while open is aborted.
    """
    __slots__ = ()
    __copy__ = __deepcopy__ = __reduce__ = refuse_copy

    def attend(self, layer: int, q: Array, out: Array | None = None, lse: Array | None = None, **options: Unpack[AttendOptions]):
        """q [tokens, q_heads, k_dim] -> out [tokens, q_heads, v_dim], a new NumPy array unless it is given; lse f32 [tokens, q_heads]."""
        if out is None:
            out = self._new_out(layer, q)
        self.attend_into(layer, q, out, lse, options or None)
        return out

    def _new_out(self, layer: int, q: Any) -> np.ndarray:
        if self._buffers != Device.CPU:
            raise ArgumentError("attend: out must be given where buffers are not on the host", operation="attend")
        if len(getattr(q, "shape", ())) != 3:
            raise ArgumentError("attend: q must be [tokens][q_heads][k_dim] where out is not given", operation="attend")
        return np.empty((*q.shape[:2], self._cache.v_dim(layer)), _NUMPY[self._out_dtype])
