"""Bars in which nothing moved or traded, and prices off the grid."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from engine.bars import DAY, SECOND, Bars
from engine.findings.finding import (
    Found,
    Limits,
    at_row,
    collected,
    first_rows,
    over_rows,
    price_text,
    prices_of,
    stretches,
    when_text,
)


def flat(bars: Bars, limits: Limits) -> Found:
    """Long stretches at one price."""
    least = limits.flat_days if bars.interval * SECOND >= DAY else limits.flat_bars
    still = (bars.high == bars.low) & (bars.open == bars.close)
    same = np.zeros(len(bars), dtype=np.bool_)
    same[1:] = still[1:] & (bars.open[1:] == bars.close[:-1])
    found = []
    for first, after in stretches(same):
        count = after - first
        if count >= least:
            text = f"{count:,} bars at {price_text(bars.close[first])} from {when_text(bars.opened_at[first])}"
            numbers = {"price": float(bars.close[first])}
            found.append(over_rows("flat", bars, first, after, text, numbers))
    return collected(found, lambda one: one.bars)


def zero_volume(bars: Bars) -> Found:
    """Stretches of stored bars in which nothing traded. Quiet intervals that were filled are not among them."""
    found = []
    for first, after in stretches(bars.volume == 0):
        text = f"{after - first:,} bars without volume from {when_text(bars.opened_at[first])}"
        found.append(over_rows("zero_volume", bars, first, after, text, {}))
    return collected(found, lambda one: one.bars)


def off_tick(bars: Bars, tick: Decimal | None) -> Found:
    """Bars with a price that is no multiple of the instrument's tick."""
    if tick is None or not len(bars):
        return Found()
    step = float(tick)
    off = np.zeros(len(bars), dtype=np.bool_)
    for name in ("open", "high", "low", "close"):
        steps = getattr(bars, name) / step
        off |= np.abs(steps - np.round(steps)) > np.maximum(1e-6, steps * 1e-12)
    rows = np.flatnonzero(off)
    found = [
        at_row(
            "off_tick",
            bars,
            row,
            f"{when_text(bars.opened_at[row])}: {_off_price(bars, row, step)} is no multiple of {tick.normalize():f}",
            prices_of(bars, row),
        )
        for row in first_rows(rows)
    ]
    return Found(len(rows), len(rows), tuple(found))


def _off_price(bars: Bars, row: int, step: float) -> str:
    prices = {name: float(getattr(bars, name)[row]) for name in ("open", "high", "low", "close")}
    name = max(prices, key=lambda n: abs(prices[n] / step - round(prices[n] / step)))
    return f"{name} {price_text(prices[name])}"
