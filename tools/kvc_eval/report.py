"""The HTML reports: one file, plots inside it, no script and nothing fetched."""
import html

from .plots import by_position, error_map, needle_map, points, sensitivity

NAME = ("mode", lambda m: html.escape(m["name"]))
BYTES = [
    ("codec bits", lambda m: f"{m['codec_bits']:.2f}"),
    ("effective bits", lambda m: f"{m['effective_bits']:.2f}"),
    ("cache, MiB", lambda m: f"{m['bytes_cache'] / 2**20:.2f}"),
    ("smaller than fp16", lambda m: f"{m['ratio_vs_fp16']:.2f}&times;"),
]
QUALITY = [
    ("KL", lambda m: f"{m['kl']:.2g}"),
    ("KL, 99th percentile", lambda m: f"{m['kl_p99']:.2g}"),
    ("top-1", lambda m: f"{100 * m['top1']:.1f} %"),
    ("perplexity", lambda m: f"{m['ppl']:.3f}"),
]
NEEDLE = ("needle digits", lambda m: _share(m["needle"]))
SPEED = ("tokens/s", lambda m: f"{m['tokens_per_s']:.0f}")
CODEC = ("keys; values; policy", lambda m: html.escape(f"{m['k_codec']}; {m['v_codec']}; {m['policy']}"))
ERRORS = [
    ("output error, mean of layers", lambda m: f"{m['error']:.4f}"),
    ("largest", lambda m: f"{m['worst_error']:.4f}"),
    ("in layer", lambda m: str(m["worst_layer"])),
]
TASKS = [
    ("needles in the words that hid them", "literal"), ("needles in other words", "paraphrased"), ("key-value copying", "copying"),
    ("the exact model's own summary", "summary"),
]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kvc-eval: {title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th {{ white-space: normal; vertical-align: bottom; }} th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left; }}
svg {{ max-width: 100%; height: auto; }} .plots {{ display: flex; flex-wrap: wrap; gap: 1em; }}
</style></head><body>
{body}
<p>kvc {library}</p>
</body></html>
"""

READ = """{tokens} tokens of {text}, from token {start}, {chunk} tokens per step. KL is the mean of KL(reference || mode) of the next-token
distribution, in nats, against the same model with an fp32 cache; top-1 is how often both find the same token likeliest. Effective bits count
all bytes that the sequence holds: codes, scales, the 16-bit window and sinks, page tables."""


def write_report(report: dict) -> str:
    body = _stream if "stream" in report else _assignment if "assignment" in report else _study if "study" in report else _dump if "dump" in report else _model
    return PAGE.format(title=html.escape(report["model_name"]), body=body(report), library=html.escape(report["library"]))


def _model(report: dict) -> str:
    modes, reference = report["modes"], report["reference"]
    plots = [points(modes, "kl", "KL from the fp32 cache, nats", logarithmic=True)]
    plots.append(points(modes, "top1", "same likeliest token", logarithmic=False))
    if all(mode["needle"] is not None for mode in modes):
        plots.append(points(modes, "needle", "needle digits recalled", logarithmic=False))
    if "by_position" in reference:
        plots += [by_position(modes, "kl", "KL, nats"), by_position([{"name": "fp32 cache"} | reference, *modes], "ppl", "perplexity")]
    parts = [f"<h1>KV cache of {html.escape(report['model_name'])}</h1>",
             f"<p>{_read(report)} Positions from 256 on count. The reference has a perplexity of {reference['ppl']:.3f} and recalls "
             f"{_share(reference['needle'])} of the needle digits.</p>",
             _plots(plots), _table(modes, [NAME, *BYTES, *QUALITY, NEEDLE, SPEED, CODEC])]
    if "tasks" in reference:
        parts.append(_tasks(reference, modes))
    if "recommendation" in report:
        parts.append(_recommendation(report["recommendation"]))
    return "\n".join(parts)


def _tasks(reference: dict, modes: list[dict]) -> str:
    """Which mode for which task: shares of what the exact model knows, and where in a haystack numbers are lost."""
    rows = [{"name": "fp32 cache"} | reference, *modes]
    columns = [NAME] + [(title, lambda m, task=task: _share(m["tasks"][task])) for title, task in TASKS]
    maps = [needle_map(row, row["name"], task) for row in rows for task in ("literal", "paraphrased")]
    return f"<h2>Tasks</h2><p>Digits and tokens that are the likeliest where they are asked for.</p>{_table(rows, columns)}{_plots(maps)}"


def _recommendation(found: dict) -> str:
    columns = [NAME, ("effective bits", lambda m: f"{m['effective_bits']:.2f}"), ("KL", lambda m: f"{m['kl']:.2g}"), NEEDLE,
               ("", lambda m: html.escape(m["rejected"]) or "<b>recommended</b>")]
    return f"<h2>For {found['task']}, KL at most {found['max_kl']:g}</h2>{_table(found['candidates'], columns)}"


def _dump(report: dict) -> str:
    modes = report["modes"]
    plots = [points(modes, "error", "output error, mean of layers", logarithmic=True)] + [error_map(mode) for mode in modes]
    return "\n".join([
        f"<h1>Attention outputs of {html.escape(report['model_name'])}</h1>",
        f"<p>{report['tokens']} tokens; the last {report['decode']} are appended and attended to one by one. Error: ||output - exact|| / ||exact|| "
        "(Frobenius) over those tokens, against attention over the dump's numbers in fp32.</p>",
        _plots(plots), _table(modes, [NAME, *BYTES, *ERRORS, CODEC])])


def _assignment(report: dict) -> str:
    found = report["assignment"]
    uniform = [("codec everywhere", lambda m: html.escape(m["codec"])), ("bytes", lambda m: f"{m['bytes']:,}"),
               (f"predicted {found['unit']}", lambda m: f"{m['predicted']:.3g}"), ("", lambda m: "" if m["within"] else "too many bytes")]
    layers = [{"layer": number, "codec": codec} | costs[codec] for number, (codec, costs) in enumerate(zip(found["codecs"], found["layers"]))]
    chosen = [("layer", lambda m: str(m["layer"])), ("bytes", lambda m: f"{m['bytes']:,}"),
              (f"predicted {found['unit']}", lambda m: f"{m['predicted']:.3g}"), ("codec", lambda m: html.escape(m["codec"]))]
    return "\n".join([
        f"<h1>Codecs for the layers of {html.escape(report['model_name'])}</h1>",
        f"<p>{found['bytes']:,} of {found['budget_bytes']:,} bytes for {found['tokens']} tokens ({found['effective_bits']:.2f} bits); predicted "
        f"{found['unit']} {found['predicted']:.3g}.</p>", _plots([sensitivity(found)]), _table(found["uniform"], uniform), _table(layers, chosen)])


def _study(report: dict) -> str:
    parts = [f"<h1>Common claims, measured on {html.escape(report['model_name'])}</h1><p>{_read(report)}</p>"]
    for name, group in report["study"].items():
        parts += [f"<h2>{html.escape(group['question'])}</h2>", _plots([points(group["modes"], "kl", "KL, nats", logarithmic=True)]),
                  _table(group["modes"], [NAME, *BYTES, *QUALITY, CODEC])]
    return "\n".join(parts)


def _stream(report: dict) -> str:
    columns = [NAME, ("cache, MiB", lambda m: f"{m['bytes_cache'] / 2**20:.2f}"),
               ("perplexity, first positions", lambda m: f"{m['by_position'][0]['ppl']:.2f}"),
               ("last positions", lambda m: f"{m['by_position'][-1]['ppl']:.2f}"), ("policy", lambda m: html.escape(m["policy"]))]
    return (f"<h1>StreamingLLM over {report['tokens']} tokens: {html.escape(report['model_name'])}</h1>"
            f"<p>The model was trained for {report['context_length']} tokens.</p>"
            + _plots([by_position(report["stream"], "ppl", "perplexity")]) + _table(report["stream"], columns))


def _read(report: dict) -> str:
    return READ.format(tokens=report["tokens"], text=html.escape(report["text"]), start=report["start"], chunk=report["chunk"])


def _share(share: float | None) -> str:
    return "&ndash;" if share is None else f"{100 * share:.1f} %"


def _plots(plots: list[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>'


def _table(rows: list[dict], columns: list[tuple]) -> str:
    head = "".join(f"<th>{title}</th>" for title, _ in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell(row)}</td>" for _, cell in columns) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
