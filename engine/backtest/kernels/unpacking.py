"""Fill records as columns, in one pass."""

from __future__ import annotations

from typing import Any

from engine.backtest.kernels.columns import nth
from engine.compiled import compiled


@compiled
def unpack(fills: Any, count: int, books: Any, instrument: Any, at: Any, side: Any, quantity: Any,
           price: Any, raw: Any, fee: Any, leg: Any, tag: Any) -> None:  # fmt: skip
    """The first `count` fills into arrays of that length, in the order of `results.FILL_TYPES`."""
    for k in range(count):
        told = nth(fills, k)
        instrument[k] = nth(books, told.book).id
        at[k], side[k], quantity[k] = told.at, told.side, told.quantity
        price[k], raw[k], fee[k] = told.price, told.raw, told.fee
        leg[k], tag[k] = told.leg, told.tag
