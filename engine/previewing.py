"""What an order by hand would do, told before it is sent: in decimal strings, as the console shows it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from engine.byhand import ByHand
from engine.live import AccountLoop
from engine.narrator import number
from shared.domain.decisions import Decision
from shared.domain.orders import OrderRequest, OrderType, Side

FAR: Final = 0.05
"""A price this far from the market is worth a word before it is sent."""


def preview(loop: AccountLoop, decision: Decision, asked: ByHand) -> dict[str, Any]:
    """What an order would do, in decimal strings; see `shared.messages.PlaceOrder`."""
    portfolio, costs = loop.core.portfolio, loop.core.costs
    instrument = loop.instruments[decision.instrument_id]
    request = decision.requests[0] if decision.requests else None
    quantity = request.quantity if request is not None else _last_quantity(decision)
    value = None if quantity is None else float(quantity) * decision.price
    fee = None
    if quantity is not None and value is not None:
        own = costs.of(instrument)
        fee = own.cost(float(quantity), decision.price, own.highest_rate) - value
    sign = asked.asked.side.sign
    held = portfolio.held_by(asked.strategy_id, instrument.id)
    cash = portfolio.balance(instrument.quote_asset)
    change = None if value is None or fee is None else -sign * value - fee
    return {
        "instrument": instrument.symbol,
        "side": asked.asked.side.value,
        "type": asked.asked.type.value,
        "quantity": _text(quantity),
        "price": _text(decision.price),
        "value": _text(value),
        "fee": _text(fee),
        "fee_asset": instrument.quote_asset,
        "cost": _text(None if change is None else -change),
        "cash_before": _text(cash),
        "cash_after": _text(None if change is None else float(cash) + change),
        "position_before": _text(held),
        "position_after": _text(None if quantity is None else held + sign * quantity),
        "margin": _margin(loop, instrument.id, sign * float(quantity or 0), decision.price),
        "checks": [_check(check) for check in decision.checks],
        "steps": [
            {"name": step.name, "value": _text(step.value), "text": step.text}
            for step in decision.steps
        ],
        "legs": [_leg(request) for request in decision.requests],
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "warnings": list(_warnings(loop, decision, asked)),
    }


def _last_quantity(decision: Decision) -> Decimal | None:
    """What was asked of an order that is denied: the quantity its checks looked at, as far as one did."""
    for step in reversed(decision.steps):
        return Decimal(repr(step.value))
    return None


def _check(check: Any) -> dict[str, Any]:
    return {
        "rule": check.rule,
        "allowed": check.allowed,
        "value": _text(check.value),
        "limit": _text(check.limit),
        "unit": check.unit,
        "text": check.text,
    }


def _leg(request: OrderRequest) -> dict[str, Any]:
    trail = request.distance if request.distance is not None else request.fraction
    return {
        "leg": request.leg.value,
        "type": request.type.value,
        "side": request.side.value,
        "quantity": _text(request.quantity),
        "limit_price": _text(request.limit_price),
        "stop_price": _text(request.stop_price),
        "trail": _text(trail),
        "time_in_force": request.time_in_force.value,
    }


def _margin(loop: AccountLoop, instrument_id: int, change: float, price: float) -> dict[str, Any]:
    portfolio = loop.core.portfolio
    margin, equity, gross = portfolio.margin, portfolio.equity(), portfolio.gross()
    if not margin.enabled or equity is None or gross is None:
        nothing: dict[str, Any] = dict.fromkeys(
            ("used_before", "used_after", "free_after", "level_after")
        )
        return {"enabled": margin.enabled, **nothing}
    held = float(portfolio.held(instrument_id))
    rate = float(portfolio.rate(loop.instruments[instrument_id].quote_asset) or 1)
    after = gross + (abs(held + change) - abs(held)) * price * rate
    level = margin.level(float(equity), after)
    return {
        "enabled": True,
        "used_before": _text(margin.used(gross)),
        "used_after": _text(margin.used(after)),
        "free_after": _text(float(equity) - margin.used(after)),
        "level_after": None if level == float("inf") else _text(level),
    }


def _warnings(loop: AccountLoop, decision: Decision, asked: ByHand) -> Iterable[str]:
    mark = loop.core.portfolio.marks.get(decision.instrument_id, 0.0)
    own = asked.asked.limit_price
    if not mark or own is None:
        return
    away = float(own) / mark - 1
    if abs(away) > FAR:
        side = "above" if away > 0 else "below"
        yield f"The limit is {abs(away):.1%} {side} the market."
    crosses = away > 0 if asked.asked.side is Side.BUY else away < 0
    if crosses and asked.asked.type is OrderType.LIMIT and not asked.asked.post_only:
        yield "At this limit it trades at once, as a taker."


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return number(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
