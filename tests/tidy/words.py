"""Names and marks that have no place in the tree."""

import re
from pathlib import PurePosixPath

from tree import Violation, line_of

BANNED_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "misc"}
# Written in halves, so that this file passes its own rule.
BANNED_MARKS = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"]) + r")\b")
MACHINE_PATHS = re.compile(r"(?<![\w.$})/-])/(?:home|root|work|Users)/[\w.]")
TOP_LEVEL = {
    "core", "kernels", "capi", "bindings", "tests", "examples", "tools", "bench", "docs", "cmake", ".ci",
    "kvc.h", "CMakeLists.txt", "CMakePresets.json", "Makefile", "kvc-eval",
    "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
    ".gitignore", ".gitattributes", ".clang-format", ".clang-tidy", ".editorconfig",
}


def check_file_names(tree):
    for path in tree.paths:
        for part in PurePosixPath(path).parts:
            words = set(re.split(r"[^a-z]+", part.split(".")[0].lower()))
            if words & BANNED_NAMES:
                yield Violation(path, 1, f"'{part}' says nothing of what it holds")
                break


def check_marks(tree):
    for path in tree.paths:
        if tree.is_generated(path):
            continue
        text = tree.text(path)
        for match in BANNED_MARKS.finditer(text):
            yield Violation(path, line_of(text, match.start()), f"{match.group()}: finish it, or describe it as an issue")


def check_machine_paths(tree):
    for path in tree.paths:
        text = tree.text(path)
        for match in MACHINE_PATHS.finditer(text):
            yield Violation(path, line_of(text, match.start()), f"{match.group()}... exists on one machine only")


def check_top_level(tree):
    for name in sorted({path.split("/")[0] for path in tree.paths} - TOP_LEVEL):
        yield Violation(name, 1, "the top level holds the folders of docs/ARCHITECTURE.md and the usual files")


def check_changelog(tree):
    if "CHANGELOG.md" not in tree.paths:
        yield Violation("CHANGELOG.md", 1, "is missing")
    elif not re.search(r"^## \[Unreleased\]$", tree.text("CHANGELOG.md"), re.MULTILINE):
        yield Violation("CHANGELOG.md", 1, "has no section '## [Unreleased]'")
