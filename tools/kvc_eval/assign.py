"""kvc-eval --assign: a codec for every layer, so that the predicted error is least within the bytes.

A layer's error is predicted from a sample. Of a dump: the square of its output error, as far as is known all layers matter alike. Of a
model: the KL that the layer alone causes, measured with the coarsest codec, times the square of how much smaller the output error of another
codec is. Errors of layers add up. Among all assignments within the bytes the best is found exactly (a knapsack), so the answer depends on
nothing but the sample.
"""
import math
import re
from dataclasses import dataclass

import kvc
import numpy as np

from .dump import Dump, dump_model
from .model import Model
from .modes import Mode
from .output_error import exact_outputs, output_errors
from .sensitivity import layer_kl

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ASKED = 128  # last tokens over which output errors are taken
ASKED_KL = 64  # last tokens over which KL is taken
STEPS_LIMIT = 1 << 15  # of the knapsack; larger budgets are counted in coarser units, rounded up


@dataclass(frozen=True)
class Candidate:
    codec: str


@dataclass
class Probe:
    candidates: list[Candidate]
    costs: np.ndarray  # [layers, candidates], predicted
    sizes: np.ndarray  # [layers, candidates], bytes as the planner counts them
    unit: str  # what costs are
    tokens: int
    fp16_bytes: int


@dataclass(frozen=True)
class Assignment:
    codecs: tuple[str, ...]
    bytes: int
    cost: float


def check_probe(tokens: int) -> None:
    if tokens < 4 * ASKED_KL:
        raise ValueError(f"{tokens} tokens: a probe needs at least {4 * ASKED_KL}")


