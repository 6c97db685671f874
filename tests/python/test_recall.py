"""Answers inside the text that is read: what a cache still holds is recalled, what it evicted is not."""
import numpy as np
from kvc_eval.evaluate import Evaluation
from kvc_eval.known_models import gguf_path
from kvc_eval.model import load_model
from kvc_eval.modes import Mode

PERIOD = 150


def test_repeated_tokens_are_recalled_by_what_holds_them():
    tokens = np.tile(np.random.default_rng(1).integers(1000, 20000, PERIOD), 3)
    answers = tuple(range(2 * PERIOD, 3 * PERIOD))
    modes = [Mode("all", "int4"), Mode("window", "fp16", "streaming:4+16")]
    _, (everything, window) = Evaluation(load_model(gguf_path("smollm2")), modes, tokens, chunk=64, threads=2, answers=answers).run([])
    assert everything["recalled"] >= 0.9
    assert window["recalled"] <= 0.3
