"""What the rows of `events` mean to a reader: which are news, which are trouble, in which colour."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from shared.db.trading import AccountRow, EventRow

TROUBLE: Final = ("warning", "bad")


def events_of(account: AccountRow | None) -> sa.Select[EventRow]:
    """The account's events and everybody's, newest first."""
    return (
        sa.select(EventRow)
        .where(
            sa.or_(
                EventRow.account_id.is_(None), EventRow.account_id == (account.id if account else 0)
            )
        )
        .order_by(EventRow.id.desc())
    )


def is_trouble(events: Any = EventRow) -> sa.ColumnElement[bool]:
    """Needs somebody's attention: a warning or worse. A losing fill is business, not trouble."""
    trouble: sa.ColumnElement[bool] = sa.and_(events.severity.in_(TROUBLE), events.kind != "fill")
    return trouble


def tone(event: EventRow) -> str:
    """The colour of its dot: a losing fill is a loss, not a danger."""
    return "loss" if event.kind == "fill" and event.severity == "bad" else event.severity


def stays(event: EventRow) -> bool:
    """Whether its toast waits to be closed."""
    return event.severity == "bad" and event.kind != "fill"
