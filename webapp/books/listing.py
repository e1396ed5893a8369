"""Lists of any length: filtered, sorted and read by key, all of it in the address.

A page starts after (or ends before) a row, not after a number of rows: rows added meanwhile shift
nothing, and the deepest page costs what the first one does. The CSV of a list is exactly what its
filter shows, streamed from a cursor of the database.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import sqlalchemy as sa
from flask import Response, abort, request, url_for

from webapp import frame
from webapp.db import db

AnySelect = sa.Select[*tuple[Any, ...]]

SIZE: Final = 50
COUNTED: Final = 1_000
"""A list longer than this is told as "more than": counting on would take longer than showing it."""

CHUNK: Final = 2_000
NOWHERE: Final = "this is not a place in the list. Start again from the first page."


@dataclass(frozen=True, slots=True)
class Sort:
    """One order of a list. Rows without a value of a `sparse` column are left out when it sorts."""

    key: str
    column: Any
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One filter above a list: its column, what may be chosen, and what the address says."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    condition: Callable[[str], Any]

    @property
    def value(self) -> str:
        """What is chosen; what nobody offers is left out rather than believed."""
        given = request.args.get(self.name, "")
        return given if given in dict(self.options) else ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is: its rows, orders, filters, and the columns of its CSV.

    `query` selects the entities of a row; `id_` tells rows apart; `time` is filtered by from and to.
    `find` gives the condition for an id that was typed, None for what cannot be one.
    """

    name: str
    query: AnySelect
    id_: Any
    sorts: Sequence[Sort]
    time: Any
    choices: Sequence[Choice] = ()
    find: Callable[[str], Any] | None = None
    columns: Sequence[tuple[str, Any]] = ()
    joins: Sequence[tuple[Any, Any]] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list and where to go from here; URLs are None at the ends."""

    rows: list[Any]
    sort: str
    descending: bool
    total: int
    first: str | None
    previous: str | None
    next: str | None
    last: str | None
    csv: str
    is_filtered: bool
    choices: Sequence[Choice]
    entered: dict[str, str] = field(default_factory=dict)

    @property
    def total_text(self) -> str:
        return f"more than {COUNTED:,}" if self.total > COUNTED else f"{self.total:,}"

    def sort_url(self, key: str) -> str:
        """The list by another column, newest or largest first; pressed again, the other way round."""
        turned = "asc" if key == self.sort and self.descending else "desc"
        return _url(sort=key, dir=turned, after=None, before=None, end=None)


def page_of(listing: Listing, key_of: Callable[[Any], Any], size: int = SIZE) -> Page:
    """The page of the list that the address asks for. `key_of` finds the main entity of a row."""
    sort, descending = _order(listing)
    narrowed, is_filtered = _narrowed(listing)
    if sort.sparse:
        narrowed = narrowed.where(sort.column.is_not(None))
    after, before = request.args.get("after"), request.args.get("before")
    backwards = bool(before) or request.args.get("end") == "last"
    columns = (sort.column, listing.id_)
    query = narrowed.order_by(None).order_by(
        *((c.desc() if descending != backwards else c.asc()) for c in columns)
    )
    if place := (before or after):
        key = sa.tuple_(*_typed(columns, _decode(place)))
        here = sa.tuple_(*columns)
        query = query.where(here < key if descending != backwards else here > key)
    is_entity = len(query.column_descriptions) == 1
    answer = db.session.execute(query.limit(size + 1))
    rows: list[Any] = list(answer.scalars() if is_entity else answer)
    more = len(rows) > size
    rows = rows[:size][::-1] if backwards else rows[:size]
    is_first = (backwards and not more) or not (place or backwards)
    is_last = (not backwards and not more) or (backwards and not before)
    names = [column.key for column in columns]

    def place_of(row: Any) -> str:
        entity = key_of(row)
        return _encode([getattr(entity, name) for name in names])

    return Page(
        rows=rows,
        sort=sort.key,
        descending=descending,
        # A list that is all on one page needs no counting.
        total=len(rows) if not place and not more else _count(narrowed, listing.id_),
        first=None if is_first else _url(after=None, before=None, end=None),
        previous=None
        if is_first or not rows
        else _url(before=place_of(rows[0]), after=None, end=None),
        next=None if is_last or not rows else _url(after=place_of(rows[-1]), before=None, end=None),
        last=None if is_last else _url(end="last", after=None, before=None),
        csv=_url(endpoint=f"books.{listing.name}_csv", after=None, before=None, end=None),
        is_filtered=is_filtered,
        choices=listing.choices,
        entered={name: request.args.get(name, "").strip() for name in ("from", "to", "id")},
    )


def csv_of(listing: Listing, name: str) -> Response:
    """Exactly the rows of the filter, in its order, as a stream in constant memory."""
    sort, descending = _order(listing)
    narrowed, _ = _narrowed(listing)
    if sort.sparse:
        narrowed = narrowed.where(sort.column.is_not(None))
    columns = (sort.column, listing.id_)
    query = narrowed.with_only_columns(
        *(column.label(f"c{n}") for n, (_, column) in enumerate(listing.columns)),
        maintain_column_froms=True,
    )
    for target, condition in listing.joins:
        query = query.outerjoin(target, condition)
    query = query.order_by(None).order_by(*((c.desc() if descending else c.asc()) for c in columns))
    head = [title for title, _ in listing.columns]
    return streamed(head, rows_of(db.engine, query), name)


def streamed(head: Sequence[str], rows: Iterator[Sequence[Any]], name: str) -> Response:
    """A CSV download, written as it is read."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(csv_lines(head, rows), mimetype="text/csv", headers=headers)


