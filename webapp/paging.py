"""Long lists by key: the next page starts after the last row shown, whatever was added meanwhile."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
import sqlalchemy as sa
from flask import abort, request, url_for

from webapp.db import db

Row = TypeVar("Row")
AnySelect = sa.Select[*tuple[Any, ...]]
Columns = Sequence[Any]  # attributes of rows, or expressions over them


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """One page of a list, newest first. `older_url` is None at the end."""

    rows: list[Row]
    is_later: bool
    newest_url: str
    older_url: str | None


def sliced(
    query: AnySelect,
    columns: Columns,
    key: Callable[[Any], tuple[Any, ...]],
    *,
    size: int = 50,
    endpoint: str | None = None,
) -> Slice[Any]:
    """The page of `query` that `?before=` asks for, ordered by `columns` descending.

    `columns` must tell rows apart; `key` reads their values off a row. A query of one entity gives
    entities, any other gives rows. `endpoint` is the page the URLs lead to, when a fragment asks.
    """
    before = _decode(request.args.get("before"), len(columns))
    query = query.order_by(None).order_by(*(column.desc() for column in columns))
    if before is not None:
        query = query.where(sa.tuple_(*columns) < sa.tuple_(*_typed(columns, before)))
    is_entity = len(query.column_descriptions) == 1
    answer = db.session.execute(query.limit(size + 1))
    rows: list[Any] = list(answer.scalars() if is_entity else answer)
    older = _url(endpoint, before=_encode(key(rows[size - 1]))) if len(rows) > size else None
    return Slice(rows[:size], before is not None, _url(endpoint, before=None), older)


def counted(
    rows: Sequence[int], found: Callable[[int], Any], *, size: int, endpoint: str | None = None
) -> Slice[Any]:
    """As `sliced`, of a list that is in memory: `rows` are places in it, rising; `found` opens one."""
    before = _decode(request.args.get("before"), 1)
    end = len(rows)
    if before is not None:
        if not isinstance(before[0], int):
            abort(400, "before: this is not a place in the list. Start again from the newest.")
        end = bisect_left(rows, before[0])
    shown = rows[max(0, end - size) : end][::-1]
    older = _url(endpoint, before=_encode((shown[-1],))) if end > size else None
    return Slice(
        [found(row) for row in shown], before is not None, _url(endpoint, before=None), older
    )


def filters(*names: str) -> dict[str, str]:
    """The filters of the URL that are set, by name."""
    given = {name: request.args.get(name, "").strip() for name in names}
    return {name: value for name, value in given.items() if value}


def _url(endpoint: str | None, **changes: str | None) -> str:
    arguments = {**request.args.to_dict(), **(request.view_args or {}), **changes}
    arguments.pop("v", None)
    return url_for(endpoint or request.endpoint or "", **arguments)


def _encode(key: tuple[Any, ...]) -> str:
    plain = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(orjson.dumps(plain)).decode().rstrip("=")


def _decode(text: str | None, length: int) -> list[Any] | None:
    if not text:
        return None
    try:
        key = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != length:
        abort(400, "before: this is not a place in the list. Start again from the newest.")
    return key


def _typed(columns: Columns, key: list[Any]) -> list[Any]:
    """Each value as its column's type, so that PostgreSQL compares like with like."""
    makers: dict[type, Callable[[Any], Any]] = {datetime: datetime.fromisoformat, UUID: UUID}
    try:
        values = [
            makers.get(c.type.python_type, lambda v: v)(v)
            for c, v in zip(columns, key, strict=True)
        ]
    except (TypeError, ValueError):
        abort(400, "before: this is not a place in the list. Start again from the newest.")
    return [sa.literal(value, column.type) for value, column in zip(values, columns, strict=True)]
