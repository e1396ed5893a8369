"""Editing what is known of an instrument: checked field by field, and never against what is stored already."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import sqlalchemy as sa

from engine.desk import Answer, Denied
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import EventRow
from shared.domain.instruments import ASSET_CLASSES, DAYS_PER_YEAR
from shared.messages import EditInstrument

LONGEST_NAME: Final = 80
MOST: Final = Decimal(10) ** 12
DAY: Final = 86_400
FEES: Final = ("maker_fee", "taker_fee")

_FIELDS: Final = {
    "name": "name",
    "asset_class": "class",
    "calendar": "calendar",
    "tick_size": "tick",
    "lot_size": "lot",
    "min_quantity": "least quantity",
    "min_value": "least value",
    "maker_fee": "maker fee",
    "taker_fee": "taker fee",
}


def edit(connection: sa.Connection, asked: EditInstrument, actor: str) -> Answer:
    """Denied names the field, the value and the remedy; also when somebody else edited it meanwhile."""
    row = connection.execute(
        sa.select(InstrumentRow.__table__)
        .where(InstrumentRow.id == asked.instrument_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise Denied(f"there is no instrument {asked.instrument_id}")
    if row.version != asked.version:
        raise Denied(
            f"{row.symbol} was changed by somebody else meanwhile: load the page again", "version"
        )
    values = _checked(asked, row)
    _keeps_its_sessions(connection, row, values["calendar"])
    changes = {name: value for name, value in values.items() if getattr(row, name) != value}
    link = f"/instruments/{row.id}"
    if not changes:
        return Answer(f"{row.symbol}: nothing was changed", link)
    connection.execute(
        sa.update(InstrumentRow)
        .where(InstrumentRow.id == row.id)
        .values(**changes, version=InstrumentRow.version + 1)
    )
    said = "; ".join(_change(name, getattr(row, name), value) for name, value in changes.items())
    connection.execute(
        sa.insert(EventRow).values(
            kind="command",
            severity="info",
            text=f"Instrument {row.symbol} changed by {actor}: {said}",
            link=link,
            actor=actor,
            happened_at=datetime.now(UTC),
        )
    )
    return Answer(f"{row.symbol} changed: {said}", link)


def _change(name: str, before: Any, after: Any) -> str:
    return f"{_FIELDS[name]} {_shown(name, before)} to {_shown(name, after)}"


def _shown(name: str, value: Any) -> str:
    if value in (None, ""):
        return "none"
    if not isinstance(value, Decimal):
        return str(value)
    return _percent(value) if name in FEES else f"{value.normalize():f}"


def _percent(fraction: Decimal) -> str:
    return f"{(fraction * 100).normalize():f} %"


def _checked(asked: EditInstrument, row: Any) -> dict[str, Any]:
    name = asked.name.strip()
    if len(name) > LONGEST_NAME:
        raise Denied(f"name: give at most {LONGEST_NAME} characters, not {len(name)}", "name")
    for field, known in (("asset_class", ASSET_CLASSES), ("calendar", tuple(DAYS_PER_YEAR))):
        value = getattr(asked, field)
        if value not in (*known, getattr(row, field)):
            raise Denied(f"{field}: {value!r} is not one of {', '.join(known)}", field)
    values: dict[str, Any] = {
        "name": name,
        "asset_class": asked.asset_class,
        "calendar": asked.calendar,
    }
    for field in ("tick_size", "lot_size", "min_quantity", "min_value"):
        values[field] = _amount(field, getattr(asked, field))
    for field in FEES:
        values[field] = _fee(field, getattr(asked, field))
    lot, least = values["lot_size"], values["min_quantity"]
    if lot and least and least % lot:
        raise Denied(
            f"min_quantity: {least:f} is no multiple of the lot {lot:f}: nobody could trade just that",
            "min_quantity",
        )
    return values


def _number(field: str, text: str) -> Decimal | None:
    if not text.strip():
        return None
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise Denied(f"{field}: {text[:40]!r} is not a number", field) from None
    if not number.is_finite():
        raise Denied(f"{field}: {text[:40]!r} is not a number one can use", field)
    return number


def _amount(field: str, text: str) -> Decimal | None:
    number = _number(field, text)
    if number is not None and not 0 < number <= MOST:
        raise Denied(f"{field}: {text[:40]} must be above 0; leave it empty for none", field)
    return number


def _fee(field: str, text: str) -> Decimal | None:
    """A maker may be paid: a rebate is a fee below zero. A taker never is."""
    number = _number(field, text)
    least = Decimal("-0.01") if field == "maker_fee" else Decimal(0)
    if number is not None and not least <= number < Decimal("0.5"):
        raise Denied(
            f"{field}: {_percent(number)} must be from {_percent(least)} to less than 50 %; empty"
            " leaves it to the account",
            field,
        )
    return number


def _keeps_its_sessions(connection: sa.Connection, row: Any, calendar: str) -> None:
    """Daily bars were cut by the calendar's sessions: under another one they would span other hours."""
    if calendar == row.calendar:
        return
    daily = sa.select(SeriesRow.id).where(
        SeriesRow.instrument_id == row.id, SeriesRow.interval >= DAY, SeriesRow.bars > 0
    )
    if connection.scalar(daily.limit(1)) is not None:
        raise Denied(
            f"calendar: {row.symbol} has daily bars, which span the sessions of {row.calendar};"
            " import them under another symbol instead",
            "calendar",
        )
