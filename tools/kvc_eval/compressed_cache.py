"""kvc as the model's cache: the same interface as ReferenceCache, kept compressed by the library."""
import kvc
import numpy as np

from .model import AttentionShape


def shape_options(shape: AttentionShape) -> dict:
    """The model's shape as fields of kvc_options, with layers that see a sliding window described one by one."""
    options = dict(layers=shape.layers, kv_heads=shape.kv_heads, q_heads=shape.q_heads, k_dim=shape.head_dim)
    if any(shape.windows):
        options["layers_differ"] = [dict(sliding_window=window or -1) for window in shape.windows]
    return options


class CompressedCache:
    def __init__(self, shape: AttentionShape, codec: str, threads: int, accumulate: bool = False, **arena):
        """arena: arena_bytes, or arena_tokens and arena_sequences; accumulate: count attention mass, for policies that need it."""
        self.shape, self._codec = shape, codec
        self._step_options = {"accumulate": 1} if accumulate else {}
        # The calling thread works too, so the pool has one thread less.
        self.cache = kvc.Cache(codec=codec, threads=max(0, threads - 1), **shape_options(shape), **arena)

    def create_sequence(self, prompt_length: int = 0) -> int:
        return self.cache.create_sequence(prompt_length=prompt_length)

    def destroy_sequence(self, sequence: int) -> None:
        self.cache.destroy_sequence(sequence)

    def length(self, sequence: int) -> int:
        return self.cache.length(sequence)

    def step(self, sequences: list[int], counts: list[int]) -> "CompressedStep":
        return CompressedStep(self.cache.step(sequences, counts, **self._step_options))

    def evict_oldest(self, sequence: int, budget: int) -> None:
        """Keeps sinks and the newest tokens (StreamingLLM)."""
        self.cache.evict(sequence, budget=budget)

    def evict_lightest(self, sequence: int, budget: int) -> None:
        """Keeps the tokens with the largest attention mass, half of the budget being the newest ones (H2O)."""
        length = self.cache.length(sequence)
        scores = np.full((self.shape.layers, self.shape.kv_heads, length), -1, np.float32)
        for layer in range(self.shape.layers):
            for head in range(self.shape.kv_heads):
                held = self.cache.positions(sequence, layer, head)
                scores[layer, head, held] = self.cache.read_mass(sequence, layer, head)
        self.cache.evict(sequence, scores, budget=budget, recent=budget // 2)

    def bytes_held(self, sequence: int) -> int:
        """Records and page tables of a sequence."""
        stats = self.cache.sequence_stats(sequence)
        return stats.record_bytes + stats.table_bytes

    def codec_bits(self, sequence: int) -> float:
        return self.cache.sequence_stats(sequence).codec_bits

    def codec_names(self) -> tuple[str, str]:
        """The parts k=... and v=... of the codec's canonical string."""
        parts = dict(part.split("=", 1) for part in self.cache.library.codec_format(self._codec).split(","))
        return parts["k"], parts["v"]

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
