"""The rules every entry is checked against, each with its own typed settings.

A rule answers with a Check: value, limit and verdict. Reducing a position is never checked.
What cannot be known (no equity, too little history) is denied: unknown is not safe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from msgspec import Struct

from engine.indicators import Column
from engine.risk.volatility import annual_volatility
from shared.domain.decisions import Check


class BadPolicy(ValueError):
    """A risk setting that cannot be: names rule, field, value and remedy."""


class Proposal(Struct, frozen=True):
    """What the rules read about one entry. Amounts in the account's base asset.

    `order_value` is what the order adds; `exposure_after` the instrument's value across all strategies
    once it and every working order has filled; `positions_after` how many instruments are held then;
    `equity` None when unknown. `closes` and `values` are the newest closed bars' closes and traded
    values, oldest first. `margin_after` is used margin over equity once this has filled; None
    without margin.
    """

    order_value: float
    exposure_after: float
    equity: float | None
    peak: float
    closes: Column
    values: Column
    bars_per_year: float
    positions_after: int = 1
    margin_after: float | None = None


def _unknown(rule: str, limit: float, unit: str, why: str) -> Check:
    return Check(rule, allowed=False, value=None, limit=limit, unit=unit, text=f"{why}: denied")


def _answer(rule: str, value: float, limit: float, unit: str, what: str) -> Check:
    allowed = value <= limit
    relation = "within" if allowed else "over"
    shown = f"{value:.2%}" if unit == "%" else f"{value:,.2f}"
    text = f"{what} {shown}, {relation} the limit {_shown(limit, unit)}"
    return Check(rule, allowed, value, limit, unit, text)


@lru_cache(maxsize=256)
def _shown(limit: float, unit: str) -> str:
    """There are a few, told over and over."""
    return f"{limit:.2%}" if unit == "%" else f"{limit:,.2f}"


@dataclass(frozen=True, slots=True)
class PositionSize:
    """An order's value is at most `max_fraction` of equity."""

    enabled: bool = True
    max_fraction: float = 0.05

    def check(self, proposal: Proposal) -> Check:
        if proposal.equity is None or proposal.equity <= 0:
            return _unknown("position_size", self.max_fraction, "%", "equity is not known")
        share = proposal.order_value / proposal.equity
        return _answer("position_size", share, self.max_fraction, "%", "order value of equity")


@dataclass(frozen=True, slots=True)
class MaxDrawdown:
    """Marked equity stands less than `max_fraction` below its peak."""

    enabled: bool = True
    max_fraction: float = 0.10

    def check(self, proposal: Proposal) -> Check:
        if proposal.equity is None or proposal.peak <= 0:
            return _unknown("max_drawdown", self.max_fraction, "%", "equity is not known")
        drawdown = max(0.0, (proposal.peak - proposal.equity) / proposal.peak)
        below = f"marked equity below its peak by {drawdown:.2%}"
        allowed = drawdown < self.max_fraction
        relation = "under" if allowed else "at or over"
        text = f"{below}, {relation} the limit {_shown(self.max_fraction, '%')}"
        return Check("max_drawdown", allowed, drawdown, self.max_fraction, "%", text)


@dataclass(frozen=True, slots=True)
class Concentration:
    """One instrument is at most `max_fraction` of equity, working orders counted."""

    enabled: bool = True
    max_fraction: float = 0.20

    def check(self, proposal: Proposal) -> Check:
        if proposal.equity is None or proposal.equity <= 0:
            return _unknown("concentration", self.max_fraction, "%", "equity is not known")
        share = abs(proposal.exposure_after) / proposal.equity
        return _answer("concentration", share, self.max_fraction, "%", "instrument of equity")


@dataclass(frozen=True, slots=True)
class Volatility:
    """The instrument's volatility over `window` bars, annualised, is at most `max_annual`."""

    enabled: bool = True
    max_annual: float = 1.5
    window: int = 20

    def check(self, proposal: Proposal) -> Check:
        found = annual_volatility(proposal.closes, self.window, proposal.bars_per_year)
        if found is None:
            have = max(0, len(proposal.closes) - 1)
            return _unknown(
                "volatility", self.max_annual, "%", f"{self.window} returns needed, {have} known"
            )
        return _answer(
            "volatility", found, self.max_annual, "%", f"{self.window}-bar volatility a year"
        )


