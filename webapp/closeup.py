"""Candles around something that happened: what a close look at one bar or one order draws."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from shared.db.market import InstrumentRow
from shared.db.trading import FillRow
from webapp import charts
from webapp.formats import quantity

MOST: Final = 240
"""Candles a close look holds; a longer stretch is drawn from a longer interval."""
AROUND: Final = 36
"""Candles shown before what happened, and after it."""


def closeup(
    instrument: InstrumentRow, interval: int, starts_at: datetime, ends_at: datetime
) -> dict[str, Any]:
    """{"candles", "decimals", "interval"} from some bars before `starts_at` to some after `ends_at`."""
    interval = _fitting(instrument, interval, ends_at - starts_at)
    series = charts.best_series(instrument.id, interval)
    step = timedelta(seconds=interval)
    shown = []
    if series is not None:
        limit = 2 * AROUND + int((ends_at - starts_at) / step) + 2
        until = ends_at + step * AROUND
        shown = charts.candles(series, interval, until, min(limit, charts.CANDLES))
    return {
        "candles": charts.candle_rows(shown),
        "decimals": charts.decimals(instrument, shown),
        "interval": interval,
    }


def marks(fills: Iterable[FillRow]) -> list[dict[str, Any]]:
    """Fills as the picture takes them: quantities to eight figures, which is all a label can hold."""
    return [
        {
            "time": fill.filled_at.timestamp(),
            "side": fill.side,
            "quantity": quantity(f"{fill.quantity:.8g}"),
            "price": float(fill.price),
        }
        for fill in fills
    ]


def level(price: Decimal | float | None, text: str, tone: str = "warning") -> list[dict[str, Any]]:
    """A horizontal line with its name; none without a price."""
    return [] if price is None else [{"price": float(price), "text": text, "tone": tone}]


def _fitting(instrument: InstrumentRow, interval: int, span: timedelta) -> int:
    """The interval, or the shortest longer one at which the span is no more than `MOST` candles."""
    known = [i for i in charts.intervals_of(instrument.id) if i >= interval]
    for candidate in known:
        if span.total_seconds() / candidate <= MOST:
            return candidate
    return known[-1] if known else interval
