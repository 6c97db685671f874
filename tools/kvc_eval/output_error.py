"""What a mode costs in attention outputs, per layer and query head, over a dump.

Decode protocol: a cache holds the tokens before the last `decode` ones; these are appended and attended to one by one. The error is
||output - exact|| / ||exact|| over those tokens (Frobenius), exact being attention over the dump's numbers in fp32.
"""
from dataclasses import dataclass

import kvc
import numpy as np

from .dump import Dump, LayerDump
from .modes import Mode, codec_names, codec_options, naming
from .reference_cache import attention

PROMPT_STEP = 512


@dataclass
class OutputErrors:
    """Squared norms [layers][q_heads] of errors and of exact outputs, and what the cache held."""
    error: list[np.ndarray]
    exact: list[np.ndarray]
    bytes_cache: int
    codec_bits: float

    def heads(self, layer: int) -> np.ndarray:
        return np.sqrt(self.error[layer] / np.maximum(self.exact[layer], np.finfo(np.float64).tiny))

    def layer(self, layer: int) -> float:
        return float(np.sqrt(self.error[layer].sum() / max(self.exact[layer].sum(), np.finfo(np.float64).tiny)))

    def layers(self) -> list[float]:
        return [self.layer(number) for number in range(len(self.error))]


def check_decode(dump: Dump, decode: int) -> None:
    if dump.tokens < 2:
        raise ValueError(f"the dump has {dump.tokens} token: at least 2 are needed, one to hold and one to attend with")
    if not 1 <= decode < dump.tokens:
        raise ValueError(f"--decode {decode}: the dump has {dump.tokens} tokens, so 1 .. {dump.tokens - 1} of them can be attended to one by one")


def exact_outputs(dump: Dump, decode: int) -> list[np.ndarray]:
    """Attention of the last tokens over the dump's own numbers, per layer [decode, q_heads, v_dim]."""
    check_decode(dump, decode)
    return [attention(layer.q[-decode:], layer.k.transpose(1, 0, 2), layer.v.transpose(1, 0, 2), layer.window, layer.scale, layer.soft_cap)
            for layer in dump.layers]


def output_errors(dump: Dump, mode: Mode, exact: list[np.ndarray], threads: int) -> OutputErrors:
    """exact: of exact_outputs; as many tokens as it has are decoded."""
    prompt = dump.tokens - len(exact[0])
    error = [np.zeros(layer.q.shape[1]) for layer in dump.layers]
    with _cache(dump, mode, threads) as cache:
        sequence = cache.create_sequence(prompt_length=prompt)
        at = 0
        while at < prompt:  # attention to the prompt matters to policies only
            count = min(PROMPT_STEP, prompt - at, cache.step_limit(sequence))
            _step(cache, sequence, dump, slice(at, at + count), attended=bool(mode.policy))
            at += count
        for token in range(prompt, dump.tokens):
            for layer, out in enumerate(_step(cache, sequence, dump, slice(token, token + 1), attended=True)):
                error[layer] += _squares(out - exact[layer][token - prompt:token - prompt + 1])
        stats = cache.sequence_stats(sequence)
    return OutputErrors(error, [_squares(outputs) for outputs in exact], stats.record_bytes + stats.table_bytes, stats.codec_bits)


def _cache(dump: Dump, mode: Mode, threads: int) -> kvc.Cache:
    options = codec_options(mode.codec, [layer.options() for layer in dump.layers])
    with naming(mode.name):
        return kvc.Cache(layers=len(dump.layers), policy=mode.cache_policy, context_tokens=dump.tokens, threads=max(0, threads - 1),
                         arena_growth=1, **options)


def error_report(dump: Dump, modes: list[Mode], decode: int, threads: int, progress) -> dict:
    """The figures of every mode, as the JSON holds them."""
    for mode in modes:  # one that does not suit the dump is refused before any is measured
        _cache(dump, mode, threads).close()
    exact, results = exact_outputs(dump, decode), []
    for mode in modes:
        errors = output_errors(dump, mode, exact, threads)
        layers = errors.layers()
        k_codec, v_codec = codec_names(mode.codec)
        results.append({
            "name": mode.name, "k_codec": k_codec, "v_codec": v_codec, "policy": mode.policy or "none",
            "codec_bits": errors.codec_bits, "effective_bits": 16.0 * errors.bytes_cache / dump.fp16_bytes(),
            "bytes_cache": errors.bytes_cache, "ratio_vs_fp16": dump.fp16_bytes() / errors.bytes_cache,
            "error": float(np.mean(layers)), "worst_error": max(layers), "worst_layer": int(np.argmax(layers)),
            "layers": [{"error": layers[number], "heads": errors.heads(number).tolist()} for number in range(len(layers))],
        })
        progress(f"{mode.name:<24} {results[-1]['effective_bits']:6.2f} bits  output error {results[-1]['error']:.5f}, "
                 f"largest {max(layers):.5f} in layer {results[-1]['worst_layer']}")
    return {"model_name": dump.name, "tokens": dump.tokens, "decode": decode, "modes": results}


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ihd,ihd->h", x, x, dtype=np.float64)


def _step(cache: kvc.Cache, sequence: int, dump: Dump, tokens: slice, attended: bool) -> list[np.ndarray]:
    outputs = []
    with cache.step([sequence], [tokens.stop - tokens.start]) as step:
        for number, layer in enumerate(dump.layers):
            step.append(number, layer.k[tokens], layer.v[tokens])
            if attended:
                outputs.append(_attend(step, number, layer, tokens))
    return outputs


def _attend(step: kvc.Step, number: int, layer: LayerDump, tokens: slice) -> np.ndarray:
    count, q_heads = tokens.stop - tokens.start, layer.q.shape[1]
    out = np.empty((count, q_heads, layer.v.shape[2]), np.float32)
    return step.attend(number, layer.q[tokens], out, scale=layer.scale, soft_cap=layer.soft_cap)
