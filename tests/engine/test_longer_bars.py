"""A run on longer bars made of stored ones is the run on such bars stored, and says what it did."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine import bar_cache, catalogue, history
from engine.bars import BarBuilder, Bars, coarser
from engine.history import store_live_bars
from engine.inquiry.market import gathered
from engine.jobs import perform
from shared.db.backtests import JobRow, RunRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.domain.market import Tick
from shared.jobs import BacktestRequest
from tests.builders import a_market

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ALL_IN = {"method": "cash", "fraction": 1.0}


@pytest.fixture
def sessions(database_url, settings):
    sessions = make_sessions(database_url)
    bar_cache.use(sessions, settings)
    with sessions() as session:
        catalogue.sync(session.connection(), settings.strategies_folder)
        session.commit()
    yield sessions
    sessions.kw["bind"].dispose()


@pytest.fixture
def minutes():
    return a_market(6000, 3)


@pytest.fixture
def series(sessions, minutes):
    """{interval: id} of the stored minutes, and of the five-minute bars that are made of them."""
    with sessions() as session:
        instrument = InstrumentRow(
            venue="replay", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(instrument)
        session.flush()
        own = replace(minutes, instrument_id=instrument.id)
        for bars in (own, coarser(own, 300, "24/7")):
            store_live_bars(session.connection(), bars, source="import", simulated=False)
        session.commit()
        rows = session.scalars(sa.select(SeriesRow))
        return {row.interval: row.id for row in rows}


def done(sessions, settings, given):
    """The job of a request with this one input, as it ended, and its run."""
    request = BacktestRequest(
        "moving_average_cross",
        {},
        {"main": given},
        sizing=ALL_IN,
        risk_policy={},
        ends_at="2030-01-01",
    )
    job_id = uuid4()
    with sessions() as session:
        session.add(
            JobRow(id=job_id, kind="backtest", title="a run", attempt=1, arguments=asdict(request))
        )
        session.commit()
    perform(sessions, None, settings, job_id, 1, worker="test")
    with sessions() as session:
        job = session.get_one(JobRow, job_id)
        run = session.get(RunRow, (job.result or {}).get("run_id", 0))
        return job, run


def test_the_run_on_bars_that_were_made_is_the_run_on_the_same_bars_stored(
    sessions, settings, series, monkeypatch
):
    monkeypatch.setattr(history, "LEAST_CACHED", 1)
    asked = {"series_id": series[60], "trades": True, "interval": 300}
    runs = [done(sessions, settings, asked)[1] for _ in range(2)]
    _, stored = done(sessions, settings, {"series_id": series[300], "trades": True})
    assert runs[0].digest == runs[1].digest == stored.digest
    made, as_stored = runs[0].inputs["main"], stored.inputs["main"]
    assert (made["interval"], made["series_id"]) == (300, series[60])
    assert made["used_hash"] == as_stored["used_hash"] == runs[1].inputs["main"]["used_hash"]
    assert made["data_hash"] != as_stored["data_hash"]
    assert runs[0].bars == stored.bars == 1200


@pytest.mark.parametrize(
    ("interval", "complaint"),
    [(90, "choose a multiple"), (420, "divide a day"), ("1h", "no number of seconds")],
)
def test_bars_that_cannot_be_made_are_refused_with_the_input(
    sessions, settings, series, interval, complaint
):
    given = {"series_id": series[60], "trades": True, "interval": interval}
    job, _ = done(sessions, settings, given)
    assert (job.state, job.error.partition(":")[0]) == ("failed", "main")
    assert complaint in job.error


def test_an_hour_computed_again_is_the_hour_that_the_engine_built():
    at = [NOON + timedelta(minutes=m) for m in range(60, 241)]
    builders = {seconds: BarBuilder(1, seconds) for seconds in (60, 3600)}
    built = {60: [], 3600: []}
    for minute, price in ((0, "50"), (10, "100"), (59, "90"), (130, "95")):
        for builder in builders.values():
            traded_at = NOON + timedelta(minutes=60 + minute, seconds=30)
            builder.add(Tick(1, Decimal(price), Decimal(1), traded_at))
    for moment in at:
        for seconds, builder in builders.items():
            if int(moment.timestamp()) % seconds == 0:
                built[seconds].append(builder.close(moment))
    minutes, hours = (Bars.of([bar for bar in built[s] if bar is not None]) for s in (60, 3600))
    again = gathered(minutes[5:], 3600)  # the first trade lies before them
    assert (again.open[0], again.high[0], again.low[0]) == (100, 100, 90)
    whole = gathered(minutes, 3600)
    assert list(whole) == list(hours)
    assert whole.filled.tolist() == [False, True, False]


def test_the_command_line_takes_the_stored_bars_or_the_longest_that_make_them(
    sessions, database_url, series
):
    from deploy.commands.backtest import inputs_of
    from deploy.exits import Stop

    def given(text, interval=""):
        return inputs_of([text], interval, database_url)["main"]

    assert given("X@5m") == {"series_id": series[300], "trades": True}
    assert given("X@1h") == {"series_id": series[300], "trades": True, "interval": 3600}
    assert given("X@2m") == {"series_id": series[60], "trades": True, "interval": 120}
    assert given("x@1m", "1h") == {"series_id": series[60], "trades": True}
    assert given("X", "1h") == given("X@1h")
    for text, interval in (("X@30s", ""), ("X@soon", ""), ("X", "later"), ("X", "")):
        with pytest.raises(Stop):
            given(text, interval)
