"""Objects that end what they stand for: there is one for each."""
from typing import Any, NoReturn


def refuse_copy(self: Any, *_: Any) -> NoReturn:
    """A copy would end the thing a second time, or the original would find it gone."""
    raise TypeError(f"a kvc.{type(self).__name__} cannot be copied or pickled: there is one object for what it ends; "
                    "Cache.fork copies a sequence, and Cache.export makes bytes of some")


class Owner:
    """Cannot be copied or pickled."""
    __slots__ = ()
    __copy__ = __deepcopy__ = __reduce__ = refuse_copy
