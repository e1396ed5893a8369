"""Orders, fills, ledger, lots and decisions: what each list shows, sorts and filters by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Response, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.lots import LotBookRow, LotRow
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
from shared.domain.ledger import KINDS
from shared.domain.lots import Method, closed_lots
from webapp import accounts, auth
from webapp.accounts import ORDER_TONES
from webapp.books.blueprint import OUTCOME_TONES, account_looked_at, bp, shown
from webapp.books.listing import Choice, Listing, Sort, csv_of, page_of, rows_of, streamed
from webapp.db import db

BY_HAND: Final = "hand"
TAX_HEAD: Final = (
    "instrument", "strategy_id", "side", "kind", "quantity", "acquired_at", "disposed_at", "proceeds",
    "cost", "fees", "gain", "term", "opened_by", "closed_by",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """Rows that lists name by id."""

    strategies: dict[int, StrategyRow]
    instruments: dict[int, InstrumentRow]


def names_of(rows: Iterable[Any]) -> Names:
    listed = list(rows)
    return Names(
        strategies=accounts.names(StrategyRow, {r.strategy_id for r in listed}),
        instruments=accounts.names(InstrumentRow, {r.instrument_id for r in listed}),
    )


# Filters -------------------------------------------------------------------------------------


def by_strategy(account: AccountRow, model: Any) -> Choice:
    query = (
        sa.select(StrategyRow.id, StrategyRow.name, StrategyRow.deleted_at)
        .where(StrategyRow.account_id == account.id)
        .order_by(StrategyRow.name, StrategyRow.id)
    )
    options = [(BY_HAND, "by hand")]
    options.extend(
        (str(row.id), row.name + (" (deleted)" if row.deleted_at else ""))
        for row in db.session.execute(query)
    )

    def condition(value: str) -> Any:
        column = model.strategy_id
        return column.is_(None) if value == BY_HAND else column == int(value)

    return Choice("strategy", "Strategy", options, condition)


def by_instrument(account: AccountRow, model: Any) -> Choice:
    """Instruments the account ever held, or its strategies read."""
    held = sa.select(PositionRow.instrument_id).where(PositionRow.account_id == account.id)
    inputs = sa.func.jsonb_each(StrategyRow.inputs).table_valued("key", "value").lateral()
    read = (
        sa.select(sa.cast(inputs.c.value.op("->>")("instrument_id"), sa.BigInteger))
        .select_from(StrategyRow)
        .join(inputs, sa.true())
        .where(StrategyRow.account_id == account.id)
    )
    query = (
        sa.select(InstrumentRow.id, InstrumentRow.symbol)
        .where(sa.or_(InstrumentRow.id.in_(held), InstrumentRow.id.in_(read)))
        .order_by(InstrumentRow.symbol)
    )
    options = [(str(row.id), row.symbol) for row in db.session.execute(query)]
    return Choice("instrument", "Instrument", options, lambda v: model.instrument_id == int(v))


def one_of(name: str, label: str, column: Any, values: Iterable[str]) -> Choice:
    options = [(value, value.replace("_", " ")) for value in values]
    return Choice(name, label, options, lambda value: column == value)


def by_uuid(*columns: Any) -> Callable[[str], Any]:
    """The condition for a typed id; one that is no id finds nothing."""

    def find(text: str) -> Any:
        try:
            wanted = UUID(text)
        except ValueError:
            return sa.false()
        return sa.or_(*(column == wanted for column in columns))

    return find


def _named(model: Any) -> tuple[tuple[str, Any], ...]:
    return (("instrument", InstrumentRow.symbol), ("strategy", StrategyRow.name))


def _joins(model: Any) -> tuple[tuple[Any, Any], ...]:
    return (
        (InstrumentRow, InstrumentRow.id == model.instrument_id),
        (StrategyRow, StrategyRow.id == model.strategy_id),
    )


def _columns(model: Any, *names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, getattr(model, name)) for name in names)


# The lists -----------------------------------------------------------------------------------


def order_list(account: AccountRow) -> Listing:
    return Listing(
        name="orders",
        query=sa.select(OrderRow, OrderIntentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .where(OrderRow.account_id == account.id),
        id_=OrderRow.client_order_id,
        sorts=(
            Sort("decided", OrderRow.decided_at),
            Sort("updated", OrderRow.updated_at),
            Sort("value", OrderRow.filled_value),
        ),
        time=OrderRow.decided_at,
        choices=(
            by_strategy(account, OrderRow),
            by_instrument(account, OrderRow),
            one_of("side", "Side", OrderIntentRow.side, ("buy", "sell")),
            one_of("state", "State", OrderRow.state, ORDER_TONES),
        ),
        find=by_uuid(OrderRow.client_order_id),
        columns=(
            *_columns(OrderRow, "client_order_id", "decided_at"),
            *_named(OrderRow),
            *_columns(OrderIntentRow, "leg", "side", "type", "time_in_force"),
            *_columns(
                OrderRow, "state", "quantity", "filled_quantity", "filled_value", "fees", "limit_price",
                "stop_price", "venue_order_id", "reason", "updated_at",
            ),
            ("decision_id", OrderIntentRow.decision_id),
        ),
        joins=_joins(OrderRow),
    )  # fmt: skip


def fill_list(account: AccountRow) -> Listing:
    def find(text: str) -> Any:
        of_venue = sa.and_(FillRow.venue == account.venue, FillRow.venue_fill_id == text)
        return sa.or_(of_venue, by_uuid(FillRow.client_order_id)(text))

    return Listing(
        name="fills",
        query=sa.select(FillRow).where(FillRow.account_id == account.id),
        id_=FillRow.id,
        sorts=(
            Sort("filled", FillRow.filled_at),
            Sort("realised", FillRow.realised),
            Sort("fee", FillRow.fee),
        ),
        time=FillRow.filled_at,
        choices=(
            by_strategy(account, FillRow),
            by_instrument(account, FillRow),
            one_of("side", "Side", FillRow.side, ("buy", "sell")),
        ),
        find=find,
        columns=(
            *_columns(FillRow, "id", "filled_at"),
            *_named(FillRow),
            *_columns(
                FillRow, "side", "quantity", "price", "fee", "fee_asset", "liquidity", "realised",
                "venue", "venue_fill_id", "client_order_id",
            ),
        ),
        joins=_joins(FillRow),
    )  # fmt: skip


def ledger_list(account: AccountRow) -> Listing:
    entry = LedgerEntryRow
    return Listing(
        name="ledger",
        query=sa.select(entry).where(entry.account_id == account.id),
        id_=entry.id,
        sorts=(Sort("time", entry.at), Sort("amount", entry.amount)),
        time=entry.at,
        choices=(
            by_strategy(account, entry),
            by_instrument(account, entry),
            one_of("asset", "Asset", entry.asset, _assets(account)),
            one_of("kind", "Kind", entry.kind, KINDS),
        ),
        find=lambda text: entry.reference == text,
        columns=(
            *_columns(entry, "id", "account_id", "at", "kind", "asset", "amount", "debit", "credit",
                      "reference", "leg", "strategy_id", "instrument_id"),
            *_named(entry),
            *_columns(entry, "worth", "note"),
        ),
        joins=_joins(entry),
    )  # fmt: skip


def lot_list(account: AccountRow) -> Listing:
    standing = Choice(
        "state", "State", (("open", "open"), ("closed", "closed")),
        lambda value: LotRow.closed_at.is_(None) if value == "open" else LotRow.closed_at.is_not(None),
    )  # fmt: skip

    def find(text: str) -> Any:
        return sa.or_(LotRow.opened_by == text, LotRow.closed_by == text)

    return Listing(
        name="lots",
        query=sa.select(LotRow).where(LotRow.account_id == account.id),
        id_=LotRow.id,
        sorts=(
            Sort("opened", LotRow.opened_at),
            Sort("closed", LotRow.closed_at, sparse=True),
            Sort("gain", LotRow.gain, sparse=True),
        ),
        time=LotRow.opened_at,
        choices=(
            by_strategy(account, LotRow),
            by_instrument(account, LotRow),
            one_of("side", "Side", LotRow.side, ("long", "short")),
            standing,
        ),
        find=find,
        columns=(
            ("id", LotRow.id),
            *_named(LotRow),
            *_columns(
                LotRow, "side", "kind", "quantity", "opened_at", "closed_at", "proceeds", "cost", "fees",
                "gain", "term", "opened_by", "closed_by",
            ),
        ),
        joins=_joins(LotRow),
    )  # fmt: skip


def decision_list(account: AccountRow) -> Listing:
    return Listing(
        name="decisions",
        query=sa.select(DecisionRow).where(DecisionRow.account_id == account.id),
        id_=DecisionRow.id,
        sorts=(Sort("decided", DecisionRow.decided_at),),
        time=DecisionRow.decided_at,
        choices=(
            by_strategy(account, DecisionRow),
            by_instrument(account, DecisionRow),
            one_of("outcome", "Outcome", DecisionRow.outcome, OUTCOME_TONES),
        ),
        find=by_uuid(DecisionRow.id),
        columns=(
            *_columns(DecisionRow, "id", "decided_at"),
            *_named(DecisionRow),
            *_columns(
                DecisionRow,
                "kind",
                "target",
                "previous",
                "because",
                "tag",
                "price",
                "outcome",
                "reason",
            ),
        ),
        joins=_joins(DecisionRow),
    )


def _assets(account: AccountRow) -> list[str]:
    """Every asset in the ledger, each found by one step along the index."""
    entry = LedgerEntryRow
    ours = entry.account_id == account.id
    first = sa.select(sa.func.min(entry.asset).label("asset")).where(ours)
    steps = first.cte("assets", recursive=True)
    following = sa.select(sa.func.min(entry.asset)).where(ours, entry.asset > steps.c.asset)
    steps = steps.union_all(
        sa.select(following.correlate(steps).scalar_subquery()).where(steps.c.asset.is_not(None))
    )
    return list(db.session.scalars(sa.select(steps.c.asset).where(steps.c.asset.is_not(None))))


# Routes --------------------------------------------------------------------------------------


@bp.get("/books")
@auth.viewer
def page() -> AnyResponse:
    return redirect(url_for("books.orders"))


@bp.get("/books/orders")
@auth.viewer
def orders() -> str:
    """Every order, and where it stands."""
    page = page_of(order_list(account_looked_at()), lambda row: row[0])
    return shown("books/orders.html", page=page, names=names_of(o for o, _ in page.rows))


@bp.get("/books/fills")
@auth.viewer
def fills() -> str:
    """Everything that traded."""
    page = page_of(fill_list(account_looked_at()), lambda row: row)
    return shown("books/fills.html", page=page, names=names_of(page.rows))


@bp.get("/books/ledger")
@auth.viewer
def ledger() -> str:
    """Double entry: each row moves one amount of one asset from one book to another."""
    page = page_of(ledger_list(account_looked_at()), lambda row: row)
    return shown("books/ledger.html", page=page, names=names_of(page.rows))


@bp.get("/books/lots")
@auth.viewer
def lots() -> str:
    """Tax lots, open and closed."""
    account = account_looked_at()
    page = page_of(lot_list(account), lambda row: row)
    book = db.session.get(LotBookRow, account.id)
    years = range(account.created_at.year, accounts.market_now(account).year + 1)
    return shown(
        "books/lots.html", page=page, names=names_of(page.rows), book=book, years=list(years)[::-1]
    )


@bp.get("/books/decisions")
@auth.viewer
def decisions() -> str:
    """Why it traded, and why it did not."""
    page = page_of(decision_list(account_looked_at()), lambda row: row)
    return shown("books/decisions.html", page=page, names=names_of(page.rows))


_LISTS: Final[dict[str, Callable[[AccountRow], Listing]]] = {
    "orders": order_list,
    "fills": fill_list,
    "ledger": ledger_list,
    "lots": lot_list,
    "decisions": decision_list,
}


def _csv(name: str) -> Response:
    account = account_looked_at()
    return csv_of(_LISTS[name](account), f"{name}-{account.name}.csv".replace(" ", "-"))


@bp.get("/books/orders.csv")
@auth.viewer
def orders_csv() -> Response:
    return _csv("orders")


@bp.get("/books/fills.csv")
@auth.viewer
def fills_csv() -> Response:
    return _csv("fills")


@bp.get("/books/ledger.csv")
@auth.viewer
def ledger_csv() -> Response:
    return _csv("ledger")


@bp.get("/books/lots.csv")
@auth.viewer
def lots_csv() -> Response:
    return _csv("lots")


@bp.get("/books/tax-lots.csv")
@auth.viewer
def tax_lots_csv() -> Response:
    """Lots closed in a year (UTC), by any method, read off the ledger from its beginning."""
    account = account_looked_at()
    method, year = request.args.get("method", account.lot_method), request.args.get("year", "")
    if method not in tuple(Method):
        abort(400, f"method: {method} is not one of {', '.join(Method)}.")
    if year and not (year.isdecimal() and 1970 <= int(year) <= 9999):
        abort(400, f"year: {year} is no year. Leave it out for all of them.")
    entry = LedgerEntryRow
    names = dict(db.session.execute(sa.select(InstrumentRow.id, InstrumentRow.symbol)).all())
    query = sa.select(entry.__table__).where(entry.account_id == account.id).order_by(entry.id)
    closed = closed_lots(rows_of(db.engine, query), Method(method))
    rows = (
        (
            names.get(lot.key[1]), lot.key[0] or None, "short" if lot.is_short else "long", lot.kind,
            lot.quantity, lot.acquired_at, lot.disposed_at, lot.proceeds, lot.cost, lot.fees, lot.gain,
            lot.term, lot.opened_by, lot.closed_by,
        )
        for lot in closed
        if not year or lot.closed_at.astimezone(UTC).year == int(year)
    )  # fmt: skip
    return streamed(TAX_HEAD, rows, f"tax-lots-{account.name}-{year or 'all'}-{method}.csv")


@bp.get("/books/decisions.csv")
@auth.viewer
def decisions_csv() -> Response:
    return _csv("decisions")
