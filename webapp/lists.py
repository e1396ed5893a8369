"""Lists: instruments to keep an eye on, and pair lists whose rules choose them day by day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response as AnyResponse

from shared.db import daily
from shared.db.lists import (
    PairListDayRow,
    PairListRecordRow,
    PairListRow,
    WatchListItemRow,
    WatchListRow,
)
from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.market import interval_text
from shared.domain.universe import SORTS, BadRules, Rules, evaluate
from shared.jobs import PairListRequest
from webapp import auth, charts, heat, live, pair_rules, watching, workers
from webapp.db import db
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("lists", __name__, url_prefix="/lists")

LONGEST_NAME: Final = 60
DAY: Final = timedelta(days=1)


@bp.get("/")
@auth.viewer
def page() -> str:
    counts = (
        sa.select(WatchListItemRow.list_id, sa.func.count().label("n"))
        .group_by(WatchListItemRow.list_id)
        .subquery()
    )
    watches = db.session.execute(
        sa.select(WatchListRow, sa.func.coalesce(counts.c.n, 0))
        .outerjoin(counts, counts.c.list_id == WatchListRow.id)
        .where(WatchListRow.owner.in_(watching.owners()))
        .order_by(WatchListRow.owner.desc(), WatchListRow.name)
    ).all()
    newest = (
        sa.select(
            PairListRecordRow.list_id,
            sa.func.min(PairListRecordRow.day).label("first"),
            sa.func.max(PairListRecordRow.day).label("last"),
        )
        .group_by(PairListRecordRow.list_id)
        .subquery()
    )
    members = (
        sa.select(PairListRecordRow.members)
        .where(PairListRecordRow.list_id == PairListRow.id, PairListRecordRow.day == newest.c.last)
        .scalar_subquery()
    )
    pairs = db.session.execute(
        sa.select(PairListRow, newest.c.first, newest.c.last, members)
        .outerjoin(newest, newest.c.list_id == PairListRow.id)
        .where(PairListRow.deleted_at.is_(None))
        .order_by(PairListRow.name)
    ).all()
    return render_template(
        "lists/page.html", watches=watches, pairs=pairs, in_words=pair_rules.in_words
    )


# Watch lists ------------------------------------------------------------------------------


@bp.post("/watch")
@auth.trader
def add_watch() -> AnyResponse:
    name = _name()
    owner = watching.EVERYONE if request.form.get("shared") else watching.owners()[1]
    made = db.session.execute(
        insert(WatchListRow)
        .values(name=name, owner=owner)
        .on_conflict_do_nothing()
        .returning(WatchListRow.id)
    ).scalar()
    if made is None:
        return _back(f"There is a watch list {name} already: choose another name.", "lists.page")
    auth.audit("watch_list.added", name, shared=owner == watching.EVERYONE)
    db.session.commit()
    return redirect(url_for("lists.watch", list_id=made), code=303)


@bp.get("/watch/<int:list_id>")
@auth.viewer
def watch(list_id: int) -> str:
    """Its instruments with their newest prices; `?q=` finds what may be added."""
    row = _watch(list_id)
    now = _watched(row)
    text = request.args.get("q", "").strip()[:80]
    known = {one["instrument"].id for one in now["rows"]}
    found = _found(text, known) if text else []
    return render_template("lists/watch.html", q=text, found=found, **now)


@bp.get("/watch/<int:list_id>/rows")
@auth.viewer
def watch_part(list_id: int) -> Response:
    """Its rows, current while the page is open."""
    now = _watched(_watch(list_id))
    if is_current(now["version"]):
        return unchanged()
    return partial(render_template("lists/_watch_rows.html", **now))


def _watched(row: WatchListRow) -> dict[str, Any]:
    """The list with each instrument's newest price and how it came there. `version` changes with them."""
    instruments = list(
        db.session.scalars(
            sa.select(InstrumentRow)
            .join(WatchListItemRow, WatchListItemRow.instrument_id == InstrumentRow.id)
            .where(WatchListItemRow.list_id == row.id)
            .order_by(InstrumentRow.symbol, InstrumentRow.id)
        )
    )
    quotes = live.quotes(instruments)
    rows = [_priced(one, quotes.get(one.id)) for one in instruments]
    seen = [(one["instrument"].id, one["price"], one["at"]) for one in rows]
    return {"list": row, "rows": rows, "version": stamp(seen)}


