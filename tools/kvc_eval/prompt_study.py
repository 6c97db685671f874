"""A prompt evicted after it was read against a prompt of which only that part was ever seen.

The last quarter of the text is the continuation, what lies before it the prompt. The newest tokens of the prompt, with and without its
first ones, stay: either the whole prompt was read and the rest evicted, or the model never saw more than them.
"""
import numpy as np

from .compressed_cache import CompressedCache
from .evaluate import Reader
from .metrics import Fidelity, ReferenceChunk
from .model import Model
from .reference_cache import ReferenceCache

SHARES, SINKS = (0.5, 0.2, 0.05), 4
PAGE = 64


def prompt_modes(model: Model, tokens: np.ndarray, chunk: int, threads: int) -> list[dict]:
    prompt = len(tokens) - len(tokens) // 4
    text = tokens[prompt:]
    reference = ReferenceCache(model.shape)
    truth = Reader(model, reference, [reference.create_sequence()])
    _read(truth, tokens[:prompt], chunk)
    expected = np.concatenate(_read(truth, text, chunk))
    results = []
    for share in SHARES:
        kept = max(PAGE, int(share * prompt))
        seen = np.concatenate([np.arange(SINKS), np.arange(prompt - (kept - SINKS), prompt)])
        for name, positions, evicted in (
                (f"evicted down to {kept} of {prompt}", np.arange(prompt), seen),
                (f"never seen but for {kept} of {prompt}", seen, None),
                (f"never seen but for the newest {kept} of {prompt}", np.arange(prompt - kept, prompt), None)):
            results.append(_follow(model, tokens, positions, evicted, expected, text, chunk, threads) | {"name": name})
    return results


def _follow(model, tokens, positions, evicted, expected, text, chunk, threads) -> dict:
    """Figures of the continuation after a prompt of those positions, from which all but `evicted` were thrown away at its end.

    RoPE sees positions in the cache where a part was never seen, as in a prompt that is simply shorter, and true ones after an eviction.
    """
    cache = CompressedCache(model.shape, "fp16", threads, arena_tokens=len(tokens), arena_growth=1)
    reader = Reader(model, cache, [cache.create_sequence(prompt_length=len(tokens))])
    _read(reader, tokens[positions], chunk)
    if evicted is not None:
        cache.cache.evict_keep(reader.sequences[0], evicted.astype(np.int64))
    held = cache.bytes_held(reader.sequences[0])
    collected = Fidelity()
    states = np.concatenate(_read(reader, text, chunk))
    for first in range(0, len(text) - 1, chunk):
        rows, successors = slice(first, first + chunk), text[first + 1:first + 1 + chunk]
        collected.add(ReferenceChunk(model.logits(expected[rows])), model.logits(states[rows]), successors)
    codec_bits = cache.codec_bits(reader.sequences[0])
    cache.close()
    plain = model.shape.fp16_bytes(len(tokens) - len(text))
    return {"name": "", "k_codec": "f16", "v_codec": "f16", "policy": "none", "codec_bits": codec_bits, "effective_bits": 16.0 * held / plain,
            "bytes_cache": held, "ratio_vs_fp16": plain / held, **collected.summary(), "needle": None, "tokens_per_s": (len(positions) + len(text)) / reader.seconds}


def _read(reader: Reader, tokens: np.ndarray, chunk: int) -> list[np.ndarray]:
    return [reader.read([tokens[first:first + chunk]])[0] for first in range(0, len(tokens), chunk)]
