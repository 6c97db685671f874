"""Cache and Step: kvc.h's verbs over NumPy arrays, which are read and written in place."""
import ctypes
import os
from types import SimpleNamespace

import numpy as np

from .errors import ArgumentError
from .library import Library, default_library

_DTYPES = {np.dtype(np.float32): "KVC_F32", np.dtype(np.float16): "KVC_F16", np.dtype(np.uint16): "KVC_BF16"}
_by_ref = ctypes.byref


def plan(*, library: Library | None = None, layers_differ: list[dict] | None = None, request: dict, **options) -> SimpleNamespace:
    """Bytes for a shape, or what fits a budget: kvc_plan_compute. request holds the fields of kvc_plan_request."""
    library = library or default_library()
    settings, (layers, count) = library.options("kvc_options", options), library.layer_array(layers_differ)
    asked = library.options("kvc_plan_request", request)
    result, error = library.abi.new("kvc_plan"), library.new_error()
    library.check(library.kvc_plan_compute(_by_ref(settings), layers, count, _by_ref(asked), _by_ref(result), _by_ref(error)), error)
    return _as_namespace(result)


def check_supported(*, library: Library | None = None, layers_differ: list[dict] | None = None, **options) -> None:
    """Raises what creating a cache with these options would raise; allocates no arena."""
    library = library or default_library()
    settings, (layers, count) = library.options("kvc_options", options), library.layer_array(layers_differ)
    error = library.new_error()
    library.check(library.kvc_supports(_by_ref(settings), layers, count, _by_ref(error)), error)


