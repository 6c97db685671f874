"""What is read back while another thread commits: kvc.h lets it, and what is live can change between two calls."""
import functools
import threading
from collections.abc import Callable

import kvc
import numpy as np
import pytest
from kvc.library import raw

NUMBERS = ["positions", "read_mass", "read_counts", "rungs"]


def append(cache: kvc.Cache, sequence: kvc.Sequence, tokens: int) -> None:
    rows = np.random.default_rng(0).standard_normal((tokens, 1, 64)).astype(np.float32)
    with cache.step([sequence], [tokens], accumulate=1) as step:
        step.append(0, rows, rows)
        step.attend(0, rows)


@pytest.fixture
def held():
    with kvc.Cache(layers=1, kv_heads=1, k_dim=64, codec="int8/int4", arena_tokens=4096) as cache:
        sequence = cache.create_sequence()
        append(cache, sequence, 512)
        yield cache, sequence


def grow(cache: kvc.Cache, sequence: kvc.Sequence) -> None:
    append(cache, sequence, 200)


def shrink(cache: kvc.Cache, sequence: kvc.Sequence) -> None:
    cache.evict(sequence, budget=150)


def sway(cache: kvc.Cache, sequence: kvc.Sequence) -> None:
    """What is live is as much as before, and was less in between."""
    shrink(cache, sequence)
    append(cache, sequence, 512 - 150)


@pytest.fixture
def meanwhile(monkeypatch, held):
    """Has something done to the sequence once, behind the next call of a function of the compiled part."""
    def arm(name: str, change: Callable[[kvc.Cache, kvc.Sequence], None]) -> None:
        real = getattr(raw, name)

        @functools.wraps(real)
        def once(*arguments):
            monkeypatch.setattr(raw, name, real)
            answer = real(*arguments)
            change(*held)
            return answer
        monkeypatch.setattr(raw, name, once)
    return arm


@pytest.mark.parametrize("change", [grow, shrink, sway])
@pytest.mark.parametrize("name", NUMBERS)
def test_as_many_numbers_as_are_live_are_read(held, meanwhile, name, change):
    cache, sequence = held
    meanwhile("seq_live", change)
    numbers = getattr(cache, name)(sequence, 0, 0)
    assert len(numbers) == cache.live(sequence, 0, 0) != 0
    np.testing.assert_array_equal(numbers, getattr(cache, name)(sequence, 0, 0))


@pytest.mark.parametrize("change", [grow, shrink])
@pytest.mark.parametrize("first", [0, 160, 300])
def test_as_many_rows_as_are_live_are_read(held, meanwhile, change, first):
    cache, sequence = held
    meanwhile("seq_live", change)
    if change is shrink and first > 150:
        with pytest.raises(kvc.ArgumentError):
            cache.read(sequence, 0, 0, "keys", 64, first)
        return
    rows = cache.read(sequence, 0, 0, "keys", 64, first)
    assert len(rows) == cache.live(sequence, 0, 0) - first != 0
    np.testing.assert_array_equal(rows, cache.read(sequence, 0, 0, "keys", 64, first))


@pytest.mark.parametrize("change", [grow, shrink])
def test_a_count_of_rows_is_what_was_asked_for(held, meanwhile, change):
    cache, sequence = held
    meanwhile("seq_live", change)
    if change is shrink:
        with pytest.raises(kvc.RangeError):
            cache.read(sequence, 0, 0, "keys", 64, 0, 300)
    else:
        assert len(cache.read(sequence, 0, 0, "keys", 64, 0, 300)) == 300


@pytest.mark.parametrize("change", [grow, shrink])
def test_as_many_codes_as_are_kept_are_read(held, meanwhile, change):
    cache, sequence = held
    before = len(cache.read_codes(sequence, 0, 0, "keys", 64))
    meanwhile("seq_read_codes", change)
    codes = cache.read_codes(sequence, 0, 0, "keys", 64)
    np.testing.assert_array_equal(codes, cache.read_codes(sequence, 0, 0, "keys", 64))
    assert 0 < len(codes) != before


def test_positions_ascend_while_another_thread_commits_and_evicts():
    with kvc.Cache(layers=1, kv_heads=1, k_dim=64, arena_tokens=8192, policy="h2o:256") as cache:
        sequence, faults, stop = cache.create_sequence(), [], threading.Event()

        def write() -> None:
            try:
                while not stop.is_set():
                    append(cache, sequence, 8)
            except BaseException as fault:
                faults.append(fault)
        append(cache, sequence, 8)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(2000):
                positions = cache.positions(sequence, 0, 0)
                assert len(positions) and (np.diff(positions) > 0).all() and positions[0] == 0
        finally:
            stop.set()
            writer.join()
        assert not faults
