"""Runs bench/ffi's programs, C's and each other in turns, and prints medians as a table."""
import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bindings"
MOST = 1.01  # of C's decode step
TURN = 6  # steps that a program takes at a time; the first half wakes it up. The speed of a shared machine drifts within tens of milliseconds
LONG_TURN = 60  # steps whose processor time is read, so many that what a turn costs by itself does not count
LONG_TURNS = 4
FIGURES = ("noop_ns", "append_ns", "attend_ns", "step_us", "processor_us")
UNITS = {"go": "objects", "rust": "calls", "java": "bytes", "csharp": "bytes"}  # of what each language's memory manager counts


def commands() -> dict[str, list[str]]:
    """What starts each program, by the name of its row. C once more shows what is noise."""
    found = {"c": [OUT / "ffi" / "c"], "c once more": [OUT / "ffi" / "c"], "go": [OUT / "ffi" / "go"], "rust": [OUT / "ffi" / "rust"]}
    java = [f"-Djava.library.path={OUT}", "-cp", f"{OUT / 'ffi' / 'java'}:{OUT / 'kvc.jar'}", "Ffi"]
    found["java (JNI)"] = ["java", "-XX:+UseSerialGC", *java]
    newer = sorted(path.parent for path in Path("/usr/lib/jvm").glob("*/release") if release(path) >= 22)
    if newer:
        found["java (FFM)"] = [newer[-1] / "bin" / "java", "-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED", *java]
    found["csharp (mono)"] = ["mono", OUT / "csharp" / "mono" / "ffi.exe"]
    core = OUT / "csharp" / "core"
    dotnet = next((ROOT / ".venv" / "lib").glob("python3*/site-packages/dotnetcore2/bin/dotnet"), None)
    if dotnet:
        found["csharp (CoreCLR)"] = [dotnet, "exec", "--runtimeconfig", core / "ffi.json", core / "ffi.exe"]
    found["python"] = [OUT / "ffi" / "python"]
    return {name: list(map(str, command)) for name, command in found.items()}


def release(file: Path) -> int:
    versions = [line.split('"')[1] for line in file.read_text().splitlines() if line.startswith("JAVA_VERSION=")]
    return int(versions[0].split(".")[0]) if versions else 0


class Program:
    """A running program: it has told what calls cost, and takes steps when asked."""

    def __init__(self, command: list[str], options: argparse.Namespace):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(OUT / "prefix" / "lib"), "DOTNET_CLI_TELEMETRY_OPTOUT": "1"}
        self.command = command + [str(options.context), str(options.turns * TURN + LONG_TURNS * LONG_TURN)]
        self.process = subprocess.Popen(self.command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.figures = json.loads(self.line())

    def line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"ffi: {' '.join(self.command)} ended with {self.process.wait()}")
        return line

    def step_us(self, steps: int) -> float:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.line())

    def processor_us(self, steps: int) -> float:
        """Processor time a step, of all threads of the process."""
        clock = (~self.process.pid << 3) | 2  # as clock_getcpuclockid makes it
        before = time.clock_gettime(clock)
        self.step_us(steps)
        return 1e6 * (time.clock_gettime(clock) - before) / steps

    def end(self) -> dict:
        self.process.stdin.close()
        self.figures |= json.loads(self.line())
        self.process.wait()
        return self.figures


def in_turns(number: int, first: Callable[[], float], second: Callable[[], float]) -> list[tuple[float, float]]:
    """Who comes second finds another machine than who comes first."""
    turns = []
    for turn in range(number):
        if turn % 2:
            of_second = second()
            turns.append((first(), of_second))
        else:
            turns.append((first(), second()))
    return turns


def run_pair(commands: tuple[list[str], list[str]], options: argparse.Namespace) -> tuple[dict, dict]:
    """C and another program in turns, so that both see the same machine; of the turns, the one that a tenth of them falls below."""
    c, other = (Program(command, options) for command in commands)
    turns = in_turns(options.turns, lambda: c.step_us(TURN), lambda: other.step_us(TURN))
    long_turns = in_turns(LONG_TURNS, lambda: c.processor_us(LONG_TURN), lambda: other.processor_us(LONG_TURN))
    figures = c.end(), other.end()
    for own, us, processor_us in zip(figures, zip(*turns), zip(*long_turns)):
        own["step_us"] = sorted(us)[len(us) // 10]
        own["processor_us"] = sum(processor_us) / LONG_TURNS
    return figures


def wanted(name: str, only: str | None) -> bool:
    return not only or name == "c once more" or name.split()[0] in only.split(",")


def compare(options: argparse.Namespace) -> list[dict]:
    """One row a program; every round starts it, and C's beside it, anew."""
    programs = commands()
    pairs: dict[str, list[tuple[dict, dict]]] = {name: [] for name in programs if name != "c" and wanted(name, options.only)}
    for number in range(options.rounds):
        for name in pairs:
            print(f"round {number + 1}/{options.rounds}  {name}", file=sys.stderr, flush=True)
            pairs[name].append(run_pair((programs["c"], programs[name]), options))
    every_c = [c for of_one in pairs.values() for c, _ in of_one]
    rows = [{"language": "c", **{figure: median(c[figure] for c in every_c) for figure in FIGURES}}]
    for name, of_one in pairs.items():
        others = [other for _, other in of_one]
        row = {"language": name, **{figure: median(other[figure] for other in others) for figure in FIGURES}}
        ratios = sorted(other["step_us"] / c["step_us"] for c, other in of_one)
        row |= {"step_ratio": median(ratios), "step_ratio_low": ratios[0], "step_ratio_high": ratios[-1]}
        row["processor_ratio"] = median(other["processor_us"] / c["processor_us"] for c, other in of_one)
        if "allocated" in others[0]:
            row["allocated"] = median(other["allocated"] for other in others)
        rows.append(row)
    return rows


def table(rows: list[dict], options: argparse.Namespace) -> str:
    lines = [f"{processor()}; steps of one token over {options.context} others; {options.rounds} rounds of {options.turns} turns", "",
             "| language | no-op, ns | append, ns | attend, ns | step of 30 layers, us | beside C | of all rounds | processor time beside C | allocated a step |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        beside = " | | "
        if "step_ratio" in row:
            beside = f"{row['step_ratio']:.3f}x | {row['step_ratio_low']:.3f}-{row['step_ratio_high']:.3f} | {row['processor_ratio']:.3f}x"
        allocated = f"{row['allocated']:.1f} {UNITS[row['language'].split()[0]]}" if "allocated" in row else ""
        lines.append(f"| {row['language']} | {row['noop_ns']:.1f} | {row['append_ns']:.0f} | {row['attend_ns']:.0f} | {row['step_us']:.0f} | "
                     f"{beside} | {allocated} |")
    return "\n".join(lines)


def processor() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often all programs are started")
    parser.add_argument("--context", type=int, default=4096, help="tokens before the step")
    parser.add_argument("--turns", type=int, default=40, help=f"turns of {TURN} steps that each program of a pair takes")
    parser.add_argument("--only", help="languages, by commas, such as go,python; C beside itself is always there")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if unknown := set(options.only.split(",") if options.only else []) - {name.split()[0] for name in commands()}:
        parser.error(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(sorted({name.split()[0] for name in commands()}))}")
    rows = compare(options)
    printed = table(rows, options)
    print(printed)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(printed + "\n")
    for row in rows:
        if row.get("step_ratio", 0) > MOST:
            print(f"ffi: {row['language']}: a step costs {100 * (row['step_ratio'] - 1):.1f} % more than from C; the goal is {100 * (MOST - 1):.0f} % at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