def parse_budget(text: str, fp16_bytes: int) -> int:
    """Bytes of a sequence as long as the sample: a size, or effective bits per element."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(bits|B|KiB|MiB|GiB|)", text)
    if not match:
        raise ValueError(f"--assign {text}: give bytes (6MiB, 512KiB) or bits per element (3.5bits)")
    amount = float(match[1])
    return int(amount * fp16_bytes / 16) if match[2] == "bits" else int(amount * UNITS[match[2]])


def probe_dump(dump: Dump, candidates: list[Candidate], threads: int, progress, budget: int | None = None) -> Probe:
    """budget: bytes that choose() will be given; what cannot fit is refused before anything is measured."""
    sizes = layer_bytes(dump, candidates)
    _check_fits(sizes, budget, dump.tokens)
    errors = _output_errors(dump, candidates, threads, progress)
    return Probe(candidates, errors ** 2, sizes, "squared output error", dump.tokens, dump.fp16_bytes())


def probe_model(model: Model, tokens: np.ndarray, candidates: list[Candidate], threads: int, progress, budget: int | None = None) -> Probe:
    check_probe(len(tokens))
    dump = dump_model(model, tokens, 128)
    sizes = layer_bytes(dump, candidates)
    _check_fits(sizes, budget, dump.tokens)
    errors = _output_errors(dump, candidates, threads, progress)
    coarsest = int(errors.mean(0).argmax())
    progress(f"probe: KL of each layer alone in {candidates[coarsest].codec}")
    kl = layer_kl(model, tokens, dump, candidates[coarsest].codec, ASKED_KL, threads)
    ratio = errors / np.maximum(errors[:, coarsest:coarsest + 1], np.finfo(np.float64).tiny)
    return Probe(candidates, kl[:, None] * ratio ** 2, sizes, "KL", dump.tokens, dump.fp16_bytes())


def _check_fits(sizes: np.ndarray, budget: int | None, tokens: int) -> None:
    least = int(sizes.min(1).sum())
    if budget is not None and least > budget:
        raise ValueError(f"{budget} bytes: the smallest assignment of these modes takes {least} for {tokens} tokens")


def layer_bytes(dump: Dump, candidates: list[Candidate]) -> np.ndarray:
    """[layers, candidates]: what a sequence as long as the dump holds of a layer, window and sinks included."""
    request = dict(tokens=dump.tokens)
    planned = {}  # layers of one shape take the same bytes
    for shape in {tuple(layer.options().items()) for layer in dump.layers}:
        planned[shape] = [kvc.plan(layers=1, layers_differ=[dict(shape) | dict(codec=candidate.codec)], request=request).record_bytes
                          for candidate in candidates]
    return np.array([planned[tuple(layer.options().items())] for layer in dump.layers], np.int64)


def choose(probe: Probe, budget: int) -> Assignment:
    """The assignment of least cost among those of at most `budget` bytes."""
    _check_fits(probe.sizes, budget, probe.tokens)
    least = probe.sizes.min(1)
    spare = probe.sizes - least[:, None]
    room = min(budget - int(least.sum()), int(spare.max(1).sum()))
    unit = max(1, math.gcd(*map(int, spare.ravel())), -(-room // STEPS_LIMIT))
    steps, wanted = room // unit, -(-spare // unit)
    best, chosen = np.zeros(steps + 1), np.zeros((len(spare), steps + 1), np.int16)
    for layer, (costs, widths) in enumerate(zip(probe.costs, wanted)):
        options = np.full((len(costs), steps + 1), np.inf)
        for number, (cost, width) in enumerate(zip(costs, widths)):
            if width <= steps:
                options[number, width:] = best[:steps + 1 - width] + cost
        chosen[layer] = options.argmin(0)
        best = options.min(0)
    picks, left = [], steps
    for layer in reversed(range(len(spare))):
        picks.append(int(chosen[layer, left]))
        left -= int(wanted[layer, picks[-1]])
    return assignment(probe, picks[::-1])


def assignment(probe: Probe, picks: list[int]) -> Assignment:
    rows = range(len(picks))
    return Assignment(tuple(probe.candidates[pick].codec for pick in picks), int(probe.sizes[rows, picks].sum()),
                      float(probe.costs[rows, picks].sum()))


def calibration_text(name: str, budget: str, probe: Probe, chosen: Assignment) -> str:
    """docs/FORMATS.md section 6."""
    library = kvc.default_library()
    lines = [f"layer {number} {library.codec_format(codec)}" for number, codec in enumerate(chosen.codecs)]
    name = " ".join(name.split())  # a comment is one line, whatever the model is called
    return "\n".join(["kvc-calibration 1", f"# {name}, --assign {budget}: {chosen.bytes} bytes for {probe.tokens} tokens, predicted "
                      f"{probe.unit} {chosen.cost:.6g}", *lines, f"end {len(lines)}", ""])


def assign_report(probe: Probe, budget: int, chosen: Assignment) -> dict:
    uniform = [assignment(probe, [number] * len(probe.sizes)) for number in range(len(probe.candidates))]
    return {
        "budget_bytes": budget, "bytes": chosen.bytes, "effective_bits": 16.0 * chosen.bytes / probe.fp16_bytes, "predicted": chosen.cost,
        "unit": probe.unit, "tokens": probe.tokens, "codecs": list(chosen.codecs),
        "layers": [{candidate.codec: {"bytes": int(size), "predicted": float(cost)}
                    for candidate, size, cost in zip(probe.candidates, sizes, costs)} for sizes, costs in zip(probe.sizes, probe.costs)],
        "uniform": [{"codec": one.codecs[0], "bytes": one.bytes, "predicted": one.cost, "within": one.bytes <= budget} for one in uniform],
    }


def assign_lines(report: dict) -> list[str]:
    """What is printed: the layers that share a codec, then how uniform codecs of the same candidates compare."""
    codecs = report["codecs"]
    lines = [f"{report['bytes']} of {report['budget_bytes']} bytes for {report['tokens']} tokens ({report['effective_bits']:.2f} bits), "
             f"predicted {report['unit']} {report['predicted']:.6g}"]
    for codec in dict.fromkeys(codecs):
        layers = [str(number) for number, own in enumerate(codecs) if own == codec]
        lines.append(f"  {codec}: layers {' '.join(layers)}")
    for one in report["uniform"]:
        lines.append(f"  all layers {one['codec']}: {one['bytes']} bytes{'' if one['within'] else ' (too many)'}, "
                     f"predicted {one['predicted']:.6g}")
    return lines


def candidates_of(modes: list[Mode]) -> list[Candidate]:
    """Codecs to choose among; an eviction policy is no codec, and a calibration has chosen already."""
    for mode in modes:
        if mode.policy or mode.codec.startswith("@"):
            raise ValueError(f"--assign chooses among codecs; mode {mode.name} is none")
    return [Candidate(codec) for codec in dict.fromkeys(mode.codec for mode in modes)]


def _output_errors(dump: Dump, candidates: list[Candidate], threads: int, progress) -> np.ndarray:
    exact, errors = exact_outputs(dump, min(ASKED, dump.tokens // 4 or 1)), []
    for candidate in candidates:
        errors.append(output_errors(dump, Mode(candidate.codec, candidate.codec), exact, threads).layers())
        progress(f"probe: output error {np.mean(errors[-1]):.5f} in {candidate.codec}")
    return np.array(errors).T
