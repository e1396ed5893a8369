"""Bringing files in: chosen, looked into, confirmed, imported."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as AnyResponse

from shared.db.backtests import JobRow
from shared.db.market import ImportMappingRow
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
    "price": "Price of a trade",
}
NEEDED: Final = ("time", "open", "high", "low", "close")
NEEDED_OF_TRADES: Final = ("time", "price", "volume")
STYLES: Final = {
    "year-first": "2024-03-31 · year first",
    "day-first": "31/03/2024 · day first",
    "month-first": "03/31/2024 · month first",
    "named-month": "31 Mar 2024 · month by name",
    "epoch-seconds": "1711843200 · seconds since 1970",
    "epoch-milliseconds": "1711843200000 · milliseconds since 1970",
    "epoch-microseconds": "1711843200000000 · microseconds since 1970",
    "epoch-nanoseconds": "1711843200000000000 · nanoseconds since 1970",
    "excel-days": "45382.5 · days as spreadsheets count them",
}
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar |"}


@bp.get("")
@auth.trader
def choose_file() -> str:
    return _choose()


def _choose(problem: str = "") -> str:
    saved = db.session.scalars(sa.select(ImportMappingRow).order_by(ImportMappingRow.name)).all()
    return render_template("imports/choose.html", problem=problem, saved=saved, columns=COLUMNS)


@bp.post("")
@auth.trader
def upload() -> ResponseReturnValue:
    """Take the files, and look into them before anything is stored."""
    try:
        sent = request.files.getlist("file")
        kept = [uploads.keep(file) for file in sent] if sent else [uploads.keep(None)]
    except uploads.UploadRefused as refusal:
        return _choose(str(refusal)), 422
    if len(kept) == 1:
        [(path, name)] = kept
        row = workers.ask_and_wait(InspectRequest(path=path, file_name=name), f"Look at {name}")
        return _redirect(url_for("imports.confirm", job_id=row.id))
    looks = [
        workers.ask(InspectRequest(path=path, file_name=name), f"Look at {name}")
        for path, name in kept
    ]
    return _redirect(url_for("imports.several", job=[row.id for row in looks]))


@bp.get("/several")
@auth.trader
def several() -> str:
    """Files that were sent together, each with what was found in it."""
    ids = list(filter(None, map(_uuid, request.args.getlist("job")[:MOST_FILES])))
    found = sa.select(JobRow).where(JobRow.id.in_(ids), JobRow.kind == "inspect")
    jobs = list(db.session.scalars(found.order_by(JobRow.created_at)))
    return render_template(
        "imports/several.html",
        jobs=[(job, uploads.is_kept(str(job.arguments.get("path", "")))) for job in jobs],
        is_waiting=any(not workers.is_over(job) for job in jobs),
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@bp.post("/mappings/<int:mapping_id>/delete")
@auth.trader
def forget_mapping(mapping_id: int) -> AnyResponse:
    """Delete columns that were saved."""
    row = db.session.get(ImportMappingRow, mapping_id)
    if row is not None:
        auth.audit("import_mapping.deleted", row.name)
        db.session.delete(row)
        db.session.commit()
    return _redirect(url_for("imports.choose_file"))


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
        return _choose(problem), 422
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
        return _choose(problem), 422
    entered = {name: request.form.get(name, "").strip() for name in _FIELDS} | _entered_mapping()
    found = job.result or {}
    chosen = _chosen(found)
    problems = _problems(entered, found, chosen)
    if problems:
        return render_template("imports/confirm.html", **_confirmation(job, entered, problems)), 422
    row = workers.ask_and_wait(_wanted(job, entered, found, chosen), _title(job, entered, chosen))
    return _redirect(url_for("jobs.detail", job_id=row.id))


def _wanted(
    job: JobRow, entered: dict[str, str], found: dict[str, Any], chosen: list[dict[str, Any]]
) -> ImportRequest:
    return ImportRequest(
        path=job.arguments["path"],
        file_name=job.arguments["file_name"],
        symbol=entered["symbol_name"],
        interval=entered["interval"],
        calendar=entered["calendar"],
        quote_asset=entered["quote_asset"],
        asset_class=entered["asset_class"],
        timezone=entered["timezone"],
        mapping={} if "members" in found else _entered_mapping(),
        series=chosen,
        trades_to=entered["trades_to"],
        save_mapping="" if "members" in found else entered["save_mapping"],
    )


def _title(job: JobRow, entered: dict[str, str], chosen: list[dict[str, Any]]) -> str:
    what = f"{entered['symbol_name']} {entered['interval'] or entered['trades_to']}"
    if chosen:
        what = f"{len(chosen):,} series"
    return f"Import {what} from {job.arguments['file_name']}"


def _chosen(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of an archive, or a file of several symbols, what was ticked."""
    ticked = {int(text) for text in request.form.getlist("pick") if text.isdecimal()}
    if "members" in found:
        return [
            {
                **{name: each[name] for name in ("member", "calendar", "quote_asset", "asset_class", "mapping")},
                "key": key,
                "symbol": key or request.form.get(f"symbol.{i}", each["symbol"]).strip(),
                "interval": request.form.get(f"interval.{i}", each["interval_text"]).strip(),
            }
            for i, each in enumerate(found["members"])
            if i in ticked
            for key in each["symbols"] or [""]
        ]  # fmt: skip
    symbols = found.get("symbols", [])
    if len(symbols) > 1:
        return [{"key": key, "symbol": key} for i, key in enumerate(symbols) if i in ticked]
    return []


