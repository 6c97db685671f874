"""A KV cache that keeps every key and value in fp32: the truth that every mode is measured against.

The interface is the one that the kvc adapter has too: sequences are created, a step over a ragged batch
gives attend() per layer, commit() publishes.
"""
from dataclasses import dataclass, field

import numpy as np

from .model import AttentionShape


@dataclass
class _Sequence:
    """Keys and values of one sequence, [layers, kv_heads, capacity, head_dim]."""
    length: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0, 0), np.float32))
    values: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0, 0), np.float32))


class ReferenceCache:
    def __init__(self, shape: AttentionShape):
        self.shape = shape
        self._sequences: dict[int, _Sequence] = {}
        self._next_id = 1

    def create_sequence(self) -> int:
        sequence_id, self._next_id = self._next_id, self._next_id + 1
        self._sequences[sequence_id] = _Sequence()
        return sequence_id

    def destroy_sequence(self, sequence_id: int) -> None:
        del self._sequences[sequence_id]

    def length(self, sequence_id: int) -> int:
        return self._sequences[sequence_id].length

    def step_limit(self, sequence_id: int) -> int:
        return 1 << 40

    def step(self, sequence_ids: list[int], counts: list[int]) -> "ReferenceStep":
        return ReferenceStep(self, [self._reserve(s, n) for s, n in zip(sequence_ids, counts)], counts)

    def close(self) -> None:
        self._sequences.clear()

    def _reserve(self, sequence_id: int, count: int) -> _Sequence:
        sequence, shape = self._sequences[sequence_id], self.shape
        needed = sequence.length + count
        if sequence.keys.shape[0] == 0 or sequence.keys.shape[2] < needed:
            capacity = max(256, 2 * needed)
            for name in ("keys", "values"):
                grown = np.zeros((shape.layers, shape.kv_heads, capacity, shape.head_dim), np.float32)
                held = getattr(sequence, name)
                if held.size:
                    grown[:, :, :sequence.length] = held[:, :, :sequence.length]
                setattr(sequence, name, grown)
        return sequence


class ReferenceStep:
    def __init__(self, cache: ReferenceCache, sequences: list[_Sequence], counts: list[int]):
        self._shape, self._sequences, self._counts = cache.shape, sequences, counts

    def attend(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        out, row = np.empty_like(q), 0
        window = self._shape.windows[layer]
        for sequence, count in zip(self._sequences, self._counts):
            rows = slice(row, row + count)
            first, end = sequence.length, sequence.length + count
            sequence.keys[layer, :, first:end] = k[rows].transpose(1, 0, 2)
            sequence.values[layer, :, first:end] = v[rows].transpose(1, 0, 2)
            out[rows] = attention(q[rows], sequence.keys[layer, :, :end], sequence.values[layer, :, :end], window)
            row += count
        return out

    def commit(self) -> None:
        for sequence, count in zip(self._sequences, self._counts):
            sequence.length += count

    def __enter__(self) -> "ReferenceStep":
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            self.commit()


def attention(q: np.ndarray, keys: np.ndarray, values: np.ndarray, window: int = 0, scale: float | None = None,
              soft_cap: float = 0.0) -> np.ndarray:
    """Causal attention of the newest len(q) tokens: q [n, q_heads, D], keys and values [kv_heads, length, D]; scale: 1 / sqrt(D)."""
    count, q_heads, head_dim = q.shape
    out = np.empty((count, q_heads, values.shape[2]), q.dtype)
    if count == 0:
        return out
    kv_heads, length = keys.shape[:2]
    group = q_heads // kv_heads
    first = max(0, length - count + 1 - window) if window else 0  # no query of this call sees an older token
    hidden = _hidden(count, length - first, window)
    scale = np.float32(1.0 / np.sqrt(head_dim) if scale is None else scale)
    for head in range(kv_heads):
        heads = slice(head * group, (head + 1) * group)
        rows = (q[:, heads] * scale).transpose(1, 0, 2).reshape(group * count, head_dim)
        weights = (rows @ keys[head, first:].T).reshape(group, count, length - first)
        if soft_cap:
            weights = np.tanh(weights / np.float32(soft_cap)) * np.float32(soft_cap)
        if hidden is not None:
            weights[:, :, -hidden.shape[1]:] += hidden
        weights -= weights.max(-1, keepdims=True)
        np.exp(weights, out=weights)
        total = weights.sum(-1, keepdims=True)
        mixed = (weights.reshape(group * count, -1) @ values[head, first:]).reshape(group, count, -1)
        out[:, heads] = (mixed / total).transpose(1, 0, 2)
    return out


def _hidden(count: int, visible: int, window: int) -> np.ndarray | None:
    """-inf where a query may not look, over the newest columns only where there is no window; None where it may look everywhere."""
    if count == 1:
        return None
    columns = visible if window else count
    query = np.arange(count)[:, None] + (columns - count)
    token = np.arange(columns)[None]
    masked = (token > query) | ((token <= query - window) if window else False)
    return np.where(masked, np.float32(-np.inf), np.float32(0))
