"""Files and functions that fit a reader's head."""

import ast
import re
from pathlib import Path

from tree import C_FAMILY, CODE_SUFFIXES, Violation, line_of, without_comments_and_strings

FILE_LINES_MAX = 450
HEADER_LINES_MAX = 900  # of kvc.h: the whole API is one header on purpose, and most of it is its manual
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 1 << 20
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b(?![^{]*\()")
NAME = re.compile(r"([~\w:]+)\s*\(")


def check_file_length(tree):
    for path in tree.code(CODE_SUFFIXES):
        lines = len(tree.text(path).splitlines())
        most = HEADER_LINES_MAX if path == "kvc.h" else FILE_LINES_MAX
        if lines > most:
            yield Violation(path, lines, f"{lines} lines; at most {most}")


def check_file_size(tree):
    for path in tree.paths:
        if tree.size(path) > FILE_BYTES_MAX:
            yield Violation(path, 1, f"{tree.size(path)} bytes; at most {FILE_BYTES_MAX}")


def c_functions(text):
    """(name, first line, last line) of each outermost function of C-family source.

    A brace opens a function if the statement before it has a parameter list and opens no scope (namespace, class...);
    what lies inside a function, lambdas included, counts to it.
    """
    text = without_comments_and_strings(text)
    open_braces = []          # True where the brace opened a function
    statement = start = 0     # where the current statement began; where the current function began
    for match in re.finditer(r"[{};]", text):
        symbol, at = match.group(), match.start()
        inside = any(open_braces)
        head = text[statement:at]
        if symbol == "{":
            # An initializer in a parameter list or after "=" is no body: int f(span<int> s = {}) {
            opens = not inside and "(" in head and not SCOPE.search(head) and not re.search(r"=\s*$|[(,]\s*$", head)
            if opens:
                start = statement + len(head) - len(head.lstrip())
            open_braces.append(opens)
        elif symbol == "}" and open_braces:
            if open_braces.pop():
                name = NAME.search(text[start:at])
                yield (name.group(1) if name else "?", line_of(text, start), line_of(text, at))
        statement = match.end()


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno


def check_function_length(tree):
    for path in tree.code(C_FAMILY | {".py"}):
        functions = python_functions if Path(path).suffix == ".py" else c_functions
        for name, first, last in functions(tree.text(path)):
            if last - first + 1 > FUNCTION_LINES_MAX:
                yield Violation(path, first, f"{name} has {last - first + 1} lines; at most {FUNCTION_LINES_MAX}")
