"""The trades that backtesting.py 0.6.6 and vectorbt 1.2.0 make of the same bars and rules, and ours.

tests/peers/trades.py printed theirs. docs/research.md tells where definitions differ and why.
"""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from engine.backtest import notebook
from engine.backtest.results import REASONS
from engine.backtest.simulation import fastest, through_core
from tests.peers.crosses import (
    ALL_IN_BOTH_WAYS,
    CAPITAL,
    CASES,
    FEE,
    Traded,
    made,
    our_run,
    outcome,
)

FROZEN = json.loads((Path(__file__).parents[1] / "peers" / "trades.json").read_text())
THEIRS = {(case, peer): found for case, peer, found in FROZEN["runs"]}
BARS = made()
PEERS = ("backtesting.py", "vectorbt")


@cache
def our(case, way=fastest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "simulate", way)
        return our_run(case, BARS)


def theirs(case, peer):
    return [Traded(*trade) for trade in THEIRS[case, peer]["trades"]]


def test_the_bars_are_those_that_the_peers_traded():
    assert float(BARS.close.sum()) == pytest.approx(FROZEN["sum_of_closes"], abs=0.001)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("way", "engine"), [(fastest, "kernel"), (through_core, "core")])
def test_we_enter_and_leave_as_they_do(way, engine, case, peer):
    run = our(CASES[case], way)
    assert run.engine == engine
    found = outcome(run, BARS)
    assert len(found.trades) > 10
    assert [t[:3] for t in found.trades] == [t[:3] for t in theirs(case, peer)]
    for own, other in zip(found.trades, theirs(case, peer), strict=True):
        assert own[3:] == pytest.approx(other[3:], rel=1e-9)
    assert found.equity == pytest.approx(THEIRS[case, peer]["equity"], rel=1e-9)


def test_the_cases_meet_stops_and_targets_in_the_bar_of_the_entry_and_opens_beyond_a_stop():
    narrow = our(CASES["long and short, 50 units, stop 1 %, target 1.5 %"])
    closed, found = narrow.result.trades, outcome(narrow, BARS).trades
    reasons = [REASONS[code] for code in closed.exit_reason[closed.closed]]
    inside = {why for t, why in zip(found, reasons, strict=True) if t.entry_bar == t.exit_bar}
    jumped = {
        why for t, why in zip(found, reasons, strict=True) if t.exit_price == BARS.open[t.exit_bar]
    }
    assert inside == {"stop_loss", "take_profit"}
    assert "stop_loss" in jumped
    assert narrow.simulated.counts.ambiguous_bars > 0


@pytest.mark.parametrize("peer", PEERS)
def test_a_turn_with_all_there_is_differs_in_size_alone(peer):
    found = outcome(our(ALL_IN_BOTH_WAYS), BARS).trades
    other = theirs("long and short, all in", peer)
    assert [t[:3] for t in found] == [t[:3] for t in other]
    for own, theirs_ in zip(found, other, strict=True):
        assert own[4:6] == pytest.approx(theirs_[4:6], rel=1e-12)
    assert any(own.quantity < 0.999 * t.quantity for own, t in zip(found, other, strict=True))


def test_a_turn_is_sized_at_the_close_and_cut_to_what_there_is_at_the_open():
    run = our(ALL_IN_BOTH_WAYS)
    equity, found = run.equity["equity"].to_numpy(), outcome(run, BARS).trades
    for before, turn in pairwise(found):
        assert before.exit_bar == turn.entry_bar  # in the market all the time
        row = turn.entry_bar
        close, opens, held = BARS.close[row - 1], BARS.open[row], before.side * before.quantity
        wanted = equity[row - 1] / close / (1 + FEE)
        left = equity[row - 1] + held * (opens - close) - before.quantity * opens * FEE
        assert turn.quantity == pytest.approx(min(wanted, left / opens / (1 + FEE)), rel=1e-9)
    assert found[0].quantity == pytest.approx(CAPITAL / BARS.open[30] / (1 + FEE), rel=1e-12)
