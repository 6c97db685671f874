"""What the compiled part makes of arguments: lists that change under it, and names of those that are wrong."""
import kvc
import numpy as np
import pytest

SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64, codec="int4", arena_tokens=1024)


@pytest.fixture
def cache():
    with kvc.Cache(**SHAPE) as opened:
        yield opened


# ---- what changes while it is read ----

class Emptying:
    """A number that, asked for its value, empties the list or dict that it is in, and reuses the memory."""

    def __init__(self, value: int, holder: list | dict):
        self.value, self.holder = value, holder

    def __index__(self) -> int:
        self.holder.clear()
        self.reused = [object() for _ in range(1000)]
        return self.value


def emptying(n: int) -> list:
    numbers: list = []
    numbers += [Emptying(1, numbers), *range(10**12, 10**12 + n)]
    return numbers


def test_a_list_that_changes_while_it_is_read_is_refused(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1], partial_commit=1)
    for use in (lambda changing: cache.step([sequence], changing), lambda changing: cache.step([sequence], [1], changing), step.commit):
        with pytest.raises(kvc.ArgumentError, match="changed while it was read"):
            use(emptying(5000))
    step.abort()
    assert cache.stats().open_steps == 0


def test_a_list_may_change_once_it_was_read(cache):
    sequences: list = [cache.create_sequence()]
    sequences.append(Emptying(int(sequences[0]), sequences))
    with pytest.raises(kvc.ArgumentError, match="2 sequences but 1"):
        cache.step(sequences, [1])
    counts: list = []
    counts.append(Emptying(1, counts))
    cache.step([cache.create_sequence()], counts).abort()


def test_fields_may_leave_their_dict_while_it_is_read(cache):
    fields: dict = {}
    fields.update(sliding_window=Emptying(2**70, fields), causal_offset=0)
    step = cache.step([cache.create_sequence()], [0])
    with pytest.raises(kvc.ArgumentError, match="sliding_window is <.*>; it must be below"):
        step.attend_into(0, np.empty((0, 4, 64), np.float32), np.empty((0, 4, 64), np.float32), None, fields)
