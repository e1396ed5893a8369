"""`seraphim again`: the same run once more, what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json

import pytest

from deploy.commands import again
from deploy.exits import Exit, Stop
from shared.db.backtests import RunRow
from shared.db.sessions import make_sessions
from tests.webapp.history import some_stocks
from tests.webapp.made_runs import a_run


@pytest.fixture
def rows(settings):
    sessions = make_sessions(settings.database_url)
    with sessions() as session:
        yield session
    sessions.kw["bind"].dispose()


@pytest.fixture
def do(settings, capsys):
    """Runs the command; (exit code, what it printed)."""

    def command(*words):
        capsys.readouterr()  # what making the first run logged
        parser = argparse.ArgumentParser()
        again.configure(parser)
        code = again.run(parser.parse_args([*map(str, words)]), settings)
        return code, capsys.readouterr().out

    return command


def test_a_run_once_more_says_that_it_is_the_same_or_what_was_not(rows, settings, do):
    run = a_run(rows, settings, some_stocks(rows, settings).acme_series)
    code, said = do(run.id)
    assert (code, said) == (
        Exit.OK,
        f"Run {run.id + 1} repeats run {run.id}: the same trades and numbers.\n",
    )
    assert rows.get_one(RunRow, run.id + 1).repeats == run.id
    run.digest, run.provenance = "0" * 64, {**run.provenance, "sources": "earlier"}
    run.engine = "core"
    rows.commit()
    code, said = do(run.id, "--json")
    assert code == Exit.DIFFERS == 17
    told = json.loads(said)
    assert (told["same"], told["repeats"]) == (False, run.id)
    assert told["differs"] == [
        "what ran it (the core, now the kernel), which shows in the last digits",
        "Seraphim's code",
    ]
    assert told["first_digest"] == "0" * 64 != told["digest"]


def test_a_run_that_is_not_there_or_kept_no_request_is_refused(rows, settings, do):
    with pytest.raises(Stop, match="there is no run 7"):
        do(7)
    run = a_run(rows, settings, some_stocks(rows, settings).acme_series)
    run.request = {}
    rows.commit()
    with pytest.raises(Stop, match="made before requests were kept"):
        do(run.id)


def test_a_run_that_can_no_longer_be_made_fails_with_the_reason(rows, settings, do, capsys):
    run = a_run(rows, settings, some_stocks(rows, settings).acme_series)
    run.request = {**run.request, "inputs": {"main": {"series_id": 99, "trades": True}}}
    rows.commit()
    assert do(run.id)[0] == Exit.FAILED
