"""History: what bars there are, and how whole they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from flask import (
    Blueprint,
    Response,
    abort,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import distinct_on
from werkzeug.wrappers import Response as AnyResponse

from shared.db.market import BarRow, ImportRow, InstrumentRow, SeriesRow
from shared.domain.market import interval_text
from shared.jobs import QualityRequest
from webapp import auth, charts, heat, quality, series, workers
from webapp.coverage import coverage
from webapp.db import db
from webapp.formats import decimal, instant, seconds
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("data", __name__, url_prefix="/data")

JOB_KINDS: Final = ("import", "sample_data", "quality")
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
        known=quality.all_known(shown),
        in_words=quality.in_words,
        imports=newest_imports(),
        **under_way(),
    )


@bp.get("/coverage.json")
@auth.viewer
def coverage_json() -> ResponseReturnValue:
    """Bars there are and should be, by series and column; `?from=` and `?to=` are days, both included."""
    listed = _listed()
    shown = heat.picture(heat.counted(listed), _asked_day("from"), _asked_day("to"))
    return charts.json_answer(shown.as_json([_heat_row(one) for one in listed]))


@bp.get("/coverage/table")
@auth.viewer
def coverage_table() -> Response:
    """The same numbers, year by year."""
    listed = _listed()
    days = heat.counted(listed)
    shown = heat.picture(days, None, None)
    years = list(range(shown.first.year, shown.last.year + 1))[-25:]
    starts = [date(year, 1, 1) for year in [*years, years[-1] + 1]]
    rows = [(one, *(days[one.id].sums(starts) if one.id in days else ([], []))) for one in listed]
    return partial(render_template("data/_coverage_table.html", rows=rows, years=years))


def _listed() -> list[series.Stored]:
    """The series that the page shows."""
    source = request.args.get("source", "")
    return series.stored_series(*([SeriesRow.source == source] if source else []))


def _heat_row(one: series.Stored) -> tuple[int, str, str, str]:
    url = url_for("data.detail", series_id=one.id)
    return one.id, one.name, one.source, url


def _asked_day(name: str) -> date | None:
    text = request.args.get(name, "")
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        abort(400, f"{name}: {text!r} is no day; write 2024-01-31")


@bp.get("/verdicts")
@auth.viewer
def verdicts() -> Response:
    """What is known about the series chosen in a form of a run."""
    ids = {
        int(value)
        for name, value in request.args.items()
        if name.endswith(".series") and value.isdecimal() and len(value) < 16
    }
    listed = series.stored_series(SeriesRow.id.in_(ids)) if ids else []
    return partial(
        render_template(
            "data/_verdicts.html",
            listed=listed,
            known=quality.all_known(listed),
            in_words=quality.in_words,
        )
    )


@bp.post("/look-over")
@auth.trader
def look_over_all() -> AnyResponse:
    """Every series whose bars changed since they were looked over."""
    row = workers.ask_and_wait(QualityRequest(), "Look over all bars")
    return workers.next_page(row)


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
        content_hash=quality.content_hash(found),
        revised=quality.revisions(found),
        at=_asked_moment(),
        **_findings(found),
    )


def _findings(found: series.Stored) -> dict[str, Any]:
    """What the part with the findings shows. `version` changes with it."""
    known = quality.known(found)
    jobs = [
        job
        for job in workers.unfinished("quality")
        if job.arguments.get("series_id") in (0, found.id)
    ]
    others = {one.id: one for one in series.stored_series(
        SeriesRow.instrument_id == found.row.instrument_id, SeriesRow.interval == found.row.interval
    )}  # fmt: skip
    return {
        "known": known,
        "others": others,
        "hash_of": quality.content_hash,
        "titles": quality.TITLES,
        "explained": quality.EXPLAINED,
        "looking": jobs[0] if jobs else None,
        "findings_version": stamp(
            known and (known.found_at, known.is_current),
            [(job.id, job.state, job.progress_text) for job in jobs],
        ),
    }


@bp.get("/<int:series_id>/findings")
@auth.viewer
def findings_part(series_id: int) -> Response:
    """What was found in the bars; current while the page is open."""
    found = _stored(series_id)
    now = _findings(found)
    if is_current(now["findings_version"]):
        return unchanged()
    return partial(render_template("data/_findings.html", stored=found, at=None, **now))


@bp.post("/<int:series_id>/look-over")
@auth.trader
def look_over(series_id: int) -> ResponseReturnValue:
    """Look over one series, with the limits of the form."""
    found = _stored(series_id)
    limits = {
        name: text
        for name in ("outlier", "outlier_least", "source_bp")
        if (text := request.form.get(name, "").strip())
    }
    if share := limits.get("outlier_least"):
        number = decimal(share.replace(",", "."))
        limits["outlier_least"] = str(number / 100) if number is not None else share
    row = workers.ask_and_wait(
        QualityRequest(series_id=series_id, limits=limits), f"Look over {found.name}"
    )
    if row.state == "failed":
        return workers.next_page(row)
    return redirect(url_for("data.detail", series_id=series_id) + "#findings", code=303)


@bp.get("/<int:series_id>/around")
@auth.viewer
def around(series_id: int) -> Response:
    """The candles around a moment (`?at=`, ISO 8601), in their own small chart."""
    found = _stored(series_id)
    at = _asked_moment()
    if at is None:
        abort(400, "at: say which moment, as 2024-01-31T12:00:00+00:00")
    return partial(render_template("data/_around.html", stored=found, at=at))


@bp.get("/<int:series_id>/around.json")
@auth.viewer
def around_json(series_id: int) -> ResponseReturnValue:
    """30 candles on either side of `?at=`, and more before `?before=`; the moment is marked."""
    found = _stored(series_id)
    at, before = _asked_moment(), request.args.get("before", type=seconds)
    if at is None:
        abort(400, "at: say which moment, as 2024-01-31T12:00:00+00:00")
    interval = found.row.interval
    if before:
        shown = charts.candles(found.row, interval, datetime.fromtimestamp(before, UTC), limit=200)
    else:
        shown = charts.candles(found.row, interval, _after(found, at), limit=61)
    mark = {"time": at.timestamp(), "side": "sell", "quantity": "here", "price": 0}
    return charts.json_answer(
        {
            "candles": charts.candle_rows(shown),
            "markers": [mark],
            "lines": [],
            "decimals": charts.decimals(found.instrument, shown),
            "interval": interval,
        }
    )


def _after(found: series.Stored, at: datetime) -> datetime:
    """The opening of the 31st bar from a moment on, or a moment after the last one."""
    later = (
        sa.select(BarRow.opened_at)
        .where(
            BarRow.instrument_id == found.row.instrument_id,
            BarRow.source == found.row.source,
            BarRow.interval == found.row.interval,
            BarRow.opened_at >= at,
            BarRow.revision == 0,
        )
        .order_by(BarRow.opened_at)
        .offset(30)
        .limit(1)
    )
    end: datetime | None = db.session.scalar(later)
    return end or (found.row.last_closed_at or at) + timedelta(seconds=1)


def _asked_moment() -> datetime | None:
    text = request.args.get("at", "").replace(" ", "+")
    try:
        return instant(text) if text else None
    except ValueError:
        return None


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
