"""What the calls of a decode step cost from Python; bench/README.md says what is timed."""
import json
import sys
from statistics import median
from time import perf_counter_ns

import kvc
import numpy as np

LAYERS, KV_HEADS, Q_HEADS, DIM = 30, 3, 9, 64
ROUNDS, NO_OPS, SEQUENCES, SHORT_STEPS = 21, 20_000, 300, 32


def fill(tokens: int, heads: int) -> np.ndarray:
    row = (np.arange(heads * DIM) * 37 % 101 - 50).astype(np.float32) / np.float32(50)
    return np.tile(row.reshape(1, heads, DIM), (tokens, 1, 1))


K, V, Q, OUT = fill(1, KV_HEADS), fill(1, KV_HEADS), fill(1, Q_HEADS), fill(1, Q_HEADS)


def new_cache(tokens: int) -> kvc.Cache:
    return kvc.Cache(layers=LAYERS, kv_heads=KV_HEADS, q_heads=Q_HEADS, k_dim=DIM, codec="int4", arena_tokens=tokens)


def no_op_ns() -> float:
    library, samples = kvc.default_library(), []
    for _ in range(ROUNDS):
        begin = perf_counter_ns()
        for _ in range(NO_OPS):
            library.abi_version()
        samples.append((perf_counter_ns() - begin) / NO_OPS)
    return median(samples)


def calls_ns() -> tuple[float, float]:
    """Of one append and one attend over next to nothing."""
    appends, attends = [], []
    with new_cache(1024) as cache:
        for _ in range(SEQUENCES):
            with cache.create_sequence() as sequence:
                for _ in range(SHORT_STEPS):
                    with cache.step([sequence], [1]) as step:
                        begin = perf_counter_ns()
                        for layer in range(LAYERS):
                            step.append(layer, K, V)
                        middle = perf_counter_ns()
                        for layer in range(LAYERS):
                            step.attend_into(layer, Q, OUT)
                        end = perf_counter_ns()
                    appends.append((middle - begin) / LAYERS)
                    attends.append((end - middle) / LAYERS)
    return median(appends), median(attends)


def decode(cache: kvc.Cache, sequence: kvc.Sequence) -> None:
    with cache.step([sequence], [1]) as step:
        for layer in range(LAYERS):
            step.append_attend(layer, K, V, Q, OUT)


def answer(context: int, most_steps: int) -> None:
    """A line on stdin asks for so many steps and is answered with the median of their second half."""
    with new_cache(context + most_steps) as cache, cache.create_sequence() as sequence:
        rows = fill(context, KV_HEADS)
        with cache.step([sequence], [context]) as step:
            for layer in range(LAYERS):
                step.append(layer, rows, rows)
        for line in sys.stdin:
            samples = []
            for _ in range(int(line)):
                begin = perf_counter_ns()
                decode(cache, sequence)
                samples.append((perf_counter_ns() - begin) / 1000)
            print(round(median(samples[len(samples) // 2:]), 2), flush=True)
    print("{}")


def main() -> None:
    no_op, (append, attend) = no_op_ns(), calls_ns()
    print(json.dumps({"noop_ns": round(no_op, 2), "append_ns": round(append, 1), "attend_ns": round(attend, 1)}), flush=True)
    answer(*map(int, sys.argv[1:]))


main()
