"""What an account returned, with what was paid in and taken out left out.

Time-weighted: growth between flows, chained. It says how the trading did, whatever was paid in when.

    1 + r = product of  equity before the next flow / (equity before the last flow + that flow)

Money-weighted (XIRR): the yearly rate at which all flows and the end balance each other. It says how the
money did, timing of flows included.

    sum of  flow / (1 + r) ^ years from the flow to the end  =  equity at the end
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

YEAR: Final = timedelta(days=365)
HIGHEST: Final = 1e6
"""A yearly rate beyond this says nothing."""


@dataclass(frozen=True, slots=True)
class Point:
    """Equity at one time, flows of that time included; None where it was not known."""

    at: datetime
    equity: Decimal | None


@dataclass(frozen=True, slots=True)
class Flow:
    """Above 0 what came from outside, below 0 what went there, in the base asset; None without a rate."""

    at: datetime
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Return:
    """`value` as a fraction, or None and `reason`. `flows` is how many were taken out of it."""

    value: float | None
    reason: str = ""
    flows: int = 0
    since: datetime | None = None
    until: datetime | None = None


def time_weighted(points: Sequence[Point], flows: Sequence[Flow]) -> Return:
    """Growth from the first known equity to the last, flows removed.

    A flow between two points counts from the point after it, less itself: exact when nothing was
    gained between the flow and that point, as for a flow that has a point of its own.
    """
    found = _span(points, flows)
    if isinstance(found, Return):
        return found
    known, inside = found
    growth, before, place = 1.0, known[0].equity, 0
    assert before is not None
    for point in known[1:]:
        assert point.equity is not None
        came = Decimal(0)
        while place < len(inside) and inside[place].at <= point.at:
            came += inside[place].amount or 0
            place += 1
        if before + came > 0 and before > 0:
            growth *= (
                float((point.equity - came) / before) if came else float(point.equity / before)
            )
        elif before < 0 or point.equity < 0:
            return Return(None, "equity was below zero, which no rate describes", len(inside))
        before = point.equity
    return Return(growth - 1, "", len(inside), known[0].at, known[-1].at)


def money_weighted(points: Sequence[Point], flows: Sequence[Flow]) -> Return:
    """The yearly rate of all money that was in the account, by bisection to 1e-12."""
    found = _span(points, flows)
    if isinstance(found, Return):
        return found
    known, inside = found
    first, last = known[0], known[-1]
    if last.at - first.at < timedelta(days=1):
        return Return(None, "less than a day: a yearly rate would say nothing", len(inside))
    assert first.equity is not None
    assert last.equity is not None
    paid = [(first.at, float(first.equity)), *((f.at, float(f.amount or 0)) for f in inside)]
    years = [((last.at - at) / YEAR, amount) for at, amount in paid]
    end = float(last.equity)

    def over(rate: float) -> float:
        return math.fsum(amount * math.pow(1 + rate, span) for span, amount in years) - end

    low, high = -0.999999, 1.0
    while over(high) < 0 and high < HIGHEST:
        high *= 2
    if over(low) > 0 or over(high) < 0:
        return Return(None, "no yearly rate balances these flows", len(inside))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if over(middle) < 0 else (low, middle)
        if high - low < 1e-12:
            break
    return Return((low + high) / 2, "", len(inside), first.at, last.at)


def _span(
    points: Sequence[Point], flows: Sequence[Flow]
) -> tuple[list[Point], list[Flow]] | Return:
    """Points with known equity, from the first above zero, and the flows after it; or why not."""
    known = [point for point in points if point.equity is not None]
    while known and known[0].equity is not None and known[0].equity <= 0:
        known.pop(0)
    if len(known) < 2:
        return Return(None, "two times with known equity are needed")
    inside = sorted(
        (flow for flow in flows if known[0].at < flow.at <= known[-1].at), key=lambda f: f.at
    )
    if any(flow.amount is None for flow in inside):
        return Return(None, "a deposit or withdrawal had no rate into the base asset", len(inside))
    return known, inside
