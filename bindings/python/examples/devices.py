"""The same program on the CPU and on a GPU: the argument says where the cache lies, "cpu" or "cuda:0", and a second one names a file for
what was attended to. A prompt of 200 tokens, then 8 tokens one by one; what is stored is the same on both, to the bit."""
import hashlib
import sys
from pathlib import Path

import kvc
import numpy as np
from inputs import DIM, KV_HEADS, LAYERS, Q_HEADS, new_cache, run

PROMPT = 200


class Buffers:
    """Of the device's memory, for the prompt's step and those after it."""

    def __init__(self, cache: kvc.Cache):
        heads = (KV_HEADS, KV_HEADS, Q_HEADS, Q_HEADS)
        self.k, self.v, self.q, self.out = (cache.create_buffer(PROMPT * n * DIM * 4) for n in heads)

    def run_layer(self, step: kvc.Step, layer: int, k: np.ndarray, v: np.ndarray, q: np.ndarray) -> np.ndarray:
        step.append(layer, self.upload(self.k, k), self.upload(self.v, v))
        step.attend(layer, self.upload(self.q, q), self.out.view(q.shape, kvc.Dtype.F32))
        out = np.empty_like(q)
        self.out.copy_to(out)
        return out

    @staticmethod
    def upload(buffer: kvc.Buffer, numbers: np.ndarray):
        buffer.copy_from(numbers)
        return buffer.view(numbers.shape, kvc.Dtype.F32)


def digest_of_codes(cache: kvc.Cache, sequence: kvc.Sequence) -> str:
    digest = hashlib.sha256()
    for layer in range(LAYERS):
        for head in range(KV_HEADS):
            for part in ("keys", "values"):
                digest.update(cache.read_codes(sequence, layer, head, part, DIM).tobytes())
    return digest.hexdigest()


def main(place: str = "cpu", file: str | None = None) -> None:
    kind, _, ordinal = place.partition(":")
    if place != "cpu" and kind != "cuda":
        raise SystemExit(f"{place} is neither cpu nor cuda:NUMBER")
    with new_cache(**({} if place == "cpu" else {"device": kvc.Device.CUDA, "device_ordinal": int(ordinal)})) as cache:
        sequence = cache.create_sequence()
        how = {} if place == "cpu" else {"run_layer": Buffers(cache).run_layer, "buffers": kvc.Device.CUDA}
        outputs = b"".join(run(cache, sequence, tokens, data=1, **how) for tokens in [PROMPT] + 8 * [1])
        print("tokens", cache.length(sequence))
        print("codes", digest_of_codes(cache, sequence))
        print("record_bytes", cache.sequence_stats(sequence).record_bytes)
    if file:
        Path(file).write_bytes(outputs)


main(*sys.argv[1:])
