"""Lists of instruments: watch lists kept by hand, pair lists kept by rules and recorded per day."""

from __future__ import annotations

from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, Recorded, Serial


class WatchListRow(Base):
    """Instruments somebody keeps an eye on. `owner` is a user, or "" for everyone's. Written by the console."""

    __tablename__ = "watch_lists"
    __table_args__ = (sa.UniqueConstraint("owner", "name"),)

    id: Mapped[Serial]
    name: Mapped[str]
    owner: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]


class WatchListItemRow(Base):
    """One instrument of a watch list. Written by the console."""

    __tablename__ = "watch_list_items"

    list_id: Mapped[int] = mapped_column(
        sa.ForeignKey("watch_lists.id", ondelete="CASCADE"), primary_key=True
    )
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"), primary_key=True)
    added_at: Mapped[Recorded]


class PairListRow(Base):
    """Instruments chosen by rules, day by day. Written by the console.

    `rules` is `shared.domain.universe.Rules` as JSON; `version` counts edits of them.
    """

    __tablename__ = "pair_lists"

    id: Mapped[Serial]
    name: Mapped[str] = mapped_column(unique=True)
    rules: Mapped[Json]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    is_daily: Mapped[bool] = mapped_column(default=True, server_default=sa.true())
    created_by: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[Recorded]
    deleted_at: Mapped[datetime | None]


class PairListRecordRow(Base):
    """That a pair list was evaluated for one day, with which version of its rules. Written by its jobs.

    A day without such a row is not known; a day with one and no members had none.
    """

    __tablename__ = "pair_list_records"

    list_id: Mapped[int] = mapped_column(sa.ForeignKey("pair_lists.id"), primary_key=True)
    day: Mapped[date] = mapped_column(sa.Date, primary_key=True)
    version: Mapped[int]
    considered: Mapped[int]
    members: Mapped[int]
    recorded_at: Mapped[Recorded]


class PairListDayRow(Base):
    """One member of a pair list on one day, from bars closed before that day began. Written by its jobs."""

    __tablename__ = "pair_list_days"
    __table_args__ = (sa.Index(None, "list_id", "instrument_id", "day"),)

    list_id: Mapped[int] = mapped_column(sa.ForeignKey("pair_lists.id"), primary_key=True)
    day: Mapped[date] = mapped_column(sa.Date, primary_key=True)
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"), primary_key=True)
    rank: Mapped[int]
    values: Mapped[Json]
