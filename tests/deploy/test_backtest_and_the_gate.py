"""`seraphim backtest` and the look-ahead gate: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json

import pytest

from deploy.commands import backtest
from deploy.exits import Exit, Stop
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


def test_every_cost_can_be_said_and_the_run_keeps_it(do):
    code, said = do(
        "moving_average_cross", "X", "--json", "--fee-per-unit", "0.005", "--fee-minimum", "1",
        "--fee-tier", "50000:0.0024", "--fee-tier", "0:0.0026", "--slippage-fixed", "0.01",
        "--slippage-impact", "0.1", "--spread", "0.0002",
    )  # fmt: skip
    assert code == Exit.OK
    run = json.loads(said)
    assert run["options"]["costs"] == {
        "fee_rate": 0.001, "slippage": 0.0, "fee_per_unit": 0.005, "fee_minimum": 1.0,
        "fee_tiers": [[0.0, 0.0026], [50_000.0, 0.0024]], "slippage_fixed": 0.01,
        "slippage_impact": 0.1, "spread": 0.0002,
    }  # fmt: skip
    assert run["engine"] == "kernel"


def test_a_tier_that_is_none_is_refused_before_anything_runs(do):
    with pytest.raises(Stop, match=r"--fee-tier 'half': write VALUE:FEE, such as 50000:0\.0024"):
        do("moving_average_cross", "X", "--fee-tier", "half")


def test_the_first_line_names_the_engine_and_why_it_was_the_core(do):
    assert "; compiled kernel\n" in do("moving_average_cross", "X")[1]
    tiers = [word for n in range(14) for word in ("--fee-tier", f"{n * 1000}:0.00{30 - n}")]
    assert "; the core: more than 12 fee tiers\n" in do("moving_average_cross", "X", *tiers)[1]
