"""What a question about a moment is answered from, and what the answer is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

DAY: Final = 86_400
PROTECTIVE: Final = ("stop_loss", "take_profit", "trailing_stop")


@dataclass(frozen=True, slots=True)
class BarFacts:
    """What there is of the bar that closes at the moment.

    status    found, quiet (carried forward), closed (market), gap, before or after all there is, none
    hole      (from, to) of the missing bars, when they are a gap; (first, last) stored, otherwise
    """

    status: str
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    open: float = math.nan
    high: float = math.nan
    low: float = math.nan
    close: float = math.nan
    volume: float = math.nan
    hole: tuple[datetime | None, datetime | None] = (None, None)
    calendar: str = "24/7"


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The newest bar of one input at the moment; `bars` is how many there were to read."""

    key: str
    symbol: str
    interval: int
    trades: bool
    closed_at: datetime | None
    bars: int


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature at the moment and at the moment before; NaN while it is not known."""

    name: str
    now: float
    before: float


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What the strategy says at the moment, computed again on the stored bars.

    target, before   asked at this moment and at the one before; NaN leaves things as they are
    standing         what it last acted on and still stands for
    needed, had      bars of warm-up
    """

    target: float = math.nan
    before: float = math.nan
    standing: float = 0.0
    because: str = ""
    needed: int = 0
    had: int = 0
    features: tuple[FeatureFacts, ...] = ()
    error: str = ""
    caveat: str = ""
    exposure: float | None = None
    """Value held as a fraction of what it may use; None when it cannot be known."""
    wanted: float | None = None
    band: float | None = None


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """An order of a decision and what became of it, at the time the question is asked.

    lowest, highest   of the market between its decision and its end (or now)
    """

    id: str
    leg: str
    side: str
    type: str
    state: str
    quantity: float | None = None
    value: float | None = None
    limit: float | None = None
    stop: float | None = None
    filled: float = 0.0
    average: float | None = None
    fees: float = 0.0
    reason: str = ""
    ended_at: datetime | None = None
    ended_by: str = ""
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """A decision on record."""

    id: str
    at: datetime
    kind: str
    outcome: str
    target: float | None
    previous: float | None
    because: str
    reason: str
    price: float | None
    checks: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    orders: tuple[OrderFacts, ...] = ()
    link: str = ""


@dataclass(frozen=True, slots=True)
class FillFacts:
    """A fill inside the bar whose decision was made earlier."""

    side: str
    quantity: float
    price: float
    at: datetime
    leg: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class StateFacts:
    """A request about trading in force at the moment. `since` in market time where that is known."""

    scope: str
    scope_id: str
    state: str
    actor: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LifeFacts:
    """Where the strategy was in its life at the moment.

    status   running, stopped, failed, quarantined, not_created, not_started
    """

    status: str = "running"
    since: datetime | None = None
    by: str = ""
    text: str = ""
    now: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """How far the market was heard.

    state   live, waiting (a replay not started), finished (one that ended), away (no engine), behind (its feed)
    """

    state: str = "live"
    heard_until: datetime | None = None
    since: datetime | None = None
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything one question is answered from. `moment` is the close of the strategy's clock at or before `at`."""

    name: str
    symbol: str
    base: str
    quote: str
    at: datetime
    moment: datetime
    interval: int
    zone: str = "UTC"
    is_run: bool = False
    trades: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    lot: Decimal | None = None
    held: float = 0.0
    bar: BarFacts = field(default_factory=lambda: BarFacts("found"))
    inputs: tuple[InputFacts, ...] = ()
    signal: SignalFacts | None = None
    decision: DecisionFacts | None = None
    earlier: DecisionFacts | None = None
    """The newest decision before this moment."""
    fills: tuple[FillFacts, ...] = ()
    states: tuple[StateFacts, ...] = ()
    life: LifeFacts = field(default_factory=LifeFacts)
    market: MarketFacts = field(default_factory=MarketFacts)
    range: tuple[datetime | None, datetime | None] = (None, None)
    """Of a run: when it began to trade, and when it ended."""
    notes: tuple[str, ...] = ()


# The answer ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One fact as it is shown."""

    name: str
    text: str
    link: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the answer. `source`: record, or again (computed now from stored bars)."""

    name: str
    title: str
    source: str
    lines: tuple[Line, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """`outcome` names the kind of answer; `traded` whether anything traded."""

    sentence: str
    outcome: str
    traded: bool
    tone: str
    sections: tuple[Section, ...] = ()
