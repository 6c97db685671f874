"""The library's structs and enums as it describes them itself (kvc_abi_describe).

No layout is written by hand here: a field is found by its name, at the offset that the loaded library names.
"""
import ctypes
import re

from .errors import LibraryError

_SCALARS = {
    "i8": ctypes.c_int8, "u8": ctypes.c_uint8, "i32": ctypes.c_int32, "u32": ctypes.c_uint32, "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64, "f32": ctypes.c_float, "f64": ctypes.c_double, "ptr": ctypes.c_void_p, "fn": ctypes.c_void_p,
}


class Abi:
    def __init__(self, description: str):
        self.structs: dict[str, type[ctypes.Structure]] = {}
        self.enums: dict[str, dict[str, int]] = {}
        for line in description.splitlines():
            parts = [part.split() for part in line.split(";") if part.strip()]
            if not parts:
                continue
            if parts[0][0] == "struct":
                self._add_struct(parts)
            elif parts[0][0] == "enum":
                self._add_enum(parts)
            else:
                raise LibraryError(f"kvc_abi_describe: a line of unknown kind: {line}")

    def new(self, struct: str) -> ctypes.Structure:
        """A zeroed struct with its struct_size set."""
        value = self.structs[struct]()
        value.struct_size = ctypes.sizeof(value)
        return value

    def value(self, enum: str, name: str) -> int:
        return self.enums[enum][name]

    def _add_enum(self, parts: list[list[str]]) -> None:
        _, enum, name, number = parts[0]
        self.enums.setdefault(enum, {})[name] = int(number, 0)

    def _add_struct(self, parts: list[list[str]]) -> None:
        _, name, size = parts[0]
        fields, at = [], 0
        for _, field, offset, length, kind in sorted(parts[1:], key=lambda part: int(part[2])):
            if int(offset) > at:
                fields.append((f"_padding_{at}", ctypes.c_uint8 * (int(offset) - at)))
            fields.append((field, _field_type(kind, int(length), f"{name}.{field}")))
            at = int(offset) + int(length)
        if int(size) > at:
            fields.append((f"_padding_{at}", ctypes.c_uint8 * (int(size) - at)))
        kind = type(name, (ctypes.Structure,), {"_fields_": fields})
        misplaced = [part[1] for part in parts[1:] if getattr(kind, part[1]).offset != int(part[2])]
        if misplaced or ctypes.sizeof(kind) != int(size):
            raise LibraryError(f"{name}: ctypes cannot lay out {misplaced or 'its size'} as the library does")
        self.structs[name] = kind


def _field_type(kind: str, length: int, where: str):
    text = re.fullmatch(r"(char|u8)\[(\d+)\]", kind)
    if text or kind == "char":
        return ctypes.c_char * length
    if kind not in _SCALARS:
        raise LibraryError(f"kvc_abi_describe: {where} has the unknown type {kind}")
    if ctypes.sizeof(_SCALARS[kind]) != length:
        raise LibraryError(f"kvc_abi_describe: {where} is a {kind} of {length} bytes")
    return _SCALARS[kind]
