"""--recommend: the fewest bytes that are good enough, and reasons for all others."""
import json
import sys

import pytest
from kvc_eval import cli
from kvc_eval.arguments import TASKS
from kvc_eval.recommend import read_results, recommend, recommend_lines


def mode(name, bits, kl, needle, policy="none"):
    return {"name": name, "effective_bits": bits, "kl": kl, "needle": needle, "policy": policy}


def report(**changes):
    modes = [mode("fp16", 16.0, 1e-6, 0.96), mode("int4", 5.6, 0.0012, 0.95), mode("int3", 4.7, 0.006, 0.88),
             mode("h2o:20%", 4.7, 0.028, 0.16, "h2o:budget=20%"), mode("int2", 3.8, 0.036, 0.74)]
    return {"reference": {"needle": 0.96}, "modes": modes} | changes


@pytest.mark.parametrize("task, max_kl, chosen", [
    ("retrieval", 0.1, "int4"), ("retrieval", 0.002, "int4"), ("retrieval", 0.001, "fp16"),
    ("qa", 0.1, "int3"), ("qa", 0.005, "int4"),
    ("summary", 0.1, "int2"), ("summary", 0.03, "int3"), ("chat", 0.1, "int2"), ("chat", 1e-9, None),
])
def test_the_fewest_bits_that_will_do(task, max_kl, chosen):
    found = recommend(report(), task, max_kl)
    assert found["chosen"] == chosen
    assert [one["name"] for one in found["candidates"] if not one["rejected"]] == ([chosen] if chosen else [])
    bits = [one["effective_bits"] for one in found["candidates"]]
    assert bits == sorted(bits)


def test_every_rejection_has_its_reason():
    reasons = {one["name"]: one["rejected"] for one in recommend(report(), "qa", 0.02)["candidates"]}
    assert reasons == {"fp16": "more bits than int3", "int4": "more bits than int3", "int3": "",
                       "h2o:20%": "KL above 0.02 and recalls less than 0.85 of what the exact model does",
                       "int2": "KL above 0.02 and recalls less than 0.85 of what the exact model does"}
    lines = recommend_lines(recommend(report(), "qa", 0.02))
    assert lines[-1] == "recommended: int3" and len(lines) == 7
    assert recommend_lines(recommend(report(), "chat", 1e-9))[-1].startswith("no mode will do")


def test_how_much_of_a_share_is_chance():
    found = recommend(report(needle_prompts=3), "qa", 0.02)
    assert found["needle_digits"] == 120 and found["chance"] == pytest.approx((0.96 * 0.04 / 120) ** 0.5)
    assert "120 digits: shares are uncertain by 0.018" in recommend_lines(found)[-2]
    assert recommend(report(needle_prompts=3), "chat", 0.02)["chance"] is None and recommend(report(), "qa", 0.02)["chance"] is None


def test_equal_bits_are_decided_by_kl_and_nan_is_never_chosen():
    modes = [mode("a", 4.0, 0.01, 0.9), mode("b", 4.0, 0.009, 0.9), mode("c", 3.0, float("nan"), 0.9)]
    assert recommend(report(modes=modes), "chat", 0.1)["chosen"] == "b"


def test_a_mode_without_needles_serves_no_task_that_needs_them():
    modes = [mode("int4", 5.6, 0.001, None)]
    assert recommend(report(modes=modes), "qa", 0.1)["chosen"] is None
    assert recommend(report(modes=modes), "chat", 0.1)["chosen"] == "int4"


@pytest.mark.parametrize("needle, said", [(None, "--needles"), (0.4, "recalls 0.400")])
def test_needles_that_say_nothing(needle, said):
    with pytest.raises(ValueError, match=said):
        recommend(report(reference={"needle": needle}), "qa", 0.1)
    assert recommend(report(reference={"needle": needle}), "summary", 0.1)["chosen"] == "int2"


def kvc_eval(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["kvc-eval", *map(str, arguments)])
    return cli.main()


def test_from_the_figures_of_an_earlier_run(monkeypatch, capsys, tmp_path):
    results, out = tmp_path / "results.json", tmp_path / "out.json"
    results.write_text(json.dumps(report()))
    assert kvc_eval(monkeypatch, "--results", results, "--recommend", "--task", "qa", "--max-kl", 0.02, "--json", out) == 0
    assert "recommended: int3" in capsys.readouterr().out
    assert json.loads(out.read_text())["recommendation"]["chosen"] == "int3"
    # No mode will do: that is an answer, and not a success.
    assert kvc_eval(monkeypatch, "--results", results, "--recommend", "--task", "chat", "--max-kl", 1e-9) == cli.FAILED


@pytest.mark.parametrize("wrong, said", [
    (["--task", "poetry"], "poetry"),
    (["--max-kl", "0"], "--max-kl"),
    (["--max-kl", "nan"], "--max-kl"),
    (["--results", "/nowhere/results"], "/nowhere/results"),
])
def test_wrong_requests(monkeypatch, capsys, tmp_path, wrong, said):
    results = tmp_path / "results.json"
    results.write_text(json.dumps(report()))
    right = ["--results", results, "--recommend", "--task", "qa", "--max-kl", "0.02"]
    assert kvc_eval(monkeypatch, *right, *wrong) == cli.WRONG_USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--results", "--task", "--max-kl"])
def test_recommend_s_options_alone(monkeypatch, capsys, option):
    assert kvc_eval(monkeypatch, option, "1") == cli.WRONG_USAGE
    assert "--recommend" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"modes": [{}], "reference": {}}', "\x00"])
def test_files_that_are_no_results(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="results.json"):
        read_results(str(path))


def test_every_task_has_its_needs():
    assert list(TASKS) == ["retrieval", "qa", "summary", "chat"]
    assert TASKS["retrieval"].needle > TASKS["qa"].needle > TASKS["summary"].needle == TASKS["chat"].needle == 0
