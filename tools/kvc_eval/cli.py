"""The command line of kvc-eval: what is asked for, and which module answers."""
import argparse
import json
import os
import sys
from pathlib import Path

import kvc

from .dump import dump_model, read_dump, write_dump
from .evaluate import Evaluation
from .known_models import KNOWN
from .modes import Mode, parse_mode, split_modes
from .needles import needle_prompts
from .output_error import check_decode, error_report
from .subject import Subject

FAILED, WRONG_USAGE = 1, 2


def main() -> int:
    arguments = _parser().parse_args()
    try:
        run(arguments)
    except (ValueError, RuntimeError, OSError, kvc.KvcError) as fault:
        print(f"kvc-eval: {fault}", file=sys.stderr)
        return WRONG_USAGE if isinstance(fault, ValueError) else FAILED
    return 0


def run(arguments: argparse.Namespace) -> None:
    modes = _modes(arguments)
    for option in ("chunk", "decode"):
        if getattr(arguments, option) < 1:
            raise ValueError(f"--{option} {getattr(arguments, option)}: it must be at least 1")
    if arguments.needles < 0:
        raise ValueError(f"--needles {arguments.needles}: it must be at least 0")
    if arguments.dump and arguments.write_dump:
        raise ValueError("--dump reads a dump, --write-dump makes one of a model: give one of them")
    if arguments.dump:
        report = _judge_dump(arguments, modes)
    elif arguments.write_dump:
        _write_dump(arguments)
        return
    else:
        report = _judge_model(arguments, modes)
    _write_reports(arguments, report)


def _modes(arguments: argparse.Namespace) -> list[Mode]:
    modes = [parse_mode(name) for name in (split_modes(arguments.modes) if arguments.modes else kvc.default_library().presets())]
    for mode in modes:
        if not mode.codec.startswith("@"):
            kvc.default_library().codec_format(mode.codec)  # a wrong name fails now, not after minutes
        elif not Path(mode.codec[1:]).is_file():
            raise ValueError(f"mode {mode.name}: there is no file {mode.codec[1:]}")
    return modes


def _judge_model(arguments: argparse.Namespace, modes: list[Mode]) -> dict:
    subject = Subject(arguments)
    tokenizer = subject.tokenizer if arguments.needles or not arguments.token_ids else None
    tokens, model = subject.tokens, subject.model
    needles = needle_prompts(subject.haystack, tokenizer, arguments.needles) if arguments.needles else []
    if arguments.needles and not needles:
        show(f"{arguments.text} is too short to hide needles in: needle will be null")
    evaluation = Evaluation(model, modes, tokens, arguments.chunk, arguments.threads, progress=show)
    reference, results = evaluation.run(needles)
    return {
        "model": arguments.model, "model_name": model.name, "tokens": len(tokens), "start": arguments.start, "chunk": arguments.chunk,
        "text": subject.text_name, "library": kvc.default_library().version(),
        "needle_prompts": len(needles), "reference": reference, "modes": results,
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


def _write_reports(arguments: argparse.Namespace, report: dict) -> None:
    if arguments.json:
        _write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.html:
        from .report import write_dump_report, write_report  # matplotlib takes a second to load

        _write(arguments.html, write_dump_report(report) if "dump" in report else write_report(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--html", help="where to write a report with plots, one self-contained file")
    return parser


def _write(path: str, text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
