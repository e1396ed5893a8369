"""Bringing files in: chosen, looked into, confirmed, imported."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as AnyResponse

from shared.db.backtests import JobRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds
from shared.jobs import ImportRequest, InspectRequest
from webapp import auth, uploads, workers
from webapp.db import db
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("imports", __name__, url_prefix="/data/import")

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


@bp.get("")
@auth.trader
def choose_file() -> str:
    return render_template("imports/choose.html", problem="")


@bp.post("")
@auth.trader
def upload() -> ResponseReturnValue:
    """Take the file, and look into it before anything is stored."""
    try:
        path, name = uploads.keep(request.files.get("file"))
    except uploads.UploadRefused as refusal:
        return render_template("imports/choose.html", problem=str(refusal)), 422
    row = workers.ask_and_wait(InspectRequest(path=path, file_name=name), f"Look at {name}")
    return _redirect(url_for("imports.confirm", job_id=row.id))


@bp.get("/<uuid:job_id>")
@auth.trader
def confirm(job_id: UUID) -> str:
    """What was found in the file, to be confirmed or put right."""
    job = _look(job_id)
    return render_template("imports/confirm.html", **_confirmation(job, _found_entries(job), {}))


@bp.get("/<uuid:job_id>/state")
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
    return partial(render_template("imports/_looking.html", job=job, version=version))


@bp.post("/<uuid:job_id>/look")
@auth.trader
def look_again(job_id: UUID) -> ResponseReturnValue:
    """The same file, read as the user says."""
    job = _look(job_id)
    if problem := _gone(job):
        return render_template("imports/choose.html", problem=problem), 422
    wanted = InspectRequest(
        path=job.arguments["path"], file_name=job.arguments["file_name"], mapping=_entered_mapping()
    )
    row = workers.ask_and_wait(wanted, f"Look at {wanted.file_name}")
    return _redirect(url_for("imports.confirm", job_id=row.id))


@bp.post("/<uuid:job_id>")
@auth.trader
def import_file(job_id: UUID) -> ResponseReturnValue:
    """Import it as confirmed; or the form again, with what is wrong beside the field."""
    job = _look(job_id)
    if problem := _gone(job):
        return render_template("imports/choose.html", problem=problem), 422
    entered = {name: request.form.get(name, "").strip() for name in _FIELDS} | _entered_mapping()
    problems = _problems(entered)
    if problems:
        return render_template("imports/confirm.html", **_confirmation(job, entered, problems)), 422
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
    return redirect(url, code=303)
