"""Jobs as workers run them, everything stored in PostgreSQL: by kernel and through the core."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

from deploy.embedded import using
from deploy.schema import migrate
from engine.backtest import job as backtest_job
from engine.backtest.simulation import through_core
from engine.backtest.specification import Specification, run
from engine.bars import Bars
from engine.costs import Costs
from engine.history import series_bars
from engine.jobs import perform
from engine.risk.rules import OFF, RiskPolicy
from engine.sizing import Sizing
from engine.strategies.evaluation import BoundInput
from engine.strategies.registry import built_in_files
from shared.db.backtests import JobRow
from shared.db.sessions import make_sessions
from shared.domain.instruments import Instrument
from shared.jobs import BacktestRequest
from shared.settings import Settings
from tests.benchmarks.data import keep_bars, one_minute_bars

BARS: Final = 100_000
REPEATS: Final = 9
CORE_BARS_A_SECOND: Final = 250_000
"""At least: a job through the core, rules on, ledger and decisions stored."""

THROUGH_CORE: Final = "a job through the core: rules, ledger, decisions stored"
RULES_ON: Final = {"method": "fraction", "fraction": 0.04}


def main() -> int:
    """Returns 1 when the limit is missed."""
    bars = one_minute_bars(BARS)
    rows = [
        measured("core alone, rules off, all in", lambda: replayed(bars, OFF, Sizing("cash"))),
        measured(
            "core alone, rules on, 4 % a trade",
            lambda: replayed(bars, RiskPolicy(), Sizing.from_json(RULES_ON)),
        ),
    ]
    with tempfile.TemporaryDirectory() as home, using("postgres", Path(home), scratch=False) as url:
        migrate(url)
        rows += stored(bars, url, Path(home))
    print(f"\n{BARS:,} one-minute bars, moving_average_cross (10, 30), median of {REPEATS}\n")
    print(f"{'what':<58} {'seconds':>8} {'bars/s':>10} {'at least':>9}   note")
    for name, seconds, note in rows:
        least = f"{CORE_BARS_A_SECOND:,}" if name == THROUGH_CORE else ""
        print(f"{name:<58} {seconds:>8.3f} {BARS / seconds:>10,.0f} {least:>9}   {note}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of this process, data and all runs together: {peak:,.0f} MB")
    speed = {name: BARS / seconds for name, seconds, _ in rows}[THROUGH_CORE]
    return int(speed < CORE_BARS_A_SECOND)


def measured(name: str, work: Callable[[], Any]) -> tuple[str, float, str]:
    times, said = [], ""
    for _ in range(REPEATS):
        started = time.perf_counter()
        said = work()
        times.append(time.perf_counter() - started)
    return name, statistics.median(times), said


def replayed(bars: Bars, policy: RiskPolicy, sizing: Sizing) -> str:
    cls = next(
        f.types["moving_average_cross"]
        for f in built_in_files()
        if "moving_average_cross" in f.types
    )
    outcome = run(
        Specification(
            cls,
            (BoundInput("main", 1, "X", 60, True),),
            {"main": bars},
            {1: Instrument(1, "replay", "X", "X", "USD")},
            costs=Costs(0.001),
            sizing=sizing,
            policy=policy,
        )
    )
    return f"{len(outcome.record.fills):,} fills, final equity {outcome.core.equity:,.5f}"


def stored(bars: Bars, url: str, home: Path) -> list[tuple[str, float, str]]:
    sessions = make_sessions(url)
    settings = Settings.from_env({"SERAPHIM_HOME": str(home)}).with_urls(
        url, "redis://127.0.0.1:1/0"
    )
    series_id = keep_bars(settings, bars)
    request = BacktestRequest(
        "moving_average_cross", {}, {"main": {"series_id": series_id, "trades": True}},
        costs={"fee_rate": "0.001"}, sizing=RULES_ON,
    )  # fmt: skip

    def read() -> str:
        with sessions() as session:
            return f"{len(series_bars(session, series_id)):,} bars out of PostgreSQL"

    def job() -> str:
        job_id = uuid4()
        with sessions() as session:
            session.add(
                JobRow(
                    id=job_id, kind="backtest", title="bench", attempt=1, arguments=asdict(request)
                )
            )
            session.commit()
        perform(sessions, None, settings, job_id, 1, worker="bench")
        with sessions() as session:
            row = session.get_one(JobRow, job_id)
            return f"{row.state}: {row.progress_text}"

    rows = [
        measured("reading the series", read),
        measured("a job, the fastest way: read, rules on, gate, all stored", job),
    ]
    request = replace(request, gate=False)
    with patch.object(backtest_job, "simulate", through_core):
        rows.append(measured(THROUGH_CORE, job))
    sessions.kw["bind"].dispose()
    return rows


if __name__ == "__main__":
    sys.exit(main())
