"""What the presets cost a real model, on a run short enough for every change; make eval is the full one.

EXPECTED holds the figures of the numpy presets (numpy_presets.py) on the same tokens: the kernels may add noise, not error.
The negative control shows that the test can fail: a cache that forgets its first tokens is far off.
"""
import numpy as np
import pytest
from kvc_eval.evaluate import Evaluation
from kvc_eval.gguf_file import GgufFile
from kvc_eval.known_models import gguf_path
from kvc_eval.model import load_model
from kvc_eval.modes import parse_mode
from kvc_eval.texts import READ, novel
from kvc_eval.tokens import TextTokenizer

TOKENS = 768
CONTROL = "streaming:20%,sinks=0"

# Mode: KL and top-1 of the numpy preset on these tokens, and the bits per element that a coded page may take.
EXPECTED = {
    "fp16": (0.0000004, 1.000, 16.0),
    "int8": (0.0000130, 1.000, 8.5),
    "int4": (0.0013926, 0.982, 4.5),
    "int3": (0.0054258, 0.953, 3.5),
    "k3v2": (0.0112508, 0.935, 3.0),
    "int2": (0.0319550, 0.896, 2.5),
    "kivi4": (0.0035522, 0.973, 5.0),
    "kivi2": (0.1408900, 0.773, 3.0),
}


@pytest.fixture(scope="module")
def results():
    file = GgufFile(gguf_path("smollm2"))
    tokens = np.array(TextTokenizer(file).encode(novel(READ))[:TOKENS], np.int64)
    modes = [parse_mode(name) for name in [*EXPECTED, CONTROL]]
    reference, measured = Evaluation(load_model(file.path), modes, tokens, chunk=128, threads=2).run([])
    return {result["name"]: result for result in measured} | {"reference": reference}


@pytest.mark.parametrize("name", EXPECTED)
def test_error_is_the_codec_s_own(results, name):
    kl, top1, _ = EXPECTED[name]
    assert results[name]["kl"] <= 1.2 * kl + 1e-6
    assert results[name]["kl"] >= 0.8 * kl - 1e-6  # far less would mean that the mode does not run at all
    assert results[name]["top1"] >= top1 - 0.01


@pytest.mark.parametrize("name", EXPECTED)
def test_bytes_held(results, name):
    result, bits = results[name], EXPECTED[name][2]
    assert result["codec_bits"] <= bits
    assert result["effective_bits"] >= result["codec_bits"]
    # At most: 128 + 63 newest tokens and 4 sinks in 16 bits, half-filled records, page tables.
    assert result["effective_bits"] <= bits + (16 - bits) * 256 / TOKENS + 0.1


def test_more_bits_are_never_worse(results):
    order = ["fp16", "int8", "int4", "int3", "k3v2", "int2", "kivi2"]
    errors = [results[name]["kl"] for name in order]
    assert errors == sorted(errors)
    assert results["int4"]["kl"] < results["kivi4"]["kl"]


def test_a_window_without_sinks_is_far_off(results):
    assert results[CONTROL]["kl"] >= 0.3


def test_perplexity_follows(results):
    assert results["int4"]["ppl"] == pytest.approx(results["reference"]["ppl"], rel=0.01)
