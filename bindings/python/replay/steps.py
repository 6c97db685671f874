"""The verbs of a script that concern steps."""
from __future__ import annotations

from dataclasses import dataclass

import kvc
import numpy as np

from . import inputs
from .script import Operation, ScriptError

_DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
_KINDS = "normal sharp constant zero outlier tiny extreme huge nan inf".split()


@dataclass
class StepRecord:
    step: kvc.Step
    counts: list[int]
    first: list[int]  # position of the first new token of each sequence
    data: list[int]
    kv: str
    q: str
    out: str
    padding: int

    @property
    def tokens(self) -> int:
        return sum(self.counts)


def padded(tokens: int, heads: int, dim: int, padding: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows [tokens][heads][dim] of a new buffer of bytes 0xff, and the padding behind each row."""
    kind = np.dtype(_DTYPES[dtype])
    buffer = np.full((tokens, (heads * dim + padding) * kind.itemsize), 0xFF, np.uint8).view(kind)
    inside = buffer[:, :heads * dim].reshape(tokens, heads, dim)
    if tokens and not np.shares_memory(inside, buffer):
        raise AssertionError("NumPy copied the rows instead of showing them")
    return inside, buffer[:, heads * dim:]


class Steps:
    """Of a Replayer."""

    def _record(self, line: Operation) -> StepRecord:
        record = self._steps.get(line.name(0))
        if record is None:
            raise kvc.HandleError("no such step")
        return record

    def begin(self, line: Operation) -> bytes:
        record = StepRecord(None, [count for _, count in line.counts], [self._length(self.handle(name)) for name, _ in line.counts],
                            [self._data.get(name, 0) for name, _ in line.counts], line.word("kv", "f32"), line.word("q", "f32"),
                            line.word("out", "f32"), line.number("padding"))
        options = {key: line.number(key) for key in ("partial_commit", "strict", "accumulate")}
        if record.padding > 0:
            shape = self.shapes.of(line)  # strides hold for all layers: padding is for uniform shapes
            options |= dict(k_token_stride=shape.kv_heads * shape.k_dim + record.padding, v_token_stride=shape.kv_heads * shape.v_dim + record.padding,
                            q_token_stride=shape.q_heads * shape.k_dim + record.padding, out_token_stride=shape.q_heads * shape.v_dim + record.padding)
        positions = None
        if line.number("guard") or "position_error" in line.arguments:
            positions = [length + line.number("position_error") for length in record.first]
        record.step = self.cache.step([self.handle(name) for name, _ in line.counts], record.counts, positions,
                                      kv_dtype=record.kv, q_dtype=record.q, out_dtype=record.out, **options)
        self._kept.append(record.step)
        self._steps[line.name(0)] = record
        return b""

    def _input(self, line: Operation, record: StepRecord, part: int, heads: int, dim: int) -> np.ndarray:
        kind, dtype = line.word("kind", "normal"), record.q if part == inputs.QUERIES else record.kv
        if kind not in _KINDS:
            raise ScriptError(f"unknown kind of data {kind}")
        array, _ = padded(record.tokens, heads, dim, record.padding, dtype)
        at = 0
        for count, first, data in zip(record.counts, record.first, record.data):
            x = inputs.rows(line.number("seed"), data, line.number("layer"), part, first, count, heads, dim, dtype, kind)
            array[at:at + count] = inputs.in_dtype(x, dtype).reshape(count, heads, dim)
            at += count
        if kind in ("nan", "inf") and array.size:
            array[-1, -1, -1] = inputs.in_dtype(np.array([kind], np.float32), dtype)[0]
        return array

    def append(self, line: Operation) -> bytes:
        record, shape = self._record(line), self.shapes.of(line)
        k = self._input(line, record, inputs.KEYS, shape.kv_heads, shape.k_dim)
        v = self._input(line, record, inputs.VALUES, shape.kv_heads, shape.v_dim)
        record.step.append(line.number("layer"), k, v)
        return b""

    def attend(self, line: Operation) -> bytes:
        record, shape = self._record(line), self.shapes.of(line)
        q = self._input(line, record, inputs.QUERIES, shape.q_heads, shape.k_dim)
        out, padding = padded(record.tokens, shape.q_heads, shape.v_dim, record.padding, record.out)
        lse = np.empty((record.tokens, shape.q_heads), np.float32) if line.number("lse", 1) else None
        try:
            record.step.attend(line.number("layer"), q, out, lse, scale=line.real("scale"), soft_cap=line.real("soft_cap"),
                               partial=line.number("partial"), sliding_window=line.number("sliding_window"),
                               causal_offset=line.number("causal_offset"))
        finally:
            if (np.ascontiguousarray(padding).view(np.uint8) != 0xFF).any():
                raise ScriptError("attend wrote between the rows of out")
        return out.tobytes() + (lse.tobytes() if lse is not None else b"")

    def commit(self, line: Operation) -> bytes:
        self._record(line).step.commit([count for _, count in line.counts] or None)
        return b""

    def abort(self, line: Operation) -> bytes:
        step = self._record(line).step
        if not step.is_open:
            raise kvc.HandleError("the step has ended")  # which Step.abort takes for done
        step.abort()
        return b""
