"""How far a mode's next-token distributions are from the reference's.

Positions below FIRST_POSITION are left out: there the cache is mostly window and sinks, so every mode looks good.
"""
import numpy as np

FIRST_POSITION = 256


class ReferenceChunk:
    """The reference's distributions at some consecutive positions; shared by all modes."""

    def __init__(self, logits: np.ndarray):
        self.logits = logits
        self.probabilities, self.log_sum = _softmax(logits)
        self.likeliest = logits.argmax(-1)


class Fidelity:
    """Collects, per position: KL(reference || mode), agreement of the likeliest token, loss of the true next token."""

    def __init__(self):
        self._kl: list[np.ndarray] = []
        self._same: list[np.ndarray] = []
        self._loss: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []

    def add(self, reference: ReferenceChunk, logits: np.ndarray, next_tokens: np.ndarray, position: int | None = None) -> None:
        """next_tokens may be one shorter than logits: the last token of a text has no successor, and is left out.

        position: that of the first row; otherwise the rows follow those that were added before.
        """
        count = len(next_tokens)
        if position is None:
            position = int(self._positions[-1][-1]) + 1 if self._positions else 0
        if count:
            self._positions.append(position + np.arange(count))
        log_sum = _log_sum(logits)
        # KL = E[x_ref - x] + log sum e^x - log sum e^x_ref; the differences are small, so fp32 loses little.
        mean_difference = np.einsum("ij,ij->i", reference.probabilities, reference.logits - logits)
        self._kl.append((mean_difference + log_sum - reference.log_sum)[:count])
        self._same.append((logits.argmax(-1) == reference.likeliest)[:count])
        self._loss.append((log_sum[:count] - logits[np.arange(count), next_tokens]))

    def by_position(self, width: int) -> list[dict]:
        """The figures of every `width` positions in which any were added."""
        kl, same, loss, positions = (np.concatenate(collected) for collected in (self._kl, self._same, self._loss, self._positions))
        bins = []
        for begin in range(int(positions[0]) // width * width, int(positions[-1]) + 1, width):
            rows = (positions >= begin) & (positions < begin + width)
            if rows.any():
                bins.append({"position": max(int(positions[0]), begin), "kl": float(kl[rows].mean()), "top1": float(same[rows].mean()),
                             "ppl": float(np.exp(loss[rows].mean()))})
        return bins

    def summary(self) -> dict:
        kl = np.concatenate(self._kl)
        return {
            "kl": float(kl.mean()),
            "kl_p99": float(np.percentile(kl, 99)),
            "top1": float(np.concatenate(self._same).mean()),
            "ppl": float(np.exp(np.concatenate(self._loss).mean())),
        }


def _log_sum(logits: np.ndarray) -> np.ndarray:
    largest = logits.max(-1, keepdims=True)
    return np.log(np.exp(logits - largest).sum(-1, dtype=np.float64)) + largest[:, 0]


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    largest = logits.max(-1, keepdims=True)
    probabilities = np.exp(logits - largest)
    total = probabilities.sum(-1, dtype=np.float64)
    probabilities /= total[:, None].astype(np.float32)
    return probabilities, np.log(total) + largest[:, 0]
