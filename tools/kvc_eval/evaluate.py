"""Runs a text through the reference and every mode side by side and compares their distributions.

All modes advance chunk by chunk with the reference, so its logits are computed once and never stored.
"""
import time
from collections.abc import Callable

import numpy as np

from .compressed_cache import CompressedCache
from .metrics import FIRST_POSITION, Fidelity, ReferenceChunk
from .model import Model
from .modes import Mode, naming
from .needles import NeedlePrompt
from .reference_cache import ReferenceCache

LOGIT_ROWS = 64  # positions whose logits are held at a time


class Reader:
    """Reads token sequences into a cache, step by step, and keeps the time that takes."""

    def __init__(self, model: Model, cache, sequences: list[int]):
        self._model, self.cache, self.sequences = model, cache, sequences
        self.seconds = 0.0

    def read(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        """Appends one piece to each sequence (a piece may be empty), in steps as long as the cache allows; hidden states per sequence."""
        began = time.perf_counter()
        read, states = [0] * len(pieces), [[] for _ in pieces]
        while True:
            left = [len(piece) - n for piece, n in zip(pieces, read)]
            counts = [min(n, self.cache.step_limit(s)) for n, s in zip(left, self.sequences)]
            if not any(counts):
                break
            for hidden, collected in zip(self._step([piece[n:n + c] for piece, n, c in zip(pieces, read, counts)]), states):
                collected.append(hidden)
            read = [n + c for n, c in zip(read, counts)]
        self.seconds += time.perf_counter() - began
        return [np.concatenate(collected) if collected else np.empty((0, 0), np.float32) for collected in states]

    def _step(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        counts = [len(piece) for piece in pieces]
        positions = [self._positions(self.cache.length(s), n) for s, n in zip(self.sequences, counts)]
        with self.cache.step(self.sequences, counts) as step:
            hidden = self._model.forward(np.concatenate(pieces), np.concatenate(positions), step.attend)
        return np.split(hidden, np.cumsum(counts)[:-1])

    def _positions(self, first: int, count: int) -> np.ndarray:
        """What RoPE is told of tokens first, first + 1, .."""
        return first + np.arange(count)


def open_mode(model: Model, mode: Mode, lengths: list[int], threads: int) -> Reader:
    """An empty cache for sequences of these final lengths."""
    with naming(mode.name):
        cache = CompressedCache(model.shape, mode.codec, threads, mode.cache_policy, arena_tokens=max(lengths), arena_sequences=len(lengths), arena_growth=1)
        return Reader(model, cache, [cache.create_sequence(prompt_length=length) for length in lengths])


def _is_judged(first: int, chunk: int, judge_every: int) -> bool:
    return (first // chunk + 1) % judge_every == 0


def check_length(tokens: int, chunk: int, judge_every: int) -> None:
    """Refuses a text of which no position would be judged."""
    if tokens < FIRST_POSITION + 2:
        raise ValueError(f"{tokens} tokens: at least {FIRST_POSITION + 2} are needed, as positions below {FIRST_POSITION} do not count")
    if not any(_is_judged(first, chunk, judge_every) and min(first + chunk, tokens - 1) > FIRST_POSITION for first in range(0, tokens, chunk)):
        raise ValueError(f"{tokens} tokens have no position from {FIRST_POSITION} on in every {judge_every}th chunk of {chunk}")


class Evaluation:
    def __init__(self, model: Model, modes: list[Mode], tokens: np.ndarray, chunk: int, threads: int,
                 open_reader: Callable = open_mode, progress: Callable[[str], None] = lambda line: None, answers: tuple[int, ...] = (), bin_width: int = 0,
                 judge_every: int = 1):
        """answers: positions of the text whose tokens a mode should know; its share of them is then in its figures as "recalled".

        bin_width: figures of so many positions each besides, as "by_position".
        judge_every: distributions of one chunk in so many are compared, as those of long texts over a large vocabulary cost more than reading.
        """
        check_length(len(tokens), chunk, judge_every)
        self._model, self._modes, self._tokens, self._chunk, self._threads = model, modes, tokens, chunk, threads
        self._open_reader, self._progress, self._answers = open_reader, progress, np.array(answers, np.int64)
        self._bin_width, self._judge_every = bin_width, judge_every

    def _judged(self, first: int) -> bool:
        """Whether the chunk that begins there is one whose distributions are compared: the last of every so many."""
        return _is_judged(first, self._chunk, self._judge_every)

    def run(self, needles: list[NeedlePrompt]) -> tuple[dict, list[dict]]:
        """(the reference's figures, one dictionary per mode)."""
        reference, results = self._read_text()
        if needles:
            reference["needle"] = self._recall(self._open_reference(len(needles)), needles)
        for mode, result in zip(self._modes, results):
            result["needle"] = None
            if needles:
                self._progress(f"{mode.name}: looking for needles")
                reader = self._open_reader(self._model, mode, [len(prompt.tokens) for prompt in needles], self._threads)
                result["needle"] = self._recall(reader, needles)
                reader.cache.close()
            self._progress(_line(result))
        return reference, results

    def _open_reference(self, sequences: int) -> Reader:
        cache = ReferenceCache(self._model.shape)
        return Reader(self._model, cache, [cache.create_sequence() for _ in range(sequences)])

    def _read_text(self) -> tuple[dict, list[dict]]:
        count = len(self._tokens)
        reference, truth = self._open_reference(1), Fidelity()
        readers = [self._open_reader(self._model, mode, [count], self._threads) for mode in self._modes]
        fidelity = [Fidelity() for _ in self._modes]
        recalled = np.zeros(len(self._modes))
        for first in range(0, count, self._chunk):
            end = min(first + self._chunk, count)
            expected = reference.read([self._tokens[first:end]])[0]
            hidden = [reader.read([self._tokens[first:end]])[0] for reader in readers]
            for row in range(max(first, FIRST_POSITION) if self._judged(first) else end, end, LOGIT_ROWS):
                rows, successors = slice(row - first, row - first + LOGIT_ROWS), self._tokens[row + 1:row + 1 + LOGIT_ROWS]
                successors = successors[:end - row]
                chunk = ReferenceChunk(self._model.logits(expected[rows]))
                truth.add(chunk, chunk.logits, successors, row)
                asked = np.isin(row + 1 + np.arange(len(successors)), self._answers)
                for number, (states, collected) in enumerate(zip(hidden, fidelity)):
                    logits = self._model.logits(states[rows])
                    collected.add(chunk, logits, successors, row)
                    recalled[number] += (logits[:len(successors)][asked].argmax(-1) == successors[asked]).sum()
            self._progress(f"read {end} of {count} tokens in {len(readers)} modes and the reference")
        figures = {"ppl": truth.summary()["ppl"], "needle": None, "tokens_per_s": count / reference.seconds}
        results = [self._result(mode, reader, collected) for mode, reader, collected in zip(self._modes, readers, fidelity)]
        if len(self._answers):
            results = [result | {"recalled": share} for result, share in zip(results, recalled / len(self._answers))]
        if self._bin_width:
            figures["by_position"] = truth.by_position(self._bin_width)
            for result, collected in zip(results, fidelity):
                result["by_position"] = collected.by_position(self._bin_width)
        for reader in readers:
            reader.cache.close()
        return figures, results

    def _result(self, mode: Mode, reader: Reader, collected: Fidelity) -> dict:
        sequence, cache, count = reader.sequences[0], reader.cache, len(self._tokens)
        held, plain = cache.bytes_held(sequence), self._model.shape.fp16_bytes(count)
        k_codec, v_codec = cache.codec_names()
        return {
            "name": mode.name, "k_codec": k_codec, "v_codec": v_codec,
            "policy": mode.policy or "none",
            "codec_bits": cache.codec_bits(sequence), "effective_bits": 16.0 * held / plain,
            "bytes_cache": held, "ratio_vs_fp16": plain / held,
            **collected.summary(), "needle": None, "tokens_per_s": count / reader.seconds,
        }

    def _recall(self, reader: Reader, needles: list[NeedlePrompt]) -> float:
        """Share of digits recalled, all prompts read side by side."""
        longest, right, asked = max(len(prompt.tokens) for prompt in needles), 0, 0
        for first in range(0, longest, self._chunk):
            hidden = reader.read([prompt.tokens[first:first + self._chunk] for prompt in needles])
            for prompt, states in zip(needles, hidden):
                # The digit at position p is predicted by the state of position p - 1.
                here = prompt.answers[(prompt.answers > first) & (prompt.answers <= first + len(states))]
                if len(here):
                    likeliest = self._model.logits(states[here - 1 - first]).argmax(-1)
                    right, asked = right + int((likeliest == prompt.tokens[here]).sum()), asked + len(here)
        return right / asked


def _line(result: dict) -> str:
    needle = "   -" if result["needle"] is None else f"{result['needle']:.3f}"
    return (f"{result['name']:<24} {result['effective_bits']:6.2f} bits  KL {result['kl']:.7f}  top-1 {result['top1']:.4f}  "
            f"needle {needle}  {result['tokens_per_s']:6.0f} tokens/s")
