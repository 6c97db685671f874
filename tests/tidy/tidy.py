"""Checks the tree's own form: python3 tests/tidy/tidy.py [ROOT]. docs/CONVENTIONS.md explains the rules."""

import sys
from pathlib import Path

import arithmetic
import layers
import lengths
import symbols
import words
from tree import Tree

RULES = {
    "includes follow the layers": layers.check_include_order,
    "core has its seven folders": layers.check_core_folders,
    "core names no device platform": layers.check_core_names_no_device,
    "files are short": lengths.check_file_length,
    "functions are short": lengths.check_function_length,
    "no large files": lengths.check_file_size,
    "file names say what is inside": words.check_file_names,
    "no unfinished marks": words.check_marks,
    "no paths of one machine": words.check_machine_paths,
    "the top level is as documented": words.check_top_level,
    "the changelog has an Unreleased section": words.check_changelog,
    "exported = declared": symbols.check_symbol_map,
    "every declared function is defined": symbols.check_definitions,
    "kvc.i takes every function": symbols.check_interface_file,
    "every binding takes every function": symbols.check_bindings,
    "sizes are computed by checked arithmetic": arithmetic.check_size_arithmetic,
}


def main(root):
    tree = Tree(root)
    failed = 0
    for name, rule in RULES.items():
        violations = list(rule(tree))
        failed += bool(violations)
        for violation in violations:
            print(f"{violation}  [{name}]")
    print(f"tidy: {len(RULES) - failed} passed, {failed} failed ({len(tree.paths)} files)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]))