def _priced(instrument: InstrumentRow, quote: live.Quote | None) -> dict[str, Any]:
    finest = charts.finest_series(instrument.id)
    shown = charts.candles(finest, finest.interval, limit=60) if finest else []
    closes = [float(candle.close) for candle in shown]
    price = quote.mark if quote and quote.mark is not None else closes[-1] if closes else None
    return {
        "instrument": instrument,
        "price": price,
        "change": price / closes[0] - 1 if price is not None and len(closes) > 1 else None,
        "closes": closes,
        "interval": interval_text(finest.interval) if finest else "",
        "at": quote.received_at if quote else finest.last_closed_at if finest else None,
        "is_live": quote is not None,
    }


def _found(text: str, known: set[int]) -> list[InstrumentRow]:
    plain = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = sa.select(InstrumentRow).where(
        sa.or_(InstrumentRow.symbol.ilike(f"%{plain}%"), InstrumentRow.name.ilike(f"%{plain}%")),
        InstrumentRow.id.not_in(known),
    )
    return list(db.session.scalars(query.order_by(InstrumentRow.symbol).limit(20)))


@bp.post("/watch/<int:list_id>/items")
@auth.trader
def change_watch(list_id: int) -> AnyResponse:
    """Add or take out one instrument; twice is once."""
    row, instrument = _watch(list_id), _asked_instrument()
    if request.form.get("remove"):
        _take_out(row, instrument)
    else:
        _put_on(row, instrument)
    db.session.commit()
    return redirect(url_for("lists.watch", list_id=row.id), code=303)


@bp.post("/watch/items")
@auth.trader
def put_on() -> AnyResponse:
    """One instrument on the list that its own page chose; back to that page."""
    number = request.form.get("list_id", "")
    row = _watch(int(number) if number.isdecimal() and len(number) < 15 else 0)
    instrument = _asked_instrument()
    _put_on(row, instrument)
    db.session.commit()
    flash(f"{instrument.symbol} is on {row.name} now.")
    return redirect(url_for("instruments.detail", instrument_id=instrument.id), code=303)


def _asked_instrument() -> InstrumentRow:
    number = request.form.get("instrument_id", "")
    is_id = number.isdecimal() and len(number) < 15
    found = db.session.get(InstrumentRow, int(number)) if is_id else None
    if found is None:
        abort(400, "instrument_id: there is no such instrument")
    return found


def _put_on(row: WatchListRow, instrument: InstrumentRow) -> None:
    db.session.execute(
        insert(WatchListItemRow)
        .values(list_id=row.id, instrument_id=instrument.id)
        .on_conflict_do_nothing()
    )


def _take_out(row: WatchListRow, instrument: InstrumentRow) -> None:
    db.session.execute(
        sa.delete(WatchListItemRow).where(
            WatchListItemRow.list_id == row.id, WatchListItemRow.instrument_id == instrument.id
        )
    )


@bp.post("/watch/<int:list_id>/delete")
@auth.trader
def delete_watch(list_id: int) -> AnyResponse:
    row = _watch(list_id)
    auth.audit("watch_list.deleted", row.name)
    db.session.delete(row)
    db.session.commit()
    return _back(f"Watch list {row.name} deleted.", "lists.page")


def _watch(list_id: int) -> WatchListRow:
    row = db.session.get(WatchListRow, list_id)
    if row is None or row.owner not in watching.owners():
        abort(404)
    return row


