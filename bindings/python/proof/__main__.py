"""What bindings/proof/proof.c does, in Python; the digests must be equal.    proof_python [target]"""
import hashlib
import sys

import kvc
import numpy as np

LAYERS, KV_HEADS, Q_HEADS, DIM, PROMPT = 2, 2, 4, 64, 200


class Proof:
    def __init__(self, target: str):
        self.hash, self.seed = hashlib.sha256(), 1
        self.cache = kvc.Cache(layers=LAYERS, kv_heads=KV_HEADS, q_heads=Q_HEADS, k_dim=DIM, arena_tokens=1024, codec="int4", target=target)
        self.sequence = self.cache.create_sequence()

    def numbers(self, tokens: int, heads: int) -> np.ndarray:
        """Multiples of 2^-15 from an integer generator: exact in every language."""
        out = np.empty(tokens * heads * DIM, np.float32)
        for i in range(out.size):
            self.seed = (self.seed * 1664525 + 1013904223) & 0xFFFFFFFF
            out[i] = ((self.seed >> 16) - 32768) / 32768
        return out.reshape(tokens, heads, DIM)

    def step(self, tokens: int) -> None:
        with self.cache.step([self.sequence], [tokens]) as step:
            for layer in range(LAYERS):
                k, v, q = self.numbers(tokens, KV_HEADS), self.numbers(tokens, KV_HEADS), self.numbers(tokens, Q_HEADS)
                lse = np.empty((tokens, Q_HEADS), np.float32)
                step.append(layer, k, v)
                self.hash.update(step.attend(layer, q, lse=lse))
                self.hash.update(lse)

    def read_back(self, layer: int, head: int) -> None:
        self.hash.update(self.cache.positions(self.sequence, layer, head))
        for part in ("keys", "values"):
            self.hash.update(self.cache.read(self.sequence, layer, head, part, DIM))

    def digest(self) -> str:
        for tokens in [PROMPT] + 150 * [1]:
            self.step(tokens)
        report = self.cache.evict(self.sequence, budget=256)
        for _ in range(20):
            self.step(1)
        for layer in range(LAYERS):
            for head in range(KV_HEADS):
                self.read_back(layer, head)
        stats = self.cache.stats()
        self.hash.update(np.array([report.tokens_evicted, report.records_freed, report.bytes_freed, stats.tokens_appended,
                                   stats.tokens_evicted, stats.pages_quantized, stats.record_bytes, stats.sequences], np.int64))
        self.end()
        return self.hash.hexdigest()

    def end(self) -> None:
        handle = self.cache._handle
        self.cache.close()
        try:
            kvc.library.raw.destroy(handle)
        except kvc.HandleError:
            return
        sys.exit("proof: a cache was destroyed twice")


if __name__ == "__main__":
    print(Proof(sys.argv[1] if len(sys.argv) > 1 else "").digest())