@dataclass(frozen=True, slots=True)
class Liquidity:
    """An order's value is at most `max_fraction` of the mean traded value of `window` bars."""

    enabled: bool = True
    max_fraction: float = 0.05
    window: int = 20

    def check(self, proposal: Proposal) -> Check:
        values = proposal.values[-self.window :]
        if len(values) < self.window:
            why = f"{self.window} bars needed, {len(values)} known"
            return _unknown("liquidity", self.max_fraction, "%", why)
        mean = float(np.add.reduce(values)) / self.window
        if not mean > 0:
            return _unknown(
                "liquidity", self.max_fraction, "%", f"nothing traded in {self.window} bars"
            )
        share = proposal.order_value / mean
        what = f"order value of the {self.window}-bar mean traded value"
        return _answer("liquidity", share, self.max_fraction, "%", what)


@dataclass(frozen=True, slots=True)
class MaxPositions:
    """At most `most` instruments are held at a time. Off unless it is switched on."""

    enabled: bool = False
    most: int = 10

    def check(self, proposal: Proposal) -> Check:
        after, most = proposal.positions_after, self.most
        relation = "within" if after <= most else "over"
        text = f"{after} instruments held, {relation} the limit {most}"
        return Check("max_positions", after <= most, float(after), float(most), "", text)


Rule = PositionSize | MaxDrawdown | Concentration | Volatility | Liquidity | MaxPositions


@dataclass(frozen=True)
class RiskPolicy:
    """The rules, in the order they are asked. All of them answer, even after a denial."""

    position_size: PositionSize = field(default_factory=PositionSize)
    max_drawdown: MaxDrawdown = field(default_factory=MaxDrawdown)
    concentration: Concentration = field(default_factory=Concentration)
    volatility: Volatility = field(default_factory=Volatility)
    liquidity: Liquidity = field(default_factory=Liquidity)
    max_positions: MaxPositions = field(default_factory=MaxPositions)

    def rules(self) -> tuple[Rule, ...]:
        return self._enabled

    @cached_property
    def _enabled(self) -> tuple[Rule, ...]:
        every = (
            self.position_size, self.max_drawdown, self.concentration, self.volatility, self.liquidity,
            self.max_positions,
        )  # fmt: skip
        return tuple(rule for rule in every if rule.enabled)

    def check(self, proposal: Proposal) -> tuple[Check, ...]:
        checks = [rule.check(proposal) for rule in self._enabled]
        if proposal.margin_after is not None:
            checks.append(_margin(proposal.margin_after))
        return tuple(checks)

    def window(self) -> int:
        """Bars of history the rules read."""
        return max(self.volatility.window + 1, self.liquidity.window)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _margin(used: float) -> Check:
    """Leverage is no rule that can be switched off: the venue would refuse the order."""
    allowed = used <= 1 + 1e-9
    relation = "within" if allowed else "over"
    text = f"used margin {used:.2%} of equity, {relation} the limit 100.00%"
    return Check("margin", allowed, used, 1.0, "%", text)


OFF = RiskPolicy(
    PositionSize(enabled=False),
    MaxDrawdown(enabled=False),
    Concentration(enabled=False),
    Volatility(enabled=False),
    Liquidity(enabled=False),
)


def policy_from(given: Mapping[str, Any]) -> RiskPolicy:
    """A policy from its JSON; a missing rule keeps its defaults. BadPolicy names what is wrong."""
    rules = {f.name: f.default_factory for f in fields(RiskPolicy)}
    if extra := set(given) - set(rules):
        raise BadPolicy(f"{', '.join(sorted(extra))}: no such rule (known: {', '.join(rules)})")
    return RiskPolicy(**{name: _rule(rules[name], name, given[name]) for name in given})


def _rule(kind: Any, name: str, given: Mapping[str, Any]) -> Any:
    known = {f.name: f.default for f in fields(kind)}
    if not isinstance(given, Mapping):
        raise BadPolicy(f"{name}: {given!r} is not a set of settings")
    settings: dict[str, Any] = {}
    for setting, raw in given.items():
        if setting not in known:
            raise BadPolicy(f"{name}.{setting}: no such setting (known: {', '.join(known)})")
        settings[setting] = _setting(f"{name}.{setting}", raw, known[setting])
    return kind(**settings)


def _setting(where: str, raw: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if not isinstance(raw, bool):
            raise BadPolicy(f"{where}: {raw!r} is not true or false")
        return raw
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadPolicy(f"{where}: {raw!r} is not a number") from None
    if isinstance(default, int):
        least, what = (1, "") if where.endswith(".most") else (2, " of bars")
        if not least <= number <= 500 or number != int(number):
            raise BadPolicy(f"{where}: {raw!r} must be a whole number{what} from {least} to 500")
        return int(number)
    if not 0 < number <= 100 or not math.isfinite(number):
        raise BadPolicy(f"{where}: {raw!r} must be above 0 (0.05 is 5 %)")
    return number
