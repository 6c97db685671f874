"""What the examples feed: the numbers of docs/SCRIPTS.md, seed 1. A model would give its own keys, values and queries."""
import kvc
import numpy as np

LAYERS, KV_HEADS, Q_HEADS, DIM = 2, 2, 4, 64
KEYS, VALUES, QUERIES = 1, 2, 3


def new_cache(**options) -> kvc.Cache:
    """On the CPU, unless options say otherwise, with the kernels that give the same bits on every machine."""
    return kvc.Cache(layers=LAYERS, kv_heads=KV_HEADS, q_heads=Q_HEADS, k_dim=DIM, codec="int4", arena_tokens=4096,
                     **(options or {"target": "scalar"}))


def key(a, b):
    """uint64 arithmetic, which wraps around."""
    z = a + np.uint64(0x9E3779B97F4A7C15) * (b + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def rows(part: int, layer: int, first: int, tokens: int, data: int) -> np.ndarray:
    """f32 [tokens, heads, DIM] of one sequence's keys, values or queries."""
    heads = Q_HEADS if part == QUERIES else KV_HEADS
    seed, data, where = (np.array([number], np.uint64) for number in (1, data, layer * 8 + part))
    row = key(key(key(seed, data), where), np.arange(first, first + tokens, dtype=np.uint64))
    bits = key(row[:, None], np.arange(heads * DIM, dtype=np.uint64)[None, :])
    n = bits.view(np.uint16).reshape(tokens, heads, DIM, 4).sum(axis=3, dtype=np.int64) - 131070
    return (n / 65536).astype(np.float32)


def run_layer(step: kvc.Step, layer: int, k: np.ndarray, v: np.ndarray, q: np.ndarray) -> np.ndarray:
    step.append(layer, k, v)
    return step.attend(layer, q)


def run(cache: kvc.Cache, sequence: kvc.Sequence, tokens: int, data: int, run_layer=run_layer, **options) -> bytes:
    """One step of one sequence; returns what the layers attended to."""
    first, seen = cache.length(sequence), b""
    with cache.step([sequence], [tokens], **options) as step:
        for layer in range(LAYERS):
            k, v, q = (rows(part, layer, first, tokens, data) for part in (KEYS, VALUES, QUERIES))
            seen += run_layer(step, layer, k, v, q).tobytes()
    return seen
