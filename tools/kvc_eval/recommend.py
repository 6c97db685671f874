"""kvc-eval --recommend: the mode of fewest bytes that is good enough for a task, with the figures of all, from a run's JSON."""
import json
import math
from pathlib import Path

from .arguments import TASKS, Needs, check_request
from .needles import DIGITS, NEEDLES


RECALLS_ENOUGH = 0.5  # a model that recalls less shows nothing about its cache
FIELDS = ("name", "effective_bits", "kl", "needle", "policy")


def read_results(path: str) -> dict:
    """The JSON of an earlier run over a model."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"--results {path}: there is no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise ValueError(f"--results {path}: not JSON: {fault}") from None
    modes = report.get("modes") if isinstance(report, dict) else None
    if not modes or "reference" not in report or any(field not in mode for mode in modes for field in FIELDS):
        raise ValueError(f"--results {path}: not the figures of a model by kvc-eval --json")
    return report


def recommend(report: dict, task: str, max_kl: float) -> dict:
    """The recommendation: the chosen mode's name or None, and for every mode why it was not chosen."""
    check_request(task, max_kl)
    needs, whole = TASKS[task], report["reference"]["needle"]
    if needs.needle and whole is None:
        raise ValueError(f"--task {task} needs needles, and these figures have none: run with --needles 1 or more")
    if needs.needle and whole < RECALLS_ENOUGH:
        raise ValueError(f"--task {task}: the exact model recalls {whole:.3f} of the needle digits only, so needles say nothing of its cache")
    candidates = []
    for mode in sorted(report["modes"], key=lambda mode: (mode["effective_bits"], mode["kl"])):
        rejected = _rejection(mode, needs, whole, max_kl)
        candidates.append({field: mode[field] for field in FIELDS} | {"rejected": rejected})
    fitting = [candidate for candidate in candidates if not candidate["rejected"]]
    for candidate in fitting[1:]:
        candidate["rejected"] = f"more bits than {fitting[0]['name']}"
    digits = report.get("needle_prompts", 0) * NEEDLES * DIGITS
    return {"task": task, "max_kl": max_kl, "needs_needle": needs.needle * whole if needs.needle else None, "reason": needs.reason,
            "chance": math.sqrt(whole * (1 - whole) / digits) if needs.needle and digits else None, "needle_digits": digits,
            "chosen": fitting[0]["name"] if fitting else None, "candidates": candidates}


def recommend_lines(found: dict) -> list[str]:
    needle = "" if found["needs_needle"] is None else f", needle digits >= {found['needs_needle']:.3f}"
    lines = [f"{found['task']} ({found['reason']}): KL <= {found['max_kl']:g}{needle}"]
    for one in found["candidates"]:
        digits = "   -" if one["needle"] is None else f"{one['needle']:.3f}"
        lines.append(f"  {one['name']:<24} {one['effective_bits']:6.2f} bits  KL {one['kl']:.6f}  needle {digits}  {one['rejected'] or 'chosen'}")
    if found["chance"] is not None:
        lines.append(f"  needles are {found['needle_digits']} digits: shares are uncertain by {found['chance']:.3f}; more --needles decide closer calls")
    lines.append(f"recommended: {found['chosen']}" if found["chosen"] else "no mode will do: allow a larger KL, or try modes of more bits")
    return lines


def _rejection(mode: dict, needs: Needs, whole: float | None, max_kl: float) -> str:
    reasons = []
    if not mode["kl"] <= max_kl:
        reasons.append(f"KL above {max_kl:g}")
    if needs.needle and mode["needle"] is None:
        reasons.append("needles not measured")
    elif needs.needle and mode["needle"] < needs.needle * whole:
        reasons.append(f"recalls less than {needs.needle:g} of what the exact model does")
    return " and ".join(reasons)
