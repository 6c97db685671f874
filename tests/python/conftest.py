"""Lets the tests import kvc-eval and the binding from the clone, without installing them."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "bindings" / "python")]
# Before numpy is imported anywhere: its matrix products and the cache's workers share the same cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # idle ones sleep at once
