"""What no operation script says arrives in the library: budgets of sequences, limits of steps, frequencies, files."""
import kvc
import numpy as np
import pytest

DIM = 64


def rows(tokens: int, heads: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, heads, DIM)).astype(np.float32)


def run(cache: kvc.Cache, sequence: kvc.Sequence, tokens: int, seed: int = 0, layers: int = 1) -> list[np.ndarray]:
    """One step, and what its layers attended to."""
    outs = []
    with cache.step([sequence], [tokens]) as step:
        for layer in range(layers):
            step.append(layer, rows(tokens, 1, 3 * seed + layer), rows(tokens, 1, 3 * seed + layer + 100))
            outs.append(step.attend(layer, rows(tokens, 1, 3 * seed + layer + 200)))
    return outs


# ---- budgets and limits ----

@pytest.mark.parametrize("budget", [96, 200])
def test_a_sequence_keeps_to_its_own_budget(budget):
    with kvc.Cache(layers=1, kv_heads=1, k_dim=DIM, codec="fp16", arena_tokens=4096, policy="h2o:160,every=commit") as cache:
        own, other = cache.create_sequence(), cache.create_sequence()
        cache.set_budget(own, budget)
        for i in range(6):
            for sequence in (own, other):
                run(cache, sequence, 50, i)
        assert (cache.live(own, 0, 0), cache.live(other, 0, 0)) == (budget, 160)
        cache.set_budget(own, 0)  # the policy's again; what was evicted stays so
        run(cache, own, 1, 7)
        assert cache.live(own, 0, 0) == min(budget + 1, 160)
        cache.set_budget(own, 72)
        assert cache.evict(own).tokens_evicted == min(budget + 1, 160) - 72 and cache.live(own, 0, 0) == 72


def test_a_step_reaches_to_the_next_boundary():
    shape = dict(layers=1, kv_heads=1, k_dim=DIM, arena_tokens=4096)
    for options, tokens, limits in ((dict(policy="h2o:256,every=96"), 60, (96, 36)), (dict(codec="int8/int4@1024"), 500, (512, 12)),
                                    ({}, 10, (1 << 40, 1 << 40))):
        with kvc.Cache(**shape, **options) as cache:
            sequence = cache.create_sequence()
            before = cache.step_limit(sequence)
            run(cache, sequence, tokens)
            assert (before, cache.step_limit(sequence)) == limits
            if limits[1] < 1 << 40:
                with pytest.raises(kvc.ArgumentError):
                    cache.step([sequence], [limits[1] + 1])
                run(cache, sequence, limits[1])
                assert cache.step_limit(sequence) == limits[0]


# ---- frequencies ----

def turned(numbers: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """[tokens, DIM] by positions from 0 on, pairs in halves."""
    angles = np.arange(len(numbers))[:, None] * frequencies
    one, other = numbers[:, :DIM // 2], numbers[:, DIM // 2:]
    return np.concatenate([one * np.cos(angles) - other * np.sin(angles), one * np.sin(angles) + other * np.cos(angles)], axis=1)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    logits = turned(q, frequencies) @ turned(k, frequencies).T / np.sqrt(DIM)
    weights = np.where(np.tril(np.ones_like(logits)), np.exp(logits), 0)
    return weights / weights.sum(axis=1, keepdims=True) @ v


def test_frequencies_turn_the_layer_that_they_are_of():
    theirs, own = 10000.0 ** (-2 * np.arange(DIM // 2) / DIM), np.linspace(0.9, 0.01, DIM // 2)
    q, k, v = (rows(30, 1, seed).astype(np.float16).astype(np.float32) for seed in (1, 2, 3))
    with kvc.Cache(layers=2, kv_heads=1, k_dim=DIM, codec="fp16", arena_tokens=256, keys=kvc.Keys.KEYS_BEFORE_ROPE, rope_theta=10000.0) as cache:
        cache.set_rope_frequencies(1, own)
        with cache.step([cache.create_sequence()], [30]) as step:
            for layer, frequencies in enumerate((theirs, own)):
                step.append(layer, k, v)
                out = step.attend(layer, q)[:, 0]
                expected = [attended(q[:, 0], k[:, 0], v[:, 0], each) for each in (theirs, own)]
                np.testing.assert_allclose(out, expected[layer], atol=2e-3)
                assert np.abs(out - expected[1 - layer]).max() > 0.1
        with pytest.raises(kvc.OrderError):
            cache.set_rope_frequencies(0, own)  # a sequence is there
    with kvc.Cache(layers=2, kv_heads=1, k_dim=DIM, arena_tokens=256, keys=kvc.Keys.KEYS_BEFORE_ROPE, rope_theta=10000.0) as cache:
        for wrong in (own[:-1], own * 1e12):
            with pytest.raises(kvc.ArgumentError):
                cache.set_rope_frequencies(0, wrong)


# ---- files ----

def test_what_is_saved_is_loaded_elsewhere(tmp_path):
    options = dict(layers=2, kv_heads=1, k_dim=DIM, codec="int4", arena_tokens=1024, arena_growth=1)
    with kvc.Cache(**options) as cache, kvc.Cache(**options) as other:
        held = [cache.create_sequence() for _ in range(3)]
        for i, sequence in enumerate(held):
            run(cache, sequence, 200 + i, i, layers=2)
        chosen = [held[2], held[0]]
        cache.save(tmp_path / "some", chosen)
        cache.save(tmp_path / "all")
        assert (tmp_path / "some").read_bytes() == cache.export(chosen) and (tmp_path / "all").read_bytes() == cache.export()
        loaded = other.load(tmp_path / "some")
        assert [other.length(sequence) for sequence in loaded] == [202, 200]
        for sequence, copy in zip(chosen, loaded):
            for layer in range(2):
                for part in ("keys", "values"):
                    np.testing.assert_array_equal(other.read(copy, layer, 0, part, DIM), cache.read(sequence, layer, 0, part, DIM))
            np.testing.assert_array_equal(run(other, copy, 3, 9, layers=2), run(cache, sequence, 3, 9, layers=2))
        assert [other.length(sequence) for sequence in other.load(tmp_path / "all")] == [200, 201, 202]
        (tmp_path / "some").write_bytes(b"short")
        with pytest.raises(kvc.CorruptError):
            other.load(tmp_path / "some")
        assert other.stats().sequences == len(loaded)
