"""make demo: a real language model runs on compressed caches, all of them under one byte budget.

First the plan: how much context and how many parallel sequences each mode fits. Then every mode runs that many
sequences inside an arena of exactly the budget: it reads a passage of a novel into each and answers a question
about it. Last, what compression costs: distance of each mode's predictions from those with an fp32 cache.
"""
import os
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "bindings" / "python")]
THREADS = int(os.environ.get("KVC_EVAL_THREADS", os.cpu_count() or 1))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(THREADS))  # both are read when numpy is first imported
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # its idle threads sleep at once instead of taking the cores from the cache's own

import kvc  # noqa: E402
import numpy as np  # noqa: E402
from kvc_eval.compressed_cache import CompressedCache, shape_options  # noqa: E402
from kvc_eval.evaluate import Evaluation  # noqa: E402
from kvc_eval.gguf_file import GgufFile  # noqa: E402
from kvc_eval.known_models import gguf_path  # noqa: E402
from kvc_eval.model import AttentionShape, Model, load_model  # noqa: E402
from kvc_eval.modes import Mode  # noqa: E402
from kvc_eval.needles import needle_prompts  # noqa: E402
from kvc_eval.texts import HAYSTACK, READ, novel  # noqa: E402
from kvc_eval.tokens import TextTokenizer  # noqa: E402

BUDGET = 48 << 20
CONTEXT = 1024  # tokens of one sequence: a prompt and an answer
ANSWER = 40
PROMPT_STEP = 128
HAYSTACK_TOKENS = 1400  # of the passage over which quality is measured, longer than the window: eight numbers are hidden in it and asked for at its end
QUESTION = "In one sentence: what happens in this passage, and to whom?"
WINDOW = 512
MODES = [
    Mode("fp16", "fp16"), Mode("int8", "int8"), Mode("int4", "int4"), Mode("k3v2", "k3v2"), Mode("int2", "int2"),
    Mode(f"window 4+{WINDOW}", "fp16", f"streaming:4+{WINDOW}"),
]


@dataclass
class Row:
    """What the demo finds out about one mode."""
    mode: Mode
    plan: object
    sequences: int = 0
    held: int = 0
    decode_per_second: float = 0.0
    answer: str = ""
    quality: dict = field(default_factory=dict)


def main() -> int:
    began = time.perf_counter()
    library = kvc.default_library()
    print(library.build_info())
    print("SmolLM2-135M is read from its package ...", flush=True)
    file = GgufFile(gguf_path("smollm2"))
    model = load_model(file.path)
    tokenizer = TextTokenizer(file)
    shape = model.shape
    print(f"{shape.layers} layers, {shape.q_heads} query heads, {shape.kv_heads} kv heads of {shape.head_dim}; "
          f"{shape.fp16_bytes(1) / 1024:.1f} KiB per token in fp16; {THREADS} threads\n")
    busy = os.getloadavg()[0]
    if busy > 1.5 * THREADS:
        print(f"This machine is busy (load {busy:.1f}, {THREADS} threads wanted): expect many times the usual time, "
              "or start with KVC_EVAL_THREADS=1\n")
    rows = [Row(mode, plan_mode(shape, mode)) for mode in MODES]
    show_plan(rows)
    prompts = make_prompts(tokenizer, max(row.plan.max_sequences for row in rows))
    for row in rows:
        run_mode(model, tokenizer, row, prompts)
    measure_quality(model, tokenizer, rows)
    show_table(rows)
    print(f"\nThe whole demo took {time.perf_counter() - began:.0f} s. Longer and for every preset: make eval")
    return 0


def plan_mode(shape: AttentionShape, mode: Mode):
    """What the library's planner promises."""
    request = dict(tokens=CONTEXT, step_tokens=PROMPT_STEP, budget_bytes=BUDGET)
    return kvc.plan(codec=mode.codec, policy=mode.policy, **shape_options(shape), request=request)


def show_plan(rows: list[Row]) -> None:
    print(f"The plan for a budget of {BUDGET >> 20} MiB:")
    print(f"  {'mode':<14}{'bits of a code':>15}{'one context of':>18}{f'or sequences of {CONTEXT}':>26}")
    for row in rows:
        context = f"{row.plan.max_tokens:,} tokens" if not row.mode.policy else "any length"
        print(f"  {row.mode.name:<14}{row.plan.codec_bits:>15.2f}{context:>18}{row.plan.max_sequences:>26}")
    print(f"  Short sequences gain less: each keeps its newest tokens and its first ones in 16 bits, {CONTEXT} tokens or a million.\n", flush=True)


def make_prompts(tokenizer: TextTokenizer, count: int) -> list[np.ndarray]:
    """Prompts of CONTEXT - ANSWER tokens: consecutive passages of the novel, each with the question."""
    head = tokenizer.encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    tail = tokenizer.encode(f"\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n")
    room = CONTEXT - ANSWER - len(head) - len(tail)
    text = tokenizer.encode(novel(READ))
    return [np.array(head + text[i * room:(i + 1) * room] + tail, np.int64) for i in range(count)]


