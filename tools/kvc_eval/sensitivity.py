"""How much a model's predictions suffer when one layer's cache is compressed and all others are exact.

Only the last tokens of the text are read again, once per layer, all side by side as one batch; the keys and values before them are those of
the exact run. So the whole probe costs a few readings of the text, not one reading per layer.
"""
import kvc
import numpy as np

from .dump import Dump
from .metrics import Fidelity, ReferenceChunk
from .model import Model
from .modes import codec_options
from .reference_cache import attention

PROMPT_STEP = 512
VARIANTS = 10  # layers probed side by side; more would only take more memory


def layer_kl(model: Model, tokens: np.ndarray, dump: Dump, codec: str, asked: int, threads: int) -> np.ndarray:
    """KL of the next-token distributions at the last `asked` positions, per layer that holds `codec`; dump: of the exact run over tokens."""
    text, positions = tokens[-asked:], np.arange(len(tokens) - asked, len(tokens))
    exact = _Variants(dump, [-1], asked)
    truth = ReferenceChunk(model.logits(model.forward(text, positions, exact.attend)))
    found = np.zeros(len(dump.layers))
    for first in range(0, len(found), VARIANTS):
        layers = list(range(first, min(first + VARIANTS, len(found))))
        variants = _Variants(dump, layers, asked, codec, threads)
        states = model.forward(np.tile(text, len(layers)), np.tile(positions, len(layers)), variants.attend)
        for layer, rows in zip(layers, np.split(states, len(layers))):
            collected = Fidelity()
            collected.add(truth, model.logits(rows), np.append(text[1:], 0))  # the successor of the last token matters to its loss only
            found[layer] = max(0.0, collected.summary()["kl"])
    return found


class _Variants:
    """Attention of several readings of the same tokens, each with one compressed layer (-1: none), all behind the same exact prompt."""

    def __init__(self, dump: Dump, layers: list[int], asked: int, codec: str = "", threads: int = 1):
        self._dump, self._layers, self._asked, self._codec, self._threads = dump, layers, asked, codec, threads

    def attend(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        q, k, v = (np.split(x, len(self._layers)) for x in (q, k, v))
        outputs, untouched = [], None
        for number, own in zip(range(len(self._layers)), self._layers):
            if own == layer:
                outputs.append(self._compressed(layer, q[number], k[number], v[number]))
            elif own > layer:  # nothing differs from the exact run yet, so one answer serves all of them
                untouched = self._exact(layer, q[number], k[number], v[number]) if untouched is None else untouched
                outputs.append(untouched)
            else:
                outputs.append(self._exact(layer, q[number], k[number], v[number]))
        return np.concatenate(outputs)

    def _exact(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        known = self._dump.layers[layer]
        keys, values = (np.concatenate([old[:-self._asked], new]).transpose(1, 0, 2) for old, new in ((known.k, k), (known.v, v)))
        return attention(q, keys, values, known.window, known.scale, known.soft_cap)

    def _compressed(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        known = self._dump.layers[layer]
        prompt = len(known.k) - self._asked
        with kvc.Cache(layers=1, arena_growth=1, threads=max(0, self._threads - 1), **codec_options(self._codec, [known.options()])) as cache:
            sequence = cache.create_sequence()
            for first in range(0, prompt, PROMPT_STEP):
                end = min(first + PROMPT_STEP, prompt)
                with cache.step([sequence], [end - first]) as step:
                    step.append(0, known.k[first:end], known.v[first:end])
            with cache.step([sequence], [self._asked]) as step:
                step.append(0, np.ascontiguousarray(k), np.ascontiguousarray(v))
                return step.attend(0, np.ascontiguousarray(q), np.empty((*q.shape[:2], v.shape[2]), np.float32), scale=known.scale,
                                   soft_cap=known.soft_cap)