MOST_FILES: Final = 100
_FIELDS: Final = (
    "symbol_name", "interval", "calendar", "quote_asset", "asset_class", "timezone", "trades_to",
    "save_mapping",
)  # fmt: skip
_MAPPED: Final = (*COLUMNS, "date_style", "delimiter", "decimal", "thousands", "stamp", "header")
_ALREADY: Final = {"header": "yes", "stamp": "open", "decimal": ".", "delimiter": ","}


def _entered_mapping() -> dict[str, str]:
    """The layout as the form says it; a delimiter of tab must not be stripped away."""
    return {name: request.form.get(f"map.{name}", _ALREADY.get(name, "")) for name in _MAPPED}


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
        "trades_to": "1m",
        "save_mapping": "",
    }
    return {**entries, **found.get("mapping", {})}


def _problems(
    entered: dict[str, str], found: dict[str, Any], chosen: list[dict[str, Any]]
) -> dict[str, str]:
    """What keeps this from being asked, by field."""
    if "members" in found:
        return _problems_of_archive(chosen)
    problems = _problems_of_columns(entered, found)
    if len(found.get("symbols", [])) > 1:
        if not chosen:
            problems["pick"] = "No symbol is ticked: tick what should come in."
    elif not entered["symbol_name"]:
        problems["symbol_name"] = (
            "Nothing is not a symbol: say what these are the prices of, such as BTC/USD."
        )
    field = "trades_to" if _is_trades(entered) else "interval"
    if bad := next(filter(None, map(_bad_interval, entered[field].split(","))), ""):
        problems[field] = bad
    if entered["calendar"] not in DAYS_PER_YEAR:
        problems["calendar"] = f"{entered['calendar']!r} is no calendar: choose one of the list."
    if not entered["quote_asset"]:
        problems["quote_asset"] = (
            "Nothing is not a currency: write the one the prices are in, such as USD."
        )
    return problems


def _problems_of_archive(chosen: list[dict[str, Any]]) -> dict[str, str]:
    if not chosen:
        return {"pick": "No file is ticked: tick what should come in."}
    for entry in chosen:
        if not entry["symbol"]:
            return {
                "pick": f"{entry['member']}: say what these are the prices of, such as BTC/USD."
            }
        if bad := _bad_interval(entry["interval"]):
            return {"pick": f"{entry['member']}: {bad}"}
    return {}


def _problems_of_columns(entered: dict[str, str], found: dict[str, Any]) -> dict[str, str]:
    needed = NEEDED_OF_TRADES if _is_trades(entered) else NEEDED
    problems = {
        f"map.{name}": f"No column holds the {COLUMNS[name].lower()}: choose the one that does."
        for name in needed
        if not entered[name]
    }
    if not entered["date_style"]:
        problems["map.date_style"] = (
            "How dates are written cannot be told: choose what the file means."
        )
    if found.get("is_guess") and not request.form.get("columns_seen"):
        problems["columns_seen"] = (
            "The columns are only a guess: look at the rows, and say they are right."
        )
    return problems


def _is_trades(entered: dict[str, str]) -> bool:
    return bool(entered["price"]) and not any(entered[name] for name in NEEDED[1:])


def _bad_interval(text: str) -> str:
    try:
        interval_seconds(text.strip())
    except ValueError:
        return (
            f"{text or 'Nothing'} is not an interval: write a number and a unit, "
            "such as 1m, 4h or 1d."
        )
    return ""


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
        "needed": NEEDED_OF_TRADES
        if _is_trades({**dict.fromkeys(_MAPPED, ""), **entered})
        else NEEDED,
        "picked": set(request.form.getlist("pick")) if request.method == "POST" else None,
        "typed": request.form,
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
