"""From a target to a quantity: float64 in, lots out, every step on record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from engine.margin import Margin
from shared.domain.decisions import Step
from shared.domain.instruments import Instrument

_DUST: Final = 1e-9
"""Of equity: free cash below this part is none."""

METHODS: Final = ("fraction", "cash", "quantity", "value", "volatility")


class BadSizing(ValueError):
    """A sizing that cannot be: names the field, the value, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large a target of 1.0 is.

    fraction    `fraction` of the allocation (grown or shrunk by the strategy's own P&L)
    cash        `fraction` of the strategy's free cash, costs included, worked out at the fill; a turn to the
                other side is sized at the close that decided it, and cut at the fill
    quantity    `quantity` base units
    value       `value` quote units
    volatility  the allocation scaled by `annual_volatility` over the instrument's own, at most 1
    `band`: act again when the exposure has left what the method wants by this fraction of the allocation.
    """

    method: str = "fraction"
    fraction: float = 1.0
    quantity: float = 0.0
    value: float = 0.0
    annual_volatility: float = 0.2
    window: int = 20
    band: float | None = None

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Sizing:
        """Checked settings; BadSizing says what is wrong with which field."""
        known = {"method", "fraction", "quantity", "value", "annual_volatility", "window", "band"}
        if extra := set(given) - known:
            raise BadSizing(
                f"sizing: {', '.join(sorted(extra))} is no setting (known: {', '.join(sorted(known))})"
            )
        method = given.get("method", "fraction")
        if method not in METHODS:
            raise BadSizing(f"method: {method!r} is not one of {', '.join(METHODS)}")
        sizing = cls(
            method=method,
            fraction=_positive(given, "fraction", 1.0, at_most=1.0),
            quantity=_positive(given, "quantity", 0.0 if method != "quantity" else None),
            value=_positive(given, "value", 0.0 if method != "value" else None),
            annual_volatility=_positive(given, "annual_volatility", 0.2),
            window=int(_positive(given, "window", 20)),
            band=_positive(given, "band", 0.0) or None,
        )
        if not 2 <= sizing.window <= 500:
            raise BadSizing(f"window: {sizing.window} bars; give 2 to 500")
        return sizing


def _positive(
    given: Mapping[str, Any], name: str, default: float | None, at_most: float = math.inf
) -> float:
    raw = given.get(name)
    if raw in (None, ""):
        if default is None:
            raise BadSizing(f"{name}: give a number above 0 for this method")
        return default
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadSizing(f"{name}: {raw!r} is not a number") from None
    if not 0 < number <= at_most or not math.isfinite(number):
        if number == 0 and default == 0.0:
            return 0.0
        limit = f" and at most {at_most:g}" if math.isfinite(at_most) else ""
        raise BadSizing(f"{name}: {raw!r} must be above 0{limit}")
    return number


class Facts(Struct, frozen=True):
    """What sizing reads. Amounts in the quote asset; `held` in base units, signed.

    `cash` is what is free to spend on a larger position, for this strategy, now: with margin, what
    leverage leaves; `volatility` the instrument's own,
    annualised, or None when it cannot be known yet. `cost_rate` is fee plus slippage, as a fraction.
    """

    price: float
    equity: float
    cash: float
    held: float
    volatility: float | None
    cost_rate: float
    allow_short: bool = False

    @property
    def spendable(self) -> float:
        """The cash, unless it is what rounding left of money that was all spent."""
        return self.cash if self.cash > _DUST * abs(self.equity) else min(self.cash, 0.0)


class Sized(Struct, frozen=True):
    """A signed change in base units, or a signed value to trade; both zero when there is nothing to.

    `is_met`: there is nothing to trade because what is held is what is wanted.
    """

    change: float
    value: float
    steps: tuple[Step, ...]
    reason: str = ""
    is_met: bool = False


def size(target: float, sizing: Sizing, facts: Facts, instrument: Instrument) -> Sized:
    """What to trade so that the position meets `target`."""
    steps: list[Step] = []
    if target < 0 and not facts.allow_short:
        steps.append(
            Step("short", 0.0, f"target {target:g} is short; this account trades long only")
        )
        target = 0.0
    if target == 0:
        return _close(facts, steps)
    if sizing.method == "cash" and facts.held == 0:
        return _spend(target, sizing, facts, instrument, steps)
    wanted = _wanted_value(target, sizing, facts, steps)
    if wanted is None:
        return Sized(0.0, 0.0, tuple(steps), "the instrument's volatility is not known yet")
    change = wanted / facts.price - facts.held
    if abs(change) <= _DUST * abs(facts.held):
        change = 0.0  # rounding
    steps.append(
        Step("change", change, f"{wanted:.10g} at {facts.price:.10g}, less {facts.held:.10g} held")
    )
    closes = min(abs(change), abs(facts.held)) if change * facts.held < 0 else 0.0
    if wanted * facts.held >= 0 and closes:
        return _rounded(math.copysign(closes, change), 0.0, facts, instrument, steps)
    added = _affordable(abs(change) - closes, closes, facts, steps)
    return _rounded(math.copysign(added, change), closes, facts, instrument, steps)


def _close(facts: Facts, steps: list[Step]) -> Sized:
    if facts.held == 0:
        return Sized(0.0, 0.0, tuple(steps), "nothing is held", is_met=True)
    steps.append(Step("close", -facts.held, f"all of the {facts.held:.10g} held"))
    return Sized(-facts.held, 0.0, tuple(steps))


def _spend(
    target: float, sizing: Sizing, facts: Facts, instrument: Instrument, steps: list[Step]
) -> Sized:
    value = max(-1.0, min(target, 1.0)) * sizing.fraction * max(0.0, facts.spendable)
    steps.append(
        Step("cash", value, f"{target * sizing.fraction:g} of {facts.cash:.10g} free cash")
    )
    if value == 0:
        return Sized(0.0, 0.0, tuple(steps), "no free cash")
    quantity = abs(value) / (facts.price * (1 + facts.cost_rate))
    if reason := too_small(quantity, facts.price, instrument):
        return Sized(0.0, 0.0, tuple(steps), reason)
    return Sized(0.0, value, tuple(steps))


def _wanted_value(target: float, sizing: Sizing, facts: Facts, steps: list[Step]) -> float | None:
    """Signed value of the position wanted, or None when it cannot be known."""
    if sizing.method == "quantity":
        wanted = target * sizing.quantity * facts.price
        steps.append(Step("target", wanted, f"{target:g} of {sizing.quantity:g} units"))
        return wanted
    if sizing.method == "value":
        steps.append(Step("target", target * sizing.value, f"{target:g} of {sizing.value:g}"))
        return target * sizing.value
    share = sizing.fraction
    if sizing.method == "volatility":
        if not facts.volatility:
            steps.append(Step("volatility", math.nan, f"needs {sizing.window} bars that moved"))
            return None
        share = min(1.0, sizing.annual_volatility / facts.volatility)
        steps.append(
            Step(
                "volatility",
                share,
                f"{sizing.annual_volatility:.2%} wanted over {facts.volatility:.2%} a year",
            )
        )
    wanted = target * share * facts.equity
    steps.append(Step("target", wanted, f"{target:g} x {share:g} of {facts.equity:.10g} allocated"))
    return wanted


def wanted_exposure(
    target: float,
    sizing: Sizing,
    equity: float,
    price: float,
    volatility: float | None,
    margin: Margin,
) -> float | None:
    """The signed value of the position wanted, as a fraction of equity; None when it cannot be known.

    At most what the account can hold: a band around more would be left for ever.
    """
    if sizing.method == "quantity":
        wanted = target * sizing.quantity * price / equity
    elif sizing.method == "value":
        wanted = target * sizing.value / equity
    elif sizing.method == "volatility":
        if not volatility:
            return None
        wanted = target * min(1.0, sizing.annual_volatility / volatility)
    else:
        wanted = target * sizing.fraction
    if not margin.enabled:
        return max(0.0, min(wanted, 1.0))
    return max(-margin.leverage, min(wanted, margin.leverage))


def _affordable(added: float, closes: float, facts: Facts, steps: list[Step]) -> float:
    """As much of what makes the position larger as there is money for; closing frees what it ties up."""
    free = max(0.0, facts.spendable + closes * facts.price)
    most = free / (facts.price * (1 + facts.cost_rate))
    if added <= most:
        return added
    what = "free margin" if facts.allow_short else "free cash"
    steps.append(Step("cash", most, f"{what} {free:.10g} pays for no more, costs included"))
    return most


def _rounded(
    change: float, closes: float, facts: Facts, instrument: Instrument, steps: list[Step]
) -> Sized:
    """`change` in whole lots. On the way to the other side it comes after `closes`, all that was held."""
    if instrument.lot_size is not None:
        lot = float(instrument.lot_size)
        rounded = math.copysign(lots(abs(change), lot) * lot, change)
        if rounded != change:
            steps.append(Step("lot", rounded, f"down to whole lots of {lot:g}"))
        change = rounded
    if closes and (change == 0 or too_small(abs(change), facts.price, instrument)):
        return Sized(-facts.held, 0.0, tuple(steps))
    change = math.copysign(closes, change) + change if closes else change
    if change == 0:
        if facts.held != 0:
            return Sized(0.0, 0.0, tuple(steps), "what is held is what is wanted", is_met=True)
        return Sized(0.0, 0.0, tuple(steps), "nothing is left after rounding to lots")
    if reason := too_small(abs(change), facts.price, instrument):
        return Sized(0.0, 0.0, tuple(steps), reason)
    return Sized(change, 0.0, tuple(steps))


def lots(quantity: float, lot: float) -> int:
    """Whole lots in a quantity: floor(x / lot + 1e-9), so that float noise loses no lot."""
    return math.floor(quantity / lot + 1e-9)


def too_small(quantity: float, price: float, instrument: Instrument) -> str:
    """Why the venue would refuse so little, or an empty string."""
    if instrument.lot_size is not None and lots(quantity, float(instrument.lot_size)) == 0:
        return f"{quantity:g} is less than one lot of {instrument.lot_size}"
    if instrument.min_quantity is not None and quantity < float(instrument.min_quantity):
        return f"{quantity:g} is under the venue's minimum quantity {instrument.min_quantity}"
    if instrument.min_value is not None and quantity * price < float(instrument.min_value):
        return f"{quantity * price:.2f} is under the venue's minimum value {instrument.min_value}"
    return ""
