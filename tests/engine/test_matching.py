"""Bars worked out by hand: at what price, and when, orders trade on paper."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from engine.costs import Costs
from engine.execution.paper import PaperBroker
from engine.portfolio import decimal_number
from shared.domain.market import Bar, Quote
from shared.domain.orders import (
    Acknowledged,
    Cancelled,
    CancelRefused,
    Fill,
    Held,
    Leg,
    OrderRequest,
    OrderType,
    Rejected,
    Side,
)
from tests.builders import START, an_instrument

MINUTE = timedelta(minutes=1)
DECISION = uuid4()


def a_bar(
    open=100.0, high=101.0, low=99.0, close=100.5, *, number=0, instrument_id=1, filled=False
):
    opened = START + number * MINUTE
    return Bar(instrument_id, 60, opened, opened + MINUTE, open, high, low, close, 1000.0, filled)


def a_request(**changed):
    given = {
        "client_order_id": uuid4(), "decision_id": DECISION, "account_id": 1, "strategy_id": 1,
        "instrument_id": 1, "leg": Leg.ENTRY, "side": Side.BUY, "type": OrderType.MARKET,
        "decided_at": START, "quantity": Decimal(2),
    }  # fmt: skip
    return OrderRequest(**{**given, **changed})


class Desk:
    """A broker, and what it told."""

    allow_short = False

    def __init__(self, cash="100000", fee=0.001, slippage=0.0, matching=None, held=0, **instrument):
        self.cash = Decimal(cash)
        instruments = {1: an_instrument(1, **instrument), 2: an_instrument(2, **instrument)}
        self.held = defaultdict(Decimal, {1: Decimal(held), 2: Decimal(held)})
        self.broker = PaperBroker(
            instruments,
            Costs(fee, slippage),
            decimal_number,
            self,
            matching,
        )
        self.told = []

    def power(self, instrument_id):
        return self.cash

    def held_by(self, strategy_id, instrument_id):
        return self.held[instrument_id]

    def hear(self, told):
        for order_id, event in told:
            if isinstance(event, Fill):
                self.cash -= event.side.sign * event.quantity * event.price + event.fee
                self.held[event.instrument_id] += event.side.sign * event.quantity
            self.told.append((order_id, event))

    def submit(self, *requests, at=START):
        for request in requests:
            self.hear(self.broker.submit(request, at))

    def bar(self, *args, **named):
        self.hear(self.broker.on_bars([a_bar(*args, **named)]))

    def fills(self):
        return [
            (float(event.price), float(event.quantity), event.at)
            for order_id, event in self.told
            if isinstance(event, Fill)
        ]

    def last(self, request):
        return [e for order_id, e in self.told if order_id == request.client_order_id][-1]


def protected_entry(**exits):
    """An entry with a stop loss and a take profit, as fractions or distances."""
    entry = a_request()
    legs = []
    for leg, kind, given in (
        (Leg.STOP_LOSS, OrderType.STOP, exits.get("stop")),
        (Leg.TAKE_PROFIT, OrderType.LIMIT, exits.get("target")),
        (Leg.TRAILING_STOP, OrderType.TRAILING_STOP, exits.get("trail")),
    ):
        if given is not None:
            legs.append(
                a_request(
                    leg=leg,
                    side=Side.SELL,
                    type=kind,
                    quantity=None,
                    parent_id=entry.client_order_id,
                    reduce_only=True,
                    **given,
                )
            )
    return entry, *legs


def test_a_market_order_fills_at_the_next_open():
    desk = Desk()
    desk.submit(a_request())
    desk.bar(100.0)
    assert desk.fills() == [(100.0, 2.0, START)]
    assert desk.told[-1][1].fee == Decimal("0.2")


def test_a_bar_that_opened_before_the_order_does_not_fill_it():
    desk = Desk()
    desk.submit(a_request(), at=START + MINUTE / 2)
    desk.bar(100.0, number=0)
    assert desk.fills() == []
    desk.bar(103.0, 104.0, 102.0, 103.0, number=1)
    assert desk.fills() == [(103.0, 2.0, START + MINUTE)]


def test_nothing_trades_in_a_quiet_interval():
    desk = Desk()
    desk.submit(a_request())
    desk.bar(100.0, 100.0, 100.0, 100.0, filled=True)
    assert desk.fills() == []


LIMITS = [
    # side, limit, bar (o, h, l, c), price
    (Side.BUY, 99.5, (100, 101, 99, 100), 99.5),
    (Side.BUY, 99.0, (100, 101, 99, 100), 99.0),
    (Side.BUY, 98.9, (100, 101, 99, 100), None),
    (Side.BUY, 100.5, (100, 101, 99, 100), 100.0),
    (Side.SELL, 100.8, (100, 101, 99, 100), 100.8),
    (Side.SELL, 101.1, (100, 101, 99, 100), None),
    (Side.SELL, 99.5, (100, 101, 99, 100), 100.0),
]


@pytest.mark.parametrize(("side", "limit", "bar", "price"), LIMITS)
def test_a_limit_fills_at_its_price_or_at_a_better_open(side, limit, bar, price):
    desk = Desk(slippage=0.01, held=2)
    desk.submit(a_request(side=side, type=OrderType.LIMIT, limit_price=limit))
    desk.bar(*map(float, bar))
    assert [fill[0] for fill in desk.fills()] == ([] if price is None else [price])


STOPS = [
    (Side.BUY, 100.5, (100, 101, 99, 100), 100.5),
    (Side.BUY, 101.5, (100, 101, 99, 100), None),
    (Side.BUY, 99.0, (100, 101, 99, 100), 100.0),  # jumped over: the open
    (Side.SELL, 99.2, (100, 101, 99, 100), 99.2),
    (Side.SELL, 98.0, (100, 101, 99, 100), None),
    (Side.SELL, 100.5, (100, 101, 99, 100), 100.0),
]


@pytest.mark.parametrize(("side", "stop", "bar", "price"), STOPS)
def test_a_stop_fills_at_its_level_and_at_the_open_when_jumped_over(side, stop, bar, price):
    desk = Desk(held=2)
    desk.submit(a_request(side=side, type=OrderType.STOP, stop_price=stop))
    desk.bar(*map(float, bar))
    assert [fill[0] for fill in desk.fills()] == ([] if price is None else [price])


def test_exits_wait_for_the_entry_and_stand_by_its_fill():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"fraction": 0.02}, target={"distance": 5.0})
    desk.submit(entry, stop, target)
    assert isinstance(desk.last(stop), Held)
    desk.bar(100.0, 101.0, 99.0, 100.0)
    assert desk.last(stop) == Acknowledged(
        START, f"paper-{stop.client_order_id}", Decimal(2), 98.0, None
    )
    assert desk.last(target).limit_price == 105.0


def test_an_exit_can_be_hit_in_the_bar_of_the_entry():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"fraction": 0.02}, target={"fraction": 0.04})
    desk.submit(entry, stop, target)
    desk.bar(100.0, 101.0, 97.5, 99.0)
    assert [f[0] for f in desk.fills()] == [100.0, 98.0]
    assert desk.last(target) == Cancelled(START + MINUTE, "its stop_loss filled")


def test_the_stop_is_hit_before_the_target_when_a_bar_holds_both():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"fraction": 0.02}, target={"fraction": 0.04})
    desk.submit(entry, stop, target)
    desk.bar(100.0, 110.0, 90.0, 105.0)
    assert [f[0] for f in desk.fills()] == [100.0, 98.0]


def test_a_target_that_the_open_jumps_over_fills_at_the_open():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"fraction": 0.02}, target={"fraction": 0.04})
    desk.submit(entry, stop, target)
    desk.bar(100.0, 101.0, 99.0, 100.0)
    desk.bar(107.0, 108.0, 106.0, 107.0, number=1)
    assert desk.fills()[-1] == (107.0, 2.0, START + MINUTE)
    assert isinstance(desk.last(stop), Cancelled)


def test_a_stop_that_the_open_jumps_over_fills_at_the_open():
    desk = Desk()
    entry, stop, _ = protected_entry(stop={"fraction": 0.02}, target={"fraction": 0.04})
    desk.submit(entry, stop)
    desk.bar(100.0, 101.0, 99.0, 100.0)
    desk.bar(93.0, 94.0, 92.0, 93.0, number=1)
    assert desk.fills()[-1][0] == 93.0


def test_a_target_is_not_counted_in_the_bar_whose_inside_filled_the_entry():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"fraction": 0.02}, target={"fraction": 0.01})
    entry = replace(entry, type=OrderType.LIMIT, limit_price=99.0)
    desk.submit(entry, stop, target)
    desk.bar(100.0, 103.0, 98.5, 102.0)  # the high may have come before the entry
    assert [f[0] for f in desk.fills()] == [99.0]
    desk.bar(102.0, 103.0, 101.0, 102.0, number=1)
    assert desk.fills()[-1][0] == 102.0  # the open is over the target by now


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back():
    desk = Desk()
    entry, trail = protected_entry(trail={"distance": 3.0})
    desk.submit(entry, trail)
    desk.bar(100.0, 104.0, 99.0, 103.5)  # best 104, stop 101
    assert dict(desk.broker.trails()) == {trail.client_order_id: 101.0}
    desk.bar(103.0, 103.5, 101.5, 102.0, number=1)
    assert dict(desk.broker.trails()) == {trail.client_order_id: 101.0}
    desk.bar(102.0, 102.0, 100.0, 100.5, number=2)
    assert desk.fills()[-1][0] == 101.0


def test_a_trailing_stop_is_hit_by_a_close_under_the_level_its_own_high_set():
    desk = Desk()
    entry, trail = protected_entry(trail={"fraction": 0.02})
    desk.submit(entry, trail)
    desk.bar(100.0, 110.0, 99.0, 105.0)  # 2 % under 110 is 107.8: the close came back through it
    assert [f[0] for f in desk.fills()] == [100.0, pytest.approx(107.8)]


def test_sells_come_before_buys_at_one_open_so_that_their_cash_can_be_spent():
    desk = Desk(cash="0", fee=0.0, held=2)
    buy = a_request(quantity=Decimal(2))
    sell = a_request(side=Side.SELL, leg=Leg.EXIT, instrument_id=2, quantity=Decimal(2))
    desk.submit(buy, sell)
    desk.hear(desk.broker.on_bars([a_bar(instrument_id=1), a_bar(instrument_id=2)]))
    assert [event.side for _, event in desk.told if isinstance(event, Fill)] == [
        Side.SELL,
        Side.BUY,
    ]


def test_a_buy_that_the_cash_does_not_cover_is_filled_as_far_as_it_goes():
    desk = Desk(cash="150", fee=0.0, lot_size=Decimal("0.1"))
    request = a_request(quantity=Decimal(2))
    desk.submit(request)
    desk.bar(100.0)
    assert desk.fills()[0][:2] == (100.0, 1.5)
    assert desk.last(request) == Cancelled(START, "insufficient funds for the rest")


def test_a_buy_without_any_cash_is_rejected_and_its_exits_are_dropped():
    desk = Desk(cash="0")
    entry, stop = protected_entry(stop={"fraction": 0.1})
    desk.submit(entry, stop)
    desk.bar(100.0)
    assert desk.last(entry) == Rejected(START, "insufficient funds")
    assert desk.last(stop) == Cancelled(START, "its entry did not fill")
    assert desk.broker.is_idle


def test_a_value_order_spends_its_value_costs_included():
    desk = Desk(fee=0.001)
    desk.submit(a_request(quantity=None, value=Decimal(1000)))
    desk.bar(100.0)
    _, quantity, _ = desk.fills()[0]
    assert quantity == pytest.approx(1000 / (100 * 1.001))
    assert float(desk.cash) == pytest.approx(99_000)


def test_slippage_is_against_us_and_on_the_tick_grid():
    assert Costs(slippage=0.0005).worsened(100.0, Side.BUY, 0.0, None) == pytest.approx(100.05)
    assert Costs(slippage=0.00051).worsened(100.0, Side.BUY, 0.0, Decimal("0.01")) == 100.06
    assert Costs(slippage=0.00051).worsened(100.0, Side.SELL, 0.0, Decimal("0.01")) == 99.94
    assert Costs().worsened(100.003, Side.BUY, 0.0, Decimal("0.01")) == 100.003


def a_quote(bid, ask, seconds=1):
    return Quote(1, Decimal(str(bid)), Decimal(str(ask)), START + timedelta(seconds=seconds))


def test_on_quotes_a_market_order_takes_the_touch():
    for side, price in ((Side.BUY, 100.2), (Side.SELL, 100.0)):
        desk = Desk(held=2)
        desk.submit(a_request(side=side))
        desk.hear(desk.broker.on_quote(a_quote(100.0, 100.2)))
        assert desk.fills()[0][0] == price


def test_a_quote_from_before_the_order_does_not_fill_it():
    desk = Desk()
    desk.submit(a_request(), at=START + timedelta(seconds=2))
    desk.hear(desk.broker.on_quote(a_quote(100.0, 100.2, seconds=1)))
    assert desk.fills() == []


def test_a_resting_limit_fills_at_its_own_price_and_a_marketable_one_at_the_touch():
    desk = Desk()
    resting = a_request(type=OrderType.LIMIT, limit_price=99.0)
    desk.submit(resting)
    desk.hear(desk.broker.on_quote(a_quote(100.0, 100.2)))
    desk.hear(desk.broker.on_quote(a_quote(98.5, 98.7, seconds=2)))
    assert desk.fills()[0][0] == 99.0
    assert desk.told[-1][1].liquidity == "maker"
    marketable = a_request(type=OrderType.LIMIT, limit_price=101.0)
    desk.submit(marketable)
    desk.hear(desk.broker.on_quote(a_quote(100.0, 100.2, seconds=3)))
    assert desk.fills()[-1][0] == 100.2


def test_on_quotes_a_stop_fills_at_the_touch_that_reached_it():
    desk = Desk(held=2)
    desk.submit(a_request(side=Side.SELL, leg=Leg.STOP_LOSS, type=OrderType.STOP, stop_price=99.0))
    desk.hear(desk.broker.on_quote(a_quote(99.1, 99.3)))
    assert desk.fills() == []
    desk.hear(desk.broker.on_quote(a_quote(98.6, 98.8, seconds=2)))
    assert desk.fills()[0][0] == 98.6


def test_a_cancelled_order_never_fills_and_an_unknown_one_is_refused():
    desk = Desk()
    request = a_request()
    desk.submit(request)
    desk.hear(desk.broker.cancel(request.client_order_id, START))
    desk.bar(100.0)
    assert desk.fills() == []
    desk.hear(desk.broker.cancel(UUID(int=1), START))
    assert isinstance(desk.told[-1][1], CancelRefused)


def test_a_fill_id_is_the_order_and_its_number_so_a_fill_matched_again_is_the_same():
    ids = []
    request = a_request()
    for _ in range(2):
        desk = Desk()
        desk.submit(request)
        desk.bar(100.0)
        ids.append(desk.told[-1][1].venue_fill_id)
    assert ids == [f"{request.client_order_id}:0"] * 2
