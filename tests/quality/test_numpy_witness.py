"""The library against the presets written a second time in numpy: the same codes, the same attention."""
import kvc
import numpy as np
import pytest
from kvc_eval.model import AttentionShape
from numpy_presets import PAGE, PRESETS, NumpyPresetCache, coded_end, fp16, kivi_keys, kivi_values, plain_channels, plain_tokens, rotation

HEADS, Q_HEADS, DIM = 2, 6, 64


def stream(tokens: int, seed: int):
    """Keys with a mean and a few large channels, as models have them; values and queries without."""
    random = np.random.default_rng(seed)
    keys = random.standard_normal((tokens, HEADS, DIM)) * (1 + 8 * (np.arange(DIM) % 17 == 3)) + random.standard_normal((1, HEADS, DIM)) * 2
    values = random.standard_normal((tokens, HEADS, DIM))
    queries = random.standard_normal((tokens, Q_HEADS, DIM))
    return [x.astype(np.float32) for x in (queries, keys, values)]


def read_through_library(codec: str, q, k, v, cuts: list[int], **check):
    """Attention outputs of a stream cut into steps; check(cache, sequence) looks at the end."""
    outputs = []
    with kvc.Cache(layers=1, kv_heads=HEADS, q_heads=Q_HEADS, k_dim=DIM, codec=codec, arena_tokens=len(q)) as cache:
        sequence = cache.create_sequence(prompt_length=len(q))
        for first, end in zip(cuts, cuts[1:]):
            with cache.step([sequence], [end - first]) as step:
                step.append(0, k[first:end], v[first:end])
                outputs.append(step.attend(0, q[first:end]))
        seen = {name: look(cache, sequence) for name, look in check.items()}
    return np.concatenate(outputs), seen


def codes_of(part: str):
    return lambda cache, sequence: [cache.read_codes(sequence, 0, head, part, DIM) for head in range(HEADS)]


@pytest.mark.parametrize("bits", [4, 2])
def test_kivi_codes_equal_the_published_quantizers(bits):
    q, k, v = stream(PAGE * 5 + 30, seed=bits)
    k[:, 1, 5] = 0.75  # a constant channel, which has no range to scale by
    v[PAGE, 0, :32] = -2.5  # and a constant group of a token
    _, codes = read_through_library(f"kivi{bits}", q, k, v, [0, 100, 101, len(q)], keys=codes_of("keys"), values=codes_of("values"))
    coded = coded_end(len(q), PRESETS[f"kivi{bits}"])
    assert coded == PAGE * 3
    for first in range(0, coded, PAGE):
        page = slice(first, first + PAGE)
        expected_keys, expected_values = kivi_keys(fp16(k[page]), bits)[0], kivi_values(fp16(v[page]), bits)[0]
        for head in range(HEADS):
            np.testing.assert_array_equal(codes["keys"][head][page], expected_keys[:, head])
            np.testing.assert_array_equal(codes["values"][head][page], expected_values[:, head])


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_plain_codes_of_a_whole_tensor(bits):
    """A page is the whole tensor: a channel of it has one scale, and so has a token."""
    q, k, v = stream(PAGE, seed=20 + bits)
    k[:, 0, 9] = -1.25
    v[3, 1, :] = 4.0
    v[4, 0, :] = 0.0
    codec = f"k=int{bits}.ch.g64,v=int{bits}.tok,window=0,sinks=0"
    _, codes = read_through_library(codec, q, k, v, [0, PAGE], keys=codes_of("keys"), values=codes_of("values"))
    expected_keys, expected_values = plain_channels(fp16(k), bits), plain_tokens(fp16(v), bits)
    for head in range(HEADS):
        np.testing.assert_array_equal(codes["keys"][head], expected_keys[:, head])
        np.testing.assert_array_equal(codes["values"][head], expected_values[:, head])


@pytest.mark.parametrize("preset", PRESETS)
def test_attention_equals_the_numpy_preset(preset):
    """The order of sums differs, which may move a number at the edge of two codes to the other one: rarely, and by one step."""
    q, k, v = stream(PAGE * 7 + 11, seed=7)
    got, _ = read_through_library(preset, q, k, v, [0, 200, 264, 265, len(q)])
    witness = NumpyPresetCache(AttentionShape(1, Q_HEADS, HEADS, DIM, (0,)), preset, len(q))
    with witness.step([witness.create_sequence()], [len(q)]) as step:
        expected = step.attend(0, q, k, v)
    error = np.linalg.norm(got - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
    assert error.max() < 2e-3
    assert error.mean() < 5e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_numpy_preset_does_not_depend_on_the_cut(preset):
    q, k, v = stream(PAGE * 6 + 1, seed=3)
    outputs = []
    for cuts in ([0, len(q)], [0, 1, 150, 151, 300, len(q)]):
        witness = NumpyPresetCache(AttentionShape(1, Q_HEADS, HEADS, DIM, (0,)), preset, len(q))
        sequence, parts = witness.create_sequence(), []
        for first, end in zip(cuts, cuts[1:]):
            with witness.step([sequence], [end - first]) as step:
                parts.append(step.attend(0, q[first:end], k[first:end], v[first:end]))
        outputs.append(np.concatenate(parts))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=0, atol=2e-5)


def test_boundary_of_codes():
    """f(n) = S + 64 floor((n - S - W) / 64): changes when n - S - W is a multiple of 64, and never goes back."""
    preset = PRESETS["int8"]
    assert [coded_end(n, preset) for n in (0, 1, 67, 68, 131, 132, 195, 196)] == [4, 4, 4, 4, 4, 68, 68, 132]


def test_rotation_is_its_own_inverse():
    matrix = rotation(64)
    np.testing.assert_allclose(matrix @ matrix, np.eye(64), atol=1e-6)
