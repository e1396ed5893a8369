"""The run's trades, decisions and fills, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from flask import Response, render_template, request, url_for

from shared.db.backtests import RunFillRow, RunRow, RunTradeRow
from shared.db.market import InstrumentRow
from webapp import accounts, auth, run_columns, run_decisions
from webapp.db import db
from webapp.paging import Slice, sliced
from webapp.partials import partial
from webapp.runs.blueprint import a_run, bp, moment_form, quote_asset
from webapp.runs.charting import charted

ROWS: Final = 25
OUTCOMES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}
TABS: Final = ("trades", "decisions", "fills")
ORDERS: Final = {
    "": "Newest",
    "best": "Best",
    "worst": "Worst",
}


@bp.get("/<int:run_id>/rows")
@auth.viewer
def rows(run_id: int) -> Response:
    """The table under the chart: `?tab=`, with `?outcome=` of decisions and `?order=` of trades."""
    run = a_run(run_id)
    return partial(
        render_template(
            "research/_rows.html",
            run=run,
            currency=quote_asset(run),
            pictures=charted(run),
            **table(run),
        )
    )


def table(run: RunRow) -> dict[str, Any]:
    """What the table of the run's page shows, as the URL asks."""
    tab = request.args.get("tab", "trades")
    tab = tab if tab in TABS else "trades"
    outcome = request.args.get("outcome", "")
    order = request.args.get("order", "")
    counts = _outcome_counts(run)
    order = order if order in ORDERS else ""
    found: Slice[Any]
    if tab == "trades":
        found = trades(run, order)
    else:
        wanted = outcome if outcome in OUTCOMES else ""
        found = run_decisions.page(run, wanted) if tab == "decisions" else fills(run)
    return {
        "tab": tab,
        "page": found,
        "outcome": outcome,
        "outcomes": counts,
        "outcome_tones": OUTCOMES,
        "order": order,
        "orders": ORDERS,
        "moment_form": moment_form(run),
        "counts": {
            "trades": int((run.metrics.get("trades") or {}).get("value") or 0),
            "decisions": sum(counts.values()),
            "fills": _count(RunFillRow, run.id),
        },
        "instruments": accounts.names(
            InstrumentRow, {i["instrument_id"] for i in run.inputs.values()}
        ),
        "excursions": run_columns.excursions(run.id, [t.number for t in found.rows])
        if tab == "trades"
        else {},
        "fragment": fragment_url,
    }


def fragment_url(page_url: str, run_id: int) -> str:
    """The table's own address for what a page's address shows."""
    path, _, query = page_url.partition("?")
    rows_path = url_for("runs.rows", run_id=run_id)
    assert path == url_for("runs.page", run_id=run_id)
    return f"{rows_path}?{query}" if query else rows_path


def trades(run: RunRow, order: str) -> Slice[RunTradeRow]:
    query = sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id)
    pnl = sa.cast(RunTradeRow.pnl, sa.Double)
    if order == "best":
        return _rows(query, (pnl, RunTradeRow.number), lambda t: (float(t.pnl), t.number))
    if order == "worst":
        return _rows(query, (-pnl, RunTradeRow.number), lambda t: (-float(t.pnl), t.number))
    return _rows(query, (RunTradeRow.number,), lambda t: (t.number,))


def fills(run: RunRow) -> Slice[RunFillRow]:
    query = sa.select(RunFillRow).where(RunFillRow.run_id == run.id)
    return _rows(query, (RunFillRow.number,), lambda f: (f.number,))


def _rows(
    query: sa.Select[Any],
    columns: tuple[Any, ...],
    key: Callable[[Any], tuple[Any, ...]],
) -> Slice[Any]:
    return sliced(query, columns, key, size=ROWS, endpoint="runs.page")


def _outcome_counts(run: RunRow) -> dict[str, int]:
    found = run_decisions.outcomes(run)
    return {name: found[name] for name in OUTCOMES if name in found}


def _count(model: type[RunFillRow], run_id: int) -> int:
    return db.session.scalar(sa.select(sa.func.count()).where(model.run_id == run_id)) or 0
