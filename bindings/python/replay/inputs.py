"""The numbers that scripts feed into kvc: docs/SCRIPTS.md, "Numbers". uint64 arithmetic wraps around."""
from __future__ import annotations

import numpy as np

KEYS, VALUES, QUERIES, SCORES, SINK_LOGITS, CLUSTERS = range(1, 7)
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_EVEN_QUARTERS = np.uint64(0x0000FFFF0000FFFF)
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mix(z: int) -> int:
    z = (z ^ (z >> 30)) * _FIRST & _MASK
    z = (z ^ (z >> 27)) * _SECOND & _MASK
    return z ^ (z >> 31)


def _key(a: int, b: int) -> int:
    return _mix((a + _GOLDEN * (b + 1)) & _MASK)


def _keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    z = b + np.uint64(1)
    z *= np.uint64(_GOLDEN)
    z = z + a
    z ^= z >> np.uint64(30)
    z *= np.uint64(_FIRST)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_SECOND)
    z ^= z >> np.uint64(31)
    return z


def bells(seed: int, data: int, layer: int, part: int, positions: np.ndarray, width: int) -> np.ndarray:
    """n(i) as int64 [positions, width]."""
    where = _key(_key(seed & _MASK, data & _MASK), (layer * 8 + part) & _MASK)
    rows = _keys(np.uint64(where), positions.astype(np.uint64))
    bits = _keys(rows[:, None], np.arange(width, dtype=np.uint64)[None, :])
    pairs = (bits & _EVEN_QUARTERS) + ((bits >> np.uint64(16)) & _EVEN_QUARTERS)
    return ((pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))).astype(np.int64) - 131070


def elements(n: np.ndarray, dtype: str, kind: str, dim: int) -> np.ndarray:
    """The numbers as f32 [positions, width]; exact in the type that they are for."""
    if kind == "zero":
        return np.zeros(n.shape, np.float32)
    negative = n < 0
    if kind == "extreme":
        return np.where(negative, np.float32(-65280), np.float32(65280))
    if kind == "huge":
        size = np.float32(np.inf if dtype == "f16" else 131072)
        return np.where(negative, -size, size)
    shift, divisor = {"f32": (0, 65536), "f16": (7, 512), "bf16": (10, 64)}[dtype]
    x = (n >> shift).astype(np.float32) / np.float32(divisor)
    if kind == "sharp":
        x *= np.float32(16)
    elif kind == "tiny":
        x /= np.float32(16384)
    elif kind == "outlier":
        x[:, np.arange(n.shape[1]) % dim % 16 == 3] *= np.float32(32)
    elif kind not in ("normal", "constant", "nan", "inf"):
        raise KeyError(kind)
    return x


def rows(seed: int, data: int, layer: int, part: int, first: int, tokens: int, heads: int, dim: int, dtype: str = "f32",
         kind: str = "normal") -> np.ndarray:
    """f32 [tokens, heads * dim]."""
    positions = np.arange(first, first + max(0, tokens), dtype=np.int64)
    if kind == "constant":
        positions[:] = 0
    return elements(bells(seed, data, layer, part, positions, heads * dim), dtype, kind, dim)


def in_dtype(x: np.ndarray, dtype: str) -> np.ndarray:
    """As float32, float16, or the bits of bf16: the upper half of an f32, which all of these numbers fit."""
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bf16" else x


def prompt(n: int, text: int, turn: int, other: int) -> np.ndarray:
    i = np.arange(n, dtype=np.int64)
    return 1000 * i + np.where(i < turn, text, other)


def cluster_row(seed: int, data: int, layer: int, head: int, n: int, first: int, recent: int) -> np.ndarray:
    """int32 [n]: the token that each one joins, itself, or -1."""
    i = np.arange(n, dtype=np.int64)
    choice = bells(seed, data, layer, CLUSTERS, np.array([head]), n)[0] % 4  # never negative
    stays = (i % 4 == 0) | (i < first) | (i >= n - recent) | (choice >= 2)
    return np.where(stays, i, np.where(choice == 0, i - i % 4, -1)).astype(np.int32)