# Pair lists -------------------------------------------------------------------------------


@bp.get("/pairs/new")
@auth.trader
def new_pair() -> str:
    return _form(None, pair_rules.entered_of(Rules(venue=_venue_with_history())), {})


def _venue_with_history() -> str:
    """Where most of the stored history is; "" while there are simulated bars only."""
    query = (
        sa.select(InstrumentRow.venue)
        .join(SeriesRow, SeriesRow.instrument_id == InstrumentRow.id)
        .where(~SeriesRow.simulated, SeriesRow.bars > 0)
        .group_by(InstrumentRow.venue)
        .order_by(sa.func.count().desc(), InstrumentRow.venue)
    )
    return db.session.scalar(query.limit(1)) or ""


@bp.post("/pairs")
@auth.trader
def add_pair() -> AnyResponse | tuple[str, int]:
    return _save(None)


@bp.get("/pairs/<int:list_id>")
@auth.viewer
def pair(list_id: int) -> str:
    """Its rules, who is in on the newest recorded day, and membership as a picture.

    A deleted one can still be seen: runs lead here.
    """
    row = _pair(list_id, deleted_too=True)
    query = sa.select(PairListRecordRow).where(PairListRecordRow.list_id == row.id)
    newest = db.session.scalars(query.order_by(PairListRecordRow.day.desc()).limit(1)).first()
    return render_template(
        "lists/pair.html",
        list=row,
        words=pair_rules.in_words(row.rules),
        sort=str(row.rules.get("sort", "value")),
        measures=pair_rules.MEASURES,
        measure_text=pair_rules.measure_text,
        newest=newest,
        members=_members(row.id, newest.day) if newest is not None else [],
        recorded=_recorded(row),
        **_under_way(row),
    )


def _members(list_id: int, day: date) -> list[Any]:
    """(how it was recorded, instrument) by rank."""
    query = (
        sa.select(PairListDayRow, InstrumentRow)
        .join(InstrumentRow, InstrumentRow.id == PairListDayRow.instrument_id)
        .where(PairListDayRow.list_id == list_id, PairListDayRow.day == day)
    )
    return list(db.session.execute(query.order_by(PairListDayRow.rank)))


def _recorded(row: PairListRow) -> Any:
    """What days are on record: how many, since when, with how many members, and by earlier rules."""
    record = PairListRecordRow
    return db.session.execute(
        sa.select(
            sa.func.count().label("days"),
            sa.func.min(record.day).label("first"),
            sa.func.max(record.day).label("last"),
            sa.func.avg(record.members).label("mean"),
            sa.func.count().filter(record.version != row.version).label("earlier"),
        ).where(record.list_id == row.id)
    ).one()


def _under_way(row: PairListRow) -> dict[str, Any]:
    jobs = [j for j in workers.unfinished("pair_list") if j.arguments.get("list_id") == row.id]
    seen = [(j.id, j.state, j.progress, j.progress_text) for j in jobs]
    return {"jobs": jobs, "jobs_version": stamp(seen)}


@bp.get("/pairs/<int:list_id>/under-way")
@auth.viewer
def under_way_part(list_id: int) -> Response:
    """Recording that is under way; the page is loaded again when it ends."""
    row = _pair(list_id, deleted_too=True)
    now = _under_way(row)
    if is_current(now["jobs_version"]):
        return unchanged()
    response = partial(render_template("lists/_under_way.html", list=row, **now))
    if not now["jobs"]:
        response.headers["HX-Refresh"] = "true"
    return response


@bp.get("/pairs/<int:list_id>/edit")
@auth.trader
def edit_pair(list_id: int) -> str:
    row = _pair(list_id)
    try:
        rules, problems = Rules.from_json(row.rules), {}
    except BadRules as bad:
        rules, problems = Rules(), {bad.field: bad.text}
    return _form(row, {"name": row.name, **pair_rules.entered_of(rules)}, problems)


