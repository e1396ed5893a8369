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
from shared.db.market import InstrumentRow
from shared.domain.universe import SORTS, BadRules, Rules, Verdict, evaluate
from shared.jobs import PairListRequest
from webapp import auth, charts, heat, live, watching, workers
from webapp.db import db
from webapp.formats import decimal
from webapp.partials import partial

bp = Blueprint("lists", __name__, url_prefix="/lists")

LONGEST_NAME: Final = 60
DAY: Final = timedelta(days=1)

WORDS: Final = ("venue", "quote_asset", "asset_class", "sort")
NUMBERS: Final = ("min_value", "min_price", "max_price")
FRACTIONS: Final = ("max_spread", "min_volatility", "max_volatility")
"""Entered in per cent."""

WHOLE: Final = ("window", "min_age", "top")
SORT_NAMES: Final = {
    "value": "traded value",
    "volume": "volume",
    "volatility": "volatility",
    "spread": "estimated spread",
    "price": "price",
    "age": "days of history",
    "change": "change over the window",
}


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
    return render_template("lists/page.html", watches=watches, pairs=pairs, rules_text=rules_text)


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
    instruments = list(
        db.session.scalars(
            sa.select(InstrumentRow)
            .join(WatchListItemRow, WatchListItemRow.instrument_id == InstrumentRow.id)
            .where(WatchListItemRow.list_id == row.id)
            .order_by(InstrumentRow.symbol, InstrumentRow.id)
        )
    )
    text = request.args.get("q", "").strip()[:80]
    return render_template(
        "lists/watch.html",
        list=row,
        rows=_priced(instruments),
        q=text,
        found=_found(text, {one.id for one in instruments}) if text else [],
    )


def _priced(instruments: list[InstrumentRow]) -> list[dict[str, Any]]:
    """Each with its newest price and how it came there."""
    quotes = live.quotes(instruments)
    rows = []
    for instrument in instruments:
        finest = charts.finest_series(instrument.id)
        shown = charts.candles(finest, finest.interval, limit=60) if finest else []
        closes = [float(candle.close) for candle in shown]
        quote = quotes.get(instrument.id)
        price = quote.mark if quote and quote.mark is not None else closes[-1] if closes else None
        change = price / closes[0] - 1 if price is not None and len(closes) > 1 else None
        rows.append(
            {"instrument": instrument, "price": price, "change": change, "closes": closes,
             "at": finest.last_closed_at if finest else None, "is_live": quote is not None}
        )  # fmt: skip
    return rows


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
    row = _watch(list_id)
    number = request.form.get("instrument_id", "")
    instrument = (
        db.session.get(InstrumentRow, int(number))
        if number.isdecimal() and len(number) < 15
        else None
    )
    if instrument is None:
        abort(400, "instrument_id: there is no such instrument")
    if request.form.get("remove"):
        db.session.execute(
            sa.delete(WatchListItemRow).where(
                WatchListItemRow.list_id == row.id,
                WatchListItemRow.instrument_id == instrument.id,
            )
        )
    else:
        db.session.execute(
            insert(WatchListItemRow)
            .values(list_id=row.id, instrument_id=instrument.id)
            .on_conflict_do_nothing()
        )
    db.session.commit()
    return redirect(url_for("lists.watch", list_id=row.id), code=303)


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
    return _form(None, _entered(Rules()), {})


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
    members: list[Any] = []
    if newest is not None:
        members[:] = db.session.execute(
            sa.select(PairListDayRow, InstrumentRow)
            .join(InstrumentRow, InstrumentRow.id == PairListDayRow.instrument_id)
            .where(PairListDayRow.list_id == row.id, PairListDayRow.day == newest.day)
            .order_by(PairListDayRow.rank)
        ).all()
    return render_template(
        "lists/pair.html",
        list=row,
        rules=Rules.from_json(row.rules),
        rules_text=rules_text,
        sort_names=SORT_NAMES,
        newest=newest,
        members=members,
        days=db.session.scalar(sa.select(sa.func.count()).select_from(query.subquery())),
        jobs=[j for j in workers.unfinished("pair_list") if j.arguments.get("list_id") == row.id],
    )


