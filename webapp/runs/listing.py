"""The run's trades, decisions and fills, a page at a time."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, render_template, request, url_for

from shared.db.backtests import RunRow
from shared.db.market import InstrumentRow
from webapp import accounts, auth, run_columns
from webapp.paging import Slice
from webapp.partials import partial
from webapp.runs import reading
from webapp.runs.blueprint import a_run, bp, moment_form, quote_asset
from webapp.runs.charting import charted

TABS: Final = ("trades", "decisions", "fills")


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
    counts = reading.outcome_counts(run)
    order = order if order in reading.ORDERS else ""
    found: Slice[Any]
    if tab == "trades":
        found = reading.trades(run, order)
    else:
        found = reading.decisions(run, outcome) if tab == "decisions" else reading.fills(run)
    return {
        "tab": tab,
        "page": found,
        "outcome": outcome,
        "outcomes": counts,
        "outcome_tones": reading.OUTCOMES,
        "order": order,
        "orders": reading.ORDERS,
        "moment_form": moment_form(run),
        "counts": {
            "trades": int((run.metrics.get("trades") or {}).get("value") or 0),
            "decisions": sum(counts.values()),
            "fills": reading.fill_count(run),
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
