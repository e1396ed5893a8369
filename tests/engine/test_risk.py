"""Each rule reads and answers with value, limit and verdict. Unknown is denied."""

from __future__ import annotations

import numpy as np
import pytest

from engine.risk.rules import (
    BadPolicy,
    Concentration,
    Liquidity,
    MaxDrawdown,
    PositionSize,
    Proposal,
    RiskPolicy,
    Volatility,
    policy_from,
)
from engine.risk.volatility import annual_volatility

CLOSES = np.exp(np.cumsum(np.tile([0.01, -0.01], 20)))


def a_proposal(**changed):
    given = {
        "order_value": 4000.0, "exposure_after": 4000.0, "equity": 100_000.0, "peak": 100_000.0,
        "closes": CLOSES, "values": np.full(30, 1e6), "bars_per_year": 252.0,
    }  # fmt: skip
    return Proposal(**{**given, **changed})


@pytest.mark.parametrize(
    ("rule", "changed", "allowed", "value"),
    [
        (PositionSize(), {"order_value": 5000.0}, True, 0.05),
        (PositionSize(), {"order_value": 5000.01}, False, 0.0500001),
        (MaxDrawdown(), {"equity": 90_001.0}, True, 0.09999),
        (MaxDrawdown(), {"equity": 90_000.0}, False, 0.1),
        (Concentration(), {"exposure_after": 20_000.0}, True, 0.2),
        (Concentration(), {"exposure_after": 20_001.0}, False, 0.20001),
        (Volatility(max_annual=0.17), {}, True, 0.01 * np.sqrt(252) * np.sqrt(20 / 19)),
        (Volatility(max_annual=0.16), {}, False, 0.01 * np.sqrt(252) * np.sqrt(20 / 19)),
        (Liquidity(), {"order_value": 50_000.0}, True, 0.05),
        (Liquidity(), {"order_value": 50_001.0}, False, 0.050001),
    ],
)
def test_each_rule_at_its_limit(rule, changed, allowed, value):
    check = rule.check(a_proposal(**changed))
    assert check.allowed is allowed
    assert check.value == pytest.approx(value)
    assert check.limit == (getattr(rule, "max_fraction", None) or rule.max_annual)
    assert check.text


@pytest.mark.parametrize(
    ("rule", "changed", "why"),
    [
        (PositionSize(), {"equity": None}, "equity is not known"),
        (MaxDrawdown(), {"equity": None}, "equity is not known"),
        (Concentration(), {"equity": None}, "equity is not known"),
        (Concentration(), {"equity": -5.0}, "equity is not known"),
        (Volatility(), {"closes": CLOSES[:20]}, "20 returns needed, 19 known"),
        (Volatility(), {"closes": CLOSES[:0]}, "20 returns needed, 0 known"),
        (Liquidity(), {"values": np.full(19, 1e6)}, "20 bars needed, 19 known"),
        (Liquidity(), {"values": np.zeros(20)}, "nothing traded in 20 bars"),
    ],
)
def test_what_cannot_be_known_is_denied_and_says_why(rule, changed, why):
    check = rule.check(a_proposal(**changed))
    assert (check.allowed, check.value) == (False, None)
    assert why in check.text


def test_all_rules_answer_even_after_a_denial():
    checks = RiskPolicy().check(a_proposal(order_value=50_000.0, exposure_after=50_000.0))
    assert [check.rule for check in checks] == [
        "position_size", "max_drawdown", "concentration", "volatility", "liquidity",
    ]  # fmt: skip
    assert [check.allowed for check in checks] == [False, True, False, True, True]


def test_a_policy_survives_json_and_a_missing_rule_keeps_its_default():
    policy = policy_from(
        {"liquidity": {"max_fraction": 0.5, "window": 7}, "volatility": {"enabled": False}}
    )
    assert policy_from(policy.as_json()) == policy
    assert policy.position_size == PositionSize()
    assert [type(rule).__name__ for rule in policy.rules()] == [
        "PositionSize", "MaxDrawdown", "Concentration", "Liquidity",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"luck": {}}, "luck: no such rule"),
        ({"liquidity": {"maxx": 1}}, "liquidity.maxx: no such setting"),
        ({"liquidity": {"max_fraction": "x"}}, "liquidity.max_fraction: 'x' is not a number"),
        ({"liquidity": {"max_fraction": 0}}, "liquidity.max_fraction: 0 must be above 0"),
        ({"liquidity": {"window": 1}}, "liquidity.window: 1 must be a whole number of bars"),
        ({"liquidity": {"enabled": "yes"}}, "liquidity.enabled: 'yes' is not true or false"),
        ({"liquidity": 5}, "liquidity: 5 is not a set of settings"),
    ],
)
def test_a_wrong_policy_names_rule_field_value_and_remedy(given, message):
    with pytest.raises(BadPolicy, match=message):
        policy_from(given)


def test_volatility_is_the_sample_deviation_of_log_returns_annualised():
    closes = np.array([100.0, 110.0, 99.0, 104.0])
    expected = np.std(np.log(closes[1:] / closes[:-1]), ddof=1) * np.sqrt(365)
    assert annual_volatility(closes, 3, 365) == pytest.approx(expected)
    assert annual_volatility(closes, 4, 365) is None
