"""The command line of kvc-eval."""
import argparse
import json
import os
import sys
from pathlib import Path

import kvc
import numpy as np

from .evaluate import Evaluation
from .gguf_file import GgufFile
from .known_models import KNOWN, gguf_path
from .model import load_model
from .modes import parse_mode, split_modes
from .needles import needle_prompts
from .report import write_report
from .texts import HAYSTACK, READ, novel
from .tokens import TextTokenizer

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
    modes = [parse_mode(name) for name in (split_modes(arguments.modes) if arguments.modes else kvc.default_library().presets())]
    for mode in modes:
        kvc.default_library().codec_format(mode.codec)  # a wrong name fails now, not after minutes
    if arguments.chunk < 1:
        raise ValueError(f"--chunk {arguments.chunk}: it must be at least 1")
    if arguments.needles < 0:
        raise ValueError(f"--needles {arguments.needles}: it must be at least 0")
    for option, file in (("--text", arguments.text), ("--token-ids", arguments.token_ids)):
        if file and not Path(file).is_file():
            raise ValueError(f"{option} {file}: there is no such file")
    path = gguf_path(arguments.model)
    tokenizer = TextTokenizer(GgufFile(path)) if arguments.needles or not arguments.token_ids else None
    tokens = _tokens(arguments, tokenizer)
    model = load_model(path)
    if tokens.min() < 0 or tokens.max() >= model.vocabulary:
        raise ValueError(f"token ids lie in {tokens.min()} .. {tokens.max()}, the model's in 0 .. {model.vocabulary - 1}")
    needles = needle_prompts(_haystack(arguments), tokenizer, arguments.needles) if arguments.needles else []
    if arguments.needles and not needles:
        _show(f"{arguments.text} is too short to hide needles in: needle will be null")
    evaluation = Evaluation(model, modes, tokens, arguments.chunk, arguments.threads, progress=_show)
    reference, results = evaluation.run(needles)
    report = {
        "model": arguments.model, "model_name": model.name, "tokens": len(tokens), "start": arguments.start, "chunk": arguments.chunk,
        "text": arguments.token_ids or arguments.text or "Persuasion, by Jane Austen", "library": kvc.default_library().version(),
        "needle_prompts": len(needles), "reference": reference, "modes": results,
    }
    if arguments.json:
        _write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.html:
        _write(arguments.html, write_report(report))


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
    parser.add_argument("--modes", help="preset names, codec strings, policies such as h2o:20%%, or CODEC+POLICY, by commas (default: all presets)")
    parser.add_argument("--needles", type=int, default=3, help="prompts of 8 needles each (default 3; 0: none)")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("KVC_EVAL_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--html", help="where to write a report with plots, one self-contained file")
    return parser


def _tokens(arguments: argparse.Namespace, tokenizer: TextTokenizer | None) -> np.ndarray:
    """The tokens to read; of a text, with a begin token first where the model wants one."""
    if arguments.tokens < 1 or arguments.start < 0:
        raise ValueError(f"--tokens {arguments.tokens} --start {arguments.start}: tokens must be at least 1, start at least 0")
    begin = []
    if arguments.token_ids:
        ids = np.fromfile(arguments.token_ids, "<i4").astype(np.int64)
    else:
        ids = np.array(tokenizer.encode(_text(arguments.text) if arguments.text else novel(READ)), np.int64)
        begin = [] if tokenizer.begin is None else [tokenizer.begin]
    end = arguments.start + arguments.tokens - len(begin)
    if end > len(ids):
        raise ValueError(f"the text has {len(ids)} tokens; --start {arguments.start} --tokens {arguments.tokens} asks for more")
    return np.concatenate([np.array(begin, np.int64), ids[arguments.start:end]])


def _haystack(arguments: argparse.Namespace) -> str:
    """Where needles are hidden: in the caller's text, or else in a novel that is not the one being read."""
    return _text(arguments.text) if arguments.text else novel(HAYSTACK)


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _write(path: str, text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
