"""Machine code ahead of time: all of it is made, known by what it was made from, and missed by no run."""

import json
import os

import numba
import pytest

from engine import compiled, warming
from engine.backtest import simulation


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A folder for machine code of this test's own."""
    folder = tmp_path / "__pycache__" / compiled.folder_name()
    monkeypatch.setattr(compiled, "_BESIDE", folder.parent)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return folder


def test_making_ready_compiles_every_function_there_is():
    warming.make_ready()
    assert compiled.is_ready()
    assert warming.missing() == []
    assert warming.make_ready() is False


def test_another_time_of_a_source_or_other_sources_are_not_ready(elsewhere, monkeypatch):
    assert not compiled.is_ready()
    compiled.say_ready()
    assert compiled.is_ready()
    kept = json.loads((elsewhere / compiled.READY).read_text())
    assert "rolling.py" in kept["times"]
    kept["times"]["rolling.py"] -= 1
    (elsewhere / compiled.READY).write_text(json.dumps(kept))
    assert not compiled.is_ready()
    compiled.say_ready()
    name = compiled.folder_name()
    monkeypatch.setattr(compiled, "get_host_cpu_name", lambda: "another processor")
    assert compiled.folder_name() != name
    assert not compiled.is_ready()


def test_older_code_is_thrown_away_and_nothing_else(elsewhere):
    tag = compiled.folder_name().rpartition("-")[0]
    for name in (f"{tag}-older", "compiled-anotherpython-1", "something"):
        os.makedirs(elsewhere.parent / name)
    compiled.say_ready()
    assert compiled.drop_older() == 1
    left = {path.name for path in elsewhere.parent.iterdir()}
    assert left == {elsewhere.name, "compiled-anotherpython-1", "something"}


@pytest.mark.parametrize("strategy", [warming.Crossing, warming.Asked])
def test_a_short_run_does_not_wait_for_the_compiler_and_says_so(elsewhere, monkeypatch, strategy):
    given = warming.specification(strategy)
    fast = simulation.simulate(given)
    assert (fast.engine, fast.why) != ("core", simulation.NOT_COMPILED)
    monkeypatch.setattr(simulation, "WORTH_COMPILING", warming.ROWS + 1)
    waited = simulation.simulate(given)
    assert (waited.engine, waited.why) == ("core", simulation.NOT_COMPILED)
    assert len(waited.fills) == len(fast.fills) > 0
    compiled.say_ready()
    assert simulation.simulate(given).engine == fast.engine


def test_a_long_run_is_worth_compiling(elsewhere, monkeypatch):
    monkeypatch.setattr(simulation, "WORTH_COMPILING", warming.ROWS)
    assert simulation.simulate(warming.specification(warming.Crossing)).engine == "kernel"
