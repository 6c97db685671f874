"""What kvc-eval may be asked for, and what of it can be refused before anything is set up: this needs the standard library alone.

    python3 -m kvc_eval.arguments ...     status 0: go on; 2: it is wrong, as was said; 3: --help, which was printed
"""
import argparse
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

KNOWN = ("smollm2", "gemma3")  # models by name
WRONG_USAGE, HELPED = 2, 3

SHORTEST = 64  # tokens of a haystack
QUESTIONS = {  # of --study
    "symmetry": "Symmetric codes against codes with a zero point, at 8, 4 and 2 bits, in keys and in values",
    "axes": "Scales per channel or per token, in keys and in values",
    "details": "Group, metadata, window, sinks and clip of int4 and int2, one at a time",
    "shares": "Bits on keys or on values",
    "layers": "Early and late layers, middle layers, or the layers that a probe finds: a fifth of them at 4 bits, the others at 2",
    "prompt": "A prompt evicted after it was read against a prompt of which only that part was ever seen",
}


@dataclass(frozen=True)
class Needs:
    needle: float  # least share of what the exact model recalls that the mode must recall; 0: not asked
    reason: str


TASKS = {
    "retrieval": Needs(0.95, "answers lie anywhere in the text, word by word"),
    "qa": Needs(0.85, "answers lie anywhere in the text"),
    "summary": Needs(0.0, "the gist matters, which KL sees"),
    "chat": Needs(0.0, "the newest turns matter, which KL sees"),
}
VERBS = ("write_dump", "assign", "recommend", "study", "stream")  # at most one of them; without any, modes are judged


def check(arguments: argparse.Namespace) -> None:
    """Refuses what can be seen to be wrong without the library and without a model."""
    if arguments.tokens < 1 or arguments.start < 0:
        raise ValueError(f"--tokens {arguments.tokens} --start {arguments.start}: tokens must be at least 1, start at least 0")
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
    _check_lists(arguments)
    for option in ("results", "task", "max_kl"):
        if getattr(arguments, option) is not None and not arguments.recommend:
            raise ValueError(f"--{option.replace('_', '-')} belongs to --recommend")
    for option in ("text", "token_ids", "dump", "results"):
        file = getattr(arguments, option)
        if file and not Path(file).is_file():
            raise ValueError(f"--{option.replace('_', '-')} {file}: there is no such file")
    if arguments.model not in KNOWN and not Path(arguments.model).is_file():
        raise ValueError(f"--model {arguments.model}: neither a file nor one of {', '.join(KNOWN)}")


def _check_lists(arguments: argparse.Namespace) -> None:
    if arguments.tasks:
        parse_lengths(arguments.tasks)
    if arguments.study:
        parse_groups(arguments.study)
    parse_gaps(arguments.stream_gaps)


def _check_target(option: str, target: Path) -> None:
    """What cannot be written is refused now, not after the run."""
    place = next(place for place in (target.absolute(), *target.absolute().parents) if place.exists())
    if target.is_dir() or (place != target.absolute() and not place.is_dir()) or not os.access(place, os.W_OK):
        raise ValueError(f"{option} {target}: it cannot be written")


def check_request(task: str, max_kl: float | None) -> None:
    if task not in TASKS:
        raise ValueError(f"--task {task}: it is none of {', '.join(TASKS)}")
    if max_kl is None or not math.isfinite(max_kl) or max_kl <= 0:
        raise ValueError(f"--recommend needs --max-kl, a number above 0, not {max_kl}")


def parse_lengths(text: str) -> list[int]:
    """The numbers of --tasks."""
    lengths = [int(number) if number.isdigit() else 0 for number in text.split(",")]
    if min(lengths) < SHORTEST:
        raise ValueError(f"--tasks {text}: give lengths of at least {SHORTEST} tokens, with commas")
    return lengths


def parse_groups(text: str) -> list[str]:
    """The names of --study."""
    names = list(QUESTIONS) if text == "all" else text.split(",")
    for name in names:
        if name not in QUESTIONS:
            raise ValueError(f"--study {name}: it is none of {', '.join(QUESTIONS)}, all")
    return names


def parse_gaps(text: str | None) -> list[int]:
    """The numbers of --stream-gaps."""
    gaps = [int(number) if number.isdigit() else 0 for number in text.split(",")] if text else []
    if any(not 1 <= gap <= 1 << 40 for gap in gaps):
        raise ValueError(f"--stream-gaps {text}: give numbers of tokens, with commas")
    return gaps


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line: the usage of so many options would bury what is wrong."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message} ({self.prog} --help lists the options)\n")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="kvc-eval", description="Runs a language model with kvc as its KV cache and compares it with an fp32 cache.")
    made.add_argument("--model", default="smollm2", help=f"{' or '.join(KNOWN)}, or the path of a GGUF file (llama or gemma3 architecture)")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--text", help="a text file (UTF-8); default: Jane Austen's Persuasion")
    source.add_argument("--token-ids", help="a file of little-endian int32 token ids, read as they are")
    made.add_argument("--tokens", type=int, default=2048, help="tokens to read (default 2048)")
    made.add_argument("--start", type=int, default=0, help="tokens of the text to skip (default 0)")
    made.add_argument("--chunk", type=int, default=64, help="tokens per step (default 64); figures change by rounding only")
    made.add_argument("--modes", help="preset names, codec strings, policies such as h2o:20%%, CODEC+POLICY, or @FILE (a calibration), by commas "
                                        "(default: all presets)")
    made.add_argument("--needles", type=int, default=3, help="prompts of 8 needles each (default 3; 0: none)")
    made.add_argument("--threads", type=int, default=int(os.environ.get("KVC_EVAL_THREADS", os.cpu_count() or 1)))
    made.add_argument("--dump", help="a safetensors file of queries, keys and values: judge its attention outputs instead of a model")
    made.add_argument("--decode", type=int, default=128, help="last tokens of a dump that are attended to one by one (default 128)")
    made.add_argument("--write-dump", help="write such a file from the model and the text, and stop")
    made.add_argument("--tasks", help="lengths of needle haystacks, such as 512,1024,2048: a needle grid, copying and a summary besides")
    made.add_argument("--assign", help="bytes (6MiB) or bits per element (3.5bits): choose a codec per layer among those of --modes")
    made.add_argument("--calibrate", help="where to write the assignment, for codec = \"@FILE\"")
    made.add_argument("--recommend", action="store_true", help="name the mode of fewest bits that serves --task within --max-kl")
    made.add_argument("--task", help=", ".join(TASKS))
    made.add_argument("--max-kl", type=float)
    made.add_argument("--results", help="recommend from the --json of an earlier run")
    made.add_argument("--study", help=f"common claims, measured: {', '.join(QUESTIONS)}, by commas, or all")
    made.add_argument("--by-position", type=int, default=0, help="figures of so many positions each, besides")
    made.add_argument("--judge-every", type=int, default=1, help="compare distributions in one chunk of so many (default 1: in all of them)")
    made.add_argument("--stream", type=int, default=0, help="StreamingLLM with so many newest tokens over all --tokens, three ways")
    made.add_argument("--stream-gaps", help="numbers of tokens, by commas: true positions once more, as if so many had left behind the sinks")
    made.add_argument("--json", help="where to write the figures")
    made.add_argument("--html", help="where to write a report with plots, one self-contained file")
    return made


def main() -> int:
    try:
        check(parser().parse_args())
    except ValueError as fault:
        print(f"kvc-eval: {fault}", file=sys.stderr)
        return WRONG_USAGE
    except SystemExit as end:  # of argparse
        return WRONG_USAGE if end.code else HELPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
