"""Plots as inline SVG."""
import io

import matplotlib

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

SIZE = (5.6, 3.9)
FLOOR = 1e-8  # a logarithmic axis has no place for the rounding noise around zero


def points(modes: list[dict], field: str, label: str, logarithmic: bool) -> str:
    """One point per mode over the cache's size; where less is better (logarithmic), a line joins those that no other mode beats in both."""
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    place = {mode["name"]: (mode["bytes_cache"] / 2**20, max(mode[field], FLOOR) if logarithmic else mode[field]) for mode in modes}
    for mode in modes:
        axes.scatter(*place[mode["name"]], s=28, marker="o" if mode["policy"] == "none" else "x")
        axes.annotate(mode["name"][:28], place[mode["name"]], textcoords="offset points", xytext=(5, 4), fontsize=8)
    if logarithmic:
        axes.step(*zip(*pareto(list(place.values()))), where="post", color="gray", linewidth=0.8, zorder=0)
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("cache, MiB")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    return _svg(figure)


def pareto(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that are smaller in y than all with less or equal x, by x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def error_map(mode: dict) -> str:
    """Output errors of one mode, a row per layer and a column per query head; empty where a layer has fewer heads than others."""
    widest = max(len(layer["heads"]) for layer in mode["layers"])
    errors = [layer["heads"] + [float("nan")] * (widest - len(layer["heads"])) for layer in mode["layers"]]
    return _heat_map(errors, mode["name"], "output error", ("query head", None), ("layer", None), None)


def needle_map(figures: dict, name: str, task: str) -> str:
    """Digits recalled of one mode by depth and length of the haystack."""
    cells = {(cell["length"], cell["depth"]): cell["share"] for cell in figures["grid"] if cell["task"] == task}
    lengths, depths = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    shares = [[cells[length, depth] for length in lengths] for depth in depths]
    return _heat_map(shares, f"{name}, {task}", "digits recalled", ("tokens of the haystack", lengths),
                     ("depth", [f"{100 * depth:.0f} %" for depth in depths]), (0.0, 1.0))


def by_position(modes: list[dict], field: str, label: str) -> str:
    """A line per mode over the positions of the text."""
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    for mode in modes:
        axes.plot([one["position"] for one in mode["by_position"]], [max(one[field], FLOOR) for one in mode["by_position"]], marker=".",
                  label=mode["name"][:32])
    axes.set_yscale("log")
    axes.set_xlabel("position")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure)


def sensitivity(assignment: dict) -> str:
    """Predicted error of every layer in every codec; the chosen one is marked."""
    figure, axes = pyplot.subplots(figsize=(9.0, 4.5), layout="constrained")
    layers = assignment["layers"]
    for codec in layers[0]:
        axes.plot([max(layer[codec]["predicted"], FLOOR) for layer in layers], marker=".", linewidth=0.8, label=codec[:40])
    chosen = [max(layer[codec]["predicted"], FLOOR) for layer, codec in zip(layers, assignment["codecs"])]
    axes.scatter(range(len(layers)), chosen, s=60, facecolors="none", edgecolors="black", label="chosen")
    axes.set_yscale("log")
    axes.set_xlabel("layer")
    axes.set_ylabel(f"predicted {assignment['unit']}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure)


def _heat_map(rows: list[list[float]], title: str, label: str, x: tuple, y: tuple, limits: tuple[float, float] | None) -> str:
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    low, high = limits or (None, None)
    image = axes.imshow(rows, aspect="auto", cmap="viridis", interpolation="nearest", vmin=low, vmax=high)
    figure.colorbar(image, ax=axes, label=label)
    axes.set_xlabel(x[0])
    axes.set_ylabel(y[0])
    for axis, names in ((axes.xaxis, x[1]), (axes.yaxis, y[1])):
        if names is None:
            axis.set_major_locator(MaxNLocator(integer=True))
        else:
            axis.set_ticks(range(len(names)), names)
    axes.set_title(title[:60], fontsize=10)
    return _svg(figure)


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg"):]
