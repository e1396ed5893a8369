"""The market clock and the feeds: order, pace, and going on where one left off."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from engine.bars import BarBuilder, Bars
from engine.feeds.clock import MarketClock
from engine.feeds.history import HistoryFeed
from engine.feeds.simulated import SPECS, VENUE, SimulatedFeed, SimulatedMarket
from shared.domain.instruments import Instrument
from shared.domain.market import Bar, Closed, Tick

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
GENESIS = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class FakeMachine:
    """Machine time that passes only in sleep, or when somebody works."""

    def __init__(self):
        self.seconds = 1000.0
        self.slept = []

    def now(self):
        return self.seconds

    def works(self, seconds):
        self.seconds += seconds

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


def a_clock(machine, speed=60, anchor=NOON):
    return MarketClock(speed, anchor, now=machine.now, sleep=machine.sleep)


def happened_at(event):
    return {Tick: "traded_at", Closed: "at"}.get(type(event), "quoted_at")


def time_of(event):
    return getattr(event, happened_at(event))


# Clock ------------------------------------------------------------------------------------------


def test_sixty_market_seconds_pass_in_one_machine_second():
    machine = FakeMachine()
    clock = a_clock(machine)
    machine.works(1.5)
    assert clock.now() == NOON + timedelta(seconds=90)
    assert clock.behind(NOON) == 1.5


def test_sleeping_until_a_market_time_takes_its_share_of_machine_time():
    machine = FakeMachine()
    clock = a_clock(machine)
    asyncio.run(clock.sleep_until(NOON + MINUTE))
    assert clock.now() == NOON + MINUTE
    assert machine.seconds == 1001


def test_a_time_already_past_is_not_waited_for_but_others_get_a_turn():
    machine = FakeMachine()
    asyncio.run(a_clock(machine).sleep_until(NOON - MINUTE))
    assert machine.slept == [0]


def test_a_sleep_that_ends_early_is_slept_on():
    machine = FakeMachine()

    async def short(seconds):
        await machine.sleep(min(seconds, 0.25))

    clock = MarketClock(60, NOON, now=machine.now, sleep=short)
    asyncio.run(clock.sleep_until(NOON + MINUTE))
    assert clock.now() >= NOON + MINUTE


def test_a_reset_goes_on_from_where_it_is_told():
    machine = FakeMachine()
    clock = a_clock(machine)
    machine.works(100)
    clock.reset(NOON)
    machine.works(1)
    assert clock.now() == NOON + MINUTE


def test_a_clock_that_stands_still_is_refused():
    with pytest.raises(ValueError, match="speed 0"):
        MarketClock(0, NOON)


def test_the_real_clock_runs():
    async def wait():
        clock = MarketClock(3600, NOON)
        await clock.sleep_until(NOON + timedelta(seconds=36))
        return clock.now()

    assert NOON + timedelta(seconds=36) <= asyncio.run(wait()) < NOON + timedelta(minutes=30)


# The simulated feed -----------------------------------------------------------------------------


INSTRUMENTS = {
    symbol: Instrument(i + 1, VENUE, symbol, *symbol.split("/"), spec.tick_size, spec.lot_size)
    for i, (symbol, spec) in enumerate(SPECS.items())
}
MARKET = SimulatedMarket(7, GENESIS, INSTRUMENTS)


def listened(
    until, *, machine=None, speed=60, intervals=(60,), starts_at=NOON, grace=0, during=None
):
    """The batches up to market time `until`."""
    machine = machine or FakeMachine()
    clock = a_clock(machine, speed, starts_at)
    feed = SimulatedFeed(MARKET, clock, intervals, starts_at, grace)

    async def listen():
        batches = []
        async for batch in feed.events():
            if time_of(batch[-1]) > until:
                return batches
            batches.append((clock.now(), batch))
            if during:
                during(clock, batch)
        return batches

    return asyncio.run(listen())


def flat(batches):
    return [event for _, batch in batches for event in batch]


def test_every_event_comes_once_in_time_order_and_closings_stand_between_their_neighbours():
    events = flat(listened(NOON + 5 * MINUTE, intervals=(60, 30)))
    times = [time_of(event) for event in events]
    assert times == sorted(times)
    closings = [event.at for event in events if isinstance(event, Closed)]
    assert closings == [NOON + timedelta(seconds=30 * n) for n in range(1, 11)]
    said = [event for event in events if not isinstance(event, Closed)]
    expected = MARKET.events(NOON)
    assert said == [next(expected) for _ in said]


def test_bars_closed_by_the_feed_are_the_market_s_own_bars():
    builder = BarBuilder(INSTRUMENTS["BTC/USD"].id, 60)
    bars = []
    for event in flat(listened(NOON + 30 * MINUTE)):
        if isinstance(event, Closed):
            bars.append(builder.close(event.at))
        elif isinstance(event, Tick) and event.instrument_id == builder.instrument_id:
            builder.add(event)
    expected = list(MARKET.bars("BTC/USD", 60, NOON, NOON + 30 * MINUTE))
    assert [bar for bar in bars if bar] == expected
    assert builder.late == 0


def test_market_time_passes_at_the_clock_s_speed():
    machine = FakeMachine()
    listened(NOON + 10 * MINUTE, machine=machine, speed=60)
    assert machine.seconds - 1000 == pytest.approx(10, abs=0.2)


def test_nothing_is_heard_before_its_market_time():
    for heard_at, batch in listened(NOON + 3 * MINUTE, grace=0.5):
        assert heard_at >= time_of(batch[-1]) + timedelta(seconds=0.5 - 1e-5)


def test_batches_are_small_in_machine_time():
    batches = listened(NOON + 60 * MINUTE, speed=3600)
    assert max(time_of(b[-1]) - time_of(b[0]) for _, b in batches) <= timedelta(seconds=180)


def test_an_interval_asked_for_later_closes_from_then_on():
    wanted = {60}

    def ask(clock, batch):
        if batch[-1] == Closed(NOON + 2 * MINUTE):
            wanted.add(20)

    events = flat(listened(NOON + 3 * MINUTE, intervals=lambda: wanted, during=ask))
    closings = [(e.at - NOON).total_seconds() for e in events if isinstance(e, Closed)]
    assert closings == [60, 120, 140, 160, 180]


def test_with_no_interval_asked_for_prices_come_all_the_same():
    events = flat(listened(NOON + MINUTE, intervals=()))
    assert events
    assert not any(isinstance(event, Closed) for event in events)


def test_an_engine_that_stood_still_goes_on_from_where_the_market_was():
    """Ten machine seconds in a debugger are not ten minutes of market to be rushed through."""
    machine = FakeMachine()
    stood = []

    def stand_still(clock, batch):
        if batch[-1] == Closed(NOON + MINUTE) and not stood:
            machine.works(10)
            stood.append(machine.seconds)

    batches = listened(NOON + 3 * MINUTE, machine=machine, during=stand_still)
    assert machine.seconds - stood[0] == pytest.approx(2, abs=0.2)
    assert [e.at for e in flat(batches) if isinstance(e, Closed)] == [
        NOON + n * MINUTE for n in (1, 2, 3)
    ]


def test_a_short_delay_is_caught_up_with():
    machine = FakeMachine()
    worked = []

    def work(clock, batch):
        if batch[-1] == Closed(NOON + MINUTE) and not worked:
            worked.append(machine.works(1.0))

    listened(NOON + 4 * MINUTE, machine=machine, during=work)
    assert machine.seconds - 1000 == pytest.approx(4, abs=0.2)


def test_going_on_from_a_closing_is_going_on_without_a_gap():
    whole = flat(listened(NOON + 4 * MINUTE))
    first = flat(listened(NOON + 2 * MINUTE))
    rest = flat(listened(NOON + 4 * MINUTE, starts_at=NOON + 2 * MINUTE))
    cut = first.index(Closed(NOON + 2 * MINUTE)) + 1
    assert first[:cut] + rest == whole[: cut + len(rest)]


# The history feed -------------------------------------------------------------------------------


def bars_of(instrument_id, interval, minutes):
    return Bars.of(
        [
            Bar(
                instrument_id,
                interval,
                NOON + m * MINUTE,
                NOON + m * MINUTE + timedelta(seconds=interval),
                10.0 + m,
                11.0 + m,
                9.0 + m,
                10.5 + m,
                1.0,
            )
            for m in minutes
        ]
    )


SERIES = {
    (2, 60): bars_of(2, 60, [0, 1, 2, 4]),
    (1, 60): bars_of(1, 60, [0, 1, 2, 3, 4]),
    (1, 300): bars_of(1, 300, [0]),
}


def replayed(machine=None, series=SERIES, **options):
    machine = machine or FakeMachine()
    feed = HistoryFeed(series, now=machine.now, sleep=machine.sleep, **options)

    async def listen():
        return [batch async for batch in feed.events()]

    return asyncio.run(listen())


def test_a_moment_is_one_batch_of_all_bars_that_close_then():
    moments = replayed()
    assert [batch[-1].at for batch in moments] == [NOON + n * MINUTE for n in (1, 2, 3, 4, 5)]
    assert all(bar.closed_at == batch[-1].at for batch in moments for bar in batch[:-1])
    keys = [[(bar.instrument_id, bar.interval) for bar in batch[:-1]] for batch in moments]
    assert keys == [[(1, 60), (2, 60)]] * 3 + [[(1, 60)], [(1, 60), (1, 300), (2, 60)]]


def test_every_bar_comes_once_as_it_was_stored():
    bars = [bar for batch in replayed() for bar in batch[:-1]]
    for (instrument_id, interval), stored in SERIES.items():
        own = [b for b in bars if (b.instrument_id, b.interval) == (instrument_id, interval)]
        assert own == list(stored)


def test_going_on_skips_what_closed_at_or_before():
    later = replayed(starts_after=NOON + 3 * MINUTE)
    assert later == replayed()[3:]
    assert replayed(starts_after=NOON + 5 * MINUTE) == []


def test_no_bars_is_the_end_at_once():
    assert replayed(series={}) == []
    assert replayed(series={(1, 60): Bars.empty(1, 60)}) == []


def test_as_fast_as_it_goes_takes_no_machine_time():
    machine = FakeMachine()
    replayed(machine)
    assert machine.seconds == 1000


def test_bars_come_at_the_speed_asked_for():
    machine = FakeMachine()
    replayed(machine, speed=120)
    assert machine.seconds - 1000 == pytest.approx(4 * 0.5)


def test_a_night_is_not_waited_for():
    machine = FakeMachine()
    replayed(machine, series={(1, 60): bars_of(1, 60, [0, 1, 900])}, speed=60)
    assert machine.seconds - 1000 == pytest.approx(1 + 2)


def test_a_consumer_that_fell_behind_is_not_rushed():
    machine = FakeMachine()
    feed = HistoryFeed(SERIES, 60, now=machine.now, sleep=machine.sleep)

    async def listen():
        times = []
        async for _ in feed.events():
            times.append(machine.seconds)
            if len(times) == 2:
                machine.works(30)
        return times

    times = asyncio.run(listen())
    assert np.diff(times).tolist() == [1, 30, 1, 1]


def test_a_speed_below_nothing_is_refused():
    with pytest.raises(ValueError, match="speed -1"):
        HistoryFeed({}, -1)
