"""Whatever a venue tells, in whatever order: one outcome, and every fill exactly once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.orders import (
    Acknowledged,
    Amended,
    AmendRefused,
    Cancelled,
    CancelRefused,
    CancelSent,
    Expired,
    Fill,
    Leg,
    Order,
    OrderRequest,
    OrderState,
    OrderType,
    Rejected,
    Side,
    Submitted,
    Triggered,
    WentUnknown,
    advance,
)
from tests.builders import START

ORDER = UUID(int=7)


def submitted(quantity=10, value=None):
    request = OrderRequest(
        ORDER, UUID(int=1), 1, 1, 1, Leg.ENTRY, Side.BUY, OrderType.LIMIT, START,
        quantity=None if value else Decimal(quantity), value=value, limit_price=100.0,
    )  # fmt: skip
    return advance(Order(request), Submitted(START))


def fill(number, quantity, price=100, last=False):
    return Fill(
        ORDER, f"f{number}", 1, 1, 1, Side.BUY, Decimal(quantity), Decimal(price), Decimal("0.1"),
        "USD", START + timedelta(seconds=number), last=last,
    )  # fmt: skip


def outcome(order):
    """All that matters of an order, whatever came first."""
    return (
        order.state, order.filled, order.filled_value, order.fees, frozenset(order.fill_ids),
        order.quantity, order.limit_price, order.stop_price, order.venue_order_id, order.ended,
        order.revision, order.is_triggered,
    )  # fmt: skip


ENDS = [Cancelled(START, "asked"), Expired(START, "over"), Rejected(START, "no")]
AMENDMENTS = [
    Amended(START, 1, Decimal(12), 101.0, None),
    Amended(START, 2, Decimal(8), 101.0, 99.0),
]


@st.composite
def told(draw):
    """What a venue may tell of an order of 10: fills, at most all amendments and ends, and news."""
    sizes = draw(st.lists(st.integers(1, 6), max_size=4))
    fills = [fill(number, size) for number, size in enumerate(sizes)]
    amendments = draw(st.lists(st.sampled_from(AMENDMENTS), unique=True, max_size=2))
    ends = draw(st.lists(st.sampled_from(ENDS), unique=True, max_size=2))
    news = draw(
        st.lists(
            st.sampled_from(
                [
                    Acknowledged(START, "V1"),
                    CancelRefused(START),
                    AmendRefused(START),
                    Triggered(START),
                ]
            ),
            unique=True,
            max_size=2,
        )
    )
    again = draw(st.lists(st.sampled_from(fills), max_size=2)) if fills else []
    return [Acknowledged(START, "V1"), *fills, *amendments, *ends, *news, *again]


@given(told(), st.randoms(use_true_random=False), st.sampled_from([None, CancelSent(START)]))
@settings(max_examples=300)
def test_every_order_of_the_same_news_ends_the_same(events, dice, ours):
    start = submitted()
    if ours is not None:
        start = advance(start, ours)
    outcomes = set()
    for _ in range(12):
        order = start
        for event in events:
            order = advance(order, event)
        outcomes.add(outcome(order))
        dice.shuffle(events)
    assert len(outcomes) == 1
    unique = {event.venue_fill_id: event for event in events if isinstance(event, Fill)}
    assert order.filled == sum((f.quantity for f in unique.values()), Decimal(0))
    assert order.fees == sum((f.fee for f in unique.values()), Decimal(0))


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([fill(1, 6), fill(2, 4)], OrderState.FILLED),
        ([fill(1, 6), fill(2, 4), Cancelled(START)], OrderState.FILLED),
        ([fill(1, 6), Cancelled(START)], OrderState.CANCELLED),
        ([fill(1, 6), Amended(START, 1, Decimal(6))], OrderState.FILLED),
        ([fill(1, 10), Amended(START, 1, Decimal(12))], OrderState.WORKING),
        ([fill(1, 10), Amended(START, 1, Decimal(12)), Cancelled(START)], OrderState.CANCELLED),
        ([Rejected(START), Expired(START), Cancelled(START)], OrderState.CANCELLED),
        ([Rejected(START), Expired(START), fill(1, 3)], OrderState.EXPIRED),
        ([Acknowledged(START), fill(1, 3)], OrderState.WORKING),
        ([CancelRefused(START), fill(1, 10), Amended(START, 1, Decimal(12))], OrderState.WORKING),
    ],
)
def test_all_permutations_of_a_few_stories(events, state):
    for order_of_events in permutations(events):
        order = submitted()
        for event in order_of_events:
            order = advance(order, event)
        assert order.state is state, order_of_events


def test_a_cancel_that_was_sent_is_not_forgotten_while_the_order_seemed_filled():
    for events in permutations([fill(1, 10), Amended(START, 1, Decimal(12))]):
        order = advance(submitted(), CancelSent(START))
        for event in events:
            order = advance(order, event)
        assert order.state is OrderState.CANCELLING


def test_a_value_order_ends_when_the_venue_says_so_in_any_order():
    for events in permutations([fill(1, 3), fill(2, 4, last=True), Acknowledged(START)]):
        order = submitted(value=Decimal(700))
        for event in events:
            order = advance(order, event)
        assert (order.state, order.filled) == (OrderState.FILLED, 7)


def test_unknown_is_settled_by_whatever_the_venue_says_and_never_resent():
    silent = advance(submitted(), WentUnknown(START, "timeout"))
    assert silent.state is OrderState.UNKNOWN
    assert not silent.is_done, "its exposure counts until it is settled"
    for event, state in (
        (Acknowledged(START, "V1"), OrderState.WORKING),
        (fill(1, 10), OrderState.FILLED),
        (fill(1, 1), OrderState.WORKING),
        (Amended(START, 1), OrderState.WORKING),
        (Cancelled(START), OrderState.CANCELLED),
        (Expired(START), OrderState.EXPIRED),
        (Rejected(START), OrderState.REJECTED),
    ):
        assert advance(silent, event).state is state
    for ended in (Cancelled(START), Expired(START), Rejected(START), fill(1, 10)):
        done = advance(submitted(), ended)
        assert advance(done, WentUnknown(START)).state is done.state, "it is known already"
