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


class Kept:
    """The decisions of one run, in whatever form: `columns` hold what they are looked up by.

    at          int64[decisions]  nanoseconds
    instrument  int64[decisions]  ids
    outcome     int64[decisions]  an index of OUTCOMES
    """

    def __init__(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        self.columns = columns

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
        """The decision at `index` (its number is one more), in words. IndexError: here are none."""
        raise IndexError(index)


class Decided(Kept):
    """A kernel's. `policy` is the run's risk policy as JSON, `allow_short` whether it may sell short."""

    def __init__(
        self, data: bytes, policy: Mapping[str, Any], *, allow_short: bool = False
    ) -> None:
        raw = zlib.decompress(data)
        start = 4 + int.from_bytes(raw[:4], "little")
        head = json.loads(raw[4:start])
        self.because: list[str] = head["because"]
        self.policy, self.allow_short = policy, allow_short
        count = head["count"]
        columns: dict[str, npt.NDArray[Any]] = {}
        for name in COLUMNS:
            type_ = "<i8" if name in _WHOLE else "<f8"
            columns[name] = np.frombuffer(raw, type_, count, start)
            start += 8 * count
        super().__init__(columns)

    @classmethod
    def of(cls, data: bytes, options: Mapping[str, Any]) -> Decided:
        """Those of a run with these options, as its row has them."""
        margin = options.get("margin") or {}
        policy = options.get("risk_policy") or {}
        return cls(data, policy, allow_short=bool(margin.get("enabled")))

    def row(self, index: int) -> DecidedRow:
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
            steps=_steps(told, allow_short=self.allow_short),
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
    checks = [check(told, policy[rule]) for rule, check in _RULES.items() if _is_on(policy, rule)]
    if not math.isnan(told["margin_after"]):
        checks.append(_margin(told["margin_after"]))
    return checks


def _is_on(policy: Mapping[str, Any], rule: str) -> bool:
    return bool(policy.get(rule, {}).get("enabled"))


# The words of `engine.risk.rules`, from numbers that were kept.


def _position_size(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    what = "order value of equity"
    return _of_equity("position_size", told, told["order_value"], rule, what)


def _concentration(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    what = "instrument of equity"
    return _of_equity("concentration", told, abs(told["exposure_after"]), rule, what)


def _of_equity(
    name: str, told: Mapping[str, Any], value: float, rule: Mapping[str, Any], what: str
) -> dict[str, Any]:
    if not told["account_equity"] > 0:
        return _unknown(name, rule["max_fraction"], "equity is not known")
    return _share(name, value / told["account_equity"], rule["max_fraction"], what)


def _max_drawdown(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    limit, peak = rule["max_fraction"], told["peak"]
    if not peak > 0:
        return _unknown("max_drawdown", limit, "equity is not known")
    drawdown = max(0.0, (peak - told["account_equity"]) / peak)
    allowed = drawdown < limit
    relation = "under" if allowed else "at or over"
    text = f"marked equity below its peak by {drawdown:.2%}, {relation} the limit {limit:.2%}"
    return _told("max_drawdown", text, value=drawdown, limit=limit, unit="%", allowed=allowed)


def _volatility(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    found, limit, window = told["rule_volatility"], rule["max_annual"], rule["window"]
    if math.isnan(found):
        return _unknown("volatility", limit, f"{window} returns needed, fewer known")
    return _share("volatility", found, limit, f"{window}-bar volatility a year")


def _liquidity(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    mean, limit, window = told["mean_value"], rule["max_fraction"], rule["window"]
    if math.isnan(mean):
        return _unknown("liquidity", limit, f"{window} bars needed, fewer known")
    if not mean > 0:
        return _unknown("liquidity", limit, f"nothing traded in {window} bars")
    what = f"order value of the {window}-bar mean traded value"
    return _share("liquidity", told["order_value"] / mean, limit, what)


def _max_positions(told: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    after, most = told["positions_after"], float(rule["most"])
    relation = "within" if after <= most else "over"
    text = f"{after:.0f} instruments held, {relation} the limit {most:.0f}"
    return _told("max_positions", text, value=after, limit=most, unit="", allowed=after <= most)


_RULES: Final = {
    "position_size": _position_size,
    "max_drawdown": _max_drawdown,
    "concentration": _concentration,
    "volatility": _volatility,
    "liquidity": _liquidity,
    "max_positions": _max_positions,
}
"""In the order they are asked."""


def _margin(used: float) -> dict[str, Any]:
    allowed = used <= 1 + 1e-9
    relation = "within" if allowed else "over"
    text = f"used margin {used:.2%} of equity, {relation} the limit 100.00%"
    return _told("margin", text, value=used, limit=1.0, unit="%", allowed=allowed)


def _unknown(rule: str, limit: float, why: str) -> dict[str, Any]:
    return _told(rule, f"{why}: denied", value=None, limit=limit, unit="%", allowed=False)


def _share(rule: str, value: float, limit: float, what: str) -> dict[str, Any]:
    allowed = value <= limit
    relation = "within" if allowed else "over"
    text = f"{what} {value:.2%}, {relation} the limit {limit:.2%}"
    return _told(rule, text, value=value, limit=limit, unit="%", allowed=allowed)


def _told(rule: str, text: str, **numbers: Any) -> dict[str, Any]:
    return {"rule": rule, **numbers, "text": text}


# The words of `engine.sizing`, as far as the numbers say.


def _steps(told: Mapping[str, Any], *, allow_short: bool) -> list[dict[str, Any]]:
    """What sizing read, and what it came to."""
    if told["price"] == 0 or math.isnan(told["equity"]):
        return []
    target, held, change, value = (told[name] for name in ("target", "held", "change", "value"))
    steps = []
    if target < 0 and not allow_short:
        text = f"target {target:g} is short; this account trades long only"
        steps.append(_step("short", 0.0, text))
        target = 0.0
    if target == 0 and held == 0:
        return steps
    if target == 0:
        return [*steps, _step("close", -held, f"all of the {held:.10g} held")]
    if value:
        share = value / told["cash"] if told["cash"] else target
        return [_step("cash", value, f"{share:g} of {told['cash']:.10g} free cash")]
    if REASONS[told["reason"]] == "no free cash":
        return [_step("cash", 0.0, f"{told['cash']:.10g} free cash")]
    if not math.isnan(told["volatility"]):
        steps.append(_step("volatility", told["volatility"], f"{told['volatility']:.2%} a year"))
    steps.append(_step("equity", told["equity"], f"{told['equity']:.10g} allocated"))
    if not change:
        return [*steps, _step("held", held, f"{held:.10g} held")] if held else steps
    wanted, price = (change + held) * told["price"], told["price"]
    return [
        *steps,
        _step("change", change, f"{wanted:.10g} at {price:.10g}, less {held:.10g} held"),
    ]


def _step(name: str, value: float, text: str) -> dict[str, Any]:
    return {"name": name, "value": value, "text": text}
