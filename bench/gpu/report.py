"""The table of goals: what was measured, what the peer reached in the same run, and what is unmeasured.

    report.py RESULTS.json      # the report of a run anew, from its figures
"""

import json
import sys
import time
from pathlib import Path

import steps

# Goals on one H100, of one layer with 8 kv heads, head dim 128, GQA 4; the peer is FlashInfer at its best. (case, codec, us, ratio to
# the peer's fp16, ratio to its fp8, share of the read bandwidth); None: no goal.
GOALS = [
    ("batch16-32k-gqa4", "int4", 206, 3.2, 1.65, 0.92),
    ("batch16-32k-gqa4", "int2", 125, 5.0, 2.6, 0.85),
    ("batch16-32k-gqa4", "int8", None, 1.75, None, None),
    ("batch16-32k-gqa4", "fp16", None, 1.0, None, None),
    ("batch1-32k", "int4", 22, None, None, None),
    ("batch1-128k", "int4", 60, None, None, None),
    ("batch1-1m", "int2", 245, None, None, None),
]
PROMPT_GOAL = ("prompt2k-32k", "int4", 0.85)  # of the peer's speed in fp16
LLAMA_GOAL = ("batch16-32k-gqa4", "int4", "q4_0", 3.0)  # times llama.cpp
# Types of other peers, and the codec of as many bits.
AS_MANY_BITS = {"f16": "fp16", "q8_0": "int8", "q4_0": "int4", "int4": "int4", "int2": "int2"}
APPEND_GOAL = ("batch16-32k-gqa4", "int4", 0.03)  # of a decode step
PAGE_GOALS = [("batch16-32k-gqa4", "int4", 0.03), ("batch16-32k-gqa4", "int2", 0.05)]  # on top of a decode step
EVICT_GOAL = ("batch1-32k", "int4", "scores", 30)  # us a layer, without waiting for the device

# Tokens of a split in the library, which runs before 2026-11-29 do not name: each figure of theirs is of the fastest split.
UNNAMED_SPLIT = 4096


def of_the_library(kvc):
    """The results with figures of the splits that the library makes, which is what goals are about."""
    if any("library_split_tokens" in r for r in kvc if r["kind"] == "machine"):
        return kvc
    return [at_library_split(r) if r["kind"] in ("decode", "prompt") else r for r in kvc]


def at_library_split(r):
    """A result whose figures are of the fastest split: the library's has a median alone, if it was tried; the rest is unmeasured."""
    if r["split_tokens"] == UNNAMED_SPLIT or (r["kind"] == "prompt" and r["split_tokens"] >= r["context"]):
        return r
    us = r["us_of_split"].get(str(UNNAMED_SPLIT)) if r["kind"] == "decode" else None
    rates = {name: r[name] * r["us"] / us if us else None for name in ("bytes_per_second", "share_of_read", "operations_per_second")}
    return {**r, **rates, "us": us, "split_tokens": UNNAMED_SPLIT if r["kind"] == "decode" else r["context"], "checked_split": r["split_tokens"],
            "us_low": None, "us_high": None, "attend_us": None, "mass_us": None, "page_us": None}


def find(results, kind, case, codec):
    for r in results:
        if r["kind"] == kind and r["case"] == case and r["codec"] == codec and r.get("us", r.get("step_us")) is not None:
            return r
    return None


def cell(value, form="{:.2f}"):
    return "unmeasured" if value is None else form.format(value)


def judged(goal, value, at_most):
    if goal is None:
        return "-"
    if value is None:
        return "unmeasured"
    return "reached" if (value <= goal if at_most else value >= goal) else "MISSED"


def is_h100(kvc):
    machine = next((r for r in kvc if r["kind"] == "machine"), None)
    return machine is None or "H100" in machine["device"]


def goal_rows(kvc, peer, timed, others=()):
    """goal, wanted, measured, verdict for each goal; with timed False everything is unmeasured. Times are goals of the H100 alone."""
    yield from attention_rows(kvc, peer, timed, others)
    yield from upkeep_rows(kvc, timed)


def upkeep_rows(kvc, timed):
    """What a cache costs beside attention."""
    case, codec, goal = APPEND_GOAL
    mine, append = (find(kvc, kind, case, codec) if timed else None for kind in ("decode", "append"))
    value = append["step_us"] / mine["us"] if mine and append else None
    yield (f"append {codec}, {case}: of a decode step", f"<= {100 * goal:.0f} %", cell(value and 100 * value, "{:.1f} %"),
           judged(goal, value, True))
    for case, codec, goal in PAGE_GOALS:
        mine = find(kvc, "decode", case, codec) if timed else None
        value = mine["page_us"] / mine["us"] - 1 if mine and mine["correct"] and mine.get("page_us") else None
        yield (f"page scores {codec}, {case}: on top of a step", f"<= {100 * goal:.0f} %", cell(value and 100 * value, "{:.1f} %"),
               judged(goal, value, True))
    case, codec, by, us = EVICT_GOAL
    mine = find([r for r in kvc if r.get("by") == by], "evict", case, codec) if timed else None
    mine = mine if mine and mine["correct"] else None
    waits, value = (mine["waits"], mine["us"]) if mine else (None, None)
    yield f"eviction {codec}, {case}: waits for the device", "0", cell(waits, "{}"), judged(0, waits, True)
    yield (f"eviction {codec}, {case}: time a layer", f"<= {us} us", cell(value, "{:.1f} us"),
           judged(us, value, True) if is_h100(kvc) else "a goal of the H100")