def rows_of(engine: sa.Engine, query: AnySelect) -> Iterator[Sequence[Any]]:
    """Rows from a cursor of the server: none is kept once it was read."""
    with engine.connect().execution_options(stream_results=True, yield_per=CHUNK) as connection:
        yield from connection.execute(query)


def csv_lines(head: Sequence[str], rows: Iterator[Sequence[Any]]) -> Iterator[str]:
    """Lines in pieces: numbers exact, times in UTC, nothing where there is nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(head)
    for number, row in enumerate(rows, 1):
        writer.writerow([plain(value) for value in row])
        if number % 200 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def plain(value: Any) -> str:
    """A value as a CSV has it. Text that a spreadsheet would take for a formula is not one."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t") else text


def _order(listing: Listing) -> tuple[Sort, bool]:
    wanted = request.args.get("sort", "")
    sort = next((s for s in listing.sorts if s.key == wanted), listing.sorts[0])
    return sort, request.args.get("dir") != "asc"


def _narrowed(listing: Listing) -> tuple[AnySelect, bool]:
    """The query with the filters that are set, and whether there are any."""
    conditions = [choice.condition(choice.value) for choice in listing.choices if choice.value]
    for name, is_end in (("from", False), ("to", True)):
        if text := request.args.get(name, "").strip():
            at = _instant(name, text, is_end=is_end)
            conditions.append(listing.time < at if is_end else listing.time >= at)
    if listing.find and (wanted := request.args.get("id", "").strip()):
        conditions.append(listing.find(wanted))
    return listing.query.where(*conditions), bool(conditions)


def _instant(name: str, text: str, *, is_end: bool) -> datetime:
    """A day or a time as typed, in the user's zone unless it has one; a day as an end is its last moment."""
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(frame.zone()))
        return at + timedelta(days=1) if is_end and len(text) == 10 else at
    except (ValueError, OverflowError):
        abort(400, f"{name}: {text} is no date. Write it as 2026-01-31 or 2026-01-31T14:30.")


def _count(query: AnySelect, id_: Any) -> int:
    some = query.order_by(None).with_only_columns(id_, maintain_column_froms=True)
    few = some.limit(COUNTED + 1).subquery()
    return db.session.scalar(sa.select(sa.func.count()).select_from(few)) or 0


def _url(endpoint: str | None = None, **changes: str | None) -> str:
    arguments = {**request.args.to_dict(), **(request.view_args or {}), **changes}
    return url_for(endpoint or request.endpoint or "", **arguments)


def _encode(key: list[Any]) -> str:
    told = [p.isoformat() if isinstance(p, datetime) else str(p) for p in key]
    return base64.urlsafe_b64encode(orjson.dumps(told)).decode().rstrip("=")


def _decode(text: str) -> list[Any]:
    try:
        key = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != 2 or not all(isinstance(p, str) for p in key):
        abort(400, f"page: {NOWHERE}")
    return key


def _typed(columns: Sequence[Any], key: Sequence[str]) -> list[Any]:
    """Each part as its column's type, so that PostgreSQL compares like with like."""
    makers: dict[type, Callable[[str], Any]] = {
        datetime: datetime.fromisoformat,
        UUID: UUID,
        Decimal: Decimal,
        int: int,
    }
    try:
        return [
            sa.literal(makers[c.type.python_type](part), c.type)
            for c, part in zip(columns, key, strict=True)
        ]
    except (ArithmeticError, KeyError, TypeError, ValueError):
        abort(400, f"page: {NOWHERE}")
