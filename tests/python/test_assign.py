"""--assign: the best codecs within the bytes, deterministically, and a calibration that a cache takes."""
import itertools
import json
import sys
from pathlib import Path

import kvc
import numpy as np
import pytest
from kvc_eval import cli
from kvc_eval.assign import Candidate, Probe, candidates_of, choose, layer_bytes, parse_budget, probe_dump
from kvc_eval.dump import Dump, LayerDump, write_dump
from kvc_eval.modes import Mode, parse_mode
from kvc_eval.output_error import error_report, exact_outputs, output_errors

TOKENS = 300
CODECS = ["fp16", "int8", "int4", "int2"]


def probe_of(costs, sizes) -> Probe:
    return Probe([Candidate(str(i)) for i in range(len(costs[0]))], np.array(costs, float), np.array(sizes), "KL", 100, 1 << 20)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_of_all_assignments(seed):
    random = np.random.default_rng(seed)
    layers, count = random.integers(1, 5), random.integers(1, 5)
    probe = probe_of(random.random((layers, count)), random.integers(1, 40, (layers, count)) * 128)
    everything = [(sum(probe.sizes[i, p] for i, p in enumerate(picks)), sum(probe.costs[i, p] for i, p in enumerate(picks)))
                  for picks in itertools.product(range(count), repeat=layers)]
    least = min(size for size, _ in everything)
    for budget in (least, least + 1, least + 1000, 3 * least, 1 << 40):
        chosen = choose(probe, budget)
        assert chosen.bytes <= budget
        assert chosen.cost == pytest.approx(min(cost for size, cost in everything if size <= budget))
        assert choose(probe, budget) == chosen
    with pytest.raises(ValueError, match=str(least)):
        choose(probe, least - 1)


def test_sizes_of_any_unit_stay_within_the_bytes():
    """Budgets of more steps than are counted are rounded in the safe direction, and hardly lose anything."""
    random = np.random.default_rng(3)
    sizes = np.sort(random.integers(10 ** 8, 10 ** 9, (60, 4)), 1)[:, ::-1]
    probe = probe_of(np.sort(random.random((60, 4)), 1), sizes)
    budget = int(sizes.mean(1).sum())
    chosen = choose(probe, budget)
    assert 0.99 * budget < chosen.bytes <= budget


@pytest.fixture(scope="module")
def dump() -> Dump:
    """Three layers: keys that matter little, keys that matter much, and a sliding window."""
    random = np.random.default_rng(5)
    layers = []
    for sharpness, window in ((0.02, 0), (2.0, 0), (0.5, 200)):
        q, k, v = (random.standard_normal((TOKENS, heads, 32)).astype(np.float32) for heads in (4, 2, 2))
        layers.append(LayerDump(q * np.float32(sharpness), k, v, 32 ** -0.5, window=window))
    return Dump("toy", layers)


def test_bytes_are_those_that_a_cache_holds(dump):
    candidates = [Candidate(codec) for codec in CODECS]
    sizes = layer_bytes(dump, candidates)
    for picks in ((0, 1, 2), (3, 3, 3), (2, 0, 1)):
        options = [layer.options() | dict(codec=CODECS[pick]) for layer, pick in zip(dump.layers, picks)]
        with kvc.Cache(layers=3, layers_differ=options, arena_growth=1) as cache:
            sequence = cache.create_sequence()
            with cache.step([sequence], [TOKENS]) as step:
                for number, layer in enumerate(dump.layers):
                    step.append(number, layer.k, layer.v)
            assert cache.sequence_stats(sequence).record_bytes == sum(sizes[number, pick] for number, pick in enumerate(picks))