@bp.post("/pairs/<int:list_id>")
@auth.trader
def save_pair(list_id: int) -> AnyResponse | tuple[str, int]:
    return _save(list_id)


@bp.post("/pairs/<int:list_id>/delete")
@auth.trader
def delete_pair(list_id: int) -> AnyResponse:
    """What was recorded stays: runs refer to it."""
    row = _pair(list_id)
    row.deleted_at = datetime.now(UTC)
    row.name = f"{row.name} (deleted {row.id})"
    auth.audit("pair_list.deleted", row.name)
    db.session.commit()
    return _back("Pair list deleted; what was recorded of it stays.", "lists.page")


@bp.post("/pairs/<int:list_id>/record")
@auth.trader
def record_pair(list_id: int) -> AnyResponse:
    """Members of each day of a range, by a job."""
    row = _pair(list_id)
    asked = PairListRequest(
        list_id=row.id,
        first_day=request.form.get("first_day", "").strip(),
        last_day=request.form.get("last_day", "").strip(),
    )
    job = workers.ask_and_wait(asked, f"Record {row.name}")
    if job.state in ("done", "failed"):
        flash(str((job.result or {}).get("text") or job.error or ""))
        return redirect(url_for("lists.pair", list_id=row.id), code=303)
    return workers.next_page(job)


@bp.post("/pairs/preview")
@auth.trader
def preview() -> Response:
    """Who is in by the rules of the form and why the others are not, on the day of `on` or the newest there is."""
    rules, problems = pair_rules.read(request.form)
    if rules is None:
        return partial(render_template("lists/_preview.html", problems=problems, verdicts=[]))
    chosen = daily.considered(db.session, rules)
    newest = daily.known_until(chosen) if chosen else datetime.now(UTC).date()
    day = min(_as_day(request.form.get("on", "")) or newest, newest)
    found = daily.candidates(db.session, chosen, day - daily.days_needed(rules), day)
    verdicts = evaluate(rules, found, day)
    return partial(
        render_template(
            "lists/_preview.html",
            problems={},
            verdicts=verdicts,
            day=day,
            is_newest=day == newest,
            columns=pair_rules.columns(rules),
            stopped=pair_rules.stopped_by(rules, verdicts),
        )
    )


@bp.get("/pairs/<int:list_id>/membership.json")
@auth.viewer
def membership_json(list_id: int) -> Any:
    """Days as a member, by instrument and column; `?from=` and `?to=` are days, both included."""
    row = _pair(list_id, deleted_too=True)
    recorded = list(
        db.session.scalars(
            sa.select(PairListRecordRow.day)
            .where(PairListRecordRow.list_id == row.id)
            .order_by(PairListRecordRow.day)
        )
    )
    if not recorded:
        today = datetime.now(UTC).date()
        shown = heat.Picture("day", [today, today + DAY], today, today, {})
        return charts.json_answer(shown.as_json([]))
    first, last = recorded[0], recorded[-1]
    span = [first + number * DAY for number in range((last - first).days + 1)]
    known = set(recorded)
    expected = [int(day in known) for day in span]
    inside: dict[int, set[date]] = {}
    query = sa.select(PairListDayRow.instrument_id, PairListDayRow.day)
    for instrument_id, day in db.session.execute(query.where(PairListDayRow.list_id == row.id)):
        inside.setdefault(instrument_id, set()).add(day)
    days = {
        instrument_id: heat.Days(first, [int(day in own) for day in span], expected)
        for instrument_id, own in inside.items()
    }
    names = db.session.execute(
        sa.select(InstrumentRow.id, InstrumentRow.symbol)
        .where(InstrumentRow.id.in_(inside))
        .order_by(InstrumentRow.symbol)
    )
    listed = [
        (number, symbol, f"{len(inside[number]):,} days", url_for("instruments.detail", instrument_id=number))
        for number, symbol in names
    ]  # fmt: skip
    shown = heat.picture(days, _day("from"), _day("to"))
    return charts.json_answer(shown.as_json(listed))


