"""`seraphim sweep`: searched here, printed for people or as JSON, one exit code per kind of end."""

import json

import pytest
import sqlalchemy as sa

from deploy.cli import main
from deploy.exits import Exit
from engine.sweeping import local
from shared.db.sweeps import SweepRow
from shared.settings import VARIABLES
from tests.engine.sweeps import Laboratory

PARAMETERS = ("--param", "short_window=3:9:3", "--param", "long_window=10:20:5")


@pytest.fixture
def laboratory(settings, monkeypatch):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SERAPHIM_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    made = Laboratory(settings)
    yield made
    made.end()


def test_a_sweep_of_two_processes_prints_its_best_and_gives_what_one_process_gives(
    laboratory, capsys
):
    laboratory.series()
    command = ["sweep", "moving_average_cross", "X1", *PARAMETERS, "--workers", "2", "--no-risk"]
    assert main([*command, "--where", "short_window < long_window", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["combinations"]) == ("done", 9)
    assert laboratory.values(told["sweep_id"]) == laboratory.alone(told["sweep_id"])
    sharpe = [point["metrics"]["sharpe"] for point in told["best"]]
    assert sharpe == sorted(sharpe, reverse=True)
    assert len(sharpe) == 9
    assert main([*command, "--objective", "max_drawdown"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Sweep 2: moving_average_cross, 9 combinations, best max drawdown")
    assert len(lines) == 11


WRONG = [
    (["--param", "short_window"], Exit.USAGE, "write NAME=VALUE"),
    (["--param", "short_window=9:3"], Exit.USAGE, "9 is above 3"),
    (["--param", "shrt=1:3"], Exit.FAILED, "shrt: is no parameter here"),
    (["--where", "import os"], Exit.FAILED, "not understood"),
    (["--objective", "luck"], Exit.FAILED, "'luck' is not one of"),
    (["--workers", "many"], Exit.USAGE, "--workers 'many': local, queue, or a number"),
    (["--param", "short_window=50:60"], Exit.FAILED, "no combination is left"),
]


def test_what_cannot_be_is_said_by_field_value_and_remedy(laboratory, capsys):
    laboratory.series()
    for arguments, code, said in WRONG:
        assert main(["sweep", "moving_average_cross", "X1", *arguments]) == code
        assert said in capsys.readouterr().err
    assert main(["sweep", "moving_average_cross", "NOPE", *PARAMETERS]) == Exit.USAGE
    assert "NOPE: no such series" in capsys.readouterr().err


def test_a_sweep_that_is_called_off_keeps_what_it_found(laboratory):
    sweep_id = laboratory.sweep([laboratory.series()])
    laboratory.do(*laboratory.waiting(sweep_id)[0])
    crew = local.Crew(laboratory.settings, sweep_id, 0)
    crew.call_off()
    assert crew.end() == "cancelled"
    assert len(laboratory.points(sweep_id)) == 4
    with laboratory.sessions() as session:
        assert session.scalar(sa.select(SweepRow.wanted)) == "stopped"
