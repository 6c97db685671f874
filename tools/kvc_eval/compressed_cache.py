"""kvc as the model's cache: the same interface as ReferenceCache, kept compressed by the library."""
import kvc
import numpy as np

from .model import AttentionShape
from .modes import codec_names, codec_options


def shape_options(shape: AttentionShape) -> dict:
    """The model's shape as fields of kvc_options, with layers that see a sliding window described one by one."""
    options = dict(layers=shape.layers, kv_heads=shape.kv_heads, q_heads=shape.q_heads, k_dim=shape.head_dim)
    if any(shape.windows):
        options["layers_differ"] = [dict(sliding_window=window or -1) for window in shape.windows]
    return options


class CompressedCache:
    def __init__(self, shape: AttentionShape, codec: str | tuple[str, ...], threads: int, policy: str = "", **arena):
        """arena: arena_bytes, or arena_tokens and arena_sequences."""
        self.shape, self._codec = shape, codec
        # The calling thread works too, so the pool has one thread less.
        options = shape_options(shape)
        codecs = codec_options(codec, options.pop("layers_differ", None))
        self.cache = kvc.Cache(policy=policy, threads=max(0, threads - 1), **options, **codecs, **arena)

    def create_sequence(self, prompt_length: int = 0) -> int:
        return self.cache.create_sequence(prompt_length=prompt_length)

    def destroy_sequence(self, sequence: int) -> None:
        self.cache.destroy_sequence(sequence)

    def length(self, sequence: int) -> int:
        return self.cache.length(sequence)

    def step(self, sequences: list[int], counts: list[int]) -> "CompressedStep":
        return CompressedStep(self.cache.step(sequences, counts))

    def step_limit(self, sequence: int) -> int:
        """Tokens that the next step may add: up to where the policy acts."""
        return self.cache.step_limit(sequence)

    def bytes_held(self, sequence: int) -> int:
        """Records and page tables of a sequence."""
        stats = self.cache.sequence_stats(sequence)
        return stats.record_bytes + stats.table_bytes

    def codec_bits(self, sequence: int) -> float:
        return self.cache.sequence_stats(sequence).codec_bits

    def codec_names(self) -> tuple[str, str]:
        """The parts k=... and v=... of the codec's canonical string."""
        return codec_names(self._codec)

    def close(self) -> None:
        self.cache.close()


class CompressedStep:
    def __init__(self, step: kvc.Step):
        self._step = step

    def attend(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        self._step.append(layer, k, v)
        return self._step.attend(layer, q)

    def __enter__(self) -> "CompressedStep":
        self._step.__enter__()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._step.__exit__(kind, value, trace)
