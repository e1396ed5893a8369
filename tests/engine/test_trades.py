"""Round trips: from flat to flat, and never a cent beside the cash."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.trades import round_trips
from engine.bars import Bars
from shared.domain.market import Bar
from shared.domain.orders import Leg, Side

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class AFill:
    side: Side = Side.BUY
    quantity: object = 1.0
    price: object = 100.0
    fee: object = 0.0
    at: datetime = NOON
    leg: str = Leg.ENTRY
    tag: str = ""
    instrument_id: int = 1


def bought(minute, quantity=1.0, price=100.0, **changes):
    return AFill(Side.BUY, quantity, price, at=NOON + minute * MINUTE, **changes)


def sold(minute, quantity=1.0, price=100.0, leg=Leg.EXIT, **changes):
    return AFill(Side.SELL, quantity, price, at=NOON + minute * MINUTE, leg=leg, **changes)


def bars_of(instrument_id=1, count=30, close=100.0):
    return Bars.of(
        [
            Bar(
                instrument_id,
                60,
                NOON + m * MINUTE,
                NOON + (m + 1) * MINUTE,
                close,
                close,
                close,
                close,
                1.0,
            )
            for m in range(count)
        ]
    )


BARS = {1: bars_of(), 2: bars_of(2)}


def test_a_trade_says_what_it_earned_after_fees_and_how_long_it_took():
    (trade,) = round_trips(
        [bought(5, 2.0, 100.0, fee=1.0, tag="dip"), sold(8, 2.0, 110.0, fee=2.0)], BARS
    )
    assert (trade.side, trade.quantity, trade.entry_price, trade.exit_price) == (
        "long",
        2,
        100,
        110,
    )
    assert (trade.fees, trade.pnl, trade.return_fraction) == (3, 17, 17 / 200)
    assert (trade.bars_held, trade.exit_reason, trade.tag) == (3, "exit", "dip")
    assert (trade.entry_at, trade.exit_at) == (NOON + 5 * MINUTE, NOON + 8 * MINUTE)
    assert not trade.is_open


def test_a_short_earns_when_the_price_falls():
    (trade,) = round_trips([sold(0, price=100.0, leg=Leg.ENTRY), bought(1, price=90.0)], BARS)
    assert (trade.side, trade.pnl, trade.return_fraction) == ("short", 10, 0.1)


def test_entries_and_exits_in_parts_are_one_trade_at_weighted_prices():
    (trade,) = round_trips(
        [bought(0, 1.0, 100.0), bought(1, 3.0, 120.0), sold(2, 1.0, 130.0), sold(3, 3.0, 110.0)],
        BARS,
    )
    assert (trade.quantity, trade.entry_price, trade.exit_price) == (4, 115, 115)
    assert trade.exit_at == NOON + 3 * MINUTE


def test_turning_round_ends_one_trade_and_begins_another_and_shares_the_fee():
    first, second = round_trips(
        [
            bought(0, 1.0, 100.0),
            sold(2, 4.0, 110.0, leg=Leg.ENTRY, fee=4.0, tag="turn"),
            bought(5, 3.0, 100.0, leg=Leg.EXIT),
        ],
        BARS,
    )
    assert (first.side, first.quantity, first.fees, first.pnl) == ("long", 1, 1, 9)
    assert first.exit_reason == "exit"
    assert (second.side, second.quantity, second.fees, second.pnl) == ("short", 3, 3, 27)
    assert (second.entry_at, second.tag) == (first.exit_at, "turn")


@pytest.mark.parametrize("leg", [*(leg for leg in Leg if leg.is_protective), "time_exit"])
def test_the_last_exit_says_why_a_trade_ended(leg):
    fills = [bought(0, 2.0), sold(1, 1.0), sold(2, 1.0, leg=leg)]
    (trade,) = round_trips(fills, BARS)
    assert trade.exit_reason == str(leg)


def test_an_open_trade_is_worth_the_last_close():
    (trade,) = round_trips(
        [bought(25, 2.0, 90.0, fee=1.0), sold(26, 1.0, 95.0)], {1: bars_of(close=99.0)}
    )
    assert (trade.exit_at, trade.exit_price, trade.exit_reason) == (None, None, "open")
    assert trade.pnl == 95 + 99 - 180 - 1
    assert trade.is_open
    assert trade.bars_held == 5


def test_a_stop_inside_the_bar_of_the_entry_was_held_for_one_bar():
    (trade,) = round_trips([bought(4), sold(5, leg=Leg.STOP_LOSS)], BARS)
    assert trade.bars_held == 1


def test_what_floats_leave_over_is_no_position():
    fills = [bought(0, 0.1), bought(1, 0.2), sold(2, 0.3), bought(3, 1.0), sold(4, 1.0)]
    trades = round_trips(fills, BARS)
    assert [trade.is_open for trade in trades] == [False, False]


def test_in_decimals_the_smallest_quantity_is_a_position():
    tiny = Decimal("1e-18")
    fills = [
        replace(bought(0, Decimal(1), Decimal(100)), fee=Decimal(0)),
        replace(sold(1, 1 - tiny, Decimal(100)), fee=Decimal(0)),
    ]
    (trade,) = round_trips(fills, BARS)
    assert trade.is_open


def test_instruments_are_kept_apart_and_trades_come_by_entry():
    fills = [
        bought(0, instrument_id=2),
        bought(1),
        sold(2, instrument_id=2),
        sold(3),
        bought(4, instrument_id=2),
    ]
    trades = round_trips(fills, BARS)
    assert [(trade.instrument_id, trade.is_open) for trade in trades] == [
        (2, False),
        (1, False),
        (2, True),
    ]


def test_no_fills_are_no_trades():
    assert round_trips([], BARS) == []


def decimals(most, places):
    return st.integers(1, most).map(lambda n: Decimal(n).scaleb(-places))


histories = st.lists(
    st.builds(
        AFill,
        side=st.sampled_from(Side),
        quantity=decimals(500, 2),
        price=decimals(10_000, 1),
        fee=decimals(100, 2),
        leg=st.sampled_from([Leg.ENTRY, Leg.EXIT, Leg.STOP_LOSS]),
        instrument_id=st.sampled_from([1, 2]),
    ),
    max_size=30,
).map(lambda fills: [replace(f, at=NOON + i * MINUTE) for i, f in enumerate(fills)])


def as_floats(fill):
    return replace(
        fill, quantity=float(fill.quantity), price=float(fill.price), fee=float(fill.fee)
    )


@given(histories)
def test_trades_earn_what_the_cash_says(fills):
    """However fills split, flip or average: cash in minus cash out plus what is held, to the digit."""
    trades = round_trips(fills, BARS)
    cash = sum((-f.side.sign * f.quantity * f.price - f.fee for f in fills), Decimal(0))
    held = sum((f.side.sign * f.quantity for f in fills), Decimal(0))
    earned = sum((trade.pnl for trade in trades), Decimal(0))
    assert abs(earned - (cash + held * 100)) < Decimal("1e-18")
    assert abs(sum(t.fees for t in trades) - sum(f.fee for f in fills)) < Decimal("1e-18")


@given(histories)
def test_trades_follow_each_other_and_at_most_the_last_is_open(fills):
    trades = round_trips(fills, BARS)
    for instrument_id in (1, 2):
        own = [trade for trade in trades if trade.instrument_id == instrument_id]
        for before, after in pairwise(own):
            assert before.exit_at <= after.entry_at
        held = sum(f.side.sign * f.quantity for f in fills if f.instrument_id == instrument_id)
        assert [t.is_open for t in own] == [False] * (len(own) - (held != 0)) + [True] * (held != 0)


@given(histories)
def test_floats_and_decimals_tell_the_same_trades(fills):
    exact, quick = round_trips(fills, BARS), round_trips([as_floats(f) for f in fills], BARS)
    assert [(t.side, t.entry_at, t.exit_at) for t in exact] == [
        (t.side, t.entry_at, t.exit_at) for t in quick
    ]
    for left, right in zip(exact, quick, strict=True):
        assert float(left.pnl) == pytest.approx(right.pnl, abs=1e-6)
