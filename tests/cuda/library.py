#!/usr/bin/env python3
"""What libkvc.so promises as a file: it shows kvc's functions alone, needs no CUDA library and is no larger than its limit. With the CUDA
backend it also loads without a driver, names its architectures, and its kernels compile in reasonable time.

    tests/cuda/library.py BUILD_FOLDER
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

# Megabytes for each architecture, and for all that is not kernels (docs/design/cuda.md, 3, has what they take).
LIMIT_PER_ARCHITECTURE = 5
LIMIT_OF_HOST_CODE = 4.5
# Minutes of processor time for each architecture that the kernels are compiled for.
COMPILE_MINUTES_PER_ARCHITECTURE = 20

KVC_CUDA = 2  # of kvc_device


class Error(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("status", ctypes.c_int32), ("message", ctypes.c_char * 240)]


def answer_about_devices(library):
    """How many CUDA devices there are, or why there is none."""
    loaded = ctypes.CDLL(os.path.abspath(library))
    loaded.kvc_device_count.restype = ctypes.c_int64
    error = Error(struct_size=ctypes.sizeof(Error))
    count = loaded.kvc_device_count(ctypes.c_int32(KVC_CUDA), ctypes.byref(error))
    return count, error.message.decode()


def driver_is_there():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def wrong_answers(library, archs):
    """Sentences about what it says of itself and of this machine that is not so."""
    loaded = ctypes.CDLL(os.path.abspath(library))
    loaded.kvc_build_info.restype = ctypes.c_char_p
    told = loaded.kvc_build_info().decode()
    print(f"built as: {told}")
    lacking = [name for name in archs if f" {name_of(name)}" not in told]
    if lacking or ", cuda " not in told:
        yield f"does not say that it has kernels for {', '.join(archs)}: {told!r}"
    count, reason = answer_about_devices(library)
    print(f"CUDA devices: {count if count > 0 else reason}")
    if count <= 0 and "no CUDA device: " not in reason:
        yield f"does not say why there is no device: {reason!r}"
    if not driver_is_there() and "no NVIDIA driver was found" not in reason:
        yield f"does not say that there is no driver: {reason!r}"


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def architectures(folder):
    with open(os.path.join(folder, "CMakeCache.txt"), encoding="utf-8") as cache:
        found = re.search(r"^KVC_CUDA_ARCHS:STRING=(.*)$", cache.read(), re.MULTILINE)
    return [name for name in found.group(1).split(";") if name] if found else []


def name_of(arch):
    """What kvc_build_info calls it: PTX alone has a name of its own."""
    number, _, kind = arch.partition("-")
    return f"compute_{number}" if kind == "virtual" else f"sm_{number}"


def codes_for(archs):
    """How often each kernel is in the library: as machine code, as PTX, or, where an architecture does not say which, as both."""
    return sum(1 if name.endswith(("-real", "-virtual")) else 2 for name in archs)


def compile_minutes(folder):
    """Minutes of processor time that the kernels' objects in a build took, as kernels/cuda/timed.py left them; None if one has none."""
    objects = list(Path(folder).rglob("kvc_cuda.dir/*.cu.o"))
    times = [Path(f"{path}.seconds") for path in objects]
    if not objects or not all(path.exists() for path in times):
        return None
    return sum(float(path.read_text(encoding="utf-8")) for path in times) / 60


def slow_compilation(folder, archs):
    """Sentences about kernels that take too long to compile."""
    minutes = compile_minutes(folder)
    if minutes is None:
        yield "has no record of how long its kernels took to compile"
        return
    limit = COMPILE_MINUTES_PER_ARCHITECTURE * codes_for(archs)
    print(f"kernels: compiled in {minutes:.1f} minutes of processor time; limit {limit}")
    if minutes > limit:
        yield f"has kernels that took {minutes:.1f} minutes to compile, the limit is {limit}"


def faults_of(library, archs):
    """Sentences about what is wrong."""
    shown = [line.split()[-1] for line in output_of("nm", "-D", "--defined-only", library).splitlines()]
    foreign = [name for name in shown if not name.startswith(("kvc_", "KVC_"))]
    if foreign:
        yield f"shows symbols that are not kvc's: {', '.join(foreign[:5])}"
    needed = re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-d", library))
    if any("cuda" in name or "stdc++" in name for name in needed):
        yield f"needs {', '.join(needed)}"
    size = os.path.getsize(library) / 1e6
    limit = LIMIT_OF_HOST_CODE + LIMIT_PER_ARCHITECTURE * codes_for(archs)
    print(f"libkvc.so: {size:.1f} MB with kernels for {len(archs)} architectures; limit {limit} MB")
    if size > limit:
        yield f"is {size:.1f} MB large, the limit is {limit} MB"


def main():
    folder = sys.argv[1]
    library = os.path.join(folder, "libkvc.so")
    archs = architectures(folder)
    faults = [*faults_of(library, archs)]
    if archs:
        faults += [*wrong_answers(library, archs), *slow_compilation(folder, archs)]
    for fault in faults:
        print(f"{library}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
