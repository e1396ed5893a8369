"""A million one-minute bars from a CSV file to committed rows, beside a raw COPY of the same rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from deploy.embedded import using
from deploy.schema import migrate
from engine.importing.blocks import bar_blocks
from engine.importing.job import found_in
from engine.importing.layout import Layout
from engine.importing.reading import Series
from engine.importing.sources import Source
from engine.jobs import perform
from engine.packing import BEGIN, COLUMNS, END, pack
from shared.db.backtests import JobRow
from shared.db.sessions import make_sessions
from shared.jobs import ImportRequest, encode
from shared.settings import Settings

ROWS = 1_000_000
REPEATS = 3
LIMIT = 3.0
"""How many times the raw COPY an import may take."""


def compared(url: str, home: Path) -> list[str]:
    """Lines that say what was measured; the best of three each, since one machine does all."""
    path = home / "btcusd_1min.csv"
    write_csv(path)
    words = ("open", "high", "low", "close", "volume")
    found = Layout(**{word: word for word in words}, time="datetime", date_style="year-first")
    raw = min(raw_copy(url, path, found) for _ in range(REPEATS))
    looks, imports = zip(*(imported(url, home, path) for _ in range(REPEATS)), strict=True)
    whole = min(imports)
    return [
        f"{ROWS:,} one-minute bars, a CSV file of {path.stat().st_size / 1e6:,.0f} MB, best of {REPEATS}",
        f"raw binary COPY into a table like bars, committed    {raw:>6.2f} s",
        f"import job, from file to committed                  {whole:>6.2f} s   {whole / raw:.2f} times the raw COPY"
        f" (limit {LIMIT:g})",
        f"the look before it                                  {min(looks):>6.2f} s",
        f"both together                                       {whole + min(looks):>6.2f} s  "
        f" {(whole + min(looks)) / raw:.2f} times",
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as home, using("postgres", Path(home), scratch=False) as url:
        migrate(url)
        print("\n" + "\n".join(compared(url, Path(home))))
    return 0


def write_csv(path: Path) -> None:
    """A walk in cents, PCG64(7), and volumes of eight decimals; times as Bitstamp's files have them."""
    random = np.random.Generator(np.random.PCG64(7))
    closes = 700_000 + np.cumsum(random.integers(-40, 41, ROWS))
    opens = closes + random.integers(-20, 21, ROWS)
    highs = np.maximum(opens, closes) + random.integers(0, 30, ROWS)
    lows = np.minimum(opens, closes) - random.integers(0, 30, ROWS)
    volumes = random.integers(0, 50_0000_0000, ROWS)
    times = (np.datetime64("2016-01-01T00:00") + np.arange(ROWS)).astype(str)
    prices = zip(opens.tolist(), highs.tolist(), lows.tolist(), closes.tolist(), strict=True)
    with path.open("w") as file:
        file.write("datetime,open,high,low,close,volume\n")
        for at, four, volume in zip(times.tolist(), prices, volumes.tolist(), strict=True):
            told = ",".join(f"{cents // 100}.{cents % 100:02}" for cents in four)
            file.write(f"{at.replace('T', ' ')}:00,{told},{volume // 10**8}.{volume % 10**8:08}\n")


def raw_copy(url: str, path: Path, layout: Layout) -> float:
    """Seconds that PostgreSQL takes for rows that are ready in its own format."""
    blocks = bar_blocks(Source(path, path.name), layout, Series(60), None, lambda *_: None)
    ready = [pack(block, 1, "import", 60, uuid4()) for _, block in blocks]
    with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
        connection.execute("DROP TABLE IF EXISTS raw; CREATE TABLE raw (LIKE bars INCLUDING ALL)")
        connection.commit()
        started = time.perf_counter()
        statement = f"COPY raw ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
        with connection.cursor().copy(statement) as copy:
            copy.write(BEGIN)
            for rows in ready:
                copy.write(rows)
            copy.write(END)
        connection.commit()
        return time.perf_counter() - started


def imported(url: str, home: Path, path: Path) -> tuple[float, float]:
    """(seconds of the look, seconds of the import job) into a new series, which is removed again."""
    sessions = make_sessions(url)
    settings = Settings.from_env({"SERAPHIM_HOME": str(home)}).with_urls(
        url, "redis://127.0.0.1:1/0"
    )
    (home / "uploads").mkdir(exist_ok=True)
    (home / "uploads" / path.name).hardlink_to(path)
    try:
        started = time.perf_counter()
        with sessions() as session:
            found = found_in(session, path, path.name, {})
        looked = time.perf_counter() - started
        request = ImportRequest(path.name, path.name, "BENCH/USD", "1m", mapping=found["mapping"])
        job_id = uuid4()
        with sessions() as session:
            session.add(
                JobRow(
                    id=job_id, kind="import", title="bench", attempt=1, arguments=encode(request)
                )
            )
            session.commit()
        started = time.perf_counter()
        perform(sessions, None, settings, job_id, 1, worker="bench")
        took = time.perf_counter() - started
        with sessions() as session:
            job = session.get_one(JobRow, job_id)
            assert (job.result or {}).get("rows_added") == ROWS, job.error
            remove(session, job.result["series_id"])
        return looked, took
    finally:
        sessions.kw["bind"].dispose()


def remove(session: Session, series_id: int) -> None:
    """Only a benchmark takes history away."""
    session.execute(sa.text("DELETE FROM imports WHERE series_id = :id"), {"id": series_id})
    session.execute(
        sa.text("DELETE FROM bars USING series WHERE series.id = :id"
                " AND bars.instrument_id = series.instrument_id AND bars.interval = series.interval"
                " AND bars.source = series.source"),
        {"id": series_id},
    )  # fmt: skip
    session.execute(sa.text("DELETE FROM series WHERE id = :id"), {"id": series_id})
    session.commit()
