"""Lets the tests import the package and the replayer from the clone, without installing them."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parent
CLONE = PYTHON.parents[1]
sys.path.insert(0, str(PYTHON))


@pytest.fixture(scope="session")
def clone() -> Path:
    return CLONE


@pytest.fixture(scope="session")
def spy(tmp_path_factory) -> Path:
    """A library that is loaded before libkvc and sees the calls: spy.c."""
    prefix = CLONE / "build" / "bindings" / "prefix"
    library = tmp_path_factory.mktemp("spy") / "spy.so"
    source = PYTHON / "tests" / "spy.c"
    subprocess.run(["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{prefix}/include", str(source),
                    "-o", str(library), f"-L{prefix}/lib", "-Wl,--no-as-needed", "-lkvc", "-ldl", "-pthread"], check=True)
    return library


@pytest.fixture
def run_python():
    """Runs another Python with this clone's binding; returns what it printed, or its error."""
    def run(*arguments: str, preload: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
        library = CLONE / "build" / "bindings" / "prefix" / "lib"
        settings = {**os.environ, "PYTHONPATH": str(PYTHON), "LD_LIBRARY_PATH": str(library), "KVC_LIBRARY": "libkvc.so.1"}
        settings |= {"LD_PRELOAD": str(preload)} if preload else {}
        return subprocess.run([sys.executable, *arguments], env={**settings, **environment}, capture_output=True, text=True, cwd=CLONE)
    return run
