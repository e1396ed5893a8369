"""What trading cost, and what became of orders."""

from __future__ import annotations

from typing import Any, Final

from engine.backtest.metrics.facts import Facts
from engine.backtest.metrics.model import Definition, Found, Undefined


def _of_trading(facts: Facts, paid: float) -> Found:
    """An amount, with how large it is beside what was traded."""
    details: dict[str, Any] = {}
    if facts.value_traded > 0:
        details["of_value_traded"] = paid / facts.value_traded
    return Found(paid, len(facts.fills), details)


def _fees(facts: Facts) -> Found:
    return _of_trading(facts, float(facts.fills.fee.sum()))


def _slippage(facts: Facts) -> Found:
    return _of_trading(facts, facts.paid.slippage)


def _spread(facts: Facts) -> Found:
    return _of_trading(facts, facts.paid.spread)


def _funding(facts: Facts) -> Found:
    return Found(facts.paid.borrowing, facts.marks)


def _costs(facts: Facts) -> Found:
    paid = facts.paid
    total = float(facts.fills.fee.sum()) + paid.slippage + paid.spread + paid.borrowing
    return Found(total, len(facts.fills), {"of_capital": total / facts.curve.capital})


def _orders(facts: Facts) -> Found:
    return Found(float(facts.counts.orders), facts.counts.orders)


def _rejected(facts: Facts) -> Found:
    return Found(float(facts.counts.rejected), facts.counts.orders)


def _timed_out(facts: Facts) -> Found:
    return Found(float(facts.counts.expired), facts.counts.orders)


def _denied(facts: Facts) -> Found:
    return Found(float(facts.counts.denied), facts.counts.orders + facts.counts.denied)


def _partial_fills(facts: Facts) -> Found:
    counts = facts.counts
    if not counts.orders:
        raise Undefined("no orders")
    details = {"partly_filled": counts.partly_filled}
    return Found(counts.partly_filled / counts.orders, counts.orders, details)


def _ambiguous(facts: Facts) -> Found:
    return Found(float(facts.counts.ambiguous_bars), facts.marks)


COSTS: Final = (
    Definition("fees", "currency", "sum of all fees paid", _fees),
    Definition(
        "slippage",
        "currency",
        "sum over fills of quantity x how much worse slippage made its price",
        _slippage,
    ),
    Definition(
        "spread", "currency", "sum over fills of quantity x half the spread at its price", _spread
    ),
    Definition("funding", "currency", "interest on what was borrowed, and funding", _funding),
    Definition("costs", "currency", "fees + slippage + spread + funding", _costs),
    Definition("orders", "count", "orders sent", _orders),
    Definition("rejected", "count", "orders the venue rejected", _rejected),
    Definition(
        "timed_out", "count", "orders whose time was over before all of them traded", _timed_out
    ),
    Definition("denied", "count", "decisions the risk rules denied", _denied),
    Definition(
        "partial_fill_ratio", "%", "orders that traded in part / orders sent", _partial_fills
    ),
    Definition(
        "ambiguous_bars",
        "count",
        "bars in which the intrabar rule decided between a stop and a target",
        _ambiguous,
    ),
)
