"""make demo from end to end, on a small budget: every mode runs what its plan promised, and the table says so."""
import importlib.util
import re
from pathlib import Path

import pytest
from kvc_eval.modes import Mode

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BUDGET, module.CONTEXT, module.ANSWER, module.PROMPT_STEP, module.HAYSTACK_TOKENS = 10 << 20, 160, 4, 64, 260
    module.MODES = [Mode("fp16", "fp16"), Mode("int4", "int4"), Mode("window 4+32", "fp16", "streaming:4+32")]
    module.WINDOW = 32
    return module


def test_the_demo_runs_what_it_plans(demo, capsys):
    assert demo.main() == 0
    said = capsys.readouterr().out
    plan = {name: int(count) for name, count in re.findall(r"^  (\S.*?\S) +\d+\.\d+ +(?:[\d,]+ tokens|any length) +(\d+)$", said, re.M)}
    assert list(plan) == ["fp16", "int4", "window 4+32"] and plan["window 4+32"] > plan["fp16"] >= 1
    table = re.findall(r"^  (\S.*?\S) +(?:[\d,]+|any) +(\d+) +([\d.]+) +(\S+) +([\d.]+) % +(\d+) %$", said, re.M)
    assert [row[0] for row in table] == list(plan)
    for name, sequences, speed, kl, top1, recalled in table:
        assert int(sequences) == plan[name] and float(speed) > 0
        assert f"{name:<14}{sequences} sequences" in said
    kl = {row[0]: float(row[3]) for row in table}
    recalled = {row[0]: int(row[5]) for row in table}
    assert kl["fp16"] < kl["int4"] < kl["window 4+32"]
    assert recalled["window 4+32"] < recalled["int4"]
