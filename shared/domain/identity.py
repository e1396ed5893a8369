"""Ids derived from what a thing is, so that deciding it again after a crash gives the same id."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha1
from typing import Final
from uuid import UUID, SafeUUID

_NAMESPACE: Final = sha1(UUID("8c3f5a52-6d0e-5a0c-9b1e-6f1a2d4c7e90").bytes, usedforsecurity=False)
_CLEARED: Final = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5: Final = 5 << 76 | 0x8000 << 48


def _named(name: str) -> UUID:
    """`uuid.uuid5` of our namespace (RFC 9562, 5.5), which a replay asks tens of thousands of times."""
    hashed = _NAMESPACE.copy()
    hashed.update(name.encode())
    found = object.__new__(UUID)
    # What UUID(int=...) does for a number that is known to fit.
    object.__setattr__(found, "int", int.from_bytes(hashed.digest()[:16]) & _CLEARED | _VERSION_5)
    object.__setattr__(found, "is_safe", SafeUUID.unknown)
    return found


_newest: tuple[datetime | None, str] = (None, "")


def _written(at: datetime) -> str:
    """A moment has several ids, one after another; to hash it takes as long as to write it."""
    global _newest
    known, text = _newest
    if at is not known:
        text = at.isoformat()
        _newest = (at, text)
    return text


def decision_id(
    account: int, strategy: int, instrument: int, decided_at: datetime, kind: str
) -> UUID:
    """One decision of one strategy on one instrument at one moment."""
    moment = _written(decided_at)
    return _named(f"decision|{account}|{strategy}|{instrument}|{moment}|{kind}")


def client_order_id(
    account: int, strategy: int, instrument: int, decided_at: datetime, leg: str, attempt: int = 0
) -> UUID:
    """The id a venue hears. Deciding the same bar again conflicts in the database, not at the venue."""
    moment = _written(decided_at)
    return _named(f"order|{account}|{strategy}|{instrument}|{moment}|{leg}|{attempt}")


def derived_id(key: UUID, name: str) -> UUID:
    """The id of something that belongs to `key`: an order of a command, a leg of an order."""
    return _named(f"of|{key}|{name}")


BY_HAND = 0
"""The strategy id of what people trade themselves; in rows it is NULL."""

RESEARCH_ACCOUNT = 0
RESEARCH_STRATEGY = 1
"""Ids inside a backtest, which has no account and no strategy row."""
