"""The binding covers the whole of kvc.h, says so truly, and reaches the library in one way only."""
import ast
import re
import subprocess
import sys

import kvc
import pytest
from kvc.library import raw

# Called for every struct that Python fills in, by structs.h's options().
NOT_OF_THEIR_OWN = re.compile(r"kvc_\w+_init")


def functions(header: str) -> set[str]:
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    return set(re.findall(r"KVC_API[^;]*?\b(kvc_\w+)\s*\(", code))


@pytest.fixture(scope="module")
def header(clone) -> str:
    return (clone / "kvc.h").read_text()


@pytest.fixture(scope="module")
def sources(clone) -> str:
    return "\n".join(path.read_text() for path in (clone / "bindings" / "python" / "src").rglob("*.*"))


@pytest.fixture(scope="module")
def layer(clone) -> str:
    return "\n".join(path.read_text() for path in (clone / "bindings" / "python" / "kvc").glob("*.py"))


def test_every_function_is_called_and_offered(header, sources, layer):
    wanted = functions(header)
    assert len(wanted) > 60
    assert not {name for name in wanted if not re.search(rf"\b{name}\b", sources)}, "not called by the compiled part"
    in_step = {"append", "attend", "step_begin", "step_commit", "step_abort"}  # methods of the compiled Step
    names = {name.removeprefix("kvc_") for name in wanted if not NOT_OF_THEIR_OWN.fullmatch(name)} - in_step
    assert not {name for name in names if not re.search(rf"\braw\.{name}\b", layer)}, "not offered by the package"
    for method in ("append", "attend_into", "commit", "abort", "attend"):
        assert hasattr(kvc.Step, method)


def test_every_struct_and_field_can_be_said_or_read():
    described = {}
    for line in kvc.default_library().abi_description().splitlines():
        parts = [part.split() for part in line.split(";")]
        if parts[0][0] == "struct":
            described[parts[0][1]] = {part[1] for part in parts[1:]} - {"struct_size", "reserved"}
    described.pop("kvc_error")  # becomes an exception
    assert len(described) > 15
    for name, fields in described.items():
        public = getattr(kvc.structs, "".join(word.capitalize() for word in name.split("_")[1:]))
        assert set(public.__annotations__) == fields == set(raw.structs()[name]), name


def test_every_enumerator_has_its_name():
    described = re.findall(r"^enum (\w+) (\w+) (\S+)$", kvc.default_library().abi_description(), re.M)
    for enum, name, value in described:
        if not name.endswith("_MAX_"):
            kind = getattr(kvc, "".join(word.capitalize() for word in enum.split("_")[1:]))
            assert kind[name.removeprefix("KVC_")] == int(value, 0)


def test_no_other_way_leads_from_cpp_to_the_library(sources):
    """In C++ all that can wait goes through call and make, which give up the GIL, or gives it up where it stands: append_attend, and a step
    that is dropped. Functions are those that the linker finds."""
    code = re.sub(r"//.*", "", sources)
    assert not re.findall(r"\b(?:dlopen|dlsym|dlvsym|asm|__asm__|PyImport_\w+|extern\b)", code)
    waiting = {"kvc_append", "kvc_attend", "kvc_step_abort"}
    assert set(re.findall(r"\b(kvc_\w+)\(", code)) == {"kvc_abi_describe", "kvc_abi_mismatch", "kvc_status_name"} | waiting
    for function in waiting:
        assert len(re.findall(rf"gil_scoped_release others_may_run;[^}}]*?\b{function}\(", code)) == 1


NATIVE = {"ctypes", "_ctypes", "ctypeslib", "cffi", "_cffi_backend", "importlib", "_imp", "imp", "pyximport"}
BY_NAME = {"__import__", "import_module", "eval", "exec", "modules"}  # what could lead to one of them


def ways_out(source: str) -> list[str]:
    """What of a Python file could call a native library, but for `import ctypes`, `ctypes.CDLL(...)` whose library nobody keeps, and the
    address of an array, `array.ctypes.data`."""
    tree, found, harmless = ast.parse(source), [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "ctypes.CDLL":
            harmless |= {node.value.func, node.value.func.value}
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "ctypes.RTLD_GLOBAL":
            harmless |= {node, node.value}
        elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.value, ast.Attribute) and node.value.attr == "ctypes":
            harmless |= {node.value}
        elif isinstance(node, ast.Import) and [(name.name, name.asname) for name in node.names] == [("ctypes", None)]:
            harmless |= set(node.names)
    for node in ast.walk(tree):
        if node in harmless:
            continue
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(name.name for name in node.names)]
        elif isinstance(node, ast.alias):
            names = node.name.split(".")
        else:
            names = [getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)]
        found += [ast.unparse(node) for name in names if isinstance(name, str) and name in NATIVE | BY_NAME]
    return found


@pytest.mark.parametrize("way", [
    "import ctypes as c", "import os, ctypes as c", "from ctypes import CDLL", "from ctypes import CDLL as open_it", "import ctypes.util", "import _ctypes",
    "c = ctypes", "getattr(ctypes, 'CDLL')", "lib = ctypes.CDLL('libkvc.so.1')", "ctypes.CDLL('libkvc.so.1').kvc_version()", "ctypes.cdll.LoadLibrary('libkvc.so.1')",
    "ctypes.pythonapi", "from .library import ctypes", "from kvc.library import ctypes as c", "library.ctypes.CDLL('libkvc.so.1').kvc_version()",
    "__import__('ctypes')", "name = '_ctypes'", "import importlib", "from importlib import import_module", "sys.modules['ctypes']",
    "np.ctypeslib.load_library('libkvc', '.')", "from numpy import ctypeslib", "from cffi import FFI", "import cffi", "exec('import c' + 'types')",
])
def test_the_ways_out_are_seen(way):
    assert ways_out(way)


def test_no_other_way_leads_from_python_to_the_library(clone):
    """ctypes loads the library and calls nothing of it."""
    home = clone / "bindings" / "python"
    files = [path for part in ("kvc", "replay", "proof", "examples") for path in (home / part).rglob("*.py*") if path.suffix in (".py", ".pyi", ".pyx", ".pyw")]
    assert {path.parent.name for path in files} == {"kvc", "replay", "proof", "examples"}
    assert {path.name: found for path in files if (found := ways_out(path.read_text()))} == {}
    assert ways_out("import ctypes\nctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)\narray.ctypes.data") == []
    assert [path.name for path in files if re.search(r"^\s*import ctypes$", path.read_text(), re.M)] == ["library.py"]
    native = [path.name for path in (home / "kvc").rglob("*") if path.suffix in (".so", ".c", ".cpp", ".pyx") and "__pycache__" not in path.parts]
    assert native == []


def test_generated_files_are_current(clone):
    result = subprocess.run([sys.executable, str(clone / "bindings" / "python" / "structs_generator.py"), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
