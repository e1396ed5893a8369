"""History: what bars there are, and how whole they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import (
    Blueprint,
    Response,
    abort,
    render_template,
    request,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import distinct_on
from werkzeug.wrappers import Response as AnyResponse

from shared.db.market import BarRow, ImportRow, InstrumentRow, SeriesRow
from shared.domain.market import interval_text
from webapp import auth, charts, series, workers
from webapp.coverage import coverage
from webapp.db import db
from webapp.formats import seconds
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("data", __name__, url_prefix="/data")

JOB_KINDS: Final = ("import", "sample_data")
CANDLES: Final = 1_500
MOST_CANDLES: Final = 3_000
QUICK_BARS: Final = 400_000
"""Up to this many bars, coverage is worked out without being asked for: about a third of a second."""


# --- what there is ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """One file that went in."""

    row: ImportRow
    series: SeriesRow
    instrument: InstrumentRow

    @property
    def name(self) -> str:
        return f"{self.instrument.symbol} {interval_text(self.series.interval)}"


@bp.get("")
@auth.viewer
def page() -> str:
    """Every series there is."""
    found = series.stored_series()
    source = request.args.get("source", "")
    shown = [s for s in found if s.row.source == source] if source else found
    return render_template(
        "data/page.html",
        listed=shown,
        sparks=series.sparks([s.row for s in shown]),
        source=source,
        sources=[key for key in series.SOURCES if any(s.row.source == key for s in found)],
        has_history=any(not s.row.simulated for s in found),
        has_any=bool(found),
        imports=newest_imports(),
        **under_way(),
    )


def under_way() -> dict[str, Any]:
    """Imports and sample data on their way in. `version` changes when one ends, too."""
    jobs = workers.unfinished(*JOB_KINDS)
    return {
        "jobs": jobs,
        "version": stamp([(j.id, j.state, j.progress, j.progress_text) for j in jobs]),
    }


@bp.get("/under-way")
@auth.viewer
def under_way_part() -> Response:
    now = under_way()
    if is_current(now["version"]):
        return unchanged()
    had_jobs = request.args.get("had") == "1"
    if had_jobs and not now["jobs"]:
        response = partial("")
        response.headers["HX-Refresh"] = "true"  # what came in is on the page it was asked from
        return response
    return partial(render_template("data/_under_way.html", **now))


def newest_imports(series_id: int | None = None, limit: int = 8) -> list[Imported]:
    query = (
        sa.select(ImportRow, SeriesRow, InstrumentRow)
        .join(SeriesRow, SeriesRow.id == ImportRow.series_id)
        .join(InstrumentRow, InstrumentRow.id == SeriesRow.instrument_id)
        .order_by(ImportRow.id.desc())
        .limit(limit)
    )
    if series_id is not None:
        query = query.where(ImportRow.series_id == series_id)
    return [Imported(*row) for row in db.session.execute(query)]


@bp.post("/sample")
@auth.trader
def load_sample() -> AnyResponse:
    """The stock history that ships with the installation."""
    return workers.next_page(workers.wait_for(workers.ask_for_sample_data()))


# --- one series -------------------------------------------------------------------------------------


@bp.get("/<int:series_id>")
@auth.viewer
def detail(series_id: int) -> str:
    found = _stored(series_id)
    own = found.row.interval
    choices = [own, *(i for i in charts.INTERVALS if i > own and i % own == 0)]
    interval = request.args.get("interval", own, type=int)
    return render_template(
        "data/detail.html",
        stored=found,
        interval=interval if interval in choices else own,
        intervals=[(i, interval_text(i)) for i in choices],
        imports=newest_imports(series_id),
        is_quick=found.row.bars <= QUICK_BARS,
        last=_last_bar(found),
    )


@bp.get("/<int:series_id>/coverage")
@auth.viewer
def coverage_part(series_id: int) -> Response:
    """Holes, quiet intervals, revisions and the heat map: worked out from the bars."""
    found = _stored(series_id)
    return partial(render_template("data/_coverage.html", stored=found, coverage=coverage(found)))


@bp.get("/<int:series_id>/candles.json")
@auth.viewer
def candles(series_id: int) -> ResponseReturnValue:
    """At most 3,000 candles before `?before=` (seconds; the newest without it), in `?interval=` seconds."""
    found = _stored(series_id)
    interval, shown = _asked_candles(found)
    return charts.json_answer(
        {
            "candles": charts.candle_rows(shown),
            "markers": [],
            "lines": [],
            "decimals": charts.decimals(found.instrument, shown),
            "interval": interval,
        }
    )


@bp.get("/<int:series_id>/candles/table")
@auth.viewer
def candles_table(series_id: int) -> Response:
    """The newest candles as rows."""
    found = _stored(series_id)
    _, shown = _asked_candles(found)
    return partial(
        render_template(
            "charts/_candles_table.html", candles=shown[::-1][:300], instrument=found.instrument
        )
    )


def _asked_candles(found: series.Stored) -> tuple[int, list[charts.Candle]]:
    own = found.row.interval
    interval = request.args.get("interval", own, type=int)
    if interval < own or interval % own:
        abort(400, f"interval {interval}: use a multiple of {own} seconds")
    before = request.args.get("before", type=seconds)
    limit = min(request.args.get("limit", CANDLES, type=int), MOST_CANDLES)
    end = datetime.fromtimestamp(before, UTC) if before else None
    return interval, charts.candles(found.row, interval, end, limit=max(1, limit))


@bp.get("/<int:series_id>/bars.csv")
@auth.viewer
def download(series_id: int) -> Response:
    """Every bar, newest revision, oldest first, as it was read in."""
    found = _stored(series_id)
    name = f"{found.name}.csv".replace("/", "-").replace(" ", "_")
    return Response(
        stream_with_context(_csv(found)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _csv(found: series.Stored) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["opened_at", "closed_at", "open", "high", "low", "close", "volume", "adjusted_close"]
    )
    newest = (
        sa.select(
            BarRow.opened_at, BarRow.closed_at, BarRow.open, BarRow.high, BarRow.low, BarRow.close,
            BarRow.volume, BarRow.adjusted_close,
        )
        .where(
            BarRow.instrument_id == found.row.instrument_id,
            BarRow.source == found.row.source,
            BarRow.interval == found.row.interval,
        )
        .ext(distinct_on(BarRow.opened_at))
        .order_by(BarRow.opened_at, BarRow.revision.desc())
        .execution_options(yield_per=2_000)
    )  # fmt: skip
    for count, row in enumerate(db.session.execute(newest), start=1):
        times = [moment.astimezone(UTC).isoformat() for moment in row[:2]]
        writer.writerow([*times, *("" if number is None else f"{number:f}" for number in row[2:])])
        if count % 500 == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _last_bar(found: series.Stored) -> charts.Candle | None:
    newest = charts.candles(found.row, found.row.interval, limit=1)
    return newest[-1] if newest else None


def _stored(series_id: int) -> series.Stored:
    found = series.stored(series_id)
    if found is None:
        abort(404)
    return found
