"""How the gate looks: what it changes, what it watches, what it costs, and what it cannot prove."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from textwrap import dedent, indent

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.specification import Specification
from engine.lookahead import cutting, gate
from engine.lookahead.gate import budget, examine
from engine.lookahead.outside import listening
from engine.lookahead.saying import unlike
from engine.lookahead.span import spans, spread_order
from engine.strategies.registry import load_source
from tests.builders import a_bound_input, a_market, an_instrument, strategy_type

HEAD = """
import numpy as np
from engine.indicators import ema, sma
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal, Signals
"""


def a_strategy(features, rule='f["close"] > f["a"]', *, head="", body=""):
    """In arrays: `features` makes `a` of `close`, `rule` says when it is long."""
    source = f"""{HEAD}{dedent(head)}
@register_strategy("made")
class Made(BaseStrategy):
{indent(dedent(body), "    ")}
    def features(self, bars):
        main, close = bars["main"], bars["main"].close
{indent(dedent(features), "        ")}
        return {{"close": close, "a": a}}

    def generate_signals(self, f):
        return Signals(np.where({rule}, 1.0, 0.0))
"""
    loaded = load_source("made.py", source)
    assert loaded.error is None, loaded.error
    return loaded.types["made"]


def examined(strategy, count=600, seconds=0.2, every=7, bars=None, **given):
    bars = {"main": a_market(count, 5)} if bars is None else bars
    inputs = tuple(a_bound_input(key, number) for number, key in enumerate(bars, 1))
    specification = Specification(
        strategy, inputs, bars, {i.instrument_id: an_instrument(i.instrument_id) for i in inputs}
    )
    decided = bars["main"].closed_at[40:-1:every]
    return examine(specification, decided, seconds, **given)


def kinds(verdict):
    return [finding.kind.value for finding in verdict.findings]


# --- what cannot be proven ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "head"),
    [
        ("a = np.random.rand(len(close)) * close", ""),
        ("a = np.random.default_rng().random(len(close)) * close", ""),
        ("a = np.array([random.random() for _ in close]) * close", "import random"),
    ],
    ids=["numpy", "generator", "python"],
)
def test_chance_without_a_seed_proves_nothing_and_accuses_nobody(features, head):
    verdict = examined(a_strategy(features, head=head))
    assert verdict.answer == "unproven"
    assert kinds(verdict) == ["chance"]


@pytest.mark.parametrize(
    ("features", "head"),
    [
        ("a = sma(close, 5).values", "import sqlalchemy"),
        ("a = sma(close, 5).values", "from engine.history import series_bars"),
        ("a = sma(close, 5).values + (np.datetime64('now') < np.datetime64('2001-01-01'))", ""),
    ],
    ids=["database driver", "stored history", "the time by numpy"],
)
def test_what_cannot_be_watched_is_not_called_clean(features, head):
    verdict = examined(a_strategy(features, head=head))
    assert verdict.answer == "unproven"
    assert kinds(verdict) == ["unseen"]


def test_what_hangs_on_where_the_bars_end_and_not_on_what_they_hold_is_told_apart():
    flat_at_the_end = a_strategy(
        "a = sma(close, 5).values", '(f["close"] > f["a"]) & (np.arange(len(f)) < len(f) - 1)'
    )
    verdict = examined(flat_at_the_end)
    assert verdict.answer == "unproven"
    assert kinds(verdict) == ["ends"]


def test_a_strategy_that_raises_when_bars_are_missing_is_told_so():
    verdict = examined(a_strategy("a = close * 0 + 1 / (len(close) == 600)"))
    assert verdict.answer == "unproven"
    assert "raises" in verdict.text or "could not be asked" in verdict.text


def test_writing_alone_is_no_leak_but_is_told(tmp_path):
    log = tmp_path / "log.txt"
    verdict = examined(a_strategy(f"a = sma(close, 5).values; open({str(log)!r}, 'a').close()"))
    assert verdict.answer == "unproven"
    assert f"writes the file {str(log)!r}" in verdict.text


# --- what is outside ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "head", "said"),
    [
        ("a = close * float(os.environ.get('LEVEL', '1'))", "import os", "variable 'LEVEL'"),
        ("a = close * float(os.getenv('LEVEL', '1'))", "import os", "variable 'LEVEL'"),
        ("a = close * len(os.listdir('/'))", "import os", "lists the folder '/'"),
        (
            "a = close\ntry: socket.create_connection(('127.0.0.1', 1), 0.1)\nexcept OSError: pass",
            "import socket",
            "connects to ('127.0.0.1', 1)",
        ),
        ("a = close; subprocess.run(['true'], check=True)", "import subprocess", "starts 'true'"),
    ],
    ids=["environ", "getenv", "folder", "socket", "program"],
)
def test_reaching_outside_is_a_leak(features, head, said):
    verdict = examined(a_strategy(features, head=head), seconds=0.05)
    assert verdict.answer == "leaks"
    assert any(said in finding.text for finding in verdict.findings)


@pytest.mark.parametrize(
    "now", ["datetime.datetime.now().timestamp()", "time.time()", "pd.Timestamp.now().timestamp()",
            "pd.Timestamp('now').timestamp()", "(datetime.date.today() - datetime.date(1970, 1, 1)).days * 86400.0"],
)  # fmt: skip
def test_the_wall_clock_is_noticed_however_it_is_read(now):
    strategy = a_strategy(
        f"a = close + np.where(main.closed_at / 1e9 < {now} - 200000, -5.0, 5.0)",
        head="import datetime\nimport time\nimport pandas as pd",
    )
    assert kinds(examined(strategy, bars={"main": a_market(2000, 5, interval=3600)})) == ["clock"]


def test_classes_that_stand_for_others_are_those_others_to_whoever_asks():
    strategy = a_strategy(
        """
        at = datetime(2026, 1, 1)
        assert isinstance(at, datetime) and isinstance(pd.Timestamp(at), pd.Timestamp)
        assert datetime.fromisoformat("2026-01-01") == at and datetime == type(at)
        assert issubclass(pd.Timestamp, datetime)
        a = sma(close, 5).values
        """,
        head="from datetime import datetime\nimport pandas as pd",
    )
    assert examined(strategy).answer == "clean"


def test_only_the_examined_code_is_listened_to():
    with listening() as heard:
        with open(os.devnull) as file:
            file.read()
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    assert not [said for said in heard if os.devnull in said]
    before = dict(heard)
    with open(__file__) as file:
        file.read()
    assert heard == before


# --- what it leaves as it was -------------------------------------------------------------------------


def test_the_process_is_as_it_was_afterwards():
    strategy = a_strategy("a = np.random.rand(len(close)) * close")
    np.random.seed(3)
    random.seed(3)
    legacy, plain, modules = np.random.get_state()[1].copy(), random.getstate(), set(sys.modules)
    bars = a_market(600, 5)
    closes = bars.close.copy()
    examined(strategy, bars={"main": bars})
    assert (np.random.get_state()[1] == legacy).all()
    assert random.getstate() == plain
    assert {name for name in sys.modules if name.startswith("seraphim_strategy")} <= modules
    assert (bars.close == closes).all()


def test_a_verdict_is_plain_json():
    verdict = examined(a_strategy("a = np.append(close[1:], np.nan)"))
    text = json.dumps(verdict.as_json(), allow_nan=False)
    assert json.loads(text)["verdict"] == "leaks"


# --- what it costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("run", "may_take"), [(0.0, 0.5), (4.0, 0.8), (1000.0, 10.0)])
def test_the_budget_is_a_fifth_of_the_run_within_bounds(run, may_take):
    assert budget(run) == pytest.approx(may_take)


SLOW = "a = np.array([x for x in close.tolist() for _ in range(200)][::200])"


def test_above_the_budget_stretches_of_the_run_are_looked_at_and_counted():
    verdict = examined(a_strategy(SLOW + " * 1.0001"), 40_000, seconds=0.3, every=50)
    coverage = verdict.coverage
    assert verdict.answer == "clean"
    assert 0 < coverage.rows < coverage.of_rows == 40_000
    assert 0 < coverage.examined < coverage.deciding == 800
    assert verdict.seconds < 10 * verdict.budget_seconds


def test_a_leak_is_found_in_a_stretch_too():
    verdict = examined(
        a_strategy(SLOW + "[::1].mean() + close * 0"), 40_000, seconds=0.05, every=50
    )
    assert verdict.answer == "leaks"
    assert verdict.coverage.rows < 40_000


def test_every_deciding_bar_of_a_long_run_is_looked_at_and_a_leak_in_few_of_them_found():
    seldom = (
        "after = np.append(close[1:], close[-1:])\n"
        "a = np.where(main.volume > 5e6, after, sma(close, 5).values)"
    )
    bars = a_market(50_000, 5)
    bars.volume[[20_000, 31_003, 44_444]] = 1e7
    verdict = examined(
        a_strategy(seldom, body="history = 6"), bars={"main": bars}, every=1, seconds=4.0
    )
    assert verdict.answer == "leaks"
    assert verdict.findings[0].ahead == 1
    bars.volume[:] = 1e6
    verdict = examined(
        a_strategy(seldom, body="history = 6"), bars={"main": bars}, every=11, seconds=4.0
    )
    assert verdict.answer == "clean"
    assert verdict.coverage.examined == verdict.coverage.deciding


def test_without_a_decision_bars_spread_over_the_run_are_cut_after():
    verdict = examined(strategy_type("moving_average_cross"), every=10_000)
    assert verdict.coverage.deciding == 1
    bars = a_market(300, 5)
    specification = Specification(
        strategy_type("moving_average_cross"), (a_bound_input(),), {"main": bars}, {}
    )
    verdict = examine(specification, [], 3.0)
    assert verdict.answer == "clean"
    assert verdict.coverage.cuts >= 20
    assert "no bar decided" in verdict.text


def test_too_few_bars_prove_nothing():
    specification = Specification(
        strategy_type("moving_average_cross"), (a_bound_input(),), {"main": a_market(2, 5)}, {}
    )
    assert examine(specification, [], 0.2).answer == "unproven"


# --- several instruments ------------------------------------------------------------------------------


def test_another_instrument_seen_ahead_is_seen():
    def reading(rows):
        body = "other = series(trades=False)\nhistory = 3"
        head = "from engine.strategies.base import series"
        return a_strategy(f'o = bars["other"].close\na = {rows}', head=head, body=body)

    bars = {"main": a_market(600, 5), "other": a_market(600, 6, instrument_id=2)}
    assert examined(reading("np.append(o[1:], np.nan)"), bars=bars).answer == "leaks"
    assert examined(reading("np.append(np.nan, o[:-1])"), bars=bars).answer == "clean"


# --- history ------------------------------------------------------------------------------------------


def warmups(strategy):
    return {w.feature: w for w in examined(strategy, 4000, seconds=3.0, every=100).warmups}


def test_the_history_a_recursive_average_needs_is_measured_and_what_it_declares_is_enough():
    found = warmups(a_strategy("a = ema(close, 10)"))["a"]
    assert found.declared == 220
    assert 64 < found.needed <= 220
    assert found.is_enough


def test_a_declared_history_that_is_too_short_is_told():
    average = "import pandas as pd\na = pd.Series(close).ewm(span=60).mean().to_numpy()"
    short = warmups(a_strategy(average, body="history = 50"))["a"]
    assert (short.declared, short.is_enough) == (50, False)
    assert short.needed > 500
    assert warmups(a_strategy(average, body="history = 1024"))["a"].is_enough


def test_a_sum_from_the_first_bar_on_never_has_enough():
    found = warmups(a_strategy("a = np.cumsum(close)"))
    assert found["a"].needed is None
    assert found["close"].needed == 1


# --- the ways to take the future away -----------------------------------------------------------------

closings = st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True).map(sorted)


@given(closings, st.integers(1, 50))
def test_groups_hold_every_row_once_and_no_two_too_near(rows, length):
    groups = list(cutting.apart(np.array(rows, np.intp), length))
    assert sorted(np.concatenate(groups).tolist()) == rows
    assert all((np.diff(group) >= length).all() for group in groups)


@given(closings, st.integers(1, 20))
def test_spliced_histories_end_with_their_rows_and_keep_time(rows, length):
    bars = a_market(401, 2)
    for group in cutting.apart(np.array(rows, np.intp), length):
        parts = cutting.spliced({"main": bars}, group, length)
        made = parts.bars["main"]
        assert (made.close[parts.rows] == bars.close[group]).all()
        assert (np.diff(made.closed_at) > 0).all()
        for end, row in zip(parts.rows.tolist(), group.tolist(), strict=True):
            kept = min(length, row + 1)
            assert (
                made.close[end - kept + 1 : end + 1] == bars.close[row - kept + 1 : row + 1]
            ).all()


def test_shuffled_bars_are_the_same_up_to_now_and_others_after():
    bars = a_market(100, 2)
    now = int(bars.closed_at[59])
    lower, higher = (cutting.shuffled({"main": bars}, now, seed)["main"] for seed in (0, 1))
    for other in (lower, higher):
        assert (other.close[:60] == bars.close[:60]).all()
        assert (other.close[60:] != bars.close[60:]).all()
        assert (other.closed_at == bars.closed_at).all()
        assert (other.high >= other.low).all()
    assert lower.close[60:].mean() < bars.close[60:].mean() < higher.close[60:].mean()


def test_a_cut_copy_has_nothing_behind_it():
    bars = a_market(100, 2)
    assert cutting.cut({"main": bars}, int(bars.closed_at[9]))["main"].close.base is None


def test_hidden_bars_are_shown_when_their_time_has_come_and_not_before():
    bars = a_market(48, 2)
    hours = a_market(4, 3, interval=720)
    shown = cutting.Revealed({"main": bars, "slow": hours}, "main", 1)
    for row in range(48):
        shown.show(row)
        assert shown.bars["main"].close[row] == bars.close[row]
        assert (shown.bars["main"].close[row + 1 :] != bars.close[row + 1 :]).all()
        known = (row + 1) // 12
        assert (shown.bars["slow"].close[:known] == hours.close[:known]).all()
        assert (shown.bars["slow"].close[known:] != hours.close[known:]).all()


def test_noise_of_rounding_is_no_change_and_less_than_a_millionth_is():
    whole = np.array([1.0, np.nan, 1e6, 5.0, 0.0])
    assert not len(unlike(whole, whole * (1 + 1e-13)))
    assert not len(unlike(whole, whole + 1e-8))  # beside a million that is noise
    assert unlike(whole, np.array([1.0, 2.0, 1e6, 5.00001, 1e-3])).tolist() == [1, 3, 4]
    assert unlike(whole, np.array([np.inf, np.nan, 1e6, 5.0, 0.0])).tolist() == [0]


@given(st.integers(0, 300))
def test_the_order_of_cuts_takes_every_one_and_spreads_them(count):
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    if count > 8:
        assert max(np.diff(sorted(order[:9]))) <= count / 4 + 2


def test_stretches_are_the_beginning_the_middle_and_the_end():
    bars = a_market(9000, 2)
    found = spans({"main": bars}, "main", bars.closed_at[::100], 1500)
    assert [len(span) for span in found] == [500, 500, 500]
    assert found[0].now(0) == bars.closed_at[0]
    assert found[2].now(499) == bars.closed_at[-1]
    assert [len(span.deciding) for span in found] == [5, 5, 5]
    assert gate.FIRST_CUTS == 3
