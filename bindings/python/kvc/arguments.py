"""Arguments of a wrong type, where the compiled part does not see them: the error names the argument."""
from __future__ import annotations

import operator
from typing import Any, NoReturn


def refuse_type(name: str, wanted: str, given: Any) -> NoReturn:
    raise TypeError(f"{name} must be {wanted}, not {type(given).__name__}") from None


def whole(name: str, given: Any, wanted: str = "an integer") -> int:
    """Any integer of Python or NumPy, or an object that stands for one."""
    try:
        return operator.index(given)
    except TypeError:
        refuse_type(name, wanted, given)


def listed(name: str, given: Any) -> list:
    """A list of its own."""
    try:
        return list(given)
    except TypeError:
        refuse_type(name, "a list", given)
