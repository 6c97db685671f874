"""Dumps: what is read back, what is refused, and the errors that --dump finds in them."""
import json
import sys

import numpy as np
import pytest
from kvc_eval import cli
from kvc_eval.dump import Dump, LayerDump, read_dump, write_dump
from kvc_eval.modes import Mode, parse_mode
from kvc_eval.output_error import exact_outputs, output_errors
from safetensors import TensorSpec, serialize_file

TOKENS, DECODE = 300, 20


def layer(seed: int, kv_heads: int, q_heads: int, k_dim: int, v_dim: int, **settings) -> LayerDump:
    random = np.random.default_rng(seed)
    q, k, v = (random.standard_normal((TOKENS, heads, dim)).astype(np.float32)
               for heads, dim in ((q_heads, k_dim), (kv_heads, k_dim), (kv_heads, v_dim)))
    return LayerDump(q, k, v, **({"scale": 1 / np.sqrt(k_dim)} | settings))


@pytest.fixture(scope="module")
def dump() -> Dump:
    """Two layers that differ in everything that layers may differ in."""
    return Dump("toy", [layer(1, 2, 4, 32, 32), layer(2, 1, 4, 64, 48, scale=0.3, soft_cap=5.0, window=250)])


@pytest.fixture
def path(tmp_path, dump):
    write_dump(str(tmp_path / "deep" / "toy.safetensors"), dump)
    return str(tmp_path / "deep" / "toy.safetensors")


def save(path, tensors: dict, metadata: dict | None = None) -> str:
    """A safetensors file; uint16 arrays are stored as bfloat16."""
    specs = {name: TensorSpec(dtype="bfloat16" if x.dtype == np.uint16 else x.dtype.name, shape=x.shape, data_ptr=x.ctypes.data,
                              data_len=x.nbytes) for name, x in tensors.items()}
    serialize_file(specs, str(path), metadata)
    return str(path)


def tensors(layers: int = 1, tokens: int = 5) -> dict:
    return {f"layers.{number}.{part}": np.ones((tokens, 2, 16), np.float32) for number in range(layers) for part in "qkv"}


def test_a_dump_is_read_back(path, dump):
    got = read_dump(path)
    assert (got.name, got.tokens) == ("toy", TOKENS)
    for mine, theirs in zip(dump.layers, got.layers, strict=True):
        assert (mine.scale, mine.soft_cap, mine.window) == (theirs.scale, theirs.soft_cap, theirs.window)
        for part in "qkv":
            np.testing.assert_array_equal(getattr(mine, part), getattr(theirs, part))


