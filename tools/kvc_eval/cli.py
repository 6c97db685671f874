"""The command line of kvc-eval: what is asked for, and which module answers."""
import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import kvc

from .assign import assign_lines, assign_report, calibration_text, candidates_of, choose, parse_budget, probe_dump, probe_model
from .dump import dump_model, read_dump, write_dump
from .evaluate import Evaluation
from .known_models import KNOWN
from .modes import Mode, check_acts, parse_mode, split_modes
from .needles import needle_prompts
from .output_error import check_decode, error_report
from .recommend import TASKS, check_request, read_results, recommend, recommend_lines
from .study import GROUPS, parse_groups, run_study
from .stream import run_stream
from .subject import Subject
from .tasks import add_tasks, parse_lengths, task_prompts

FAILED, WRONG_USAGE = 1, 2
STREAM_WIDTH = 1024  # positions that one perplexity of --stream is taken over
ASSIGNED = ["fp16", "int8", "int4", "int3", "k3v2", "int2"]  # what --assign chooses among unless told


def main() -> int:
    arguments = _parser().parse_args()
    try:
        run(arguments)
    except (ValueError, RuntimeError, OSError, kvc.KvcError) as fault:
        print(f"kvc-eval: {fault}", file=sys.stderr)
        return WRONG_USAGE if isinstance(fault, ValueError) else FAILED
    return 0


VERBS = ("write_dump", "assign", "recommend", "study", "stream")  # at most one of them; without any, modes are judged


def run(arguments: argparse.Namespace) -> None:
    _check(arguments)
    modes = _modes(arguments)
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


def _check(arguments: argparse.Namespace) -> None:
    for option in ("chunk", "decode", "judge_every"):
        if getattr(arguments, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(arguments, option)}: it must be at least 1")
    for option in ("needles", "by_position", "stream", "threads"):
        if getattr(arguments, option) < 0:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(arguments, option)}: it must be at least 0")
    verbs = ["--" + verb.replace("_", "-") for verb in VERBS if getattr(arguments, verb)]
    if len(verbs) > 1:
        raise ValueError(f"{' and '.join(verbs)}: give one of them")
    if arguments.dump and verbs not in ([], ["--assign"]):
        raise ValueError(f"--dump and {verbs[0]}: give one of them")
    if arguments.dump and arguments.tasks:
        raise ValueError("--tasks needs a model, which --dump has not")
    if arguments.tasks and verbs not in ([], ["--recommend"]):
        raise ValueError(f"--tasks does not go with {verbs[0]}")
    if arguments.by_position and (arguments.dump or verbs not in ([], ["--recommend"], ["--stream"])):
        raise ValueError(f"--by-position does not go with {'--dump' if arguments.dump else verbs[0]}")
    if arguments.calibrate and not arguments.assign:
        raise ValueError("--calibrate writes what --assign finds: give its bytes")
    if arguments.recommend:
        check_request(arguments.task, arguments.max_kl)
        if TASKS[arguments.task].needle and not arguments.needles and not arguments.results:
            raise ValueError(f"--task {arguments.task} needs needles: --needles 1 or more")
    for option in ("json", "html", "calibrate", "write_dump"):
        if getattr(arguments, option):
            _check_target("--" + option.replace("_", "-"), Path(getattr(arguments, option)))
    if arguments.stream_gaps and not arguments.stream:
        raise ValueError("--stream-gaps belongs to --stream")
    for option in ("results", "task", "max_kl"):
        if getattr(arguments, option) is not None and not arguments.recommend:
            raise ValueError(f"--{option.replace('_', '-')} belongs to --recommend")


def _check_target(option: str, target: Path) -> None:
    """What cannot be written is refused now, not after the run."""
    place = next(place for place in (target.absolute(), *target.absolute().parents) if place.exists())
    if target.is_dir() or (place != target.absolute() and not place.is_dir()) or not os.access(place, os.W_OK):
        raise ValueError(f"{option} {target}: it cannot be written")


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
                       _gaps(arguments.stream_gaps), show)
    _write_reports(arguments, _about(arguments, subject) | {"stream": found, "context_length": subject.model.context_length})


def _gaps(text: str | None) -> list[int]:
    gaps = [int(number) if number.isdigit() else 0 for number in text.split(",")] if text else []
    if any(not 1 <= gap <= 1 << 40 for gap in gaps):
        raise ValueError(f"--stream-gaps {text}: give numbers of tokens, with commas")
    return gaps


def _write_reports(arguments: argparse.Namespace, report: dict) -> None:
    if arguments.json:
        _write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.html:
        from .report import write_report  # matplotlib takes a second to load

        _write(arguments.html, write_report(report))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line: the usage of so many options would bury what is wrong."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message} ({self.prog} --help lists the options)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kvc-eval", description="Runs a language model with kvc as its KV cache and compares it with an fp32 cache.")
    parser.add_argument("--model", default="smollm2", help=f"{' or '.join(KNOWN)}, or the path of a GGUF file (llama or gemma3 architecture)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="a text file (UTF-8); default: Jane Austen's Persuasion")
    source.add_argument("--token-ids", help="a file of little-endian int32 token ids, read as they are")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens to read (default 2048)")
    parser.add_argument("--start", type=int, default=0, help="tokens of the text to skip (default 0)")
    parser.add_argument("--chunk", type=int, default=64, help="tokens per step (default 64); figures change by rounding only")
    parser.add_argument("--modes", help="preset names, codec strings, policies such as h2o:20%%, CODEC+POLICY, or @FILE (a calibration), by commas "
                                        "(default: all presets)")
    parser.add_argument("--needles", type=int, default=3, help="prompts of 8 needles each (default 3; 0: none)")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("KVC_EVAL_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--dump", help="a safetensors file of queries, keys and values: judge its attention outputs instead of a model")
    parser.add_argument("--decode", type=int, default=128, help="last tokens of a dump that are attended to one by one (default 128)")
    parser.add_argument("--write-dump", help="write such a file from the model and the text, and stop")
    parser.add_argument("--tasks", help="lengths of needle haystacks, such as 512,1024,2048: a needle grid, copying and a summary besides")
    parser.add_argument("--assign", help="bytes (6MiB) or bits per element (3.5bits): choose a codec per layer among those of --modes")
    parser.add_argument("--calibrate", help="where to write the assignment, for codec = \"@FILE\"")
    parser.add_argument("--recommend", action="store_true", help="name the mode of fewest bits that serves --task within --max-kl")
    parser.add_argument("--task", help=", ".join(TASKS))
    parser.add_argument("--max-kl", type=float)
    parser.add_argument("--results", help="recommend from the --json of an earlier run")
    parser.add_argument("--study", help=f"common claims, measured: {', '.join(GROUPS)}, by commas, or all")
    parser.add_argument("--by-position", type=int, default=0, help="figures of so many positions each, besides")
    parser.add_argument("--judge-every", type=int, default=1, help="compare distributions in one chunk of so many (default 1: in all of them)")
    parser.add_argument("--stream", type=int, default=0, help="StreamingLLM with so many newest tokens over all --tokens, three ways")
    parser.add_argument("--stream-gaps", help="numbers of tokens, by commas: true positions once more, as if so many had left behind the sinks")
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--html", help="where to write a report with plots, one self-contained file")
    return parser


def _write(path: str, text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
