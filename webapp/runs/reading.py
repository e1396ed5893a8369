"""Where the console reads what a run did: trades, decisions and fills, a page at a time or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import g

from shared.db.backtests import RunFillRow, RunRow, RunTradeRow
from shared.db.run_decisions import decisions_of
from shared.domain.decided import Kept
from webapp.db import db
from webapp.paging import Slice, counted, sliced

ROWS: Final = 25
ROWS_AT_ONCE: Final = 1_000

OUTCOMES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}
ORDERS: Final = {
    "": "Newest",
    "best": "Best",
    "worst": "Worst",
}

_MODELS: Final[dict[str, Any]] = {
    "trades": RunTradeRow,
    "fills": RunFillRow,
}


def trades(run: RunRow, order: str) -> Slice[RunTradeRow]:
    query = sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id)
    pnl = sa.cast(RunTradeRow.pnl, sa.Double)
    if order == "best":
        return _page(query, (pnl, RunTradeRow.number), lambda t: (float(t.pnl), t.number))
    if order == "worst":
        return _page(query, (-pnl, RunTradeRow.number), lambda t: (-float(t.pnl), t.number))
    return _page(query, (RunTradeRow.number,), lambda t: (t.number,))


def first_trades(run: RunRow, most: int) -> Sequence[RunTradeRow]:
    query = sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id)
    return db.session.scalars(query.order_by(RunTradeRow.number).limit(most)).all()


def decisions(run: RunRow, outcome: str) -> Slice[Any]:
    """Of one outcome, or of all for ""."""
    wanted = outcome if outcome in OUTCOMES else ""
    found = decided(run.id)
    rows = found.rows_of(outcome=wanted).tolist()
    return counted(rows, found.row, size=ROWS, endpoint="runs.page")


def decided(run_id: int) -> Kept:
    """What a run decided, opened once a request."""
    known: dict[int, Kept] = g.setdefault("decided", {})
    if run_id not in known:
        known[run_id] = decisions_of(db.session(), run_id)
    return known[run_id]


def outcome_counts(run: RunRow) -> dict[str, int]:
    """How many decisions came to each outcome, of those that occurred."""
    found = decided(run.id).outcomes()
    return {name: found[name] for name in OUTCOMES if name in found}


def fills(run: RunRow) -> Slice[RunFillRow]:
    query = sa.select(RunFillRow).where(RunFillRow.run_id == run.id)
    return _page(query, (RunFillRow.number,), lambda f: (f.number,))


def fill_count(run: RunRow) -> int:
    query = sa.select(sa.func.count()).where(RunFillRow.run_id == run.id)
    return db.session.scalar(query) or 0


def fills_between(
    run: RunRow, instrument_id: int, first: datetime, after: datetime, most: int
) -> Sequence[RunFillRow]:
    """Fills of one instrument in [first, after), as they happened."""
    query = sa.select(RunFillRow).where(
        RunFillRow.run_id == run.id,
        RunFillRow.instrument_id == instrument_id,
        RunFillRow.filled_at >= first,
        RunFillRow.filled_at < after,
    )
    return db.session.scalars(query.order_by(RunFillRow.number).limit(most)).all()


def by_thousand(run_id: int, name: str) -> Iterator[Sequence[Any]]:
    """All rows of trades, fills or decisions, oldest first, some at a time."""
    if name == "decisions":
        found = decided(run_id)
        for first in range(0, len(found), ROWS_AT_ONCE):
            yield [found.row(i) for i in range(len(found))[first : first + ROWS_AT_ONCE]]
        return
    model = _MODELS[name]
    query = sa.select(model).where(model.run_id == run_id).order_by(model.number)
    rows = db.session.scalars(query.execution_options(yield_per=ROWS_AT_ONCE))
    yield from rows.partitions()


def _page(
    query: sa.Select[Any],
    columns: tuple[Any, ...],
    key: Callable[[Any], tuple[Any, ...]],
) -> Slice[Any]:
    return sliced(query, columns, key, size=ROWS, endpoint="runs.page")
