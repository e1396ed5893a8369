"""The life of one order: what was asked, everything that became of it, and why."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, abort, render_template

from shared.db.market import InstrumentRow
from shared.db.trading import (
    DecisionRow,
    FillRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
)
from webapp import auth
from webapp.accounts import ORDER_TONES
from webapp.db import db

bp = Blueprint("story", __name__)


@bp.get("/books/orders/<uuid:client_order_id>")
@auth.viewer
def page(client_order_id: UUID) -> str:
    """One order: what was asked, all that became of it, and why."""
    row = db.session.get(OrderRow, client_order_id)
    if row is None:
        abort(404)
    intent = db.session.get_one(OrderIntentRow, client_order_id)
    by_order = FillRow.client_order_id == client_order_id
    relatives = sa.or_(
        OrderIntentRow.parent_id == client_order_id,
        OrderIntentRow.client_order_id == intent.parent_id,
    )
    return render_template(
        "story/page.html",
        order=row,
        intent=intent,
        tone=ORDER_TONES[row.state],
        order_tones=ORDER_TONES,
        instrument=db.session.get_one(InstrumentRow, row.instrument_id),
        strategy=db.session.get(StrategyRow, row.strategy_id) if row.strategy_id else None,
        decision=db.session.get(DecisionRow, intent.decision_id),
        fills=list(db.session.scalars(sa.select(FillRow).where(by_order).order_by(FillRow.id))),
        happenings=_order_events(client_order_id),
        relatives=db.session.execute(
            sa.select(OrderRow, OrderIntentRow)
            .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
            .where(relatives)
        ).all(),
    )


def _order_events(client_order_id: UUID) -> list[OrderEventRow]:
    query = sa.select(OrderEventRow).where(OrderEventRow.client_order_id == client_order_id)
    return list(db.session.scalars(query.order_by(OrderEventRow.id)))
