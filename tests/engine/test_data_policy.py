"""What a run makes of bad bars: it warns and keeps what was found, or it does not run; and whom it may enter."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine import catalogue, quality_due
from engine.history import NewBar, add_bars, series_of
from engine.jobs import perform
from shared.db.backtests import JobRow, RunRow
from shared.db.lists import PairListRow
from shared.db.market import InstrumentRow, SeriesQualityRow, SeriesRow
from shared.db.run_decisions import decisions_of
from shared.db.sessions import make_sessions
from shared.domain.universe import Rules
from shared.jobs import BacktestRequest, PairListRequest, kind_of

DAY = timedelta(days=1)
OPENED = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def sessions(database_url, settings):
    made = make_sessions(database_url)
    with made() as session:
        catalogue.sync(session.connection(), settings.strategies_folder)
        session.commit()
    yield made
    made.kw["bind"].dispose()


@pytest.fixture
def with_a_gap(sessions):
    """60 days that rise and fall, three of them missing."""
    with sessions() as session:
        instrument = InstrumentRow(
            venue="replay", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(instrument)
        session.flush()
        series_id = series_of(session.connection(), instrument.id, "import", 86_400)
        bars = [
            NewBar(
                OPENED + n * DAY, OPENED + (n + 1) * DAY, *[str(100 + abs(n % 20 - 10))] * 4, "50"
            )
            for n in range(60)
            if n not in (30, 31, 32)
        ]
        add_bars(session.connection(), series_id, bars)
        session.commit()
    return series_id


def do(sessions, settings, request):
    job_id = uuid4()
    with sessions() as session:
        session.add(
            JobRow(
                id=job_id, kind=kind_of(request), title="x", attempt=1, arguments=asdict(request)
            )
        )
        session.commit()
    perform(sessions, None, settings, job_id, 1, worker="test")
    with sessions() as session:
        return session.get_one(JobRow, job_id)


def a_request(series_id, **changed):
    given = {
        "strategy_type": "moving_average_cross",
        "parameters": {"short_window": 2, "long_window": 5},
        "inputs": {"main": {"series_id": series_id, "trades": True}},
        "risk_policy": {
            name: {"enabled": False}
            for name in (
                "position_size",
                "max_drawdown",
                "concentration",
                "volatility",
                "liquidity",
            )
        },
    }
    return BacktestRequest(**{**given, **changed})


def test_a_run_that_warns_keeps_what_was_found_and_the_hash_of_its_bars(
    sessions, settings, with_a_gap
):
    job = do(sessions, settings, a_request(with_a_gap))
    assert job.state == "done"
    with sessions() as session:
        run = session.get_one(RunRow, job.result["run_id"])
        series = session.get_one(SeriesRow, with_a_gap)
        kept = run.options["data"]["inputs"]["main"]
        assert kept["counts"]["gaps"] == 1
        assert kept["findings"]["gaps"][0]["text"].startswith("3 days missing")
        again = do(sessions, settings, a_request(with_a_gap))
        second = session.get_one(RunRow, again.result["run_id"])
        assert run.inputs["main"]["data_hash"] == second.inputs["main"]["data_hash"]
        assert series.content_hash in (None, run.inputs["main"]["data_hash"])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"data_policy": "refuse"}, "main: these bars are refused: 1 gaps (first: 3 days missing"),
        ({"data_policy": "pray"}, "data_policy: 'pray' must be one of warn, refuse"),
        ({"data_findings": ["luck"]}, "data_findings: 'luck' is no kind of finding"),
        ({"universe_id": 99}, "universe_id: there is no pair list 99"),
    ],
)
def test_a_run_is_refused_with_the_reason(sessions, settings, with_a_gap, changed, text):
    job = do(sessions, settings, a_request(with_a_gap, **changed))
    assert job.state == "failed"
    assert text in job.error


def test_what_does_not_count_or_lies_outside_the_range_refuses_nothing(
    sessions, settings, with_a_gap
):
    other = {"data_policy": "refuse", "data_findings": ["splits"]}
    assert do(sessions, settings, a_request(with_a_gap, **other)).state == "done"
    later = {"data_policy": "refuse", "starts_at": "2024-02-05"}
    assert do(sessions, settings, a_request(with_a_gap, **later)).state == "done"


def test_only_members_of_the_day_are_entered(sessions, settings, with_a_gap):
    with sessions() as session:
        rules = Rules(window=5, max_price=101.0)
        session.add(PairListRow(id=7, name="cheap", rules=rules.as_json()))
        session.commit()
    nothing = do(sessions, settings, a_request(with_a_gap, universe_id=7))
    assert "nothing is recorded of cheap yet" in nothing.error
    assert do(sessions, settings, PairListRequest(7)).state == "done"
    job = do(sessions, settings, a_request(with_a_gap, universe_id=7))
    with sessions() as session:
        kept = decisions_of(session, job.result["run_id"])
        entries = [row for i in range(len(kept)) if (row := kept.row(i)).checks]
    assert "denied" in {row.outcome for row in entries}
    for row in entries:
        [check] = [check for check in row.checks if check["rule"] == "universe"]
        assert check["allowed"] == (row.outcome == "ordered")


def test_the_clock_asks_for_a_look_once_and_again_when_bars_change(sessions, settings, with_a_gap):
    with sessions() as session:
        assert quality_due.ask_when_due(session, None)
        assert not quality_due.ask_when_due(session, None), "one is under way"
        job = session.scalars(sa.select(JobRow).where(JobRow.kind == "quality")).one()
        job.attempt = 1
        session.commit()
        perform(sessions, None, settings, job.id, 1, worker="test")
        session.expire_all()
        assert session.scalar(sa.select(sa.func.count()).select_from(SeriesQualityRow)) == 1
        assert not quality_due.ask_when_due(session, None)
        bar = NewBar(OPENED + 70 * DAY, OPENED + 71 * DAY, "1", "1", "1", "1", "1")
        add_bars(session.connection(), with_a_gap, [bar])
        session.commit()
        assert quality_due.ask_when_due(session, None)
