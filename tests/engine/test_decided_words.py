"""The decisions of a compiled run, put in words later, say what the core said when it decided."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict

from engine.backtest.simulation import simulate
from engine.backtest.specification import run
from shared.domain import decided
from shared.domain.decided import Decided
from shared.domain.decisions import Decision
from tests.engine.kernel_cases import Case, a_case

CASES = 40
LOST = {
    "it is less than the venue takes": r"less than one lot|under the venue's minimum",
    "the distance of an exit is not known yet": r"the \w+ of its \w+ is not known yet",
}
"""Reasons that keep no numbers in columns, and what the core says for each."""


def in_words(case: Case) -> list[decided.DecidedRow]:
    """As they are stored for a run, and read again."""
    specification = case.specification
    records = simulate(specification).decisions
    traded = np.array([bound.instrument_id for bound in specification.inputs if bound.trades])
    columns = {name: records[name] for name in decided.COLUMNS if name != "instrument"}
    columns["instrument"] = traded[records["book"]]
    options = {
        "risk_policy": specification.policy.as_json(),
        "margin": specification.margin.as_json(),
    }
    kept = Decided.of(decided.pack(columns, ()), options)
    return [kept.row(i) for i in range(len(kept))]


def numberless(text: str) -> str:
    """Without numbers that differ by rounding; windows stay."""
    return re.sub(r"[+-]?\d[\d.,e+-]*(?!-bar)", "#", text)


def said(checks: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(c["rule"], c["allowed"], c["unit"], numberless(c["text"])) for c in checks]


def assert_same_words(truth: Decision, told: decided.DecidedRow) -> None:
    checks = [asdict(check) for check in truth.checks]
    fewer = [{**c, "text": re.sub(r", \d+ known", ", fewer known", c["text"])} for c in checks]
    assert said(told.checks) == said(fewer)
    for ours, theirs in zip(told.checks, checks, strict=True):
        assert (ours["value"] is None) == (theirs["value"] is None)
        assert (ours["value"] or 0) == pytest.approx(theirs["value"] or 0, rel=1e-7, abs=1e-9)
        assert ours["limit"] == theirs["limit"]
    if told.reason in LOST:
        assert re.search(LOST[told.reason], truth.reason)
    elif told.outcome == "nothing":
        assert told.reason == truth.reason
    if truth.steps and truth.steps[-1].name == "close":
        steps = [(step.name, numberless(step.text)) for step in truth.steps]
        assert [(step["name"], numberless(step["text"])) for step in told.steps] == steps


def test_words_made_from_columns_are_the_words_of_the_core() -> None:
    seen: Counter[str] = Counter()
    for seed in range(CASES):
        case = a_case(seed)
        truth, told = run(case.specification).record.decisions, in_words(case)
        for decision, row in zip(truth, told, strict=True):
            assert_same_words(decision, row)
            seen.update(check["rule"] for check in row.checks)
            seen[row.reason if row.outcome == "nothing" else row.outcome] += 1
            seen.update(f"step {step['name']}" for step in row.steps)
    for rule in ("position_size", "max_drawdown", "volatility", "liquidity", "margin"):
        assert seen[rule] > 0
    assert seen["denied"] > 0
    assert seen["step close"] > 0
