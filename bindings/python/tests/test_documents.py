"""What the README and the examples say is true."""
import re
from pathlib import Path

import pytest

# What each example prints, the same in every language.
PRINTED = {file.stem: file.read_text() for file in sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.txt"))}


@pytest.mark.parametrize("name", PRINTED)
def test_examples_print_the_same_as_in_other_languages(name, run_python):
    result = run_python(f"bindings/python/examples/{name}.py")
    assert (result.stdout, result.stderr) == (PRINTED[name], "")


def test_there_is_no_other_example(clone):
    assert {path.stem for path in (clone / "bindings" / "python" / "examples").glob("*.py")} == {*PRINTED, "inputs"}


def has_device() -> bool:
    import kvc
    try:
        return len(kvc.default_library().devices(kvc.Device.CUDA)) > 0
    except kvc.UnsupportedError:
        return False


def test_the_snippets_of_the_readme_run_as_printed(clone, run_python):
    text = (clone / "bindings" / "python" / "README.md").read_text()
    assert not re.search(r"^    (?!\w+=\S+ pip )", re.sub(r"```.*?```", "", text, flags=re.S), re.M), "a snippet that is not run"
    first, memory, graphs = re.findall(r"```python\n(.*?)```", text, re.S)
    assert run_python("-c", first).stdout == "1 (1, 4, 64)\n"
    there_is_a_device = has_device()  # as under make test-devices
    assert run_python("-c", memory).stdout == ("1 token on CUDA\n" if there_is_a_device else "1 token on CPU\n")
    # On a device there is room for a graph; elsewhere the refusal is the one that the snippet's comment promises.
    refusal = re.search(r"# (graph_create: .*)", graphs)[1]
    assert run_python("-c", graphs).stdout.strip() == ("room for one token of one sequence of up to 4096" if there_is_a_device else refusal)


def test_the_package_names_what_it_offers():
    import kvc
    assert all(hasattr(kvc, name) for name in kvc.__all__)
    assert {name for name, thing in vars(kvc.errors).items() if isinstance(thing, type)} <= set(kvc.__all__)
