"""What people put on runs: notes, tags and a star; how they are written, and found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from shared.db.backtests import RunRow
from webapp.db import db

MOST_TAGS: Final = 12
LONGEST_TAG: Final = 30
LONGEST_NOTES: Final = 20_000


def tags_of(text: str) -> list[str]:
    """Tags as they are typed, with commas between: trimmed, each once, in the order they came."""
    found: dict[str, str] = {}
    for part in text.split(","):
        tag = " ".join(part.split())
        if tag:
            found.setdefault(tag.casefold(), tag)
    return list(found.values())


def problems(notes: str, tags: list[str]) -> dict[str, str]:
    """What cannot be kept, by field."""
    found = {}
    if len(notes) > LONGEST_NOTES:
        found["notes"] = (
            f"These notes have {len(notes):,} characters: shorten them to {LONGEST_NOTES:,}"
        )
    long = next((tag for tag in tags if len(tag) > LONGEST_TAG), None)
    if long is not None:
        found["tags"] = f"{long} is too long: a tag has up to {LONGEST_TAG} characters"
    elif len(tags) > MOST_TAGS:
        found["tags"] = f"These are {len(tags)} tags: a run has up to {MOST_TAGS}"
    return found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs of a list are wanted. Everything empty is all of them."""

    tag: str = ""
    starred: bool = False
    text: str = ""

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Filter:
        """From a page's address."""
        return cls(
            arguments.get("tag", "")[:LONGEST_TAG],
            arguments.get("starred", "") == "yes",
            arguments.get("q", "").strip()[:80],
        )

    def __bool__(self) -> bool:
        return bool(self.tag or self.starred or self.text)

    @property
    def arguments(self) -> dict[str, str]:
        """As they stand in an address."""
        starred = "yes" if self.starred else ""
        every = {"tag": self.tag, "starred": starred, "q": self.text}
        return {name: value for name, value in every.items() if value}

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.tag:
            found.append(RunRow.tags.op("@>")(sa.cast([self.tag], JSONB)))
        if self.starred:
            found.append(RunRow.favourite.is_(True))
        if self.text:
            number = sa.cast(RunRow.id, sa.Text) == self.text.removeprefix("#")
            said = RunRow.notes.icontains(self.text, autoescape=True)
            tagged = sa.cast(RunRow.tags, sa.Text).icontains(self.text, autoescape=True)
            found.append(sa.or_(number, said, tagged))
        return found


def known_tags() -> list[str]:
    """Every tag that a run bears, in order."""
    each: Any = sa.func.jsonb_array_elements_text(RunRow.tags)
    tags = db.session.scalars(sa.select(each).where(RunRow.tags != sa.cast([], JSONB)).distinct())
    return sorted(tags, key=str.casefold)
