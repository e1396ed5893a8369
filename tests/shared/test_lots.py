"""Lots against examples worked out by hand, and against the position they must agree with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ledger import entries_of
from shared.domain.lots import (
    Method,
    Moved,
    NoSuchLot,
    Resized,
    Traded,
    events_of,
    is_dust,
    lots,
)
from shared.domain.orders import Fill, Side
from shared.domain.positions import Position
from tests.builders import an_instrument

START = datetime(2025, 1, 1, tzinfo=UTC)
KEY = (1, 1)
D = Decimal


def traded(day: int, quantity: object, value: object, fee: object = 0, key=KEY) -> Traded:
    at = START + timedelta(days=day)
    return Traded(key, at, D(str(quantity)), D(str(value)), D(str(fee)), f"t{day}")


# Bought 1 at 100, 1 at 300, 1 at 200; sold 1 at 400.
BOUGHT = [traded(0, 1, 100), traded(1, 1, 300), traded(2, 1, 200)]


@pytest.mark.parametrize(
    ("method", "gain", "left"),
    [
        (Method.FIFO, 300, [300, 200]),
        (Method.LIFO, 200, [100, 300]),
        (Method.HIFO, 100, [100, 200]),
        (Method.AVERAGE, 200, [200, 200]),
    ],
)
def test_each_method_sells_the_lot_it_says(method, gain, left):
    open_lots, closed = lots([*BOUGHT, traded(3, -1, 400)], method)
    assert [lot.gain for lot in closed] == [gain]
    assert [lot.cost for lot in open_lots] == left


@pytest.mark.parametrize(
    ("method", "gain"),
    [(Method.FIFO, -50), (Method.LIFO, 50), (Method.HIFO, -50), (Method.AVERAGE, 50)],
)
def test_short_lots_are_bought_back_in_the_methods_order(method, gain):
    """Sold at 100, 300, 200; one bought back at 150. Short, the dearest is the one that brought least."""
    sold = [traded(0, -1, 100), traded(1, -1, 300), traded(2, -1, 200)]
    open_lots, closed = lots([*sold, traded(3, 1, 150)], method)
    assert [lot.gain for lot in closed] == [gain]
    assert closed[0].is_short
    assert closed[0].term == "short"
    assert closed[0].disposed_at < closed[0].acquired_at
    assert sum(lot.quantity for lot in open_lots) == -2


def test_a_sale_across_lots_gives_each_part_its_share_of_proceeds_and_fees():
    _, closed = lots(
        [traded(0, 1, 100, 1), traded(1, 3, 600, 3), traded(2, -3, 900, 9)], Method.FIFO
    )
    first, second = closed
    assert (first.quantity, first.proceeds, first.cost, first.fees) == (1, 300, 100, 1 + 3)
    assert (second.quantity, second.proceeds, second.cost, second.fees) == (2, 600, 400, 2 + 6)


def test_a_trade_beyond_flat_closes_all_and_opens_the_other_way():
    open_lots, closed = lots([traded(0, 1, 100), traded(1, -3, 600, 3)], Method.FIFO)
    assert (closed[0].gain, closed[0].fees) == (99, 1)
    assert [(lot.quantity, lot.cost, lot.fees) for lot in open_lots] == [(-2, -400, 2)]


@pytest.mark.parametrize(("days", "term"), [(365, "short"), (366, "long")])
def test_held_for_more_than_a_year_is_long_term(days, term):
    _, closed = lots([traded(0, 1, 100), traded(days, -1, 100)], Method.FIFO)
    assert closed[0].term == term


def test_a_split_changes_quantities_and_nothing_else():
    split = Resized(KEY, START + timedelta(days=3), D(9), "split")
    open_lots, closed = lots([*BOUGHT, split], Method.FIFO)
    assert closed == []
    assert [(lot.quantity, lot.cost) for lot in open_lots] == [(4, 100), (4, 300), (4, 200)]
    _, closed = lots([*BOUGHT, split, traded(4, -12, 600)], Method.FIFO)
    assert sum(lot.gain for lot in closed) == 0


def test_a_reverse_split_that_does_not_come_out_even_loses_nothing():
    lots_of_ones = [traded(day, 1, 100) for day in range(10)]
    split = Resized(KEY, START + timedelta(days=11), D("-6.666666666667"), "split")
    open_lots, _ = lots([*lots_of_ones, split], Method.FIFO)
    assert sum(lot.quantity for lot in open_lots) == D("3.333333333333")
    assert sum(lot.cost for lot in open_lots) == 1000


def test_a_symbol_change_keeps_cost_and_age():
    moved = Moved(KEY, (1, 2), START + timedelta(days=9), D(3), D(6), "renamed")
    open_lots, closed = lots([*BOUGHT, moved], Method.FIFO)
    assert closed == []
    assert {lot.key for lot in open_lots} == {(1, 2)}
    assert [(lot.quantity, lot.cost, lot.opened_at.day) for lot in open_lots] == [
        (2, 100, 1), (2, 300, 2), (2, 200, 3),
    ]  # fmt: skip


def test_moving_more_than_there_is_says_so():
    moved = Moved(KEY, (1, 2), START, D(5), D(5), "renamed")
    with pytest.raises(NoSuchLot, match="more than is held"):
        lots([*BOUGHT, moved], Method.FIFO)


def test_dust_is_what_cannot_be_sold_or_is_not_worth_it():
    assert is_dust(D("0.0001"), D(100), D("0.001"), None)
    assert is_dust(D("0.5"), D(1), D("0.001"), D(1))
    assert not is_dust(D("1.5"), D(1), D("0.001"), D(1))
    assert not is_dust(D("0.5"), None, None, D(1))
    assert not is_dust(D(0), D(1), D(1), D(1))


fills = st.builds(
    lambda side, quantity, price, fee, owner: Fill(
        uuid4(), str(uuid4()), 1, owner, 1, side, quantity, price, fee, "USD", START
    ),
    st.sampled_from(Side),
    st.decimals("0.001", "50", places=3),
    st.decimals("1", "1000", places=2),
    st.decimals("-2", "5", places=2),
    st.sampled_from((0, 1, 2)),
)
X = an_instrument()


@given(st.lists(fills, max_size=30), st.sampled_from(Method))
def test_whatever_the_method_cash_in_and_out_is_gain_and_what_is_held(history, method):
    """Gain of closed lots, less cost and fees of open ones, is what the cash says."""
    events = events_of(entry for fill in history for entry in entries_of(fill, X))
    open_lots, closed = lots(events, method)
    cash = sum((-f.side.sign * f.quantity * f.price - f.fee for f in history), D(0))
    told = sum((lot.gain for lot in closed), D(0))
    told -= sum((lot.cost + lot.fees for lot in open_lots), D(0))
    assert abs(told - cash) < D("1e-15")
    for owner in (0, 1, 2):
        held = sum((f.side.sign * f.quantity for f in history if f.strategy_id == owner), D(0))
        assert sum((lot.quantity for lot in open_lots if lot.key[0] == owner), D(0)) == held


@given(st.lists(fills, max_size=30))
def test_by_average_cost_lots_realise_what_the_position_says(history):
    positions = dict.fromkeys((0, 1, 2), Position(D(0), D(0), D(0), D(0)))
    for fill in history:
        positions[fill.strategy_id] = positions[fill.strategy_id].after(fill)
    events = events_of(entry for fill in history for entry in entries_of(fill, X))
    open_lots, closed = lots(events, Method.AVERAGE)
    for owner, position in positions.items():
        realised = sum((c.proceeds - c.cost for c in closed if c.key[0] == owner), D(0))
        assert abs(realised - position.realised) < D("1e-15")
        cost = sum((lot.cost for lot in open_lots if lot.key[0] == owner), D(0))
        assert abs(cost - position.cost) < D("1e-15")


def test_a_fee_in_the_thing_bought_takes_it_away():
    fill = Fill(uuid4(), "a", 1, 1, 1, Side.BUY, D(1), D(100), D("0.01"), "X1", START)
    open_lots, closed = lots(events_of(entries_of(fill, X)), Method.FIFO)
    assert [lot.quantity for lot in open_lots] == [D("0.99")]
    assert sum(lot.cost + lot.fees for lot in open_lots) - sum(c.gain for c in closed) == 100
    assert sum(lot.cost for lot in open_lots) == 99


def test_a_fee_in_a_third_asset_counts_at_the_rate_on_record():
    fill = Fill(uuid4(), "a", 1, 1, 1, Side.BUY, D(1), D(100), D(50), "KFEE", START)
    entries = entries_of(fill, X, lambda asset, amount: amount / 100 if asset == "KFEE" else None)
    open_lots, _ = lots(events_of(entries), Method.FIFO)
    assert [lot.fees for lot in open_lots] == [D("0.5")]
