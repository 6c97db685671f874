"""Byte counts that come from callers' numbers are products of Size (core/base/size.h), which remembers an overflow.

The rule reads statements: one that sets a name ending in "bytes" to a product has to mention Size. Offsets inside a
block that was allocated already (pointer + index * record_bytes) set no such name and are free; so is doubling.
"""

import re

from tree import C_FAMILY, Violation, line_of, without_comments_and_strings

FOLDERS = ("core/store/", "core/cache/", "core/attend/", "capi/")
SETS_BYTES = re.compile(r"(?:[\w:<>&]+[ \t]+)?\b\w*bytes\s*[-+*]?=(?!=)[^;{}]*")
PRODUCT = re.compile(r"[\w)\]]\s*\*\s*[\w(]|\*=(?!\s*2\b)")


def check_size_arithmetic(tree):
    for path in tree.code(C_FAMILY):
        if not path.startswith(FOLDERS):
            continue
        text = without_comments_and_strings(tree.text(path))
        for match in SETS_BYTES.finditer(text):
            if PRODUCT.search(match.group()) and not re.search(r"\bSize\b", match.group()):
                yield Violation(path, line_of(text, match.start()), "a byte count is a product: compute it with Size")
