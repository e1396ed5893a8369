"""`seraphim backtest` and the look-ahead gate: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json

import pytest

from deploy.commands import backtest
from deploy.exits import Exit
from engine.history import store_live_bars
from shared.db.market import InstrumentRow
from shared.db.sessions import make_sessions
from tests.builders import a_market

SOURCE = """
import numpy as np

from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signals


@register_strategy("tomorrow")
class Tomorrow(BaseStrategy):
    def features(self, bars):
        close = bars["main"].close
        return {"close": close, "next": np.append(close[1:], np.nan)}

    def generate_signals(self, f):
        return Signals(np.where(f["next"] > f["close"], 1.0, 0.0))
"""


@pytest.fixture
def do(settings, capsys):
    """Runs the command over 300 daily bars of X; (exit code, what it printed)."""
    settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    (settings.strategies_folder / "tomorrow.py").write_text(SOURCE)
    sessions = make_sessions(settings.database_url)
    with sessions() as session:
        row = InstrumentRow(
            venue="replay", symbol="X", base_asset="X", quote_asset="USD", calendar="24/7"
        )
        session.add(row)
        session.flush()
        bars = a_market(300, 3, interval=86_400, instrument_id=row.id)
        store_live_bars(session.connection(), bars, source="import", simulated=False)
        session.commit()

    def command(*words):
        parser = argparse.ArgumentParser()
        backtest.configure(parser)
        code = backtest.run(parser.parse_args([*words, "--no-risk"]), settings)
        return code, capsys.readouterr().out

    yield command
    sessions.kw["bind"].dispose()


def test_a_strategy_that_looks_ahead_is_told_and_has_an_exit_code_of_its_own(do):
    code, said = do("tomorrow", "X")
    assert code == Exit.LOOKS_AHEAD == 16
    assert "Look-ahead: LEAKS" in said
    assert "the feature 'next'" in said
    code, said = do("tomorrow", "X", "--json")
    assert code == Exit.LOOKS_AHEAD
    assert json.loads(said)["gate"]["verdict"] == "leaks"


def test_without_the_gate_it_says_so_and_ends_well(do):
    code, said = do("tomorrow", "X", "--no-gate")
    assert code == Exit.OK
    assert "Look-ahead: not examined" in said


def test_a_clean_one_says_how_many_bars_were_looked_at(do):
    code, said = do("moving_average_cross", "X")
    assert code == Exit.OK
    assert "Look-ahead: clean" in said
    assert "deciding bars examined" in said
