"""Runs the operations of one script over kvc and hashes what they let a caller see."""
from __future__ import annotations

import hashlib
import struct

import kvc
import numpy as np

from . import inputs
from .script import Operation, ScriptError
from .shapes import Shapes
from .steps import Steps

_STATS = ("arena_bytes bound_bytes record_bytes sink_bytes window_bytes code_bytes reserved_bytes side_bytes sequences open_steps "
          "tokens_appended tokens_evicted pages_quantized tokens_requantized").split()
_PREFIX_STATS = "entries tokens record_bytes budget_bytes hits misses hit_tokens evictions".split()
_PLAN = "arena_bytes slab_bytes record_bytes fp16_bytes max_tokens max_sequences".split()
_EVICT = "tokens_evicted records_freed bytes_freed tokens_repacked".split()
_STEP_DOWN = "pages tokens_requantized bytes_freed record_bytes".split()
_SEQ_STATS = "tokens record_bytes shared_bytes fp16_bytes".split()


def int64s(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def fields(result, names: list[str]) -> bytes:
    return int64s(*(getattr(result, name) for name in names))


class NoCache(kvc.HandleError):
    """Creating the cache failed, so that the script goes on over the handle NULL."""


class Replayer(Steps):
    """One script. Verbs are methods; each returns the bytes that it adds to the digest, or raises kvc.KvcError."""

    def __init__(self, target: str = "", threads: int = 0):
        self._target, self._threads = target, threads
        self.shapes, self._cache = Shapes(), None
        self._sequences: dict[str, kvc.Sequence] = {}
        self._kept: list = []  # what lost its name lives on all the same
        self._data: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._steps: dict = {}
        self._snapshots: dict[str, bytes] = {}
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._cache:
            self._cache.close()

    def run(self, line: Operation) -> None:
        verb = VERBS.get(line.verb)
        if verb is None:
            raise ScriptError(f"unknown operation {line.verb}")
        status, seen, message = 0, b"", ""
        try:
            seen = verb(self, line)
        except kvc.KvcError as fault:
            status, message = int(fault.status), str(fault)
        word = kvc.default_library().status_name(status).removeprefix("KVC_").removeprefix("E_").lower()
        if word not in line.expected:
            raise ScriptError(f"{line.verb} gave {word}, expected {'|'.join(line.expected)}: {message}")
        self._hash.update(struct.pack("<i", status) + seen)

    # ---- names ----

    @property
    def cache(self) -> kvc.Cache:
        if self._cache is None:
            raise NoCache("the cache was not created")
        return self._cache

    def handle(self, name: str):
        return self._sequences.get(name, 0)

    def sequence(self, line: Operation):
        return self.handle(line.name(0))

    def _name(self, name: str, sequence: kvc.Sequence, data: int, first: int) -> None:
        self._kept.append(sequence)
        self._sequences[name], self._data[name], self._first[name] = sequence, data, first

    def _length(self, sequence) -> int:
        """0 where there is no such sequence."""
        try:
            return self.cache.length(sequence)
        except kvc.KvcError:
            return 0

    # ---- cache ----

    def layer(self, line: Operation) -> bytes:
        self.shapes.lines[int(line.name(0))] = line
        return b""

    def create(self, line: Operation) -> bytes:
        if self._cache:
            raise ScriptError("a script has one cache")
        self.shapes.create(line, self._target, self._threads)
        self._cache = kvc.Cache(layers_differ=self.shapes.differ, **self.shapes.options)
        return b""

    def plan(self, line: Operation) -> bytes:
        request = {key: line.number(key) for key in ("tokens", "sequences", "step_tokens", "budget_bytes", "partial_commit")}
        return fields(kvc.plan(layers_differ=self.shapes.differ, request=request, **self.shapes.options), _PLAN)

    def sink_logits(self, line: Operation) -> bytes:
        n = line.number("n", self.shapes.of(line).q_heads)
        logits = inputs.rows(line.number("seed"), 0, line.number("layer"), inputs.SINK_LOGITS, 0, 1, 1, n, kind=line.word("kind", "normal"))
        self.cache.set_sink_logits(line.number("layer"), logits)
        return b""

    def stats(self, line: Operation) -> bytes:
        if line.names:
            return fields(self.cache.sequence_stats(self.sequence(line)), _SEQ_STATS)
        return fields(self.cache.stats(), _STATS)

    # ---- sequences ----

    def seq(self, line: Operation) -> bytes:
        first = line.number("first_position")
        made = self.cache.create_sequence(first_position=first, prompt_length=line.number("prompt_length"))
        self._name(line.name(0), made, line.number("data"), first)
        return b""

    def fork(self, line: Operation) -> bytes:
        source = line.name(1)
        made = self.cache.fork(self.handle(source), line.number("length"), line.word("cut", "exact") == "inexact")
        self._name(line.name(0), made, line.number("data", self._data.get(source, 0)), self._first.get(source, 0))
        return b""

    def truncate(self, line: Operation) -> bytes:
        self.cache.truncate(self.sequence(line), line.number("length"), line.word("cut", "exact") == "inexact")
        return b""

    def destroy(self, line: Operation) -> bytes:
        self.cache.destroy_sequence(self.sequence(line))
        return b""

    def prompt(self, line: Operation) -> bytes:
        self.cache.set_prompt_end(self.sequence(line), line.number("end"))
        return b""

    def length(self, line: Operation) -> bytes:
        return int64s(self.cache.length(self.sequence(line)))

    def floor(self, line: Operation) -> bytes:
        return int64s(self.cache.exact_floor(self.sequence(line)))

    def live(self, line: Operation) -> bytes:
        return int64s(self.cache.live(self.sequence(line), line.number("layer"), line.number("head")))

    # ---- evict, merge, step down ----

    @staticmethod
    def _acted_on(line: Operation) -> dict:
        (layer_begin, layer_end), (head_begin, head_end) = line.range("layers"), line.range("heads")
        return dict(layer_begin=layer_begin, layer_end=layer_end, head_begin=head_begin, head_end=head_end)

    def evict(self, line: Operation) -> bytes:
        name, scores = line.name(0), None
        if "scores" in line.arguments:
            n = self._length(self.handle(name)) - self._first.get(name, 0)
            rows = [inputs.rows(line.number("scores"), self._data.get(name, 0), layer, inputs.SCORES, head, 1, 1, n)
                    for layer, head in self.shapes.acted_on(line)] if n > 0 else []
            scores = np.concatenate(rows) if rows else None
        report = self.cache.evict(self.handle(name), scores, budget=line.number("budget"), recent=line.number("recent"), **self._acted_on(line))
        return fields(report, _EVICT)

    def keep(self, line: Operation) -> bytes:
        positions = np.array(line.list("positions"), np.int64)
        return fields(self.cache.evict_keep(self.sequence(line), positions, **self._acted_on(line)), _EVICT)

    def merge(self, line: Operation) -> bytes:
        name = line.name(0)
        n = max(0, self._length(self.handle(name)) - self._first.get(name, 0))
        rows = [inputs.cluster_row(line.number("seed"), self._data.get(name, 0), layer, head, n, line.number("first"), line.number("recent"))
                for layer, head in self.shapes.acted_on(line)]
        clusters = np.concatenate(rows) if rows else np.empty(0, np.int32)
        report = self.cache.merge(self.handle(name), clusters, values_only=line.number("values_only"), unbiased=line.number("unbiased"),
                                  **self._acted_on(line))
        return fields(report, [*_EVICT, "tokens_merged"])

    def step_down(self, line: Operation) -> bytes:
        begin, end = line.range("layers")
        numbers = {key: line.number(key) for key in ("rung", "budget_bytes", "recent")}
        return fields(self.cache.step_down(self.sequence(line), layer_begin=begin, layer_end=end, **numbers), _STEP_DOWN)

    # ---- read back ----

    def read(self, line: Operation) -> bytes:
        part, shape = line.word("part", "keys"), self.shapes.of(line)
        count = line.number("n") if "n" in line.arguments else None
        return self.cache.read(self.sequence(line), line.number("layer"), line.number("head"), part,
                               shape.k_dim if part == "keys" else shape.v_dim, line.number("first"), count).tobytes()

    def codes(self, line: Operation) -> bytes:
        part, shape = line.word("part", "keys"), self.shapes.of(line)
        codes = self.cache.read_codes(self.sequence(line), line.number("layer"), line.number("head"), part,
                                      shape.k_dim if part == "keys" else shape.v_dim)
        return int64s(len(codes)) + codes.tobytes()

    def _of_live(self, line: Operation) -> bytes:
        read = {"mass": self.cache.read_mass, "positions": self.cache.positions, "counts": self.cache.read_counts,
                "rungs": self.cache.rungs}[line.verb]
        return read(self.sequence(line), line.number("layer"), line.number("head")).tobytes()

    mass = positions = counts = rungs = _of_live

    # ---- prefix index ----

    @staticmethod
    def _prompt(line: Operation) -> tuple[np.ndarray, bytes]:
        n = line.number("n")
        return inputs.prompt(n, line.number("text"), line.number("turn", n), line.number("other")), line.word("salt").encode()

    def publish(self, line: Operation) -> bytes:
        self.cache.publish_prefix(self.sequence(line), *self._prompt(line), pinned=line.number("pinned"),
                                  seal=line.number("seal"))
        return b""

    def lookup(self, line: Operation) -> bytes:
        first = line.number("first_position")
        made, hit = self.cache.look_up_prefix(*self._prompt(line), first_position=first, prompt_length=line.number("prompt_length"))
        self._name(line.name(0), made, line.number("data"), first)
        return fields(hit, ["tokens", "shared"])

    def unpublish(self, line: Operation) -> bytes:
        return int64s(self.cache.remove_prefixes(*self._prompt(line)))

    def prefix_clear(self, line: Operation) -> bytes:
        self.cache.clear_prefixes()
        return b""

    def prefix_budget(self, line: Operation) -> bytes:
        self.cache.set_prefix_budget(line.number("bytes"))
        return b""

    def prefix_stats(self, line: Operation) -> bytes:
        return fields(self.cache.prefix_stats(), _PREFIX_STATS)

    # ---- snapshots ----

    def export(self, line: Operation) -> bytes:
        names = line.names[1:]
        snapshot = self.cache.export([self.handle(name) for name in names] or None)
        self._snapshots[line.name(0)] = snapshot
        return int64s(len(snapshot)) + snapshot

    def import_(self, line: Operation) -> bytes:
        snapshot = self._snapshots.get(line.name(0), b"")
        if "flip" in line.arguments and snapshot:
            damaged = bytearray(snapshot)
            damaged[line.number("flip") % len(damaged)] ^= 1
            snapshot = damaged
        if len(line.names) == 1:  # nothing to hold them: the bytes are only checked
            return int64s(self.cache.check_snapshot(snapshot))
        made = self.cache.import_(snapshot)
        if len(made) != len(line.names) - 1:
            raise ScriptError(f"the snapshot has {len(made)} sequences, the line {len(line.names) - 1} names")
        for name, sequence in zip(line.names[1:], made):
            self._name(name, sequence, line.number("data"), line.number("first_position"))
        return int64s(len(made))


VERBS = {verb: getattr(Replayer, verb) for verb in (
    "layer create plan sink_logits seq fork truncate prompt begin append attend commit abort evict keep merge step_down read codes mass "
    "positions counts rungs live length floor publish lookup unpublish prefix_clear prefix_budget prefix_stats stats destroy export").split()}
VERBS["import"] = Replayer.import_
