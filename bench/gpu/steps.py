"""What bench/gpu/run does on a GPU machine, step by step. A step that fails or runs out of time does not stop the next."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

NO_DEVICE = 77
PEERS = ("FlashInfer", "llama.cpp", "BitDecoding")  # which may be missing
COMPILING = "FlashInfer's kernels"
BUDGET_S, QUICK_BUDGET_S = 540, 200  # of all steps together, building apart
COMPILE_LIMIT_S = 3600
FAILED, CUT_SHORT = 1, 3  # what a run exits with; CUT_SHORT: nothing failed, but steps ran out of time
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Every 13th combination of the largest grids: no side of a grid has that divisor.
THINNED = ["--every", "13"]
# Of the tests of the device those that take little and leave nothing out: pools, copies, streams, tokens that cannot be stored, replays.
SHORT_DEVICE_CASES = ("gpu: memory of pools*", "gpu: bytes go there*", "gpu: sequences on streams*", "gpu: tokens that cannot*",
                      "gpu: replays of several*")
# What a dry run takes of the scripts and laws over the emulated device: that they start and pass. ctest runs them all.
DRY_SCRIPTS, DRY_LAWS = ("-tc=cuda measure: expected attention*",), ("-tc=empty steps*,busy*",)


@dataclass
class Step:
    name: str
    command: list
    limit_s: int
    least_s: int = 0  # of the budget, that steps before it leave it; 0: compiling, which is not in the budget
    writes: str = ""  # the JSON that it leaves, in the folder of results
    missing: str = ""  # what to say where the program is not there
    environment: dict = field(default_factory=dict)  # beside the run's own


@dataclass
class Outcome:
    name: str
    command: str
    state: str  # passed, failed (status), timed out after s, not there, not run: why
    seconds: float
    tail: str


def tests_program(programs):
    return programs / "kvc_cuda_native_tests"


def device_tests_program(programs):
    return programs / "kvc_cuda_device_tests"


def bench_program(programs):
    return programs / "kvc_gpu_bench"


def cache_steps(scripts, laws, scripts_arguments=(), laws_arguments=()):
    """Caches through kvc.h; the laws over one preset and policy of each family, without those that take longest. -d: how long each takes."""
    yield Step("cache scripts", [scripts, "-d", *scripts_arguments], 90, 40, environment={"KVC_MODEL_SECONDS": "10"})
    yield Step("cache laws", [laws, "-d", *laws_arguments], 120, 50, environment={"KVC_LAWS_THINNED": "1"})


def sanitizer_steps(programs, tools, least_s):
    for tool in tools:
        sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
        # Records in device memory of exactly their size, and the tests, most of whose memory is the host's.
        yield Step(f"{tool}, small benchmark", [*sanitizer, bench_program(programs), "--tiny"], 45, least_s)
        yield Step(f"{tool}, thinned tests", [*sanitizer, tests_program(programs), *THINNED], 45, least_s)
        yield Step(f"{tool}, device tests", [*sanitizer, device_tests_program(programs), f"-tc={','.join(SHORT_DEVICE_CASES)}"], 45, least_s)


def flashinfer_step(root, scratch, flags):
    return Step("FlashInfer", [sys.executable, root / "bench/gpu/flashinfer_decode.py", *flags, "--json", scratch / "flashinfer.json"], 120, 60,
                "flashinfer.json")


def other_peer_steps(root, peers, scratch, flags):
    """The peers that bench/gpu/build_peers builds, as far as it has."""
    yield Step("llama.cpp", [peers / "llama_decode", *flags, "--json", scratch / "llama.json"], 60, 30, "llama.json",
               "llama.cpp was not built (bench/gpu/build_peers)")
    yield Step("BitDecoding", [sys.executable, root / "bench/gpu/bitdecoding_decode.py", *flags, "--json", scratch / "bitdecoding.json"], 60, 30,
               "bitdecoding.json")


def gpu_steps(root, programs, scratch, quick, peers=None):
    """The tests first, because times of wrong kernels are none; then what is compared with goals; then memcheck, and what may be missing."""
    flags = ["--quick"] if quick else []
    return [Step(COMPILING, [sys.executable, root / "bench/gpu/prebuild_flashinfer.py", "--here"], COMPILE_LIMIT_S),
            Step("kernel tests", [tests_program(programs)], 60, 30),
            Step("device tests", [device_tests_program(programs)], 60, 30),
            *cache_steps(programs / "kvc_cuda_native_scripts_tests", programs / "kvc_cuda_native_laws_tests"),
            Step("kvc", [bench_program(programs), *flags, "--json", scratch / "kvc.json"], 120, 80, "kvc.json"),
            flashinfer_step(root, scratch, flags),
            *sanitizer_steps(programs, SANITIZER_TOOLS[:1], 25),
            *other_peer_steps(root, peers or programs, scratch, flags),
            *sanitizer_steps(programs, [] if quick else SANITIZER_TOOLS[1:], 12)]


def dry_steps(root, programs, scratch, peers):
    """programs: name -> path."""
    return [Step("kvc on the emulator", [programs["kvc_gpu_bench_emulated"], "--tiny", "--json", scratch / "kvc.json"], 300, 300, "kvc.json"),
            *cache_steps(programs["kvc_cuda_scripts_tests"], programs["kvc_cuda_laws_tests"], DRY_SCRIPTS, DRY_LAWS),
            flashinfer_step(root, scratch, []), *other_peer_steps(root, peers, scratch, [])]


class Budget:
    """Seconds for all steps together. What a step leaves goes to the next ones, up to their limits, but none takes what later ones have to get."""

    def __init__(self, todo, seconds, usual):
        self.left = seconds
        self.stretch = max(1.0, seconds / usual)  # of a step's own limit, where there is more time than usual
        needed = sum(step.least_s for step in todo)
        self.share = min(self.stretch, seconds / needed) if needed else 1.0  # of what each step has to get
        self.owed = needed * self.share  # to steps that are still to come

    def limit_of(self, step):
        if not step.least_s:
            return step.limit_s
        self.owed -= step.least_s * self.share
        return min(step.limit_s * self.stretch, self.left - self.owed)

    def took(self, step, seconds):
        if step.least_s:
            self.left -= seconds


def run_step(step, log_folder, limit_s):
    """Runs the command for so many seconds at most; the whole output goes to a file, its end into the outcome."""
    if limit_s < 1:
        return Outcome(step.name, "", "not run: no time was left", 0.0, "")
    command = [str(part) for part in step.command]
    log = Path(log_folder) / (step.name.replace(", ", "-").replace(" ", "-") + ".log")
    began = time.monotonic()
    with open(log, "w") as out:
        try:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=limit_s, env={**os.environ, **step.environment})
            state = {0: "passed", NO_DEVICE: "not there"}.get(done.returncode, f"failed ({done.returncode})")
        except subprocess.TimeoutExpired:
            state = f"timed out after {limit_s:.0f} s"
        except OSError as error:
            out.write(f"{step.missing or error}\n")
            state = "not there"
    tail = log.read_text(errors="replace").splitlines()[-12:]
    return Outcome(step.name, " ".join(command), state, time.monotonic() - began, "\n".join(tail))


def is_cut_short(outcome):
    return outcome["state"].startswith(("timed out", "not run"))


def is_fine(outcome):
    """Whether the run may call itself a success: peers may be missing, kvc's own tests and benchmarks may not."""
    return outcome["state"] == "passed" or (outcome["name"] in (*PEERS, COMPILING) and outcome["state"] == "not there")


def exit_status(outcomes):
    bad = [outcome for outcome in outcomes if not is_fine(outcome)]
    return 0 if not bad else CUT_SHORT if all(is_cut_short(outcome) for outcome in bad) else FAILED


def install_wheels(folders, target):
    """Peers from wheels that came along, without the network; returns the path to import them from, or None."""
    wheels = sorted({str(w) for folder in folders if folder for w in Path(folder).glob("*.whl")})
    if not wheels:
        return None
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target",
                    str(target), *wheels], check=False, timeout=120)
    return target


def set_environment(site, cache):
    """cache: where FlashInfer keeps what it compiles, from one run to the next."""
    if site:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        if (Path(site) / "flashinfer_jit_cache").is_dir():
            os.environ["FLASHINFER_DISABLE_JIT"] = "1"  # a variant that was not compiled beforehand fails at once, and is named
    os.environ.setdefault("FLASHINFER_WORKSPACE_BASE", str(cache))


def machine_lines():
    """The card as it is: name, driver, clocks, temperature, who else uses it."""
    query = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"nvidia-smi: {error}"]
    return done.stdout.strip().splitlines() or [done.stderr.strip()]
