"""Sweeps for tests: a market in the database, one asked for, and its jobs done here one after the other."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import sqlalchemy as sa

from engine import catalogue
from engine.history import store_live_bars
from engine.jobs import perform
from engine.sweeping import plans
from engine.sweeping.evaluation import evaluate
from engine.sweeping.planning import looked_up
from shared import jobs, queueing
from shared.db.backtests import JobRow
from shared.db.market import InstrumentRow
from shared.db.sessions import make_sessions
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from tests.builders import a_market

OFF = {
    rule: {"enabled": False}
    for rule in ("position_size", "max_drawdown", "concentration", "volatility", "liquidity")
}
SPACE = [
    {"name": "short_window", "low": 3, "high": 12, "step": 3},
    {"name": "long_window", "low": 10, "high": 30, "step": 5},
]


class Laboratory:
    """An installation with bars, whose jobs are done by whoever calls `do`."""

    def __init__(self, settings):
        self.settings = settings
        self.sessions = make_sessions(settings.database_url)
        self._symbols = itertools.count(1)
        with self.sessions() as session:
            catalogue.sync(session.connection(), settings.strategies_folder)
            session.commit()

    def series(self, bars=200, seed=3):
        """A new series of a market."""
        symbol = f"X{next(self._symbols)}"
        with self.sessions() as session:
            instrument = InstrumentRow(
                venue="replay", symbol=symbol, base_asset=symbol, quote_asset="USD", calendar="24/7"
            )
            session.add(instrument)
            session.flush()
            own = replace(a_market(bars, seed, interval=86_400), instrument_id=instrument.id)
            store_live_bars(session.connection(), own, source="import", simulated=False)
            session.commit()
            return session.scalar(sa.text("SELECT max(id) FROM series"))

    def ask(self, series_ids, space=None, **changed):
        """The job row of a sweep, planned."""
        base = {
            "strategy_type": "moving_average_cross",
            "costs": {"fee_rate": "0.001"},
            "sizing": {"method": "cash", "fraction": 1.0},
            "risk_policy": OFF,
            **changed.pop("base", {}),
        }
        given = {"objectives": [{"metric": "sharpe"}], **changed}
        request = jobs.SweepRequest(base, space or SPACE, list(series_ids), **given)
        with self.sessions() as session:
            job = queueing.ask(session, None, request, title="Sweep it", actor="me")
        self.do(job.id)
        with self.sessions() as session:
            return session.get_one(JobRow, job.id)

    def sweep(self, series_ids, space=None, **changed):
        """The id of a sweep that is planned and has its first chunks in line."""
        job = self.ask(series_ids, space, **changed)
        assert job.state == "done", job.error
        return job.result["sweep_id"]

    def do(self, job_id, attempt=1):
        perform(self.sessions, None, self.settings, job_id, attempt, worker="this test")

    def waiting(self, sweep_id):
        """Chunk jobs in line, oldest chunk first, as (job, attempt)."""
        query = (
            sa.select(JobRow.id, JobRow.attempt)
            .join(SweepChunkRow, SweepChunkRow.job_id == JobRow.id)
            .where(SweepChunkRow.sweep_id == sweep_id, JobRow.state == "queued")
            .order_by(SweepChunkRow.number)
        )
        with self.sessions() as session:
            return session.execute(query).all()

    def finish(self, sweep_id, pick=min):
        """Do whatever is in line until nothing is; `pick` chooses which comes next."""
        while waiting := self.waiting(sweep_id):
            places = {row: place for place, row in enumerate(waiting)}
            self.do(*pick(waiting, key=places.get))
        return self.row(sweep_id)

    def row(self, sweep_id):
        with self.sessions() as session:
            return session.get_one(SweepRow, sweep_id)

    def points(self, sweep_id):
        query = sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep_id)
        with self.sessions() as session:
            return session.scalars(query.order_by(SweepPointRow.number)).all()

    def values(self, sweep_id):
        """[(number, parameters, numbers)]: what must not depend on who did it when."""
        return [(p.number, p.parameters, p.numbers) for p in self.points(sweep_id)]

    def specification(self, sweep_id):
        """(the run of a sweep's one series, its combinations)."""
        with self.sessions() as session:
            sweep = session.get_one(SweepRow, sweep_id)
            combinations = plans.unpack(sweep.plan)
            [series] = sweep.series
            base = jobs.BacktestRequest(**{**sweep.base, "ends_at": series["ends_at"]})
            asked = looked_up(session, base, sweep.code_hash, series["series_id"], combinations[0])
        return asked.specification, combinations

    def alone(self, sweep_id):
        """The same by one process, without chunks or jobs."""
        specification, combinations = self.specification(sweep_id)
        found = evaluate(specification, combinations, self.row(sweep_id).metrics)
        return [
            (number, combination, list(one.numbers))
            for number, (combination, one) in enumerate(zip(combinations, found, strict=True))
        ]

    def end(self):
        self.sessions.kw["bind"].dispose()


def a_surface(width, height, peak):
    """(values, combinations) of a grid of x and y; `peak(x, y)` from 0 to 1 on noise around 0."""
    noise = np.random.default_rng(1).normal(0, 0.02, width * height)
    combinations = [{"x": x, "y": y} for x in range(width) for y in range(height)]
    values = np.array([peak(c["x"], c["y"]) for c in combinations]) + noise
    return values, combinations
