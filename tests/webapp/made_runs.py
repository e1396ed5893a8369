"""Runs as a worker makes them, without the look-ahead gate, which takes longer than a small run itself."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from shared.db.backtests import JobRow, RunRow
from shared.jobs import BacktestRequest, encode
from shared.settings import Settings
from tests.webapp.history import do_job

RULES = ("position_size", "max_drawdown", "concentration", "volatility", "liquidity")


def a_run(rows: Session, settings: Settings, series_id: int, **changed: Any) -> RunRow:
    """The run of a moving average cross on the series."""
    given = {
        "strategy_type": "moving_average_cross",
        "parameters": {"short_window": 5, "long_window": 15},
        "inputs": {"main": {"series_id": series_id, "trades": True}},
        "costs": {"fee_rate": "0.001"},
        "sizing": {"method": "cash", "fraction": 1.0},
        "risk_policy": {rule: {"enabled": False} for rule in RULES},
        "gate": False,
    }
    request = BacktestRequest(**{**given, **changed})
    job = JobRow(id=uuid4(), kind="backtest", title="a run", attempt=1, arguments=encode(request))
    rows.add(job)
    rows.commit()
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(RunRow, job.result["run_id"])
