"""What a strategy held at each of its moments, from the fills of the run: the same for every evaluation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from engine.backtest.results import LEGS, Fills
from engine.bars import Instants, instant
from engine.strategies.evaluation import BoundInput
from shared.domain.identity import RESEARCH_ACCOUNT, RESEARCH_STRATEGY
from shared.domain.orders import Fill, Side

Held = tuple[Mapping[str, float], Mapping[str, float]]
INSIDE: Final = tuple(LEGS.index(leg) for leg in ("stop_loss", "take_profit", "trailing_stop"))
"""Legs that trade inside a bar; the others do so at the opening of the one after the decision."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Holdings by row, and the fills to be told of before each row is decided.

    rows    the clock's rows from which on `held[i]` is what is held
    """

    rows: list[int] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    fills: dict[int, list[Fill]] = field(default_factory=dict)

    def at(self, row: int) -> Held:
        place = bisect_right(self.rows, row) - 1
        return self.held[place] if place >= 0 else ({}, {})


def holdings(fills: Fills | None, inputs: Sequence[BoundInput], closings: Instants) -> Holding:
    """Holdings on the clock's rows; nothing is ever held without fills."""
    found = Holding()
    if fills is None:
        return found
    symbols = {b.instrument_id: b.symbol for b in inputs if b.trades}
    held: dict[str, float] = dict.fromkeys(symbols.values(), 0.0)
    prices: dict[str, float] = {}
    late = np.searchsorted(closings, fills.at, side="right")
    inside = np.isin(fills.leg, INSIDE)
    rows = np.where(inside, np.searchsorted(closings, fills.at, side="left"), late)
    for number, row in enumerate(np.maximum.accumulate(rows).tolist()):
        symbol = symbols[int(fills.instrument[number])]
        change = float(fills.side[number] * fills.quantity[number])
        _book(held, prices, symbol, change, float(fills.price[number]))
        found.rows.append(row)
        found.held.append((dict(held), dict(prices)))
        found.fills.setdefault(row, []).append(_fill(fills, number))
    return found


def _book(
    held: dict[str, float], prices: dict[str, float], symbol: str, change: float, price: float
) -> None:
    """Average cost: what adds moves it, what takes away does not."""
    before = held[symbol]
    after = before + change
    held[symbol] = after
    if abs(after) <= 1e-12 * max(abs(before), abs(change)):
        held[symbol] = 0.0
        prices.pop(symbol, None)
    elif before * after <= 0:
        prices[symbol] = price
    elif abs(after) > abs(before):
        prices[symbol] = (prices[symbol] * before + price * change) / after


def _fill(fills: Fills, number: int) -> Fill:
    return Fill(
        uuid5(NAMESPACE_OID, f"gate-{number}"),
        str(number),
        RESEARCH_ACCOUNT,
        RESEARCH_STRATEGY,
        int(fills.instrument[number]),
        Side.BUY if fills.side[number] > 0 else Side.SELL,
        float(fills.quantity[number]),
        float(fills.price[number]),
        float(fills.fee[number]),
        "",
        instant(int(fills.at[number])),
    )
