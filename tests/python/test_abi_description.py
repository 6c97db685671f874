"""The binding lays structs out as a library describes itself; a description that it cannot follow is refused."""
import ctypes

import pytest
from kvc.abi import Abi
from kvc.errors import LibraryError


def test_fields_lie_where_the_library_says():
    abi = Abi("struct s 32 ; field struct_size 0 4 u32 ; field far 16 8 i64 ; field near 4 4 f32 ; field name 24 8 char")
    kind = abi.structs["s"]
    assert ctypes.sizeof(kind) == 32
    assert [getattr(kind, name).offset for name in ("struct_size", "near", "far", "name")] == [0, 4, 16, 24]
    assert abi.new("s").struct_size == 32


def test_enum_values_are_read():
    abi = Abi("enum kvc_part KVC_KEYS 1\nenum kvc_part KVC_VALUES 2\nenum kvc_part KVC_PART_MAX_ 0x7fffffff")
    assert abi.enums == {"kvc_part": {"KVC_KEYS": 1, "KVC_VALUES": 2, "KVC_PART_MAX_": 0x7FFFFFFF}}


@pytest.mark.parametrize("description", [
    "struct s 8 ; field a 0 4 complex",    # a type that nobody knows
    "struct s 8 ; field a 0 8 i32",        # a length that is not the type's
    "struct s 12 ; field a 0 8 i64",       # a size that ctypes cannot give
    "struct s 12 ; field a 0 4 i32 ; field b 4 8 i64",  # an offset that ctypes cannot give
    "union u 8",
])
def test_strange_descriptions_are_refused(description):
    with pytest.raises(LibraryError):
        Abi(description)
