"""What bench/gpu/run does on a GPU machine, step by step. A step that fails or runs out of time does not stop the next."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NO_DEVICE = 77
PEERS = ("FlashInfer", "llama.cpp", "BitDecoding")  # which may be missing
BUDGET_S, QUICK_BUDGET_S = 480, 200  # of all steps together, building apart
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Every 13th combination of the largest grids: no side of a grid has that divisor.
THINNED = ["--every", "13"]
# Of the tests of the device those that take little and leave nothing out: pools, copies, streams, tokens that cannot be stored, replays.
SHORT_DEVICE_CASES = ("gpu: memory of pools*", "gpu: bytes go there*", "gpu: sequences on streams*", "gpu: tokens that cannot*",
                      "gpu: replays of several*")


@dataclass
class Step:
    name: str
    command: list
    limit_s: int
    writes: str = ""  # the JSON that it leaves, in the folder of results
    missing: str = ""  # what to say where the program is not there


@dataclass
class Outcome:
    name: str
    command: str
    state: str  # passed, failed, timed out, not there, not run
    seconds: float
    tail: str


def tests_program(programs):
    return programs / "kvc_cuda_native_tests"


def device_tests_program(programs):
    return programs / "kvc_cuda_device_tests"


def bench_program(programs):
    return programs / "kvc_gpu_bench"


def sanitizer_steps(programs, quick):
    for tool in SANITIZER_TOOLS[:1] if quick else SANITIZER_TOOLS:
        sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
        # Records in device memory of exactly their size, and the tests, most of whose memory is the host's.
        yield Step(f"{tool}, small benchmark", [*sanitizer, bench_program(programs), "--tiny"], 45)
        yield Step(f"{tool}, thinned tests", [*sanitizer, tests_program(programs), *THINNED], 45)
        yield Step(f"{tool}, device tests", [*sanitizer, device_tests_program(programs), f"-tc={','.join(SHORT_DEVICE_CASES)}"], 45)


def peer_steps(root, peers, scratch, flags):
    """FlashInfer, whose ratios are goals, and the others as far as bench/gpu/build_peers has built them."""
    python = [sys.executable, root / "bench/gpu/flashinfer_decode.py"], [sys.executable, root / "bench/gpu/bitdecoding_decode.py"]
    yield Step("FlashInfer", [*python[0], *flags, "--json", scratch / "flashinfer.json"], 90, "flashinfer.json")
    yield Step("llama.cpp", [peers / "llama_decode", *flags, "--json", scratch / "llama.json"], 60, "llama.json",
               "llama.cpp was not built (bench/gpu/build_peers)")
    yield Step("BitDecoding", [*python[1], *flags, "--json", scratch / "bitdecoding.json"], 60, "bitdecoding.json")


def gpu_steps(root, programs, scratch, quick, peers=None):
    tests = [Step("kernel tests", [tests_program(programs)], 60), Step("device tests", [device_tests_program(programs)], 60)]
    timed = ["--quick"] if quick else []
    bench = Step("kvc", [bench_program(programs), *timed, "--json", scratch / "kvc.json"], 90, "kvc.json")
    # The tests first, because times of wrong kernels are none; the slow tools last.
    return [*tests, bench, *peer_steps(root, peers or programs, scratch, timed), *sanitizer_steps(programs, quick)]


def dry_steps(root, programs, scratch, peers=None):
    return [Step("kvc on the emulator", [programs / "kvc_gpu_bench_emulated", "--tiny", "--json", scratch / "kvc.json"], 300, "kvc.json"),
            *peer_steps(root, peers or programs, scratch, [])]


def run_step(step, log_folder, seconds_left):
    """Runs the command with its limit, or what is left of the run's; the whole output goes to a file, its end into the outcome."""
    limit_s = min(step.limit_s, seconds_left)
    if limit_s < 1:
        return Outcome(step.name, "", "not run: no time was left", 0.0, "")
    command = [str(part) for part in step.command]
    log = Path(log_folder) / (step.name.replace(", ", "-").replace(" ", "-") + ".log")
    began = time.monotonic()
    with open(log, "w") as out:
        try:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=limit_s)
            state = {0: "passed", NO_DEVICE: "not there"}.get(done.returncode, f"failed ({done.returncode})")
        except subprocess.TimeoutExpired:
            state = f"timed out after {limit_s:.0f} s"
        except OSError as error:
            out.write(f"{step.missing or error}\n")
            state = "not there"
    tail = log.read_text(errors="replace").splitlines()[-12:]
    return Outcome(step.name, " ".join(command), state, time.monotonic() - began, "\n".join(tail))


def is_fine(outcome):
    """Whether the run may call itself a success: peers may be missing, kvc's own tests and benchmarks may not."""
    return outcome["state"] == "passed" or (outcome["name"] in PEERS and outcome["state"] == "not there")


def install_wheels(folders, target):
    """Peers from wheels that came along, without the network; returns the path to import them from, or None."""
    wheels = sorted({str(w) for folder in folders if folder for w in Path(folder).glob("*.whl")})
    if not wheels:
        return None
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target",
                    str(target), *wheels], check=False, timeout=120)
    return target


def set_environment(site, scratch):
    if site:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        if (Path(site) / "flashinfer_jit_cache").is_dir():
            os.environ["FLASHINFER_DISABLE_JIT"] = "1"  # a variant that was not compiled beforehand fails at once, and is named
    os.environ.setdefault("FLASHINFER_WORKSPACE_BASE", str(scratch))


def machine_lines():
    """The card as it is: name, driver, clocks, temperature, who else uses it."""
    query = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"nvidia-smi: {error}"]
    return done.stdout.strip().splitlines() or [done.stderr.strip()]
