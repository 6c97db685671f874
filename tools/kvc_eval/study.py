"""kvc-eval --study: claims that are often made about KV cache compression, measured on the caller's model and text.

Every group asks one question and answers it with modes that differ in nothing else, in one run beside the same reference. Where modes
differ in bits, the bits stand beside the error.
"""
from collections.abc import Callable

import numpy as np

from .arguments import QUESTIONS
from .evaluate import Evaluation
from .model import Model
from .modes import Mode
from .prompt_study import prompt_modes

PLAIN = "window=128,sinks=4"
BASE2, BASE4 = ("k=int2.ch.g32.m8", "v=int2.tok.rot.ls"), ("k=int4.ch.g32.m8", "v=int4.tok.rot.sym")


def symmetry() -> list[Mode]:
    """Keys alone and values alone, so that neither hides the other's error."""
    modes = []
    for bits in (8, 4, 2):
        for fit in ("", ".sym"):
            modes.append(_mode(f"k=int{bits}.ch.g32{fit}", "v=f16"))
        for fit in ("", ".sym", ".ls"):
            modes.append(_mode("k=f16", f"v=int{bits}.tok.rot{fit}"))
    return modes


def axes() -> list[Mode]:
    return [_mode(f"k=int{bits}.{k}.g32", f"v=int{bits}.{v}.g32") for bits in (4, 2) for k in ("ch", "tok") for v in ("ch", "tok")]


def details() -> list[Mode]:
    """One thing at a time taken away from, or added to, the presets int4 and int2."""
    modes = []
    for (k, v), clip in ((BASE4, ""), (BASE2, ".clip0.9")):
        modes += [_mode(k + clip, v), _mode(k.replace(".m8", "") + clip, v), _mode(k.replace("g32", "g64") + clip, v),
                  _mode(k.replace("g32.m8", "g64") + clip, v), _mode(k + ("" if clip else ".clip0.9"), v)]
        modes += [_mode(k + clip, v, f"window={window},sinks={sinks}") for window, sinks in ((128, 0), (64, 4), (0, 4), (0, 0))]
    modes.append(_mode(BASE2[0] + ".clip0.8", BASE2[1]))
    return modes


def shares() -> list[Mode]:
    """The same bits for keys and values together, divided in different ways."""
    values = {4: "v=int4.tok.rot.sym", 3: "v=int3.tok.rot.ls", 2: "v=int2.tok.rot.ls"}
    return [_mode(f"k=int{k}.ch.g32.m8", values[v]) for k, v in ((4, 2), (3, 3), (2, 4), (3, 2), (2, 3))]


MODES: dict[str, Callable[[], list[Mode]]] = {"symmetry": symmetry, "axes": axes, "details": details, "shares": shares}


def run_study(model: Model, tokens: np.ndarray, groups: list[str], chunk: int, threads: int, progress: Callable[[str], None]) -> dict:
    """{group: {question, modes}}; modes as in the JSON of a run."""
    found = {}
    for name in groups:
        progress(f"{name}: {QUESTIONS[name]}")
        if name == "prompt":
            results = prompt_modes(model, tokens, chunk, threads)
        else:
            modes = MODES[name]() if name in MODES else protected_layers(model, tokens, threads, progress)
            results = Evaluation(model, modes, tokens, chunk, threads).run([])[1]
        for result in results:
            progress(_line(result))
        found[name] = {"question": QUESTIONS[name], "modes": results}
    return found


def protected_layers(model: Model, tokens: np.ndarray, threads: int, progress: Callable[[str], None]) -> list[Mode]:
    """Modes of equal bytes: the same number of layers in 4 bits, chosen by different rules."""
    from .assign import Candidate, probe_model  # the probe reads the text once more, so only this group pays for it

    layers = model.shape.layers
    count = max(1, layers // 5)
    middle = (layers - count) // 2
    early, late = (count + 1) // 2, count // 2
    costs = probe_model(model, tokens, [Candidate("int2"), Candidate("int4")], threads, progress).costs
    gain = costs[:, 0] - costs[:, 1]
    chosen = {
        "none": [], "first": range(count), "last": range(layers - count, layers), "middle": range(middle, middle + count),
        "first and last": [*range(early), *range(layers - late, layers)], "every fifth": [i * layers // count for i in range(count)],
        "probe": np.argsort(-gain, kind="stable")[:count], "probe's last choice": np.argsort(gain, kind="stable")[:count],
    }
    return [Mode(f"int4 in {name}: {','.join(map(str, sorted(map(int, protected))))}" if len(protected) else "int2 everywhere",
                 tuple("int4" if layer in protected else "int2" for layer in range(layers))) for name, protected in chosen.items()]


def _mode(k: str, v: str, rest: str = PLAIN) -> Mode:
    codec = f"{k},{v},{rest}"
    return Mode(codec, codec)


def _line(result: dict) -> str:
    return (f"  {result['name']:<62} {result['codec_bits']:5.2f} codec bits {result['effective_bits']:6.2f} effective  "
            f"KL {result['kl']:.6f}  top-1 {result['top1']:.4f}")
