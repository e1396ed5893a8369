"""What an account holds and is worth: cash, positions by strategy, marks, equity and its peak.

The number type of the books is injected: Decimal in paper and live, float in research.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from shared.domain.instruments import Instrument
from shared.domain.ledger import HOLDING, LedgerEntry, entries_of
from shared.domain.orders import Fill, Number
from shared.domain.positions import Position

ToNumber = Callable[[float], Number]


def decimal_number(value: float) -> Decimal:
    """A float as the decimal its shortest form says."""
    return Decimal(repr(value))


def float_number(value: float) -> float:
    return value


class Portfolio:
    """One account's books in memory. `base_asset` is what equity is told in."""

    def __init__(
        self,
        base_asset: str,
        instruments: Mapping[int, Instrument],
        number: ToNumber,
        cash: Number,
        peak: Number | None = None,
    ) -> None:
        self.base_asset = base_asset
        self.instruments = instruments
        self.number = number
        self.cash = cash
        self.positions: dict[tuple[int, int], Position] = {}
        self.marks: dict[int, float] = {}
        self.peak = peak if peak is not None else cash
        self._held: dict[int, Number] = {}

    def restore(self, strategy_id: int, instrument_id: int, position: Position) -> None:
        """Take in a position that the database already knows."""
        self.positions[strategy_id, instrument_id] = position
        self._held[instrument_id] = self._held.get(instrument_id, 0) + position.quantity

    def position(self, strategy_id: int, instrument_id: int) -> Position:
        return self.positions.get((strategy_id, instrument_id), _FLAT)

    def held(self, instrument_id: int) -> Number:
        """Signed quantity across all strategies."""
        return self._held.get(instrument_id, 0)

    def mark(self, instrument_id: int, price: float) -> None:
        self.marks[instrument_id] = price

    def equity(self) -> Number | None:
        """Cash and everything held at its mark; None while a holding has no mark or other currency."""
        total = self.cash
        for instrument_id, quantity in self._held.items():
            if quantity == 0:
                continue
            mark = self.marks.get(instrument_id)
            if mark is None or self.instruments[instrument_id].quote_asset != self.base_asset:
                return None
            total += quantity * self.number(mark)
        return total

    def remember_peak(self) -> Number | None:
        """The equity now; the peak moves up with it."""
        equity = self.equity()
        if equity is not None and equity > self.peak:
            self.peak = equity
        return equity

    def strategy_equity(self, strategy_id: int, allocation: Number) -> Number:
        """The allocation, grown or shrunk by the strategy's own marked P&L."""
        total = allocation
        for (owner, instrument_id), position in self.positions.items():
            if owner != strategy_id:
                continue
            total += position.realised - position.fees
            if not position.is_flat:
                mark = self.marks.get(instrument_id)
                value = position.cost if mark is None else position.quantity * self.number(mark)
                total += value - position.cost
        return total

    def strategy_cash(self, strategy_id: int, allocation: Number) -> Number:
        """What the strategy has not tied up: allocation and realised P&L, less fees and cost held."""
        total = allocation
        for (owner, _), position in self.positions.items():
            if owner == strategy_id:
                total += position.realised - position.fees - position.cost
        return total

    def book(self, fill: Fill) -> tuple[tuple[LedgerEntry, ...], Position, Number]:
        """Take a fill in: its ledger entries, the position after it, and the P&L it realised."""
        instrument = self.instruments[fill.instrument_id]
        before = self.position(fill.strategy_id, fill.instrument_id)
        after = before.after(fill)
        self.positions[fill.strategy_id, fill.instrument_id] = after
        change = fill.side.sign * fill.quantity
        self._held[fill.instrument_id] = self._held.get(fill.instrument_id, 0) + change
        entries = entries_of(fill, instrument)
        self.cash += moved(entries, self.base_asset)
        return entries, after, after.realised - before.realised


_FLAT = Position()


def moved(entries: Iterable[LedgerEntry], asset: str) -> Number:
    """What the account's holding of `asset` changes by."""
    total: Number = 0
    for entry in entries:
        if entry.asset != asset:
            continue
        if entry.debit == HOLDING:
            total += entry.amount
        if entry.credit == HOLDING:
            total -= entry.amount
    return total
