"""One run, the fastest way that gives the core's answer: the user chooses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from engine import compiled
from engine.backtest import memory
from engine.backtest.asking import Asking
from engine.backtest.kernel import Machine, NotCovered
from engine.backtest.kernels.layout import DECISION
from engine.backtest.replay import Progress, Record
from engine.backtest.results import FILL_TYPES, LEGS, Counts, Fills, Paid, Simulated
from engine.backtest.specification import Outcome, Specification, run, strategy_of
from engine.bars import nanoseconds
from engine.strategies.evaluation import Evaluation
from shared.domain.decisions import Outcome as Decided

WORTH_COMPILING: Final = 50_000
"""Bars from which on compiling, some 20 seconds, is sooner done than the core is."""

NOT_COMPILED: Final = "nothing is compiled yet and the run is short (seraphim compile does it)"


def simulate(
    specification: Specification, *, decisions: bool = True, progress: Progress | None = None
) -> Simulated:
    """Kernel, loop or core. Whatever the strategy's own code raises comes through.

    A short run does not wait for the compiler: the core does it meanwhile.
    """
    rows = sum(map(len, specification.bars.values()))
    if rows < WORTH_COMPILING and not compiled.is_ready():
        return through_core(specification, progress, NOT_COMPILED)
    return fastest(specification, decisions=decisions, progress=progress)


def fastest(
    specification: Specification, *, decisions: bool = True, progress: Progress | None = None
) -> Simulated:
    """The same, compiled now if it is not yet."""
    memory.keep()
    strategy = strategy_of(specification)
    kind = Asking if strategy.is_scalar() else Machine
    evaluation = Evaluation(strategy, specification.inputs, specification.bars)
    try:
        machine = kind(specification, evaluation, decisions=decisions)
        machine.run(progress)
    except NotCovered as why:
        return through_core(specification, progress, str(why))
    return machine.result()


def through_core(
    specification: Specification, progress: Progress | None = None, why: str = ""
) -> Simulated:
    """The same from the core."""
    return replace(in_columns(specification, run(specification, progress)), why=why)


def in_columns(specification: Specification, outcome: Outcome) -> Simulated:
    """The core's record as columns."""
    record = outcome.record
    fills = fills_of(record)
    return Simulated(
        engine="core",
        times=record.times,
        equity=record.equity,
        exposure=record.exposure,
        fills=fills,
        decisions=np.zeros(0, DECISION),
        paid=_paid(specification, record, fills),
        counts=Counts(
            orders=record.orders,
            rejected=record.rejected,
            partly_filled=record.partly_filled,
            denied=sum(d.outcome is Decided.DENIED for d in record.decisions),
            ambiguous_bars=outcome.ambiguous,
        ),
        told=tuple(record.decisions),
        ledger=tuple(record.ledger),
    )


def fills_of(record: Record) -> Fills:
    """Fills with the part they played; exits by time or for want of margin say so."""
    kinds = {
        request.client_order_id: decision.kind
        for decision in record.decisions
        for request in decision.requests
        if decision.kind in LEGS
    }
    tags: dict[str, int] = {"": 0}
    rows = [
        (
            fill.instrument_id,
            nanoseconds(fill.at),
            fill.side.sign,
            fill.quantity,
            fill.price,
            fill.price if fill.raw is None else fill.raw,
            fill.fee,
            LEGS.index(
                kinds.get(fill.client_order_id, booked.leg)
                if booked.leg == "exit"
                else booked.leg.value
            ),
            tags.setdefault(booked.tag, len(tags)),
        )
        for booked in record.fills
        for fill in (booked.fill,)
    ]
    columns: list[Any] = list(zip(*rows, strict=True)) or [()] * 9
    arrays: dict[str, Any] = {
        name: np.array(column, dtype=type_)
        for column, (name, type_) in zip(columns, FILL_TYPES.items(), strict=True)
    }
    return Fills(**arrays, tags=tuple(tags))


def _paid(specification: Specification, record: Record, fills: Fills) -> Paid:
    lost = np.abs(fills.price - fills.raw) * fills.quantity
    spread = np.minimum(lost, specification.costs.spread / 2 * fills.raw * fills.quantity)
    owed = sum(float(e.amount) for e in record.ledger if e.kind in ("borrow", "interest"))
    return Paid(float((lost - spread).sum()), float(spread.sum()), owed)
