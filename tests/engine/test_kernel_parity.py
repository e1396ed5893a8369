"""The compiled kernels against the core: the same times, prices and lots, and equity to 1e-9."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from engine.backtest.kernel import Machine, NotCovered
from engine.backtest.results import FILL_TYPES, LEGS, Simulated
from engine.backtest.simulation import in_columns, simulate
from engine.backtest.specification import Outcome, run, strategy_of
from engine.bars import nanoseconds
from engine.costs import Costs
from engine.margin import NO_MARGIN
from engine.matching import Matching
from engine.risk.rules import OFF
from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import Evaluation
from shared.domain.decided import KINDS, OUTCOMES
from shared.domain.orders import Fill
from shared.domain.signals import Signals
from tests.builders import an_instrument
from tests.engine.kernel_cases import Case, a_case, asked_bar_by_bar, saying

SAMPLE = 120
ALL = 10_000
PROTECTIVE = [LEGS.index(leg) for leg in ("stop_loss", "take_profit", "trailing_stop")]


def a_machine(case: Case, *, decisions: bool = True) -> Machine:
    specification = case.specification
    evaluation = Evaluation(strategy_of(specification), specification.inputs, specification.bars)
    return Machine(specification, evaluation, decisions=decisions)


def through_kernel(case: Case) -> Simulated:
    if case.specification.strategy.is_scalar():
        simulated = simulate(case.specification)
        assert not simulated.why, simulated.why
        return simulated
    machine = a_machine(case)
    machine.run()
    return machine.result()


def core_fills(outcome: Outcome) -> list[tuple[Any, ...]]:
    """(instrument, time, side, leg, quantity, price, fee) of each fill."""
    kinds = {
        request.client_order_id: decision.kind
        for decision in outcome.record.decisions
        for request in decision.requests
    }
    rows = []
    for booked in outcome.record.fills:
        fill = booked.fill
        leg, kind = booked.leg.value, kinds.get(fill.client_order_id, "")
        if leg == "exit" and kind in ("time_exit", "liquidation"):
            leg = kind
        numbers = (float(fill.quantity), float(fill.price), float(fill.fee))
        rows.append((fill.instrument_id, nanoseconds(fill.at), fill.side.sign, leg, *numbers))
    return rows


def kernel_fills(simulated: Simulated) -> list[tuple[Any, ...]]:
    fills = simulated.fills
    columns = [fills.instrument, fills.at, fills.side, fills.leg, fills.quantity, fills.price, fills.fee]  # fmt: skip
    return [
        (i, at, side, LEGS[leg], *numbers)
        for i, at, side, leg, *numbers in zip(*(c.tolist() for c in columns), strict=True)
    ]


def compare(case: Case) -> tuple[Outcome, Simulated]:
    """Both ways, held to each other."""
    outcome, simulated = run(case.specification), through_kernel(case)
    truth, found = core_fills(outcome), kernel_fills(simulated)
    for ours, theirs in zip(found, truth, strict=False):
        assert ours[:4] == theirs[:4]
        np.testing.assert_allclose(ours[4:], theirs[4:], rtol=1e-9, atol=1e-9)
    assert len(found) == len(truth)
    np.testing.assert_array_equal(simulated.times, outcome.record.times)
    np.testing.assert_allclose(simulated.equity, outcome.record.equity, rtol=1e-9)
    np.testing.assert_allclose(simulated.exposure, outcome.record.exposure, rtol=1e-7, atol=1e-9)
    told = in_columns(case.specification, outcome)
    assert simulated.counts == told.counts
    np.testing.assert_allclose(astuple(simulated.paid), astuple(told.paid), rtol=1e-9, atol=1e-9)
    assert_same_decisions(outcome, simulated)
    return outcome, simulated


def assert_same_decisions(outcome: Outcome, simulated: Simulated) -> None:
    truth = [
        (nanoseconds(d.decided_at), d.kind, d.outcome.value, d.target or 0.0, d.price)
        for d in outcome.record.decisions
    ]
    found = [
        (
            int(r["at"]),
            KINDS[r["kind"]],
            OUTCOMES[r["outcome"]],
            float(r["target"]),
            float(r["price"]),
        )
        for r in simulated.decisions
    ]
    assert [row[:3] for row in found] == [row[:3] for row in truth]
    np.testing.assert_allclose([r[3:] for r in found], [r[3:] for r in truth], rtol=1e-12)


def checked(seed: int) -> tuple[Case, Outcome, Simulated]:
    case = a_case(seed)
    try:
        return (case, *compare(case))
    except (NotCovered, AssertionError) as difference:
        raise AssertionError(f"case {seed}: {difference}") from difference


@pytest.mark.parametrize("block", range(4), ids=str)
def test_kernel_and_core_agree_on_random_runs(block: int) -> None:
    traded = 0
    for seed in range(block * SAMPLE // 4, (block + 1) * SAMPLE // 4):
        traded += len(checked(seed)[2].fills) > 0
    assert traded >= SAMPLE // 4 * 0.7


@pytest.mark.parametrize("seed", [634, 3454], ids=["spent to the last digit", "marked by history"])
def test_kernel_and_core_agree_where_they_once_did_not(seed: int) -> None:
    assert len(checked(seed)[2].fills) > 0


@pytest.mark.parametrize("block", range(2), ids=str)
def test_loop_and_core_agree_on_strategies_that_are_asked_bar_by_bar(block: int) -> None:
    for seed in range(block * 30, (block + 1) * 30):
        case = asked_bar_by_bar(a_case(seed))
        heard: Any = case.specification.strategy.log  # type: ignore[attr-defined]
        try:
            outcome, _ = compare(case)
        except AssertionError as difference:
            raise AssertionError(f"case {seed}: {difference}") from difference
        fills = len(outcome.record.fills)
        assert len(heard) in (0, 2 * fills)  # once from the core, once from the loop
        for ours, theirs in zip(map(told, heard[fills:]), map(told, heard[:fills]), strict=False):
            assert ours[0] == theirs[0]
            np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)


def told(heard: tuple[Fill, int | None]) -> tuple[Fill, tuple[float, ...]]:
    """What a strategy heard of a fill, its numbers apart."""
    fill, row = heard
    numbers = (fill.quantity, fill.price, fill.fee, fill.raw or 0.0, -1.0 if row is None else row)
    return structs.replace(fill, quantity=0.0, price=0.0, fee=0.0, raw=None), numbers


def gapped(case: Case, simulated: Simulated) -> bool:
    """Whether an exit was jumped over by an open, and filled there."""
    given, fills = case.specification, simulated.fills
    series = given.finer or tuple(given.bars.values())
    opens = {
        (bars.instrument_id, at): price
        for bars in series
        for at, price in zip(bars.opened_at.tolist(), bars.open.tolist(), strict=True)
    }
    exits = np.isin(fills.leg, PROTECTIVE)
    return any(
        opens.get((instrument, at)) == raw
        for instrument, at, raw in zip(
            fills.instrument[exits].tolist(), fills.at[exits].tolist(), fills.raw[exits].tolist(),
            strict=True,
        )
    )  # fmt: skip


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_kernel_and_core_agree_on_ten_thousand_runs() -> None:
    """At least 80 % trade, 20 % are left inside a bar, 10 % gap through a level, 10 % are denied, 10 % are portfolios."""
    seen: Counter[str] = Counter()
    for seed in range(ALL):
        case, _, simulated = checked(seed)
        fills = simulated.fills
        seen["trade"] += len(fills) > 0
        seen["exit inside a bar"] += bool(np.isin(fills.leg, PROTECTIVE).any())
        seen["gap through a level"] += gapped(case, simulated)
        seen["denied"] += simulated.counts.denied > 0
        seen["portfolio"] += case.is_portfolio
        seen["short"] += bool(((fills.side < 0) & (fills.leg == 0)).any())
        seen["ambiguous bar"] += simulated.counts.ambiguous_bars > 0
        seen["partly filled"] += simulated.counts.partly_filled > 0
        seen["left by time"] += bool((fills.leg == LEGS.index("time_exit")).any())
        seen["liquidated"] += bool((fills.leg == LEGS.index("liquidation")).any())
    for what, times in seen.most_common():
        print(f"{what:<20} {times / ALL:7.2%}")
    for what, share in (
        ("trade", 0.8), ("exit inside a bar", 0.2), ("gap through a level", 0.1), ("denied", 0.1),
        ("portfolio", 0.1),
    ):  # fmt: skip
        assert seen[what] >= share * ALL, what


@pytest.mark.parametrize("method", ["cash", "fraction"])
@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_the_shortest_way_through_a_plain_run_gives_the_same_to_the_last_bit(
    method: str, fraction: float
) -> None:
    for seed in range(20):
        given = a_case(seed).specification
        key, bars = next(iter(given.bars.items()))
        plain = replace(
            given,
            bars={key: bars[np.flatnonzero(~bars.filled)]},
            inputs=given.inputs[:1],
            instruments={1: an_instrument(1)},
            costs=Costs(0.001, 0.0005 * (seed % 2), fee_per_unit=0.01 * (seed % 3)),
            sizing=Sizing(method, fraction=fraction),
            policy=OFF,
            matching=Matching(),
            margin=NO_MARGIN,
            finer=(),
            strategy=a_plain_strategy(seed, int((~bars.filled).sum())),
        )
        case = Case(seed, plain, is_portfolio=False)
        machine = a_machine(case, decisions=False)
        assert machine.settings[0]["plain"]
        for until in (1, 2, 3, 70, 71, 135):  # a run goes on where it was interrupted
            machine.advance(min(until, len(machine.times)))
        machine.run()
        short, long = machine.result(), through_kernel(case)
        compare(case)
        np.testing.assert_array_equal(short.equity, long.equity)
        np.testing.assert_array_equal(short.exposure, long.exposure)
        for name in FILL_TYPES:
            np.testing.assert_array_equal(getattr(short.fills, name), getattr(long.fills, name))
        assert short.counts == long.counts


def a_plain_strategy(seed: int, rows: int) -> type[BaseStrategy]:
    random = np.random.Generator(np.random.PCG64(seed))
    target = random.choice([0.0, 1.0, 0.5, np.nan], size=rows, p=[0.3, 0.2, 0.2, 0.3])
    return saying(Signals(target))
