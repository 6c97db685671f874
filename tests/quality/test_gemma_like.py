"""The attention-output bars of the presets on tensors like Gemma 3's: head dim 256, 4 query heads on 1 kv head, keys whose channels differ
by up to 80 times and have most of their energy in a mean per channel. Real ones are judged by `make test-bars`.

How sharp attention is, is chosen so that a key codec that rotates whole tokens fails as it does on the real model.
"""
import numpy as np
import pytest
from kvc_eval.dump import Dump, LayerDump
from kvc_eval.modes import parse_mode
from kvc_eval.output_error import exact_outputs, output_errors

from full_bars import OUTPUT_BARS

TOKENS, DECODE, DIM = 768, 64, 256
LOUD = [80, 50, 30, 20, 12, 8]  # channels, in multiples of the median one
SHARE_OF_MEAN = 0.77
SHARPNESS = 1.9
ROTATED_KEYS = "k=int4.tok.rot.ls,v=int4.tok.rot.sym,window=128,sinks=4"


def gemma_like(seed: int) -> LayerDump:
    random = np.random.default_rng(seed)
    size = np.exp(0.5 * random.standard_normal(DIM))
    size[random.permutation(DIM)[:len(LOUD)]] = np.median(size) * np.array(LOUD)
    mean, spread = size * random.choice([-1, 1], DIM) * np.sqrt(SHARE_OF_MEAN), size * np.sqrt(1 - SHARE_OF_MEAN)
    k = mean + spread * random.standard_normal((TOKENS, 1, DIM))
    q = SHARPNESS * random.standard_normal((TOKENS, 4, DIM)) / spread  # every channel adds as much to the logits
    v = random.standard_normal((TOKENS, 1, DIM)) + random.standard_normal(DIM)
    return LayerDump(*(x.astype(np.float32) for x in (q, k, v)), scale=DIM ** -0.5)


@pytest.fixture(scope="module")
def dump() -> Dump:
    return Dump("like Gemma 3", [gemma_like(seed) for seed in range(3)])


@pytest.fixture(scope="module")
def exact(dump):
    return exact_outputs(dump, DECODE)


def test_the_tensors_are_as_described(dump):
    for layer in dump.layers:
        k = layer.k[:, 0].astype(np.float64)
        loudness = np.sqrt((k ** 2).mean(0))
        assert 60 <= loudness.max() / np.median(loudness) <= 100
        assert 0.7 <= (k.mean(0) ** 2).sum() / (k ** 2).mean(0).sum() <= 0.85


@pytest.mark.parametrize("preset", OUTPUT_BARS)
def test_output_error(dump, exact, preset):
    errors = output_errors(dump, parse_mode(preset), exact, 1).layers()
    assert max(errors) <= OUTPUT_BARS[preset]
    assert min(errors) >= OUTPUT_BARS[preset] / 4  # far less would mean that nothing was compressed


def test_keys_rotated_per_token_do_not_survive(dump, exact):
    """At the bits of int4: one loud channel is smeared over all."""
    assert min(output_errors(dump, parse_mode(ROTATED_KEYS), exact, 1).layers()) > 5 * OUTPUT_BARS["int4"]
