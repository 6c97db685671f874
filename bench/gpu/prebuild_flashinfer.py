"""Compiles what flashinfer_decode.py needs of FlashInfer and packs it as a wheel, so that nothing is compiled on the GPU machine:

    prebuild_flashinfer.py FOLDER_OF_WHEELS [NAME...]
    prebuild_flashinfer.py --here

Runs where FlashInfer, PyTorch (any, also for the CPU) and nvcc of CUDA 13.0 are; CUDA_HOME names the toolkit, whose lib64 must have
libcudart.so and stubs/libcuda.so. Set FLASHINFER_CUDA_ARCH_LIST=9.0a for H100 and H200. NAME: modules to add to those already built.
--here: makes no wheel, but compiles for the GPU that is there, into FlashInfer's own cache, all that is missing. bench/gpu/run does so before it
measures. Exits with 77 where there is no FlashInfer, GPU or nvcc.
"""

import base64
import hashlib
import os
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import programs  # noqa: E402

NO_DEVICE = 77
PACKAGE = "flashinfer_jit_cache"  # where FlashInfer looks before it compiles
INIT = '''from pathlib import Path

__version__ = "{}"


def get_jit_cache_dir():
    return str(Path(__file__).parent / "modules")
'''


def modules():
    import torch
    from flashinfer.jit.attention.modules import gen_batch_decode_module, gen_batch_prefill_module
    from flashinfer.jit.xqa import gen_xqa_module
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
    import flashinfer
    info = f"{PACKAGE}-{flashinfer.__version__}.dist-info"
    files = {f"{PACKAGE}/__init__.py": INIT.format(flashinfer.__version__).encode(),
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


def why_not_here():
    """Why nothing can be compiled here, or None. Names the toolkit to FlashInfer, which looks in fewer places."""
    try:
        import torch
        import flashinfer  # noqa: F401
    except ImportError as error:
        return f"no FlashInfer: {error}"
    if not torch.cuda.is_available():
        return "no GPU"
    nvcc = programs.find_nvcc(Path(__file__).resolve().parents[2])
    if not nvcc and "CUDA_HOME" not in os.environ:
        return "no nvcc, so FlashInfer measures what is compiled already (prebuild_flashinfer.py makes a wheel where there is one)"
    if nvcc:
        os.environ.setdefault("CUDA_HOME", str(nvcc.parents[1]))
    return None


def compile_here():
    """The exit status. A module that does not compile, or not for this GPU, is a variant less."""
    if os.environ.get("FLASHINFER_DISABLE_JIT"):
        print("a wheel came along: nothing to compile")
        return 0
    reason = why_not_here()
    if reason:
        print(reason, file=sys.stderr)
        return NO_DEVICE
    failed, there = 0, 0
    for name, spec in modules():
        began = time.monotonic()
        try:
            if not (getattr(spec, "is_aot", False) or spec.jit_library_path.exists()):
                spec.build(verbose=False)
            there += 1
            print(f"has {name}, after {time.monotonic() - began:.0f} s", flush=True)
        except Exception as failure:  # noqa: BLE001 - the others go on
            failed += 1
            print(f"does not compile: {name}: {type(failure).__name__}: {str(failure)[:200]}", flush=True)
    return 0 if there or not failed else 1


def main():
    if sys.argv[1:] == ["--here"]:
        sys.exit(compile_here())
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
