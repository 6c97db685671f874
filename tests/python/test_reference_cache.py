import numpy as np
import pytest
from kvc_eval.model import AttentionShape
from kvc_eval.reference_cache import ReferenceCache, attention


def tensors(tokens: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((tokens, heads, 16)).astype(np.float32) for heads in (4, 2, 2)]


def direct(q, k, v, window: int) -> np.ndarray:
    """Attention by its definition, one query and head at a time, in double precision."""
    out = np.zeros(q.shape)
    for i in range(len(q)):
        first = max(0, i + 1 - window) if window else 0
        for head in range(q.shape[1]):
            keys, values = k[first:i + 1, head // 2].astype(np.float64), v[first:i + 1, head // 2].astype(np.float64)
            weights = np.exp(keys @ q[i, head].astype(np.float64) / 4.0)
            out[i, head] = weights @ values / weights.sum()
    return out


@pytest.mark.parametrize("window", [0, 1, 5, 40])
@pytest.mark.parametrize("cuts", [[0, 33], [0, 1, 2, 20, 33], list(range(34))])
def test_attention_of_a_cut_stream(window, cuts):
    q, k, v = tensors(33)
    cache = ReferenceCache(AttentionShape(1, 4, 2, 16, (window,)))
    sequence, outputs = cache.create_sequence(), []
    for first, end in zip(cuts, cuts[1:]):
        with cache.step([sequence], [end - first]) as step:
            outputs.append(step.attend(0, q[first:end], k[first:end], v[first:end]))
    np.testing.assert_allclose(np.concatenate(outputs), direct(q, k, v, window), atol=2e-6)


def test_ragged_batch_equals_single_sequences():
    q, k, v = tensors(12)
    cache = ReferenceCache(AttentionShape(1, 4, 2, 16, (0,)))
    with cache.step([cache.create_sequence() for _ in range(3)], [5, 0, 7]) as step:
        out = step.attend(0, q, k, v)
    np.testing.assert_allclose(out[:5], direct(q[:5], k[:5], v[:5], 0), atol=2e-6)
    np.testing.assert_allclose(out[5:], direct(q[5:], k[5:], v[5:], 0), atol=2e-6)


def test_nothing_attends_to_nothing():
    empty = np.empty((0, 4, 16), np.float32)
    assert attention(empty, np.empty((2, 0, 16), np.float32), np.empty((2, 0, 16), np.float32)).shape == (0, 4, 16)


def test_an_exception_commits_nothing():
    q, k, v = tensors(3)
    cache = ReferenceCache(AttentionShape(1, 4, 2, 16, (0,)))
    sequence = cache.create_sequence()
    with pytest.raises(ZeroDivisionError):
        with cache.step([sequence], [3]) as step:
            step.attend(0, q, k, v)
            raise ZeroDivisionError
    assert cache.length(sequence) == 0
