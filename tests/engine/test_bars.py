"""Bars: columns, quiet intervals, and bars from ticks."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.bars import BadInterval, BarBuilder, Bars, coarser, fill_quiet, instant, nanoseconds
from shared.domain.market import BadMarketData, Bar, Tick

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
NEW_YORK = ZoneInfo("America/New_York")
COLUMNS = ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "filled")


def a_bar(opened_at=NOON, *, interval=60, close=100.0, volume=1.0, filled=False):
    closed_at = opened_at + timedelta(seconds=interval)
    return Bar(
        1, interval, opened_at, closed_at, close, close + 1, close - 1, close, volume, filled
    )


def bars_at(*minutes, interval=60, start=NOON):
    return Bars.of(
        [
            a_bar(start + timedelta(minutes=minute), interval=interval, close=100.0 + minute)
            for minute in minutes
        ]
    )


def a_tick(price="100", at=NOON, quantity="1"):
    return Tick(1, Decimal(price), Decimal(quantity), at)


def new_york(*when):
    return datetime(*when, tzinfo=NEW_YORK).astimezone(UTC)


def opens(bars):
    return [bar.opened_at for bar in bars]


def same(left, right):
    return (left.instrument_id, left.interval) == (right.instrument_id, right.interval) and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in COLUMNS
    )


# Columns --------------------------------------------------------------------------------------


@given(st.timedeltas(timedelta(days=-20_000), timedelta(days=80_000)).map(EPOCH.__add__))
def test_an_instant_survives_the_way_into_an_array_and_back(at):
    assert instant(nanoseconds(at)) == at


def test_an_instant_of_another_zone_is_the_same_instant():
    assert nanoseconds(NOON) == nanoseconds(NOON.astimezone(NEW_YORK))


def test_bars_give_back_the_rows_they_were_made_of():
    rows = [a_bar(), a_bar(NOON + timedelta(minutes=1), close=7.5, filled=True)]
    bars = Bars.of(rows)
    assert list(bars) == rows
    assert bars.bar(-1) == rows[1]
    assert len(bars[1:]) == 1
    assert bars[1:].bar(0) == rows[1]


def test_bars_of_no_rows_have_a_type_for_every_column():
    empty = Bars.empty(1, 60)
    assert len(empty) == 0
    assert (empty.opened_at.dtype, empty.close.dtype, empty.filled.dtype) == (
        np.int64,
        np.float64,
        np.bool_,
    )
    assert same(Bars.joined([empty, bars_at(0), empty]), bars_at(0))


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ([bars_at(1), bars_at(0)], "begin inside"),
        ([bars_at(0), bars_at(0)], "begin inside"),
        ([bars_at(0), bars_at(5, interval=300)], "different"),
        ([], "nothing to join"),
    ],
)
def test_bars_that_do_not_follow_each_other_are_not_joined(parts, complaint):
    with pytest.raises(BadMarketData, match=complaint):
        Bars.joined(parts)


def test_rows_out_of_order_make_no_bars():
    with pytest.raises(BadMarketData, match="begins inside"):
        Bars.of([a_bar(NOON + timedelta(seconds=30)), a_bar()])


def test_between_takes_only_bars_that_lie_wholly_inside():
    bars = bars_at(0, 1, 2, 3)
    middle = bars.between(NOON + timedelta(seconds=30), NOON + timedelta(minutes=3))
    assert opens(middle) == [NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)]
    assert same(bars.between(None, None), bars)
    assert len(bars.between(NOON + timedelta(minutes=9), NOON)) == 0


# Quiet intervals ------------------------------------------------------------------------------


def test_a_quiet_interval_is_a_flat_bar_at_the_previous_close():
    filled = fill_quiet(bars_at(0, 1, 4), "24/7")
    assert opens(filled) == [NOON + timedelta(minutes=m) for m in (0, 1, 2, 3, 4)]
    quiet = filled.bar(3)
    assert (quiet.open, quiet.high, quiet.low, quiet.close) == (101, 101, 101, 101)
    assert (quiet.volume, quiet.filled) == (0, True)
    assert filled.filled.tolist() == [False, False, True, True, False]


def test_a_day_without_a_trade_is_quiet_and_a_minute_more_is_missing_data():
    day = 24 * 60
    assert len(fill_quiet(bars_at(0, day + 1), "24/7")) == day + 2
    assert len(fill_quiet(bars_at(0, day + 2), "24/7")) == 2


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XNYS"])
def test_daily_and_longer_bars_are_never_filled(calendar):
    bars = bars_at(0, 2 * 24 * 60, interval=86_400)
    assert fill_quiet(bars, calendar) is bars


def test_the_bar_before_the_first_is_carried_up_to_it_and_the_last_one_up_to_until():
    before = a_bar(NOON - timedelta(minutes=3), close=50.0)
    until = NOON + timedelta(minutes=2, seconds=30)
    filled = fill_quiet(bars_at(0), "24/7", before, until)
    assert opens(filled) == [NOON + timedelta(minutes=m) for m in (-2, -1, 0, 1)]
    assert filled.close.tolist() == [50.0, 50.0, 100.0, 100.0]


def test_nothing_but_a_bar_before_is_carried_forward_too():
    before = a_bar(NOON - timedelta(minutes=1))
    filled = fill_quiet(Bars.empty(1, 60), "24/7", before, NOON + timedelta(minutes=2))
    assert opens(filled) == [NOON, NOON + timedelta(minutes=1)]


def test_no_bars_stay_no_bars():
    assert len(fill_quiet(Bars.empty(1, 60), "24/7")) == 0


def test_an_exchange_s_night_is_no_quiet_interval():
    evening, morning = new_york(2026, 3, 4, 15, 58), new_york(2026, 3, 5, 9, 32)
    filled = fill_quiet(Bars.of([a_bar(evening), a_bar(morning)]), "XNYS")
    assert opens(filled) == [
        evening,
        new_york(2026, 3, 4, 15, 59),
        new_york(2026, 3, 5, 9, 30),
        new_york(2026, 3, 5, 9, 31),
        morning,
    ]


def test_an_exchange_opens_at_its_own_half_past_nine_on_both_sides_of_a_clock_change():
    friday, monday = new_york(2026, 3, 6, 15, 59), new_york(2026, 3, 9, 9, 31)
    filled = fill_quiet(Bars.of([a_bar(friday), a_bar(monday)]), "XNYS")
    assert opens(filled)[1] == datetime(2026, 3, 9, 13, 30, tzinfo=UTC)  # 14:30 the week before
    assert len(filled) == 3


def test_hours_that_begin_at_half_past_nine_keep_doing_so_after_a_clock_change():
    friday, monday = new_york(2026, 3, 6, 14, 30), new_york(2026, 3, 9, 11, 30)
    bars = Bars.of([a_bar(friday, interval=3600), a_bar(monday, interval=3600)])
    assert opens(fill_quiet(bars, "XNYS")) == [
        friday,
        new_york(2026, 3, 9, 9, 30),
        new_york(2026, 3, 9, 10, 30),
        monday,
    ]


def test_hours_on_the_full_hour_keep_to_it_though_the_session_opens_at_half_past():
    friday, monday = new_york(2026, 3, 6, 14, 0), new_york(2026, 3, 9, 11, 0)
    bars = Bars.of([a_bar(friday, interval=3600), a_bar(monday, interval=3600)])
    assert opens(fill_quiet(bars, "XNYS")) == [
        friday,
        new_york(2026, 3, 6, 15, 0),
        new_york(2026, 3, 9, 10, 0),
        monday,
    ]


def test_an_exchange_s_day_without_a_single_bar_was_a_holiday():
    wednesday, friday = new_york(2026, 11, 25, 15, 59), new_york(2026, 11, 27, 9, 31)
    filled = fill_quiet(Bars.of([a_bar(wednesday), a_bar(friday)]), "XNYS")
    assert opens(filled) == [wednesday, new_york(2026, 11, 27, 9, 30), friday]


def test_currencies_rest_from_friday_to_sunday_at_five_in_new_york():
    friday, sunday = new_york(2026, 3, 6, 16, 58), new_york(2026, 3, 8, 17, 1)
    filled = fill_quiet(Bars.of([a_bar(friday), a_bar(sunday)]), "24/5")
    assert opens(filled) == [
        friday,
        new_york(2026, 3, 6, 16, 59),
        datetime(2026, 3, 8, 21, 0, tzinfo=UTC),  # clocks went forward that morning
        sunday,
    ]


def test_only_session_time_counts_towards_a_hole_too_long_to_fill():
    friday = new_york(2026, 3, 6, 5, 0)
    just = Bars.of([a_bar(friday), a_bar(new_york(2026, 3, 9, 5, 0))])  # 12 h - 1 min, and 12 h
    late = Bars.of([a_bar(friday), a_bar(new_york(2026, 3, 9, 5, 2))])
    assert len(fill_quiet(just, "24/5")) == 24 * 60 + 1
    assert len(fill_quiet(late, "24/5")) == 2


minutes = st.sets(st.integers(0, 3 * 24 * 60), min_size=1, max_size=40).map(sorted)
calendars = st.sampled_from(["24/7", "24/5", "XNYS"])
starts = st.sampled_from(
    [NOON, new_york(2026, 3, 6, 12, 0), new_york(2026, 10, 30, 12, 0), new_york(2026, 3, 8, 17, 0)]
)
intervals = st.sampled_from([60, 300, 3600])


@given(minutes, calendars, starts, intervals)
def test_filling_twice_is_filling_once_and_changes_no_bar(minutes, calendar, start, interval):
    step = interval // 60
    bars = bars_at(*sorted({m - m % step for m in minutes}), interval=interval, start=start)
    once = fill_quiet(bars, calendar)
    assert same(fill_quiet(once, calendar), once)
    assert same(once[~once.filled], bars)
    assert (once.opened_at[1:] >= once.closed_at[:-1]).all()


@given(minutes, st.sampled_from(["24/5", "XNYS"]), starts)
def test_a_filled_interval_lies_inside_a_session(minutes, calendar, start):
    filled = fill_quiet(bars_at(*minutes, start=start), calendar)
    for bar in filled[filled.filled]:
        opened, closed = bar.opened_at.astimezone(NEW_YORK), bar.closed_at.astimezone(NEW_YORK)
        of_day = opened.hour * 60 + opened.minute
        if calendar == "XNYS":
            assert opened.weekday() < 5
            assert 9 * 60 + 30 <= of_day < 16 * 60
            assert (closed.hour, closed.minute) <= (16, 0)
        else:
            sunday_open = opened.weekday() == 6 and of_day >= 17 * 60
            friday_close = opened.weekday() == 4 and of_day < 17 * 60
            assert opened.weekday() < 4 or sunday_open or friday_close


# Ticks to bars --------------------------------------------------------------------------------


def test_a_bar_holds_what_traded_from_its_opening_up_to_but_not_at_its_close():
    builder = BarBuilder(1, 60)
    for price, second in [("100", 0), ("103", 10), ("99", 20), ("101", 59), ("500", 60)]:
        builder.add(a_tick(price, NOON + timedelta(seconds=second), "0.1"))
    bar = builder.close(NOON + timedelta(minutes=1))
    assert (bar.opened_at, bar.closed_at) == (NOON, NOON + timedelta(minutes=1))
    assert (bar.open, bar.high, bar.low, bar.close) == (100, 103, 99, 101)
    assert bar.volume == 0.4
    assert builder.close(NOON + timedelta(minutes=2)).open == 500


def test_volume_is_summed_exactly():
    builder = BarBuilder(1, 60)
    for second in range(10):
        builder.add(a_tick("100", NOON + timedelta(seconds=second), "0.1"))
    assert builder.close(NOON + timedelta(minutes=1)).volume == 1.0


def test_before_the_first_price_there_is_no_bar_and_then_quiet_ones_are_flat():
    builder = BarBuilder(1, 60)
    assert builder.close(NOON) is None
    builder.add(a_tick("100", NOON + timedelta(seconds=1)))
    assert not builder.close(NOON + timedelta(minutes=1)).filled
    quiet = builder.close(NOON + timedelta(minutes=2))
    assert (quiet.close, quiet.volume, quiet.filled) == (100, 0, True)


def test_a_late_tick_is_counted_and_restates_nothing():
    builder = BarBuilder(1, 60)
    builder.add(a_tick("100", NOON))
    builder.close(NOON + timedelta(minutes=1))
    builder.add(a_tick("999", NOON + timedelta(seconds=59)))
    assert builder.late == 1
    assert builder.close(NOON + timedelta(minutes=2)).high == 100
    assert builder.close(NOON + timedelta(minutes=1)) is None


def test_a_tick_at_the_very_closing_time_is_in_time_for_the_next_bar():
    builder = BarBuilder(1, 60)
    builder.add(a_tick("100", NOON))
    builder.close(NOON + timedelta(minutes=1))
    builder.add(a_tick("101", NOON + timedelta(minutes=1)))
    assert builder.close(NOON + timedelta(minutes=2)).open == 101
    assert builder.late == 0


def test_a_builder_goes_on_from_the_last_bar_before_it():
    builder = BarBuilder(1, 60, after=a_bar(close=42.0))
    builder.add(a_tick("1", NOON + timedelta(seconds=30)))
    quiet = builder.close(NOON + timedelta(minutes=2))
    assert (quiet.close, quiet.filled, builder.late) == (42, True, 1)


def test_an_interval_nobody_closed_makes_no_bar_but_its_price_carries():
    builder = BarBuilder(1, 60)
    builder.add(a_tick("100", NOON))
    builder.add(a_tick("105", NOON + timedelta(seconds=90)))
    quiet = builder.close(NOON + timedelta(minutes=3))
    assert (quiet.open, quiet.filled) == (105, True)


def test_a_bar_closes_only_on_its_grid():
    with pytest.raises(ValueError, match="no bar of 60 s closes"):
        BarBuilder(1, 60).close(NOON + timedelta(seconds=1))


ticks = st.lists(
    st.tuples(st.integers(0, 15 * 60_000 - 1), st.integers(1, 10**6), st.integers(1, 10**6)),
    min_size=1,
    max_size=60,
    unique_by=lambda tick: tick[0],
).map(
    lambda rows: [
        Tick(1, Decimal(p).scaleb(-2), Decimal(q).scaleb(-3), NOON + timedelta(milliseconds=ms))
        for ms, p, q in rows
    ]
)


def built(ticks, interval=60, minutes=15):
    builder = BarBuilder(1, interval)
    for tick in ticks:
        builder.add(tick)
    ends = range(interval, minutes * 60 + 1, interval)
    return [
        bar
        for bar in (builder.close(NOON + timedelta(seconds=second)) for second in ends)
        if bar is not None
    ]


@given(ticks)
def test_a_bar_is_what_its_ticks_say_in_whatever_order_they_came(ticks):
    bars = built(ticks)
    assert bars == built(sorted(ticks, key=lambda tick: tick.traded_at))
    for bar in bars:
        own = sorted(
            (t for t in ticks if bar.opened_at <= t.traded_at < bar.closed_at),
            key=lambda tick: tick.traded_at,
        )
        assert bar.filled == (not own)
        if own:
            prices = [float(tick.price) for tick in own]
            assert (bar.open, bar.close) == (prices[0], prices[-1])
            assert (bar.low, bar.high) == (min(prices), max(prices))
            assert bar.volume == float(sum(tick.quantity for tick in own))


@given(ticks)
def test_the_builder_and_the_fill_agree_about_quiet_intervals(ticks):
    """Live bars as they closed, and the same bars stored sparse and filled when read."""
    live = Bars.of(built(ticks))
    stored = live[~live.filled]
    assume(len(stored))
    assert same(fill_quiet(stored, "24/7", until=NOON + timedelta(minutes=15)), live)


# Longer bars from shorter ones ------------------------------------------------------------------


hours_of_ticks = st.lists(
    st.tuples(st.integers(0, 12 * 3_600_000 - 1), st.integers(1, 10**6), st.integers(1, 10**6)),
    min_size=1,
    max_size=60,
    unique_by=lambda tick: tick[0],
).map(
    lambda rows: [
        Tick(1, Decimal(p).scaleb(-2), Decimal(q).scaleb(-3), NOON + timedelta(milliseconds=ms))
        for ms, p, q in rows
    ]
)


@given(hours_of_ticks, st.sampled_from([300, 900, 3600, 14_400]))
def test_longer_bars_are_what_the_builder_makes_of_the_same_ticks(ticks, interval):
    """Minutes as they are stored and filled, against the builder's own longer bars, filled alike."""
    minutes = Bars.of([bar for bar in built(ticks, 60, 12 * 60) if not bar.filled])
    filled = fill_quiet(minutes, "24/7", until=NOON + timedelta(hours=12))
    longer = Bars.of(built(ticks, interval, 12 * 60))
    assert same(coarser(filled, interval, "24/7"), fill_quiet(longer[~longer.filled], "24/7"))