def run_mode(model: Model, tokenizer: TextTokenizer, row: Row, prompts: list[np.ndarray]) -> None:
    """Fills the budget with as many sequences as the plan promised, and generates in all of them side by side."""
    row.sequences = row.plan.max_sequences
    began = time.perf_counter()
    cache = CompressedCache(model.shape, row.mode.codec, THREADS, row.mode.policy, arena_bytes=BUDGET)
    try:
        sequences, last = [], []
        for number, prompt in enumerate(prompts[:row.sequences]):
            progress(f"{row.mode.name}: reading prompt {number + 1} of {row.sequences}")
            sequences.append(cache.create_sequence(prompt_length=len(prompt)))
            last.append(read_prompt(model, cache, sequences[-1], prompt))
        read_seconds = time.perf_counter() - began
        written = generate(model, cache, row, sequences, np.array(last))
        row.held = cache.cache.stats().record_bytes
    finally:
        cache.close()
    answer = written[:, 0].tolist()
    row.answer = tokenizer.decode(answer[:answer.index(tokenizer.end)] if tokenizer.end in answer else answer).strip()
    prompt_tokens = row.sequences * len(prompts[0])
    print(f"{row.mode.name:<14}{row.sequences} sequences, {row.held / 2**20:.1f} of {BUDGET >> 20} MiB in records; read "
          f"{prompt_tokens / read_seconds:.0f} tokens/s, wrote {row.decode_per_second:.1f} tokens/s")
    print(textwrap.fill(row.answer, 118, initial_indent="    ", subsequent_indent="    "), flush=True)


def read_prompt(model: Model, cache: CompressedCache, sequence: int, prompt: np.ndarray) -> int:
    """Reads a prompt in steps; the likeliest next token."""
    for first in range(0, len(prompt), PROMPT_STEP):
        piece = prompt[first:first + PROMPT_STEP]
        hidden = forward(model, cache, [sequence], piece, [len(piece)])
    return int(model.logits(hidden[-1:]).argmax())


def generate(model: Model, cache: CompressedCache, row: Row, sequences: list[int], tokens: np.ndarray) -> np.ndarray:
    """Greedy decoding of all sequences in one step per token; tokens written [ANSWER, sequences]."""
    written, began = [tokens], time.perf_counter()
    for number in range(1, ANSWER):
        progress(f"{row.mode.name}: writing token {number + 1} of {ANSWER} in {len(sequences)} sequences")
        hidden = forward(model, cache, sequences, written[-1], [1] * len(sequences))
        written.append(model.logits(hidden).argmax(-1))
    row.decode_per_second = (ANSWER - 1) * len(sequences) / (time.perf_counter() - began)
    return np.array(written)


def forward(model: Model, cache: CompressedCache, sequences: list[int], tokens: np.ndarray, counts: list[int]) -> np.ndarray:
    positions = np.concatenate([cache.length(s) + np.arange(n) for s, n in zip(sequences, counts)])
    with cache.step(sequences, counts) as step:
        return model.forward(tokens, positions, step.attend)


def measure_quality(model: Model, tokenizer: TextTokenizer, rows: list[Row]) -> None:
    passage = needle_prompts(novel(HAYSTACK), tokenizer, 1, HAYSTACK_TOKENS)[0]
    evaluation = Evaluation(model, [row.mode for row in rows], passage.tokens, chunk=64, threads=THREADS, progress=progress,
                            answers=tuple(passage.answers))
    for row, result in zip(rows, evaluation.run([])[1]):
        row.quality = result


def show_table(rows: list[Row]) -> None:
    print(f"\nUnder {BUDGET >> 20} MiB (quality: a passage of {HAYSTACK_TOKENS} tokens with 8 numbers hidden in it, against an fp32 cache; KL in nats):")
    print(f"  {'mode':<14}{'context':>10}{f'x {CONTEXT}':>8}{'tokens/s':>10}{'KL':>11}{'top-1':>9}{'digits recalled':>17}")
    for row in rows:
        context = f"{row.plan.max_tokens:,}" if not row.mode.policy else "any"
        print(f"  {row.mode.name:<14}{context:>10}{row.sequences:>8}{row.decode_per_second:>10.1f}"
              f"{row.quality['kl']:>11.1e}{100 * row.quality['top1']:>7.1f} %{100 * row.quality['recalled']:>15.0f} %")
    print(f"  Codecs keep every token, in fewer bits; a window has nothing left of what lies further back than its {WINDOW} tokens.")


SILENCE = 10  # seconds after which a log hears of progress
_last_line = time.perf_counter()


def progress(line: str) -> None:
    """A line that the next one overwrites, on a terminal; elsewhere one of them every now and then, so that a log is not filled."""
    global _last_line
    if sys.stdout.isatty():
        print(f"\r\033[K{line}\r", end="", flush=True)
    elif time.perf_counter() - _last_line > SILENCE:
        _last_line = time.perf_counter()
        print(f"  ... {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
