"""The decisions of a compiled run in columns, and each of them in words when somebody looks.

A run over a million bars decides tens of thousands of times: it keeps the numbers each decision was made
with. What rules and sizing said about them follows from the numbers and the run's risk policy.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

KINDS: Final = ("signal", "time_exit", "liquidation")
OUTCOMES: Final = ("ordered", "denied", "nothing")
REASONS: Final = (
    "",
    "no price is known",
    "nothing is held",
    "no free cash",
    "it is less than the venue takes",
    "the instrument's volatility is not known yet",
    "what is held is what is wanted",
    "nothing is left after rounding to lots",
    "the distance of an exit is not known yet",
)
"""Why nothing was traded, by its code."""

_WHOLE: Final = ("at", "instrument", "kind", "outcome", "reason", "tag")
_NUMBERS: Final = (
    "target", "price", "equity", "cash", "held", "volatility", "change", "value", "order_value",
    "exposure_after", "account_equity", "peak", "positions_after", "margin_after",
    "rule_volatility", "mean_value",
)  # fmt: skip
COLUMNS: Final = (*_WHOLE, *_NUMBERS)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DecidedRow:
    """One decision as the table of decisions would tell it. `checks` and `steps` as JSON has them."""

    number: int
    instrument_id: int
    decided_at: datetime
    kind: str
    target: float | None
    because: str
    bar: dict[str, Any] | None
    checks: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    outcome: str
    reason: str


def pack(columns: Mapping[str, npt.NDArray[Any]], because: Sequence[str]) -> bytes:
    """Columns of equal length, and the words of each decision or none at all, as bytes for a row."""
    count = len(columns["at"])
    head = json.dumps({"count": count, "because": list(because)}).encode()
    parts = [np.ascontiguousarray(columns[name], "<i8") for name in _WHOLE]
    parts += [np.ascontiguousarray(columns[name], "<f8") for name in _NUMBERS]
    body = b"".join(part.tobytes() for part in parts)
    return zlib.compress(len(head).to_bytes(4, "little") + head + body, 1)


class Decided:
    """The decisions of one run. `policy` is its risk policy as JSON."""

    def __init__(self, data: bytes, policy: Mapping[str, Any]) -> None:
        raw = zlib.decompress(data)
        start = 4 + int.from_bytes(raw[:4], "little")
        head = json.loads(raw[4:start])
        self.because: list[str] = head["because"]
        self.policy = policy
        count = head["count"]
        self.columns: dict[str, npt.NDArray[Any]] = {}
        for name in COLUMNS:
            type_ = "<i8" if name in _WHOLE else "<f8"
            self.columns[name] = np.frombuffer(raw, type_, count, start)
            start += 8 * count

    def __len__(self) -> int:
        return len(self.columns["at"])

    def rows_of(
        self, *, outcome: str = "", instrument_id: int | None = None
    ) -> npt.NDArray[np.intp]:
        """Which decisions had this outcome, about this instrument."""
        wanted = np.ones(len(self), np.bool_)
        if outcome:
            known = OUTCOMES.index(outcome) if outcome in OUTCOMES else -1
            wanted &= self.columns["outcome"] == known
        if instrument_id is not None:
            wanted &= self.columns["instrument"] == instrument_id
        return np.flatnonzero(wanted)

    def outcomes(self) -> dict[str, int]:
        """How many decisions had each outcome that occurred."""
        counts = np.bincount(self.columns["outcome"], minlength=len(OUTCOMES))
        return {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True) if count}

    def row(self, index: int) -> DecidedRow:
        """The decision at `index` (its number is one more), in words."""
        told = {name: column[index].item() for name, column in self.columns.items()}
        kind = KINDS[told["kind"]]
        target = told["target"] if kind == "signal" else None
        checks = _checks(told, self.policy)
        reason = REASONS[told["reason"]]
        if OUTCOMES[told["outcome"]] == "denied":
            denied = [check for check in checks if not check["allowed"]]
            reason = "; ".join(f"{check['rule']}: {check['text']}" for check in denied)
        return DecidedRow(
            number=index + 1,
            instrument_id=told["instrument"],
            decided_at=_EPOCH + timedelta(microseconds=told["at"] // 1000),
            kind=kind,
            target=target,
            because=(self.because[index] if self.because else "") or _because(kind),
            bar={"close": told["price"]} if told["price"] else None,
            checks=checks,
            steps=_steps(told),
            outcome=OUTCOMES[told["outcome"]],
            reason=reason,
        )


def _because(kind: str) -> str:
    words = {
        "time_exit": "held for its time",
        "liquidation": "equity fell too far below used margin",
    }
    return words.get(kind, "")


def _checks(told: Mapping[str, Any], policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each rule that is on said, from the numbers it read; none for what makes a position smaller."""
    if math.isnan(told["order_value"]):
        return []
    equity, peak = told["account_equity"], told["peak"]
    shares = told["order_value"] / equity if equity > 0 else math.nan
    all_of_it = abs(told["exposure_after"]) / equity if equity > 0 else math.nan
    drawdown = max(0.0, (peak - equity) / peak) if peak > 0 else math.nan
    mean = told["mean_value"]
    of_volume = told["order_value"] / mean if mean > 0 else math.nan
    found = [
        ("position_size", shares, "max_fraction", "%", "order value of equity"),
        ("max_drawdown", drawdown, "max_fraction", "%", "marked equity below its peak by"),
        ("concentration", all_of_it, "max_fraction", "%", "instrument of equity"),
        ("volatility", told["rule_volatility"], "max_annual", "%", "volatility a year"),
        ("liquidity", of_volume, "max_fraction", "%", "order value of the mean traded value"),
        ("max_positions", told["positions_after"], "most", "", "instruments held"),
    ]
    checks = [
        _check(rule, value, float(policy[rule][limit]), unit, what)
        for rule, value, limit, unit, what in found
        if policy.get(rule, {}).get("enabled")
    ]
    if not math.isnan(told["margin_after"]):
        checks.append(_check("margin", told["margin_after"], 1.0, "%", "used margin of equity"))
    return checks


