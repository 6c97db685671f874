"""Every verb of the command line over a toy model: its JSON, what it prints, its page."""
import json
import re
import sys

import numpy as np
import pytest
from kvc_eval import cli
from kvc_eval.plots import pareto
from toy_model import LAYERS, VOCABULARY, Characters, ToyModel

TEXT = "It was a bright cold day in April and the clocks were striking. " * 60


class ToySubject:
    """Takes the place of the model and text that the command line names."""

    def __init__(self, arguments):
        self.model, self.tokenizer, self.haystack, self.text_name = ToyModel(), Characters(), TEXT, "<toy>"
        self.model.rope_base = 10000.0
        self.tokens = np.random.default_rng(2).integers(0, VOCABULARY, arguments.tokens)


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs kvc-eval with those arguments; (exit status, JSON, page)."""
    monkeypatch.setattr(cli, "Subject", ToySubject)

    def run(*arguments) -> tuple[int, dict, str]:
        paths = [tmp_path / "out.json", tmp_path / "out.html"]
        monkeypatch.setattr(sys, "argv", ["kvc-eval", "--tokens", "400", "--threads", "1", "--needles", "0", *map(str, arguments),
                                          "--json", str(paths[0]), "--html", str(paths[1])])
        status = cli.main()
        page = paths[1].read_text()
        assert not re.search(r'<script|(src|href)\s*=\s*"(?!#|data:)', page) and "<toy>" not in page  # nothing fetched, everything escaped
        return status, json.loads(paths[0].read_text()), page

    return run


def test_tasks_and_positions(evaluate):
    status, report, page = evaluate("--modes", "h2o:50%", "--tasks", "100", "--by-position", "64")
    assert status == 0 and set(report["reference"]["tasks"]) == set(report["modes"][0]["tasks"])
    assert len(report["modes"][0]["grid"]) == 10
    assert [one["position"] for one in report["modes"][0]["by_position"]] == [256, 320, 384]
    assert page.count("<svg") == 2 + 2 + 2 * 2  # KL and top-1, by position, needle maps of two rows
    assert "key-value copying" in page


def test_judging_some_chunks_gives_the_figures_of_those(evaluate):
    _, whole, _ = evaluate("--modes", "int4", "--by-position", "64")
    _, some, _ = evaluate("--modes", "int4", "--by-position", "64", "--judge-every", "2")  # chunks of 64: 320 .. 383, and 192 .. 255 does not count
    assert some["modes"][0]["by_position"] == [one for one in whole["modes"][0]["by_position"] if one["position"] == 320]
    assert some["modes"][0]["kl"] == pytest.approx(some["modes"][0]["by_position"][0]["kl"])


def test_a_recommendation_from_a_fresh_run(evaluate, capsys):
    status, report, page = evaluate("--modes", "fp16,int8,int4", "--recommend", "--task", "chat", "--max-kl", "1e9")
    assert status == 0 and report["recommendation"]["chosen"] == "int4"
    assert "recommended: int4" in capsys.readouterr().out and "<b>recommended</b>" in page


def test_an_assignment_is_a_mode_of_its_bytes(evaluate, capsys, tmp_path):
    calibration = tmp_path / "calibration"
    status, report, page = evaluate("--assign", "11bits", "--calibrate", calibration)
    found = report["assignment"]
    assert status == 0 and len(found["codecs"]) == LAYERS and page.count("<svg") == 1
    assert found["unit"] == "KL" and found["bytes"] <= found["budget_bytes"]
    assert all(one["predicted"] >= found["predicted"] for one in found["uniform"] if one["within"])
    assert "predicted KL" in capsys.readouterr().out
    status, report, page = evaluate("--modes", f"int4,@{calibration}")
    assigned = report["modes"][1]
    assert status == 0 and (assigned["name"], assigned["k_codec"]) == (f"@{calibration}", "by layer")
    assert found["bytes"] <= assigned["bytes_cache"] < found["bytes"] * 1.05  # page tables come on top


def test_a_study(evaluate):
    status, report, page = evaluate("--study", "prompt,layers")
    assert status == 0 and list(report["study"]) == ["prompt", "layers"] and page.count("<svg") == 2
    assert "only that part was ever seen" in page


def test_a_stream(evaluate):
    status, report, page = evaluate("--stream", "100", "--modes", "int8", "--by-position", "100")
    assert status == 0 and [len(mode["by_position"]) for mode in report["stream"]] == [4, 4, 4]
    assert report["stream"][0]["codec"] == "int8" and page.count("<svg") == 1


@pytest.mark.parametrize("places, front", [
    ([(1, 5)], [(1, 5)]),
    ([(2, 5), (1, 6), (3, 5), (4, 1)], [(1, 6), (2, 5), (4, 1)]),
    ([(1, 5), (1, 4), (2, 4)], [(1, 4)]),
])
def test_pareto_front(places, front):
    assert pareto(places) == front
