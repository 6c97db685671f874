"""What takes too long for python-test: storms of objects, collections and threads."""
import gc
import random
import threading
import time

import kvc
import numpy as np

SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64)
SECONDS = 20


def turn(cache: kvc.Cache, choose: random.Random, kept: list) -> None:
    """One sequence that is fed, forked, cut, exported, brought back, and dropped somewhere on the way."""
    sequence, tokens = cache.create_sequence(), choose.randrange(1, 150)
    rows = np.ones((tokens, 4, 64), np.float32)
    step = cache.step([sequence], [tokens])
    for layer in range(2):
        step.append(layer, rows[:, :2].copy(), rows[:, 2:].copy())
        if choose.random() < 0.1:
            return
        step.attend(layer, rows)
    step.commit()
    fork = cache.fork(sequence, tokens)
    del sequence
    if choose.random() < 0.5:
        [fork] = cache.import_(cache.export([fork]))
    kept.append((fork, step))
    while len(kept) > 5:
        kept.pop(choose.randrange(len(kept)))
    if choose.random() < 0.1:
        kept.append([kept, fork])  # only the collector ends this
        del kept[:]


def test_threads_that_drop_everything_leave_nothing():
    with kvc.Cache(codec="int4", arena_tokens=1024, arena_growth=1, **SHAPE) as cache:
        faults, end = [], time.monotonic() + SECONDS

        def storm(seed: int) -> None:
            choose, kept = random.Random(seed), []
            try:
                while time.monotonic() < end:
                    turn(cache, choose, kept)
                    if choose.random() < 0.05:
                        gc.collect()
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        gc.collect()
        cache.create_sequence().close()
        stats = cache.stats()
        assert (stats.sequences, stats.open_steps, stats.record_bytes) == (0, 0, 0)


def test_a_hundred_thousand_caches_leave_none(spy, run_python):
    code = """
import ctypes, gc, kvc
for _ in range(100_000):
    cache = kvc.Cache(layers=1, kv_heads=1, k_dim=64, arena_tokens=64)
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
del cache, sequence, step
gc.collect()
print(ctypes.c_int64.in_dll(ctypes.CDLL(None), "spy_caches").value)
"""
    assert run_python("-c", code, preload=spy).stdout == "0\n"
