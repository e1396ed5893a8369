"""Crashes where they can hurt: right before and right after commits, again and again, and nothing differs."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from engine.risk.rules import OFF
from shared.db.market import InstrumentRow
from shared.messages import CreateStrategy, OpenReplay
from tests.builders import a_market
from tests.prove.agreement import disagreements, first_difference, record
from tests.prove.busy import EVERYTHING, fill_the_floor
from tests.prove.in_process import an_engine_with_cuts, market_time, play, play_through_crashes
from tests.prove.installation import Installation, cloned, seeded

AS_FAST_AS_IT_GOES = 1e7


@pytest.fixture
def installation(settings):
    made = Installation(settings, speed=AS_FAST_AS_IT_GOES)
    yield made
    made.end()


def a_replay(installation, bars):
    """A replay account with every built-in strategy and the one that does everything."""
    from engine import catalogue
    from engine.history import store_live_bars

    installation.settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    (installation.settings.strategies_folder / "everything.py").write_text(EVERYTHING)
    series = []
    with installation.db.begin() as connection:
        catalogue.sync(connection, installation.settings.strategies_folder)
        for number in (1, 2):
            instrument = connection.execute(
                sa.insert(InstrumentRow)
                .values(venue="replay", symbol=f"X{number}", base_asset=f"X{number}", quote_asset="USD", calendar="24/7")
                .returning(InstrumentRow.id)
            ).scalar_one()  # fmt: skip
            market = a_market(bars, seed=number, sigma=0.002, instrument_id=instrument)
            store_live_bars(connection, market, source="import", simulated=False)
        series = list(connection.scalars(sa.text("SELECT id FROM series ORDER BY id")))
        installation.desk.open_replay(
            connection,
            OpenReplay("replay", series, 0.0, "100000", risk_policy=OFF.as_json()),
            "prover",
        )
    ids = installation.instruments()
    account = installation.account("replay").id

    def on(symbol):
        return {"instrument_id": ids[symbol], "interval": 60}

    for name, parameters, inputs in (
        ("moving_average_cross", {"short_window": 2, "long_window": 5}, {"main": on("X1")}),
        ("rsi_reversion", {"window": 3, "buy_below": 45, "stop": 0.002}, {"main": on("X2")}),
        ("bollinger_reversion", {"window": 5, "deviations": 1, "stop": 0.003, "patience": 4}, {"main": on("X1")}),
        ("donchian_breakout", {"entry_window": 3, "exit_window": 2, "atr_window": 3}, {"main": on("X2")}),
        ("everything", {}, {"main": on("X1"), "second": on("X2")}),
    ):  # fmt: skip
        sizing = {"method": "fraction", "fraction": 0.5}
        installation.create(
            CreateStrategy(name, name, account, parameters, inputs, "15000", sizing, start=True)
        )
    return account


def compare(installation, undisturbed, account, until):
    for one in (undisturbed, installation):
        assert "\n".join(disagreements(one.db)) == ""
    ours, theirs = (record(one.db, account, until) for one in (installation, undisturbed))
    for what in ("decisions", "fills"):
        assert first_difference(ours[what], theirs[what]) == ""
    return len(ours["fills"])


def crashes_on_quotes(installation, minutes, chance, name):
    dice = seeded(name)
    fill_the_floor(installation, busy_account=False)
    account = installation.account().id
    until = market_time(installation.db, account) + timedelta(minutes=minutes)
    with cloned(installation, name) as undisturbed:
        crashes = play_through_crashes(installation.db, account, until, dice, chance)
        play(undisturbed.db, account, until)
        fills = compare(installation, undisturbed, account, until)
    print(f"\n{crashes} crashes beside commits on quotes: all {fills} fills as without them")
    return crashes, fills


def crashes_on_bars(installation, bars, chance, name):
    dice = seeded(name)
    account = a_replay(installation, bars)
    with cloned(installation, name) as undisturbed:
        crashes = play_through_crashes(installation.db, account, None, dice, chance)
        play(undisturbed.db, account, None)
        until = market_time(installation.db, account) + timedelta(days=1)
        fills = compare(installation, undisturbed, account, until)
    print(f"\n{crashes} crashes beside commits on bars: all {fills} fills as without them")
    return crashes, fills


def cuts_at_commit(installation, bars, chance, name):
    account = a_replay(installation, bars)
    with cloned(installation, name) as undisturbed:
        engine, connections = an_engine_with_cuts(
            installation.settings.database_url, seeded(name), chance
        )
        play(engine, account, None)
        engine.dispose()
        play(undisturbed.db, account, None)
        until = market_time(installation.db, account) + timedelta(days=1)
        fills = compare(installation, undisturbed, account, until)
    print(f"\n{connections.cuts} connections cut at COMMIT: all {fills} fills as without them")
    return connections.cuts, fills


def test_crashes_beside_commits_change_nothing_on_quotes(installation):
    crashes, fills = crashes_on_quotes(installation, 30, 0.1, "quotes_sample")
    assert crashes > 10
    assert fills > 10


def test_crashes_beside_commits_change_nothing_on_bars(installation):
    crashes, fills = crashes_on_bars(installation, 80, 0.1, "bars_sample")
    assert crashes > 10
    assert fills > 20


def test_a_commit_whose_answer_is_lost_is_looked_up_never_repeated(installation, monkeypatch):
    monkeypatch.setattr("engine.journal.RETRY_SECONDS", 0.01)
    cuts, fills = cuts_at_commit(installation, 80, 0.2, "cuts_sample")
    assert cuts > 20
    assert fills > 20


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_many_crashes_beside_commits_change_nothing_on_quotes(installation):
    crashes, fills = crashes_on_quotes(installation, 360, 0.04, "quotes_proof")
    assert crashes > 50
    assert fills > 100


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_many_crashes_beside_commits_change_nothing_on_bars(installation):
    crashes, fills = crashes_on_bars(installation, 900, 0.05, "bars_proof")
    assert crashes > 100
    assert fills > 200


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_many_commits_whose_answers_are_lost_change_nothing(installation, monkeypatch):
    monkeypatch.setattr("engine.journal.RETRY_SECONDS", 0.01)
    cuts, fills = cuts_at_commit(installation, 900, 0.2, "cuts_proof")
    assert cuts > 200
    assert fills > 200
