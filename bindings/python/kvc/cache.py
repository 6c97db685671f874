"""Cache and Sequence: kvc.h's verbs, over NumPy and DLPack arrays, which are read and written in place."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex
from weakref import WeakSet

import numpy as np

from .arguments import listed, refuse_type, whole
from .buffer import Buffer, Native
from .errors import ArgumentError, BusyError, HandleError, KvcError, RangeError, of_status
from .graph import Graph
from .library import raw
from .owner import Owner
from .step import Array, Step, begin
from .structs import (BufferKind, Cut, Device, EvictReport, Layer, Part, Plan, PlanRequest, PrefixHit, PrefixStats, SeqStats, Stats,
                      StepDownReport)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .structs import EvictOptions, MergeOptions, Options, PrefixOptions, SeqOptions, StepDownOptions, StepOptions

# Other threads may commit between two calls. Where tokens came since their number was asked for, the room is too small, which is an
# ArgumentError, and the same is asked again with room for so many more.
_SPARE = (0, 64, 4096, 1 << 20)
_PARTS: dict[Any, Part] = {"keys": Part.KEYS, "values": Part.VALUES, Part.KEYS: Part.KEYS, Part.VALUES: Part.VALUES}


def plan(*, layers_differ: list[Layer] | None = None, request: PlanRequest, **options: Unpack[Options]) -> Plan:
    """Bytes for a shape, or what fits a budget: kvc_plan_compute. request holds the fields of kvc_plan_request."""
    return Plan(**raw.plan_compute(options, listed("layers_differ", layers_differ or []), request))


def check_supported(*, layers_differ: list[Layer] | None = None, **options: Unpack[Options]) -> None:
    """Raises what creating a cache with these options would raise; allocates no arena."""
    raw.supports(options, listed("layers_differ", layers_differ or []))


class Sequence(raw.Number, Owner):
    """A sequence of a cache, wherever a method wants one. It ends with destroy_sequence, at the end of its with block, with its
    cache, or when it is dropped. As a number it is its kvc_seq."""
    __slots__ = ("_cache", "_owned", "__weakref__")

    def __init__(self, cache: Cache, handle: int):
        self._cache, self._handle, self._owned = cache, handle, True

    @property
    def cache(self) -> Cache:
        return self._cache

    def close(self) -> None:
        """May be called twice, and after its cache's end or that of its number; kvc.BusyError while a step holds it."""
        if not self._owned:
            return
        try:
            self._cache.destroy_sequence(self)
        except HandleError:
            self._owned = False

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kvc.Sequence {self._handle:#x}>"

    def __del__(self):
        if not (self._owned and self._cache._handle):
            return
        try:
            raw.seq_destroy(self._cache._handle, self._handle)
        except BusyError:
            self._cache._dropped.append(self._handle)  # the collector took it before the step that holds it
        except KvcError:
            pass  # it ended before, or with its cache


class Cache(Owner):
    """A cache; keyword arguments are the fields of kvc_options, layers_differ a list of kvc_layer fields per layer.

    Use it in a with statement, or call close(), which may be called twice.
    """

    _handle = 0  # also of one whose arguments Python refused

    def __init__(self, *, layers_differ: list[Layer] | None = None, **options: Unpack[Options]):
        self._handle = 0
        self._dropped: list[int] = []
        self._buffers: WeakSet[Buffer] = WeakSet()
        self._native: Native | None = None
        layers = listed("layers_differ", layers_differ or [])
        block = options.get("arena_block")
        try:
            if block is not None and not isinstance(block, int):
                block = _writable_bytes(block)
                options = {"arena_bytes": block.nbytes, **options, "arena_block": block.ctypes.data}
            self._handle = raw.create(options, layers)
            self._native = Native(self._handle, block)
        finally:
            del block  # a traceback may hold this frame
        self._k_dims, self._v_dims = zip(*raw.dims_of(self._handle))
        self.device = Device(options.get("device") or Device.CPU)
        self.device_ordinal = int(options.get("device_ordinal", 0))

    def close(self) -> None:
        """Destroys the cache. While views of its buffers' memory are alive, that waits for them; calls are refused from now on."""
        handle, self._handle = self._handle, 0
        if handle:
            native, self._native = self._native, None
            for buffer in list(self._buffers):
                buffer.close()
            if not native.buffers:
                native.end()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        self.close()

    def v_dim(self, layer: int) -> int:
        """Of a layer; that of the first one where there is no such layer, which the library refuses itself."""
        try:
            return self._v_dims[layer if 0 <= layer < len(self._v_dims) else 0]
        except TypeError:
            refuse_type("layer", "an integer", layer)

    def set_sink_logits(self, layer: int, logits: Array | None) -> None:
        raw.sink_logits_set(self._handle, layer, logits)

    def set_rope_frequencies(self, layer: int, frequencies: Array) -> None:
        raw.rope_frequencies_set(self._handle, layer, frequencies)

    def synchronize(self) -> None:
        """Waits for all that was launched on the device; on the host it does nothing."""
        raw.synchronize(self._handle)

    def create_buffer(self, size: int, kind: int = BufferKind.BUFFER_DEVICE) -> Buffer:
        """size bytes of the device's memory."""
        buffer = Buffer(self, size, kind)
        self._buffers.add(buffer)
        return buffer

    def create_graph(self, counts: Iterable[SupportsIndex], max_tokens: int, attends: int = 0, slots: int = 0) -> Graph:
        """For steps of counts[i] tokens of so many sequences, each of which then has at most max_tokens."""
        return Graph(self, counts, max_tokens, attends, slots)

    # ---- sequences ----

    def create_sequence(self, **options: Unpack[SeqOptions]) -> Sequence:
        self._end_dropped()
        return Sequence(self, raw.seq_create(self._handle, options))

    def destroy_sequence(self, sequence: SupportsIndex) -> None:
        self._call(raw.seq_destroy, sequence)
        if isinstance(sequence, Sequence):
            sequence._owned = False

    def fork(self, sequence: SupportsIndex, length: int, inexact: bool = False) -> Sequence:
        """A new sequence with the tokens below position length; full pages are shared until one side changes them."""
        return Sequence(self, self._call(raw.seq_fork, sequence, length, Cut.CUT_INEXACT if inexact else Cut.CUT_EXACT))

    def truncate(self, sequence: SupportsIndex, length: int, inexact: bool = False) -> None:
        """Forgets the tokens at position length and above; below the exact floor only with inexact=True."""
        self._call(raw.seq_truncate, sequence, length, Cut.CUT_INEXACT if inexact else Cut.CUT_EXACT)

    def length(self, sequence: SupportsIndex) -> int:
        return self._call(raw.seq_length, sequence)

    def exact_floor(self, sequence: SupportsIndex) -> int:
        return self._call(raw.seq_exact_floor, sequence)

    def live(self, sequence: SupportsIndex, layer: int, head: int) -> int:
        return self._call(raw.seq_live, sequence, layer, head)

    def positions(self, sequence: SupportsIndex, layer: int, head: int) -> np.ndarray:
        return self._of_live(raw.seq_positions, sequence, layer, head)

    def set_prompt_end(self, sequence: SupportsIndex, end: int) -> None:
        self._call(raw.seq_prompt_set, sequence, end)

    def set_budget(self, sequence: SupportsIndex, budget: int) -> None:
        """Replaces the policy's amount for one sequence: tokens per layer and head, or bytes; 0: the policy's own."""
        self._call(raw.seq_budget_set, sequence, budget)

    def step_limit(self, sequence: SupportsIndex) -> int:
        """The most tokens that the next step may add."""
        return self._call(raw.seq_step_limit, sequence)

    # ---- step ----

    def step(self, sequences: Iterable[SupportsIndex], counts: Iterable[SupportsIndex],
             positions: Iterable[SupportsIndex] | None = None, **options: Unpack[StepOptions]) -> Step:
        """Begins a step; options are the fields of kvc_step_options. stream: None is one of kvc's own, 1 the legacy default stream; 0 is refused."""
        if self._dropped:
            self._end_dropped()
        if options:
            return begin(self, sequences, counts, positions, options)
        return raw.step_begin(Step, self, self._handle, sequences, counts, positions, options, None)

    # ---- evict, merge, step down ----

    def evict(self, sequence: SupportsIndex, scores: Array | None = None, **options: Unpack[EvictOptions]) -> EvictReport:
        """Without scores, as the cache's policy says, or else sinks and the newest tokens stay; options are the fields of kvc_evict_options."""
        return EvictReport(**self._call(raw.evict, sequence, scores, options))

    def evict_keep(self, sequence: SupportsIndex, positions: Array, **options: Unpack[EvictOptions]) -> EvictReport:
        return EvictReport(**self._call(raw.evict_keep, sequence, positions, options))

    def merge(self, sequence: SupportsIndex, clusters: Array, **options: Unpack[MergeOptions]) -> EvictReport:
        """clusters: int32 [layers, heads, tokens], the token that each joins, its own index if it stays, or -1; options: kvc_merge_options."""
        return EvictReport(**self._call(raw.merge, sequence, clusters, options))

    def step_down(self, sequence: SupportsIndex, **options: Unpack[StepDownOptions]) -> StepDownReport:
        """Coded pages take lower rungs of their ladder; options are the fields of kvc_step_down_options."""
        return StepDownReport(**self._call(raw.step_down, sequence, options))

    # ---- prefix index ----

    def publish_prefix(self, sequence: SupportsIndex, tokens: Array, salt: bytes = b"", **options: Unpack[PrefixOptions]) -> None:
        """Publishes the sequence's first len(tokens) tokens; options are the fields of kvc_prefix_options."""
        self._call(raw.prefix_publish, sequence, tokens, salt, options)

    def look_up_prefix(self, tokens: Array, salt: bytes = b"", **options: Unpack[SeqOptions]) -> tuple[Sequence, PrefixHit]:
        """A new sequence that holds the first hit.tokens of these (0: a miss), and the hit; options as of create_sequence."""
        handle, hit = raw.prefix_lookup(self._handle, tokens, salt, options)
        return Sequence(self, handle), PrefixHit(**hit)

    def remove_prefixes(self, tokens: Array, salt: bytes = b"") -> int:
        """Removes all entries of the salt that begin with these tokens; returns their number."""
        return raw.prefix_remove(self._handle, tokens, salt)

    def clear_prefixes(self) -> None:
        raw.prefix_clear(self._handle)

    def set_prefix_budget(self, budget_bytes: int) -> None:
        raw.prefix_budget_set(self._handle, budget_bytes)

    def prefix_stats(self) -> PrefixStats:
        return PrefixStats(**raw.prefix_stats_get(self._handle))

    # ---- read back ----

    def _check_dim(self, operation: str, layer: int, part: Part, dim: int) -> None:
        """Rows of another length would be glued together, and their last ones left as they were. What else is wrong the library says."""
        dims = self._v_dims if part == Part.VALUES else self._k_dims
        layer, dim = whole("layer", layer), whole("dim", dim)
        if 0 <= layer < len(dims) and 0 < dims[layer] != dim:
            raise ArgumentError(f"{operation}: dim {dim}, and {part.name.lower()} of layer {layer} have {dims[layer]}", operation=operation)

    def read(self, sequence: SupportsIndex, layer: int, head: int, part: str | Part, dim: int, first: int = 0, count: int | None = None) -> np.ndarray:
        """Live tokens as fp32 [count, dim]; part is "keys" or "values", or a kvc.Part."""
        part = _part("seq_read", part)
        self._check_dim("seq_read", layer, part, dim)
        live = self._room("seq_read", sequence, layer, head)
        while True:
            wanted = live - whole("first", first) if count is None else whole("count", count)
            # Room for more tokens than live is the library's to refuse, which looks at other things first; but not for any number.
            out = np.empty((min(max(0, wanted), max(live, 1 << 16)), dim), np.float32)
            try:
                self._call(raw.seq_read, sequence, layer, head, part, first, wanted, out)
            except RangeError:
                if count is not None or live == (live := self._room("seq_read", sequence, layer, head)):
                    raise
            else:
                if count is not None or live == (live := self._room("seq_read", sequence, layer, head)):
                    return out

    def read_codes(self, sequence: SupportsIndex, layer: int, head: int, part: str | Part, dim: int) -> np.ndarray:
        """Integer codes [tokens in compressed pages, dim]."""
        part = _part("seq_read_codes", part)
        self._check_dim("seq_read_codes", layer, part, dim)
        room = self._call(raw.seq_read_codes, sequence, layer, head, part, None)
        for spare in _SPARE:
            out = np.empty((room + spare, dim), np.uint8)
            try:
                return out[:self._call(raw.seq_read_codes, sequence, layer, head, part, out) if out.size else 0]
            except ArgumentError:
                if spare == _SPARE[-1]:
                    raise

    def read_mass(self, sequence: SupportsIndex, layer: int, head: int) -> np.ndarray:
        """Attention mass per live token, in units of 2^-30."""
        return self._of_live(raw.seq_read_mass, sequence, layer, head)

    def read_counts(self, sequence: SupportsIndex, layer: int, head: int) -> np.ndarray:
        """Tokens that each live token stands for."""
        return self._of_live(raw.seq_read_counts, sequence, layer, head)

    def rungs(self, sequence: SupportsIndex, layer: int, head: int) -> np.ndarray:
        """The rung of each live token; -1: 16 bits, not coded yet."""
        return self._of_live(raw.seq_read_rungs, sequence, layer, head)

    # ---- snapshots ----

    def export(self, sequences: Iterable[SupportsIndex] | None = None) -> bytes:
        """The sequences, or all of the cache, as bytes that any cache of the same configuration takes."""
        return raw.snapshot_export(self._handle, self._chosen("snapshot_export", sequences))

    def import_(self, snapshot: bytes | bytearray | memoryview) -> list[Sequence]:
        """New sequences from exported bytes, in the order of the export; all of them or none."""
        return [Sequence(self, handle) for handle in raw.snapshot_import(self._handle, snapshot)]

    def check_snapshot(self, snapshot: bytes | bytearray | memoryview | str | os.PathLike) -> int:
        """Raises what import_ (or load, of a path) would raise but for want of room, and makes nothing; the number of its sequences."""
        if isinstance(snapshot, (str, os.PathLike)):
            return raw.snapshot_check_file(self._handle, snapshot)
        return raw.snapshot_check(self._handle, snapshot)

    def save(self, path: str | os.PathLike, sequences: Iterable[SupportsIndex] | None = None) -> None:
        """export to a file, which is replaced as a whole."""
        raw.snapshot_save(self._handle, self._chosen("snapshot_save", sequences), path)

    def load(self, path: str | os.PathLike) -> list[Sequence]:
        """import_ from a file."""
        return [Sequence(self, handle) for handle in raw.snapshot_load(self._handle, path)]

    # ---- stats ----

    def stats(self) -> Stats:
        return Stats(**raw.stats_get(self._handle))

    def sequence_stats(self, sequence: SupportsIndex) -> SeqStats:
        return SeqStats(**self._call(raw.seq_stats_get, sequence))

    def _of_live(self, function: Any, sequence: SupportsIndex, layer: int, head: int) -> np.ndarray:
        room = self._room(function.__name__, sequence, layer, head)
        for spare in _SPARE:
            out = np.empty(room + spare, np.int64)
            try:
                return out[:self._call(function, sequence, layer, head, out)]
            except ArgumentError:
                if spare == _SPARE[-1]:
                    raise

    def _room(self, operation: str, sequence: SupportsIndex, layer: int, head: int) -> int:
        """Of an answer of that function with something for each live token; what is wrong is wrong with its call."""
        try:
            return self._call(raw.seq_live, sequence, layer, head)
        except KvcError as error:
            raise of_status(error.status, operation, error.message.replace("seq_live", operation)) from None

    def _check_own(self, operation: str, sequence: SupportsIndex) -> None:
        """A sequence of another cache could have the number of one of this."""
        if isinstance(sequence, Sequence) and sequence._cache is not self:
            raise HandleError(f"{operation}: a sequence belongs to another cache", operation=operation)

    def _call(self, function: Any, sequence: SupportsIndex, *arguments: Any) -> Any:
        """A function of the compiled part over one sequence."""
        self._check_own(function.__name__, sequence)
        return function(self._handle, sequence, *arguments)

    def _chosen(self, operation: str, sequences: Iterable[SupportsIndex] | None) -> Iterable[SupportsIndex] | None:
        """Those that are named; None: all of the cache."""
        if sequences is None:
            return None
        chosen = sequences if isinstance(sequences, list | tuple) else listed("sequences", sequences)
        if not chosen:
            raise ArgumentError(f"{operation}: no sequences were named; None stands for all of the cache", operation=operation)
        for sequence in chosen:
            self._check_own(operation, sequence)
        return chosen

    def _end_dropped(self) -> None:
        busy = []
        while self._dropped:
            try:
                handle = self._dropped.pop()
            except IndexError:
                break  # another thread has it
            try:
                raw.seq_destroy(self._handle, handle)
            except BusyError:
                busy.append(handle)
            except KvcError:
                pass  # it ended before, or with its cache
        self._dropped.extend(busy)


def _part(operation: str, part: str | Part) -> Part:
    try:
        return _PARTS[part]
    except (KeyError, TypeError):
        message = f"{operation}: part is {part!r}; it must be 'keys' or 'values', or a kvc.Part"
    raise ArgumentError(message, operation=operation)


def _writable_bytes(block: Any) -> np.ndarray:
    try:
        seen = np.frombuffer(block, np.uint8)
    except TypeError:
        refuse_type("arena_block", "a buffer, or the address of one", block)
    except ValueError as fault:
        raise ArgumentError(f"create: arena_block: {fault}", operation="create") from None
    if not seen.flags.writeable:
        raise ArgumentError("create: arena_block cannot be written", operation="create")
    return seen
