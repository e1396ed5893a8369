"""What a run keeps of where it came from, and the same run once more."""

from __future__ import annotations

import os
import random
import subprocess
import zlib
from dataclasses import asdict, replace
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa

from engine import catalogue
from engine.backtest import provenance
from engine.backtest.provenance import MOST_DIFF, Origin, WorkTree, work_tree
from engine.history import store_live_bars
from engine.jobs import perform
from shared import installation
from shared.db.backtests import InstallationDiffRow, JobRow, RunRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.jobs import BacktestRequest, repeated
from tests.builders import a_market
from tests.engine.test_backtest_job import ALL_IN, OFF

DICE = '''
import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("dice")
class Dice(BaseStrategy):
    """Throws dice."""

    def features(self, bars):
        return {"close": bars["main"].close}

    def generate_signals(self, f):
        return Signals((np.random.random(len(f)) > 0.5).astype(float))
'''


# Work trees -------------------------------------------------------------------------------------


def git(folder, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, env=environment
    )


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "core.py").write_text("one = 1\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_checkout_says_its_commit_and_that_nothing_is_changed(checkout):
    found = work_tree(checkout)
    assert len(found.commit) == 40
    assert (found.diff, found.diff_hash) == (b"", "")


def test_changed_and_new_code_is_in_the_diff_and_what_is_no_code_is_not(checkout):
    (checkout / "engine" / "core.py").write_text("one = 2\n")
    changed = work_tree(checkout)
    assert b"+one = 2" in changed.diff
    (checkout / "notes.txt").write_text("changed\n")
    (checkout / "scratch.py").write_text("x = 1\n")
    assert work_tree(checkout) == changed
    (checkout / "engine" / "fresh.py").write_text("x = 1\n")
    with_new = work_tree(checkout)
    assert b"new file engine/fresh.py" in with_new.diff
    (checkout / "engine" / "fresh.py").write_text("x = 2\n")
    assert len({w.diff_hash for w in (changed, with_new, work_tree(checkout))}) == 3
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "second")
    assert work_tree(checkout).diff == b""


def test_git_that_points_elsewhere_or_is_not_there_changes_nothing_and_fails_nothing(
    checkout, monkeypatch, tmp_path_factory
):
    expected = work_tree(checkout)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert work_tree(checkout) == expected
    assert work_tree(tmp_path_factory.mktemp("plain")) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert work_tree(checkout) is None


def test_what_is_no_repository_though_it_looks_like_one_is_no_work_tree(tmp_path):
    (tmp_path / ".git").mkdir()
    assert work_tree(tmp_path) is None


def test_sources_are_hashed_by_name_and_content_and_nothing_else(tmp_path):
    for package in installation.SOURCES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    first = installation.sources_hash(tmp_path)
    (tmp_path / "engine" / "notes.md").write_text("words")
    assert installation.sources_hash(tmp_path) == first
    (tmp_path / "engine" / "a.py").write_text("x = 2\n")
    os.utime(tmp_path / "engine" / "a.py", ns=(1, 1))
    changed = installation.sources_hash(tmp_path)
    (tmp_path / "engine" / "a.py").rename(tmp_path / "engine" / "b.py")
    assert len({first, changed, installation.sources_hash(tmp_path)}) == 3
    assert installation.lock_hash(tmp_path) == ""
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    assert len(installation.lock_hash(tmp_path)) == 64


# Runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sessions(module_database_url, module_settings):
    sessions = make_sessions(module_database_url)
    module_settings.strategies_folder.mkdir(exist_ok=True)
    (module_settings.strategies_folder / "dice.py").write_text(DICE)
    with sessions() as session:
        catalogue.sync(session.connection(), module_settings.strategies_folder)
        session.commit()
    yield sessions
    sessions.kw["bind"].dispose()


@pytest.fixture
def settings(module_settings):
    return module_settings


@pytest.fixture
def series(sessions):
    return a_series(sessions, a_market(300, 3))


