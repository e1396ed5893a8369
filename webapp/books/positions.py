"""Positions: what each strategy, and each hand, holds and has earned."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, request

from shared.db.market import InstrumentRow
from shared.db.trading import AccountRow, PositionRow, StrategyRow
from shared.domain.lots import is_dust
from webapp import accounts, auth
from webapp.accounts import Holding
from webapp.books.blueprint import account_looked_at, bp, shown
from webapp.books.listing import Choice, streamed
from webapp.books.lists import by_instrument, by_strategy
from webapp.db import db

ZERO: Final = Decimal(0)
ORDERS: Final[dict[str, Callable[[Holding], Any]]] = {
    "instrument": lambda h: h.instrument.symbol,
    "value": lambda h: abs(h.value or ZERO) if h.position.quantity else Decimal(-1),
    "unrealised": lambda h: (h.unrealised or ZERO) if h.position.quantity else ZERO,
    "realised": lambda h: h.position.realised,
    "fees": lambda h: h.position.fees,
}
HEAD: Final = (
    "instrument", "strategy", "quantity", "cost", "mark", "value", "unrealised", "realised", "fees",
    "opened_at", "updated_at",
)  # fmt: skip


def _choices(account: AccountRow) -> tuple[Choice, ...]:
    standing = Choice(
        "state", "State", (("open", "open"), ("flat", "flat")),
        lambda value: (PositionRow.quantity != 0) if value == "open" else PositionRow.quantity == 0,
    )  # fmt: skip
    return (by_strategy(account, PositionRow), by_instrument(account, PositionRow), standing)


def _held(account: AccountRow, choices: tuple[Choice, ...]) -> list[Holding]:
    query = (
        sa.select(PositionRow, InstrumentRow, StrategyRow)
        .join(InstrumentRow, InstrumentRow.id == PositionRow.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == PositionRow.strategy_id)
        .where(PositionRow.account_id == account.id)
        .where(*(choice.condition(choice.value) for choice in choices if choice.value))
        .order_by((PositionRow.quantity == 0), InstrumentRow.symbol, PositionRow.id)
    )
    rows = db.session.execute(query).all()
    mark_of = accounts.marks(account.id, list({i.id: i for _, i, _ in rows}.values()))
    held = [Holding(p, i, s, mark_of.get(i.id)) for p, i, s in rows]
    if order := ORDERS.get(request.args.get("sort", "")):
        held.sort(key=order, reverse=request.args.get("dir") != "asc")
    return held


@bp.get("/books/positions")
@auth.viewer
def positions() -> str:
    """What each strategy holds and has earned, flat ones included."""
    account = account_looked_at()
    choices = _choices(account)
    held = _held(account, choices)
    dust = {
        h.position.id
        for h in held
        if is_dust(h.position.quantity, h.mark, h.instrument.lot_size, account.dust_value)
    }
    return shown(
        "books/positions.html",
        held=held,
        sums=_sums(held),
        dust=dust,
        choices=choices,
        is_filtered=any(choice.value for choice in choices),
        sort=request.args.get("sort", ""),
        descending=request.args.get("dir") != "asc",
    )


@bp.get("/books/positions.csv")
@auth.viewer
def positions_csv() -> Response:
    account = account_looked_at()
    rows = (
        (
            h.instrument.symbol, h.strategy.name if h.strategy else "", h.position.quantity,
            h.position.cost, h.mark, h.value, h.unrealised, h.position.realised, h.position.fees,
            h.position.opened_at, h.position.updated_at,
        )
        for h in _held(account, _choices(account))
    )  # fmt: skip
    return streamed(HEAD, rows, f"positions-{account.name}.csv".replace(" ", "-"))


def _sums(held: list[Holding]) -> dict[str, Decimal]:
    unrealised = sum(((h.unrealised or ZERO) for h in held if h.position.quantity), ZERO)
    realised = sum((h.position.realised for h in held), ZERO)
    fees = sum((h.position.fees for h in held), ZERO)
    return {
        "unrealised": unrealised,
        "realised": realised,
        "fees": fees,
        "pnl": realised + unrealised - fees,
    }
