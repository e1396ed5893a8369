"""A backtest from a job row to a run's rows, on real PostgreSQL, against a few-line calculation."""

from __future__ import annotations

import zlib
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa

from engine import catalogue
from engine.backtest.simulation import through_core
from engine.backtest.specification import Specification
from engine.history import store_live_bars
from engine.jobs import body, perform
from engine.risk.rules import OFF as NO_RULES
from engine.work import JobRefused
from shared.db.backtests import (
    JobRow,
    RunFillRow,
    RunRow,
    RunSeriesRow,
    RunTradeRow,
)
from shared.db.market import InstrumentRow
from shared.db.run_decisions import decisions_of
from shared.db.sessions import make_sessions
from shared.jobs import BacktestRequest
from tests.builders import a_bound_input, a_market, an_instrument, strategy_type

OFF = {
    rule: {"enabled": False}
    for rule in ("position_size", "max_drawdown", "concentration", "volatility", "liquidity")
}
ALL_IN = {"method": "cash", "fraction": 1.0}


def independent_all_in(opens, closes, short, long, fee, cash):
    """All-in long or flat on a cross of two averages, decided at the close, filled at the next open."""
    quantity, entries, fills = 0.0, 0, 0
    for t in range(long - 1, len(closes) - 1):
        above = closes[t - short + 1 : t + 1].mean() > closes[t - long + 1 : t + 1].mean()
        if above and not quantity:
            quantity = cash / (opens[t + 1] * (1 + fee))
            cash, entries, fills = 0.0, entries + 1, fills + 1
        elif not above and quantity:
            cash, quantity, fills = quantity * opens[t + 1] * (1 - fee), 0.0, fills + 1
    return entries, fills, cash + quantity * closes[-1]


@pytest.fixture
def sessions(database_url, settings):
    sessions = make_sessions(database_url)
    with sessions() as session:
        catalogue.sync(session.connection(), settings.strategies_folder)
        session.commit()
    yield sessions
    sessions.kw["bind"].dispose()


def a_series(sessions, bars):
    with sessions() as session:
        instrument = InstrumentRow(
            venue="replay", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(instrument)
        session.flush()
        own = replace(bars, instrument_id=instrument.id)
        store_live_bars(session.connection(), own, source="import", simulated=False)
        session.commit()
        return session.scalar(sa.text("SELECT id FROM series"))


def do(sessions, settings, request):
    """Run one attempt at a job for the request; the job row as it ended."""
    from dataclasses import asdict

    job_id = uuid4()
    with sessions() as session:
        session.add(
            JobRow(id=job_id, kind="backtest", title="a run", attempt=1, arguments=asdict(request))
        )
        session.commit()
    perform(sessions, None, settings, job_id, 1, worker="test")
    with sessions() as session:
        return session.get_one(JobRow, job_id)


def a_request(series_id, **changed):
    given = {
        "strategy_type": "moving_average_cross",
        "parameters": {},
        "inputs": {"main": {"series_id": series_id, "trades": True}},
        "costs": {"fee_rate": "0.001"},
        "sizing": ALL_IN,
        "risk_policy": OFF,
    }
    return BacktestRequest(**{**given, **changed})


def test_final_equity_and_trades_equal_an_independent_calculation(sessions, settings):
    bars = a_market(2000, 3, interval=86_400)
    job = do(sessions, settings, a_request(a_series(sessions, bars)))
    assert job.state == "done", job.error
    entries, fills, equity = independent_all_in(bars.open, bars.close, 10, 30, 0.001, 100_000.0)
    with sessions() as session:
        run = session.get_one(RunRow, job.result["run_id"])
        assert run.metrics["final_equity"]["value"] == pytest.approx(equity, rel=1e-9)
        assert session.scalar(sa.select(sa.func.count()).select_from(RunTradeRow)) == entries > 20
        assert session.scalar(sa.select(sa.func.count()).select_from(RunFillRow)) == fills
        stored = session.get_one(RunSeriesRow, (run.id, "equity")).data
        assert np.frombuffer(zlib.decompress(stored), "<f8")[-1] == pytest.approx(equity, rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "setting"),
    [
        ("position_size", {"max_fraction": 0.05}),
        ("max_drawdown", {"max_fraction": 1e-9}),
        ("concentration", {"max_fraction": 0.2}),
        ("volatility", {"max_annual": 1e-6}),
        ("liquidity", {"max_fraction": 1e-7}),
    ],
)
def test_each_rule_denies_in_a_backtest_with_its_value_and_limit(sessions, settings, rule, setting):
    policy = {**OFF, rule: {"enabled": True, **setting}}
    series_id = a_series(sessions, a_market(400, 3, volume=1e6))
    job = do(sessions, settings, a_request(series_id, risk_policy=policy))
    assert job.state == "done", job.error
    denied = [d for d in decisions(sessions, job) if d.outcome == "denied"]
    assert denied
    [check] = denied[-1].checks
    assert check["rule"] == rule
    assert not check["allowed"]
    assert check["limit"] == next(iter(setting.values()))
    assert check["value"] >= check["limit"]
    assert f"{rule}: " in denied[-1].reason


