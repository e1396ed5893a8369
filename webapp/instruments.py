"""Instruments: found by name, each with what is known of it, and changed by an administrator."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, abort, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import CommandRow
from shared.db.lists import (
    PairListDayRow,
    PairListRecordRow,
    PairListRow,
    WatchListItemRow,
    WatchListRow,
)
from shared.db.market import InstrumentRow, SeriesRow
from shared.domain.instruments import ASSET_CLASSES, DAYS_PER_YEAR
from shared.messages import EditInstrument
from webapp import auth, commands, series, watching
from webapp.db import db
from webapp.formats import decimal

bp = Blueprint("instruments", __name__, url_prefix="/instruments")

SIZE: Final = 50
AMOUNTS: Final = ("tick_size", "lot_size", "min_quantity", "min_value")
FEES: Final = ("maker_fee", "taker_fee")
"""Entered in per cent, asked for as fractions."""

WORDS: Final = ("name", "asset_class", "calendar")


@bp.get("/")
@auth.viewer
def page() -> str:
    """By symbol, after the one that `?after=` names."""
    query = sa.select(InstrumentRow)
    for name, column in (
        ("venue", InstrumentRow.venue),
        ("asset_class", InstrumentRow.asset_class),
    ):
        if value := request.args.get(name, ""):
            query = query.where(column == value)
    if text := request.args.get("q", "").strip()[:80]:
        like = f"%{_escaped(text)}%"
        query = query.where(
            sa.or_(InstrumentRow.symbol.ilike(like), InstrumentRow.name.ilike(like))
        )
    key = sa.tuple_(InstrumentRow.symbol, InstrumentRow.id)
    if after := _place():
        query = query.where(key > sa.tuple_(sa.literal(after[0]), sa.literal(after[1])))
    rows = list(
        db.session.scalars(query.order_by(InstrumentRow.symbol, InstrumentRow.id).limit(SIZE + 1))
    )
    further = _url(after=f"{rows[SIZE - 1].symbol}~{rows[SIZE - 1].id}") if len(rows) > SIZE else ""
    return render_template(
        "instruments/page.html",
        instruments=rows[:SIZE],
        q=text,
        venues=list(db.session.scalars(sa.select(InstrumentRow.venue).distinct().order_by(InstrumentRow.venue))),
        classes=list(db.session.scalars(sa.select(InstrumentRow.asset_class).distinct().order_by(InstrumentRow.asset_class))),
        is_later=bool(request.args.get("after")),
        first_url=_url(after=None),
        further_url=further,
    )  # fmt: skip


def _escaped(text: str) -> str:
    """Per cent and underscore are letters here, not patterns."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _place() -> tuple[str, int] | None:
    text = request.args.get("after", "")
    if not text:
        return None
    symbol, _, number = text.rpartition("~")
    if not number.isdecimal() or len(number) > 15:
        abort(400, "after: this is not a place in the list. Start again from the first page.")
    return symbol, int(number)


def _url(**changes: str | None) -> str:
    arguments: dict[str, Any] = {**request.args.to_dict(), **changes}
    return url_for(".page", **arguments)


@bp.get("/<int:instrument_id>")
@auth.viewer
def detail(instrument_id: int) -> str:
    instrument = _instrument(instrument_id)
    return _shown(instrument, _entered_of(instrument), {}, "", instrument.version)


@bp.post("/<int:instrument_id>")
@auth.admin
def save(instrument_id: int) -> AnyResponse | tuple[str, int]:
    """The engine is asked; it checks every field and refuses what somebody else changed meanwhile."""
    instrument = _instrument(instrument_id)
    entered = {name: request.form.get(name, "").strip() for name in (*WORDS, *AMOUNTS, *FEES)}
    version = request.form.get("version", "")
    known = int(version) if version.isdecimal() and len(version) < 15 else -1
    given = {name: _fraction(entered[name]) if name in FEES else entered[name] for name in entered}
    row = commands.ask_and_wait(
        EditInstrument(
            instrument_id=instrument.id,
            version=known,
            **given,
        )
    )
    if row.state in ("denied", "expired"):
        field = str((row.result or {}).get("field", ""))
        text = commands.text_of(row)
        if field in entered:
            problems = {field: text.partition(": ")[2] or text}
            return _shown(instrument, entered, problems, "", known), 409
        return _shown(instrument, entered, {}, text, known), 409
    return commands.answer(row, url_for(".detail", instrument_id=instrument.id))


