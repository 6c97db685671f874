"""A language model as the evaluation sees it: shapes, a forward pass with attention left out, logits.

forward() calls attend(layer, q, k, v) once per layer with q [tokens, q_heads, head_dim] and
k, v [tokens, kv_heads, head_dim] (keys after RoPE) for all tokens of a ragged batch, and takes
out [tokens, q_heads, head_dim]. Whoever keeps the cache supplies attend.
"""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Attend = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AttentionShape:
    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    windows: tuple[int, ...]  # per layer: how many newest tokens a query sees, itself included; 0 = all

    def fp16_bytes(self, tokens: int) -> int:
        return tokens * self.layers * self.kv_heads * self.head_dim * 2 * 2


class Model:
    """What the two architectures share."""

    name: str
    shape: AttentionShape
    vocabulary: int
    context_length: int
    rope_base: float | None = None  # of all layers, turning adjacent pairs; None where layers differ or pairs lie elsewhere
    embedding: np.ndarray
    output: np.ndarray  # [vocabulary, width]; the embedding itself where weights are tied

    def forward(self, tokens: np.ndarray, positions: np.ndarray, attend: Attend) -> np.ndarray:
        """Final hidden states [tokens, width] of a ragged batch, laid out as in tokens and positions."""
        raise NotImplementedError

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        return hidden @ self.output.T


def load_model(path) -> "Model":
    """The model in a GGUF file of a known architecture."""
    from .gemma3 import Gemma3
    from .gguf_file import GgufFile
    from .llama import Llama

    file = GgufFile(path)
    known = {"llama": Llama, "gemma3": Gemma3}
    if file.architecture() not in known:
        raise ValueError(f"{file.path}: architecture {file.architecture()} is not one of {', '.join(known)}")
    return known[file.architecture()](file)
