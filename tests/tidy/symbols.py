"""Every function of kvc.h is exported, defined and bound; nothing else is exported."""

import re

from tree import Violation, line_of, without_comments_and_strings

BINDINGS = ["go", "rust", "java", "csharp", "python"]


def declared_functions(tree):
    """name -> line, of the functions that kvc.h declares."""
    text = without_comments_and_strings(tree.text("kvc.h"))
    return {m.group(1): line_of(text, m.start(1)) for m in re.finditer(r"KVC_API\b[^;(]*?\b(kvc_\w+)\s*\(", text)}


def exported_functions(tree):
    text = without_comments_and_strings(re.sub(r"#[^\n]*", "", tree.text("capi/kvc.map")))
    exported = text.split("local:")[0]
    return {m.group(): line_of(text, m.start()) for m in re.finditer(r"[\w*]+(?=\s*;)", exported)}


def check_symbol_map(tree):
    if not (tree.exists("kvc.h") and tree.exists("capi/kvc.map")):
        return
    declared, exported = declared_functions(tree), exported_functions(tree)
    for name in sorted(set(declared) - set(exported)):
        yield Violation("kvc.h", declared[name], f"{name} is not in capi/kvc.map")
    for name in sorted(set(exported) - set(declared)):
        yield Violation("capi/kvc.map", exported[name], f"{name} is not declared in kvc.h")


def check_definitions(tree):
    sources = [p for p in tree.paths if p.startswith("capi/") and p.endswith(".cpp")]
    if not sources:
        return
    defined = set()
    for path in sources:
        text = without_comments_and_strings(tree.text(path))
        defined |= set(re.findall(r"\b(kvc_\w+)\s*\([^;{}]*\)\s*(?:noexcept\s*|try\s*)*\{", text))
    for name, line in declared_functions(tree).items():
        if name not in defined:
            yield Violation("kvc.h", line, f"{name} is not defined in capi/")


def check_interface_file(tree):
    """bindings/kvc.i takes kvc.h whole, or names each function; it leaves none out."""
    if not tree.exists("bindings/kvc.i"):
        return
    text = tree.text("bindings/kvc.i")
    whole = re.search(r'^%include\s+"(\.\./)*kvc\.h"', text, re.MULTILINE)
    for name, line in declared_functions(tree).items():
        if not whole and not re.search(rf"\b{name}\b", text):
            yield Violation("kvc.h", line, f"{name} is not in bindings/kvc.i")
        if re.search(rf"^%ignore\s+{name}\b", text, re.MULTILINE):
            yield Violation("bindings/kvc.i", 1, f"{name} is left out by %ignore")


def check_bindings(tree):
    for language in BINDINGS:
        paths = [p for p in tree.paths if p.startswith(f"bindings/{language}/")]
        if not paths:
            continue
        words = set()
        for path in paths:
            words |= set(re.findall(r"kvc_\w+", tree.text(path)))
        for name, line in declared_functions(tree).items():
            if not any(word == name or word.endswith("_" + name) for word in words):
                yield Violation("kvc.h", line, f"{name} is not bound in bindings/{language}")
