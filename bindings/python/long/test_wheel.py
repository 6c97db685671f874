"""The wheel is built with the pinned tools, holds its library, and works in an environment of its own."""
import os
import subprocess
import sys


def test_a_wheel_works_without_the_clone(clone, tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(clone / "bindings" / "python")], check=True,
                   env={**os.environ, "CMAKE_PREFIX_PATH": str(clone / "build" / "bindings" / "prefix")})
    [wheel] = tmp_path.glob("kvc-0.1.0-cp*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    text = (clone / "bindings" / "python" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0] + "print(kvc.default_library().path)"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("KVC_")} | {"PYTHONPATH": str(tmp_path / "site")}
    printed = subprocess.run([sys.executable, "-c", code], env=settings, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ["1 (1, 4, 64)", str(tmp_path / "site" / "kvc" / "libkvc.so.1")]
    names = {path.name for path in (tmp_path / "site" / "kvc").iterdir()}
    assert {"py.typed", "_kvc.pyi", "structs.py"} <= names
