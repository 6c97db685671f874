"""Includes point one way: base -> codec -> backend -> store -> policy -> attend -> cache -> capi."""

import posixpath
import re

from tree import C_FAMILY, Violation, line_of

CORE_ORDER = ["base", "codec", "backend", "store", "policy", "attend", "cache"]
KERNELS_MAY_INCLUDE = ["base", "codec", "backend"]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', re.MULTILINE)


def layer_of(path):
    """"core/store/arena.h" -> "core/store"; "kernels/cpu/avx2.cpp" -> "kernels"."""
    parts = path.split("/")
    if parts[:2] == ["bench", "gpu"]:
        return "bench/gpu"
    return "/".join(parts[:2]) if parts[0] == "core" else parts[0]


def resolve(tree, path, included):
    """The file of this tree that an include names, or None for a system header."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), included))
    for candidate in (beside, posixpath.normpath(included)):
        if tree.exists(candidate):
            return candidate
    return None


def may_include(layer, other):
    if layer == other:
        return True
    if layer.startswith("core/"):
        above = CORE_ORDER.index(layer[5:]) if layer[5:] in CORE_ORDER else -1
        return other in [f"core/{name}" for name in CORE_ORDER[:above]]
    if layer == "kernels":
        return other in [f"core/{name}" for name in KERNELS_MAY_INCLUDE]
    if layer == "capi":
        return other == "kvc.h" or other.startswith("core/")
    if layer == "examples":
        return other == "kvc.h"
    # Tests may reach everything, and bench/gpu times kernels one by one; other programs and bindings stand on the header and the core,
    # never on a kernel.
    return layer in ("tests", "bench/gpu") or other != "kernels"


def check_include_order(tree):
    for path in tree.code(C_FAMILY):
        text = tree.text(path)
        for match in INCLUDE.finditer(text):
            target = resolve(tree, path, match.group(1))
            if target and not may_include(layer_of(path), layer_of(target)):
                yield Violation(path, line_of(text, match.start()),
                                f"{layer_of(path)} may not include {target}")


def check_core_names_no_device(tree):
    word = re.compile("cuda", re.IGNORECASE)
    for path in tree.paths:
        if path.startswith("core/"):
            for match in word.finditer(tree.text(path)):
                yield Violation(path, line_of(tree.text(path), match.start()), "core does not name a device's platform")


def check_core_folders(tree):
    for path in tree.code(C_FAMILY):
        if path.startswith("core/") and layer_of(path)[5:] not in CORE_ORDER:
            yield Violation(path, 1, f"core has the folders {', '.join(CORE_ORDER)} and no other")
