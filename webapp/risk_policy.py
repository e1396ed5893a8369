"""The six risk rules as the console shows and edits them: names, limits, words.

A policy is the JSON of `accounts.risk_policy`; a rule it does not mention has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from webapp.formats import percent, quantity


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its settings. `limit` is a fraction, or a count where `unit` is not per cent.

    `window` counts bars, None where there is none.
    """

    name: str
    title: str
    text: str
    setting: str
    limit: float
    window: int | None = None
    enabled: bool = True
    highest: float = 1.0
    """The largest limit that makes sense to enter."""

    unit: str = "%"

    @property
    def is_count(self) -> bool:
        return self.unit != "%"

    @property
    def scale(self) -> int:
        """From the limit to what people type."""
        return 1 if self.is_count else 100

    def text_of(self, value: float | None) -> str:
        """A measurement of this rule."""
        return quantity(value) if self.is_count else percent(value, 1)

    @property
    def limit_text(self) -> str:
        if self.is_count:
            return quantity(self.limit)
        return percent(self.limit, 1 if self.limit < 1 else 0)


DEFAULTS: Final = (
    Rule(
        "position_size",
        "Position size",
        "No order may be worth more than this share of equity.",
        "max_fraction",
        0.05,
        highest=10.0,
    ),
    Rule(
        "max_drawdown",
        "Maximum drawdown",
        "No new exposure once marked equity stands this far below its peak.",
        "max_fraction",
        0.10,
    ),
    Rule(
        "concentration",
        "Concentration",
        "One instrument may not become more than this share of equity, working orders counted.",
        "max_fraction",
        0.20,
        highest=10.0,
    ),
    Rule(
        "volatility",
        "Volatility",
        "No entry into an instrument whose annualised volatility over the window is higher.",
        "max_annual",
        1.5,
        window=20,
        highest=100.0,
    ),
    Rule(
        "liquidity",
        "Liquidity",
        "No order larger than this share of the mean value traded per bar over the window.",
        "max_fraction",
        0.05,
        window=20,
        highest=10.0,
    ),
    Rule(
        "max_positions",
        "Open positions",
        "No entry into one more instrument once this many are held.",
        "most",
        10,
        enabled=False,
        highest=500,
        unit="instruments",
    ),
)


def rules_of(policy: Mapping[str, Any]) -> dict[str, Rule]:
    """Every rule by name: what the policy says, defaults for the rest."""
    return {rule.name: _read(rule, policy.get(rule.name) or {}) for rule in DEFAULTS}


def _read(rule: Rule, said: Mapping[str, Any]) -> Rule:
    return replace(
        rule,
        enabled=bool(said.get("enabled", rule.enabled)),
        limit=float(said.get(rule.setting, rule.limit)),
        window=int(said.get("window", rule.window)) if rule.window is not None else None,
    )


def policy_of(rules: Mapping[str, Rule]) -> dict[str, Any]:
    """The JSON the engine takes."""
    policy = {}
    for rule in rules.values():
        limit = int(rule.limit) if rule.is_count else rule.limit
        said: dict[str, Any] = {"enabled": rule.enabled, rule.setting: limit}
        if rule.window is not None:
            said["window"] = rule.window
        policy[rule.name] = said
    return policy


@dataclass(frozen=True, slots=True)
class PolicyForm:
    """A policy as typed in: `entered` keeps the text as it was, `problems` says what is wrong with it."""

    rules: dict[str, Rule]
    entered: dict[str, str]
    problems: dict[str, str]


def shown(policy: Mapping[str, Any], prefix: str = "rule.") -> PolicyForm:
    """The form of a policy nobody has edited yet. Fractions are shown in per cent."""
    rules = rules_of(policy)
    entered = {}
    for rule in rules.values():
        entered[f"{prefix}{rule.name}.enabled"] = "yes" if rule.enabled else ""
        entered[f"{prefix}{rule.name}.limit"] = f"{rule.limit * rule.scale:.10g}"
        if rule.window is not None:
            entered[f"{prefix}{rule.name}.window"] = str(rule.window)
    return PolicyForm(rules, entered, {})


def read(form: Mapping[str, str], prefix: str = "rule.") -> PolicyForm:
    """The policy in a submitted form; check `problems` before using `rules`."""
    rules: dict[str, Rule] = {}
    entered: dict[str, str] = {}
    problems: dict[str, str] = {}
    for rule in DEFAULTS:
        key = f"{prefix}{rule.name}"
        entered[f"{key}.enabled"] = form.get(f"{key}.enabled", "")
        limit = entered[f"{key}.limit"] = form.get(f"{key}.limit", "").strip()
        number = _number(limit)
        most = rule.highest * rule.scale
        if number is None or not 0 < number <= most or (rule.is_count and number % 1):
            words = (
                f"a count from 1 to {most:g}" if rule.is_count else f"more than 0, up to {most:g} %"
            )
            problems[f"{key}.limit"] = f"{limit or 'nothing'} is not a limit: {words}"
        window = rule.window
        if window is not None:
            text = entered[f"{key}.window"] = form.get(f"{key}.window", "").strip()
            if not text.isdecimal() or not 2 <= int(text) <= 500:
                problems[f"{key}.window"] = (
                    f"{text or 'nothing'} is not a count of bars from 2 to 500"
                )
            else:
                window = int(text)
        rules[rule.name] = replace(
            rule,
            enabled=bool(entered[f"{key}.enabled"]),
            limit=(number or rule.limit * rule.scale) / rule.scale,
            window=window,
        )
    return PolicyForm(rules, entered, problems)


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