def _check(rule: str, value: float, limit: float, unit: str, what: str) -> dict[str, Any]:
    if math.isnan(value):
        text = f"{what} is not known yet: denied"
        return _told(rule, text, value=None, limit=limit, unit=unit, allowed=False)
    noise = 1e-9 if rule == "margin" else 0.0
    allowed = value < limit if rule == "max_drawdown" else value <= limit + noise
    relation = "within" if allowed else "over"
    shown = f"{value:.2%}, {relation} the limit {limit:.2%}"
    if unit != "%":
        shown = f"{value:,.0f}, {relation} the limit {limit:,.0f}"
    return _told(rule, f"{what} {shown}", value=value, limit=limit, unit=unit, allowed=allowed)


def _told(rule: str, text: str, **numbers: Any) -> dict[str, Any]:
    return {"rule": rule, **numbers, "text": text}


def _steps(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What sizing read, and what it came to."""
    if told["price"] == 0 or math.isnan(told["equity"]):
        return []
    steps = [
        {"name": "equity", "value": told["equity"], "text": f"{told['equity']:.10g} allocated"},
        {"name": "cash", "value": told["cash"], "text": f"{told['cash']:.10g} free to spend"},
        {"name": "held", "value": told["held"], "text": f"{told['held']:.10g} held"},
    ]
    if not math.isnan(told["volatility"]):
        text = f"{told['volatility']:.2%} a year"
        steps.append({"name": "volatility", "value": told["volatility"], "text": text})
    if told["value"]:
        text = f"{told['value']:.10g} to spend"
        steps.append({"name": "value", "value": told["value"], "text": text})
    elif told["change"]:
        text = f"{told['change']:+.10g} to trade at {told['price']:.10g}"
        steps.append({"name": "change", "value": told["change"], "text": text})
    return steps
