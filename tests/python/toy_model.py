"""A model of three layers of attention over random weights, small enough to be read in an instant, and a tokenizer of single characters."""
import numpy as np
from kvc_eval.model import AttentionShape, Model

LAYERS, Q_HEADS, KV_HEADS, DIM, WIDTH, VOCABULARY = 3, 4, 2, 32, 48, 128


class ToyModel(Model):
    name, vocabulary, context_length = "toy", VOCABULARY, 1 << 20
    shape = AttentionShape(LAYERS, Q_HEADS, KV_HEADS, DIM, (0,) * LAYERS)

    def __init__(self, seed: int = 1):
        random = np.random.default_rng(seed)

        def weight(rows: int, columns: int) -> np.ndarray:
            return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

        self.embedding = self.output = weight(VOCABULARY, WIDTH) * np.float32(4)
        self._layers = [(weight((Q_HEADS + 2 * KV_HEADS) * DIM, WIDTH), weight(WIDTH, Q_HEADS * DIM)) for _ in range(LAYERS)]

    def forward(self, tokens, positions, attend):
        x = self.embedding[tokens]
        turn = np.sin(np.asarray(positions, np.float32)[:, None] * (0.01 * np.arange(1, WIDTH + 1, dtype=np.float32)))
        for layer, (qkv, out) in enumerate(self._layers):
            heads = ((x / np.linalg.norm(x, axis=1, keepdims=True) * np.float32(6) + turn) @ qkv.T).reshape(len(tokens), -1, DIM)
            q, k, v = (np.ascontiguousarray(part) for part in np.split(heads, [Q_HEADS, Q_HEADS + KV_HEADS], axis=1))
            x = x + attend(layer, q, k, v).reshape(len(tokens), -1) @ out.T
        return x


class Characters:
    begin = end = None

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % VOCABULARY for letter in text]

    def decode(self, ids) -> str:
        return "".join(chr(token) for token in ids)