@given(hours_of_ticks, st.integers(1, 12 * 60))
def test_a_longer_bar_that_is_not_over_is_left_out_and_the_others_stay(ticks, minute):
    whole = Bars.of([bar for bar in built(ticks, 60, 12 * 60) if not bar.filled])
    known = whole.between(None, NOON + timedelta(minutes=minute))
    hours = coarser(known, 3600, "24/7")
    assert same(hours, coarser(whole, 3600, "24/7")[: len(hours)])
    if len(known):
        assert all(hours.closed_at <= known.closed_at[-1])


def test_a_filled_minute_is_neither_the_open_nor_the_low_of_its_hour():
    bars = Bars.of(
        [
            a_bar(close=50.0),
            *(a_bar(NOON + timedelta(minutes=m), close=50.0, filled=True) for m in range(60, 70)),
            a_bar(NOON + timedelta(minutes=70), close=100.0),
            a_bar(NOON + timedelta(minutes=119), close=90.0),
        ]
    )
    hour = coarser(bars, 3600, "24/7").bar(1)
    assert (hour.open, hour.high, hour.low, hour.close) == (100, 101, 89, 90)
    assert (hour.volume, hour.filled) == (2, False)


def test_an_hour_without_a_trade_is_filled_as_it_is_everywhere():
    bars = fill_quiet(bars_at(0, 1, 200, 239), "24/7")
    hours = coarser(bars, 3600, "24/7")
    assert hours.filled.tolist() == [False, True, True, False]
    assert hours.close.tolist() == [101, 101, 101, 339]


