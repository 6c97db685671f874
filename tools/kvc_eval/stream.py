"""kvc-eval --stream: StreamingLLM (arXiv 2309.17453) over a text far longer than the model was trained for.

There is no exact cache to compare with, as the model itself breaks beyond its length; what counts is whether perplexity stays where it was.
"""
import kvc
import numpy as np

from .compressed_cache import CompressedCache
from .evaluate import Reader
from .metrics import Fidelity, ReferenceChunk
from .model import Model

SINKS = 4
LOGIT_ROWS = 128


class GapReader(Reader):
    """Reads as if so many tokens had been evicted between the sinks and the rest: true positions of a stream that long, without reading it."""

    def __init__(self, model: Model, cache, sequences: list[int], gap: int):
        super().__init__(model, cache, sequences)
        self._gap = gap

    def _positions(self, first: int, count: int) -> np.ndarray:
        positions = super()._positions(first, count)
        return positions + self._gap * (positions >= SINKS)


def stream_modes(newest: int) -> list[tuple[str, str, dict]]:
    """(name, policy, options of the cache)."""
    in_cache = kvc.default_library().abi.value("kvc_positions", "KVC_POSITIONS_IN_CACHE")
    return [("in-cache positions", f"streaming:{SINKS}+{newest}", dict(positions=in_cache)),
            ("true positions", f"streaming:{SINKS}+{newest}", {}),
            ("no sinks", f"streaming:{newest},sinks=0", {})]


def check_stream(tokens: int, newest: int) -> None:
    if not 64 <= newest < tokens:
        raise ValueError(f"--stream {newest}: it counts the newest tokens that stay, 64 .. {tokens - 1}")


def run_stream(model: Model, tokens: np.ndarray, newest: int, codec: str, width: int, chunk: int, threads: int, gaps: list[int],
               progress) -> list[dict]:
    """Per mode: perplexity of every `width` positions, and the bytes that the sequence holds at the end.

    gaps: true positions once more, with so many tokens missing behind the sinks.
    """
    check_stream(len(tokens), newest)
    if model.rope_base is None:
        raise ValueError(f"--stream: {model.name} has layers with sliding windows or RoPE of its own, which this run does not set up")
    modes = [(name, policy, options, 0) for name, policy, options in stream_modes(newest)]
    modes += [(f"true positions, {gap} tokens on", f"streaming:{SINKS}+{newest}", {}, gap) for gap in gaps]
    results = []
    for name, policy, options, gap in modes:
        if "positions" in options:
            interleaved = kvc.default_library().abi.value("kvc_rope_pairs", "KVC_ROPE_INTERLEAVED")
            options |= dict(rope_theta=model.rope_base, rope_pairs=interleaved)
        cache = CompressedCache(model.shape, codec, threads, policy, arena_growth=1, **options)
        reader = GapReader(model, cache, [cache.create_sequence(prompt_length=len(tokens))], gap)
        bins = _perplexities(model, tokens, reader, width, chunk)
        results.append({"name": name, "policy": policy, "codec": codec, "bytes_cache": cache.bytes_held(reader.sequences[0]), "by_position": bins})
        cache.close()
        progress(f"{name:<34} {results[-1]['bytes_cache'] / 2**20:7.2f} MiB  perplexity " + " ".join(f"{one['ppl']:.1f}" for one in bins))
    return results


def _perplexities(model: Model, tokens: np.ndarray, reader: Reader, width: int, chunk: int) -> list[dict]:
    collected = Fidelity()
    for first in range(0, len(tokens) - 1, chunk):
        states = reader.read([tokens[first:first + chunk]])[0]
        for row in range(0, len(states), LOGIT_ROWS):
            logits, successors = model.logits(states[row:row + LOGIT_ROWS]), tokens[first + row + 1:first + row + 1 + LOGIT_ROWS]
            collected.add(ReferenceChunk(logits), logits, successors[:len(logits)])
    return [{"position": one["position"], "ppl": one["ppl"]} for one in collected.by_position(width)]
