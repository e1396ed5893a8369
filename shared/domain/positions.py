"""A position: signed quantity and cost, the sum of its fills."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from shared.domain.orders import Fill, Number


class Position(Struct, frozen=True):
    """By average cost. `cost` is signed like `quantity`: what was paid for what is held.

    `realised` leaves fees out; they are counted in `fees`, so P&L is realised + unrealised - fees.
    """

    quantity: Number = 0
    cost: Number = 0
    realised: Number = 0
    fees: Number = 0
    opened_at: datetime | None = None

    @property
    def is_flat(self) -> bool:
        return bool(self.quantity == 0)

    def unrealised(self, mark: Number) -> Number:
        return self.quantity * mark - self.cost

    def after(self, fill: Fill, fee: Number | None = None) -> Position:
        """This position once `fill` is in it; `fee` is its fee in the quote asset, if paid in another."""
        change = fill.side.sign * fill.quantity
        quantity = self.quantity + change
        fees = self.fees + (fill.fee if fee is None else fee)
        if self.quantity * change >= 0:
            opened_at = fill.at if self.is_flat else self.opened_at
            cost = self.cost + change * fill.price
            return Position(quantity, cost, self.realised, fees, opened_at)
        if abs(change) < abs(self.quantity):
            released = self.cost * (-change) / self.quantity
            realised = self.realised - change * fill.price - released
            return Position(quantity, self.cost - released, realised, fees, self.opened_at)
        # All of it closes; what is left over opens the other way at the fill's price.
        realised = self.realised + self.quantity * fill.price - self.cost
        opened_at = fill.at if quantity else None
        return Position(quantity, quantity * fill.price, realised, fees, opened_at)
