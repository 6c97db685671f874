"""smollm.h over NumPy, for tests."""
import ctypes
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[3] / "build" / "servers"
TEXT_BYTES = 1024
_SIGNATURES = {
    "smollm_open": (ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64]),
    "smollm_close": (None, [ctypes.c_void_p]),
    "smollm_shape_get": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "smollm_encode": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]),
    "smollm_text": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]),
    "smollm_embed": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]),
    "smollm_project": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_int64] + [ctypes.c_void_p] * 2 + [ctypes.c_int64] + [ctypes.c_void_p] * 3),
    "smollm_mix": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]),
    "smollm_logits": (ctypes.c_int64, [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_void_p]),
    "smollm_choose": (ctypes.c_int64, [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_void_p]),
}


def load():
    library = ctypes.CDLL(str(OUT / "libkvc_smollm.so"))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class SmolLM:
    def __init__(self, threads: int = 0, folder: Path = OUT / "model"):
        self.library, message = load(), ctypes.create_string_buffer(256)
        self._model = self.library.smollm_open(str(folder).encode(), threads, message, 256)
        if not self._model:
            raise OSError(message.value.decode())
        shape = np.zeros(9, np.int64)
        self.library.smollm_shape_get(self._model, shape.ctypes.data)
        (self.layers, self.width, self.q_heads, self.kv_heads, self.head_dim, self.vocabulary, self.context, self.end,
         self.prompt_bytes) = map(int, shape)

    def close(self) -> None:
        self.library.smollm_close(self._model)
        self._model = None

    def call(self, name: str, *arguments) -> int:
        return getattr(self.library, name)(self._model, *(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))

    def encode(self, text: bytes) -> list[int]:
        out = np.zeros(len(text) + 1, np.int64)
        n = self.call("smollm_encode", text, len(text), out, len(out))
        assert 0 <= n <= len(out)
        return out[:n].tolist()

    def pieces(self, tokens: list[int]) -> list[bytes]:
        """The text of each token as a stream gives it, and what is left at the end."""
        pending, out, pieces = np.zeros(8, np.uint8), ctypes.create_string_buffer(TEXT_BYTES), []
        for token in [*tokens, -1]:
            n = self.call("smollm_text", token, pending, out, TEXT_BYTES)
            assert n >= 0
            pieces.append(out.raw[:n])
        return pieces

    def forward(self, tokens, positions, attend) -> np.ndarray:
        """x after the last layer; attend as in kvc_eval."""
        tokens, positions = (np.ascontiguousarray(a, np.int64) for a in (tokens, positions))
        n = len(tokens)
        x = np.empty((n, self.width), np.float32)
        assert self.call("smollm_embed", tokens, n, x) == 0
        for layer in range(self.layers):
            q = np.empty((n, self.q_heads, self.head_dim), np.float32)
            k, v = (np.empty((n, self.kv_heads, self.head_dim), np.float32) for _ in "kv")
            assert self.call("smollm_project", layer, x, positions, n, q, k, v) == 0
            attended = np.ascontiguousarray(attend(layer, q, k, v), np.float32)
            assert self.call("smollm_mix", layer, x, attended, n) == 0
        return x

    def logits(self, x: np.ndarray, rows: list[int]) -> np.ndarray:
        out = np.empty((len(rows), self.vocabulary), np.float32)
        assert self.call("smollm_logits", x, np.array(rows, np.int64), len(rows), out) == 0
        return out

    def choose(self, x: np.ndarray, rows: list[int]) -> list[int]:
        out = np.empty(len(rows), np.int64)
        assert self.call("smollm_choose", x, np.array(rows, np.int64), len(rows), out) == 0
        return out.tolist()