def _fraction(text: str) -> str:
    """Per cent as a fraction; what is no number goes as it was typed, for the engine to say so."""
    number = decimal(text.replace(",", "."))
    return text if number is None else f"{number / 100:f}"


def _entered_of(instrument: InstrumentRow) -> dict[str, str]:
    shown = {name: str(getattr(instrument, name)) for name in WORDS}
    shown |= {name: _plain(getattr(instrument, name)) for name in AMOUNTS}
    for name in FEES:
        fee = getattr(instrument, name)
        shown[name] = _plain(None if fee is None else fee * 100)
    return shown


def _plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number.normalize():f}"


def _instrument(instrument_id: int) -> InstrumentRow:
    found = db.session.get(InstrumentRow, instrument_id)
    if found is None:
        abort(404)
    return found


def _shown(
    instrument: InstrumentRow,
    entered: Mapping[str, str],
    problems: Mapping[str, str],
    answer: str,
    version: int,
) -> str:
    """`version` is of the instrument that `entered` began from: an edit of it is checked against that."""
    stored = series.stored_series(SeriesRow.instrument_id == instrument.id)
    watched, others = _watch_lists(instrument.id)
    return render_template(
        "instruments/detail.html",
        instrument=instrument,
        entered=entered,
        problems=problems,
        answer=answer,
        version=version,
        stored=stored,
        classes=list(dict.fromkeys((*ASSET_CLASSES, instrument.asset_class))),
        calendars=list(DAYS_PER_YEAR),
        has_daily=any(one.row.interval >= 86_400 and one.row.bars for one in stored),
        watched=watched,
        others=others,
        pairs=_pair_lists(instrument.id),
        edits=_edits(instrument.id),
    )


def _watch_lists(instrument_id: int) -> tuple[list[WatchListRow], list[WatchListRow]]:
    """The user's and everyone's: those it is on, and those it is not on."""
    item = sa.and_(
        WatchListItemRow.list_id == WatchListRow.id,
        WatchListItemRow.instrument_id == instrument_id,
    )
    query = sa.select(WatchListRow, WatchListItemRow.list_id).outerjoin(WatchListItemRow, item)
    seen = query.where(WatchListRow.owner.in_(watching.owners())).order_by(WatchListRow.name)
    rows = db.session.execute(seen).all()
    return [row for row, on in rows if on], [row for row, on in rows if not on]


def _pair_lists(instrument_id: int) -> list[Any]:
    """(list, the newest day on record, rank on it or None) of every pair list that ever had it in."""
    newest = (
        sa.select(sa.func.max(PairListRecordRow.day))
        .where(PairListRecordRow.list_id == PairListRow.id)
        .scalar_subquery()
    )
    rank = (
        sa.select(PairListDayRow.rank)
        .where(
            PairListDayRow.list_id == PairListRow.id,
            PairListDayRow.day == newest,
            PairListDayRow.instrument_id == instrument_id,
        )
        .scalar_subquery()
    )
    ever = sa.exists().where(
        PairListDayRow.list_id == PairListRow.id, PairListDayRow.instrument_id == instrument_id
    )
    query = sa.select(PairListRow, newest, rank).where(PairListRow.deleted_at.is_(None), ever)
    return list(db.session.execute(query.order_by(PairListRow.name)))


def _edits(instrument_id: int) -> list[CommandRow]:
    """What was asked to be changed of it, newest first."""
    query = sa.select(CommandRow).where(
        CommandRow.kind == EditInstrument.__name__,
        CommandRow.arguments["instrument_id"].as_integer() == instrument_id,
    )
    return list(db.session.scalars(query.order_by(CommandRow.created_at.desc()).limit(10)))
