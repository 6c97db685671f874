"""Steps that are captured in a CUDA graph of the caller's and replayed: see Graphs in kvc.h."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, SupportsIndex

from .errors import KvcError
from .library import raw
from .owner import Owner

if TYPE_CHECKING:
    from .cache import Cache


class Graph(Owner):
    """Room for the launches of a step; give it to Cache.step as graph. Close it, use it in a with statement, or drop it; it ends
    with its cache, too."""

    def __init__(self, cache: Cache, counts: Iterable[SupportsIndex], max_tokens: int, attends: int, slots: int):
        self._owned = False
        self._cache = cache  # must not be dropped before it
        self._handle = raw.graph_create(cache._handle, counts, max_tokens, attends, slots)
        self._owned = True

    def close(self) -> None:
        """What was launched goes on. May be called twice; kvc.BusyError while a step names the graph."""
        if self._owned and self._cache._handle:
            raw.graph_destroy(self._handle)
        self._owned = False  # the handle stays: the library knows that it is stale, where 0 would be no graph

    def __index__(self) -> int:
        return self._handle

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        try:
            self.close()
        except KvcError:
            pass  # it ended before, or the collector took it before the step that names it: then it ends with its cache
