"""What is asked for again, under spy.c as spied_cases.py is: snapshots that no longer are what their size was told of, and ends of steps
that the library refused."""
import ctypes
import gc
import os
import sys

import kvc
import numpy as np
import pytest

SPY = ctypes.CDLL(None)
ABORT_STATUS = ctypes.c_int32.in_dll(SPY, "spy_abort_status")
BETWEEN = ctypes.c_void_p.in_dll(SPY, "spy_between")
ROW = np.ones((1, 1, 64), np.float32)


@pytest.fixture
def cache():
    with kvc.Cache(layers=1, kv_heads=1, k_dim=64, arena_tokens=1024, arena_growth=1) as opened:
        yield opened
    ABORT_STATUS.value, BETWEEN.value = 0, None


def append(cache: kvc.Cache, sequence: kvc.Sequence, tokens: int) -> None:
    with cache.step([sequence], [tokens]) as step:
        rows = np.random.default_rng(tokens).standard_normal((tokens, 1, 64)).astype(np.float32)
        step.append(0, rows, rows)


@pytest.fixture
def between():
    """Has something done whenever a snapshot was asked for its size or number, so many times; answers how often it was."""
    kept = []

    def arm(change, times: int) -> list[int]:
        done = []

        @ctypes.CFUNCTYPE(None)
        def call():
            if len(done) < times:
                done.append(len(done))
                change()
        kept.append(call)  # the library calls it
        BETWEEN.value = ctypes.cast(call, ctypes.c_void_p).value
        return done
    yield arm
    BETWEEN.value = None


# ---- snapshots ----

@pytest.mark.parametrize("times", [1, 7])
def test_an_export_that_grew_is_asked_for_again(cache, between, times):
    sequence = cache.create_sequence()
    append(cache, sequence, 200)
    before, done = cache.export(), between(lambda: append(cache, sequence, cache.length(sequence)), times)
    snapshot = cache.export([sequence])
    assert len(done) == times and len(snapshot) > len(before)
    assert snapshot == cache.export()
    [copy] = cache.import_(snapshot)
    assert cache.length(copy) == cache.length(sequence) == 200 * 2**times


def test_an_export_that_shrank_is_no_longer_than_it_is(cache, between):
    sequence = cache.create_sequence()
    append(cache, sequence, 500)
    before, done = cache.export(), between(lambda: cache.truncate(sequence, 100, inexact=True), 1)
    snapshot = cache.export()
    assert done and len(snapshot) < len(before) and snapshot == cache.export()


def test_what_is_wrong_with_an_export_is_told_once(cache, between):
    sequence, ended = cache.create_sequence(), cache.create_sequence()
    done = between(lambda: None, 100)
    with pytest.raises(kvc.ArgumentError, match="twice"):
        cache.export([sequence, sequence])
    assert len(done) == 1
    between(lambda: cache.destroy_sequence(ended), 1)
    with pytest.raises(kvc.HandleError):
        cache.export([sequence, ended])


def test_a_file_that_was_replaced_is_read_again(cache, between, tmp_path):
    held = [cache.create_sequence() for _ in range(100)]
    for i, sequence in enumerate(held):
        append(cache, sequence, i + 1)
    cache.save(tmp_path / "one", held[:1])
    cache.save(tmp_path / "many", held)
    done = between(lambda: os.replace(tmp_path / "many", tmp_path / "one"), 1)
    loaded = cache.load(tmp_path / "one")
    assert done and [cache.length(sequence) for sequence in loaded] == list(range(1, 101))
    assert cache.stats().sequences == 200
    between(lambda: os.remove(tmp_path / "one"), 1)
    with pytest.raises(kvc.FileError):
        cache.load(tmp_path / "one")
    assert cache.stats().sequences == 200


# ---- ends of steps ----

REFUSED = kvc.Status.E_CAPTURE  # as while the stream of the step is captured


def test_a_refused_abort_leaves_the_step_open(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    ABORT_STATUS.value = REFUSED
    for _ in range(2):
        with pytest.raises(kvc.CaptureError, match="step_abort: told to fail"):
            step.abort()
        assert step.is_open and cache.stats().open_steps == 1
    step.append(0, ROW, ROW)
    ABORT_STATUS.value = 0
    step.abort()
    assert not step.is_open and cache.stats().open_steps == 0 and cache.length(sequence) == 0
    step.abort()


def test_a_block_whose_end_is_refused_says_why_first(cache):
    ABORT_STATUS.value = REFUSED
    with pytest.raises(kvc.OrderError), cache.step([cache.create_sequence()], [1]) as uncommitted:
        pass  # nothing was appended
    with pytest.raises(kvc.CaptureError) as refused, cache.step([cache.create_sequence()], [1]) as failed:
        1 // 0
    assert isinstance(refused.value.__context__, ZeroDivisionError)
    assert uncommitted.is_open and failed.is_open and cache.stats().open_steps == 2
    ABORT_STATUS.value = 0
    uncommitted.abort()
    failed.abort()
    assert cache.stats().open_steps == 0


def test_a_step_is_not_open_when_its_cache_is_gone(cache):
    step = cache.step([cache.create_sequence()], [1])
    cache.close()
    with pytest.raises(kvc.HandleError):
        step.abort()
    assert not step.is_open
    step.abort()


@pytest.mark.parametrize("later", [lambda cache, sequence: cache.step([sequence], [1]).abort(), lambda cache, sequence: cache.create_sequence(),
                                   lambda cache, sequence: cache.destroy_sequence(sequence)])
@pytest.mark.parametrize("in_cycle", [False, True])
def test_a_dropped_step_ends_when_it_can(cache, later, in_cycle):
    sequence = cache.create_sequence()
    kept = [cache.step([sequence], [1])]
    if in_cycle:
        kept.append(kept)
    ABORT_STATUS.value = REFUSED
    del kept
    gc.collect()
    assert cache.stats().open_steps == 1
    with pytest.raises(kvc.BusyError):
        cache.step([sequence], [1])
    ABORT_STATUS.value = 0
    later(cache, sequence)
    assert cache.stats().open_steps == 0


def test_a_dropped_step_and_its_sequence_end_when_they_can(cache):
    step = cache.step([cache.create_sequence()], [1])
    ABORT_STATUS.value = REFUSED
    del step
    assert cache.stats().open_steps == cache.stats().sequences == 1
    ABORT_STATUS.value = 0
    with cache.create_sequence():
        assert cache.stats().open_steps == 0 and cache.stats().sequences == 1


def test_a_cache_takes_the_steps_that_were_dropped_with_it():
    for _ in range(3):
        with kvc.Cache(layers=1, kv_heads=1, k_dim=64, arena_tokens=64) as cache:
            step = cache.step([cache.create_sequence()], [1])
            ABORT_STATUS.value = REFUSED
            del step
        ABORT_STATUS.value = 0


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__, *sys.argv[1:]]))
