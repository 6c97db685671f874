"""The cases of spied_cases.py, under spy.c."""


def test_what_reaches_the_library(spy, run_python):
    result = run_python("bindings/python/tests/spied_cases.py", preload=spy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout and "skipped" not in result.stdout
