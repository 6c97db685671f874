"""The cases of spied_cases.py and spied_again.py, under spy.c."""
import pytest


@pytest.mark.parametrize("cases", ["spied_cases", "spied_again"])
def test_what_reaches_the_library(spy, run_python, cases):
    result = run_python(f"bindings/python/tests/{cases}.py", preload=spy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout and "skipped" not in result.stdout
