"""The HTML report: one file, plots inside it, no script and nothing fetched."""
import html
import io

import matplotlib

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot  # noqa: E402

COLUMNS = [
    ("mode", lambda m: html.escape(m["name"])),
    ("codec bits", lambda m: f"{m['codec_bits']:.2f}"),
    ("effective bits", lambda m: f"{m['effective_bits']:.2f}"),
    ("cache, MiB", lambda m: f"{m['bytes_cache'] / 2**20:.2f}"),
    ("smaller than fp16", lambda m: f"{m['ratio_vs_fp16']:.2f}&times;"),
    ("KL", lambda m: f"{m['kl']:.2g}"),
    ("KL, 99th percentile", lambda m: f"{m['kl_p99']:.2g}"),
    ("top-1", lambda m: f"{100 * m['top1']:.1f} %"),
    ("perplexity", lambda m: f"{m['ppl']:.3f}"),
    ("needle digits", lambda m: "&ndash;" if m["needle"] is None else f"{100 * m['needle']:.1f} %"),
    ("tokens/s", lambda m: f"{m['tokens_per_s']:.0f}"),
    ("keys; values; policy", lambda m: html.escape(f"{m['k_codec']}; {m['v_codec']}; {m['policy']}")),
]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kvc-eval: {title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th {{ white-space: normal; vertical-align: bottom; }} th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }} .plots {{ display: flex; flex-wrap: wrap; gap: 1em; }}
</style></head><body>
<h1>KV cache of {title}</h1>
<p>{tokens} tokens of {text}, from token {start}, {chunk} tokens per step. Reference: the same model with an fp32 cache
(perplexity {ppl:.3f}, needle digits {needle}). KL is the mean of KL(reference || mode) of the next-token distribution over
positions from 256 on, in nats; top-1 is how often both find the same token likeliest. Effective bits count all bytes that the
sequence holds: codes, scales, the 16-bit window and sinks, page tables. kvc {library}.</p>
<div class="plots">{plots}</div>
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""


def write_report(report: dict) -> str:
    modes, reference = report["modes"], report["reference"]
    rows = "".join("<tr>" + "".join(f"<td>{cell(mode)}</td>" for _, cell in COLUMNS) + "</tr>\n" for mode in modes)
    plots = [_plot(modes, "kl", "KL from the fp32 cache, nats", logarithmic=True)]
    plots.append(_plot(modes, "top1", "same likeliest token", logarithmic=False))
    if all(mode["needle"] is not None for mode in modes):
        plots.append(_plot(modes, "needle", "needle digits recalled", logarithmic=False))
    needle = "not asked" if reference["needle"] is None else f"{100 * reference['needle']:.1f} %"
    return PAGE.format(
        title=html.escape(report["model_name"]), tokens=report["tokens"], text=html.escape(report["text"]), start=report["start"],
        chunk=report["chunk"], ppl=reference["ppl"], needle=needle, library=html.escape(report["library"]), plots="".join(plots),
        head="".join(f"<th>{name}</th>" for name, _ in COLUMNS), rows=rows)


DUMP_COLUMNS = COLUMNS[:5] + [
    ("output error, mean of layers", lambda m: f"{m['error']:.4f}"),
    ("largest", lambda m: f"{m['worst_error']:.4f}"),
    ("in layer", lambda m: str(m["worst_layer"])),
    COLUMNS[-1],
]

DUMP_PAGE = PAGE[:PAGE.index("<h1>")] + """<h1>Attention outputs of {title}</h1>
<p>{tokens} tokens; the last {decode} are appended and attended to one by one. Error: ||output - exact|| / ||exact|| (Frobenius) over
those tokens, against attention over the dump's numbers in fp32. kvc {library}.</p>
<div class="plots">{plots}</div>
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""


def write_dump_report(report: dict) -> str:
    """The report of a dump: error over memory, and a heat map of layers by query heads for every mode."""
    modes = report["modes"]
    rows = "".join("<tr>" + "".join(f"<td>{cell(mode)}</td>" for _, cell in DUMP_COLUMNS) + "</tr>\n" for mode in modes)
    plots = [_plot(modes, "error", "output error, mean of layers", logarithmic=True)] + [_heat_map(mode) for mode in modes]
    return DUMP_PAGE.format(title=html.escape(report["model_name"]), tokens=report["tokens"], decode=report["decode"],
                            library=html.escape(report["library"]), plots="".join(plots),
                            head="".join(f"<th>{name}</th>" for name, _ in DUMP_COLUMNS), rows=rows)


def _heat_map(mode: dict) -> str:
    """Errors of one mode, a row per layer and a column per query head; empty where a layer has fewer heads than others."""
    widest = max(len(layer["heads"]) for layer in mode["layers"])
    errors = [layer["heads"] + [float("nan")] * (widest - len(layer["heads"])) for layer in mode["layers"]]
    figure, axes = pyplot.subplots(figsize=(5.6, 3.9), layout="constrained")
    image = axes.imshow(errors, aspect="auto", cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="output error")
    axes.set_xlabel("query head")
    axes.set_ylabel("layer")
    axes.set_title(mode["name"][:48], fontsize=10)
    return _svg(figure)


def _plot(modes: list[dict], field: str, label: str, logarithmic: bool) -> str:
    """One point per mode over the cache's size, as inline SVG."""
    figure, axes = pyplot.subplots(figsize=(5.6, 3.9), layout="constrained")
    floor = 1e-8  # a logarithmic axis has no place for the rounding noise around zero
    for mode in modes:
        x, y = mode["bytes_cache"] / 2**20, max(mode[field], floor) if logarithmic else mode[field]
        axes.scatter(x, y, s=28, marker="o" if mode["policy"] == "none" else "x")
        axes.annotate(mode["name"][:28], (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    if logarithmic:
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("cache, MiB")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    return _svg(figure)


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg"):]
