"""What the README and the examples say is true."""
import re

import pytest

# The same in every language.
PRINTED = {
    "append_attend": "tokens 208\nsha256 292257f28576be148ea5e9e3ec117c9866619255a59fc1c61939cfc77e64792a\nrecord_bytes 219136\n",
    "budget_evict": "layer 0 live 256\nlayer 1 live 256\nevicted 1024\n",
    "prefix_fork": "hit 200\noriginal 200 fork 210\n",
    "snapshot": "bytes 219603\nrestored 200\nsha256 b4ae10e4f005eadf78489626b0726f209576bd7b975d7c6fd3065494d9de4416\n",
}


@pytest.mark.parametrize("name", PRINTED)
def test_examples_print_the_same_as_in_other_languages(name, run_python):
    result = run_python(f"bindings/python/examples/{name}.py")
    assert (result.stdout, result.stderr) == (PRINTED[name], "")


def test_there_is_no_other_example(clone):
    assert {path.stem for path in (clone / "bindings" / "python" / "examples").glob("*.py")} == {*PRINTED, "inputs"}


def test_the_snippet_of_the_readme_runs_as_printed(clone, run_python):
    text = (clone / "bindings" / "python" / "README.md").read_text()
    [snippet] = re.findall(r"```python\n(.*?)```", text, re.S)
    assert run_python("-c", snippet).stdout == "1 (1, 4, 64)\n"


def test_the_package_names_what_it_offers():
    import kvc
    assert all(hasattr(kvc, name) for name in kvc.__all__)
    assert {name for name, thing in vars(kvc.errors).items() if isinstance(thing, type)} <= set(kvc.__all__)
