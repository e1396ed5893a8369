"""Stored bars: read back, revised, kept live, and counted."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.bars import Bars
from engine.history import (
    NewBar,
    NoSuchSeries,
    add_bars,
    coverage,
    series_bars,
    series_of,
    store_live_bars,
)
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_engine
from shared.domain.market import Bar

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def session(database_url):
    engine = make_engine(database_url)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def series(session):
    return a_series(session)


def a_series(session, calendar="24/7", symbol="BTC/USD", interval=60):
    instrument = InstrumentRow(
        venue="replay", symbol=symbol, base_asset="BTC", quote_asset="USD", calendar=calendar
    )
    session.add(instrument)
    session.flush()
    return series_of(session.connection(), instrument.id, "import", interval)


def minute(number, close="10", *, interval=60, **changed):
    opened_at = NOON + timedelta(seconds=interval * number)
    numbers = {"open": "10", "high": "20", "low": "5", "volume": "1"} | changed
    return NewBar(opened_at, opened_at + timedelta(seconds=interval), close=close, **numbers)


def add(session, series_id, *bars):
    return add_bars(session.connection(), series_id, bars)


def counts(added):
    return added.read, added.added, added.revised, added.unchanged


def stored(session):
    query = sa.text("SELECT opened_at, revision, close, volume FROM bars ORDER BY 1, 2")
    return [tuple(row) for row in session.execute(query)]


def test_what_was_added_is_read_back_number_for_number(session, series):
    add(
        session,
        series,
        minute(0, "7160.69", high="8000", volume="5.50169101"),
        minute(1, "0.1", low="0.1"),
    )
    bars = series_bars(session, series)
    assert bars.close.tolist() == [7160.69, 0.1]
    assert bars.volume.tolist() == [5.50169101, 1.0]
    assert bars.bar(0).opened_at == NOON
    assert bars.bar(0).closed_at == NOON + timedelta(minutes=1)
    assert (bars.interval, len(bars)) == (60, 2)


def test_digits_beyond_float_stay_in_the_database(session, series):
    digits = "10.123456789012345678901234567890"
    add(session, series, minute(0, digits))
    assert session.scalar(sa.text("SELECT close FROM bars")) == Decimal(digits)


def test_the_same_bars_again_change_nothing(session, series):
    bars = [minute(n) for n in range(5)]
    assert counts(add(session, series, *bars)) == (5, 5, 0, 0)
    assert counts(add(session, series, *bars)) == (5, 0, 0, 5)
    again = [
        minute(n, "10.000", open="1e1") for n in range(5)
    ]  # the same numbers, written otherwise
    assert counts(add(session, series, *again)) == (5, 0, 0, 5)
    assert len(stored(session)) == 5


def test_a_changed_bar_is_a_new_revision_and_the_old_one_stays(session, series):
    add(session, series, minute(0), minute(1), minute(2))
    assert counts(add(session, series, minute(1, "11"), minute(2), minute(3))) == (3, 1, 1, 1)
    add(session, series, minute(1, "12"))
    assert [row[1:3] for row in stored(session)] == [
        (0, 10), (0, 10), (1, 11), (2, 12), (0, 10), (0, 10),
    ]  # fmt: skip
    assert series_bars(session, series).close.tolist() == [10, 12, 10, 10]


def test_a_changed_volume_or_adjusted_close_is_a_change_too(session, series):
    add(session, series, minute(0), minute(1))
    changed = [minute(0, volume="2"), minute(1, adjusted_close="5")]
    assert counts(add(session, series, *changed)) == (2, 0, 2, 0)
    assert counts(add(session, series, *changed)) == (2, 0, 0, 2)


def test_the_series_row_knows_what_there_is(session, series):
    add(session, series, minute(5), minute(6))
    add(session, series, minute(0), minute(6, "11"), minute(9))
    row = session.get_one(SeriesRow, series, populate_existing=True)
    assert (row.bars, row.revision) == (4, 1)
    assert row.first_opened_at == NOON
    assert row.last_closed_at == NOON + timedelta(minutes=10)


def test_nothing_is_added_when_the_transaction_is_not_committed(session, series):
    session.commit()
    add(session, series, minute(0))
    session.rollback()
    assert stored(session) == []
    assert counts(add(session, series, minute(0))) == (1, 1, 0, 0)


def test_a_hundred_thousand_bars_arrive_in_several_batches(session, series):
    bars = [minute(n, str(10 + n % 7)) for n in range(100_001)]
    assert counts(add_bars(session.connection(), series, bars)) == (100_001, 100_001, 0, 0)
    bars[70_000] = minute(70_000, "19.5")
    assert counts(add_bars(session.connection(), series, bars)) == (100_001, 0, 1, 100_000)
    read = series_bars(session, series)
    assert len(read) == 100_001
    assert read.close[70_000] == 19.5
    assert np.all(np.diff(read.opened_at) > 0)


def test_an_impossible_bar_is_refused_by_the_database(session, series):
    with pytest.raises(Exception, match="prices_ordered"):
        add(session, series, minute(0, "30"))


def test_quiet_minutes_are_filled_when_read_and_never_stored(session, series):
    add(session, series, minute(0, "11"), minute(3, "12"))
    bars = series_bars(session, series)
    assert bars.close.tolist() == [11, 11, 11, 12]
    assert bars.filled.tolist() == [False, True, True, False]
    assert len(stored(session)) == 2


def test_a_range_holds_the_bars_that_lie_wholly_inside_it(session, series):
    add(session, series, *(minute(n, str(10 + n)) for n in range(6)))
    at = [NOON + timedelta(minutes=n) for n in range(7)]
    assert series_bars(session, series, at[1], at[4]).close.tolist() == [11, 12, 13]
    assert series_bars(session, series, at[4]).close.tolist() == [14, 15]
    assert series_bars(session, series, None, at[2]).close.tolist() == [10, 11]
    half = timedelta(seconds=30)
    assert series_bars(session, series, at[1] + half, at[4] - half).close.tolist() == [12]
    assert len(series_bars(session, series, at[6])) == 0


def test_a_range_that_begins_in_a_quiet_minute_is_filled_from_the_bar_before_it(session, series):
    add(session, series, minute(0, "11"), minute(4, "12"))
    bars = series_bars(session, series, NOON + timedelta(minutes=2))
    assert bars.close.tolist() == [11, 11, 12]
    assert bars.filled.tolist() == [True, True, False]


def test_a_revised_bar_before_the_range_fills_with_its_newest_close(session, series):
    add(session, series, minute(0, "11"), minute(3, "12"))
    add(session, series, minute(0, "13"))
    assert series_bars(session, series, NOON + timedelta(minutes=1)).close.tolist() == [13, 13, 12]


def test_an_empty_series_is_empty_bars_and_an_unknown_one_is_an_error(session, series):
    assert len(series_bars(session, series)) == 0
    with pytest.raises(NoSuchSeries):
        series_bars(session, series + 1)


def test_two_series_of_one_instrument_are_kept_apart(session, series):
    instrument = session.get_one(SeriesRow, series).instrument_id
    hourly = series_of(session.connection(), instrument, "import", 3600)
    sample = series_of(session.connection(), instrument, "sample", 60)
    add(session, series, minute(0, "11"))
    add(session, hourly, minute(0, "12", interval=3600))
    add(session, sample, minute(0, "13"))
    closes = [series_bars(session, one).close.tolist() for one in (series, hourly, sample)]
    assert closes == [[11], [12], [13]]
    assert series_of(session.connection(), instrument, "sample", 60) == sample


def a_live_bar(number, close=60000.1, *, instrument_id, filled=False, interval=60):
    opened_at = NOON + timedelta(seconds=interval * number)
    closed_at = opened_at + timedelta(seconds=interval)
    return Bar(
        instrument_id, interval, opened_at, closed_at, close, close, close, close, 0.3, filled
    )


def test_live_bars_are_stored_once_as_the_prices_the_market_named(session, series):
    instrument = session.get_one(SeriesRow, series).instrument_id
    bars = [a_live_bar(n, instrument_id=instrument) for n in range(3)]
    bars.append(a_live_bar(3, instrument_id=instrument, filled=True))
    assert store_live_bars(session.connection(), bars) == 3
    restated = [
        a_live_bar(2, 1.0, instrument_id=instrument),
        a_live_bar(4, instrument_id=instrument),
    ]
    assert store_live_bars(session.connection(), restated) == 1
    assert {row[2] for row in stored(session)} == {Decimal("60000.1")}
    live = session.scalars(sa.select(SeriesRow).where(SeriesRow.source == "simulated")).one()
    assert (live.bars, live.simulated) == (4, True)
    assert live.first_opened_at == NOON
    assert live.last_closed_at == NOON + timedelta(minutes=5)
    assert len(series_bars(session, live.id)) == 5


def test_live_bars_of_several_series_go_in_together_and_columns_will_do(session, series):
    instrument = session.get_one(SeriesRow, series).instrument_id
    mixed = [
        a_live_bar(0, instrument_id=instrument),
        a_live_bar(0, instrument_id=instrument, interval=3600),
    ]
    assert store_live_bars(session.connection(), mixed, "replay", simulated=False) == 2
    columns = Bars.of([a_live_bar(n, instrument_id=instrument) for n in range(4)])
    assert store_live_bars(session.connection(), columns, "replay", simulated=False) == 3
    assert store_live_bars(session.connection(), [], "replay") == 0


def test_coverage_counts_what_is_there_what_is_quiet_and_where_holes_are(session, series):
    add(session, series, minute(0), minute(2), minute(60 * 24 * 10))
    add(session, series, minute(2, "11"))
    found = coverage(session, series)
    assert (found.bars, found.filled, found.revised) == (3, 1, 1)
    assert found.holes == ((NOON + timedelta(minutes=3), NOON + timedelta(days=10)),)
    empty = coverage(session, a_series(session, symbol="ETH/USD"))
    assert (empty.bars, empty.first_opened_at, empty.holes) == (0, None, ())
