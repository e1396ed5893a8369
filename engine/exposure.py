"""What an account stands to hold and to pay once its working orders have filled."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct

from engine.costs import Costs
from engine.portfolio import Portfolio
from shared.domain.orders import Leg, Order, Side


class Exposure(Struct, frozen=True):
    """The account's working orders beside its books."""

    portfolio: Portfolio
    orders: Collection[Order]
    costs: Costs

    def free(self, strategy_id: int, instrument_id: int, allocation: float | None) -> float:
        """What a strategy may still spend on one instrument, in its quote asset.

        What working orders will take is taken off; those on the same instrument are not, since a new
        decision replaces them. `allocation` of None: by hand, all the account has.
        """
        promised, own_promised = self._promised(strategy_id, instrument_id)
        free = float(self.portfolio.power(instrument_id)) - promised
        if allocation is None:
            return free
        rate = self.portfolio.rate(self._quote(instrument_id))
        own = self._own_power(strategy_id, allocation)
        return min(free, own / float(rate) - own_promised) if rate else 0.0

    def _own_power(self, strategy_id: int, allocation: float) -> float:
        """In the base asset: its free cash, or with margin what leverage leaves of its equity."""
        portfolio = self.portfolio
        if not portfolio.margin.enabled:
            return float(portfolio.strategy_cash(strategy_id, allocation))
        equity = float(portfolio.strategy_equity(strategy_id, allocation))
        held = portfolio.strategy_gross(strategy_id)
        return equity * portfolio.margin.leverage - held

    def _promised(self, strategy_id: int, instrument_id: int) -> tuple[float, float]:
        """Money promised to orders that work, by all and by this strategy, in the instrument's quote asset."""
        everyone = own = 0.0
        if not self.orders:
            return everyone, own
        quote = self._quote(instrument_id)
        for order in self._adding():
            request = order.request
            if (request.strategy_id, request.instrument_id) == (strategy_id, instrument_id):
                continue
            value = self._in(quote, request.instrument_id, self.left_value(order))
            everyone += value
            own += value if request.strategy_id == strategy_id else 0.0
        return everyone, own

    def _adding(self) -> Iterator[Order]:
        """Working orders that will take money: buys, and with margin sales that open."""
        margin = self.portfolio.margin.enabled
        for order in self.orders:
            request = order.request
            if order.is_done or request.leg.is_protective or request.reduce_only:
                continue
            if request.side is Side.BUY or margin:
                yield order

    def _in(self, asset: str, instrument_id: int, amount: float) -> float:
        """An amount of an instrument's quote asset in another asset; without margin only the same one counts."""
        quote = self._quote(instrument_id)
        if quote == asset:
            return amount
        if not self.portfolio.margin.enabled:
            return 0.0
        there, here = self.portfolio.rate(quote), self.portfolio.rate(asset)
        return amount * float(there) / float(here) if there and here else amount

    def left_value(self, order: Order) -> float:
        """What is left of an order, costs included, in quote units, at its price or mark."""
        request = order.request
        asked = order.asked_quantity
        if asked is None:
            return max(0.0, float(request.value or 0) - float(order.filled_value))
        price = order.limit_price or request.limit_price or order.stop_price or request.stop_price
        price = price or self.portfolio.marks.get(request.instrument_id, 0.0)
        return (
            float(asked - order.filled) * price * (1 + self.costs.on_top(price)) if price else 0.0
        )

    def after(
        self, strategy_id: int | None, instrument_id: int, change: float, price: float
    ) -> float:
        """Value of an instrument across strategies, in its quote asset, if this and every working entry filled.

        Entries of `strategy_id` there do not count: this change replaces them. None replaces nothing.
        """
        quantity = float(self.portfolio.held(instrument_id)) + change
        for order in self.orders:
            request = order.request
            if order.is_done or request.instrument_id != instrument_id:
                continue
            if request.strategy_id == strategy_id or request.leg is not Leg.ENTRY:
                continue
            asked = order.asked_quantity
            left = (
                float(asked - order.filled)
                if asked is not None
                else float(request.value or 0) / price
            )
            quantity += request.side.sign * left
        return quantity * price

    def positions(self, instrument_id: int) -> int:
        """How many instruments the account holds, or may hold soon, with this one among them."""
        held = {
            id_ for (_, id_), position in self.portfolio.positions.items() if not position.is_flat
        }
        if not self.orders:
            return len(held | {instrument_id})
        held |= {
            order.request.instrument_id
            for order in self.orders
            if not order.is_done and order.request.leg is Leg.ENTRY
        }
        return len(held | {instrument_id})

    def _quote(self, instrument_id: int) -> str:
        return self.portfolio.instruments[instrument_id].quote_asset
