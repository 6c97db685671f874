"""--study and the probe of a model, on a toy model: what is compared, at which bytes, in which order."""
import sys

import kvc
import numpy as np
import pytest
from kvc_eval import cli, study
from kvc_eval.arguments import QUESTIONS, parse_groups
from kvc_eval.assign import Candidate, choose, probe_model
from kvc_eval.dump import dump_model
from kvc_eval.evaluate import Evaluation
from kvc_eval.modes import Mode
from kvc_eval.sensitivity import layer_kl
from kvc_eval.stream import GapReader, run_stream, stream_modes
from toy_model import DIM, KV_HEADS, LAYERS, VOCABULARY, ToyModel

TOKENS = np.random.default_rng(2).integers(0, VOCABULARY, 420)


@pytest.fixture(scope="module")
def model():
    return ToyModel()


def test_every_mode_of_every_group_is_a_codec():
    for name, make in study.MODES.items():
        modes = make()
        assert len({mode.codec for mode in modes}) == len(modes), f"{name} measures something twice"
        for mode in modes:
            kvc.check_supported(layers=1, kv_heads=1, k_dim=64, codec=mode.codec, arena_growth=1)


def test_groups():
    assert parse_groups("all") == list(QUESTIONS)
    assert parse_groups("layers,axes") == ["layers", "axes"]
    for wrong in ("", "axes,", "axis"):
        with pytest.raises(ValueError, match="--study"):
            parse_groups(wrong)


def test_protected_layers_take_equal_bytes(model):
    found = study.run_study(model, TOKENS, ["layers"], 128, 1, lambda line: None)["layers"]["modes"]
    everywhere, *others = found
    assert everywhere["name"] == "int2 everywhere" and len(others) == 7
    assert {mode["bytes_cache"] for mode in others} == {others[0]["bytes_cache"]} and others[0]["bytes_cache"] > everywhere["bytes_cache"]
    assert max(mode["kl"] for mode in others) <= everywhere["kl"]


def test_a_prompt_that_was_read_and_evicted_is_not_one_that_was_never_seen(model):
    modes = study.run_study(model, TOKENS, ["prompt"], 128, 1, lambda line: None)["prompt"]["modes"]
    assert len(modes) == 9 and all(mode["kl"] > 0 for mode in modes)
    for evicted, unseen, newest in zip(modes[::3], modes[1::3], modes[2::3]):
        assert evicted["name"].startswith("evicted") and unseen["name"].startswith("never seen")
        pages = 2 * 64 * sum(2 * 2 * DIM for _ in range(LAYERS * KV_HEADS))  # the first tokens and the edge may take a page each
        assert newest["bytes_cache"] <= evicted["bytes_cache"] <= newest["bytes_cache"] + pages
        assert evicted["kl"] != unseen["kl"]


def test_the_probe_measures_what_a_whole_run_does(model):
    """One compressed layer: KL at the last positions, as if the whole text had been read with that cache."""
    asked = 100
    dump = dump_model(model, TOKENS, 128)
    found = layer_kl(model, TOKENS, dump, "int2", asked, 1)
    assert found.shape == (LAYERS,) and (found > 0).all()
    for layer in range(LAYERS):
        codecs = tuple("int2" if number == layer else "fp16" for number in range(LAYERS))
        _, (result,) = Evaluation(model, [Mode("one", codecs)], TOKENS, 64, 1).run([])
        assert 0.3 < found[layer] / result["kl"] < 3  # other positions, and exact keys before them
    exact = layer_kl(model, TOKENS, dump, "fp16", asked, 1)
    assert (exact < 1e-2 * found).all()


def test_an_assignment_is_no_worse_than_one_codec_for_all(model):
    candidates = [Candidate(codec) for codec in ("fp16", "int8", "int4", "int2")]
    probe = probe_model(model, TOKENS, candidates, 1, lambda line: None)
    assert probe.unit == "KL"
    budget = int(probe.sizes[:, 2].sum())
    chosen = choose(probe, budget)
    assert chosen == choose(probe_model(model, TOKENS, candidates, 2, lambda line: None), budget)
    assert chosen.bytes <= budget
    _, (uniform, assigned) = Evaluation(model, [Mode("int4", "int4"), Mode("assigned", chosen.codecs)], TOKENS, 64, 1).run([])
    assert assigned["kl"] <= uniform["kl"]
    assert assigned["bytes_cache"] <= uniform["bytes_cache"]


def test_streams_keep_their_bytes_and_need_plain_positions(model):
    with pytest.raises(ValueError, match="RoPE of its own"):
        run_stream(model, TOKENS, 100, "fp16", 128, 64, 1, [], lambda line: None)
    turning = ToyModel()
    turning.rope_base = 10000.0
    for newest in (63, len(TOKENS)):
        with pytest.raises(ValueError, match=f"--stream {newest}"):
            run_stream(turning, TOKENS, newest, "fp16", 128, 64, 1, [], lambda line: None)
    found = run_stream(turning, TOKENS, 100, "int4", 128, 64, 1, [1000], lambda line: None)
    far = found.pop()
    assert [mode["name"] for mode in found] == [name for name, _, _ in stream_modes(100)]
    assert far["name"] == "true positions, 1000 tokens on" and far["bytes_cache"] == found[1]["bytes_cache"]
    assert far["by_position"][0]["ppl"] != found[1]["by_position"][0]["ppl"]
    assert [one["position"] for one in found[0]["by_position"]] == [0, 128, 256, 384]
    in_cache, true, _ = ([one["ppl"] for one in mode["by_position"]] for mode in found)
    assert in_cache[0] == pytest.approx(true[0], rel=1e-3) and in_cache[-1] != true[-1]  # nothing is evicted at first


def test_a_gap_moves_what_stands_behind_the_sinks(model):
    reader = GapReader(model, None, [], 1000)
    assert list(reader._positions(0, 6)) == [0, 1, 2, 3, 1004, 1005] and list(reader._positions(10, 2)) == [1010, 1011]


def test_a_text_too_short_for_the_probe(model):
    with pytest.raises(ValueError, match="at least 256"):
        probe_model(model, TOKENS[:255], [Candidate("int4")], 1, lambda line: None)


@pytest.mark.parametrize("wrong, said", [
    (["--study", "everything"], "--study everything"),
    (["--stream-gaps", "100"], "belongs to --stream"),
    (["--stream", "100", "--stream-gaps", "100,far"], "--stream-gaps 100,far"),
    (["--study", "axes", "--assign", "4bits"], "give one of them"),
    (["--study", "axes", "--dump", "file"], "give one of them"),
    (["--tasks", "512", "--dump", "file"], "--tasks needs a model"),
    (["--stream", "100", "--modes", "int4,int8"], "one codec"),
    (["--stream", "100", "--modes", "int4+h2o:50%"], "one codec"),
    (["--stream", "-1"], "--stream -1"),
    (["--by-position", "-1"], "--by-position -1"),
])
def test_wrong_requests(monkeypatch, capsys, wrong, said):
    monkeypatch.setattr(sys, "argv", ["kvc-eval", *wrong])
    assert cli.main() == cli.WRONG_USAGE
    assert said in capsys.readouterr().err
