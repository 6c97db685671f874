"""--assign on a real model: within its bytes, the same every time, and no worse in measured KL than one codec of those bytes for all layers."""
import numpy as np
import pytest
from kvc_eval.assign import Candidate, choose, probe_model
from kvc_eval.evaluate import Evaluation
from kvc_eval.gguf_file import GgufFile
from kvc_eval.known_models import gguf_path
from kvc_eval.model import load_model
from kvc_eval.modes import Mode
from kvc_eval.texts import READ, novel
from kvc_eval.tokens import TextTokenizer

TOKENS = 384  # sample and text
CODECS = ["int4", "int3", "int2"]


@pytest.fixture(scope="module")
def model():
    return load_model(gguf_path("smollm2"))


@pytest.fixture(scope="module")
def tokens():
    return np.array(TextTokenizer(GgufFile(gguf_path("smollm2"))).encode(novel(READ))[:TOKENS], np.int64)


def test_bits_where_they_matter_beat_the_same_bits_everywhere(model, tokens):
    candidates = [Candidate(codec) for codec in CODECS]
    probe = probe_model(model, tokens, candidates, 2, lambda line: None)
    budget = int(probe.sizes[:, CODECS.index("int3")].sum())
    chosen = choose(probe, budget)
    assert chosen.bytes <= budget and set(chosen.codecs) == set(CODECS)
    modes = [Mode("int3", "int3"), Mode("assigned", chosen.codecs)]
    _, (uniform, assigned) = Evaluation(model, modes, tokens, chunk=128, threads=2).run([])
    assert assigned["bytes_cache"] <= uniform["bytes_cache"]
    assert assigned["kl"] <= uniform["kl"]
