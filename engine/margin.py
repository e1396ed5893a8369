"""Selling short and borrowing on paper: how much, at what cost, and when it is called in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final


class BadMargin(ValueError):
    """Margin settings that cannot be: names the field, the value, and what to give instead."""


@dataclass(frozen=True, slots=True)
class Margin:
    """What an account may owe.

    leverage           the value of all positions, long and short, is at most this much of equity
    borrow_rate        what borrowing costs a year, as a fraction: of the value sold short, and of
                       money owed
    call_level         equity over used margin (the value held over `leverage`) below which entries
                       are denied and the owner is told
    liquidation_level  and below which positions are closed, the largest first
    """

    enabled: bool = False
    leverage: float = 1.0
    borrow_rate: float = 0.0
    call_level: float = 0.8
    liquidation_level: float = 0.4

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Margin:
        """Checked settings; BadMargin says what is wrong with which field."""
        known = set(cls.__dataclass_fields__)
        if extra := set(given) - known:
            raise BadMargin(
                f"margin: {', '.join(sorted(extra))} is no setting (known: {', '.join(sorted(known))})"
            )
        enabled = given.get("enabled", False)
        if not isinstance(enabled, bool):
            raise BadMargin(f"enabled: {enabled!r} is not true or false")
        margin = cls(
            enabled,
            _number(given, "leverage", 1.0, 1.0, 20.0),
            _number(given, "borrow_rate", 0.0, 0.0, 5.0),
            _number(given, "call_level", 0.8, 0.01, 1.0),
            _number(given, "liquidation_level", 0.4, 0.01, 1.0),
        )
        if margin.liquidation_level >= margin.call_level:
            raise BadMargin(
                f"liquidation_level: {margin.liquidation_level:g} must be below the call level"
                f" of {margin.call_level:g}"
            )
        return margin

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def used(self, gross: float) -> float:
        """The equity that positions worth `gross` tie up."""
        return gross / self.leverage

    def level(self, equity: float, gross: float) -> float:
        """Equity over used margin; infinite when nothing is held."""
        return equity / self.used(gross) if gross > 0 else math.inf


def _number(
    given: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float:
    raw = given.get(name)
    if raw in (None, ""):
        return default
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadMargin(f"{name}: {raw!r} is not a number") from None
    if not least <= number <= most:
        raise BadMargin(f"{name}: {raw!r} must be from {least:g} to {most:g}")
    return number


NO_MARGIN: Final = Margin()
