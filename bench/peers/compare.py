"""Runs kvc and a peer in turns over the same shapes and writes the ratios. bench/peers/run starts it."""

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from cases import GOALS, all_cases, quick_cases
from report import machine_lines, markdown, print_goals, print_table
from sides import Sides

ROOT = Path(__file__).resolve().parents[2]
ERROR_LIMIT = {"kvc": 1e-3, "llama.cpp": 1e-2, "onnxruntime": 1e-3}


@dataclass
class Pair:
    kvc: float         # seconds
    peer: float
    share: float       # of the read bandwidth measured in kvc's process in this round
    bandwidth: float   # bytes per second


def arguments():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the required goals and a few cases beside them")
    parser.add_argument("--json", metavar="OUT", help="writes the list of results")
    parser.add_argument("--markdown", metavar="OUT", help="writes the machine, the goals and the table")
    parser.add_argument("--only", metavar="TEXT", default="", help="only cases whose line holds all words of TEXT")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with new processes (3)")
    parser.add_argument("--pairs", type=int, help="turns of kvc and the peer per case and round (5; quick: 3)")
    parser.add_argument("--target", default="", help="kernel target that kvc is forced to, such as avx2")
    chosen = parser.parse_args()
    if chosen.rounds < 1 or (chosen.pairs is not None and chosen.pairs < 1):
        parser.error("--rounds and --pairs start at 1")
    return chosen


def check_outputs(cases, environment):
    """Errors of every form in use against exact attention over its own dequantized cache, on short caches; ends the run if one computes
    something else. Prefill is checked on the small shape."""
    forms = {("kvc", c.kind, c.codec, "stored") for c in cases} | {(c.peer, c.kind, c.peer_type, c.peer_layout) for c in cases}
    errors = {}
    with Sides(ROOT, environment) as sides:
        for name, kind, form, layout in sorted(forms):
            shape = "S" if kind == "prefill" else "L"
            sides[name].prepare(f"{kind} {shape} {form} {layout} 1024 2")
            sides[name].seconds(1)
            errors[name, kind, form, layout] = error = sides[name].error()
            if not error <= ERROR_LIMIT[name]:
                sys.exit(f"{name} {kind} {form} {layout}: relative error {error:.3g} against exact attention: not the same computation")
    return errors


def measure(case, sides, pairs, milliseconds):
    kvc, peer = sides["kvc"], sides[case.peer]
    held = kvc.prepare(case.kvc_request())
    peer.prepare(case.peer_request())
    bandwidth = kvc.bytes_per_second(case.threads)
    for _ in range(pairs):
        ours, theirs = kvc.seconds(milliseconds), peer.seconds(milliseconds)
        yield Pair(ours, theirs, held / ours / bandwidth, bandwidth)


def summary(case, pairs, errors):
    kvc, peer = (statistics.median(getattr(p, side) for p in pairs) for side in ("kvc", "peer"))
    ratios = sorted(p.peer / p.kvc for p in pairs)
    return asdict(case) | {
        "kvc_us": round(kvc * 1e6, 1),
        "peer_us": round(peer * 1e6, 1),
        "ratio": round(statistics.median(ratios), 3),
        "bandwidth_share": round(statistics.median(p.share for p in pairs), 3),
        "ratio_low": round(ratios[len(ratios) // 4], 3),
        "ratio_high": round(ratios[-1 - len(ratios) // 4], 3),
        "pairs": len(pairs),
        "bytes_per_second": round(statistics.median(p.bandwidth for p in pairs)),
        "kvc_error": errors["kvc", case.kind, case.codec, "stored"],
        "peer_error": errors[case.peer, case.kind, case.peer_type, case.peer_layout],
    }


def main():
    chosen = arguments()
    environment = dict(os.environ, KVC_BENCH_TARGET=chosen.target)
    cases = quick_cases() if chosen.quick else all_cases()
    cases = [c for c in cases if all(word in map(str, asdict(c).values()) for word in chosen.only.split())]
    if not cases:
        sys.exit(f"no case holds '{chosen.only}'")
    pairs = chosen.pairs or (3 if chosen.quick else 5)
    lines = machine_lines(ROOT, chosen.target)
    print("\n".join(lines), flush=True)
    load = [os.getloadavg()[0]]
    errors = check_outputs(cases, environment)
    print(f"outputs checked: {len(errors)} forms agree with exact attention", flush=True)

    measured = defaultdict(list)
    start = time.monotonic()
    for turn in range(chosen.rounds):
        with Sides(ROOT, environment) as sides:
            for number, case in enumerate(cases, 1):
                measured[case] += measure(case, sides, pairs, 20 if chosen.quick else 50)
                last = measured[case][-1]
                print(f"round {turn + 1}/{chosen.rounds}  case {number}/{len(cases)}  {case.kind} {case.shape} {case.context} x{case.threads}  "
                      f"{case.codec} / {case.peer} {case.peer_type} {case.peer_layout}: {last.peer / last.kvc:.2f}", flush=True)
        load.append(os.getloadavg()[0])
    results = [summary(case, measured[case], errors) for case in cases]
    lines.append(f"{chosen.rounds} rounds of {pairs} pairs in {time.monotonic() - start:.0f} s; load average while measuring: "
                 f"{min(load):.1f} to {max(load):.1f} on {os.cpu_count()} processors")
    print_table(results)
    print_goals(GOALS, results)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(results, indent=1) + "\n")
    if chosen.markdown:
        Path(chosen.markdown).write_text(markdown(lines, GOALS, results))


if __name__ == "__main__":
    main()
