"""The decisions of a run: rows where the core decided, columns where a kernel did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from flask import g

from shared.db.backtests import RunDecisionRow, RunRow, RunSeriesRow
from shared.domain.decided import Decided
from webapp.db import db
from webapp.paging import Slice, counted, sliced

ROWS: Final = 25


def decided(run: RunRow) -> Decided | None:
    """The columns, opened once a request; None where decisions are rows."""
    known: dict[int, Decided | None] = g.setdefault("decided", {})
    if run.id not in known:
        kept = db.session.get(RunSeriesRow, (run.id, "decisions"))
        policy = run.options.get("risk_policy") or {}
        known[run.id] = Decided(kept.data, policy) if kept is not None else None
    return known[run.id]


def page(run: RunRow, outcome: str) -> Slice[Any]:
    """A page of them, newest first."""
    columns = decided(run)
    if columns is not None:
        rows = columns.rows_of(outcome=outcome).tolist()
        return counted(rows, columns.row, size=ROWS, endpoint="runs.page")
    query = sa.select(RunDecisionRow).where(RunDecisionRow.run_id == run.id)
    if outcome:
        query = query.where(RunDecisionRow.outcome == outcome)
    number = RunDecisionRow.number
    return sliced(query, (number,), lambda d: (d.number,), size=ROWS, endpoint="runs.page")


def outcomes(run: RunRow) -> dict[str, int]:
    """How many had each outcome."""
    columns = decided(run)
    if columns is not None:
        return columns.outcomes()
    query = (
        sa.select(RunDecisionRow.outcome, sa.func.count())
        .where(RunDecisionRow.run_id == run.id)
        .group_by(RunDecisionRow.outcome)
    )
    return dict(db.session.execute(query).all())


def all_of(run: RunRow, size: int) -> Iterator[list[Any]]:
    """Every decision, oldest first, `size` at a time."""
    columns = decided(run)
    if columns is not None:
        for first in range(0, len(columns), size):
            yield [columns.row(i) for i in range(first, min(first + size, len(columns)))]
        return
    query = (
        sa.select(RunDecisionRow)
        .where(RunDecisionRow.run_id == run.id)
        .order_by(RunDecisionRow.number)
    )
    yield from (
        list(part)
        for part in db.session.scalars(query.execution_options(yield_per=size)).partitions()
    )
