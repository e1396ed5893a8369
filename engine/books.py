"""Reading an account's books back from rows: what a restarted engine begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.costs import TIER_DAYS
from engine.portfolio import Portfolio, decimal_number
from shared.db.market import InstrumentRow
from shared.db.trading import (
    FillRow,
    LedgerEntryRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
)
from shared.domain.instruments import Instrument
from shared.domain.ledger import HOLDING
from shared.domain.orders import (
    DONE,
    Order,
    OrderState,
)
from shared.domain.positions import Position
from shared.domain.story import request_of


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order as it stood, and the market time of the last thing it heard."""

    order: Order
    at: datetime


def instruments_of(connection: sa.Connection, venue: str) -> dict[int, Instrument]:
    query = sa.select(InstrumentRow).where(InstrumentRow.venue == venue).order_by(InstrumentRow.id)
    return {row.id: as_instrument(row) for row in connection.execute(query)}


def as_instrument(row: Any) -> Instrument:
    return Instrument(
        id=row.id,
        venue=row.venue,
        symbol=row.symbol,
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        tick_size=row.tick_size,
        lot_size=row.lot_size,
        min_quantity=row.min_quantity,
        min_value=row.min_value,
        calendar=row.calendar,
        maker_fee=row.maker_fee,
        taker_fee=row.taker_fee,
    )


def holdings(connection: sa.Connection, account_id: int) -> dict[str, Decimal]:
    """What the ledger says the account holds of each asset it ever held."""
    entry = LedgerEntryRow
    into = sa.func.coalesce(sa.func.sum(entry.amount).filter(entry.debit == HOLDING), 0)
    out = sa.func.coalesce(sa.func.sum(entry.amount).filter(entry.credit == HOLDING), 0)
    query = (
        sa.select(entry.asset, into - out)
        .where(entry.account_id == account_id)
        .group_by(entry.asset)
        .order_by(entry.asset)
    )
    return {asset: Decimal(amount) for asset, amount in connection.execute(query)}


def portfolio_of(
    connection: sa.Connection,
    account_id: int,
    base_asset: str,
    instruments: Mapping[int, Instrument],
    peak: Decimal | None,
) -> Portfolio:
    """Balances from the ledger, positions from their rows."""
    balances = holdings(connection, account_id)
    cash = balances.pop(base_asset, Decimal(0))
    portfolio = Portfolio(base_asset, instruments, decimal_number, cash, peak)
    portfolio.balances.update(balances)
    query = sa.select(PositionRow).where(PositionRow.account_id == account_id)
    for row in connection.execute(query):
        position = Position(row.quantity, row.cost, row.realised, row.fees, row.opened_at)
        portfolio.restore(row.strategy_id or 0, row.instrument_id, position)
    return portfolio


def open_orders(connection: sa.Connection, account_id: int) -> list[OpenOrder]:
    """Orders that have not ended, oldest first."""
    return _orders(connection, account_id, OrderRow.state.not_in([state.value for state in DONE]))


def newest_ended(connection: sa.Connection, account_id: int, count: int) -> list[OpenOrder]:
    """The newest orders that ended, oldest first: a late fill may still come for them."""
    ended = OrderRow.state.in_([state.value for state in DONE])
    newest = _orders(connection, account_id, ended, newest=count)
    return list(reversed(newest))


def _orders(
    connection: sa.Connection, account_id: int, condition: Any, newest: int | None = None
) -> list[OpenOrder]:
    fills = sa.select(sa.func.array_agg(FillRow.venue_fill_id))
    fills = fills.where(FillRow.client_order_id == OrderRow.client_order_id)
    query = (
        sa.select(OrderIntentRow, OrderRow, fills.scalar_subquery().label("fill_ids"))
        .join(OrderRow, OrderRow.client_order_id == OrderIntentRow.client_order_id)
        .where(OrderRow.account_id == account_id, condition)
    )
    if newest is None:
        query = query.order_by(OrderIntentRow.released_at, OrderIntentRow.client_order_id)
    else:
        query = query.order_by(OrderRow.decided_at.desc()).limit(newest)
    with Session(connection) as session:
        return [
            OpenOrder(_order(intent, order, fill_ids or ()), order.updated_at)
            for intent, order, fill_ids in session.execute(query)
        ]


def _order(intent: OrderIntentRow, row: OrderRow, fill_ids: Any) -> Order:
    return Order(
        request=request_of(intent),
        state=OrderState(row.state),
        filled=row.filled_quantity,
        filled_value=row.filled_value,
        fees=row.fees,
        fill_ids=tuple(fill_ids),
        venue_order_id=row.venue_order_id,
        quantity=row.quantity,
        stop_price=_float(row.stop_price),
        limit_price=_float(row.limit_price),
        reason=row.reason,
        revision=row.revision,
        ended=OrderState(row.ended) if row.ended else None,
        is_triggered=row.is_triggered,
        is_last=row.state == OrderState.FILLED,
    )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def traded_by_day(
    connection: sa.Connection, account_id: int, until: datetime
) -> Iterator[tuple[int, float]]:
    """(ordinal of the day, value traded on it) of the days that fee tiers look back on."""
    day = sa.func.date_trunc("day", FillRow.filled_at, "UTC")
    query = (
        sa.select(day, sa.func.sum(FillRow.quantity * FillRow.price))
        .where(
            FillRow.account_id == account_id, FillRow.filled_at > until - timedelta(days=TIER_DAYS)
        )
        .group_by(day)
        .order_by(day)
    )
    for at, value in connection.execute(query):
        yield at.toordinal(), float(value)
