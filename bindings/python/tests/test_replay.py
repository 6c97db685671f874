"""The replayer: digests of scripts that bind every verb, wrong expectations, and text that is no script."""
import hashlib
import re
import struct

import numpy as np
import pytest
from replay import inputs
from replay.__main__ import main
from replay.replayer import VERBS, Replayer
from replay.script import ScriptError, parse

SCRIPT = """
create layers=2 kv_heads=1 q_heads=2 codec=int8/int4 arena_tokens=2048 arena_sequences=2 growth=1
plan tokens=100 sequences=2
seq A data=3
begin T A:150 kv=f16 q=bf16 out=f16 padding=3 accumulate=1
append T layer=0 seed=5
append T layer=1 seed=5 kind=outlier
attend T layer=1 seed=6
commit T
append T layer=0 seed=5 -> handle      # it has ended
read A layer=1 part=values first=10 n=20
codes A part=keys
mass A layer=1
rungs A
counts A
step_down A recent=64
fork B A length=150
merge B seed=4 first=4 recent=128 layers=0:1
export X A B
import X C D data=3
import X E F flip=200 -> corrupt
lookup G n=4 text=1
publish A n=150 text=1 salt=t
lookup H n=160 text=1 salt=t
prefix_stats
evict C budget=132 scores=9 heads=0:1
keep D positions=0,1,5
stats
stats A
length nobody -> handle
"""


def test_equal_scripts_give_equal_digests(tmp_path, capsys):
    path = tmp_path / "script.txt"
    path.write_text(SCRIPT)
    assert main(["target=scalar", str(path), str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1] and lines[0].endswith(f"  {path}")


def test_every_verb_of_the_document_is_known(clone):
    rows = re.findall(r"^\| (`.*?) \|", (clone / "docs" / "SCRIPTS.md").read_text(), re.M)
    verbs = {name.split()[0] for row in rows for name in re.findall(r"`(.*?)`", row)}
    assert len(verbs) > 30 and verbs <= set(VERBS)


def test_the_digest_is_of_statuses_and_numbers(capsys):
    replayer = Replayer("scalar")
    for line in parse("create k_dim=64 arena_tokens=64\nseq A\nlength A\nlength B -> handle"):
        replayer.run(line)
    assert replayer.digest() == hashlib.sha256(struct.pack("<iiiqi", 0, 0, 0, 0, 2)).hexdigest()
    replayer.close()


def test_a_wrong_expectation_is_told_and_the_next_file_goes_on(tmp_path, capsys):
    (tmp_path / "wrong").write_text("create k_dim=63 arena_tokens=64\n")
    (tmp_path / "right").write_text("create k_dim=63 arena_tokens=64 -> argument|range\nseq A -> handle")
    assert main([str(tmp_path / "wrong"), str(tmp_path / "right")]) == 1
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1 and printed.out.endswith("right\n")
    assert "wrong: line 1: create gave argument, expected ok: k_dim 63" in printed.err


@pytest.mark.parametrize("text", ["jump A", "create\ncreate", "seq A data=x", "begin T A:b", "seq A ->", "append T layer=0", "read A part=keyss",
                                  "create keys=between"])
def test_text_that_is_no_script_is_refused(text, tmp_path, capsys):
    (tmp_path / "s").write_text(text)
    assert main([str(tmp_path / "s")]) == 1
    assert "line " in capsys.readouterr().err


def test_numbers_are_those_of_the_document():
    """The formulas once more, number by number, with Python's own integers."""
    mask = (1 << 64) - 1

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    def key(a, b):
        return mix((a + 0x9E3779B97F4A7C15 * (b + 1)) & mask)

    got = inputs.bells(7, 3, 2, inputs.QUERIES, np.array([0, 2**40]), 130)
    for row, position in enumerate((0, 2**40)):
        base = key(key(key(7, 3), 2 * 8 + 3), position)
        for i in (0, 1, 63, 129):
            bits = key(base, i)
            assert got[row, i] == sum(bits >> shift & 0xFFFF for shift in (0, 16, 32, 48)) - 131070
    assert inputs.elements(np.array([[-65536, 1]]), "bf16", "tiny", 2).tolist() == [[-1 / 16384, 0]]


def test_script_errors_name_the_line():
    with pytest.raises(ScriptError, match='line 2: "x" is no number'):
        parse("# one\nbegin T A:x")
