"""The presets a second time, in numpy: quantizers and the visibility rule, written from their definitions alone.

Nothing here uses the library. It witnesses that the evaluation's figures are the codecs' own (not an artefact of the
kernels), and KIVI's quantizers give codes that the library's must equal.
"""
from dataclasses import dataclass

import numpy as np

from kvc_eval.model import AttentionShape
from kvc_eval.reference_cache import attention

PAGE = 64
TILE = 32  # tokens of a channel group


def fp16(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


def rotation(size: int) -> np.ndarray:
    """The Hadamard matrix of docs/FORMATS.md section 3, orthonormal and symmetric; size is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / np.sqrt(size)).astype(np.float32)


# ---- quantizers: x [64, heads, dim] -> (codes, dequantized) ----

def kivi_keys(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """KIVI, arXiv 2402.02750: keys per channel in groups of 32 tokens, asymmetric between minimum and maximum."""
    groups = x.reshape(PAGE // TILE, TILE, *x.shape[1:])
    codes, values = _asymmetric_fp16(groups, bits, axis=1)
    return codes.reshape(x.shape), values.reshape(x.shape)


def kivi_values(x: np.ndarray, bits: int, group: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """KIVI: values per token in groups of 32 channels."""
    groups = x.reshape(*x.shape[:2], x.shape[2] // group, group)
    codes, values = _asymmetric_fp16(groups, bits, axis=3)
    return codes.reshape(x.shape), values.reshape(x.shape)


def plain_channels(x: np.ndarray, bits: int) -> np.ndarray:
    """Asymmetric codes with one scale and zero point for a whole channel."""
    return _asymmetric_fp16(x, bits, axis=0)[0]


def plain_tokens(x: np.ndarray, bits: int) -> np.ndarray:
    """The same for a whole token of one head."""
    return _asymmetric_fp16(x, bits, axis=2)[0]


def _asymmetric_fp16(x: np.ndarray, bits: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    top = (1 << bits) - 1
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    scale, zero = fp16((high - low) / np.float32(top)), fp16(low)
    steps = np.divide(x - zero, scale, out=np.zeros_like(x), where=scale > 0)  # a constant group has scale 0 and codes 0
    codes = np.clip(np.rint(steps), 0, top)
    return codes.astype(np.uint8), codes * scale + zero


def channel_m8(x: np.ndarray, bits: int, clip: float = 1.0) -> np.ndarray:
    """Keys per channel x 32 tokens; scale and zero in 8 bits under one fp16 pair per head and tile of 32 tokens."""
    top = (1 << bits) - 1
    groups = x.reshape(PAGE // TILE, TILE, *x.shape[1:])
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    middle, half = (low + high) / 2, (high - low) / 2 * np.float32(clip)
    scale, zero = 2 * half / np.float32(top), middle - half
    scale_unit = np.maximum(fp16(scale.max(-1, keepdims=True) / 255), np.float32(2.0**-24))
    zero_unit = np.maximum(fp16(np.abs(zero).max(-1, keepdims=True) / 127), np.float32(2.0**-24))
    # Rounded up more often than down: a range a little too wide costs less than one that clips the extreme keys.
    scale = np.clip(np.ceil(scale / scale_unit - np.float32(0.25)), 1, 255) * scale_unit
    zero = np.clip(np.rint(zero / zero_unit), -127, 127) * zero_unit
    codes = np.clip(np.rint((groups - zero) / scale), 0, top)
    return (codes * scale + zero).reshape(x.shape)


def token_symmetric(x: np.ndarray, bits: int) -> np.ndarray:
    top = (1 << (bits - 1)) - 1
    scale = np.maximum(fp16(np.abs(x).max(-1, keepdims=True) / np.float32(top)), np.float32(2.0**-24))
    return np.clip(np.rint(x / scale), -top, top) * scale


def token_least_squares(x: np.ndarray, bits: int) -> np.ndarray:
    """Uniform codes around zero, without zero itself; the scale is refitted three times to the levels that it gives."""
    middle = ((1 << bits) - 1) / 2
    best_for_gaussian = {2: 0.9957, 3: 0.586, 4: 0.3352}[bits]  # step of the uniform quantizer with the least error on N(0, 1)

    def levels(scale: np.ndarray) -> np.ndarray:
        return (np.clip(np.rint(x / scale + middle), 0, 2 * middle) - middle).astype(np.float32)

    scale = np.maximum(np.sqrt((x * x).mean(-1, keepdims=True)) * np.float32(best_for_gaussian), np.float32(2.0**-24))
    for _ in range(3):
        fit = levels(scale)
        scale = np.maximum((x * fit).sum(-1, keepdims=True) / (fit * fit).sum(-1, keepdims=True), np.float32(2.0**-24))
    return levels(fp16(scale)) * fp16(scale)


@dataclass(frozen=True)
class Preset:
    keys: object  # page [64, heads, dim] -> dequantized page
    values: object
    rotate_values: bool
    window: int
    sinks: int


def _mode(k_bits: int, v_bits: int, clip: float = 1.0) -> Preset:
    return Preset(lambda x: channel_m8(x, k_bits, clip), lambda x: token_least_squares(x, v_bits), True, 128, 4)


PRESETS = {
    "fp16": Preset(lambda x: x, lambda x: x, False, 128, 4),
    "int8": Preset(lambda x: channel_m8(x, 8), lambda x: token_symmetric(x, 8), True, 64, 4),
    "int4": Preset(lambda x: channel_m8(x, 4), lambda x: token_symmetric(x, 4), True, 128, 4),
    "int3": _mode(3, 3),
    "k3v2": _mode(3, 2),
    "int2": _mode(2, 2, clip=0.9),
    "kivi4": Preset(lambda x: kivi_keys(x, 4)[1], lambda x: kivi_values(x, 4)[1], False, 128, 0),
    "kivi2": Preset(lambda x: kivi_keys(x, 2)[1], lambda x: kivi_values(x, 2)[1], False, 128, 0),
}


# ---- the cache ----

def coded_end(length: int, preset: Preset) -> int:
    """f(n): tokens at positions sinks .. f(n) - 1 are seen as codes by whoever sees n tokens."""
    return preset.sinks + PAGE * (max(0, length - preset.sinks - preset.window) // PAGE)


class _Sequence:
    def __init__(self, shape: AttentionShape, capacity: int):
        held = (shape.layers, shape.kv_heads, capacity, shape.head_dim)
        self.length = 0
        self.keys, self.values = np.zeros(held, np.float32), np.zeros(held, np.float32)
        self.coded = [0] * shape.layers


class NumpyPresetCache:
    """Takes the place of the compressed cache in an evaluation; capacity per sequence is fixed."""

    def __init__(self, shape: AttentionShape, preset: str, capacity: int):
        self.shape, self.preset, self._capacity = shape, PRESETS[preset], capacity
        self._sequences: list[_Sequence] = []
        self._rotation = rotation(shape.head_dim)

    def create_sequence(self) -> int:
        self._sequences.append(_Sequence(self.shape, self._capacity))
        return len(self._sequences) - 1

    def length(self, sequence: int) -> int:
        return self._sequences[sequence].length

    def step(self, sequences: list[int], counts: list[int]) -> "_Step":
        return _Step(self, [self._sequences[s] for s in sequences], counts)

    def bytes_held(self, sequence: int) -> int:
        return self.shape.fp16_bytes(self.length(sequence))  # this witness keeps no codes, so it claims no saving

    def codec_bits(self, sequence: int) -> float:
        return 16.0

    def codec_names(self) -> tuple[str, str]:
        return "numpy", "numpy"

    def close(self) -> None:
        self._sequences.clear()

    def attend_sequence(self, sequence: _Sequence, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        first, end = sequence.length, sequence.length + len(q)
        rotate = self.preset.rotate_values
        sequence.keys[layer, :, first:end] = fp16(k).transpose(1, 0, 2)
        sequence.values[layer, :, first:end] = fp16(v @ self._rotation if rotate else v).transpose(1, 0, 2)
        out = np.empty_like(q)
        at = first
        while at < end:
            boundary = coded_end(at + 1, self.preset)
            stop = at + 1
            while stop < end and coded_end(stop + 1, self.preset) == boundary:
                stop += 1
            self._code_pages(sequence, layer, boundary)
            visible = np.s_[layer, :, :stop]
            out[at - first:stop - first] = attention(q[at - first:stop - first], sequence.keys[visible], sequence.values[visible],
                                                     self.shape.windows[layer])
            at = stop
        return out @ self._rotation if rotate else out

    def _code_pages(self, sequence: _Sequence, layer: int, boundary: int) -> None:
        """Replaces pages that fell behind the boundary by what their codes decode to."""
        for page in range(sequence.coded[layer], (boundary - self.preset.sinks) // PAGE):
            first = self.preset.sinks + PAGE * page
            place = np.s_[layer, :, first:first + PAGE]
            for held, quantize in ((sequence.keys, self.preset.keys), (sequence.values, self.preset.values)):
                held[place] = quantize(held[place].transpose(1, 0, 2)).transpose(1, 0, 2)
            sequence.coded[layer] = page + 1


class _Step:
    def __init__(self, cache: NumpyPresetCache, sequences: list[_Sequence], counts: list[int]):
        self._cache, self._sequences, self._counts = cache, sequences, counts

    def attend(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        edges = np.cumsum([0, *self._counts])
        return np.concatenate([self._cache.attend_sequence(sequence, layer, q[a:b], k[a:b], v[a:b])
                               for sequence, a, b in zip(self._sequences, edges, edges[1:])])

    def __enter__(self) -> "_Step":
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            for sequence, count in zip(self._sequences, self._counts):
                sequence.length += count
