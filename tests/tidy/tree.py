"""The files that a rule looks at, and what a rule reports."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

CODE_SUFFIXES = {".h", ".hpp", ".cpp", ".c", ".cu", ".cuh", ".inc", ".def", ".py", ".go", ".rs", ".java", ".cs", ".sh", ".cmake", ".i"}
C_FAMILY = {".h", ".hpp", ".cpp", ".c", ".cu", ".cuh", ".inc"}
BUILD_OUTPUT = re.compile(r"^(build[^/]*|\.git|\.venv|\.tools|\.cache|out|target|dist)(/|$)|(^|/)(__pycache__|target|node_modules)/")
GENERATED = re.compile(r"automatically generated|@generated|Code generated .* DO NOT EDIT", re.IGNORECASE)


@dataclass(frozen=True)
class Violation:
    path: str
    line: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}"


class Tree:
    """A source tree: tracked files and new ones that git does not ignore; without git, all but build output."""

    def __init__(self, root):
        self.root = Path(root)
        self.paths = sorted(p for p in self._list() if (self.root / p).is_file())
        self._text = {}

    def _list(self):
        if (self.root / ".git").exists():
            command = ["git", "-C", str(self.root), "ls-files", "-z", "-c", "-o", "--exclude-standard"]
            listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return {p for p in listed.split("\0") if p}
        found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*"))
        return {p for p in found if not BUILD_OUTPUT.search(p)}

    def text(self, path):
        """Text of a file; empty for binary files."""
        if path not in self._text:
            data = (self.root / path).read_bytes()
            self._text[path] = "" if b"\0" in data[:8192] else data.decode("utf-8", errors="replace")
        return self._text[path]

    def exists(self, path):
        return (self.root / path).exists()

    def size(self, path):
        return (self.root / path).stat().st_size

    def is_generated(self, path):
        return bool(GENERATED.search(self.text(path)[:1500]))

    def code(self, suffixes=CODE_SUFFIXES):
        """Hand-written source files."""
        return [p for p in self.paths if Path(p).suffix in suffixes and not self.is_generated(p)]


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def without_comments_and_strings(text):
    """C-family source with comments, strings and preprocessor lines blanked; offsets and line numbers stay."""
    pattern = re.compile(
        r"//[^\n]*|/\*.*?\*/|R\"(?P<delimiter>[^(\s]*)\(.*?\)(?P=delimiter)\""
        r"|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
        re.DOTALL | re.MULTILINE)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