def attention_rows(kvc, peer, timed, others):
    for case, codec, us, fp16_ratio, fp8_ratio, share in GOALS:
        mine = find(kvc, "decode", case, codec) if timed else None
        mine = mine if mine and mine["correct"] else None
        what = f"decode {codec}, {case}"
        if us is not None:
            value = mine and mine["us"]
            yield f"{what}: time", f"<= {us} us", cell(value, "{:.1f} us"), judged(us, value, True) if is_h100(kvc) else "a goal of the H100"
        for name, goal in (("fp16", fp16_ratio), ("fp8", fp8_ratio)):
            other = find(peer, "peer", case, name) if timed else None
            if goal is not None:
                value = other["us"] / mine["us"] if mine and other else None
                yield f"{what}: times FlashInfer {name}", f">= {goal:g} x", cell(value, "{:.2f} x"), judged(goal, value, False)
        if share is not None:
            value = mine and mine["share_of_read"]
            yield f"{what}: share of read bandwidth", f">= {100 * share:.0f} %", cell(value and 100 * value, "{:.1f} %"), judged(share, value, False)
    case, codec, goal = PROMPT_GOAL
    mine, other = (find(results, kind, case, name) if timed else None for results, kind, name in ((kvc, "prompt", codec), (peer, "peer", "fp16")))
    value = other["us"] / mine["us"] if mine and mine["correct"] and other else None
    yield f"prompt {codec}, {case}: times FlashInfer fp16", f">= {goal:g} x", cell(value, "{:.2f} x"), judged(goal, value, False)
    case, codec, other_codec, goal = LLAMA_GOAL
    mine, other = (find(results, kind, case, name) if timed else None
                   for results, kind, name in ((kvc, "decode", codec), (others, "peer", other_codec)))
    value = other["us"] / mine["us"] if mine and mine["correct"] and other else None
    yield f"decode {codec}, {case}: times llama.cpp {other_codec}", f">= {goal:g} x", cell(value, "{:.2f} x"), judged(goal, value, False)


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]


def scaled(value, factor, form):
    return cell(None if value is None else factor * value, form)


def decode_rows(kvc, peer):
    for r in kvc:
        if r["kind"] not in ("decode", "prompt"):
            continue
        other = find(peer, "peer", r["case"], "fp16") if r["us"] else None
        where = f" at {r['checked_split']}" if "checked_split" in r else ""
        yield [r["case"], r["codec"], cell(r["us"], "{:,.1f}"), "unmeasured" if r["us_low"] is None else f"{r['us_low']:,.1f}-{r['us_high']:,.1f}",
               cell(r["attend_us"], "{:,.1f}"), "" if r["mass_us"] == 0 else cell(r["mass_us"], "{:,.1f}"),
               "" if r.get("page_us") == 0 else cell(r.get("page_us"), "{:,.1f}"),
               scaled(r["operations_per_second"], 1e-12, "{:,.0f}"), str(r["split_tokens"]), scaled(r["bytes_per_second"], 1e-9, "{:,.0f}"),
               scaled(r["share_of_read"], 100, "{:.1f} %"), f"{r['bytes_per_element']:.3f}", cell(other and other["us"] / r["us"], "{:.2f} x"),
               f"{r['out_error']:.1e}{where}", ("yes" if r["correct"] else "WRONG") + where]


def split_rows(kvc):
    """What other lengths of splits would take, beside the library's."""
    for r in kvc:
        if r["kind"] in ("decode", "prompt") and r.get("us_of_split"):
            others = sorted((int(tokens), us) for tokens, us in r["us_of_split"].items() if int(tokens) != r["split_tokens"])
            yield [r["case"], r["codec"], f"{r['split_tokens']}: {cell(r['us'], '{:,.1f}')}", "; ".join(f"{tokens}: {us:,.1f}" for tokens, us in others)]


def peer_rows(peer):
    for r in peer:
        if r.get("us") is None:
            yield [r["case"], r["codec"], "unmeasured", "", "", ""]
        else:
            yield [r["case"], r["codec"], f"{r['us']:,.1f}", f"{r['us_low']:,.1f}-{r['us_high']:,.1f}",
                   f"{r['bytes_per_second'] * 1e-9:,.0f}", f"{r['variant']}, {r['timing']}"]


def other_rows(kvc, others):
    """What other peers reached, beside kvc's codec of as many bits."""
    for r in others:
        mine = find(kvc, "decode", r["case"], AS_MANY_BITS.get(r["codec"]))
        if r.get("us") is None:
            yield [r["peer"], r["case"], r["codec"], "unmeasured", "", "", "", "; ".join(f"{k}: {v}" for k, v in r["variants"].items()), ""]
        else:
            yield [r["peer"], r["case"], r["codec"], f"{r['us']:,.1f}", f"{r['us_low']:,.1f}-{r['us_high']:,.1f}",
                   f"{r['bytes_per_second'] * 1e-9:,.0f}", f"{r['out_error']:.1e}", f"{r['variant']}, {r['timing']}",
                   cell(r["us"] / mine["us"] if mine and mine["correct"] else None, "{:.2f} x")]


