"""The pieces that both transformer architectures are built from, in fp32 numpy."""
import numpy as np


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """Root-mean-square norm over the last axis."""
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    return x * (1.0 / np.sqrt(mean_square + np.float32(epsilon))) * weight


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x); exp overflows to infinity for very negative x, which gives the right limit of 0."""
    with np.errstate(over="ignore"):
        return x / (1.0 + np.exp(-x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh approximation of GELU, which Gemma was trained with."""
    inner = np.float32(np.sqrt(2.0 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1.0 + np.tanh(inner))


class Rope:
    """Rotary position embedding: cosines and sines are computed in double and rounded once."""

    def __init__(self, dimensions: int, base: float, adjacent_pairs: bool):
        self._frequency = base ** (-np.arange(0, dimensions, 2, dtype=np.float64) / dimensions)
        self._adjacent_pairs = adjacent_pairs

    def angles(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = np.asarray(positions, np.float64)[:, None] * self._frequency[None]
        return np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]

    def rotate(self, x: np.ndarray, angles: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Rotates x [tokens, heads, dimensions]; a pair is (2i, 2i+1), or (i, i + half) as in NeoX."""
        cosine, sine = angles
        half = x.shape[-1] // 2
        if self._adjacent_pairs:
            first, second = np.s_[..., 0::2], np.s_[..., 1::2]
        else:
            first, second = np.s_[..., :half], np.s_[..., half:]
        out = np.empty_like(x)
        out[first] = x[first] * cosine - x[second] * sine
        out[second] = x[first] * sine + x[second] * cosine
        return out
