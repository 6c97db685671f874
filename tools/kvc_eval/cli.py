"""The command line of kvc-eval: what is asked for, and which module answers."""
import argparse
import json
import os
import sys
from pathlib import Path

import kvc

from .arguments import WRONG_USAGE, check, parse_gaps, parse_groups, parse_lengths, parser
from .assign import assign_lines, assign_report, calibration_text, candidates_of, check_probe, choose, parse_budget, probe_dump, probe_model
from .dump import dump_model, read_dump, write_dump
from .evaluate import Evaluation, check_length
from .modes import Mode, check_acts, parse_mode, split_modes
from .needles import needle_prompts
from .output_error import check_decode, error_report
from .recommend import read_results, recommend, recommend_lines
from .study import run_study
from .stream import check_stream, run_stream
from .subject import Subject
from .tasks import add_tasks, task_prompts

FAILED = 1
STREAM_WIDTH = 1024  # positions that one perplexity of --stream is taken over
ASSIGNED = ["fp16", "int8", "int4", "int3", "k3v2", "int2"]  # what --assign chooses among unless told


def main() -> int:
    arguments = parser().parse_args()
    try:
        run(arguments)
    except (ValueError, RuntimeError, OSError, kvc.KvcError) as fault:
        print(f"kvc-eval: {fault}", file=sys.stderr)
        return WRONG_USAGE if isinstance(fault, ValueError) else FAILED
    return 0


def run(arguments: argparse.Namespace) -> None:
    check(arguments)
    modes = _modes(arguments)
    _check_tokens(arguments)
    if arguments.write_dump:
        _write_dump(arguments)
    elif arguments.assign:
        _assign(arguments, modes)
    elif arguments.recommend:
        _recommend(arguments, modes)
    elif arguments.study:
        _study(arguments)
    elif arguments.stream:
        _stream(arguments, modes)
    else:
        _write_reports(arguments, _judge_dump(arguments, modes) if arguments.dump else _judge_model(arguments, modes))


def _check_tokens(arguments: argparse.Namespace) -> None:
    """Whether so many tokens are enough, which is known before there is a model."""
    if arguments.dump or arguments.write_dump or arguments.results:
        return
    if arguments.assign:
        check_probe(arguments.tokens)
    elif arguments.stream:
        check_stream(arguments.tokens, arguments.stream)
    else:
        check_length(arguments.tokens, arguments.chunk, arguments.judge_every)


def _modes(arguments: argparse.Namespace) -> list[Mode]:
    names = split_modes(arguments.modes) if arguments.modes else ASSIGNED if arguments.assign else kvc.default_library().presets()
    modes = [parse_mode(name) for name in names]
    for mode in modes:
        check_acts(mode)
        if mode.codec.startswith("@") and not Path(mode.codec[1:]).is_file():
            raise ValueError(f"mode {mode.name}: there is no file {mode.codec[1:]}")
    return modes


def _judge_model(arguments: argparse.Namespace, modes: list[Mode]) -> dict:
    subject = Subject(arguments)
    tokenizer = subject.tokenizer if arguments.needles or not arguments.token_ids else None
    tokens, model = subject.tokens, subject.model
    needles = needle_prompts(subject.haystack, tokenizer, arguments.needles) if arguments.needles else []
    if arguments.needles and not needles:
        show(f"{arguments.text} is too short to hide needles in: needle will be null")
    prompts = task_prompts(model, subject.haystack, subject.tokenizer, parse_lengths(arguments.tasks), arguments.chunk) if arguments.tasks else []
    evaluation = Evaluation(model, modes, tokens, arguments.chunk, arguments.threads, progress=show, bin_width=arguments.by_position,
                            judge_every=arguments.judge_every)
    reference, results = evaluation.run(needles)
    if prompts:
        add_tasks(model, modes, prompts, reference, results, arguments.chunk, arguments.threads, show)
    return _about(arguments, subject) | {"needle_prompts": len(needles), "reference": reference, "modes": results}


def _about(arguments: argparse.Namespace, subject: Subject) -> dict:
    return {
        "model": arguments.model, "model_name": subject.model.name, "tokens": len(subject.tokens), "start": arguments.start,
        "chunk": arguments.chunk, "text": subject.text_name, "library": kvc.default_library().version(),
    }


def _judge_dump(arguments: argparse.Namespace, modes: list[Mode]) -> dict:
    dump = read_dump(arguments.dump)
    check_decode(dump, arguments.decode)
    report = error_report(dump, modes, arguments.decode, arguments.threads, show)
    return {"dump": arguments.dump, "library": kvc.default_library().version()} | report


def _write_dump(arguments: argparse.Namespace) -> None:
    subject = Subject(arguments)
    dump = dump_model(subject.model, subject.tokens, arguments.chunk)
    write_dump(arguments.write_dump, dump)
    show(f"{arguments.write_dump}: q, k and v of {len(dump.layers)} layers over {dump.tokens} tokens")


def _assign(arguments: argparse.Namespace, modes: list[Mode]) -> None:
    candidates = candidates_of(modes)
    if arguments.dump:
        dump = read_dump(arguments.dump)
        name, probe = dump.name, lambda: probe_dump(dump, candidates, arguments.threads, show, budget)
        fp16_bytes = dump.fp16_bytes()
    else:
        subject = Subject(arguments)
        name, probe = subject.model.name, lambda: probe_model(subject.model, subject.tokens, candidates, arguments.threads, show, budget)
        fp16_bytes = subject.model.shape.fp16_bytes(arguments.tokens)
    budget = parse_budget(arguments.assign, fp16_bytes)  # before the probe, which takes a while
    measured = probe()
    chosen = choose(measured, budget)
    report = assign_report(measured, budget, chosen)
    print("\n".join(assign_lines(report)))
    if arguments.calibrate:
        _write(arguments.calibrate, calibration_text(name, arguments.assign, measured, chosen))
    _write_reports(arguments, {"model_name": name, "library": kvc.default_library().version(), "assignment": report})


def _recommend(arguments: argparse.Namespace, modes: list[Mode]) -> None:
    report = read_results(arguments.results) if arguments.results else _judge_model(arguments, modes)
    report["recommendation"] = recommend(report, arguments.task, arguments.max_kl)
    print("\n".join(recommend_lines(report["recommendation"])))
    _write_reports(arguments, report)
    if not report["recommendation"]["chosen"]:
        raise RuntimeError("no mode will do")


def _study(arguments: argparse.Namespace) -> None:
    groups = parse_groups(arguments.study)
    subject = Subject(arguments)
    found = run_study(subject.model, subject.tokens, groups, arguments.chunk, arguments.threads, show)
    _write_reports(arguments, _about(arguments, subject) | {"study": found})


def _stream(arguments: argparse.Namespace, modes: list[Mode]) -> None:
    codec = modes[0].codec if arguments.modes else "fp16"
    if len(modes) > 1 and arguments.modes or modes[0].policy:
        raise ValueError("--stream goes with one codec in --modes, or none")
    subject, width = Subject(arguments), arguments.by_position or STREAM_WIDTH
    found = run_stream(subject.model, subject.tokens, arguments.stream, codec, width, arguments.chunk, arguments.threads,
                       parse_gaps(arguments.stream_gaps), show)
    _write_reports(arguments, _about(arguments, subject) | {"stream": found, "context_length": subject.model.context_length})


def _write_reports(arguments: argparse.Namespace, report: dict) -> None:
    if arguments.json:
        _write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.html:
        from .report import write_report  # matplotlib takes a second to load

        _write(arguments.html, write_report(report))


def _write(path: str, text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