def a_series(sessions, bars):
    with sessions.begin() as session:
        instrument = InstrumentRow(
            venue="replay", symbol=uuid4().hex, base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(instrument)
        session.flush()
        own = replace(bars, instrument_id=instrument.id)
        store_live_bars(session.connection(), own, source="import", simulated=False)
        return session.scalar(
            sa.select(SeriesRow.id).where(SeriesRow.instrument_id == instrument.id)
        )


def a_request(series_id, **changed):
    given = {
        "strategy_type": "moving_average_cross",
        "parameters": {"short_window": 5, "long_window": 15},
        "inputs": {"main": {"series_id": series_id, "trades": True}},
        "gate": False,
    }
    return BacktestRequest(**{**given, **changed})


def done(sessions, settings, request):
    job_id = uuid4()
    with sessions.begin() as session:
        session.add(
            JobRow(id=job_id, kind="backtest", title="a run", attempt=1, arguments=asdict(request))
        )
    perform(sessions, None, settings, job_id, 1, worker="test")
    with sessions() as session:
        job = session.get_one(JobRow, job_id)
        assert job.state == "done", job.error
        return session.get_one(RunRow, job.result["run_id"])


def once_more(run):
    return repeated(run.request, run.id, run.code_hash, run.ends_at)


def test_a_run_keeps_all_it_was_asked_with_and_made_with(sessions, settings, series):
    run = done(sessions, settings, a_request(series, capital="5000", seed=3))
    assert BacktestRequest(**run.request) == replace(
        a_request(series, capital="5000", seed=3), code_hash=run.code_hash
    )
    kept = run.provenance
    assert kept["sources"] == installation.sources_hash()
    assert kept["lock"] == installation.lock_hash()
    assert {"python", "numpy", "numba"} <= set(kept["versions"])
    assert kept["seed"] == 3
    main = run.inputs["main"]
    with sessions() as session:
        row = session.get_one(SeriesRow, series)
        assert (main["content"], main["appended"]) == (str(row.content), row.appended)
        assert row.content_hash == main["data_hash"]


def test_the_same_run_once_more_gives_the_same_digest_though_the_series_has_grown(
    sessions, settings
):
    bars = a_market(300, 3)
    series = a_series(sessions, bars[:250])
    first = done(sessions, settings, a_request(series))
    with sessions.begin() as session:
        own = replace(bars[250:], instrument_id=first.inputs["main"]["instrument_id"])
        store_live_bars(session.connection(), own, source="import", simulated=False)
    assert done(sessions, settings, a_request(series)).digest != first.digest
    again = done(sessions, settings, once_more(first))
    assert (again.digest, again.repeats) == (first.digest, first.id)
    assert again.inputs["main"]["used_hash"] == first.inputs["main"]["used_hash"]
    third = done(sessions, settings, once_more(again))
    assert (third.digest, third.repeats) == (first.digest, again.id)


def test_a_run_chosen_of_many_is_deflated_by_them_and_so_it_is_once_more(sessions, settings):
    series = a_series(sessions, a_market(300, 3, interval=86_400))
    terms = {"sizing": ALL_IN, "risk_policy": OFF}
    many = {"trials": 400, "trials_variance": 0.3, "sweep_id": 12}
    alone = done(sessions, settings, a_request(series, **terms))
    first = done(sessions, settings, a_request(series, **terms, **many))
    told, undeflated = first.metrics["dsr"], alone.metrics["dsr"]
    assert undeflated["value"] == alone.metrics["psr"]["value"] > told["value"]
    assert undeflated["details"]["trials"] == 1
    assert told["details"]["trials"] == 400
    assert told["details"]["trials_variance"] == 0.3
    again = done(sessions, settings, once_more(first))
    assert again.request["sweep_id"] == 12
    assert again.metrics["dsr"] == told
    assert (again.digest, again.repeats) == (first.digest, first.id)
    assert first.digest != alone.digest


def test_a_run_once_more_runs_the_code_of_then(sessions, settings, series):
    first = done(sessions, settings, a_request(series, strategy_type="dice", parameters={}))
    file = settings.strategies_folder / "dice.py"
    file.write_text(DICE.replace("> 0.5", "> 0.9"))
    with sessions.begin() as session:
        catalogue.sync(session.connection(), settings.strategies_folder)
    newest = done(sessions, settings, a_request(series, strategy_type="dice", parameters={}))
    assert newest.code_hash != first.code_hash
    assert newest.digest != first.digest
    again = done(sessions, settings, once_more(first))
    assert (again.code_hash, again.digest) == (first.code_hash, first.digest)


def test_chance_begins_at_the_seed(sessions, settings, series):
    def digest(seed):
        asked = a_request(series, strategy_type="dice", parameters={}, seed=seed)
        return done(sessions, settings, asked).digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
    provenance.start_chance(5)
    first = (random.random(), np.random.random())
    provenance.start_chance(5)
    assert (random.random(), np.random.random()) == first


def test_a_run_that_kept_no_request_cannot_be_run_again():
    with pytest.raises(ValueError, match="run 7 was made before requests were kept"):
        repeated({}, 7, "hash", datetime(2024, 1, 1, tzinfo=UTC))


def test_a_request_of_earlier_or_later_days_is_read_by_what_is_known(series):
    kept = {**asdict(a_request(series)), "colour": "red"}
    kept.pop("seed")
    ends_at = datetime(2024, 1, 1, 12, 30, tzinfo=UTC)
    found = repeated(kept, 7, "hash", ends_at)
    assert (found.code_hash, found.repeats) == ("hash", 7)
    assert datetime.fromisoformat(found.ends_at) == ends_at
    assert repeated({**kept, "ends_at": "2023-01-01"}, 7, "h", ends_at).ends_at == "2023-01-01"


def test_a_diff_is_kept_once_and_a_very_long_one_is_cut(sessions):
    long = WorkTree("c" * 40, b"x" * (MOST_DIFF + 10))
    made_by = Origin(long, "s", "l", {})
    with sessions() as session:
        for _ in range(2):
            row = RunRow(code_hash="h")
            made_by.record(session, row, a_request(1))
            assert row.provenance["git"]["cut"]
            assert row.provenance["git"]["diff_bytes"] == MOST_DIFF + 10
        kept = session.scalars(sa.select(InstallationDiffRow)).all()
        mine = [one for one in kept if one.hash == long.diff_hash]
        assert len(mine) == 1
        assert len(zlib.decompress(mine[0].diff)) == MOST_DIFF
