"""The books: decisions, orders, fills, positions, ledger. Every list by key, every row with its page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    FillRow,
    LedgerEntryRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyRow,
)
from webapp import accounts, auth
from webapp.accounts import ORDER_TONES
from webapp.db import db
from webapp.paging import AnySelect, Slice, sliced

bp = Blueprint("books", __name__)

OUTCOME_TONES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}
OUTCOME_TEXTS: Final = {
    "ordered": "ordered",
    "denied": "denied by risk",
    "refused": "refused: trading was stopped",
    "nothing": "nothing to do",
}
TABS: Final = (
    ("Orders", "books.orders"),
    ("Fills", "books.fills"),
    ("Positions", "books.positions"),
    ("Ledger", "books.ledger"),
    ("Decisions", "books.decisions"),
)


@dataclass(frozen=True, slots=True)
class Names:
    """Rows that lists name by id."""

    strategies: dict[int, StrategyRow]
    instruments: dict[int, InstrumentRow]


def _names(rows: Iterable[Any]) -> Names:
    listed = list(rows)
    return Names(
        strategies=accounts.names(StrategyRow, {r.strategy_id for r in listed}),
        instruments=accounts.names(
            InstrumentRow, {getattr(r, "instrument_id", None) for r in listed}
        ),
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """One choice above a list: what may be chosen, and what is."""

    name: str
    label: str
    options: list[tuple[str, str]]
    value: str


def _account() -> AccountRow:
    """The account looked at; without one, the books say that they have not begun."""
    account = accounts.chosen()
    if account is None:
        abort(make_response(render_template("books/none.html")))
    return account


def _strategy_filter(account: AccountRow) -> Filter:
    query = (
        sa.select(StrategyRow)
        .where(StrategyRow.account_id == account.id)
        .order_by(StrategyRow.name, StrategyRow.id)
    )
    options = [
        (str(s.id), s.name if s.deleted_at is None else f"{s.name} (deleted)")
        for s in db.session.scalars(query)
    ]
    return Filter("strategy", "Strategy", options, request.args.get("strategy", ""))


def _instrument_filter(account: AccountRow) -> Filter:
    traded = sa.select(PositionRow.instrument_id).where(PositionRow.account_id == account.id)
    decided = sa.select(DecisionRow.instrument_id).where(DecisionRow.account_id == account.id)
    query = (
        sa.select(InstrumentRow)
        .where(InstrumentRow.id.in_(traded.union(decided)))
        .order_by(InstrumentRow.symbol)
    )
    options = [(str(i.id), i.symbol) for i in db.session.scalars(query)]
    return Filter("instrument", "Instrument", options, request.args.get("instrument", ""))


def _choice_filter(name: str, label: str, choices: Iterable[str]) -> Filter:
    options = [(choice, choice.replace("_", " ")) for choice in choices]
    return Filter(name, label, options, request.args.get(name, ""))


def _narrowed(query: AnySelect, model: Any, chosen: list[Filter]) -> AnySelect:
    """The query with the filters that are set."""
    columns = {"strategy": "strategy_id", "instrument": "instrument_id"}
    for choice in chosen:
        if not choice.value or choice.value not in dict(choice.options):
            continue
        column = getattr(model, columns.get(choice.name, choice.name))
        query = query.where(
            column == (int(choice.value) if choice.name in columns else choice.value)
        )
    return query


def _list(template: str, page: Slice[Any], chosen: list[Filter], **more: Any) -> str:
    return render_template(
        template,
        page=page,
        filters=chosen,
        is_filtered=any(f.value for f in chosen),
        tabs=TABS,
        account=accounts.chosen(),
        order_tones=ORDER_TONES,
        outcome_tones=OUTCOME_TONES,
        outcome_texts=OUTCOME_TEXTS,
        **more,
    )


@bp.get("/books")
@auth.viewer
def page() -> AnyResponse:
    return redirect(url_for("books.orders"))


@bp.get("/books/orders")
@auth.viewer
def orders() -> str:
    """Every order, and where it stands. `?show=working` leaves out those that are over."""
    account = _account()
    chosen = [
        _strategy_filter(account),
        _instrument_filter(account),
        _choice_filter("state", "State", ORDER_TONES),
    ]
    query = (
        sa.select(OrderRow, OrderIntentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .where(OrderRow.account_id == account.id)
    )
    page = sliced(
        _narrowed(query, OrderRow, chosen),
        (OrderRow.decided_at, OrderRow.client_order_id),
        lambda row: (row[0].decided_at, row[0].client_order_id),
    )
    return _list("books/orders.html", page, chosen, names=_names(o for o, _ in page.rows))


@bp.get("/books/fills")
@auth.viewer
def fills() -> str:
    """Everything that traded."""
    account = _account()
    chosen = [
        _strategy_filter(account),
        _instrument_filter(account),
        _choice_filter("side", "Side", ("buy", "sell")),
    ]
    query = sa.select(FillRow).where(FillRow.account_id == account.id)
    page = sliced(
        _narrowed(query, FillRow, chosen),
        (FillRow.filled_at, FillRow.id),
        lambda fill: (fill.filled_at, fill.id),
    )
    return _list("books/fills.html", page, chosen, names=_names(page.rows))


@bp.get("/books/positions")
@auth.viewer
def positions() -> str:
    """What each strategy holds and has earned, flat ones included."""
    account = _account()
    query = (
        sa.select(PositionRow, InstrumentRow, StrategyRow)
        .join(InstrumentRow, InstrumentRow.id == PositionRow.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == PositionRow.strategy_id)
        .where(PositionRow.account_id == account.id)
        .order_by((PositionRow.quantity == 0), InstrumentRow.symbol, PositionRow.id)
    )
    rows = db.session.execute(query).all()
    mark_of = accounts.marks(account.id, list({i.id: i for _, i, _ in rows}.values()))
    held = [accounts.Holding(p, i, s, mark_of.get(i.id)) for p, i, s in rows]
    page: Slice[Any] = Slice(held, is_later=False, newest_url="", older_url=None)
    return _list("books/positions.html", page, [], sums=_sums(held))


def _sums(held: list[accounts.Holding]) -> dict[str, Decimal]:
    zero = Decimal(0)
    unrealised = sum(((h.unrealised or zero) for h in held if h.position.quantity), zero)
    realised = sum((h.position.realised for h in held), zero)
    fees = sum((h.position.fees for h in held), zero)
    return {
        "unrealised": unrealised,
        "realised": realised,
        "fees": fees,
        "pnl": realised + unrealised - fees,
    }


@bp.get("/books/ledger")
@auth.viewer
def ledger() -> str:
    """Double entry: each row moves one amount of one asset from one book to another."""
    account = _account()
    assets = db.session.scalars(
        sa.select(LedgerEntryRow.asset).where(LedgerEntryRow.account_id == account.id).distinct()
    )
    kinds = db.session.scalars(
        sa.select(LedgerEntryRow.kind).where(LedgerEntryRow.account_id == account.id).distinct()
    )
    chosen = [
        _strategy_filter(account),
        _choice_filter("asset", "Asset", sorted(assets)),
        _choice_filter("kind", "Kind", sorted(kinds)),
    ]
    query = sa.select(LedgerEntryRow).where(LedgerEntryRow.account_id == account.id)
    page = sliced(
        _narrowed(query, LedgerEntryRow, chosen),
        (LedgerEntryRow.at, LedgerEntryRow.id),
        lambda entry: (entry.at, entry.id),
    )
    return _list(
        "books/ledger.html", page, chosen, names=_names(page.rows), balances=_balances(account)
    )


def _balances(account: AccountRow) -> list[tuple[str, Decimal]]:
    """(asset, what the account has of it), summed from the ledger."""
    into = sa.case((LedgerEntryRow.debit == "holding", LedgerEntryRow.amount), else_=0)
    out = sa.case((LedgerEntryRow.credit == "holding", LedgerEntryRow.amount), else_=0)
    query = (
        sa.select(LedgerEntryRow.asset, sa.func.sum(into - out))
        .where(LedgerEntryRow.account_id == account.id)
        .group_by(LedgerEntryRow.asset)
        .order_by(LedgerEntryRow.asset)
    )
    return [(asset, Decimal(amount)) for asset, amount in db.session.execute(query)]


@bp.get("/books/decisions")
@auth.viewer
def decisions() -> str:
    """Why it traded, and why it did not."""
    account = _account()
    chosen = [
        _strategy_filter(account),
        _instrument_filter(account),
        _choice_filter("outcome", "Outcome", OUTCOME_TONES),
    ]
    query = sa.select(DecisionRow).where(DecisionRow.account_id == account.id)
    page = sliced(
        _narrowed(query, DecisionRow, chosen),
        (DecisionRow.decided_at, DecisionRow.id),
        lambda decision: (decision.decided_at, decision.id),
    )
    return _list("books/decisions.html", page, chosen, names=_names(page.rows))


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
    return render_template(
        "books/decision.html",
        decision=row,
        tone=OUTCOME_TONES[row.outcome],
        outcome_text=OUTCOME_TEXTS[row.outcome],
        instrument=db.session.get_one(InstrumentRow, row.instrument_id),
        strategy=db.session.get(StrategyRow, row.strategy_id) if row.strategy_id else None,
        orders=came,
        order_tones=ORDER_TONES,
    )