def test_sixteen_bits_and_defaults(tmp_path, dump):
    k = dump.layers[0].k
    stored = {f"layers.0.{part}": x for part, x in zip("qkv", (k.astype(np.float16), k, (k.view(np.uint32) >> 16).astype(np.uint16)))}
    got = read_dump(save(tmp_path / "dump", stored)).layers[0]
    np.testing.assert_array_equal(got.q, k.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(got.k, k)
    np.testing.assert_allclose(got.v, k, rtol=2 ** -7)
    assert (got.scale, got.soft_cap, got.window) == (pytest.approx(1 / np.sqrt(32)), 0.0, 0)


def test_exact_outputs_follow_the_definition(dump):
    """One query at a time, in double precision: scale, soft cap, sliding window, grouped heads, a value dim of its own."""
    for number, outputs in enumerate(exact_outputs(dump, DECODE)):
        one = dump.layers[number]
        group = one.q.shape[1] // one.k.shape[1]
        for i in (TOKENS - DECODE, TOKENS - 1):
            first = max(0, i + 1 - one.window) if one.window else 0
            for head in range(one.q.shape[1]):
                logits = one.k[first:i + 1, head // group].astype(np.float64) @ one.q[i, head] * one.scale
                logits = one.soft_cap * np.tanh(logits / one.soft_cap) if one.soft_cap else logits
                weights = np.exp(logits - logits.max())
                expected = weights @ one.v[first:i + 1, head // group] / weights.sum()
                np.testing.assert_allclose(outputs[i - TOKENS + DECODE, head], expected, atol=1e-5)


def test_errors_grow_with_coarser_codecs(dump):
    exact = exact_outputs(dump, DECODE)
    found = {name: output_errors(dump, parse_mode(name), exact, 1) for name in ("fp16", "int8", "int4", "int2", "streaming:4+96")}
    assert max(found["fp16"].layers()) < 1e-3
    for number in range(2):
        errors = [found[name].layer(number) for name in ("fp16", "int8", "int4", "int2")]
        assert errors == sorted(errors) and errors[-1] > 10 * errors[1]
    assert found["int2"].bytes_cache < found["int8"].bytes_cache < found["fp16"].bytes_cache
    # A window of 100 tokens forgets what layer 0 attends to; layer 1 has a sliding window, which policies leave alone.
    assert found["streaming:4+96"].layer(0) > 0.1 and found["streaming:4+96"].layer(1) < 1e-3
    # Heads and layers are the same squares, added up in other ways.
    one = found["int4"]
    assert one.layer(0) ** 2 == pytest.approx((one.heads(0) ** 2 * one.exact[0]).sum() / one.exact[0].sum())


def test_a_codec_for_every_layer(dump):
    exact = exact_outputs(dump, DECODE)
    mixed, coarse, fine = (output_errors(dump, Mode("", codec), exact, 1) for codec in (("int2", "int8"), "int2", "int8"))
    assert mixed.layers() == [coarse.layer(0), fine.layer(1)]
    with pytest.raises(ValueError):
        output_errors(dump, Mode("", ("int4", "int4", "int4")), exact, 1)


@pytest.mark.parametrize("change, said", [
    (lambda t, m: (t.clear(), t.update(logits=np.ones((5, 2, 16), np.float32))), "0 layers"),
    (lambda t, m: t.pop("layers.0.k"), "no tensor layers.0.k"),
    (lambda t, m: t.update({"layers.2.q": t["layers.0.q"]}), "no tensor layers.1.q"),
    (lambda t, m: t.update({"layers.9999.q": t["layers.0.q"]}), "10000 layers (1 .. 4096)"),
    (lambda t, m: t.update({"logits": t["layers.0.q"]}), "tensor logits is none of"),
    (lambda t, m: t.update({"layers.0.q": np.ones((5, 2, 16), np.float64)}), "tensor layers.0.q is F64"),
    (lambda t, m: t.update({"layers.0.q": np.ones((5, 32), np.float32)}), "shape [5, 32]"),
    (lambda t, m: t.update({part: np.ones((0, 2, 16), np.float32) for part in t}), "shape [0, 2, 16]"),
    (lambda t, m: t.update({"layers.0.v": np.ones((4, 2, 16), np.float32)}), "same number of tokens"),
    (lambda t, m: t.update({"layers.0.v": np.ones((5, 1, 16), np.float32)}), "same heads"),
    (lambda t, m: t.update({"layers.0.q": np.ones((5, 2, 32), np.float32)}), "same head dim"),
    (lambda t, m: t.update({"layers.0.q": np.ones((5, 3, 16), np.float32)}), "multiple of the kv heads"),
    (lambda t, m: t.update({"layers.0.v": np.full((5, 2, 16), np.nan, np.float32)}), "layers.0.v holds numbers that are not finite"),
    (lambda t, m: t.update(tensors(2, 4) | {"layers.0.q": t["layers.0.q"], "layers.0.k": t["layers.0.k"], "layers.0.v": t["layers.0.v"]}),
     "layers have [4, 5] tokens"),
    (lambda t, m: m.update(scale="wide"), "metadata scale is 'wide'"),
    (lambda t, m: m.update(soft_cap="1,2"), "metadata soft_cap has 2 numbers for 1 layers"),
    (lambda t, m: m.update(scale="inf"), "must be finite"),
    (lambda t, m: m.update(sliding_window="-1"), "at least 0"),
    (lambda t, m: m.update(sliding_window="1.5"), "it counts tokens"),
])
def test_wrong_dumps_are_refused_by_name(tmp_path, change, said):
    stored, metadata = tensors(), {}
    change(stored, metadata)
    path = save(tmp_path / "dump", stored, metadata)
    with pytest.raises(ValueError) as fault:
        read_dump(path)
    assert said in str(fault.value) and path in str(fault.value)


def test_what_is_no_dump_at_all(tmp_path, path):
    with pytest.raises(ValueError, match="no such file"):
        read_dump(str(tmp_path / "nothing"))
    cut = tmp_path / "cut"
    cut.write_bytes(open(path, "rb").read()[:-1])
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_dump(str(cut))


def kvc_eval(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["kvc-eval", *map(str, arguments)])
    return cli.main()


def test_figures_and_heat_maps(monkeypatch, tmp_path, path):
    json_path, html_path = tmp_path / "out.json", tmp_path / "out.html"
    assert kvc_eval(monkeypatch, "--dump", path, "--decode", DECODE, "--modes", "int8,h2o:60%", "--json", json_path, "--html", html_path) == 0
    report = json.loads(json_path.read_text())
    assert (report["dump"], report["tokens"], report["decode"]) == (path, TOKENS, DECODE)
    int8, h2o = report["modes"]
    assert [len(one["heads"]) for one in int8["layers"]] == [4, 4]
    assert int8["error"] == pytest.approx(np.mean([one["error"] for one in int8["layers"]]))
    assert h2o["policy"].startswith("h2o:") and h2o["error"] > int8["error"]
    assert html_path.read_text().count("<svg") == 3  # error over memory, and a heat map a mode


@pytest.mark.parametrize("wrong, said", [
    (["--decode", TOKENS], f"--decode {TOKENS}"),
    (["--decode", 0], "--decode 0"),
    (["--modes", "@/nowhere/calibration"], "/nowhere/calibration"),
    (["--write-dump", "x"], "give one of them"),
])
def test_wrong_requests(monkeypatch, capsys, path, wrong, said):
    assert kvc_eval(monkeypatch, "--dump", path, "--modes", "int4", *wrong) == cli.WRONG_USAGE
    assert said in capsys.readouterr().err


def test_a_model_s_own_dump(monkeypatch, tmp_path):
    ids, path = tmp_path / "ids", tmp_path / "dump"
    np.random.default_rng(1).integers(1000, 20000, 70).astype("<i4").tofile(ids)
    assert kvc_eval(monkeypatch, "--token-ids", ids, "--tokens", 70, "--chunk", 50, "--write-dump", path) == 0
    got = read_dump(str(path))
    assert len(got.layers) == 30 and got.layers[29].q.shape == (70, 9, 64) and got.layers[0].k.shape == (70, 3, 64)


def test_a_calibration_is_a_mode(monkeypatch, tmp_path, path):
    calibration, json_path = tmp_path / "calibration", tmp_path / "out.json"
    calibration.write_text("kvc-calibration 1\nlayer 0 int2\nlayer 1 int8\nend 2\n")
    assert kvc_eval(monkeypatch, "--dump", path, "--decode", DECODE, "--modes", f"int2,@{calibration}", "--json", json_path) == 0
    coarse, mixed = json.loads(json_path.read_text())["modes"]
    assert mixed["k_codec"] == "by layer" and mixed["layers"][0] == coarse["layers"][0]
    assert mixed["layers"][1]["error"] < coarse["layers"][1]["error"]
    calibration.write_text("kvc-calibration 1\nlayer 0 int2\nend 1\n")
    assert kvc_eval(monkeypatch, "--dump", path, "--modes", f"@{calibration}") == cli.WRONG_USAGE
