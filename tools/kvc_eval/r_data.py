"""Reads character vectors out of an R package's lazy-load data base (Rdata.rdx and Rdata.rdb).

The format is R's own serialization, XDR flavour: R Internals, section "Serialization Formats". Only what such
a data base holds is understood: lists, integer, logical and character vectors, attributes, references.
"""
import gzip
import struct
import zlib
from pathlib import Path

SYMBOL, PAIRLIST, CHARACTERS, LOGICAL, INTEGER, STRINGS, LIST = 1, 2, 9, 10, 13, 16, 19
NIL, REFERENCE = 254, 255
HAS_ATTRIBUTES, HAS_TAG = 1 << 9, 1 << 10


class NamedList(list):
    """A list or vector of R with its names attribute."""
    names: list[str] = []

    def __getitem__(self, key):
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


def read_strings(folder: Path, name: str) -> list[str]:
    """The character vector `name` of the data base in `folder`."""
    index = _Reader(gzip.decompress((folder / "Rdata.rdx").read_bytes())).read()
    if name not in index["variables"].names:
        raise KeyError(f"{folder}: no data set {name}; there are {', '.join(index['variables'].names)}")
    offset, size = index["variables"][name]
    entry = (folder / "Rdata.rdb").read_bytes()[offset:offset + size]
    # Four bytes of uncompressed length, big-endian, precede the zlib stream.
    return list(_Reader(zlib.decompress(entry[4:])).read())


class _Reader:
    def __init__(self, data: bytes):
        self._data, self._at, self._references = data, 0, []
        if data[:2] != b"X\n":
            raise ValueError("not R's XDR serialization")
        self._at = 2
        version, _, _ = self._integers(3)
        if version == 3:
            self._take(self._integers(1)[0])  # the name of the native encoding

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("R data ends early")
        self._at += count
        return self._data[self._at - count:self._at]

    def _integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self._take(4 * count))

    def read(self):
        flags = self._integers(1)[0]
        kind = flags & 0xFF
        if kind == NIL:
            return None
        if kind == REFERENCE:
            return self._references[(flags >> 8) - 1]
        if kind == SYMBOL:
            self._references.append(self.read())
            return self._references[-1]
        if kind == CHARACTERS:
            length = self._integers(1)[0]
            return None if length < 0 else self._take(length).decode("utf-8")
        if kind == PAIRLIST:
            return self._pairs(flags)
        return self._vector(flags)

    def _pairs(self, flags: int) -> dict:
        pairs = {}
        while True:
            if flags & HAS_ATTRIBUTES:
                self.read()
            tag = self.read() if flags & HAS_TAG else None
            pairs[tag] = self.read()
            flags = self._integers(1)[0]
            if flags & 0xFF == NIL:
                return pairs
            if flags & 0xFF != PAIRLIST:
                raise ValueError("R data: a pair list that does not end in nil")

    def _vector(self, flags: int) -> NamedList:
        kind, length = flags & 0xFF, self._integers(1)[0]
        if kind in (INTEGER, LOGICAL):
            values = NamedList(self._integers(length))
        elif kind in (STRINGS, LIST):
            values = NamedList(self.read() for _ in range(length))
        else:
            raise ValueError(f"R data of type {kind} is not understood")
        if flags & HAS_ATTRIBUTES:
            values.names = list(self.read().get("names") or [])
        return values
