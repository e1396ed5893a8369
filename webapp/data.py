"""History: what bars there are, how whole they are, and bringing in more."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import (
    Blueprint,
    Response,
    abort,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import distinct_on
from werkzeug.wrappers import Response as AnyResponse

from shared.db.backtests import JobRow
from shared.db.market import BarRow, ImportRow, InstrumentRow, SeriesRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds, interval_text
from shared.jobs import ImportRequest, InspectRequest
from webapp import auth, charts, series, uploads, workers
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

CALENDARS: Final = {
    "24/7": "24/7 · never closes",
    "24/5": "24/5 · Sunday 17:00 to Friday 17:00 New York",
    "XNYS": "XNYS · 09:30 to 16:00 New York, weekdays",
}
ASSET_CLASSES: Final = ("stock", "crypto", "fx", "index", "future", "other")
COLUMNS: Final = {
    "time": "Time",
    "time_of_day": "Time of day, if apart",
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "volume": "Volume",
    "adjusted_close": "Adjusted close",
    "symbol": "Symbol, if several",
}
NEEDED: Final = ("time", "open", "high", "low", "close")
STYLES: Final = {
    "year-first": "2024-03-31 · year first",
    "day-first": "31/03/2024 · day first",
    "month-first": "03/31/2024 · month first",
    "named-month": "31 Mar 2024 · month by name",
    "epoch-seconds": "1711843200 · seconds since 1970",
    "epoch-milliseconds": "1711843200000 · milliseconds since 1970",
    "epoch-microseconds": "1711843200000000 · microseconds since 1970",
}
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar |"}


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


# --- bringing a file in -----------------------------------------------------------------------------


@bp.get("/import")
@auth.trader
def choose_file() -> str:
    return render_template("data/import.html", problem="")


@bp.post("/import")
@auth.trader
def upload() -> ResponseReturnValue:
    """Take the file, and look into it before anything is stored."""
    try:
        path, name = uploads.keep(request.files.get("file"))
    except uploads.UploadRefused as refusal:
        return render_template("data/import.html", problem=str(refusal)), 422
    row = workers.ask_and_wait(InspectRequest(path=path, file_name=name), f"Look at {name}")
    return _redirect(url_for("data.confirm", job_id=row.id))


@bp.get("/import/<uuid:job_id>")
@auth.trader
def confirm(job_id: UUID) -> str:
    """What was found in the file, to be confirmed or put right."""
    job = _look(job_id)
    return render_template("data/confirm.html", **_confirmation(job, _found_entries(job), {}))


@bp.get("/import/<uuid:job_id>/state")
@auth.trader
def confirm_state(job_id: UUID) -> Response:
    """While a worker still looks at the file."""
    job = _look(job_id)
    if workers.is_over(job):
        response = partial("")
        response.headers["HX-Refresh"] = "true"
        return response
    version = stamp(job.state, job.progress, job.progress_text)
    if is_current(version):
        return unchanged()
    return partial(render_template("data/_looking.html", job=job, version=version))


@bp.post("/import/<uuid:job_id>/look")
@auth.trader
def look_again(job_id: UUID) -> ResponseReturnValue:
    """The same file, read as the user says."""
    job = _look(job_id)
    if problem := _gone(job):
        return render_template("data/import.html", problem=problem), 422
    wanted = InspectRequest(
        path=job.arguments["path"], file_name=job.arguments["file_name"], mapping=_entered_mapping()
    )
    row = workers.ask_and_wait(wanted, f"Look at {wanted.file_name}")
    return _redirect(url_for("data.confirm", job_id=row.id))


@bp.post("/import/<uuid:job_id>")
@auth.trader
def import_file(job_id: UUID) -> ResponseReturnValue:
    """Import it as confirmed; or the form again, with what is wrong beside the field."""
    job = _look(job_id)
    if problem := _gone(job):
        return render_template("data/import.html", problem=problem), 422
    entered = {name: request.form.get(name, "").strip() for name in _FIELDS} | _entered_mapping()
    problems = _problems(entered)
    if problems:
        return render_template("data/confirm.html", **_confirmation(job, entered, problems)), 422
    wanted = ImportRequest(
        path=job.arguments["path"],
        file_name=job.arguments["file_name"],
        symbol=entered["symbol_name"],
        interval=entered["interval"],
        calendar=entered["calendar"],
        quote_asset=entered["quote_asset"],
        asset_class=entered["asset_class"],
        timezone=entered["timezone"],
        mapping=_entered_mapping(),
    )
    title = f"Import {wanted.symbol} {wanted.interval} from {wanted.file_name}"
    row = workers.ask_and_wait(wanted, title)
    return _redirect(url_for("jobs.detail", job_id=row.id))


_FIELDS: Final = ("symbol_name", "interval", "calendar", "quote_asset", "asset_class", "timezone")
_MAPPED: Final = (*COLUMNS, "date_style", "delimiter", "decimal", "stamp")


def _entered_mapping() -> dict[str, str]:
    """The layout as the form says it; a delimiter of tab must not be stripped away."""
    return {name: request.form.get(f"map.{name}", "") for name in _MAPPED}


def _found_entries(job: JobRow) -> dict[str, str]:
    """The form of a file as it was detected."""
    found = job.result or {}
    entries = {
        "symbol_name": found.get("symbol", ""),
        "interval": found.get("interval_text", ""),
        "calendar": found.get("calendar", "24/7"),
        "quote_asset": found.get("quote_asset", "USD"),
        "asset_class": found.get("asset_class", "stock"),
        "timezone": "UTC",
    }
    return {**entries, **found.get("mapping", {})}


def _problems(entered: dict[str, str]) -> dict[str, str]:
    """What keeps this from being asked, by field."""
    problems = {}
    if not entered["symbol_name"]:
        problems["symbol_name"] = (
            "Nothing is not a symbol: say what these are the prices of, such as BTC/USD."
        )
    try:
        interval_seconds(entered["interval"])
    except ValueError:
        problems["interval"] = (
            f"{entered['interval'] or 'Nothing'} is not an interval: write a number and a unit, "
            "such as 1m, 4h or 1d."
        )
    if entered["calendar"] not in DAYS_PER_YEAR:
        problems["calendar"] = f"{entered['calendar']!r} is no calendar: choose one of the list."
    if not entered["quote_asset"]:
        problems["quote_asset"] = (
            "Nothing is not a currency: write the one the prices are in, such as USD."
        )
    problems |= {
        f"map.{name}": f"No column holds the {COLUMNS[name].lower()}: choose the one that does."
        for name in NEEDED
        if not entered[name]
    }
    if not entered["date_style"]:
        problems["map.date_style"] = (
            "How dates are written cannot be told: choose what the file means."
        )
    return problems


def _confirmation(job: JobRow, entered: dict[str, str], problems: dict[str, str]) -> dict[str, Any]:
    found = job.result or {}
    first = found.get("first", [])
    seen = {row["line"] for row in first}
    return {
        "job": job,
        "found": found,
        "last": [row for row in found.get("last", []) if row["line"] not in seen],
        "entered": entered,
        "problems": problems,
        "refused": found.get("problems", []),
        "columns": COLUMNS,
        "needed": NEEDED,
        "styles": STYLES,
        "delimiters": DELIMITERS,
        "calendars": CALENDARS,
        "asset_classes": ASSET_CLASSES,
        "is_kept": uploads.is_kept(str(job.arguments.get("path", ""))),
        "version": stamp(job.state, job.progress, job.progress_text),
    }


def _gone(job: JobRow) -> str:
    """Why this file cannot be asked about any more, or ""."""
    if uploads.is_kept(str(job.arguments.get("path", ""))):
        return ""
    return (
        f"{job.arguments.get('file_name', 'The file')} is not kept any more: it was imported, or a week "
        "has gone by. Choose it again."
    )


def _look(job_id: UUID) -> JobRow:
    job = db.session.get(JobRow, job_id)
    if job is None or job.kind != "inspect":
        abort(404)
    return job


def _redirect(url: str) -> AnyResponse:
    from flask import redirect

    return redirect(url, code=303)