def decisions(sessions, job):
    """The decisions of a job's run, in words."""
    with sessions() as session:
        run = session.get_one(RunRow, job.result["run_id"])
        assert run.engine == "kernel"
        kept = decisions_of(session, run.id)
        return [kept.row(i) for i in range(len(kept))]


def test_a_run_says_why_no_kernel_did_it(sessions, settings):
    series_id = a_series(sessions, a_market(200, 3))
    with sessions() as session:
        instrument = session.scalars(sa.select(InstrumentRow)).one()
        instrument.tick_size = Decimal("1e-20")
        session.commit()
    job = do(sessions, settings, a_request(series_id))
    with sessions() as session:
        run = session.get_one(RunRow, job.result["run_id"])
        assert run.engine == "core"
        assert run.options["why_core"] == "a tick size of 1E-20"
        kept = decisions_of(session, run.id)
        assert len(kept)
        told = kept.row(0)
        assert told.because.startswith("short average")
        assert told.bar["close"] > 0
        assert [check["rule"] for check in told.checks if not check["allowed"]] or told.steps


def test_the_same_request_gives_the_same_digest(sessions, settings):
    series_id = a_series(sessions, a_market(300, 3))
    jobs = [do(sessions, settings, a_request(series_id)) for _ in range(2)]
    with sessions() as session:
        digests = {session.get_one(RunRow, job.result["run_id"]).digest for job in jobs}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strategy_type": "nonsense"}, "strategy type 'nonsense' is not one of"),
        ({"parameters": {"short_window": 0}}, "short_window: 0 must be at least 1"),
        ({"parameters": {"short_window": 40}}, "short_window: 40 must be less than long_window 30"),
        ({"parameters": {"shrt": 4}}, "shrt: 4 is no parameter here"),
        ({"capital": "-5"}, "capital: '-5' must be above 0"),
        ({"capital": "much"}, "capital: 'much' is not an amount"),
        ({"starts_at": "31.12.2020"}, "starts_at: '31.12.2020' is no date"),
        ({"starts_at": "2030-01-01"}, "main: there are 0 bars in that range"),
        ({"costs": {"fee_rate": "2"}}, "fee_rate: '2' must be from 0 to 0.5"),
        ({"sizing": {"method": "guess"}}, "method: 'guess' is not one of"),
        ({"risk_policy": {"luck": {}}}, "luck: no such rule"),
        ({"inputs": {"main": {"series_id": 99999}}}, "main: there is no series 99999"),
        ({"inputs": {}}, "inputs: give one series for each of main"),
        ({"matching": {"intrabar": "best"}}, "intrabar: 'best' is not one of"),
        ({"matching": {"intrabar": "lower_interval"}}, "intrabar: there are no bars of X below 1m"),
        ({"margin": {"enabled": True, "leverage": "99"}}, "leverage: '99' must be from 1 to 20"),
        ({"trials": 0}, "trials: 0 must be a whole number from 1"),
        ({"trials_variance": -1.0}, "trials_variance: -1.0 must be a number from 0"),
    ],
)
def test_a_wrong_request_is_refused_by_field_value_and_remedy(sessions, settings, changed, message):
    series_id = a_series(sessions, a_market(50, 3))
    job = do(sessions, settings, a_request(series_id, **changed))
    assert job.state == "failed"
    assert message in job.error
    assert "Traceback" not in job.error
    with sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(RunRow)) == 0


def test_the_range_starts_with_history_before_it(sessions, settings):
    bars = a_market(400, 3)
    series_id = a_series(sessions, bars)
    start = bars.bar(200).opened_at
    job = do(sessions, settings, a_request(series_id, starts_at=start.isoformat()))
    with sessions() as session:
        first = min(d.decided_at for d in decisions(sessions, job))
        assert start < first <= bars.bar(201).closed_at
        run = session.get_one(RunRow, job.result["run_id"])
        assert run.starts_at == start


def test_the_ledger_of_a_run_sums_to_what_it_ended_with():
    bars = a_market(300, 3)
    strategy = strategy_type("moving_average_cross")
    given = Specification(
        strategy, (a_bound_input(),), {"main": bars}, {1: an_instrument(1)}, policy=NO_RULES
    )
    simulated = through_core(given)
    cash, held = 100_000.0, 0.0
    for entry in simulated.ledger:
        sign = (entry.debit == "holding") - (entry.credit == "holding")
        amount = sign * float(entry.amount)
        cash, held = (cash + amount, held) if entry.asset == "USD" else (cash, held + amount)
    assert simulated.ledger
    assert cash + held * bars.close[-1] == pytest.approx(simulated.equity[-1], rel=1e-9)


def test_the_body_of_a_backtest_is_found_by_name():
    assert body("backtest").__name__ == "run"
    assert issubclass(JobRefused, Exception)
