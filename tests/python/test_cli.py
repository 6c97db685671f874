"""The command kvc-eval: its JSON, its report, its refusals."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kvc_eval import cli

FIELDS = ["name", "k_codec", "v_codec", "policy", "codec_bits", "effective_bits", "bytes_cache", "ratio_vs_fp16", "kl", "kl_p99", "top1",
          "ppl", "needle", "tokens_per_s"]


ROOT = Path(__file__).resolve().parents[2]


def kvc_eval(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["kvc-eval", *map(str, arguments)])
    return cli.main()


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    """Tokens that repeat, so that attention to what was cached matters."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.i32"
    np.tile(np.random.default_rng(1).integers(1000, 20000, 90), 4).astype("<i4").tofile(path)
    return path


def test_figures_and_report(monkeypatch, tmp_path, token_file):
    json_path, html_path = tmp_path / "deep" / "out.json", tmp_path / "out.html"
    status = kvc_eval(monkeypatch, "--token-ids", token_file, "--tokens", 330, "--start", 10, "--chunk", 100, "--needles", 0,
                      "--modes", "fp16,k=int4.ch.g32.m8,v=int2.tok.rot.ls,window=64,sinks=4", "--json", json_path, "--html", html_path)
    assert status == 0
    report = json.loads(json_path.read_text())
    assert (report["model"], report["tokens"]) == ("smollm2", 330)
    exact, coded = report["modes"]
    assert list(exact) == list(coded) == FIELDS
    assert (exact["k_codec"], exact["policy"], exact["codec_bits"], exact["needle"]) == ("f16", "none", 16.0, None)
    assert (coded["k_codec"], coded["v_codec"]) == ("int4.ch.g32.m8", "int2.tok.rot.ls")
    assert exact["kl"] < 1e-5 < coded["kl"]
    assert coded["ratio_vs_fp16"] == pytest.approx(16 / coded["effective_bits"])
    assert coded["bytes_cache"] < exact["bytes_cache"]
    page = html_path.read_text()
    assert page.count("<svg") == 2 and "int2.tok.rot.ls" in page
    assert not re.search(r'<script|(src|href)\s*=\s*"(?!#)', page)  # nothing is fetched


@pytest.mark.parametrize("wrong, said", [
    (["--modes", "int9"], "int9"),
    (["--modes", "int4+forget:20%"], "mode int4+forget:20%: "),
    (["--tokens", "360", "--modes", "int4+best:20%"], "mode int4+best:20%: arena_tokens 360, arena_sequences 1: policy best (mean_attention): the budget of layer 0 is 72 tokens"),
    (["--model", "no-such-model"], "no-such-model"),
    (["--tokens", "0"], "--tokens 0"),
    (["--tokens", "400"], "360 tokens"),
    (["--tokens", "100"], "at least 258"),
    (["--chunk", "0"], "--chunk 0"),
    (["--judge-every", "0"], "--judge-every 0"),
    (["--tokens", "360", "--judge-every", "99"], "every 99th chunk"),
    (["--needles", "-1"], "--needles -1"),
    (["--token-ids", "/nowhere/ids"], "--token-ids /nowhere/ids"),
    (["--modes", "h2o:200,every=never"], "would never act"),
    (["--modes", "int4+given:200,every=never"], "would never act"),
    (["--recommend", "--task", "retrieval", "--max-kl", "0.1"], "needs needles"),
    (["--threads", "-3"], "--threads -3"),
    (["--tasks", "100", "--stream", "9"], "--tasks does not go with --stream"),
    (["--by-position", "9", "--assign", "1MiB"], "--by-position does not go with --assign"),
    (["--json", "/"], "--json /: it cannot be written"),
    (["--html", "/proc/version/out.html"], "--html /proc/version/out.html: it cannot be written"),
])
def test_wrong_requests(monkeypatch, capsys, token_file, wrong, said):
    assert kvc_eval(monkeypatch, "--token-ids", token_file, "--needles", 0, "--modes", "int4", *wrong) == cli.WRONG_USAGE
    assert said in capsys.readouterr().err


def test_an_option_that_is_none_is_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        kvc_eval(monkeypatch, "--bogus")
    assert ended.value.code == cli.WRONG_USAGE
    assert capsys.readouterr().err == "kvc-eval: unrecognized arguments: --bogus (kvc-eval --help lists the options)\n"


def test_the_command_says_nothing_of_a_build_that_has_nothing_to_do():
    environment = {name: value for name, value in os.environ.items() if name != "KVC_LIBRARY"}
    subprocess.run([ROOT / "kvc-eval", "--help"], env=environment, check=True, capture_output=True)  # what there is to build is built
    result = subprocess.run([ROOT / "kvc-eval", "--bogus"], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (cli.WRONG_USAGE, "", 1), result.stderr


@pytest.mark.parametrize("arguments, status, said", [
    (["--tokens", "0"], cli.WRONG_USAGE, "--tokens 0"), (["--bogus"], cli.WRONG_USAGE, "--bogus"), (["--study", "nonsense"], cli.WRONG_USAGE, "nonsense"),
    (["--help"], 0, "usage"), (["--tokens", "300"], 7, "set-up")])
def test_what_is_wrong_is_said_before_anything_is_set_up(tmp_path, arguments, status, said):
    """In a clone whose set-up ends with status 7."""
    (tmp_path / "cmake").mkdir()
    setup = tmp_path / "cmake" / "setup.sh"
    setup.write_text("#!/bin/sh\necho set-up\nexit 7\n")
    setup.chmod(0o755)
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    command = tmp_path / "kvc-eval"
    command.write_bytes((ROOT / "kvc-eval").read_bytes())
    command.chmod(0o755)
    result = subprocess.run([command, *arguments], capture_output=True, text=True)
    assert result.returncode == status and said in result.stdout + result.stderr
    assert ("set-up" in result.stdout + result.stderr) == (status == 7)


@pytest.mark.parametrize("wrong, said", [(["--tokens", "100"], "at least 258"), (["--tokens", "100", "--assign", "1MiB"], "at least 256"),
                                         (["--tokens", "100", "--study", "axes"], "at least 258"), (["--stream", "300", "--tokens", "200"], "64 .. 199")])
def test_too_few_tokens_are_refused_before_a_model_is_looked_for(monkeypatch, capsys, wrong, said):
    def download(_: str):
        pytest.fail("looked for the model")

    monkeypatch.setattr("kvc_eval.subject.gguf_path", download)
    assert kvc_eval(monkeypatch, "--model", "gemma3", *wrong) == cli.WRONG_USAGE
    assert said in capsys.readouterr().err


def test_token_ids_beyond_the_vocabulary(monkeypatch, capsys, tmp_path):
    path = tmp_path / "tokens.i32"
    np.full(300, 49152, "<i4").tofile(path)
    assert kvc_eval(monkeypatch, "--token-ids", path, "--tokens", 300, "--needles", 0, "--modes", "int4") == cli.WRONG_USAGE
    assert "0 .. 49151" in capsys.readouterr().err
