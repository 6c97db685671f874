import numpy as np
import pytest
from kvc_eval.metrics import Fidelity, ReferenceChunk


def logits(rows: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, 50)) * 4).astype(np.float32)


def test_equal_distributions():
    reference, fidelity = logits(6, 1), Fidelity()
    fidelity.add(ReferenceChunk(reference), reference + np.float32(3.0), np.arange(6))
    summary = fidelity.summary()
    assert abs(summary["kl"]) < 1e-6 and summary["top1"] == 1.0


def test_against_the_definition_in_double_precision():
    reference, other, next_tokens = logits(8, 1), logits(8, 2), np.arange(8) * 3
    fidelity = Fidelity()
    fidelity.add(ReferenceChunk(reference[:5]), other[:5], next_tokens[:5])
    fidelity.add(ReferenceChunk(reference[5:]), other[5:], next_tokens[5:])
    p, q = (np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(-1, keepdims=True) for x in (reference, other))
    kl = (p * np.log(p / q)).sum(-1)
    expected = {
        "kl": kl.mean(), "kl_p99": np.percentile(kl, 99), "top1": (p.argmax(-1) == q.argmax(-1)).mean(),
        "ppl": np.exp(-np.log(q[np.arange(8), next_tokens]).mean()),
    }
    assert fidelity.summary() == pytest.approx(expected, rel=1e-5)


def test_figures_by_position_are_those_of_their_positions():
    reference, other, next_tokens = logits(7, 1), logits(7, 2), np.arange(7)
    whole = Fidelity()
    whole.add(ReferenceChunk(reference[:3]), other[:3], next_tokens[:3], position=6)
    whole.add(ReferenceChunk(reference[3:]), other[3:], next_tokens[3:])  # follows
    bins = whole.by_position(4)
    assert [one["position"] for one in bins] == [6, 8, 12]
    for one, rows in zip(bins, (slice(0, 2), slice(2, 6), slice(6, 7))):
        part = Fidelity()
        part.add(ReferenceChunk(reference[rows]), other[rows], next_tokens[rows])
        assert {field: one[field] for field in ("kl", "top1", "ppl")} == pytest.approx(
            {field: part.summary()[field] for field in ("kl", "top1", "ppl")}, rel=1e-4)


def test_bins_of_which_nothing_was_judged_are_left_out():
    fidelity = Fidelity()
    for position in (0, 8, 20):
        fidelity.add(ReferenceChunk(logits(2, 1)), logits(2, 2), np.arange(2), position)
    assert [one["position"] for one in fidelity.by_position(4)] == [0, 8, 20]


def test_the_last_position_has_no_successor_and_does_not_count():
    reference, other = logits(3, 1), logits(3, 2)
    whole, cut = Fidelity(), Fidelity()
    whole.add(ReferenceChunk(reference), other, np.array([1, 2]))
    cut.add(ReferenceChunk(reference[:2]), other[:2], np.array([1, 2]))
    assert whole.summary() == pytest.approx(cut.summary(), rel=1e-6)
