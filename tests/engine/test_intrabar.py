"""A golden table, worked out by hand: every order type under every intrabar rule.

up     100 -> 95 -> 110 -> 105   the low is nearer to the open: the path goes there first
back   100 -> 95 -> 110 -> 103
down   100 -> 104 -> 90 -> 92    the high is nearer
swing  100 -> 109 -> 89 -> 95    the high is nearer
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from msgspec import structs

from engine.backtest.specification import run
from engine.matching import BadMatching, Intrabar, Matching
from shared.domain.orders import (
    Acknowledged,
    Cancelled,
    Expired,
    Fill,
    Held,
    Leg,
    OrderType,
    Rejected,
    Side,
    TimeInForce,
    Triggered,
)
from shared.domain.signals import Signal, StopLoss, TakeProfit
from tests.builders import START, ohlc
from tests.engine.scripts import a_specification, told
from tests.engine.test_matching import Desk, a_bar, a_request, protected_entry

BARS = {
    "up": (100.0, 110.0, 95.0, 105.0),
    "back": (100.0, 110.0, 95.0, 103.0),
    "down": (100.0, 104.0, 90.0, 92.0),
    "swing": (100.0, 109.0, 89.0, 95.0),
}
WORST, PATH = Intrabar.WORST_CASE, Intrabar.OHLC_PATH
BUY, SELL = Side.BUY, Side.SELL

# type, side, limit, stop, trail, bar, price in the worst case, price along the path; None: no fill
GOLDEN = [
    (OrderType.MARKET, BUY, None, None, None, "up", 100, 100),
    (OrderType.MARKET, SELL, None, None, None, "down", 100, 100),
    (OrderType.LIMIT, BUY, 97, None, None, "up", 97, 97),
    (OrderType.LIMIT, BUY, 101, None, None, "up", 100, 100),
    (OrderType.LIMIT, BUY, 94, None, None, "up", None, None),
    (OrderType.LIMIT, SELL, 108, None, None, "up", 108, 108),
    (OrderType.LIMIT, SELL, 99, None, None, "up", 100, 100),
    (OrderType.LIMIT, SELL, 111, None, None, "up", None, None),
    (OrderType.STOP, BUY, None, 103, None, "up", 103, 103),
    (OrderType.STOP, BUY, None, 98, None, "up", 100, 100),
    (OrderType.STOP, BUY, None, 111, None, "up", None, None),
    (OrderType.STOP, SELL, None, 96, None, "up", 96, 96),
    (OrderType.STOP, SELL, None, 102, None, "up", 100, 100),
    (OrderType.STOP, SELL, None, 94, None, "up", None, None),
    # a stop limit: the worst price its limit allows, or where the path meets the stop
    (OrderType.STOP_LIMIT, BUY, 106, 103, None, "up", 106, 103),
    (OrderType.STOP_LIMIT, BUY, 120, 103, None, "up", 110, 103),
    (OrderType.STOP_LIMIT, BUY, 103, 103, None, "up", 103, 103),
    (OrderType.STOP_LIMIT, BUY, 101, 103, None, "up", None, None),
    (OrderType.STOP_LIMIT, BUY, 101, 103, None, "down", 101, 101),
    (OrderType.STOP_LIMIT, BUY, 99, 98, None, "up", 99, 99),
    (OrderType.STOP_LIMIT, BUY, 106, 111, None, "up", None, None),
    (OrderType.STOP_LIMIT, SELL, 93, 96, None, "down", 93, 96),
    (OrderType.STOP_LIMIT, SELL, 80, 96, None, "down", 90, 96),
    (OrderType.STOP_LIMIT, SELL, 101, 96, None, "down", None, None),
    (OrderType.STOP_LIMIT, SELL, 101, 96, None, "up", 101, 101),
    (OrderType.TAKE_PROFIT, SELL, None, 108, None, "up", 108, 108),
    (OrderType.TAKE_PROFIT, SELL, None, 99, None, "up", 100, 100),
    (OrderType.TAKE_PROFIT, SELL, None, 111, None, "up", None, None),
    (OrderType.TAKE_PROFIT, BUY, None, 97, None, "up", 97, 97),
    (OrderType.TAKE_PROFIT, BUY, None, 101, None, "up", 100, 100),
    # trailing: from 100; the worst case turns against us before it runs
    (OrderType.TRAILING_STOP, SELL, None, 92, 8, "up", None, None),
    (OrderType.TRAILING_STOP, SELL, None, 96, 4, "up", 96, 96),
    (OrderType.TRAILING_STOP, SELL, None, 94, 6, "up", None, None),
    (OrderType.TRAILING_STOP, SELL, None, 94, 6, "back", 104, 104),
    (OrderType.TRAILING_STOP, SELL, None, 92, 8, "down", 92, 96),
    (OrderType.TRAILING_STOP, BUY, None, 108, 8, "up", 108, 103),
    (OrderType.TRAILING_STOP, BUY, None, 103, 3, "down", 103, 103),
]  # fmt: skip


@pytest.mark.parametrize("rule", [WORST, PATH, Intrabar.LOWER_INTERVAL])
@pytest.mark.parametrize(
    ("type_", "side", "limit", "stop", "trail", "bar", "worst", "along"), GOLDEN
)
def test_the_golden_table(rule, type_, side, limit, stop, trail, bar, worst, along):
    desk = Desk(matching=Matching(rule), held=2, fee=0.0)
    desk.submit(
        a_request(
            side=side, type=type_, limit_price=limit, stop_price=stop, distance=trail,
            reduce_only=side is SELL, leg=Leg.EXIT if side is SELL else Leg.ENTRY,
        )
    )  # fmt: skip
    desk.bar(*BARS[bar])
    expected = along if rule is PATH else worst
    assert [fill[0] for fill in desk.fills()] == ([] if expected is None else [expected])


# entry (None: market), stop, target, bar, exit in the worst case, exit along the path
BRACKETS = [
    (None, 96, 108, "up", 96, 96),
    (None, 96, 108, "swing", 96, 108),
    (None, 80, 108, "up", 108, 108),
    (None, 80, 120, "up", None, None),
    (97, 96, 108, "up", 96, 96),
    (96.5, 94, 108, "up", None, 108),  # the target may have been touched before the entry
    (96.5, 94, 108, "down", 94, 94),
]


@pytest.mark.parametrize(("entry", "stop", "target", "bar", "worst", "along"), BRACKETS)
@pytest.mark.parametrize("rule", [WORST, PATH])
def test_brackets_inside_one_bar(rule, entry, stop, target, bar, worst, along):
    desk = Desk(matching=Matching(rule), fee=0.0)
    request, low, high = protected_entry(stop={"stop_price": stop}, target={"limit_price": target})
    if entry is not None:
        request = structs.replace(request, type=OrderType.LIMIT, limit_price=float(entry))
    desk.submit(request, low, high)
    desk.bar(*BARS[bar])
    expected = along if rule is PATH else worst
    exits = [fill[0] for fill in desk.fills()[1:]]
    assert exits == ([] if expected is None else [expected])
    if expected is not None:
        other = low if expected == target else high
        assert isinstance(desk.last(other), Cancelled)


def test_bars_in_which_the_rule_decided_are_counted():
    desk = Desk(fee=0.0)
    desk.submit(*protected_entry(stop={"stop_price": 96}, target={"limit_price": 108}))
    desk.bar(100.0, 101.0, 99.0, 100.0)
    assert desk.broker.ambiguous == 0
    desk.bar(*BARS["swing"], number=1)
    assert desk.broker.ambiguous == 1


def two_in_five():
    """Five minutes that touch target and stop, the target first: minute by minute it can be seen."""
    minutes = ohlc(
        [100, 100, 100, 100, 100, 100, 101, 106, 104, 99],
        [100, 100, 100, 100, 100, 101, 106, 107, 104, 99],
        [100, 100, 100, 100, 100, 100, 101, 104, 99, 94],
        [100, 100, 100, 100, 100, 101, 106, 104, 99, 95],
    )
    fives = ohlc([100, 100], [100, 107], [100, 94], [100, 95], interval=300)
    return minutes, fives


@pytest.mark.parametrize(("with_minutes", "exit_price"), [(False, 96.0), (True, 105.0)])
def test_a_lower_interval_decides_where_there_is_one(with_minutes, exit_price):
    minutes, fives = two_in_five()
    exits = (StopLoss(distance=4.0), TakeProfit(distance=5.0))
    strategy = told({0: Signal("X1", 1.0, exits=exits)})
    specification = replace(
        a_specification(strategy, fives),
        matching=Matching(Intrabar.LOWER_INTERVAL),
        finer=(minutes,) if with_minutes else (),
    )
    outcome = run(specification)
    assert [float(booked.fill.price) for booked in outcome.record.fills] == [100.0, exit_price]


# Volume, time in force, and what waits for what -------------------------------------------


def test_volume_lets_an_order_trade_over_several_bars_and_its_stop_grows_with_it():
    desk = Desk(matching=Matching(volume_share=0.001), lot_size=Decimal("0.1"), fee=0.0)
    entry, stop, _ = protected_entry(stop={"stop_price": 90}, target={"limit_price": 120})
    desk.submit(entry, stop)  # 2 wanted, 1.0 of 1,000 a bar
    desk.bar(*BARS["up"])
    assert [fill[1] for fill in desk.fills()] == [1]
    assert desk.held[1] == 1
    desk.bar(*BARS["up"], number=1)
    assert [fill[1] for fill in desk.fills()] == [1, 1]
    assert desk.last(stop).quantity == 2


@pytest.mark.parametrize(
    ("time_in_force", "filled", "end"),
    [
        (TimeInForce.GTC, [1], None),
        (TimeInForce.IOC, [1], "no more could trade at once"),
        (TimeInForce.FOK, [], "fill or kill: only 1.0 could trade at once"),
    ],
)
def test_what_cannot_trade_at_once_waits_or_goes(time_in_force, filled, end):
    desk = Desk(matching=Matching(volume_share=0.001), lot_size=Decimal("0.1"), fee=0.0)
    request = a_request(time_in_force=time_in_force)
    desk.submit(request)
    desk.bar(*BARS["up"])
    assert [fill[1] for fill in desk.fills()] == filled
    last = desk.last(request)
    assert (last.reason if isinstance(last, Cancelled) else None) == end


@pytest.mark.parametrize("time_in_force", [TimeInForce.IOC, TimeInForce.FOK])
def test_an_immediate_limit_that_cannot_trade_at_the_open_goes(time_in_force):
    desk = Desk()
    request = a_request(type=OrderType.LIMIT, limit_price=97.0, time_in_force=time_in_force)
    desk.submit(request)
    desk.bar(*BARS["up"])
    assert desk.last(request) == Cancelled(START, "nothing could trade at once")


def test_post_only_never_takes():
    desk = Desk()
    takes = a_request(type=OrderType.LIMIT, limit_price=101.0, post_only=True)
    waits = a_request(type=OrderType.LIMIT, limit_price=97.0, post_only=True)
    desk.submit(takes, waits)
    desk.bar(*BARS["up"])
    assert desk.last(takes) == Rejected(START, "post-only: it would have traded at once")
    [fill] = [event for _, event in desk.told if isinstance(event, Fill)]
    assert (fill.client_order_id, fill.liquidity) == (waits.client_order_id, "maker")


@pytest.mark.parametrize(
    ("minutes", "filled", "ended"),
    [
        (0, False, True),  # over before the bar opened
        (0.5, False, True),  # over inside the bar: perhaps before the price got there
        (1, True, False),  # over as the bar closes
    ],
)
def test_an_order_lives_until_it_expires(minutes, filled, ended):
    desk = Desk()
    request = a_request(
        type=OrderType.LIMIT, limit_price=97.0, time_in_force=TimeInForce.GTD,
        expires_at=START + timedelta(minutes=minutes),
    )  # fmt: skip
    desk.submit(request, at=START - timedelta(minutes=1))
    desk.bar(*BARS["up"])
    desk.hear(desk.broker.expire(START + timedelta(minutes=1)))
    assert bool(desk.fills()) is filled
    assert isinstance(desk.last(request), Expired) is ended


def test_what_waits_for_an_order_that_expires_goes_with_it():
    desk = Desk()
    entry, stop, target = protected_entry(stop={"stop_price": 90}, target={"limit_price": 120})
    entry = structs.replace(entry, type=OrderType.LIMIT, limit_price=50.0, expires_at=START)
    desk.submit(entry, stop, target)
    desk.hear(desk.broker.expire(START))
    assert [type(desk.last(r)) for r in (entry, stop, target)] == [Expired, Cancelled, Cancelled]


def test_one_triggers_the_other_only_when_all_of_it_traded():
    desk = Desk(matching=Matching(volume_share=0.001), lot_size=Decimal("0.1"), fee=0.0)
    first = a_request()
    then = a_request(
        parent_id=first.client_order_id, side=SELL, leg=Leg.EXIT, type=OrderType.LIMIT, limit_price=104.0,
        reduce_only=True,
    )  # fmt: skip
    desk.submit(first, then)
    desk.bar(100.0, 100.0, 100.0, 100.0)
    assert isinstance(desk.last(then), Held)
    desk.bar(100.0, 100.0, 100.0, 100.0, number=1)
    assert isinstance(desk.last(then), Acknowledged)
    desk.bar(*BARS["up"], number=2)
    assert [fill[0] for fill in desk.fills()] == [100, 100, 104]


def test_of_a_pair_only_one_trades_though_the_bar_touches_both():
    for rule, price in ((WORST, 103.0), (PATH, 97.0)):
        desk = Desk(matching=Matching(rule), fee=0.0)
        group = uuid4()
        up = a_request(type=OrderType.STOP, stop_price=103.0, oco=group)
        down = a_request(type=OrderType.LIMIT, limit_price=97.0, oco=group)
        desk.submit(up, down)
        desk.bar(*BARS["up"])
        assert [fill[0] for fill in desk.fills()] == [price], "worst first, or first on the path"


def test_an_amended_order_meets_only_later_prices():
    desk = Desk()
    request = a_request(type=OrderType.LIMIT, limit_price=94.0)
    desk.submit(request)
    desk.bar(*BARS["up"])
    desk.hear(
        desk.broker.amend(
            request.client_order_id,
            START + timedelta(minutes=1),
            quantity=Decimal(1),
            limit_price=97.0,
        )
    )
    desk.bar(*BARS["up"], number=1)
    assert [(fill[0], fill[1]) for fill in desk.fills()] == [(97, 1)]


def test_a_stop_limit_that_was_triggered_stays_so():
    desk = Desk()
    request = a_request(type=OrderType.STOP_LIMIT, stop_price=103.0, limit_price=101.0)
    desk.submit(request)
    desk.bar(*BARS["up"])
    assert isinstance(desk.last(request), Triggered)
    desk.bar(105.0, 106.0, 100.0, 102.0, number=1)
    assert [fill[0] for fill in desk.fills()] == [101]


# Opposite strategies ----------------------------------------------------------------------


def test_opposite_orders_of_two_strategies_are_netted_inside_without_a_fee():
    desk = Desk(slippage=0.01)
    desk.held[1] = Decimal(3)
    buy = a_request(strategy_id=1, quantity=Decimal(2))
    sell = a_request(strategy_id=2, quantity=Decimal(3), side=SELL, leg=Leg.EXIT, reduce_only=True)
    desk.submit(buy, sell)
    desk.bar(*BARS["up"])
    fills = [event for _, event in desk.told if isinstance(event, Fill)]
    assert [(f.strategy_id, f.quantity, f.price, f.fee, f.liquidity) for f in fills] == [
        (2, 2, 100, 0, "netted"),
        (1, 2, 100, 0, "netted"),
        (2, 1, 99, Decimal("0.099"), "taker"),
    ]


def test_orders_of_one_strategy_are_not_netted():
    desk = Desk()
    desk.held[1] = Decimal(1)
    desk.submit(
        a_request(quantity=Decimal(1)),
        a_request(quantity=Decimal(1), side=SELL, leg=Leg.EXIT, reduce_only=True),
    )
    desk.hear(desk.broker.on_bars([a_bar()]))
    assert {e.liquidity for _, e in desk.told if isinstance(e, Fill)} == {"taker"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"intrabar": "best"}, "intrabar: 'best' is not one of worst_case, ohlc_path"),
        ({"volume_share": "x"}, "volume_share: 'x' is not a number"),
        ({"volume_share": 0}, "volume_share: 0 must be above 0"),
        ({"speed": 1}, "speed is no setting"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, text):
    with pytest.raises(BadMatching, match=text):
        Matching.from_json(given)