class Cache:
    """A cache; keyword arguments are the fields of kvc_options, layers_differ a list of kvc_layer fields per layer.

    Use it in a with statement, or call close(), which may be called twice.
    """

    def __init__(self, *, library: Library | None = None, layers_differ: list[dict] | None = None, **options):
        self._handle = None
        self.library = library or default_library()
        settings = self.library.options("kvc_options", options)
        layers, count = self.library.layer_array(layers_differ)
        default_v_dim = settings.v_dim or settings.k_dim
        self._v_dims = [(layer.get("v_dim") or layer.get("k_dim") or default_v_dim) for layer in layers_differ or []]
        self._v_dims = self._v_dims or [default_v_dim] * settings.layers
        error = self.library.new_error()
        self._handle = self.library.kvc_create(_by_ref(settings), layers, count, _by_ref(error))
        if not self._handle:
            raise self.library.exception(error.status, error)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._call("kvc_destroy", handle=handle)

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        self.close()

    def set_sink_logits(self, layer: int, logits: np.ndarray | None) -> None:
        count = 0 if logits is None else len(logits)
        self._call("kvc_sink_logits_set", layer, count and _address(logits, "logits", np.float32), count)

    def set_rope_frequencies(self, layer: int, frequencies: np.ndarray) -> None:
        self._call("kvc_rope_frequencies_set", layer, _address(frequencies, "frequencies", np.float64), len(frequencies))

    # ---- sequences ----

    def create_sequence(self, **options) -> int:
        settings = _by_ref(self.library.options("kvc_seq_options", options)) if options else None
        return self._create("kvc_seq_create", settings)

    def destroy_sequence(self, sequence: int) -> None:
        self._call("kvc_seq_destroy", sequence)

    def fork(self, sequence: int, length: int, inexact: bool = False) -> int:
        return self._create("kvc_seq_fork", sequence, length, self._cut(inexact))

    def truncate(self, sequence: int, length: int, inexact: bool = False) -> None:
        self._call("kvc_seq_truncate", sequence, length, self._cut(inexact))

    def length(self, sequence: int) -> int:
        return self._number("kvc_seq_length", sequence)

    def exact_floor(self, sequence: int) -> int:
        return self._number("kvc_seq_exact_floor", sequence)

    def live(self, sequence: int, layer: int, head: int) -> int:
        return self._number("kvc_seq_live", sequence, layer, head)

    def positions(self, sequence: int, layer: int, head: int) -> np.ndarray:
        out = np.empty(self.live(sequence, layer, head), np.int64)
        self._call("kvc_seq_positions", sequence, layer, head, out.ctypes.data, len(out))
        return out

    def set_prompt_end(self, sequence: int, end: int) -> None:
        self._call("kvc_seq_prompt_set", sequence, end)

    def set_budget(self, sequence: int, budget: int) -> None:
        """Replaces the policy's amount for one sequence: tokens per layer and head, or bytes; 0: the policy's own."""
        self._call("kvc_seq_budget_set", sequence, budget)

    def step_limit(self, sequence: int) -> int:
        """The most tokens that the next step may add."""
        return self._number("kvc_seq_step_limit", sequence)

    # ---- step ----

    def step(self, sequences: list[int], counts: list[int], positions: list[int] | None = None, **options) -> "Step":
        """Begins a step; options are the fields of kvc_step_options."""
        return Step(self, sequences, counts, positions, options)

    # ---- evict and read back ----

    def evict(self, sequence: int, scores: np.ndarray | None = None, **options) -> SimpleNamespace:
        """Without scores, as the cache's policy says, or else sinks and the newest tokens stay; options are the fields of kvc_evict_options."""
        address, count = (None, 0) if scores is None else (_address(scores, "scores", np.float32), scores.size)
        return self._evict("kvc_evict", sequence, address, count, options)

    def evict_keep(self, sequence: int, positions: np.ndarray, **options) -> SimpleNamespace:
        return self._evict("kvc_evict_keep", sequence, _address(positions, "positions", np.int64), len(positions), options)

    def step_down(self, sequence: int, **options) -> SimpleNamespace:
        """Coded pages take lower rungs of their ladder; options are the fields of kvc_step_down_options."""
        settings, report = self.library.options("kvc_step_down_options", options), self.library.abi.new("kvc_step_down_report")
        self._call("kvc_step_down", sequence, _by_ref(settings), _by_ref(report))
        return _as_namespace(report)

    def rungs(self, sequence: int, layer: int, head: int) -> np.ndarray:
        """The rung of each live token; -1: 16 bits, not coded yet."""
        out = np.empty(self.live(sequence, layer, head), np.int64)
        self._call("kvc_seq_read_rungs", sequence, layer, head, out.ctypes.data, len(out))
        return out

    # ---- prefix index ----

    def publish_prefix(self, sequence: int, tokens: np.ndarray, salt: bytes = b"", **options) -> None:
        """Publishes the sequence's first len(tokens) tokens; options are the fields of kvc_prefix_options."""
        settings = self.library.options("kvc_prefix_options", options)
        self._call("kvc_prefix_publish", sequence, *_key(tokens, salt), _by_ref(settings))

    def look_up_prefix(self, tokens: np.ndarray, salt: bytes = b"", **options) -> tuple[int, SimpleNamespace]:
        """A new sequence that holds the first hit.tokens of these (0: a miss), and the hit; options as of create_sequence."""
        settings, hit = self.library.options("kvc_seq_options", options), self.library.abi.new("kvc_prefix_hit")
        sequence = self._create("kvc_prefix_lookup", *_key(tokens, salt), _by_ref(settings), _by_ref(hit))
        return sequence, _as_namespace(hit)

    def remove_prefixes(self, tokens: np.ndarray, salt: bytes = b"") -> int:
        """Removes all entries of the salt that begin with these tokens; returns their number."""
        return self._number("kvc_prefix_remove", *_key(tokens, salt))

    def clear_prefixes(self) -> None:
        self._call("kvc_prefix_clear")

    def set_prefix_budget(self, budget_bytes: int) -> None:
        self._call("kvc_prefix_budget_set", budget_bytes)

    def prefix_stats(self) -> SimpleNamespace:
        out = self.library.abi.new("kvc_prefix_stats")
        self._call("kvc_prefix_stats_get", _by_ref(out))
        return _as_namespace(out)

    def merge(self, sequence: int, clusters: np.ndarray, **options) -> SimpleNamespace:
        """clusters: int32 [layers, heads, tokens], the token that each joins, its own index if it stays, or -1; options: kvc_merge_options."""
        settings, report = self.library.options("kvc_merge_options", options), self.library.abi.new("kvc_evict_report")
        self._call("kvc_merge", sequence, _address(clusters, "clusters", np.int32), clusters.size, _by_ref(settings), _by_ref(report))
        return _as_namespace(report)

    def read_counts(self, sequence: int, layer: int, head: int) -> np.ndarray:
        """Tokens that each live token stands for."""
        out = np.empty(self.live(sequence, layer, head), np.int64)
        self._call("kvc_seq_read_counts", sequence, layer, head, out.ctypes.data, len(out))
        return out

    def read(self, sequence: int, layer: int, head: int, part: str, dim: int, first: int = 0, count: int | None = None) -> np.ndarray:
        """Live tokens as fp32 [count, dim]; part is "keys" or "values"."""
        count = self.live(sequence, layer, head) - first if count is None else count
        out = np.empty((count, dim), np.float32)
        self._call("kvc_seq_read", sequence, layer, head, self._part(part), first, count, out.ctypes.data, out.nbytes)
        return out

    def read_codes(self, sequence: int, layer: int, head: int, part: str, dim: int) -> np.ndarray:
        """Integer codes [tokens in compressed pages, dim]."""
        tokens = ctypes.c_int64()
        self._call("kvc_seq_read_codes", sequence, layer, head, self._part(part), None, 0, _by_ref(tokens))
        out = np.empty((tokens.value, dim), np.uint8)
        self._call("kvc_seq_read_codes", sequence, layer, head, self._part(part), out.ctypes.data, out.nbytes, _by_ref(tokens))
        return out

    def read_mass(self, sequence: int, layer: int, head: int) -> np.ndarray:
        """Attention mass per live token, in units of 2^-30."""
        out = np.empty(self.live(sequence, layer, head), np.int64)
        self._call("kvc_seq_read_mass", sequence, layer, head, out.ctypes.data, len(out))
        return out

    # ---- snapshots ----

    def export(self, sequences: list[int] | None = None) -> bytes:
        """The sequences, or all of the cache, as bytes that any cache of the same configuration takes."""
        chosen, count = self._sequences(sequences)
        size = ctypes.c_int64()
        self._call("kvc_snapshot_export", chosen, count, None, 0, _by_ref(size))
        out = ctypes.create_string_buffer(max(1, size.value))
        self._call("kvc_snapshot_export", chosen, count, out, size.value, _by_ref(size))
        return out.raw[:size.value]

    def import_(self, snapshot: bytes) -> list[int]:
        """New sequences from exported bytes, in the order of the export; all of them or none."""
        return self._imported("kvc_snapshot_import", snapshot, len(snapshot))

    def save(self, path: str | os.PathLike, sequences: list[int] | None = None) -> None:
        """export to a file, which is replaced as a whole."""
        self._call("kvc_snapshot_save", *self._sequences(sequences), os.fsencode(path))

    def load(self, path: str | os.PathLike) -> list[int]:
        """import_ from a file."""
        return self._imported("kvc_snapshot_load", os.fsencode(path))

    # ---- stats ----

    def stats(self) -> SimpleNamespace:
        out = self.library.abi.new("kvc_stats")
        self._call("kvc_stats_get", _by_ref(out))
        return _as_namespace(out)

    def sequence_stats(self, sequence: int) -> SimpleNamespace:
        out = self.library.abi.new("kvc_seq_stats")
        self._call("kvc_seq_stats_get", sequence, _by_ref(out))
        return _as_namespace(out)

    # ---- calls ----

    def _call(self, function: str, *arguments, handle: int | None = None) -> None:
        error = self.library.new_error()
        status = getattr(self.library, function)(handle or self._handle, *arguments, _by_ref(error))
        self.library.check(status, error)

    def _create(self, function: str, *arguments) -> int:
        error = self.library.new_error()
        created = getattr(self.library, function)(self._handle, *arguments, _by_ref(error))
        if not created:
            raise self.library.exception(error.status, error)
        return created

    @staticmethod
    def _sequences(sequences: list[int] | None):
        """As arguments; None is all of the cache, an empty list none of it."""
        if sequences is None:
            return None, 0
        return (ctypes.c_int64 * max(1, len(sequences)))(*sequences), len(sequences)

    def _imported(self, function: str, *source) -> list[int]:
        count = ctypes.c_int64()
        self._call(function, *source, None, 0, _by_ref(count))
        out = (ctypes.c_int64 * max(1, count.value))()
        self._call(function, *source, out, count.value, _by_ref(count))
        return list(out[:count.value])

    def _number(self, function: str, *arguments) -> int:
        out = ctypes.c_int64()
        self._call(function, *arguments, _by_ref(out))
        return out.value

    def _evict(self, function: str, sequence: int, address, count: int, options: dict) -> SimpleNamespace:
        settings, report = self.library.options("kvc_evict_options", options), self.library.abi.new("kvc_evict_report")
        self._call(function, sequence, address, count, _by_ref(settings), _by_ref(report))
        return _as_namespace(report)

    def _cut(self, inexact: bool) -> int:
        return self.library.abi.value("kvc_cut", "KVC_CUT_INEXACT" if inexact else "KVC_CUT_EXACT")

    def _part(self, part: str) -> int:
        names = {"keys": "KVC_KEYS", "values": "KVC_VALUES"}
        if part not in names:
            raise ArgumentError(f"part is {part!r}; it must be 'keys' or 'values'")
        return self.library.abi.value("kvc_part", names[part])


