"""Returns against sums done by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.returns import Flow, Point, money_weighted, time_weighted

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return START + timedelta(days=n)


def points(*equity: object) -> list[Point]:
    return [Point(day(n), None if e is None else Decimal(str(e))) for n, e in enumerate(equity)]


def test_without_flows_it_is_the_growth():
    assert time_weighted(points(100, 90, 120), []).value == pytest.approx(0.2)


def test_a_deposit_is_no_return():
    paid = [Flow(day(1), Decimal(50))]
    assert time_weighted(points(100, 150, 150), paid).value == pytest.approx(0)
    assert time_weighted(points(100, 150, 165), paid).value == pytest.approx(0.1)


def test_growth_before_and_after_a_flow_is_chained():
    """10 % on 100, then 100 paid in, then 10 % on 210."""
    found = time_weighted(points(100, 110, 210, 231), [Flow(day(2), Decimal(100))])
    assert found.value == pytest.approx(0.21)
    assert found.flows == 1


def test_a_withdrawal_of_everything_and_a_new_start_keep_what_was_earned():
    flows = [Flow(day(2), Decimal(-110)), Flow(day(3), Decimal(500))]
    assert time_weighted(points(100, 110, 0, 500, 550), flows).value == pytest.approx(0.21)


@given(
    st.lists(st.decimals("-0.5", "0.5", places=3), min_size=1, max_size=20),
    st.lists(st.decimals("0", "1000", places=2), min_size=20, max_size=20),
)
def test_whatever_is_paid_in_the_time_weighted_return_stays(growth, paid):
    plain, with_flows = [Decimal(100)], [Decimal(100)]
    flows = []
    for n, (rate, amount) in enumerate(zip(growth, paid, strict=False), 1):
        plain.append(plain[-1] * (1 + rate))
        with_flows.append(with_flows[-1] * (1 + rate) + amount)
        flows.append(Flow(day(n), amount))
    expected = time_weighted([Point(day(n), e) for n, e in enumerate(plain)], []).value
    found = time_weighted([Point(day(n), e) for n, e in enumerate(with_flows)], flows).value
    assert found == pytest.approx(expected, abs=1e-9)


def test_money_weighted_is_the_rate_a_bank_would_have_paid():
    """1000 for a year and 1000 for half a year at 10 %: 1100 + 1048.81."""
    end = 1000 * 1.1 + 1000 * 1.1**0.5
    history = [Point(day(0), Decimal(1000)), Point(day(365), Decimal(repr(end)))]
    found = money_weighted(history, [Flow(day(182.5), Decimal(1000))])
    assert found.value == pytest.approx(0.1, abs=1e-9)


def test_money_that_was_lost_has_a_negative_rate():
    history = [Point(day(0), Decimal(1000)), Point(day(365), Decimal(400))]
    assert money_weighted(history, []).value == pytest.approx(-0.6, abs=1e-9)


@pytest.mark.parametrize(
    ("history", "flows", "why"),
    [
        (points(100), [], "two times"),
        (points(None, None, 100), [], "two times"),
        (points(100, 150, 150), [Flow(day(1), None)], "no rate into the base asset"),
        (points(100, -10, 5), [], "below zero"),
    ],
)
def test_what_cannot_be_known_says_why(history, flows, why):
    found = time_weighted(history, flows)
    assert found.value is None
    assert why in found.reason


def test_a_yearly_rate_of_an_hour_is_not_told():
    history = [Point(day(0), Decimal(100)), Point(day(0.04), Decimal(101))]
    assert "less than a day" in money_weighted(history, []).reason
