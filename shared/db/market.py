"""Instruments and their bars."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base, Json, JsonList, Recorded, Serial, one_of


class InstrumentRow(Base):
    """One tradable thing at one venue. Written by the engine (venues, edits) and by import jobs (history).

    `maker_fee` and `taker_fee` are fractions, in place of the account's; `version` counts edits.
    """

    __tablename__ = "instruments"
    __table_args__ = (
        sa.UniqueConstraint("venue", "symbol"),
        one_of("calendar", "24/7", "24/5", "XNYS"),
        sa.CheckConstraint("tick_size > 0", name="tick_size_positive"),
        sa.CheckConstraint("lot_size > 0", name="lot_size_positive"),
    )

    id: Mapped[Serial]
    venue: Mapped[str]
    symbol: Mapped[str]
    name: Mapped[str] = mapped_column(default="", server_default="")
    asset_class: Mapped[str] = mapped_column(default="crypto", server_default="crypto")
    base_asset: Mapped[str]
    quote_asset: Mapped[str]
    tick_size: Mapped[Decimal | None]
    lot_size: Mapped[Decimal | None]
    min_quantity: Mapped[Decimal | None]
    min_value: Mapped[Decimal | None]
    maker_fee: Mapped[Decimal | None]
    taker_fee: Mapped[Decimal | None]
    calendar: Mapped[str]
    version: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[Recorded]


class SeriesRow(Base):
    """What bars there are of one instrument, source and interval: kept beside them by whoever adds them.

    `simulated` labels invented prices wherever they are shown. A trigger adds one to `changes` whenever
    bars were added; `content_hash` is of the bars as they are while `hashed_change` equals it. The trigger also
    gives the bars a new `content`, a name that no other bars ever have, unless whoever added them raised
    `appended`: all new ones then came after those that bear the name already.
    """

    __tablename__ = "series"
    __table_args__ = (sa.UniqueConstraint("instrument_id", "source", "interval"),)

    id: Mapped[Serial]
    instrument_id: Mapped[int] = mapped_column(sa.ForeignKey("instruments.id"))
    source: Mapped[str]
    interval: Mapped[int]
    bars: Mapped[int] = mapped_column(default=0, server_default="0")
    first_opened_at: Mapped[datetime | None]
    last_closed_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    simulated: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    updated_at: Mapped[Recorded]
    changes: Mapped[int] = mapped_column(default=0, server_default="0")
    content_hash: Mapped[str | None]
    hashed_change: Mapped[int | None]
    content: Mapped[UUID] = mapped_column(server_default=sa.func.gen_random_uuid())
    appended: Mapped[int] = mapped_column(default=0, server_default="0")


class SeriesDaysRow(Base):
    """How many bars each day of a series has and should have. Written by quality jobs.

    `bars` and `expected` are unsigned 32-bit numbers, little end first, one a UTC day from `first_day`;
    they are of the series as it was at `change`.
    """

    __tablename__ = "series_days"

    series_id: Mapped[int] = mapped_column(
        sa.ForeignKey("series.id", ondelete="CASCADE"), primary_key=True
    )
    change: Mapped[int]
    first_day: Mapped[date] = mapped_column(sa.Date)
    bars: Mapped[bytes] = mapped_column(sa.LargeBinary)
    expected: Mapped[bytes] = mapped_column(sa.LargeBinary)
    counted_at: Mapped[Recorded]


class SeriesQualityRow(Base):
    """What was found in a series with this content under these limits. Written by quality and backtest jobs.

    `rules` is a hash of the limits, the calendar and the tick; `findings` is `engine.quality.Report` as JSON.
    """

    __tablename__ = "series_quality"

    series_id: Mapped[int] = mapped_column(
        sa.ForeignKey("series.id", ondelete="CASCADE"), primary_key=True
    )
    content_hash: Mapped[str] = mapped_column(primary_key=True)
    rules: Mapped[str] = mapped_column(primary_key=True)
    findings: Mapped[Json]
    found_at: Mapped[Recorded]


class BarRow(Base):
    """OHLCV of [opened_at, closed_at), raw and sparse. Append-only: a correction is a new revision.

    Written by the engine (live bars) and by import jobs; the two never share a source.
    """

    __tablename__ = "bars"
    __table_args__ = (
        sa.CheckConstraint("opened_at < closed_at", name="spans_time"),
        sa.CheckConstraint(
            "0 < low AND low <= open AND low <= close AND open <= high AND close <= high",
            name="prices_ordered",
        ),
        sa.CheckConstraint("volume >= 0", name="volume_not_negative"),
        # NaN is a number to NUMERIC, and greater than all others: keep it out.
        sa.CheckConstraint("high <> 'NaN' AND volume <> 'NaN'", name="numbers_are_numbers"),
    )

    # No foreign keys in this table: they would be looked up for every row of a million. A bar is only written
    # beside the row of its series, whose own foreign key keeps the instrument; docs/decisions/0005-import.md.
    instrument_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[int] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, default=0, server_default="0")
    closed_at: Mapped[datetime]
    open: Mapped[Decimal]
    high: Mapped[Decimal]
    low: Mapped[Decimal]
    close: Mapped[Decimal]
    volume: Mapped[Decimal]
    adjusted_close: Mapped[Decimal | None]
    job_id: Mapped[UUID | None]
    recorded_at: Mapped[Recorded]


class ImportRow(Base):
    """One file that went into one series, so that the same file again is recognised. Written by import jobs."""

    __tablename__ = "imports"
    __table_args__ = (sa.Index(None, "series_id", "sha256"),)

    id: Mapped[Serial]
    series_id: Mapped[int] = mapped_column(sa.ForeignKey("series.id"))
    job_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("jobs.id"))
    file_name: Mapped[str]
    sha256: Mapped[str]
    rows_read: Mapped[int]
    rows_added: Mapped[int]
    rows_revised: Mapped[int]
    rows_unchanged: Mapped[int]
    mapping: Mapped[str] = mapped_column(default="", server_default="")
    imported_at: Mapped[Recorded]


class ImportMappingRow(Base):
    """Which column is what, under a name, for the next file with this header.

    Written by import jobs; deleted by the console and the command line.
    """

    __tablename__ = "import_mappings"

    id: Mapped[Serial]
    name: Mapped[str] = mapped_column(unique=True)
    fingerprint: Mapped[str] = mapped_column(index=True)
    header: Mapped[JsonList]
    mapping: Mapped[Json]
    saved_at: Mapped[Recorded]