def test_an_exchange_s_day_is_its_session_on_both_sides_of_a_clock_change():
    minutes = [
        a_bar(new_york(2026, 3, 6, 9, 0), close=1.5),  # before the opening
        a_bar(new_york(2026, 3, 6, 9, 30), close=10.0),
        a_bar(new_york(2026, 3, 6, 15, 59), close=11.0),
        a_bar(new_york(2026, 3, 6, 17, 0), close=99.0),
        a_bar(new_york(2026, 3, 9, 9, 30), close=12.0),
        a_bar(new_york(2026, 3, 9, 15, 59), close=13.0),
        a_bar(new_york(2026, 3, 10, 9, 30), close=14.0),
    ]
    days = coarser(Bars.of(minutes), 86_400, "XNYS")
    assert [bar.opened_at for bar in days] == [new_york(2026, 3, d, 9, 30) for d in (6, 9)]
    assert [bar.closed_at for bar in days] == [new_york(2026, 3, d, 16, 0) for d in (6, 9)]
    assert (days.open.tolist(), days.close.tolist()) == ([10, 12], [11, 13])
    assert days.high.tolist() == [12, 14]


def test_a_currency_s_day_begins_at_five_in_new_york_the_evening_before():
    minutes = [
        a_bar(new_york(2026, 3, 8, 17, 0), close=10.0),  # Sunday evening is Monday
        a_bar(new_york(2026, 3, 9, 16, 59), close=11.0),
        a_bar(new_york(2026, 3, 9, 17, 0), close=12.0),
        a_bar(new_york(2026, 3, 10, 16, 59), close=13.0),
    ]
    days = coarser(Bars.of(minutes), 86_400, "24/5")
    assert [bar.opened_at for bar in days] == [new_york(2026, 3, d, 17, 0) for d in (8, 9)]
    assert days.close.tolist() == [11, 13]


