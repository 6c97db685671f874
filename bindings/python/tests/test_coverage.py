"""The binding covers the whole of kvc.h, says so truly, and reaches the library in one way only."""
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
    return "\n".join(path.read_text() for path in (clone / "bindings" / "python" / "src").iterdir())


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


def test_no_other_way_leads_to_the_library(sources, layer):
    """ctypes loads the library and calls nothing of it; in C++ all that can wait goes through call and make, which give up the GIL, or
    gives it up where it stands: append_attend, and a step that is dropped."""
    assert re.findall(r"(?<![.\w])ctypes\.\w+", layer) == ["ctypes.CDLL", "ctypes.RTLD_GLOBAL"]
    code = re.sub(r"//.*", "", sources)
    waiting = {"kvc_append", "kvc_attend", "kvc_step_abort"}
    assert set(re.findall(r"\b(kvc_\w+)\(", code)) == {"kvc_abi_describe", "kvc_abi_mismatch", "kvc_status_name"} | waiting
    for function in waiting:
        assert len(re.findall(rf"gil_scoped_release others_may_run;[^}}]*?\b{function}\(", code)) == 1


def test_generated_files_are_current(clone):
    result = subprocess.run([sys.executable, str(clone / "bindings" / "python" / "structs_generator.py"), "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