class Step:
    """A step over a ragged batch. Leaving its with block commits it, or aborts it if an exception passes through."""

    def __init__(self, cache: Cache, sequences, counts, positions, options: dict):
        self._cache, self._library, self._handle = cache, cache.library, None
        sequences, counts = np.ascontiguousarray(sequences, np.int64), np.ascontiguousarray(counts, np.int64)
        if sequences.shape != counts.shape or sequences.ndim != 1:
            raise ArgumentError(f"step: {sequences.size} sequences but {counts.size} token counts")
        expected = None if positions is None else np.ascontiguousarray(positions, np.int64)
        self.tokens = int(counts.sum())
        self._dtypes = {name: np.dtype(options.pop(name, np.float32)) for name in ("kv_dtype", "q_dtype", "out_dtype")}
        settings = self._library.options("kvc_step_options", options)
        for name, dtype in self._dtypes.items():
            if dtype not in _DTYPES:
                raise ArgumentError(f"{name}: {dtype} is not float32, float16 or uint16 (bf16)")
            setattr(settings, name, self._library.abi.value("kvc_dtype", _DTYPES[dtype]))
        self._handle = cache._create(
            "kvc_step_begin", sequences.ctypes.data, counts.ctypes.data, len(sequences),
            None if expected is None else expected.ctypes.data, 0 if expected is None else len(expected), _by_ref(settings))

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> None:
        """k [tokens, kv_heads, k_dim], v [tokens, kv_heads, v_dim]."""
        kind = self._dtypes["kv_dtype"]
        self._call("kvc_append", layer, _address(k, "k", kind), k.nbytes, _address(v, "v", kind), v.nbytes)

    def attend(self, layer: int, q: np.ndarray, out: np.ndarray | None = None, lse: np.ndarray | None = None, **options) -> np.ndarray:
        """q [tokens, q_heads, k_dim] -> out [tokens, q_heads, v_dim]; options are the fields of kvc_attend_options."""
        if out is None:
            out = np.empty((*q.shape[:2], self._cache._v_dims[layer]), self._dtypes["out_dtype"])
        settings = _by_ref(self._library.options("kvc_attend_options", options)) if options else None
        self._call("kvc_attend", layer, _address(q, "q", self._dtypes["q_dtype"]), q.nbytes,
                   _address(out, "out", self._dtypes["out_dtype"]), out.nbytes,
                   None if lse is None else _address(lse, "lse", np.float32), 0 if lse is None else lse.nbytes, settings)
        return out

    def commit(self, accepted: list[int] | None = None) -> None:
        """Publishes all tokens, or the first accepted[i] of each sequence (needs partial_commit=1). On failure the step stays open."""
        if accepted is None:
            self._call("kvc_step_commit", None, 0)
        else:
            counts = np.ascontiguousarray(accepted, np.int64)
            self._call("kvc_step_commit", counts.ctypes.data, len(counts))
        self._handle = None

    def abort(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            error = self._library.new_error()
            self._library.check(self._library.kvc_step_abort(handle, _by_ref(error)), error)

    def __enter__(self) -> "Step":
        return self

    def __exit__(self, kind, value, trace) -> None:
        if not self._handle:
            return  # committed or aborted inside the block
        if kind is not None:
            self.abort()
            return
        try:
            self.commit()
        except BaseException:
            self.abort()
            raise

    def _call(self, function: str, *arguments) -> None:
        error = self._library.new_error()
        self._library.check(getattr(self._library, function)(self._handle, *arguments, _by_ref(error)), error)


def _address(array: np.ndarray, name: str, dtype) -> int:
    """Where the array's numbers lie. Other types and layouts are refused rather than copied behind the caller's back."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise ArgumentError(f"{name}: expected a NumPy array of {np.dtype(dtype)}, got {getattr(array, 'dtype', type(array).__name__)}")
    if not array.flags.c_contiguous:
        raise ArgumentError(f"{name}: the array is not C-contiguous; pass numpy.ascontiguousarray of it")
    return array.ctypes.data


def _key(tokens: np.ndarray, salt: bytes) -> tuple:
    return _address(tokens, "tokens", np.int64), len(tokens), salt, len(salt)


def _as_namespace(struct: ctypes.Structure) -> SimpleNamespace:
    hidden = ("struct_size", "reserved")
    names = [name for name, *_ in struct._fields_ if name not in hidden and not name.startswith("_")]
    return SimpleNamespace(**{name: getattr(struct, name) for name in names})