def test_days_around_the_clock_are_those_of_utc():
    days = coarser(bars_at(0, 719, 720, 720 + 1439), 86_400, "24/7")
    assert [bar.opened_at for bar in days] == [
        datetime(2026, 3, 4, tzinfo=UTC),
        datetime(2026, 3, 5, tzinfo=UTC),
    ]
    assert days.close.tolist() == [819, 100 + 720 + 1439]


def test_only_bars_outside_every_session_make_no_day():
    assert len(coarser(Bars.of([a_bar(new_york(2026, 3, 7, 12, 0))]), 86_400, "XNYS")) == 0
    assert len(coarser(Bars.empty(1, 60), 3600, "24/7")) == 0


@pytest.mark.parametrize(
    ("bars", "interval", "complaint"),
    [
        (bars_at(0), 90, "choose a multiple"),
        (bars_at(0), 30, "choose a multiple"),
        (bars_at(0), 7 * 60, "divide a day"),
        (bars_at(0), 2 * 86_400, "divide a day"),
        (bars_at(90, interval=3600), 7200, "2026-03-04 13:30.* lies across two bars"),
    ],
)
def test_bars_that_cannot_be_made_of_others_are_refused(bars, interval, complaint):
    with pytest.raises(BadInterval, match=complaint):
        coarser(bars, interval, "24/7")


def test_bars_of_the_same_interval_stay_what_they_are():
    bars = bars_at(0, 1)
    assert coarser(bars, 60, "24/7") is bars


@given(
    st.lists(st.decimals("0", "1000000", places=8), min_size=2, max_size=60),
    st.integers(0, 8),
)
def test_volumes_add_up_as_decimals(volumes, places):
    volumes = [round(volume, places) for volume in volumes]
    bars = Bars.of(
        [
            a_bar(NOON + timedelta(minutes=n), volume=float(volume))
            for n, volume in enumerate(volumes)
        ]
    )
    day = coarser(Bars.joined([bars, bars_at(1440)]), 86_400, "24/7")
    assert day.volume.tolist() == [float(sum(volumes))]


def test_volumes_of_too_many_digits_still_add_up():
    bars = Bars.of([a_bar(volume=1e15 + 0.1), a_bar(NOON + timedelta(minutes=59), volume=0.123)])
    assert coarser(bars, 3600, "24/7").volume.tolist() == [1e15 + 0.1 + 0.123]
