"""Round trips the slow way, one fill after another: what the compiled ones are held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.backtest.results import LEGS, NEVER, REASONS, Fills, Trades


@dataclass(frozen=True)
class AFill:
    """+1 bought, -1 sold; `minute` of the bars it happened at."""

    side: int = 1
    quantity: float = 1.0
    price: float = 100.0
    fee: float = 0.0
    at: int = 0
    leg: str = "entry"
    tag: str = ""
    instrument: int = 1


def columns(fills) -> Fills:
    tags = tuple(dict.fromkeys(f.tag for f in fills)) or ("",)
    return Fills(
        instrument=np.array([f.instrument for f in fills], dtype=np.int64),
        at=np.array([f.at for f in fills], dtype=np.int64),
        side=np.array([f.side for f in fills], dtype=np.int8),
        quantity=np.array([float(f.quantity) for f in fills]),
        price=np.array([float(f.price) for f in fills]),
        raw=np.array([float(f.price) for f in fills]),
        fee=np.array([float(f.fee) for f in fills]),
        leg=np.array([LEGS.index(f.leg) for f in fills], dtype=np.int8),
        tag=np.array([tags.index(f.tag) for f in fills], dtype=np.int32),
        tags=tags,
    )


@dataclass(frozen=True)
class ATrade:
    """A trade with words instead of codes; amounts are of the type of the fills."""

    instrument: int
    side: str
    quantity: object
    entry_at: int
    entry_price: object
    exit_at: int | None
    exit_price: object | None
    fees: object
    pnl: object
    return_fraction: float
    bars_held: int
    mae: float
    mfe: float
    exit_reason: str
    tag: str

    @property
    def is_open(self) -> bool:
        return self.exit_at is None


def told(trades: Trades) -> list[ATrade]:
    """The rows of columns."""
    found = []
    for row in trades.rows():
        instrument, side, quantity, entry_at, entry_price, exit_at, exit_price, *rest = row
        fees, pnl, gained, bars, mae, mfe, reason, tag = rest
        is_open = exit_at == NEVER
        assert is_open == np.isnan(exit_price)
        found.append(
            ATrade(
                instrument,
                "long" if side > 0 else "short",
                quantity,
                entry_at,
                entry_price,
                None if is_open else exit_at,
                None if is_open else exit_price,
                fees,
                pnl,
                gained,
                bars,
                mae,
                mfe,
                REASONS[reason],
                trades.tags[tag],
            )
        )
    return found


def plain_round_trips(fills, bars) -> list[ATrade]:
    by_instrument: dict[int, list[AFill]] = {}
    for fill in fills:
        by_instrument.setdefault(fill.instrument, []).append(fill)
    trades = [
        trade
        for instrument, own in sorted(by_instrument.items())
        for trade in _trades_of(own, bars[instrument])
    ]
    return sorted(trades, key=lambda trade: trade.entry_at)


def _trades_of(fills, bars) -> Iterator[ATrade]:
    trip = None
    for fill in fills:
        quantity, fee = fill.quantity, fill.fee
        if trip is not None and fill.side != trip[0].side:
            held = _held(trip)
            closes = min(quantity, held)
            share = fee if closes == quantity else fee * closes / quantity
            trip.append((fill, -closes, share))
            quantity, fee = quantity - closes, fee - share
            if _held(trip) == 0:
                yield _trade(trip, bars)
                trip = None
        if quantity > 0:
            trip = [fill] if trip is None else trip
            trip.append((fill, quantity, fee))
    if trip is not None:
        yield _trade(trip, bars)


def _held(trip):
    return sum(quantity for _, quantity, _ in trip[1:])


def _trade(trip, bars) -> ATrade:
    first, parts = trip[0], trip[1:]
    entries = [(f, q) for f, q, _ in parts if q > 0]
    exits = [(f, -q) for f, q, _ in parts if q < 0]
    entered, left = sum(q for _, q in entries), sum(q for _, q in exits)
    paid, got = sum(q * f.price for f, q in entries), sum(q * f.price for f, q in exits)
    fees = sum(fee for _, _, fee in parts)
    is_open = entered != left
    exit_at = None if is_open else exits[-1][0].at
    worth = got + (entered - left) * type(got + paid)(float(bars.close[-1]))
    pnl = first.side * (worth - paid) - fees
    lived = [
        row
        for row, closed in enumerate(bars.closed_at.tolist())
        if closed > first.at and (is_open or closed <= exit_at)
    ]
    entry_price = float(paid / entered)
    prices = [float(f.price) for f, _ in exits] + [entry_price]
    below = 1 - min([*prices, *(float(bars.low[row]) for row in lived)]) / entry_price
    above = max([*prices, *(float(bars.high[row]) for row in lived)]) / entry_price - 1
    last_leg = exits[-1][0].leg if exits else ""
    return ATrade(
        instrument=first.instrument,
        side="long" if first.side > 0 else "short",
        quantity=entered,
        entry_at=first.at,
        entry_price=paid / entered,
        exit_at=exit_at,
        exit_price=None if is_open else got / left,
        fees=fees,
        pnl=pnl,
        return_fraction=float(pnl / paid),
        bars_held=len(lived),
        mae=below if first.side > 0 else above,
        mfe=above if first.side > 0 else below,
        exit_reason="open" if is_open else ("exit" if last_leg == "entry" else last_leg),
        tag=first.tag,
    )
