"""Whatever is done to a series, in whatever order, the cache gives what PostgreSQL holds."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

from engine import bar_cache, history
from engine.history import NewBar, add_bars, series_bars, series_of, store_live_bars
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.domain.market import Bar
from shared.settings import ROOT, Settings

COLUMNS = ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "filled")
NOON = datetime(2026, 3, 6, 12, tzinfo=UTC)  # a Friday; clocks change on Sunday


class Life:
    """A series to which things happen by chance, read with and without the cache after each of them."""

    def __init__(self, engine, settings, seed, calendar):
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.plain, self.cached = sessionmaker(engine), sessionmaker(engine)
        bar_cache.use(self.cached, settings)
        self.folder = settings.cache_folder
        self.newest = 0
        with self.plain.begin() as session:
            instrument = InstrumentRow(
                venue="replay",
                symbol=uuid4().hex,
                base_asset="X",
                quote_asset="USD",
                calendar=calendar,
            )
            session.add(instrument)
            session.flush()
            self.instrument = instrument.id
            self.series = series_of(session.connection(), instrument.id, "import", 60)

    def close(self):
        return str(10 + int(self.random.integers(0, 500)) / 100)

    def some(self, first, last):
        """Some bars of [first, last) minutes."""
        numbers = np.unique(self.random.integers(first, last, int(self.random.integers(1, 40))))
        for number in numbers.tolist():
            at = NOON + timedelta(minutes=number)
            yield NewBar(at, at + timedelta(minutes=1), "12", "20", "5", self.close(), "1")
            self.newest = max(self.newest, number + 1)

    def imported(self, session):
        add_bars(session.connection(), self.series, self.some(-50, self.newest + 60))

    def live(self, session):
        bars = []
        for _ in range(int(self.random.integers(1, 5))):
            number = self.newest + int(self.random.integers(0, 3))
            at, price = NOON + timedelta(minutes=number), float(self.close())
            bars.append(
                Bar(
                    self.instrument,
                    60,
                    at,
                    at + timedelta(minutes=1),
                    price,
                    price,
                    price,
                    price,
                    1.0,
                )
            )
            self.newest = number + 1
        store_live_bars(session.connection(), bars, "import", simulated=False)

    def taken(self, session):
        session.execute(
            sa.text("DELETE FROM bars WHERE instrument_id = :id AND opened_at > :at"),
            {"id": self.instrument, "at": NOON + timedelta(minutes=self.newest - 5)},
        )

    def nothing(self, session):
        pass

    def step(self):
        """Something happens, or is begun and taken back; a reader in the middle of it sees what was."""
        names = ("imported", "live", "live", "live", "taken", "nothing")
        happens = getattr(self, names[int(self.random.integers(len(names)))])
        newest = self.newest
        with self.cached() as writer:
            happens(writer)
            self.agree()
            self.agree(writer)
            if self.random.random() < 0.25:
                writer.rollback()
                self.newest = newest
            else:
                writer.commit()
        if self.random.random() < 0.1:
            self.damage()
        self.agree()

    def damage(self):
        for file in self.folder.glob("*.bars"):
            content = bytearray(file.read_bytes())
            content[int(self.random.integers(len(content)))] ^= 1 << int(self.random.integers(8))
            file.write_bytes(content[: int(self.random.integers(1, len(content) + 1))])

    def agree(self, own=None):
        """All of it and a part, as one transaction sees it."""
        given = [(None, None), self.part()]
        with self.cached() as session:
            for starts, ends in given:
                reader = own or session
                plain = self._plainly(reader, starts, ends)
                found = series_bars(reader, self.series, starts, ends)
                for name in COLUMNS:
                    assert np.array_equal(getattr(found, name), getattr(plain, name)), name

    def _plainly(self, reader, starts, ends):
        cache = reader.info.pop("bar_cache")
        try:
            return series_bars(reader, self.series, starts, ends)
        finally:
            reader.info["bar_cache"] = cache

    def part(self):
        first = int(self.random.integers(-60, self.newest + 10))
        last = first + int(self.random.integers(1, 120))
        return tuple(NOON + timedelta(minutes=number) for number in (first, last))


@pytest.fixture(scope="module")
def engine(module_database_url):
    engine = make_engine(module_database_url)
    yield engine
    engine.dispose()


def live_through(engine, home, monkeypatch, seed, steps):
    monkeypatch.setattr(history, "LEAST_CACHED", 1)
    monkeypatch.setattr(history, "_KEPT_SHARE", 4)
    calendar = ("24/7", "24/5", "XNYS")[seed % 3]
    life = Life(engine, Settings.from_env({"SERAPHIM_HOME": str(home)}), seed, calendar)
    for _ in range(steps):
        life.step()
    return life


def test_a_short_life_of_a_series(engine, tmp_path, monkeypatch):
    life = live_through(engine, tmp_path, monkeypatch, 0, 40)
    assert list(life.folder.glob("*.bars"))


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 31))
def test_long_lives_of_series(engine, tmp_path, monkeypatch, seed):
    live_through(engine, tmp_path, monkeypatch, seed, 200)


WRITER = """
import sys
from pathlib import Path
from uuid import UUID
import numpy as np
from engine.bar_cache import BarCache, Held, Key, Newest
from engine.bars import Bars

cache = BarCache(Path(sys.argv[1]), 1_000_000)
random = np.random.Generator(np.random.PCG64(int(sys.argv[2])))
hit = 0
for turn in range(150):
    number = int(random.integers(6))
    key = Key(UUID(int=number), 1, 60, "24/7")
    opened = np.arange(3000) * 60_000_000_000
    price = np.full(3000, 10.0 + number)
    bars = Bars(1, 60, opened, opened + 60_000_000_000, price, price, price, price, price, price < 0)
    found = cache.get(key)
    if found is None:
        cache.put(key, Held.of(bars, Newest(0, 0, 0)))
    else:
        assert (found.bars.close == 10.0 + number).all() and len(found.bars) == 3000
        hit += 1
print(hit)
"""


def test_processes_that_write_the_same_files_at_once_get_whole_ones(tmp_path):
    """Room for five files of six: they also throw each other's files out."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    said = [writer.communicate(timeout=120)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(int(hits) > 20 for hits in said)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1_000_000 + 200_000
    assert not list(tmp_path.glob("*.draft"))
