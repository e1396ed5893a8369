"""Bars read before: the same bars as out of PostgreSQL, never stale, never damaged, never too many."""

import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

from engine import bar_cache, history, series_content
from engine.bar_cache import BarCache, Held, Key, Newest
from engine.bar_hash import PIECE, digests, used_hash
from engine.bars import Bars, instant
from engine.history import NewBar, add_bars, series_bars, series_of, store_live_bars
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.domain.market import Bar
from shared.settings import Settings

COLUMNS = ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "filled")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = 60_000_000_000


def walk(count, seed=1, instrument_id=1):
    random = np.random.Generator(np.random.PCG64(seed))
    close = 100 + np.cumsum(random.integers(-5, 6, count)) / 100
    opened = np.arange(count) * MINUTE
    volume = random.integers(1, 100, count) / 10
    filled = np.zeros(count, np.bool_)
    return Bars(
        instrument_id,
        60,
        opened,
        opened + MINUTE,
        close,
        close + 1,
        close - 1,
        close,
        volume,
        filled,
    )


def same(left, right):
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in COLUMNS)


def a_key(**changed):
    return Key(
        **{"content": uuid4(), "instrument_id": 1, "interval": 60, "calendar": "24/7"} | changed
    )


def held(count=100, seed=1):
    return Held.of(walk(count, seed), Newest((count - 1) * MINUTE, 0, 5))


@pytest.fixture
def cache(tmp_path):
    return BarCache(tmp_path / "cache", 10_000_000)


def files(cache):
    return sorted(cache._folder.glob("*.bars"))


# Files ------------------------------------------------------------------------------------------


def test_what_was_put_is_got_back_and_may_be_written_to_without_changing_the_file(cache):
    key, kept = a_key(), held()
    assert cache.get(key) is None
    assert cache.put(key, kept)
    found = cache.get(key)
    assert same(found.bars, kept.bars)
    assert (found.newest, found.in_order) == (kept.newest, True)
    found.bars.close[0] = 5.0
    assert same(cache.get(key).bars, kept.bars)


@pytest.mark.parametrize(
    "other", [{"content": uuid4()}, {"calendar": "XNYS"}, {"interval": 300}, {"instrument_id": 2}]
)
def test_no_other_series_content_or_calendar_is_given_for_it(cache, other):
    key = a_key()
    cache.put(key, held())
    assert cache.get(a_key(**({"content": key.content} | other))) is None


