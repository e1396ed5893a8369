"""What can be wrong with a file, said so that the person who has it can put it right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. `line` of 0 means the whole file; the header is line 1. `unit` is what
    is counted: lines, or rows of a file without lines."""

    reason: str
    line: int = 0
    column: str = ""
    value: str = ""
    remedy: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        where = f"{self.unit} {self.line}" if self.line else ""
        if self.column:
            where += f", {self.column}"
        if self.value:
            where += f" {shown(self.value)}"
        text = f"{where}: {self.reason}" if where else self.reason
        return f"{text}. {self.remedy}." if self.remedy else f"{text}."


class BadFile(ValueError):
    """The file cannot be imported as it is; nothing of it was stored."""

    def __init__(self, file_name: str, problems: Sequence[Problem]) -> None:
        self.file_name = file_name
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{file_name}: {problem}" for problem in problems))


def shown(value: str) -> str:
    """The value in quotes, shortened, with what cannot be printed escaped."""
    if len(value) > SHOWN_CHARACTERS:
        value = value[:SHOWN_CHARACTERS] + "…"
    return f'"{value.encode("unicode_escape").decode() if not value.isprintable() else value}"'
