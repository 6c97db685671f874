"""Where bench/gpu/run takes its programs from: from the folder that came along, or built here, if nvcc is here."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import steps

# The native suites of the kernels, of the device and its executor, and of caches through kvc.h, and the benchmark; bench/gpu/pack has the same
# list.
PROGRAMS = ("kvc_cuda_native_tests", "kvc_cuda_device_tests", "kvc_cuda_native_scripts_tests", "kvc_cuda_native_laws_tests", "kvc_gpu_bench")
# Over the emulator, for dry runs; likewise in bench/gpu/pack.
EMULATED = ("kvc_gpu_bench_emulated", "kvc_cuda_scripts_tests", "kvc_cuda_laws_tests")
TOOLKITS = ["/usr/local/cuda/bin"]


def find_nvcc(root):
    """As cmake/cuda.cmake does, which looks for itself; None if it will find none."""
    places = [os.environ.get("CUDACXX"), shutil.which("nvcc"), Path(os.environ["CUDA_PATH"]) / "bin/nvcc" if "CUDA_PATH" in os.environ else None,
              *[Path(folder) / "nvcc" for folder in TOOLKITS], *root.glob(".venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc")]
    return next((Path(place) for place in places if place and Path(place).exists()), None)


def card_architecture():
    """90a-real, say; None where nobody tells."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"\s*(\d+)\.(\d)", done.stdout)
    return f"{found[1]}{found[2]}{'a' if found[1] == '9' else ''}-real" if found else None


def architectures(build):
    """What KVC_CUDA_ARCHS asks for, what was built before if the card is among it, or the card's alone; None: the preset's."""
    cache = build / "CMakeCache.txt"
    before = re.search(r"^KVC_CUDA_ARCHS:STRING=(.+)$", cache.read_text(), re.MULTILINE) if cache.exists() else None
    card = card_architecture()
    if "KVC_CUDA_ARCHS" in os.environ:
        return os.environ["KVC_CUDA_ARCHS"]
    return before[1] if before and (card is None or card in before[1].split(";")) else card


def run(command, root):
    """Shows what the command says; ends the run if it fails."""
    said = []
    try:
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
    except OSError as error:
        sys.exit(f"bench/gpu/run: {error}; --packed takes programs that were built elsewhere (bench/gpu/pack)")
    if process.returncode != 0:
        sys.exit(f"bench/gpu/run: the programs were not built: {''.join(said[-3:])}")


def build_programs(root, build):
    archs = architectures(build)
    began = time.monotonic()
    run(["cmake", "--preset", "cuda", *([f"-DKVC_CUDA_ARCHS={archs}"] if archs else [])], root)
    run(["cmake", "--build", "--preset", "cuda", f"-j{os.cpu_count()}", "--target", *PROGRAMS], root)
    return steps.Outcome("build", f"cmake --preset cuda, for {archs or 'its architectures'}", "passed", time.monotonic() - began, "")


def find_or_build(root, packed):
    """The folder of the programs, and the outcome of building them, or None if they are taken as they are."""
    if packed:
        return packed, None
    build = root / "build/cuda"
    if find_nvcc(root):
        return build / "programs", build_programs(root, build)
    if (build / "programs").is_dir():
        return build / "programs", None
    return sys.exit("bench/gpu/run: there is neither nvcc here nor build/cuda/programs: build them elsewhere (bench/gpu/pack), and run with --packed")


def find_emulated(root, packed):
    """program -> its path, of the programs that a dry run takes."""
    found = {name: (packed or root / "build/release/programs") / name for name in EMULATED}
    missing = [str(path) for path in found.values() if not path.exists()]
    if missing:
        sys.exit(f"bench/gpu/run: {', '.join(missing)} is not there: {'bench/gpu/pack puts it there' if packed else 'make builds it'}")
    return found
