"""A decision and its record: the bar, the signal and its reason, each check, each sizing step."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from shared.domain.market import Bar
from shared.domain.orders import OrderRequest


class Check(Struct, frozen=True):
    """What one rule saw. `value` and `limit` are in `unit` (`%`, quote asset, ...)."""

    rule: str
    allowed: bool
    value: float | None
    limit: float | None
    unit: str
    text: str


class Step(Struct, frozen=True):
    """One step of sizing or rounding: its name, the number after it, and why in words."""

    name: str
    value: float
    text: str


class Outcome(StrEnum):
    ORDERED = "ordered"
    DENIED = "denied"  # our risk said no
    REFUSED = "refused"  # the release said no: trading state or lease
    NOTHING = "nothing"  # nothing to trade after sizing and rounding


class Decision(Struct, frozen=True):
    """Why it did, or did not, trade."""

    id: UUID
    account_id: int
    strategy_id: int
    instrument_id: int
    decided_at: datetime
    kind: str  # signal | time_exit | stop | flatten
    target: float | None
    previous: float
    because: str
    bar: Bar | None
    price: float
    checks: tuple[Check, ...]
    steps: tuple[Step, ...]
    outcome: Outcome
    reason: str
    requests: tuple[OrderRequest, ...] = ()
    tag: str = ""
