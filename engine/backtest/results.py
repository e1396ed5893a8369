"""What a simulation leaves behind, in columns: a million bars make tens of thousands of fills.

The core's replay and the compiled kernels both end here; trades, metrics, reports and storage begin here.
Times are int64 nanoseconds since 1970 UTC, amounts float64 in the quote asset, quantities in base units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from engine.bars import Instants, Prices
from shared.domain.decisions import Decision
from shared.domain.ledger import LedgerEntry

Codes = npt.NDArray[np.int8]
Indices = npt.NDArray[np.int32]

LEGS: Final = (
    "entry",
    "exit",
    "stop_loss",
    "take_profit",
    "trailing_stop",
    "time_exit",
    "liquidation",
)
"""The part a fill played, by its code. Ends of trades are told by the same words."""

OPEN: Final = len(LEGS)
REASONS: Final = (*LEGS, "open")
"""Why a trade ended, by its code; `OPEN` has not."""

NEVER: Final = int(np.iinfo(np.int64).min)
"""The exit time of a trade that is open."""


@dataclass(frozen=True, slots=True, eq=False)
class Fills:
    """Fills in the order they happened, one array a field.

    side   +1 bought, -1 sold
    raw    the price before slippage and spread
    leg    index into `LEGS`
    tag    index into `tags`
    """

    instrument: npt.NDArray[np.int64]
    at: Instants
    side: Codes
    quantity: Prices
    price: Prices
    raw: Prices
    fee: Prices
    leg: Codes
    tag: Indices
    tags: tuple[str, ...] = ("",)

    @classmethod
    def none(cls) -> Self:
        columns: dict[str, Any] = {name: np.zeros(0, type_) for name, type_ in FILL_TYPES.items()}
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: Any) -> Fills:
        """Some of the fills; tags keep their numbers."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in FILL_TYPES}
        return Fills(**columns, tags=self.tags)


FILL_TYPES: Final[dict[str, Any]] = {
    "instrument": np.int64,
    "at": np.int64,
    "side": np.int8,
    "quantity": np.float64,
    "price": np.float64,
    "raw": np.float64,
    "fee": np.float64,
    "leg": np.int8,
    "tag": np.int32,
}


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Round trips from flat to flat, by entry time and instrument, one array a field.

    side        +1 long, -1 short
    quantity    all that was ever bought into it (sold, for a short)
    exit_at     `NEVER` while it is open; `exit_price` is NaN then
    pnl         net of fees; an open trade counts what it still holds at the last close
    mae, mfe    how far the price went against and for it while it was held, as fractions of the entry
                price, both 0 or above: over the bars that closed after the entry and not after the
                exit, and the prices of its exits
    exit_reason index into `REASONS`; tag index into `tags` (the entry's)
    """

    instrument: npt.NDArray[np.int64]
    side: Codes
    quantity: Prices
    entry_at: Instants
    entry_price: Prices
    exit_at: Instants
    exit_price: Prices
    fees: Prices
    pnl: Prices
    return_fraction: Prices
    bars_held: npt.NDArray[np.int64]
    mae: Prices
    mfe: Prices
    exit_reason: Codes
    tag: Indices
    tags: tuple[str, ...] = ("",)

    @classmethod
    def none(cls) -> Self:
        columns: dict[str, Any] = {name: np.zeros(0, type_) for name, type_ in _TRADE_TYPES.items()}
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.entry_at)

    @property
    def closed(self) -> npt.NDArray[np.bool_]:
        """bool[trades]: which have ended."""
        return np.asarray(self.exit_at != NEVER)

    def __getitem__(self, rows: Any) -> Trades:
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "tags"}
        return Trades(**columns, tags=self.tags)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Each trade's fields as Python values, in the order of the class, without `tags`."""
        columns = [getattr(self, f.name).tolist() for f in fields(self) if f.name != "tags"]
        return zip(*columns, strict=True)


_TRADE_TYPES: Final[dict[str, Any]] = {
    "instrument": np.int64,
    "side": np.int8,
    "quantity": np.float64,
    "entry_at": np.int64,
    "entry_price": np.float64,
    "exit_at": np.int64,
    "exit_price": np.float64,
    "fees": np.float64,
    "pnl": np.float64,
    "return_fraction": np.float64,
    "bars_held": np.int64,
    "mae": np.float64,
    "mfe": np.float64,
    "exit_reason": np.int8,
    "tag": np.int32,
}


@dataclass(frozen=True, slots=True)
class Paid:
    """What trading cost beside fees, in the quote asset: part of the prices, or charged by the day."""

    slippage: float = 0.0
    spread: float = 0.0
    borrowing: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of orders, and how often the intrabar rule decided between a stop and a target."""

    orders: int = 0
    rejected: int = 0
    expired: int = 0
    partly_filled: int = 0
    denied: int = 0
    ambiguous_bars: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What a simulation left behind, whichever way it went.

    engine     kernel, loop (a scalar strategy asked row by row) or core; `why` it had to be the core
    times      int64[moments]    nanoseconds, closing times
    equity     float64[moments]  marked, after the moment's fills
    exposure   float64[moments]  value held as a fraction of equity
    decisions  records of `engine.backtest.kernels.layout.DECISION`; none where they were not asked for
    because    the words of each of those decisions
    told       the core's decisions, in full
    ledger     the core's entries
    """

    engine: str
    times: Instants
    equity: Prices
    exposure: Prices
    fills: Fills
    decisions: npt.NDArray[Any]
    paid: Paid
    counts: Counts
    why: str = ""
    because: tuple[str, ...] = ()
    told: tuple[Decision, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