def evict_rows(kvc):
    for r in kvc:
        if r["kind"] == "evict":
            yield [r["case"], r["codec"], r["by"], str(r["layers"]), f"{r['us']:,.1f}", f"{r['us_low']:,.1f}-{r['us_high']:,.1f}", f"{r['host_us']:,.1f}",
                   f"{r['halving_us']:,.1f}", str(r["waits"]), "yes" if r["correct"] else "WRONG"]


def append_rows(kvc):
    for r in kvc:
        if r["kind"] == "append":
            yield [r["case"], r["codec"], str(r["pages"]), f"{r['quantize_us']:,.1f}", f"{r['store_us']:,.1f}", f"{r['step_us']:,.1f}"]


def markdown(title_lines, kvc, peer, outcomes, others=()):
    kvc = of_the_library(kvc)
    machine = next((r for r in kvc if r["kind"] == "machine"), None)
    timed = bool(machine and machine["timed"])
    lines = ["# The CUDA kernels on a GPU" if timed else "# The CUDA kernels: no time of a GPU", "", *[f"- {line}" for line in title_lines]]
    if machine:
        lines.append(f"- {machine['device']}, {machine['multiprocessors']} multiprocessors; driver API {machine['driver']}, runtime {machine['runtime']}")
    if timed:
        lines.append(f"- measured here: reads {machine['read_bytes_per_second'] * 1e-9:,.0f} GB/s (the share below is of this), copies "
                     f"{machine['copy_bytes_per_second'] * 1e-9:,.0f} GB/s, read and written bytes together")
    lines += [f"- peer: {peer[0]['peer']}" if peer else "- peer: FlashInfer was not there, so no ratio is known", ""]
    missing = [o["name"] for o in outcomes if o["name"] in steps.PEERS[1:] and o["state"] == "not there"]
    lines[-1:] = [*[f"- {name} was not there" for name in missing], ""]
    lines += table(["step", "result", "seconds"], [[o["name"], o["state"], f"{o['seconds']:.0f}"] for o in outcomes])
    lines += ["", "Goals:", "", *table(["goal", "wanted", "measured", ""], goal_rows(kvc, peer, timed, others)), ""]
    if timed:
        lines += ["A step of one layer, cut as the library cuts it (attention and finish; median, extremes, attention alone; summing the probabilities of tokens comes on top; the whole with those of pages), us:", "",
                  *table(["case", "codec", "us", "extremes", "attention", "mass", "with page scores", "TFLOP/s", "split", "GB/s", "of read", "B/element", "x FlashInfer fp16", "error", "correct"],
                         decode_rows(kvc, peer)), "",
                  "An aside: other lengths of splits, which the library does not make, us:", "",
                  *table(["case", "codec", "the library's", "others"], split_rows(kvc)), "",
                  "FlashInfer, its best variant, us:", "", *table(["case", "type", "us", "extremes", "GB/s", "variant"], peer_rows(peer)), "",
                  *(["Other peers, us (error: of BitDecoding, with what its codes lose):", "",
                     *table(["peer", "case", "type", "us", "extremes", "GB/s", "error", "how", "kvc of as many bits"], other_rows(kvc, others)), ""]
                    if others else []),
                  "Appending a token of each sequence to one layer, us:", "",
                  *table(["case", "codec", "pages", "quantize all pages", "store", "a step"], append_rows(kvc)), "",
                  "Evicting 64 tokens a head of one sequence through kvc.h, a layer, until the device is done, us:", "",
                  *table(["case", "codec", "by", "layers", "us", "extremes", "call alone", "first half of all", "waits", "correct"], evict_rows(kvc)), ""]
    elif not machine:
        lines += ["Nothing was measured.", ""]
    else:
        checked = [r for r in kvc if r["kind"] in ("decode", "prompt", "evict")]
        lines += [f"The kernels ran on the emulator: {sum(r['correct'] for r in checked)} of {len(checked)} results were right. Times were not measured.", ""]
    for r in kvc:
        if r["kind"] == "skipped":
            lines.append(f"- not measured: {r['codec']}, {r['case']}: {r['reason']}")
    lines += ["", "bench/gpu/README.md says how it was measured.", ""]
    return "\n".join(lines)


def date():
    return time.strftime("%Y-%m-%d", time.gmtime())


def file_stem(machine):
    """2026-11-27-h100-80gb-hbm3, say."""
    name = machine["device"] if machine else "no-device"
    kept = "".join(c if c.isalnum() else "-" for c in name.lower().replace("nvidia", "")).strip("-")
    return f"{date()}-{kept}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = json.loads(Path(sys.argv[1]).read_text())
    print(markdown(run["machine"], run["kvc"], run["peer"], run["steps"], run.get("others", ())), end="")


if __name__ == "__main__":
    main()