def test_a_flipped_bit_a_missing_end_or_a_page_of_zeros_is_no_bars(cache):
    key = a_key()
    cache.put(key, held(2_000))
    (path,) = files(cache)
    whole = path.read_bytes()
    random = np.random.Generator(np.random.PCG64(7))
    for at in [0, 17, 21, 25, *random.integers(28, len(whole), 60).tolist()]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        found = cache.get(key)
        # Between columns there are a few bytes that hold nothing.
        assert found is None or same(found.bars, held(2_000).bars)
    for length in (0, 10, 27, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.get(key) is None
    path.write_bytes(whole[:8192] + bytes(4096) + whole[12288:])
    assert cache.get(key) is None
    path.write_bytes(whole)
    assert cache.get(key) is not None


def test_a_flipped_bit_in_any_column_is_found(cache):
    key = a_key()
    cache.put(key, held(1_000))
    (path,) = files(cache)
    whole = path.read_bytes()
    for name in COLUMNS:
        flipped = bytearray(whole)
        flipped[whole.index(getattr(held(1_000).bars, name)[500:].tobytes())] ^= 1
        path.write_bytes(flipped)
        assert cache.get(key) is None, name


def test_other_code_fills_otherwise_so_its_files_do_not_count(cache, monkeypatch):
    key = a_key()
    cache.put(key, held())
    monkeypatch.setattr(bar_cache._Code, "hash", "of other code")
    assert cache.get(key) is None


def test_the_least_recently_used_go_first_and_what_is_too_large_is_not_kept(tmp_path):
    one = held()
    size = sum(map(len, bar_cache._described(a_key(), one)))
    cache = BarCache(tmp_path, 3 * size + 100)
    keys = [a_key() for _ in range(4)]
    for number, key in enumerate(keys[:3]):
        cache.put(key, one)
        os.utime(cache._path(key), (1_000_000 + number, 1_000_000 + number))
    assert cache.get(keys[0]) is not None  # used just now
    cache.put(keys[3], one)
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert not BarCache(tmp_path / "small", size - 1).put(keys[0], one)
    assert not (tmp_path / "small").exists()


def test_drafts_of_a_writer_that_died_are_removed(cache):
    cache.put(a_key(), held())
    left = cache._folder / "0.draft"
    left.write_bytes(b"half")
    cache.put(a_key(), held())
    assert left.exists()  # somebody may be at it
    os.utime(left, (1, 1))
    cache.put(a_key(), held())
    assert not left.exists()


def test_a_folder_that_cannot_be_written_to_means_no_cache_and_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = BarCache(tmp_path / "file", 10_000_000)
    assert not cache.put(a_key(), held())
    assert cache.get(a_key()) is None
    assert not cache.asked_before(a_key())


def test_a_full_disk_leaves_nothing_half_written(cache, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, part):
            self.file.write(part[:10])
            raise OSError(28, "No space left on device")

    opened = bar_cache.Path.open
    monkeypatch.setattr(bar_cache.Path, "open", lambda *given: Full(opened(*given)))
    assert not cache.put(a_key(), held())
    assert list(cache._folder.iterdir()) == []


def test_a_part_is_asked_for_twice(cache):
    key = a_key()
    assert not cache.asked_before(key)
    assert cache.asked_before(key)
    assert not cache.asked_before(a_key())


# Hashes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_known_digests_change_no_hash(count):
    bars = walk(count)
    known = Held.of(bars, Newest(0, 0, 0)).bars if count else bars
    assert known.digests == digests(bars)
    assert len(known.digests) == count // PIECE
    assert used_hash(known) == used_hash(bars)


def test_a_part_is_hashed_as_what_it_is_wherever_it_was_cut_from():
    bars = walk(2 * PIECE + 100)
    known = Held.of(bars, Newest(0, 0, 0)).bars
    for rows in (
        slice(0, PIECE + 5),
        slice(None, PIECE),
        slice(1, None),
        slice(-5, None),
        slice(5),
    ):
        alone = Bars(1, 60, *(getattr(bars, name)[rows].copy() for name in COLUMNS))
        assert used_hash(known[rows]) == used_hash(alone)
    assert len(known[: PIECE + 5].digests) == 2  # of which the first counts
    assert used_hash(known[::2]) == used_hash(bars[::2])


@pytest.mark.parametrize("name", COLUMNS[:-1])
def test_any_number_changed_changes_the_hash(name):
    bars, other = walk(PIECE + 10), walk(PIECE + 10)
    for row in (5, PIECE + 5):
        getattr(other, name)[row] += 1
        assert used_hash(other) != used_hash(bars)


# Series -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(module_database_url):
    engine = make_engine(module_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine, tmp_path):
    """Sessions that read through a cache, and keep every series in it."""
    made = sessionmaker(engine)
    bar_cache.use(made, Settings.from_env({"SERAPHIM_HOME": str(tmp_path)}))
    return made


@pytest.fixture(autouse=True)
def every_series_is_worth_it(monkeypatch):
    monkeypatch.setattr(history, "LEAST_CACHED", 1)


@pytest.fixture
def series(sessions):
    return a_series(sessions)


def a_series(sessions, calendar="24/7"):
    """Of an instrument of its own, in the database that these tests share."""
    with sessions.begin() as session:
        instrument = InstrumentRow(
            venue="replay",
            symbol=uuid4().hex,
            base_asset="BTC",
            quote_asset="USD",
            calendar=calendar,
        )
        session.add(instrument)
        session.flush()
        return series_of(session.connection(), instrument.id, "import", 60)


def minute(number, close="10", start=NOON):
    opened_at = start + timedelta(minutes=number)
    numbers = {"open": "10", "high": "20", "low": "5", "volume": "1"}
    return NewBar(opened_at, opened_at + timedelta(minutes=1), close=close, **numbers)


def add(sessions, series_id, *bars):
    with sessions.begin() as session:
        add_bars(session.connection(), series_id, bars)


def live(sessions, series_id, *numbers, close=10.0):
    with sessions.begin() as session:
        instrument = session.scalar(
            sa.text("SELECT instrument_id FROM series WHERE id = :id"), {"id": series_id}
        )
        bars = [
            Bar(instrument, 60, at, at + timedelta(minutes=1), close, close, close, close, 0.5)
            for at in (NOON + timedelta(minutes=n) for n in numbers)
        ]
        return store_live_bars(session.connection(), bars, "import", simulated=False)


def read(sessions, series_id, *given, **named):
    with sessions() as session:
        return series_bars(session, series_id, *given, **named)


def plainly(sessions, series_id, *given, **named):
    """Without the cache."""
    return read(sessionmaker(sessions.kw["bind"]), series_id, *given, **named)


def touched(monkeypatch):
    """How often stored bars are read out of PostgreSQL from now on: a list that grows."""
    calls, stored = [], history._stored

    def counted(*given):
        calls.append(given)
        return stored(*given)

    monkeypatch.setattr(history, "_stored", counted)
    return calls


def test_the_second_reading_asks_postgresql_for_no_bars(sessions, series, monkeypatch):
    add(sessions, series, *(minute(n, str(10 + n % 7)) for n in (*range(50), *range(60, 90))))
    calls = touched(monkeypatch)
    first, second = read(sessions, series), read(sessions, series)
    assert len(calls) == 1
    assert same(first, second)
    assert same(first, plainly(sessions, series))
    assert first.filled.sum() == 10
    assert used_hash(first) == used_hash(second)


def test_every_way_to_change_bars_changes_what_is_read(sessions, series):
    def check():
        found = read(sessions, series)
        assert same(found, read(sessions, series))
        assert same(found, plainly(sessions, series))
        return found.close.tolist()

    add(sessions, series, *(minute(n) for n in range(5)))
    assert check() == [10] * 5
    add(sessions, series, minute(2, "11"))
    assert check() == [10, 10, 11, 10, 10]
    add(sessions, series, minute(5, "12"))
    assert check()[-1] == 12
    add(sessions, series, minute(-1, "13"))
    assert check()[0] == 13
    assert live(sessions, series, 6, close=14.0) == 1
    assert check()[-1] == 14
    assert live(sessions, series, -3, close=15.0) == 1
    assert check()[0] == 15
    for statement in (
        "UPDATE bars SET high = 19, close = 19 WHERE close = 11",
        "DELETE FROM bars WHERE close = 13",
        "TRUNCATE bars",
    ):
        with sessions.begin() as session:
            session.execute(sa.text(statement))
        check()
    assert check() == []


def test_bars_taken_from_one_series_change_no_other(sessions, series):
    other = a_series(sessions)
    for one in (series, other):
        add(sessions, one, minute(0), minute(1))
    before = contents(sessions)
    with sessions.begin() as session:
        session.execute(
            sa.text(
                "DELETE FROM bars WHERE instrument_id = (SELECT instrument_id FROM series WHERE id = :id)"
            ),
            {"id": other},
        )
    after = contents(sessions)
    assert after[series] == before[series]
    assert after[other] != before[other]


def contents(sessions):
    with sessions() as session:
        rows = session.execute(sa.text("SELECT id, content FROM series"))
        return {row.id: row.content for row in rows}


def test_a_transaction_that_wrote_neither_reads_the_cache_nor_fills_it(sessions, series, tmp_path):
    add(sessions, series, *(minute(n) for n in range(3)))
    read(sessions, series)
    with sessions() as session:
        add_bars(session.connection(), series, [minute(3, "11")])
        assert series_bars(session, series).close.tolist() == [10, 10, 10, 11]
        session.rollback()
    assert read(sessions, series).close.tolist() == [10, 10, 10]
    add(sessions, series, minute(3, "12"))
    assert read(sessions, series).close.tolist() == [10, 10, 10, 12]


def test_bars_are_seen_by_their_own_transaction_before_their_series_knows_of_them(sessions, series):
    add(sessions, series, *(minute(n) for n in range(3)))
    read(sessions, series)
    with sessions() as session:
        session.execute(
            sa.text(
                "INSERT INTO bars (instrument_id, source, interval, opened_at, closed_at, open, high, low,"
                " close, volume) SELECT instrument_id, source, interval, :at, :end, 9, 9, 9, 9, 1"
                " FROM series WHERE id = :id"
            ),
            {"id": series, "at": NOON + timedelta(minutes=3), "end": NOON + timedelta(minutes=4)},
        )
        assert series_bars(session, series).close.tolist() == [10, 10, 10, 9]


def test_a_reading_of_one_moment_keeps_to_it_though_bars_came_since(sessions, series):
    add(sessions, series, *(minute(n) for n in range(3)))
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert len(series_bars(session, series)) == 3
        add(sessions, series, minute(1, "11"), minute(3))
        live(sessions, series, 4)
        assert read(sessions, series).close.tolist() == [10, 11, 10, 10, 10]
        assert series_bars(session, series).close.tolist() == [10, 10, 10]


def test_bars_that_came_while_they_were_read_are_not_kept_under_the_earlier_name(
    sessions, series, monkeypatch
):
    add(sessions, series, *(minute(n) for n in range(3)))
    stored = history._stored

    def overtaken(*given):
        monkeypatch.setattr(history, "_stored", stored)
        add(sessions, series, minute(1, "11"))
        return stored(*given)

    monkeypatch.setattr(history, "_stored", overtaken)
    assert read(sessions, series).close.tolist() == [10, 11, 10]
    assert list((sessions.kw["info"]["bar_cache"]._folder).glob("*.bars")) == []
    assert read(sessions, series).close.tolist() == [10, 11, 10]


def test_of_a_series_that_grows_only_the_new_bars_are_read(sessions, series, monkeypatch):
    add(sessions, series, *(minute(n) for n in range(100)))
    live(sessions, series, 100)
    read(sessions, series)
    monkeypatch.setattr(history, "LEAST_CACHED", 3)
    calls = touched(monkeypatch)
    for numbers in ((103,), (106, 107), (110,)):
        live(sessions, series, *numbers, close=11.0)
        found = read(sessions, series)
        assert same(found, plainly(sessions, series))
    through_the_cache = [given for given in calls if given[2] is not None]
    assert len(through_the_cache) == 3
    assert all(given[2] >= NOON + timedelta(minutes=100) for given in through_the_cache)
    # After three new ones the file was written anew: from 107 on.
    assert through_the_cache[-1][2] == NOON + timedelta(minutes=107)


def test_a_series_that_was_set_back_and_grew_otherwise_is_not_taken_for_what_it_was(
    sessions, series
):
    add(sessions, series, *(minute(n) for n in range(10)))
    live(sessions, series, 10)
    live(sessions, series, 11, close=12.0)
    read(sessions, series)
    with sessions.begin() as session:  # as a backup of before the last bar would have it
        session.execute(sa.text("ALTER TABLE bars DISABLE TRIGGER USER"))
        session.execute(sa.text("DELETE FROM bars WHERE close = 12"))
        session.execute(sa.text("ALTER TABLE bars ENABLE TRIGGER USER"))
        session.execute(sa.text("ALTER TABLE series DISABLE TRIGGER USER"))
        session.execute(
            sa.text(
                "UPDATE series SET bars = 11, appended = 1, last_closed_at = :at WHERE id = :id"
            ),
            {"at": NOON + timedelta(minutes=11), "id": series},
        )
        session.execute(sa.text("ALTER TABLE series ENABLE TRIGGER USER"))
    assert same(read(sessions, series), plainly(sessions, series))
    live(sessions, series, 11, close=13.0)
    found = read(sessions, series)
    assert found.close[-1] == 13
    assert same(found, plainly(sessions, series))


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XNYS"])
def test_any_range_is_the_same_out_of_the_cache_and_out_of_postgresql(sessions, calendar):
    series = a_series(sessions, calendar)
    random = np.random.Generator(np.random.PCG64(11))
    start = datetime(2026, 3, 5, 12, tzinfo=UTC)  # a week-end and a change of clocks lie ahead
    numbers = np.unique(
        np.concatenate([random.integers(0, 6 * 1440, 400), 1440 + random.integers(0, 200, 150)])
    )
    add(sessions, series, *(minute(int(n), str(10 + n % 7), start) for n in numbers))
    assert same(read(sessions, series), plainly(sessions, series))
    for first, length in zip(
        random.integers(-100, 6 * 1440, 40), random.integers(1, 4 * 1440, 40), strict=True
    ):
        starts = start + timedelta(seconds=30 * int(2 * first + random.integers(2)))
        ends = starts + timedelta(seconds=30 * int(length))
        for given in ((starts, ends), (None, ends), (starts, None)):
            assert same(read(sessions, series, *given), plainly(sessions, series, *given)), given


def test_bars_that_overlap_are_cut_by_postgresql(sessions, series):
    late = NewBar(NOON, NOON + timedelta(minutes=7), "10", "20", "5", "15", "1")
    add(sessions, series, late, *(minute(n, str(10 + n)) for n in range(1, 5)))
    ends = NOON + timedelta(minutes=4)
    for given in ((), (None, ends), (NOON + timedelta(minutes=1), ends)):
        assert same(read(sessions, series, *given), plainly(sessions, series, *given))


def test_a_small_part_is_read_as_it_is_the_first_time_and_kept_the_second(
    sessions, series, monkeypatch
):
    add(sessions, series, *(minute(n) for n in range(100)))
    calls = touched(monkeypatch)
    part = (NOON + timedelta(minutes=10), NOON + timedelta(minutes=20))
    for _ in range(4):
        assert len(read(sessions, series, *part)) == 10
    assert [given[2:] for given in calls] == [part, (None, None)]


def test_a_few_bars_are_not_worth_a_file(sessions, series, monkeypatch):
    monkeypatch.setattr(history, "LEAST_CACHED", 50)
    add(sessions, series, *(minute(n) for n in range(49)))
    read(sessions, series)
    folder = sessions.kw["info"]["bar_cache"]._folder
    assert not folder.exists()
    add(sessions, series, minute(49))
    read(sessions, series)
    assert len(list(folder.glob("*.bars"))) == 1


def test_without_room_for_it_there_is_no_cache(engine, tmp_path):
    made = sessionmaker(engine)
    settings = {"SERAPHIM_HOME": str(tmp_path), "SERAPHIM_CACHE_MEGABYTES": "0"}
    bar_cache.use(made, Settings.from_env(settings))
    with made() as session:
        assert bar_cache.cache_of(session) is None


def test_a_damaged_file_is_read_again_and_replaced(sessions, series, monkeypatch):
    add(sessions, series, *(minute(n, str(10 + n % 7)) for n in range(100)))
    whole = read(sessions, series)
    (path,) = sessions.kw["info"]["bar_cache"]._folder.glob("*.bars")
    content = bytearray(path.read_bytes())
    content[-2000] ^= 64
    path.write_bytes(content)
    calls = touched(monkeypatch)
    assert same(read(sessions, series), whole)
    assert same(read(sessions, series), whole)
    assert len(calls) == 1


def test_longer_bars_are_made_of_stored_ones_and_cut_like_them(sessions, series):
    add(sessions, series, *(minute(n, str(10 + n % 7)) for n in range(0, 600, 2)))
    hours = read(sessions, series, interval=3600)
    assert (hours.interval, len(hours)) == (3600, 9)  # the last minute of the tenth is not there
    assert instant(hours.opened_at[0]) == NOON
    assert same(hours, plainly(sessions, series, interval=3600))
    part = read(
        sessions, series, NOON + timedelta(minutes=30), NOON + timedelta(hours=3), interval=3600
    )
    assert same(part, hours[1:3])
    assert same(read(sessions, series, interval=60), read(sessions, series))


# Content hash -----------------------------------------------------------------------------------


def test_the_content_hash_is_worked_out_once_and_again_after_a_change(
    sessions, series, monkeypatch
):
    calls, lines = [], series_content._lines

    def counted(*given):
        calls.append(given)
        return lines(*given)

    monkeypatch.setattr(series_content, "_lines", counted)

    def hashed():
        with sessions() as session:
            series_content.one_moment(session)
            return series_content.content_hash(session, series)

    add(sessions, series, minute(0), minute(1))
    first = hashed()
    assert hashed() == first
    assert len(calls) == 1
    with sessions() as session:
        whole = series_content.read(session, series_content.series_of_id(session, series))
    assert whole.hash == first
    add(sessions, series, minute(2))
    assert hashed() != first


def test_a_hash_of_bars_that_are_not_committed_is_not_kept(sessions, series):
    add(sessions, series, minute(0))
    with sessions() as session:
        add_bars(session.connection(), series, [minute(1)])
        series_content.content_hash(session, series)
        session.commit()
        assert series_content.series_of_id(session, series).content_hash is None
