"""Results for people: the machine, a table, and the goals with what was reached."""

import platform
import subprocess
import time
from dataclasses import asdict

COLUMNS = [
    ("kind", lambda r: r["kind"]), ("shape", lambda r: r["shape"]), ("context", lambda r: str(r["context"])),
    ("threads", lambda r: str(r["threads"])), ("kvc", lambda r: r["codec"]), ("peer", lambda r: r["peer"]),
    ("its type", lambda r: r["peer_type"]), ("its layout", lambda r: r["peer_layout"]), ("kvc us", lambda r: f"{r['kvc_us']:,.0f}"),
    ("peer us", lambda r: f"{r['peer_us']:,.0f}"), ("ratio", lambda r: f"{r['ratio']:.2f}"),
    ("quartiles", lambda r: f"{r['ratio_low']:.2f}-{r['ratio_high']:.2f}"),
    ("of bandwidth", lambda r: f"{100 * r['bandwidth_share']:.0f} %"), ("GB/s", lambda r: f"{r['bytes_per_second'] / 1e9:.1f}"),
]


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            fields = dict(line.strip().split(":", 1) for line in lines if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, value in fields.items()}
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp"]
    present = [flag for flag in wanted if flag in named.get("flags", named.get("Features", "")).split()]
    family = f", family {named['cpu family']} model {named['model']}" if "cpu family" in named else ""
    return f"{named.get('model name', platform.machine())}{family} ({', '.join(present)})"


def revision(root):
    done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine_lines(root, target):
    return [
        f"processor: {processor()}, {platform.system()} {platform.machine()}",
        f"kvc {revision(root)}, kernels: {target or 'the best target of this machine'}; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
    ]


def print_table(results):
    rows = [[name for name, _ in COLUMNS]] + [[cell(r) for _, cell in COLUMNS] for r in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    print()
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))


def goal_lines(goals, results):
    for goal in goals:
        wanted = asdict(goal.case)
        for r in results:
            if wanted.items() <= r.items():
                verdict = "reached" if r["ratio"] >= goal.ratio else "MISSED"
                yield (f"{r['codec']} at least {goal.ratio:g} x {r['peer']} {r['peer_type']} ({r['peer_layout']}), {r['kind']} {r['shape']}, "
                       f"{r['context']} tokens, {r['threads']} threads: {r['ratio']:.2f} x, {verdict}")


def print_goals(goals, results):
    print("\ngoals:")
    for line in goal_lines(goals, results):
        print("  " + line)


def markdown(lines, goals, results):
    table = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table += ["| " + " | ".join(cell(r) for _, cell in COLUMNS) + " |" for r in results]
    kvc_error = max(r["kvc_error"] for r in results)
    peer_error = max(r["peer_error"] for r in results)
    return "\n".join([
        "# kvc and its peers on the CPU", "", *[f"- {line}" for line in lines],
        f"- largest relative error against exact attention over the own dequantized cache: kvc {kvc_error:.1e}, peers {peer_error:.1e}",
        "", "Goals:", "", *[f"- {line}" for line in goal_lines(goals, results)], "", *table, "",
        "bench/README.md explains the columns.", ""])
