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


def test_the_snippets_of_the_readme_run_as_printed(clone, run_python):
    text = (clone / "bindings" / "python" / "README.md").read_text()
    assert not re.search(r"^    (?!\w+=\S+ pip )", re.sub(r"```.*?```", "", text, flags=re.S), re.M), "a snippet that is not run"
    first, memory, graphs = re.findall(r"```python\n(.*?)```", text, re.S)
    assert run_python("-c", first).stdout == "1 (1, 4, 64)\n"
    assert run_python("-c", memory).stdout in ("1 token on CPU\n", "1 token on CUDA\n")
    # On a device there is room for a graph; elsewhere the refusal is the one that the snippet's comment promises.
    refusal = re.search(r"# (graph_create: .*)", graphs)[1]
    assert run_python("-c", graphs).stdout.strip() in ("room for one token of one sequence of up to 4096", refusal)


def test_the_package_names_what_it_offers():
    import kvc
    assert all(hasattr(kvc, name) for name in kvc.__all__)
    assert {name for name, thing in vars(kvc.errors).items() if isinstance(thing, type)} <= set(kvc.__all__)
