"""One decision, and one posting: everything that was booked under one reference."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from flask import abort

from shared.db.lots import LotRow
from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    FillRow,
    LedgerEntryRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
)
from webapp import auth
from webapp.books.blueprint import OUTCOME_TEXTS, OUTCOME_TONES, bp, shown
from webapp.books.lists import names_of
from webapp.db import db


@bp.get("/decisions/<uuid:decision_id>")
@auth.viewer
def decision(decision_id: UUID) -> str:
    """One decision: the bar, the signal and its reason, each check, each step, what came of it."""
    row = db.session.get(DecisionRow, decision_id)
    if row is None:
        abort(404)
    came = db.session.execute(
        sa.select(OrderRow, OrderIntentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .where(OrderIntentRow.decision_id == decision_id)
        .order_by(OrderIntentRow.leg)
    ).all()
    return shown(
        "books/decision.html",
        decision=row,
        tone=OUTCOME_TONES[row.outcome],
        outcome_text=OUTCOME_TEXTS[row.outcome],
        instrument=db.session.get_one(InstrumentRow, row.instrument_id),
        strategy=db.session.get(StrategyRow, row.strategy_id) if row.strategy_id else None,
        orders=came,
    )


@bp.get("/books/fills/<int:fill_id>")
@auth.viewer
def fill(fill_id: int) -> str:
    """One fill: its order, what it moved in the ledger, the lots it opened and closed."""
    row = db.session.get(FillRow, fill_id)
    if row is None:
        abort(404)
    return _posting(row.account_id, f"fill:{row.venue_fill_id}", row)


@bp.get("/books/ledger/<int:entry_id>")
@auth.viewer
def entry(entry_id: int) -> str:
    """The posting an entry is part of."""
    row = db.session.get(LedgerEntryRow, entry_id)
    if row is None:
        abort(404)
    fill = None
    if row.reference.startswith("fill:"):
        fill = db.session.scalar(
            sa.select(FillRow).where(
                FillRow.account_id == row.account_id,
                FillRow.venue_fill_id == row.reference.removeprefix("fill:"),
            )
        )
    return _posting(row.account_id, row.reference, fill)


@bp.get("/books/lots/<int:lot_id>")
@auth.viewer
def lot(lot_id: int) -> str:
    """One lot: the posting that opened it, and the one that closed it."""
    row = db.session.get(LotRow, lot_id)
    if row is None:
        abort(404)
    entries = _entries(row.account_id, row.opened_by, row.closed_by)
    return shown(
        "books/lot.html",
        lot=row,
        opening=[e for e in entries if e.reference == row.opened_by],
        closing=[e for e in entries if e.reference == row.closed_by],
        names=names_of([row, *entries]),
    )


def _posting(account_id: int, reference: str, fill: FillRow | None) -> str:
    entries = _entries(account_id, reference)
    lots = list(
        db.session.scalars(
            sa.select(LotRow)
            .where(
                LotRow.account_id == account_id,
                sa.or_(LotRow.opened_by == reference, LotRow.closed_by == reference),
            )
            .order_by(LotRow.id)
            .limit(200)
        )
    )
    others = db.session.execute(
        sa.select(LedgerEntryRow, AccountRow.name)
        .join(AccountRow, AccountRow.id == LedgerEntryRow.account_id)
        .where(
            LedgerEntryRow.reference == reference,
            LedgerEntryRow.account_id != account_id,
            LedgerEntryRow.kind == "transfer",
        )
    ).all()
    listed = [*entries, *lots, *([fill] if fill else [])]
    return shown(
        "books/posting.html",
        reference=reference,
        entries=entries,
        lots=lots,
        fill=fill,
        others=others,
        names=names_of(listed),
    )


def _entries(account_id: int, *references: str) -> list[LedgerEntryRow]:
    query = sa.select(LedgerEntryRow).where(
        LedgerEntryRow.account_id == account_id, LedgerEntryRow.reference.in_(references)
    )
    return list(db.session.scalars(query.order_by(LedgerEntryRow.id)))
