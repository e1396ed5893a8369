"""What an account holds and is worth: cash, positions by strategy, marks, equity and its peak.

The number type of the books is injected: Decimal in paper and live, float in research.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from msgspec.structs import replace

from engine.actions import Posted
from engine.margin import NO_MARGIN, Margin
from shared.domain.instruments import Instrument
from shared.domain.ledger import HOLDING, LedgerEntry, entries_of
from shared.domain.orders import Fill, Number, Side
from shared.domain.positions import Position

ToNumber = Callable[[float], Number]


def decimal_number(value: float) -> Decimal:
    """A float as the decimal its shortest form says."""
    return Decimal(repr(value))


def float_number(value: float) -> float:
    return value


class Portfolio:
    """One account's books in memory. `base_asset` is what equity is told in.

    `balances` is what the account holds of every asset, base and fee assets included: the ledger's own
    sums. Positions say whose it is and what it cost.
    """

    def __init__(
        self,
        base_asset: str,
        instruments: Mapping[int, Instrument],
        number: ToNumber,
        cash: Number,
        peak: Number | None = None,
        margin: Margin = NO_MARGIN,
    ) -> None:
        self.base_asset = base_asset
        self.instruments = instruments
        self.number = number
        self.margin = margin
        self.balances: dict[str, Number] = {base_asset: cash}
        self.positions: dict[tuple[int, int], Position] = {}
        self.marks: dict[int, float] = {}
        self.peak = peak if peak is not None else cash
        self._held: dict[int, Number] = {}
        self._paths: dict[str, tuple[tuple[int, bool], ...] | None] = {}

    @property
    def cash(self) -> Number:
        """What the account holds of its base asset; below zero when it is borrowed."""
        return self.balances[self.base_asset]

    def balance(self, asset: str) -> Number:
        return self.balances.get(asset, 0)

    def restore(self, strategy_id: int, instrument_id: int, position: Position) -> None:
        """Take in a position that the database already knows."""
        self._put(strategy_id, instrument_id, position)

    def position(self, strategy_id: int, instrument_id: int) -> Position:
        return self.positions.get((strategy_id, instrument_id), _FLAT)

    def held(self, instrument_id: int) -> Number:
        """Signed quantity across all strategies."""
        return self._held.get(instrument_id, 0)

    def held_all(self) -> Mapping[int, Number]:
        """Signed quantities across all strategies, by instrument."""
        return self._held

    def mark(self, instrument_id: int, price: float) -> None:
        self.marks[instrument_id] = price

    def rate(self, asset: str) -> Number | None:
        """What one unit of `asset` is worth in the base asset, by marks; None without a way there."""
        if asset == self.base_asset:
            return 1
        if asset not in self._paths:
            self._paths[asset] = self._path(asset)
        path = self._paths[asset]
        if path is None:
            return None
        rate: Number = self.number(1.0)
        for instrument_id, forward in path:
            mark = self.marks.get(instrument_id)
            if mark is None:
                return None
            rate = rate * self.number(mark) if forward else rate / self.number(mark)
        return rate

    def worth(self, asset: str, amount: Number) -> Number | None:
        """An amount of another asset in the base asset; None without a rate, or when it is the base asset."""
        if asset == self.base_asset:
            return None
        rate = self.rate(asset)
        return None if rate is None else amount * rate

    def _path(self, asset: str) -> tuple[tuple[int, bool], ...] | None:
        """The shortest chain of instruments from `asset` to the base asset: (id, base to quote?)."""
        chains: dict[str, tuple[tuple[int, bool], ...]] = {asset: ()}
        frontier = [asset]
        while frontier:
            here = frontier.pop(0)
            if here == self.base_asset:
                return chains[here]
            for instrument_id, instrument in sorted(self.instruments.items()):
                for at, to, forward in (
                    (instrument.base_asset, instrument.quote_asset, True),
                    (instrument.quote_asset, instrument.base_asset, False),
                ):
                    if at == here and to not in chains:
                        chains[to] = (*chains[here], (instrument_id, forward))
                        frontier.append(to)
        return None

    def equity(self) -> Number | None:
        """Every balance at its rate into the base asset; None while one of them has none."""
        total = self.balances[self.base_asset]
        for asset, amount in self.balances.items():
            if amount == 0 or asset == self.base_asset:
                continue
            rate = self.rate(asset)
            if rate is None:
                return None
            total += amount * rate
        return total

    @property
    def allow_short(self) -> bool:
        """Whether anybody may hold less than nothing."""
        return self.margin.enabled

    def power(self, instrument_id: int) -> Number:
        """What may be spent on making positions larger, in the instrument's quote asset.

        Without margin what there is of that asset; with it, what leverage leaves. 0 while it is unknown.
        """
        asset = self.instruments[instrument_id].quote_asset
        if not self.margin.enabled:
            return self.balance(asset)
        equity, gross, rate = self.equity(), self.gross(), self.rate(asset)
        if equity is None or gross is None or not rate:
            return self.number(0.0)
        return (equity * self.number(self.margin.leverage) - self.number(gross)) / rate

    def held_by(self, strategy_id: int, instrument_id: int) -> Number:
        """The signed quantity a strategy holds."""
        return self.positions.get((strategy_id, instrument_id), _FLAT).quantity

    def gross(self) -> float | None:
        """The value of all that is held, long or short, in the base asset; None while it is unknown."""
        total = 0.0
        for instrument_id, quantity in self._held.items():
            if quantity == 0:
                continue
            rate = self.rate(self.instruments[instrument_id].quote_asset)
            mark = self.marks.get(instrument_id)
            if rate is None or mark is None:
                return None
            total += abs(float(quantity)) * mark * float(rate)
        return total

    def remember_peak(self) -> Number | None:
        """The equity now; the peak moves up with it."""
        equity = self.equity()
        if equity is not None and equity > self.peak:
            self.peak = equity
        return equity

    def strategy_equity(self, strategy_id: int, allocation: Number) -> Number:
        """The allocation, grown or shrunk by the strategy's own marked P&L, in the base asset."""
        total = allocation
        for (owner, instrument_id), position in self.positions.items():
            if owner != strategy_id:
                continue
            gained = position.realised - position.fees
            if not position.is_flat:
                mark = self.marks.get(instrument_id)
                value = position.cost if mark is None else position.quantity * self.number(mark)
                gained += value - position.cost
            total += self._in_base(gained, instrument_id)
        return total

    def strategy_cash(self, strategy_id: int, allocation: Number) -> Number:
        """What the strategy has not tied up: allocation and realised P&L, less fees and cost held."""
        total = allocation
        for (owner, instrument_id), position in self.positions.items():
            if owner == strategy_id:
                freed = position.realised - position.fees - abs(position.cost)
                total += self._in_base(freed, instrument_id)
        return total

    def strategy_gross(self, strategy_id: int) -> float:
        """The marked value of all a strategy holds, long or short, in the base asset."""
        total = 0.0
        for (owner, instrument_id), position in self.positions.items():
            if owner == strategy_id and not position.is_flat:
                mark = self.marks.get(instrument_id)
                value = position.cost if mark is None else position.quantity * self.number(mark)
                total += abs(float(self._in_base(value, instrument_id)))
        return total

    def _in_base(self, amount: Number, instrument_id: int) -> Number:
        """An amount of the instrument's quote asset in the base asset, as it is where no rate is known."""
        asset = self.instruments[instrument_id].quote_asset
        if asset == self.base_asset or amount == 0:
            return amount
        return amount * (self.rate(asset) or 1)

    def book(self, fill: Fill) -> tuple[tuple[LedgerEntry, ...], Position, Number]:
        """Take a fill in: its ledger entries, the position after it, and the P&L it realised."""
        instrument = self.instruments[fill.instrument_id]
        before = self.position(fill.strategy_id, fill.instrument_id)
        after = before.after(fill, self._fee_in_quote(fill, instrument))
        if fill.fee and fill.fee_asset == instrument.base_asset:
            after = _less_fee(after, fill)
        self._put(fill.strategy_id, fill.instrument_id, after)
        entries = entries_of(fill, instrument, self.worth)
        self._move(entries)
        return entries, after, after.realised - before.realised

    def post(self, posted: Posted) -> None:
        """Take in money or holdings that moved without a fill."""
        self._move(posted.entries)
        for strategy_id, instrument_id, position in posted.positions:
            self._put(strategy_id, instrument_id, position)

    def _fee_in_quote(self, fill: Fill, instrument: Instrument) -> Number:
        """A fee's worth in the quote asset. One in an asset without a rate costs the position nothing:
        the ledger has it, and equity is unknown until the asset has a price."""
        if fill.fee == 0 or fill.fee_asset == instrument.quote_asset:
            return fill.fee
        if fill.fee_asset == instrument.base_asset:
            return fill.fee * fill.price
        rate, quote = self.rate(fill.fee_asset), self.rate(instrument.quote_asset)
        return fill.fee * rate / quote if rate is not None and quote else 0 * fill.fee

    def _put(self, strategy_id: int, instrument_id: int, position: Position) -> None:
        before = self.positions.get((strategy_id, instrument_id), _FLAT)
        self.positions[strategy_id, instrument_id] = position
        change = position.quantity - before.quantity
        self._held[instrument_id] = self._held.get(instrument_id, 0) + change

    def _move(self, entries: Iterable[LedgerEntry]) -> None:
        balances = self.balances
        for entry in entries:
            if entry.debit == HOLDING:
                balances[entry.asset] = balances.get(entry.asset, 0) + entry.amount
            if entry.credit == HOLDING:
                balances[entry.asset] = balances.get(entry.asset, 0) - entry.amount


def _less_fee(position: Position, fill: Fill) -> Position:
    """A fee in the very thing that was traded takes it away: sold, as it were, at the fill's price."""
    side = Side.SELL if fill.fee > 0 else Side.BUY
    return position.after(replace(fill, side=side, quantity=abs(fill.fee), fee=0 * fill.fee))


_FLAT = Position()
