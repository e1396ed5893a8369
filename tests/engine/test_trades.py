"""Round trips: from flat to flat, and never a cent beside the cash."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.results import LEGS, Trades
from engine.backtest.trades import round_trips
from engine.bars import Bars
from tests.engine.plain_trades import AFill, columns, plain_round_trips, told

NOON = 1_772_625_600_000_000_000
MINUTE = 60_000_000_000


def bought(minute, quantity=1.0, price=100.0, **changes):
    return AFill(1, quantity, price, at=NOON + minute * MINUTE, **changes)


def sold(minute, quantity=1.0, price=100.0, leg="exit", **changes):
    return AFill(-1, quantity, price, at=NOON + minute * MINUTE, leg=leg, **changes)


def bars_of(instrument=1, count=30, close=100.0, low=None, high=None, missing=()):
    """Minute bars from noon on; `low` and `high` by the bar."""
    minutes = np.array([m for m in range(count) if m not in missing], dtype=np.int64)
    flat = np.full(len(minutes), float(close))
    return Bars(
        instrument,
        60,
        NOON + minutes * MINUTE,
        NOON + (minutes + 1) * MINUTE,
        flat,
        flat if high is None else np.asarray(high, dtype=np.float64),
        flat if low is None else np.asarray(low, dtype=np.float64),
        flat,
        np.ones(len(minutes)),
        np.zeros(len(minutes), dtype=bool),
    )


BARS = {1: bars_of(), 2: bars_of(2)}


def trips(fills, bars=BARS):
    return told(round_trips(columns(fills), bars))


def test_a_trade_says_what_it_earned_after_fees_and_how_long_it_took():
    (trade,) = trips([bought(5, 2.0, 100.0, fee=1.0, tag="dip"), sold(8, 2.0, 110.0, fee=2.0)])
    assert (trade.side, trade.quantity) == ("long", 2)
    assert (trade.entry_price, trade.exit_price) == (100, 110)
    assert (trade.fees, trade.pnl, trade.return_fraction) == (3, 17, 17 / 200)
    assert (trade.bars_held, trade.exit_reason, trade.tag) == (3, "exit", "dip")
    assert (trade.entry_at, trade.exit_at) == (NOON + 5 * MINUTE, NOON + 8 * MINUTE)
    assert not trade.is_open


def test_excursions_are_those_of_columns_that_do_not_lie_in_one_piece():
    minutes = np.arange(30)
    low, high = 100.0 - minutes % 7, 100.0 + minutes % 5
    whole = bars_of(low=low, high=high)
    apart = bars_of(low=np.repeat(low, 2)[::2], high=np.stack([high, low], axis=1)[:, 0])
    assert not apart.high.flags.c_contiguous
    fills = columns([bought(3), sold(20)])
    found = [round_trips(fills, {1: bars}) for bars in (whole, apart)]
    assert (found[0].mae[0], found[0].mfe[0]) == (found[1].mae[0], found[1].mfe[0])
    assert found[0].mae[0] == pytest.approx(0.06)


def test_a_short_earns_when_the_price_falls():
    (trade,) = trips([sold(0, price=100.0, leg="entry"), bought(1, price=90.0)])
    assert (trade.side, trade.pnl, trade.return_fraction) == ("short", 10, 0.1)


def test_entries_and_exits_in_parts_are_one_trade_at_weighted_prices():
    (trade,) = trips(
        [bought(0, 1.0, 100.0), bought(1, 3.0, 120.0), sold(2, 1.0, 130.0), sold(3, 3.0, 110.0)]
    )
    assert (trade.quantity, trade.entry_price, trade.exit_price) == (4, 115, 115)
    assert trade.exit_at == NOON + 3 * MINUTE


def test_turning_round_ends_one_trade_and_begins_another_and_shares_the_fee():
    first, second = trips(
        [
            bought(0, 1.0, 100.0),
            sold(2, 4.0, 110.0, leg="entry", fee=4.0, tag="turn"),
            bought(5, 3.0, 100.0, leg="exit"),
        ]
    )
    assert (first.side, first.quantity, first.fees, first.pnl) == ("long", 1, 1, 9)
    assert first.exit_reason == "exit"
    assert (second.side, second.quantity, second.fees, second.pnl) == ("short", 3, 3, 27)
    assert (second.entry_at, second.tag) == (first.exit_at, "turn")


@pytest.mark.parametrize("leg", [leg for leg in LEGS if leg != "entry"])
def test_the_last_exit_says_why_a_trade_ended(leg):
    (trade,) = trips([bought(0, 2.0), sold(1, 1.0), sold(2, 1.0, leg=leg)])
    assert trade.exit_reason == leg


def test_an_open_trade_is_worth_the_last_close():
    (trade,) = trips(
        [bought(25, 2.0, 90.0, fee=1.0), sold(26, 1.0, 95.0)], {1: bars_of(close=99.0)}
    )
    assert (trade.exit_at, trade.exit_price, trade.exit_reason) == (None, None, "open")
    assert trade.pnl == 95 + 99 - 180 - 1
    assert trade.is_open
    assert trade.bars_held == 5


def test_a_stop_inside_the_bar_of_the_entry_was_held_for_one_bar():
    (trade,) = trips([bought(4), sold(5, leg="stop_loss")])
    assert trade.bars_held == 1


def test_what_floats_leave_over_is_no_position():
    fills = [bought(0, 0.1), bought(1, 0.2), sold(2, 0.3), bought(3, 1.0), sold(4, 1.0)]
    assert [trade.is_open for trade in trips(fills)] == [False, False]


def test_instruments_are_kept_apart_and_trades_come_by_entry():
    fills = [
        bought(0, instrument=2),
        bought(1),
        sold(2, instrument=2),
        sold(3),
        bought(4, instrument=2),
    ]
    assert [(trade.instrument, trade.is_open) for trade in trips(fills)] == [
        (2, False),
        (1, False),
        (2, True),
    ]


def test_no_fills_are_no_trades():
    found = round_trips(columns([]), BARS)
    assert len(found) == 0
    assert list(found.rows()) == list(Trades.none().rows()) == []


# How far prices went ------------------------------------------------------------------------------


LOW = [100.0 - m for m in range(30)]
HIGH = [100.0 + 2 * m for m in range(30)]
WIDE = {1: bars_of(low=LOW, high=HIGH)}


def test_the_bar_that_opens_with_the_entry_counts_and_the_one_that_opens_with_the_exit_does_not():
    (trade,) = trips([bought(3), sold(6)], WIDE)
    assert (trade.mae, trade.mfe) == pytest.approx((0.05, 0.10))
    assert trade.bars_held == 3


def test_a_stop_ends_within_the_bar_that_closes_then_and_that_bar_counts():
    (trade,) = trips([bought(3), sold(4, price=97.0, leg="stop_loss")], WIDE)
    assert (trade.mae, trade.mfe) == pytest.approx((0.03, 0.06))


def test_a_short_s_worst_price_is_the_highest():
    (trade,) = trips([sold(3, leg="entry"), bought(6, leg="exit")], WIDE)
    assert (trade.mae, trade.mfe) == pytest.approx((0.10, 0.05))


def test_the_price_of_the_exit_itself_was_met():
    (trade,) = trips([bought(0), sold(5, price=90.0)], BARS)
    assert (trade.mae, trade.mfe) == pytest.approx((0.10, 0.0))


def test_an_open_trade_has_met_everything_since():
    (trade,) = trips([bought(10)], WIDE)
    assert (trade.mae, trade.mfe) == pytest.approx((0.29, 0.58))


def test_a_trade_that_began_and_ended_at_one_instant_met_its_own_prices_only():
    (trade,) = trips([bought(5, price=100.0), sold(5, price=99.0, leg="stop_loss")], WIDE)
    assert (trade.bars_held, trade.mfe) == (0, 0)
    assert trade.mae == pytest.approx(0.01)


# Always -------------------------------------------------------------------------------------------


def decimals(most, places):
    return st.integers(1, most).map(lambda n: Decimal(n).scaleb(-places))


histories = st.lists(
    st.builds(
        AFill,
        side=st.sampled_from([1, -1]),
        quantity=decimals(500, 2),
        price=decimals(10_000, 1),
        fee=decimals(100, 2),
        leg=st.sampled_from(["entry", "exit", "stop_loss"]),
        tag=st.sampled_from(["", "dip", "rally"]),
        instrument=st.sampled_from([1, 2]),
    ),
    max_size=30,
).map(lambda fills: [replace(f, at=NOON + i * MINUTE) for i, f in enumerate(fills)])


@given(histories, st.sets(st.integers(1, 28), max_size=20))
def test_columns_are_what_one_fill_after_another_makes_in_exact_numbers(fills, missing):
    count = 30 - len(missing)
    bars = {
        1: bars_of(
            missing=missing,
            low=np.linspace(100, 3, count),
            high=np.linspace(110, 900, count),
        ),
        2: bars_of(2),
    }
    exact, quick = plain_round_trips(fills, bars), trips(fills, bars)
    same = ("instrument", "side", "entry_at", "exit_at", "bars_held", "exit_reason", "tag")
    assert [[getattr(t, name) for name in same] for t in exact] == [
        [getattr(t, name) for name in same] for t in quick
    ]
    for left, right in zip(exact, quick, strict=True):
        for name in ("quantity", "entry_price", "fees", "pnl", "return_fraction", "mae", "mfe"):
            assert float(getattr(left, name)) == pytest.approx(
                getattr(right, name), rel=1e-9, abs=1e-6
            ), name
        if not left.is_open:
            assert float(left.exit_price) == pytest.approx(right.exit_price, rel=1e-9)


@given(histories)
def test_trades_earn_what_the_cash_says(fills):
    """However fills split, flip or average: cash in minus cash out plus what is held."""
    trades = round_trips(columns(fills), BARS)
    cash = sum((-f.side * f.quantity * f.price - f.fee for f in fills), Decimal(0))
    held = sum((f.side * f.quantity for f in fills), Decimal(0))
    assert float(trades.pnl.sum()) == pytest.approx(float(cash + held * 100), abs=1e-6)
    assert float(trades.fees.sum()) == pytest.approx(float(sum(f.fee for f in fills)), abs=1e-9)


@given(histories)
def test_trades_follow_each_other_and_at_most_the_last_is_open(fills):
    trades = trips(fills)
    for instrument in (1, 2):
        own = [trade for trade in trades if trade.instrument == instrument]
        for before, after in pairwise(own):
            assert before.exit_at <= after.entry_at
        held = sum(f.side * f.quantity for f in fills if f.instrument == instrument)
        assert [t.is_open for t in own] == [False] * (len(own) - (held != 0)) + [True] * (held != 0)


@given(histories)
def test_no_trade_lost_or_earned_more_by_its_prices_than_they_ever_allowed(fills):
    bars = {1: bars_of(low=np.full(30, 90.0), high=np.full(30, 120.0)), 2: bars_of(2)}
    trades = round_trips(columns(fills), bars)
    gained = trades.return_fraction + trades.fees / (trades.quantity * trades.entry_price)
    assert (gained <= trades.mfe + 1e-9).all()
    assert (gained >= -trades.mae - 1e-9).all()
