"""Compiles what flashinfer_decode.py needs of FlashInfer and packs it as a wheel, so that nothing is compiled on the GPU machine:

    prebuild_flashinfer.py FOLDER_OF_WHEELS [NAME...]

Runs where FlashInfer, PyTorch (any, also for the CPU) and nvcc of CUDA 13.0 are; CUDA_HOME names the toolkit, whose lib64 must have
libcudart.so and stubs/libcuda.so. Set FLASHINFER_CUDA_ARCH_LIST=9.0a for H100 and H200. NAME: modules to add to those already built.
"""

import base64
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import torch

import flashinfer
from flashinfer.jit.attention.modules import gen_batch_decode_module, gen_batch_prefill_module
from flashinfer.jit.xqa import gen_xqa_module

PACKAGE = "flashinfer_jit_cache"  # where FlashInfer looks before it compiles
INIT = f'''from pathlib import Path

__version__ = "{flashinfer.__version__}"


def get_jit_cache_dir():
    return str(Path(__file__).parent / "modules")
'''


def modules():
    f16, f8, index = torch.float16, torch.float8_e4m3fn, torch.int32
    for dim in (128, 64):
        for name, kv in (("fp16", f16), ("fp8", f8)):
            yield f"decode-{name}-{dim}", gen_batch_decode_module(f16, kv, f16, index, dim, dim, 0, False, False)
            yield f"fa2-{name}-{dim}", gen_batch_prefill_module("fa2", f16, kv, f16, index, dim, dim, 0, False, False, False)
    yield "fa3-fp16-128", gen_batch_prefill_module("fa3", f16, f16, f16, index, 128, 128, 0, False, False, False)
    for name, kv in (("fp16", f16), ("fp8", f8)):
        yield f"xqa-{name}-128", gen_xqa_module(f16, kv, 64, 128, 4, False, f16)


def record_line(name, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def write_wheel(folder, libraries):
    info = f"{PACKAGE}-{flashinfer.__version__}.dist-info"
    files = {f"{PACKAGE}/__init__.py": INIT.encode(),
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {flashinfer.__version__}\n".encode(),
             f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: prebuild_flashinfer\nRoot-Is-Purelib: false\nTag: py3-none-linux_x86_64\n"}
    for library in libraries:
        files[f"{PACKAGE}/modules/{library.stem}/{library.name}"] = library.read_bytes()
    lines = [record_line(name, content) for name, content in files.items()] + [f"{info}/RECORD,,"]
    files[f"{info}/RECORD"] = ("\n".join(lines) + "\n").encode()
    path = Path(folder) / f"{PACKAGE}-{flashinfer.__version__}-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def main():
    if len(sys.argv) < 2 or os.environ.get("FLASHINFER_CUDA_ARCH_LIST") is None:
        sys.exit(__doc__)
    folder, names = sys.argv[1], set(sys.argv[2:])
    libraries = []
    for name, spec in modules():
        if name in names or (not names and not spec.jit_library_path.exists()):
            print(f"compiling {name}", flush=True)
            spec.build(verbose=False)
        if spec.jit_library_path.exists():
            libraries.append(spec.jit_library_path)
            print(f"has {name}")
    path = write_wheel(folder, libraries)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {len(libraries)} modules")


if __name__ == "__main__":
    main()