@bp.get("/pairs/<int:list_id>/edit")
@auth.trader
def edit_pair(list_id: int) -> str:
    row = _pair(list_id)
    return _form(row, {"name": row.name, **_entered(Rules.from_json(row.rules))}, {})


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
    """Who is in on the newest day that may be recorded, by the rules of the form, and why the others are not."""
    rules, problems = _rules(request.form)
    if rules is None:
        return partial(render_template("lists/_preview.html", problems=problems, verdicts=[]))
    chosen = daily.considered(db.session, rules)
    day = daily.known_until(chosen) if chosen else datetime.now(UTC).date()
    found = daily.candidates(db.session, chosen, day - daily.days_needed(rules), day)
    verdicts: list[Verdict] = evaluate(rules, found, day)
    return partial(
        render_template("lists/_preview.html", problems={}, verdicts=verdicts, day=day, rules=rules)
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


# From a form to rules and back ---------------------------------------------------------------


def _save(list_id: int | None) -> AnyResponse | tuple[str, int]:
    row = _pair(list_id) if list_id is not None else None
    rules, problems = _rules(request.form)
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= LONGEST_NAME:
        problems["name"] = f"Give it a name of at most {LONGEST_NAME} characters."
    if rules is None or problems:
        return _form(row, _typed(request.form), problems), 400
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
        return _form(known, _typed(request.form), problems), 400
    flash(f"Pair list {name} saved. Record it for the days that a run needs.")
    return redirect(url_for("lists.pair", list_id=row.id), code=303)


def _form(row: PairListRow | None, entered: Mapping[str, str], problems: Mapping[str, str]) -> str:
    every = sa.select(InstrumentRow).order_by(InstrumentRow.symbol, InstrumentRow.id)
    instruments = list(db.session.scalars(every))
    return render_template(
        "lists/edit.html",
        list=row,
        entered=entered,
        problems=problems,
        sorts=[(key, SORT_NAMES[key]) for key in SORTS],
        venues=sorted({one.venue for one in instruments}),
        quotes=sorted({one.quote_asset for one in instruments}),
        classes=sorted({one.asset_class for one in instruments}),
        instruments=instruments,
        is_daily=row.is_daily if row is not None else True,
    )


def _entered(rules: Rules) -> dict[str, str]:
    shown = {name: str(getattr(rules, name)) for name in WORDS}
    for name in (*NUMBERS, *FRACTIONS, *WHOLE):
        value = getattr(rules, name)
        scaled = None if value is None else value * 100 if name in FRACTIONS else value
        shown[name] = "" if scaled is None else f"{decimal(scaled) or 0:f}"
    shown["descending"] = "yes" if rules.descending else ""
    for name in ("include", "exclude"):
        shown[name] = ",".join(map(str, getattr(rules, name)))
    return shown


def _rules(form: Mapping[str, str]) -> tuple[Rules | None, dict[str, str]]:
    """The rules of a form; None and what is wrong beside each field."""
    problems: dict[str, str] = {}
    given: dict[str, Any] = {name: form.get(name, "").strip() for name in WORDS}
    given["sort"] = given["sort"] or "value"
    for name in (*NUMBERS, *FRACTIONS, *WHOLE):
        text = form.get(name, "").strip().replace(",", ".")
        number = decimal(text)
        if text and number is None:
            problems[name] = f"{text[:40]} is not a number"
        elif number is not None and name in WHOLE and number != int(number):
            problems[name] = f"{text[:40]} is not a whole number"
        elif number is not None:
            scaled = number / 100 if name in FRACTIONS else number
            given[name] = int(scaled) if name in WHOLE else float(scaled)
        elif name == "top":
            given[name] = None
    given["descending"] = bool(form.get("descending"))
    for name in ("include", "exclude"):
        given[name] = _ids(form, name)
    if problems:
        return None, problems
    try:
        return Rules.from_json(given), {}
    except BadRules as bad:
        return None, {bad.field: bad.text}


def _typed(form: Mapping[str, str]) -> dict[str, str]:
    """A form as it was sent, with all that was chosen by hand."""
    chosen = {name: ",".join(map(str, _ids(form, name))) for name in ("include", "exclude")}
    return {**dict(form), **chosen}


def _ids(form: Mapping[str, str], name: str) -> tuple[int, ...]:
    getlist = getattr(form, "getlist", None)
    texts = getlist(name) if getlist else [form.get(name, "")]
    parts = [part for text in texts for part in text.split(",")]
    return tuple(sorted({int(part) for part in parts if part.isdecimal() and len(part) < 15}))


def rules_text(rules: Rules | Mapping[str, Any]) -> str:
    """What a pair list wants, in a line."""
    r = rules if isinstance(rules, Rules) else Rules.from_json(rules)
    parts = [word for word in (r.venue, r.asset_class, r.quote_asset) if word]
    for value, text in (
        (r.min_value, "traded value from {:,.0f} a day"),
        (r.max_spread and r.max_spread * 100, "spread up to {:g} %"),
        (r.min_price, "price from {:g}"),
        (r.max_price, "price up to {:g}"),
        (r.min_age, "at least {} days old"),
        (r.min_volatility and r.min_volatility * 100, "volatility from {:g} %"),
        (r.max_volatility and r.max_volatility * 100, "volatility up to {:g} %"),
    ):
        if value is not None:
            parts.append(text.format(value))
    order = "highest" if r.descending else "lowest"
    parts.append(f"the {r.top} with the {order} {SORT_NAMES[r.sort]}" if r.top else "all that pass")
    return ", ".join(parts)


def _name() -> str:
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= LONGEST_NAME:
        abort(400, f"name: give it a name of at most {LONGEST_NAME} characters")
    return name


def _day(name: str) -> date | None:
    text = request.args.get(name, "")
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        abort(400, f"{name}: {text!r} is no day; write 2024-01-31")


def _back(text: str, endpoint: str) -> AnyResponse:
    flash(text)
    return redirect(url_for(endpoint), code=303)
