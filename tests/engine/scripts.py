"""Strategies that say what they are told to, and the core run on a few bars."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from engine.backtest.replay import Record, _begin, _finest, _moment
from engine.backtest.results import LEGS
from engine.backtest.simulation import fills_of
from engine.backtest.specification import Specification, assemble, run
from engine.bars import instant
from engine.costs import Costs
from engine.risk.rules import OFF
from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy
from shared.domain.identity import RESEARCH_STRATEGY
from shared.domain.signals import Market, Signals
from tests.builders import START, a_bound_input, an_instrument

MINUTE = timedelta(minutes=1)
N = np.nan


def scripted(targets, exits=(), entry=None):
    """In array form: one target a row."""

    class Scripted(BaseStrategy):
        def generate_signals(self, f):
            return Signals(np.array(targets, dtype=float), exits=exits, entry=entry or Market())

        def because(self, now):
            return f"row {now.row}"

    return Scripted


def told(script):
    """In scalar form: {row: Signal}."""

    class Told(BaseStrategy):
        def generate_signal(self, now):
            return script.get(now.row)

        def because(self, now):
            return f"row {now.row}"

    return Told


def a_specification(strategy, bars, **changed):
    """One unit of X1, no costs, no rules, unless changed."""
    given = {
        "strategy": strategy,
        "inputs": (a_bound_input(),),
        "bars": bars if isinstance(bars, dict) else {"main": bars},
        "instruments": {i: an_instrument(i) for i in (1, 2)},
        "costs": Costs(0.0),
        "sizing": Sizing("quantity", quantity=1.0),
        "policy": OFF,
    }
    return Specification(**{**given, **changed})


def a_run(strategy, bars, **changed):
    return run(a_specification(strategy, bars, **changed))


def fills(outcome):
    """(side, quantity, price, minute, leg) of each."""
    found = fills_of(outcome.record)
    return [
        ("buy" if side > 0 else "sell", quantity, price, (instant(at) - START) // MINUTE, LEGS[leg])
        for side, quantity, price, at, leg in zip(
            found.side,
            found.quantity.tolist(),
            found.price.tolist(),
            found.at,
            found.leg,
            strict=True,
        )
    ]


def held(outcome, instrument_id=1):
    return outcome.core.portfolio.position(RESEARCH_STRATEGY, instrument_id).quantity


def outcomes(outcome):
    return [decision.outcome.value for decision in outcome.record.decisions]


class Played:
    """The core after some bars, to go on with by hand."""

    def __init__(self, strategy, bars, upto, **changed):
        self.core, self.broker = assemble(a_specification(strategy, bars, **changed))
        times = bars.closed_at
        self.run, self.record = self.core.runs[RESEARCH_STRATEGY], Record(times)
        series = {(1, 60): bars}
        clock, prices = _begin(self.run, series, times), _finest(series, times)
        for number in range(upto):
            self.at = instant(times[number])
            _moment(
                self.core, self.broker, [self.run], [clock], prices, number, self.at, self.record
            )

    @property
    def standing(self):
        return self.run.standings[1]

    def row(self, row):
        """What the core asks for at a later row."""
        self.run.row = row
        return self.core.on_moment(START + (row + 1) * MINUTE, [self.run])

    def legs(self):
        return sorted(order.request.leg.value for order in self.core.orders.values())
