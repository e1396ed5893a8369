"""Orders: whatever arrives, in whatever order, fills are never lost or doubled."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.identity import RESEARCH_ACCOUNT, client_order_id, decision_id
from shared.domain.orders import (
    DONE,
    NEXT,
    Acknowledged,
    Cancelled,
    CancelRefused,
    CancelSent,
    Expired,
    Fill,
    Held,
    ImpossibleEvent,
    Leg,
    Order,
    OrderRequest,
    OrderState,
    OrderType,
    Rejected,
    Side,
    Submitted,
    WentUnknown,
    advance,
    overfilled,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
S = OrderState


def an_order(**changed):
    given_ = {
        "client_order_id": uuid4(), "decision_id": uuid4(), "account_id": 1, "strategy_id": 1,
        "instrument_id": 1, "leg": Leg.ENTRY, "side": Side.BUY, "type": OrderType.MARKET,
        "decided_at": NOON, "quantity": Decimal(3),
    }  # fmt: skip
    return Order(OrderRequest(**{**given_, **changed}))


def a_fill(order, id="a", quantity=1, price=100, **changed):
    request = order.request
    return Fill(
        request.client_order_id, id, 1, 1, 1, request.side, Decimal(quantity), Decimal(price),
        Decimal("0.1"), "USD", NOON, **changed,
    )  # fmt: skip


def heard(order, *events):
    for event in events:
        order = advance(order, event)
    return order


def test_an_order_that_fills_in_parts_is_filled_when_all_has_traded():
    order = an_order()
    order = heard(
        order,
        Submitted(NOON),
        Acknowledged(NOON),
        a_fill(order, "a", 1),
        a_fill(order, "b", 2, 103),
    )
    assert order.state is S.FILLED
    assert order.filled_value == 306
    assert order.fees == Decimal("0.2")


def test_a_fill_before_the_acknowledgement_proves_acceptance():
    order = an_order()
    order = heard(order, Submitted(NOON), a_fill(order, "a", 3), Acknowledged(NOON))
    assert order.state is S.FILLED


def test_cancelled_is_not_final_when_a_fill_comes_late():
    order = an_order()
    order = heard(order, Submitted(NOON), CancelSent(NOON), Cancelled(NOON), a_fill(order, "a", 1))
    assert (order.state, order.filled) == (S.CANCELLED, 1)
    assert heard(order, a_fill(order, "b", 2)).state is S.FILLED


def test_a_refused_cancel_leaves_the_order_working():
    assert (
        heard(an_order(), Submitted(NOON), CancelSent(NOON), CancelRefused(NOON)).state is S.WORKING
    )


def test_a_write_without_an_answer_is_unknown_until_the_venue_says():
    unknown = heard(an_order(), Submitted(NOON), WentUnknown(NOON))
    assert unknown.state is S.UNKNOWN
    assert not unknown.is_done
    for answer, state in (
        (Acknowledged(NOON), S.WORKING),
        (Rejected(NOON), S.REJECTED),
        (Expired(NOON), S.EXPIRED),
    ):
        assert advance(unknown, answer).state is state


def test_a_value_order_is_filled_when_the_venue_says_nothing_is_left():
    order = an_order(quantity=None, value=Decimal(500))
    assert heard(order, Submitted(NOON), a_fill(order, "a", 4, last=False)).state is S.WORKING
    assert heard(order, Submitted(NOON), a_fill(order, "a", 4, last=True)).state is S.FILLED


def test_what_the_table_does_not_know_is_an_impossible_event():
    with pytest.raises(ImpossibleEvent, match="is new; heard Cancelled"):
        advance(an_order(), Cancelled(NOON))


def test_more_filled_than_asked_is_told():
    order = an_order()
    assert overfilled(heard(order, Submitted(NOON), a_fill(order, "a", 4)))
    assert not overfilled(heard(order, Submitted(NOON), a_fill(order, "a", 3)))


@pytest.mark.parametrize(
    "state", [*sorted(DONE), S.UNKNOWN, S.CANCELLING, S.SUBMITTED, S.WORKING], ids=str
)
def test_every_state_in_which_a_venue_may_know_the_order_accepts_a_fill(state):
    assert (state, Fill) in NEXT


def test_every_order_of_the_same_news_ends_in_the_same_state():
    order = advance(an_order(), Submitted(NOON))
    news = (Acknowledged(NOON), a_fill(order, "a", 1), a_fill(order, "b", 2))
    ends = {heard(order, *shuffled).state for shuffled in itertools.permutations(news)}
    assert ends == {S.FILLED}


EVENTS = st.sampled_from(
    [
        "submitted",
        "held",
        "ack",
        "cancel_sent",
        "cancel_refused",
        "cancelled",
        "expired",
        "rejected",
        "unknown",
        "fill",
    ]
)


@given(st.lists(st.tuples(EVENTS, st.integers(0, 4)), max_size=15))
def test_fills_are_never_lost_or_doubled_whatever_arrives(history):
    order, expected = advance(an_order(), Submitted(NOON)), {}
    others = {
        "submitted": Submitted(NOON), "held": Held(NOON), "ack": Acknowledged(NOON),
        "cancel_sent": CancelSent(NOON), "cancel_refused": CancelRefused(NOON),
        "cancelled": Cancelled(NOON), "expired": Expired(NOON), "rejected": Rejected(NOON),
        "unknown": WentUnknown(NOON),
    }  # fmt: skip
    for kind, number in history:
        event = a_fill(order, str(number), number + 1) if kind == "fill" else others[kind]
        try:
            order = advance(order, event)
        except ImpossibleEvent:
            assert kind != "fill"
            continue
        if kind == "fill":
            expected[str(number)] = number + 1
    assert order.filled == sum(expected.values())
    assert sorted(order.fill_ids) == sorted(expected)


def test_ids_are_what_the_decision_was():
    same = [client_order_id(1, 2, 3, NOON, "entry") for _ in range(2)]
    assert same[0] == same[1]
    others = {
        client_order_id(1, 2, 3, NOON, "entry", 1), client_order_id(1, 2, 3, NOON, "exit"),
        client_order_id(9, 2, 3, NOON, "entry"), decision_id(1, 2, 3, NOON, "signal"), same[0],
    }  # fmt: skip
    assert len(others) == 5


@pytest.mark.parametrize("year", [1962, 1970, 2026, 2200])
def test_ids_of_research_are_as_different_and_sound(year):
    """IBM's prices begin in 1962."""
    legs = ("entry", "exit", "stop_loss", "take_profit", "time_exit.exit", "liquidation.exit")
    first = NOON.replace(year=year)
    ids = {
        maker(RESEARCH_ACCOUNT, strategy, instrument, first + timedelta(microseconds=m), name)
        for maker, names in ((client_order_id, legs), (decision_id, ("signal", "time_exit")))
        for name in names
        for strategy in (1, 2)
        for instrument in (1, 2, 40_000)
        for m in (0, 1, 60_000_000)
    }
    assert len(ids) == (6 + 2) * 2 * 3 * 3
    for one in ids:
        assert UUID(str(one)) == one
        assert (one.version, one.variant) == (8, RFC_4122)
    assert decision_id(RESEARCH_ACCOUNT, 1, 2, first, "signal") in ids
