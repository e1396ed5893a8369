"""The simulator: one market per seed, on the grid of its venue, and one that trades like one."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars import BarBuilder, Bars
from engine.feeds.simulated import SPECS, VENUE, SimulatedMarket
from shared.domain.instruments import Instrument
from shared.domain.market import Quote, Tick

GENESIS = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def an_instrument(symbol, number):
    spec = SPECS[symbol]
    return Instrument(number, VENUE, symbol, *symbol.split("/"), spec.tick_size, spec.lot_size)


INSTRUMENTS = {symbol: an_instrument(symbol, 11 + i) for i, symbol in enumerate(SPECS)}


def a_market(seed=7, instruments=INSTRUMENTS):
    return SimulatedMarket(seed, GENESIS, instruments)


MARKET = a_market()


def happened_at(event):
    return event.traded_at if isinstance(event, Tick) else event.quoted_at


def heard(market, after, until):
    return list(takewhile(lambda event: happened_at(event) < until, market.events(after)))


def one_day_of_ticks(symbol="ETH/USD", day=3):
    start = GENESIS + day * DAY
    own = INSTRUMENTS[symbol].id
    return [
        e
        for e in heard(MARKET, start, start + DAY)
        if isinstance(e, Tick) and e.instrument_id == own
    ]


def same(left, right):
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "filled")
    )


# One market per seed ----------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 4 * 86_400_000_000), st.integers(0, 10**6))
def test_an_engine_that_went_away_hears_what_one_that_stayed_hears(microseconds, skipped):
    stayed = a_market()
    left_at = GENESIS + timedelta(microseconds=microseconds)
    until = left_at + timedelta(minutes=20)
    went_away = heard(a_market(), left_at, until)
    since_before = heard(stayed, left_at - timedelta(microseconds=skipped), until)
    assert [event for event in since_before if happened_at(event) > left_at] == went_away


def test_going_on_right_after_an_event_neither_repeats_nor_loses_one():
    events = list(islice(MARKET.events(GENESIS + 5 * HOUR), 200))
    for event, following in pairwise(events):
        assert next(MARKET.events(happened_at(event))) == following


def test_a_day_is_the_same_whether_or_not_the_days_before_it_were_made():
    fresh = a_market()
    late = list(islice(fresh.events(GENESIS + 900 * DAY), 100))
    walked = a_market()
    for day in (0, 1, 899):
        next(walked.events(GENESIS + day * DAY))
    assert list(islice(walked.events(GENESIS + 900 * DAY), 100)) == late


def test_an_instrument_trades_alike_whoever_trades_beside_it():
    alone = a_market(instruments={"SOL/USD": INSTRUMENTS["SOL/USD"]})
    own = INSTRUMENTS["SOL/USD"].id
    among = [e for e in heard(MARKET, GENESIS, GENESIS + HOUR) if e.instrument_id == own]
    assert heard(alone, GENESIS, GENESIS + HOUR) == among


def test_another_seed_is_another_market():
    first = list(islice(MARKET.events(GENESIS), 50))
    other = list(islice(a_market(seed=8).events(GENESIS), 50))
    assert first != other


def test_before_genesis_nothing_was_said():
    early = list(islice(MARKET.events(GENESIS - DAY), 10))
    assert early == list(islice(MARKET.events(GENESIS - timedelta(microseconds=1)), 10))
    assert happened_at(early[0]) > GENESIS


def test_events_come_in_time_order_across_midnight_and_never_two_at_once_or_on_a_whole_second():
    start = GENESIS + DAY - timedelta(minutes=5)
    times = [happened_at(event) for event in heard(MARKET, start, start + timedelta(minutes=10))]
    assert times[-1] > GENESIS + DAY
    assert all(before < after for before, after in pairwise(times))
    assert all(at.microsecond for at in times)


# Like a venue -----------------------------------------------------------------------------------


def test_prices_and_quantities_are_on_their_grids_and_a_tick_trades_at_or_beyond_the_quote():
    grids = {i.id: (i.tick_size, i.lot_size) for i in INSTRUMENTS.values()}
    quotes = {}
    start = GENESIS + 2 * DAY - timedelta(minutes=15)
    for event in heard(MARKET, start - timedelta(minutes=1), start + timedelta(minutes=30)):
        tick_size, lot_size = grids[event.instrument_id]
        if isinstance(event, Quote):
            assert event.bid % tick_size == event.ask % tick_size == 0
            assert 0 < event.bid < event.ask
            quotes[event.instrument_id] = event
        elif happened_at(event) >= start:
            assert event.price % tick_size == event.quantity % lot_size == 0
            assert event.quantity > 0
            quote = quotes[event.instrument_id]
            beyond = max(quote.bid - event.price, event.price - quote.ask)
            assert 0 <= beyond <= 3 * tick_size


def test_a_minute_has_about_a_dozen_ticks_and_a_dozen_quotes():
    events = [e for e in heard(MARKET, GENESIS, GENESIS + DAY) if e.instrument_id == 12]
    ticks = sum(isinstance(event, Tick) for event in events)
    assert 8 <= ticks / 1440 <= 15
    assert (len(events) - ticks) / 1440 == 12


def test_some_minutes_are_quiet_and_most_are_not():
    minutes = {tick.traded_at.replace(second=0, microsecond=0) for tick in one_day_of_ticks()}
    quiet = {s: MARKET.bars(s, 60, GENESIS, GENESIS + 20 * DAY).filled.mean() for s in SPECS}
    assert len(minutes) > 1300
    assert all(0.002 < share < 0.06 for share in quiet.values()), quiet


@pytest.fixture(scope="module")
def months():
    """Sixty days of one-minute bars of each instrument."""
    return {symbol: MARKET.bars(symbol, 60, GENESIS, GENESIS + 60 * DAY) for symbol in SPECS}


def test_a_minute_moves_about_a_tenth_of_a_percent(months):
    for bars in months.values():
        returns = np.diff(np.log(bars.close))
        assert 0.0005 < returns.std() < 0.0018
        assert 0.0003 < np.median(np.abs(returns)) / 0.6745 < 0.0012


def test_tails_are_fat_and_volatility_clusters_but_returns_do_not_repeat(months):
    for bars in months.values():
        returns = np.diff(np.log(bars.close))
        standard = (returns - returns.mean()) / returns.std()
        assert (standard**4).mean() > 6
        assert np.corrcoef(np.abs(returns[10:]), np.abs(returns[:-10]))[0, 1] > 0.08
        assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.06


def test_prices_jump_about_once_a_day(months):
    """A jump stands out from the hour it happened in."""
    for bars in months.values():
        moves = np.abs(np.diff(np.log(bars.close)))
        hours = np.lib.stride_tricks.sliding_window_view(moves, 61)
        jumps = (hours[:, 30] > 0.004) & (hours[:, 30] > 8 * np.median(hours, axis=1))
        assert 0.4 < jumps.sum() / 60 < 2


def test_a_liquidity_rule_of_five_percent_allows_4000_usd_nearly_always_but_not_always(months):
    for bars in months.values():
        value = np.convolve(bars.close * bars.volume, np.full(20, 1 / 20), mode="valid")
        denied = (0.05 * value < 4000).mean()
        assert 0.003 < denied < 0.06
        assert 300_000 < np.median(bars.close * bars.volume) < 2_000_000


def test_instruments_move_together_in_part(months):
    moves = [np.diff(np.log(bars.close)) for bars in months.values()]
    shared = np.corrcoef(moves)[np.triu_indices(len(moves), 1)]
    assert (shared > 0.1).all()
    assert (shared < 0.8).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prices_stay_within_a_plausible_band_for_ten_years(seed):
    market = a_market(seed)
    for symbol in SPECS:
        for day in range(0, 3650, 365):
            starts_at = GENESIS + day * DAY
            bars = market.bars(symbol, 3600, starts_at, starts_at + DAY)
            assert bars.low.min() > SPECS[symbol].price / 5
            assert bars.high.max() < SPECS[symbol].price * 5


# Bars -------------------------------------------------------------------------------------------


def built(ticks, interval, starts_at, ends_at, instrument_id):
    builder = BarBuilder(instrument_id, interval)
    bars, coming = [], list(ticks)
    step = timedelta(seconds=interval)
    at = starts_at + step
    while at <= ends_at:
        while coming and coming[0].traded_at < at:
            builder.add(coming.pop(0))
        bars.append(builder.close(at))
        at += step
    return Bars.of([bar for bar in bars if bar is not None])


@pytest.mark.parametrize("symbol", SPECS)
@pytest.mark.parametrize("interval", [1, 60, 420, 3600])
def test_bars_are_what_the_builder_makes_of_the_same_ticks(symbol, interval):
    """From genesis on, over seven hours that hold quiet minutes; 420 s do not divide the day."""
    instrument_id = INSTRUMENTS[symbol].id
    starts_at = GENESIS - timedelta(seconds=GENESIS.timestamp() % interval)
    ends_at = starts_at + 7 * HOUR
    ticks = [e for e in heard(MARKET, starts_at, ends_at) if isinstance(e, Tick)]
    own = [tick for tick in ticks if tick.instrument_id == instrument_id]
    expected = built(own, interval, starts_at, ends_at, instrument_id)
    assert same(MARKET.bars(symbol, interval, starts_at, ends_at), expected)


def test_bars_over_midnight_and_longer_than_a_day_agree_with_shorter_ones():
    hours = MARKET.bars("ETH/USD", 3600, GENESIS, GENESIS + 6 * DAY)
    days = MARKET.bars("ETH/USD", 2 * 86_400, GENESIS, GENESIS + 6 * DAY)
    assert days.close.tolist() == hours.close[47::48].tolist()
    assert days.high.tolist() == hours.high.reshape(-1, 48).max(axis=1).tolist()
    assert days.volume == pytest.approx(hours.volume.reshape(-1, 48).sum(axis=1), rel=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 3 * 86_400), st.integers(0, 86_400))
def test_a_part_of_the_bars_is_a_part_of_the_whole(start, length):
    starts_at = GENESIS + timedelta(seconds=start)
    ends_at = starts_at + timedelta(seconds=length)
    whole = MARKET.bars("XRP/USD", 300, GENESIS, GENESIS + 4 * DAY)
    part = MARKET.bars("XRP/USD", 300, starts_at, ends_at)
    assert same(part, whole.between(starts_at, ends_at))


def test_the_first_second_of_a_day_carries_the_last_price_of_the_day_before():
    midnight = GENESIS + 2 * DAY
    whole = MARKET.bars("SOL/USD", 1, midnight - HOUR, midnight + HOUR)
    part = MARKET.bars("SOL/USD", 1, midnight, midnight + HOUR)
    assert part.filled[0]
    assert same(part, whole.between(midnight, None))


def test_before_the_first_price_there_is_no_bar():
    bars = MARKET.bars("BTC/USD", 60, GENESIS - DAY, GENESIS + HOUR)
    assert bars.bar(0).opened_at >= GENESIS
    assert not bars.filled[0]
    assert len(MARKET.bars("BTC/USD", 60, GENESIS - DAY, GENESIS)) == 0


@pytest.mark.parametrize(
    ("genesis", "instruments", "complaint"),
    [
        (GENESIS + HOUR, INSTRUMENTS, "midnight"),
        (GENESIS, {"DOGE/USD": INSTRUMENTS["BTC/USD"]}, "DOGE/USD"),
    ],
)
def test_a_market_that_cannot_be_says_why(genesis, instruments, complaint):
    with pytest.raises(ValueError, match=complaint):
        SimulatedMarket(1, genesis, instruments)
