"""Ids derived from what a thing is, so that deciding it again after a crash gives the same id."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1
from typing import Final
from uuid import UUID, SafeUUID
from zlib import crc32

_NAMESPACE: Final = sha1(UUID("8c3f5a52-6d0e-5a0c-9b1e-6f1a2d4c7e90").bytes, usedforsecurity=False)
_CLEARED: Final = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5: Final = 5 << 76 | 0x8000 << 48
_VERSION_8: Final = 8 << 76 | 0x8000 << 48
_NOT_ASKED: Final = SafeUUID.unknown
_LOW: Final = (1 << 62) - 1
_56_BITS: Final = (1 << 56) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

BY_HAND = 0
"""The strategy id of what people trade themselves; in rows it is NULL."""

RESEARCH_ACCOUNT = 0
RESEARCH_STRATEGY = 1
"""Ids inside a backtest, which has no account and no strategy row."""


def _named(name: str) -> UUID:
    """`uuid.uuid5` of our namespace (RFC 9562, 5.5)."""
    hashed = _NAMESPACE.copy()
    hashed.update(name.encode())
    return _uuid(int.from_bytes(hashed.digest()[:16]) & _CLEARED | _VERSION_5)


def _uuid(number: int) -> UUID:
    """What UUID(int=number) does for a number that is known to fit."""
    found = object.__new__(UUID)
    object.__setattr__(found, "int", number)
    object.__setattr__(found, "is_safe", _NOT_ASKED)
    return found


def _in_research(instrument: int, at: datetime, name: str) -> UUID:
    """Put together, not hashed (RFC 9562, 5.8): a run is alone with itself, and asks tens of thousands of times."""
    since = at - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    number = ((micros & _56_BITS) << 32 | instrument & 0xFFFF_FFFF) << 34 | _word(name)
    return _uuid(number >> 74 << 80 | (number >> 62 & 0xFFF) << 64 | number & _LOW | _VERSION_8)


@lru_cache(maxsize=256)
def _word(name: str) -> int:
    return crc32(name.encode())


def decision_id(
    account: int, strategy: int, instrument: int, decided_at: datetime, kind: str
) -> UUID:
    """One decision of one strategy on one instrument at one moment."""
    if account == RESEARCH_ACCOUNT:
        return _in_research(instrument, decided_at, f"decision|{strategy}|{kind}")
    moment = decided_at.isoformat()
    return _named(f"decision|{account}|{strategy}|{instrument}|{moment}|{kind}")


def client_order_id(
    account: int, strategy: int, instrument: int, decided_at: datetime, leg: str, attempt: int = 0
) -> UUID:
    """The id a venue hears. Deciding the same bar again conflicts in the database, not at the venue."""
    if account == RESEARCH_ACCOUNT:
        return _in_research(instrument, decided_at, f"order|{strategy}|{leg}|{attempt}")
    moment = decided_at.isoformat()
    return _named(f"order|{account}|{strategy}|{instrument}|{moment}|{leg}|{attempt}")


def derived_id(key: UUID, name: str) -> UUID:
    """The id of something that belongs to `key`: an order of a command, a leg of an order."""
    return _named(f"of|{key}|{name}")
