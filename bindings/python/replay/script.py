"""The text of a script: one line, one operation."""
from __future__ import annotations

from dataclasses import dataclass, field


class ScriptError(Exception):
    """The line makes no sense as a script."""


def whole(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ScriptError(f'"{text}" is no number')
    return int(text)


@dataclass
class Operation:
    line: int
    verb: str
    names: list[str] = field(default_factory=list)               # sequences and steps, in the order of the line
    counts: list[tuple[str, int]] = field(default_factory=list)  # name:number
    arguments: dict[str, str] = field(default_factory=dict)      # key=value
    expected: list[str] = field(default_factory=lambda: ["ok"])

    def number(self, key: str, otherwise: int = 0) -> int:
        return whole(self.arguments[key]) if key in self.arguments else otherwise

    def numbers(self, **keys: str) -> dict[str, int]:
        """{field: number} of those keys that the line has; field="" is the key itself."""
        return {name or key: whole(self.arguments[key]) for key, name in keys.items() if key in self.arguments}

    def real(self, key: str) -> float:
        return float(self.arguments.get(key, 0))

    def word(self, key: str, otherwise: str = "") -> str:
        return self.arguments.get(key, otherwise)

    def choice(self, key: str, words: dict[str, int], otherwise: str) -> int:
        word = self.word(key, otherwise)
        if word not in words:
            raise ScriptError(f"{key}={word}: expected {' or '.join(words)}")
        return words[word]

    def range(self, key: str) -> tuple[int, int]:
        """b:e; 0, 0 if absent."""
        if key not in self.arguments:
            return 0, 0
        begin, colon, end = self.arguments[key].partition(":")
        if not colon:
            raise ScriptError(f"{key}={self.arguments[key]}: expected begin:end")
        return whole(begin), whole(end)

    def list(self, key: str) -> list[int]:
        return [whole(item) for item in self.word(key).split(",") if item]

    def name(self, index: int) -> str:
        return self.names[index] if index < len(self.names) else ""


def parse(text: str) -> list[Operation]:
    operations = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                operations.append(_parse_line(number, words))
            except ScriptError as fault:
                raise ScriptError(f"line {number}: {fault}") from None
    return operations


def _parse_line(number: int, words: list[str]) -> Operation:
    operation = Operation(number, words[0])
    if "->" in words:
        at = words.index("->")
        if len(words) != at + 2:
            raise ScriptError("one word of statuses must follow ->")
        operation.expected, words = words[-1].split("|"), words[:at]
    for word in words[1:]:
        if "=" in word:
            key, _, value = word.partition("=")
            operation.arguments[key] = value
        elif ":" in word:
            name, _, count = word.partition(":")
            operation.counts.append((name, whole(count)))
        else:
            operation.names.append(word)
    return operation
