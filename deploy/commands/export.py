"""`seraphim export fills | orders | ledger | lots | positions`: an account's rows as CSV, a stream of any length."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, TextIO

import sqlalchemy as sa

from deploy.embedded import services
from deploy.exits import Exit, Stop
from deploy.schema import require_current
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import (
    AccountRow,
    FillRow,
    LedgerEntryRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyRow,
)
from shared.domain.lots import Method, closed_lots
from shared.settings import Settings

LOTS = (
    "instrument_id", "strategy_id", "side", "kind", "quantity", "acquired_at", "disposed_at", "proceeds",
    "cost", "fees", "gain", "term", "opened_by", "closed_by",
)  # fmt: skip
WHAT = ("fills", "orders", "ledger", "lots", "positions")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--account", help="its name; default: the first account")
    parser.add_argument("--output", "-o", help="a file; default: standard output")
    parser.add_argument("--method", choices=tuple(Method), help="of lots; default: the account's")
    parser.add_argument("--year", type=int, help="of lots: only those closed in that year, in UTC")


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        require_current(ready.database_url or "")
        engine = make_engine(ready.database_url or "")
        try:
            account = named(engine, args.account)
            if args.output is None:
                _write(engine, account, args, sys.stdout)
                return Exit.OK
            with Path(args.output).open("w", newline="", encoding="utf-8") as file:
                lines = _write(engine, account, args, file)
        finally:
            engine.dispose()
    print(f"{lines:,} rows of {account.name} in {args.output}")
    return Exit.OK


def named(engine: sa.Engine, name: str | None) -> Any:
    """The account of that name, or the first one."""
    query = sa.select(AccountRow.__table__).order_by(AccountRow.id)
    with engine.connect() as connection:
        accounts = list(connection.execute(query))
    if not accounts:
        raise Stop(Exit.FAILED, "there is no account yet: start the engine once")
    found = next((a for a in accounts if name in (None, a.name)), None)
    if found is None:
        known = ", ".join(a.name for a in accounts)
        raise Stop(Exit.USAGE, f"--account: there is no account {name!r} (known: {known})")
    return found


def ledger_rows(engine: sa.Engine, account_id: int) -> Iterator[Any]:
    """The ledger of an account in the order it was booked."""
    from webapp.books.listing import rows_of

    entry = LedgerEntryRow
    query = sa.select(entry.__table__).where(entry.account_id == account_id).order_by(entry.id)
    yield from rows_of(engine, query)


def _write(engine: sa.Engine, account: Any, args: argparse.Namespace, out: TextIO) -> int:
    """Write head and rows; how many rows."""
    from webapp.books.listing import csv_lines, rows_of

    count = 0

    def counted(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    if args.what == "lots":
        head: Sequence[str] = LOTS
        rows = _lots(engine, account, args)
    else:
        query = _query(args.what, account.id)
        head, rows = [column.name for column in query.selected_columns], rows_of(engine, query)
    for piece in csv_lines(head, counted(rows)):
        out.write(piece)
    return count


def _query(what: str, account_id: int) -> Any:
    models: dict[str, tuple[Any, Any]] = {
        "fills": (FillRow, FillRow.filled_at),
        "orders": (OrderRow, OrderRow.decided_at),
        "ledger": (LedgerEntryRow, LedgerEntryRow.id),
        "positions": (PositionRow, PositionRow.id),
    }
    model, order = models[what]
    more: list[Any] = [InstrumentRow.symbol.label("instrument"), StrategyRow.name.label("strategy")]
    if what == "orders":
        more += [OrderIntentRow.leg, OrderIntentRow.side, OrderIntentRow.type]
    query = (
        sa.select(*model.__table__.columns, *more)
        .outerjoin(InstrumentRow, InstrumentRow.id == model.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == model.strategy_id)
        .where(model.account_id == account_id)
        .order_by(order)
    )
    if what == "orders":
        query = query.join(
            OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id
        )
    return query


def _lots(engine: sa.Engine, account: Any, args: argparse.Namespace) -> Iterator[Sequence[Any]]:
    """Closed lots, read off the ledger from its first entry."""
    method = Method(args.method or account.lot_method)
    for lot in closed_lots(ledger_rows(engine, account.id), method):
        if args.year is None or lot.closed_at.astimezone(UTC).year == args.year:
            yield (
                lot.key[1], lot.key[0] or None, "short" if lot.is_short else "long", lot.kind,
                lot.quantity, lot.acquired_at, lot.disposed_at, lot.proceeds, lot.cost, lot.fees,
                lot.gain, lot.term, lot.opened_by, lot.closed_by,
            )  # fmt: skip
