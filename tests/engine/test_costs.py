"""Fees and slippage in every form, as an order pays them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec import structs

from engine import lease
from engine.bootstrap import Assembly
from engine.costs import BadCosts, Costs, Traded
from engine.execution.paper import PaperBroker
from engine.journal import Journal
from engine.matching import Matching
from engine.portfolio import Portfolio, decimal_number
from shared.db.trading import AccountRow, FillRow
from shared.domain.market import Bar
from shared.domain.orders import Fill, Side
from shared.messages import CreateStrategy
from shared.settings import Settings
from tests.builders import START, an_instrument
from tests.engine.test_matching import a_request
from tests.prove.installation import Installation

MINUTE = timedelta(minutes=1)


def bar(number: int, price: float = 100.0, volume: float = 1000.0) -> Bar:
    opened = START + number * MINUTE
    return Bar(1, 60, opened, opened + MINUTE, price, price, price, price, volume)


def fills_of(costs: Costs, quantity: str, bars: list[Bar], **settings: Any) -> list[Fill]:
    """What a market purchase made of the bars, its money never short."""
    instruments = {1: an_instrument(1)}
    books = Portfolio("USD", instruments, decimal_number, Decimal(10) ** 9)
    broker = PaperBroker(instruments, costs, decimal_number, books, Matching(**settings))
    list(broker.submit(a_request(side=Side.BUY, quantity=Decimal(quantity)), START))
    fills = []
    for one in bars:
        for _, event in broker.on_bars([one]):
            if isinstance(event, Fill):
                books.book(event)
                fills.append(event)
    return fills


def test_a_fee_by_the_unit_is_added_to_the_one_by_value() -> None:
    (fill,) = fills_of(Costs(0.001, fee_per_unit=0.005), "10", [bar(1)])
    assert fill.fee == Decimal("1.05")


def test_an_order_pays_the_minimum_once_however_many_fills_it_takes() -> None:
    costs = Costs(0.001, fee_minimum=1.0)
    bars = [bar(1, volume=10), bar(2, volume=100), bar(3)]
    fills = fills_of(costs, "30", bars, volume_share=0.5)
    assert [fill.quantity for fill in fills] == [5, 25]
    assert [fill.fee for fill in fills] == [Decimal(1), Decimal(2)]  # 0.5 owed, then 3.0 in all


def test_a_tier_is_reached_by_what_was_traded_in_thirty_days() -> None:
    costs = Costs(fee_tiers=((0.0, 0.002), (1000.0, 0.001)))
    bars = [bar(1, volume=20), bar(2, volume=20), bar(40 * 1440, volume=20)]
    fills = fills_of(costs, "30", bars, volume_share=0.5)
    assert [fill.fee for fill in fills] == [Decimal(2), Decimal(1), Decimal(2)]


def test_what_was_traded_is_forgotten_after_thirty_days() -> None:
    traded = Traded()
    traded.add(100, 5.0)
    traded.add(100, 7.0)
    assert traded.until(129) == 12.0
    assert traded.until(130) == 0.0


def test_trades_at_an_instruments_own_rate_count_for_the_tiers_of_the_others() -> None:
    instruments = {1: an_instrument(1), 2: an_instrument(2, taker_fee=Decimal("0.005"))}
    costs = Costs(fee_tiers=((0.0, 0.002), (1000.0, 0.001)))
    books = Portfolio("USD", instruments, decimal_number, Decimal(10) ** 9)
    broker = PaperBroker(instruments, costs, decimal_number, books, Matching())
    fees = []
    for number, instrument_id in ((1, 2), (2, 1)):
        request = a_request(
            side=Side.BUY, quantity=Decimal(10), instrument_id=instrument_id,
            client_order_id=uuid4(),
        )  # fmt: skip
        list(broker.submit(request, START))
        told = broker.on_bars([structs.replace(bar(number), instrument_id=instrument_id)])
        fees += [event.fee for _, event in told if isinstance(event, Fill)]
    assert fees == [Decimal(5), Decimal(1)]


def test_a_taker_pays_half_the_spread_and_a_fixed_distance() -> None:
    (fill,) = fills_of(Costs(0.0, slippage_fixed=0.25, spread=0.01), "1", [bar(1)])
    assert float(fill.price) == pytest.approx(100.75)
    assert fill.raw == 100.0


def test_impact_grows_with_the_square_of_the_volume_taken() -> None:
    small = fills_of(Costs(0.0, slippage_impact=0.1), "100", [bar(1)])
    large = fills_of(Costs(0.0, slippage_impact=0.1), "500", [bar(1)])
    assert float(small[0].price) == pytest.approx(100 * (1 + 0.1 * 0.1**2))
    assert float(large[0].price) == pytest.approx(100 * (1 + 0.1 * 0.5**2))


@pytest.mark.parametrize(
    "costs",
    [
        Costs(0.001),
        Costs(0.001, fee_per_unit=0.01),
        Costs(0.001, fee_minimum=5.0),
        Costs(0.0001, fee_per_unit=0.01, fee_minimum=5.0),
    ],
    ids=["rate", "per-unit", "minimum", "all"],
)
@pytest.mark.parametrize("money", [3.0, 10.0, 5000.0, 1e6])
def test_what_money_pays_for_costs_no_more_than_the_money(costs: Costs, money: float) -> None:
    quantity = costs.affordable(money, 50.0, costs.fee_rate)
    if quantity > 0:
        assert costs.cost(quantity, 50.0, costs.fee_rate) == pytest.approx(money)
    else:
        assert money <= costs.fee_minimum


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"fee_rate": "0.6"}, "fee_rate: '0.6' must be from 0 to 0.5"),
        ({"fee_minimum": -1}, "fee_minimum: -1 must be from 0"),
        ({"spread": "wide"}, "spread: 'wide' is not a number"),
        ({"commission": 1}, "costs: commission is no cost"),
        ({"fee_tiers": [1]}, "fee_tiers: .* are no pairs"),
        ({"fee_tiers": [[5, 0.1], [5, 0.2]]}, "fee_tiers: values traded must rise"),
    ],
)
def test_costs_that_cannot_be_say_why(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadCosts, match=problem):
        Costs.from_json(given)


# After a restart ------------------------------------------------------------------------------


TIERED = {"fee_tiers": [["0", "0.002"], ["2500", "0.001"]]}


@pytest.fixture
def installation(settings: Settings) -> Iterator[Installation]:
    made = Installation(settings, speed=300)
    made.prepare()
    with made.db.begin() as connection:
        connection.execute(sa.update(AccountRow).values(costs=TIERED))
    yield made
    made.end()


async def trade(installation: Installation, strategy_id: int, fills: int) -> None:
    """An account built from its rows, with a strategy that trades, until that many fills are stored."""
    held = lease.try_acquire(installation.db, "main")
    assert held is not None
    journal = Journal(installation.db, "main", held)
    with ThreadPoolExecutor(1) as thread:
        assembly = Assembly(installation.db, journal, thread, lambda *failed: None)
        loop = assembly.account(installation.account().id)
        with installation.db.connect() as connection:
            loop.start(assembly.run(connection, strategy_id))
        running = asyncio.create_task(loop.run())
        while len(booked(installation)) < fills:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        async with loop.turn_lock:
            running.cancel()


def booked(installation: Installation) -> list[Any]:
    query = sa.select(FillRow.quantity, FillRow.price, FillRow.fee).order_by(FillRow.id)
    return installation.rows(query)


def test_fee_tiers_look_back_on_what_was_traded_before_a_restart(
    installation: Installation,
) -> None:
    main = {"instrument_id": installation.instruments()["BTC/USD"], "interval": 60}
    strategy_id = installation.create(
        CreateStrategy(
            "Trend", "moving_average_cross", installation.account().id,
            {"short_window": 1, "long_window": 2}, {"main": main}, "1000", {"method": "fraction"},
        )
    )  # fmt: skip
    asyncio.run(trade(installation, strategy_id, 3))
    before = len(booked(installation))
    asyncio.run(trade(installation, strategy_id, before + 2))
    costs, traded, rates = Costs.from_json(TIERED), 0.0, []
    for quantity, price, fee in booked(installation):
        rates.append(costs.rate_of(traded))
        assert float(fee / (quantity * price)) == pytest.approx(rates[-1])
        traded += float(quantity * price)
    assert rates[:3] == [0.002] * 3
    assert rates[before] == 0.001
