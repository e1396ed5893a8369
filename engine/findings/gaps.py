"""Bars that are not there, and bars that are there twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from engine.bars import DAY, SECOND, Bars, instant
from engine.findings.finding import (
    Finding,
    Found,
    Mask,
    at_row,
    collected,
    counted_text,
    first_rows,
    when_text,
)
from shared.domain.sessions import trading_days, trading_seconds


def gaps(bars: Bars, filled: Bars, calendar: str) -> Found:
    """Stretches in which the calendar trades and there is no bar, longer than what is filled as quiet."""
    length = bars.interval * SECOND
    after = bars.opened_at[1:] - bars.closed_at[:-1]
    if length > DAY:
        rows = np.flatnonzero(after >= max(length // 2, 4 * DAY))
        missing = [max(1, round(after[row] / length)) for row in rows]
    elif length == DAY:
        rows = np.flatnonzero(after >= DAY // 2)
        missing = [_missing_days(bars, int(row), calendar) for row in rows]
    else:
        left = np.flatnonzero(filled.opened_at[1:] - filled.closed_at[:-1] >= length)
        rows = np.searchsorted(bars.opened_at, filled.opened_at[left], side="right") - 1
        missing = [_missing_bars(bars, int(row), calendar) for row in rows]
    found = [
        Finding(
            "gaps",
            int(bars.closed_at[row]),
            int(bars.opened_at[row + 1]),
            count,
            f"{count:,} {counted_text(count, bars.interval)} missing from "
            f"{when_text(bars.closed_at[row])} to {when_text(bars.opened_at[row + 1])}",
            {"missing": count, "hours": float(after[row] / SECOND / 3600)},
        )
        for row, count in zip(rows, missing, strict=True)
        if count
    ]
    return collected(found, lambda one: one.bars)


def _missing_days(bars: Bars, row: int, calendar: str) -> int:
    first, last = day_of(bars, row), day_of(bars, row + 1)
    return sum(1 for _ in trading_days(calendar, first + timedelta(days=1), last))


def _missing_bars(bars: Bars, row: int, calendar: str) -> int:
    seconds = trading_seconds(
        calendar, instant(bars.closed_at[row]), instant(bars.opened_at[row + 1])
    )
    return seconds // bars.interval


def day_of(bars: Bars, row: int) -> Any:
    """The day a daily bar is of: the one its middle lies in, as a currency day begins the evening before."""
    return instant((int(bars.opened_at[row]) + int(bars.closed_at[row])) // 2).date()


def duplicates(bars: Bars) -> Found:
    """Bars that begin inside the one before, and bars that are the one before over again."""
    if len(bars) < 2:
        return Found()
    inside = bars.opened_at[1:] < bars.closed_at[:-1]
    same: Mask = (bars.volume[1:] > 0) & (bars.high[1:] > bars.low[1:])
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(bars, name)
        same &= column[1:] == column[:-1]
    found = []
    for row in first_rows(np.flatnonzero(inside | same) + 1):
        what = "begins inside the bar before it" if inside[row - 1] else "repeats the bar before it"
        text = f"the bar of {when_text(bars.opened_at[row])} {what}"
        found.append(at_row("duplicates", bars, row, text, {"close": float(bars.close[row])}))
    count = int((inside | same).sum())
    return Found(count, count, tuple(found))