def test_bits_go_where_they_matter_and_never_beyond_the_budget(dump):
    probe = probe_dump(dump, [Candidate(codec) for codec in CODECS], 1, lambda line: None)
    again = probe_dump(dump, [Candidate(codec) for codec in CODECS], 2, lambda line: None)
    np.testing.assert_array_equal(probe.costs, again.costs)
    budget = int(probe.sizes[:, 2].sum())  # what int4 everywhere takes
    chosen = choose(probe, budget)
    assert chosen.bytes <= budget and chosen.cost <= probe.costs[:, 2].sum()
    exact = exact_outputs(dump, 75)
    mixed, uniform = (output_errors(dump, Mode("", codec), exact, 1).layers() for codec in (chosen.codecs, "int4"))
    assert sum(error ** 2 for error in mixed) <= sum(error ** 2 for error in uniform)


def test_what_cannot_fit_is_refused_before_anything_is_measured(dump):
    measured = []
    with pytest.raises(ValueError, match="100 bytes: the smallest assignment"):
        probe_dump(dump, [Candidate(codec) for codec in CODECS], 1, measured.append, budget=100)
    with pytest.raises(kvc.KvcError, match="bytes"):
        error_report(dump, [parse_mode("int4"), parse_mode("h2o:1KiB")], 9, 1, measured.append)
    assert not measured


@pytest.mark.parametrize("text, expected", [("100", 100), ("100B", 100), ("6MiB", 6 << 20), ("0.5KiB", 512), ("3.5bits", 3500), ("16bits", 16000)])
def test_budgets(text, expected):
    assert parse_budget(text, 16000) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-1", "3.5 bits", "1e3", "inf", "3.5bits!", "4TiB"])
def test_wrong_budgets(text):
    with pytest.raises(ValueError, match="--assign"):
        parse_budget(text, 16000)


def test_policies_and_calibrations_are_no_candidates():
    assert candidates_of([parse_mode("int4"), parse_mode("int8"), parse_mode("int4")]) == [Candidate("int4"), Candidate("int8")]
    for mode in ("int4+h2o:50%", "h2o:50%", "@file"):
        with pytest.raises(ValueError, match="is none"):
            candidates_of([parse_mode(mode)])


def kvc_eval(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["kvc-eval", *map(str, arguments)])
    return cli.main()


def test_a_calibration_from_a_dump(monkeypatch, capsys, tmp_path, dump):
    path, calibration, out = tmp_path / "dump", tmp_path / "calibration", tmp_path / "out.json"
    html = tmp_path / "out.html"
    write_dump(str(path), dump)
    for _ in range(2):
        assert kvc_eval(monkeypatch, "--dump", path, "--assign", "12bits", "--calibrate", calibration, "--json", out, "--html", html) == 0
    first, second = capsys.readouterr().out.strip().split(" of ")[1:3]
    report = json.loads(out.read_text())["assignment"]
    assert report["bytes"] <= report["budget_bytes"] == 12 * dump.fp16_bytes() // 16
    assert f"{report['budget_bytes']} bytes for {TOKENS} tokens" in first and second
    assert html.read_text().count("<svg") == 1  # sensitivity by layer
    with kvc.Cache(layers=3, codec=f"@{calibration}", layers_differ=[layer.options() for layer in dump.layers], arena_growth=1) as cache:
        sequence = cache.create_sequence()
        with cache.step([sequence], [TOKENS]) as step:
            for number, layer in enumerate(dump.layers):
                step.append(number, layer.k, layer.v)
        assert cache.sequence_stats(sequence).record_bytes == report["bytes"]


@pytest.mark.parametrize("wrong, said", [
    (["--assign", "lots"], "--assign lots"),
    (["--assign", "1B"], "smallest assignment"),
    (["--assign", "9bits", "--modes", "h2o:20%"], "h2o:20%"),
    (["--assign", "9bits", "--study", "axes"], "give one of them"),
    (["--calibrate", "file"], "--calibrate"),
])
def test_wrong_requests(monkeypatch, capsys, tmp_path, dump, wrong, said):
    write_dump(str(tmp_path / "dump"), dump)
    assert kvc_eval(monkeypatch, "--dump", tmp_path / "dump", *wrong) == cli.WRONG_USAGE
    assert said in capsys.readouterr().err
    assert not Path("file").exists()
