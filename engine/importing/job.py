"""The import job and the look before it: bodies as `engine.jobs` runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.history import Added, Adding, series_of
from engine.importing.detection import detect
from engine.importing.files import sha256_of
from engine.importing.layout import Layout
from engine.importing.problems import BadFile
from engine.importing.reading import Series, rows
from engine.work import JobRefused, Work
from shared.db.market import ImportRow, InstrumentRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds, interval_text
from shared.jobs import ImportRequest, InspectRequest

READING_SHARE = 0.5
"""How much of an import's time reading takes; storing takes the rest. Measured, for the progress bar."""

VENUE = "replay"
SOURCE = "import"
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9._/:^=+-]{0,39}")


def inspect(request: InspectRequest, work: Work) -> dict[str, Any]:
    """What is in the file: `Detection` as JSON."""
    work.progress(0.0, f"Looking at {request.file_name}")
    try:
        path = uploaded(work.settings.home, request.path)
        found = detect(path, request.file_name, request.mapping)
    except (BadFile, ValueError) as bad:
        raise JobRefused(str(bad)) from bad
    return {**found.as_json(), "text": f"{found.rows:,} rows"}


def run(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Bring one file into one series: all of it or nothing."""
    try:
        path = uploaded(work.settings.home, request.path)
        wanted = _wanted(request)
        layout = _layout(path, request)
        result = _import(path, request, wanted, layout, work)
    except (BadFile, ValueError) as bad:
        raise JobRefused(str(bad)) from bad
    path.unlink(missing_ok=True)
    return result


def uploaded(home: Path, name: str) -> Path:
    """The uploaded file of this name. Nothing outside the folder of uploads is ever read."""
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of an uploaded file")
    return home / "uploads" / name


def _wanted(request: ImportRequest) -> Series:
    if not request.symbol.strip():
        raise ValueError("the symbol is missing: what are these the prices of?")
    if not _SYMBOL.fullmatch(request.symbol):
        raise ValueError(
            f"symbol {request.symbol!r}: use up to 40 letters, digits and . _ / : ^ = + -, such as BRK.B"
        )
    if request.calendar not in DAYS_PER_YEAR:
        raise ValueError(f"calendar {request.calendar!r} is none of {', '.join(DAYS_PER_YEAR)}")
    return Series(
        interval_seconds(request.interval), request.calendar, request.timezone, request.symbol
    )


def _layout(path: Path, request: ImportRequest) -> Layout:
    """As the user confirmed it; what was not said is looked for."""
    given = Layout.from_mapping(request.mapping)
    if given.time and given.date_style and all((given.open, given.high, given.low, given.close)):
        return given
    found = detect(
        path, request.file_name, request.mapping, timezone=request.timezone, symbol=request.symbol
    )
    return Layout.from_mapping(found.mapping)


def _import(
    path: Path, request: ImportRequest, wanted: Series, layout: Layout, work: Work
) -> dict[str, Any]:
    work.progress(0.0, f"Reading {request.file_name}")
    digest = sha256_of(path)
    with work.sessions() as session:
        target = Target(request.symbol, request.quote_asset, request.asset_class, request.calendar)
        series_id = series_for(session, target, SOURCE, wanted.interval)
        adding = Adding(session.connection(), series_id, work.job_id)
        reading = 1.0 if adding.direct else READING_SHARE

        def tell(fraction: float, done: int) -> None:
            work.progress(fraction * reading, f"{done:,} rows read")

        lines = (
            row.copy_line() for row in rows(path, request.file_name, layout, wanted, tell=tell)
        )
        adding.take(lines)
        for done, total in adding.store():
            work.progress(
                reading + (1 - reading) * done / total, f"{done:,} of {total:,} rows stored"
            )
        added = adding.added
        session.add(_import_row(series_id, work.job_id, request.file_name, digest, added, layout))
        result = _result(series_id, wanted.interval, target, added)
        work.finish(session, result)
        session.commit()
    return result


def _import_row(
    series_id: int, job_id: UUID, file_name: str, digest: str, added: Added, layout: Layout
) -> ImportRow:
    return ImportRow(
        series_id=series_id,
        job_id=job_id,
        file_name=file_name,
        sha256=digest,
        rows_read=added.read,
        rows_added=added.added,
        rows_revised=added.revised,
        rows_unchanged=added.unchanged,
        mapping=" ".join(
            f"{word}={column}" for word, column in layout.as_mapping().items() if column
        ),
    )


def _result(series_id: int, interval: int, target: Target, added: Added) -> dict[str, Any]:
    counts = [f"{added.added:,} bars added"]
    if added.revised:
        counts.append(f"{added.revised:,} revised")
    if added.unchanged:
        counts.append(f"{added.unchanged:,} already there")
    return {
        "text": f"{target.symbol} {interval_text(interval)}: {', '.join(counts)}",
        "link": f"/data/{series_id}",
        "series_id": series_id,
        "rows_read": added.read,
        "rows_added": added.added,
        "rows_revised": added.revised,
        "rows_unchanged": added.unchanged,
    }


# --- where bars go ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """The instrument of venue `replay` whose history this is."""

    symbol: str
    quote_asset: str
    asset_class: str
    calendar: str
    tick_size: str | None = None

    @property
    def base_asset(self) -> str:
        """BTC of BTC/USD; of a stock its own symbol."""
        return self.symbol.partition("/")[0]


def series_for(session: Session, target: Target, source: str, interval: int) -> int:
    """The series these bars belong to; instrument and series are made if they are new.

    Refuses to mix: an instrument has one calendar and one quote asset.
    """
    session.execute(
        sa.text(
            "INSERT INTO instruments (venue, symbol, name, asset_class, base_asset, quote_asset,"
            " calendar, tick_size)"
            " VALUES (:venue, :symbol, :symbol, :asset_class, :base, :quote, :calendar,"
            " CAST(:tick AS numeric)) ON CONFLICT (venue, symbol) DO NOTHING"
        ),
        {
            "venue": VENUE,
            "symbol": target.symbol,
            "asset_class": target.asset_class,
            "base": target.base_asset,
            "quote": target.quote_asset,
            "calendar": target.calendar,
            "tick": target.tick_size,
        },
    )
    instrument = session.scalars(
        sa.select(InstrumentRow).where(
            InstrumentRow.venue == VENUE, InstrumentRow.symbol == target.symbol
        )
    ).one()
    for word, there, here in (
        ("calendar", instrument.calendar, target.calendar),
        ("quote asset", instrument.quote_asset, target.quote_asset),
    ):
        if there != here:
            raise JobRefused(
                f"{target.symbol} is stored with the {word} {there}, and this import says {here}."
                f" Import it with {there}, or under another symbol."
            )
    return series_of(session.connection(), instrument.id, source, interval)