@bp.get("/pairs/<int:list_id>/membership")
@auth.viewer
def membership_table(list_id: int) -> Response:
    """The same in numbers: days as a member, and the first and last of them."""
    row = _pair(list_id, deleted_too=True)
    rows = db.session.execute(
        sa.select(
            InstrumentRow,
            sa.func.count(),
            sa.func.min(PairListDayRow.day),
            sa.func.max(PairListDayRow.day),
            sa.func.avg(PairListDayRow.rank),
        )
        .join(PairListDayRow, PairListDayRow.instrument_id == InstrumentRow.id)
        .where(PairListDayRow.list_id == row.id)
        .group_by(InstrumentRow.id)
        .order_by(sa.func.count().desc(), InstrumentRow.symbol)
    ).all()
    return partial(render_template("lists/_membership_table.html", rows=rows))


def _pair(list_id: int, *, deleted_too: bool = False) -> PairListRow:
    row = db.session.get(PairListRow, list_id)
    if row is None or (row.deleted_at is not None and not deleted_too):
        abort(404)
    return row


# Saving ----------------------------------------------------------------------------------


def _save(list_id: int | None) -> AnyResponse | tuple[str, int]:
    row = _pair(list_id) if list_id is not None else None
    rules, problems = pair_rules.read(request.form)
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= LONGEST_NAME:
        problems["name"] = f"Give it a name of at most {LONGEST_NAME} characters."
    if rules is None or problems:
        return _form(row, _typed(), problems), 400
    is_daily = bool(request.form.get("is_daily"))
    try:
        if row is None:
            row = PairListRow(
                name=name, rules=rules.as_json(), is_daily=is_daily, created_by=watching.owners()[1]
            )
            db.session.add(row)
        else:
            row.version += int(row.rules != rules.as_json())
            row.name, row.rules, row.is_daily = name, rules.as_json(), is_daily
        auth.audit("pair_list.saved", name, rules=rules.as_json())
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        problems["name"] = f"There is a pair list {name} already: choose another name."
        known = _pair(list_id) if list_id is not None else None
        return _form(known, _typed(), problems), 400
    flash(f"Pair list {name} saved. Record it for the days that a run needs.")
    return redirect(url_for("lists.pair", list_id=row.id), code=303)


def _typed() -> dict[str, str]:
    """The form as it was sent."""
    names = ("name", "is_daily")
    return {**pair_rules.typed(request.form), **{n: request.form.get(n, "").strip() for n in names}}


def _form(row: PairListRow | None, entered: Mapping[str, str], problems: Mapping[str, str]) -> str:
    is_daily = row.is_daily if row is not None else True
    return render_template(
        "lists/edit.html",
        list=row,
        entered={"is_daily": "yes" if is_daily else "", **entered},
        problems=problems,
        sorts=[(key, pair_rules.MEASURES[key]) for key in SORTS],
        venues=_distinct(InstrumentRow.venue),
        quotes=_distinct(InstrumentRow.quote_asset),
        classes=_distinct(InstrumentRow.asset_class),
    )


def _distinct(column: Any) -> list[str]:
    return list(db.session.scalars(sa.select(column).distinct().order_by(column)))


def _name() -> str:
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= LONGEST_NAME:
        abort(400, f"name: give it a name of at most {LONGEST_NAME} characters")
    return name


def _as_day(text: str) -> date | None:
    """A day as a browser's field gives it; None for anything else."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None


def _day(name: str) -> date | None:
    text = request.args.get(name, "")
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        abort(400, f"{name}: {text!r} is no day; write 2024-01-31")


def _back(text: str, endpoint: str) -> AnyResponse:
    flash(text)
    return redirect(url_for(endpoint), code=303)
