"""The doors for notebooks: what goes in, what comes out, and that the guide's code runs."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from engine.backtest import run, sweep
from engine.backtest.given import from_frame, likely_calendar
from engine.bars import Bars
from engine.history import store_live_bars
from engine.strategies.base import BaseStrategy, param, series
from shared.db.market import InstrumentRow
from shared.db.sessions import make_sessions
from shared.domain.signals import Signal, Signals
from shared.settings import ROOT
from tests.builders import a_market

CROSS = {"short_window": 5, "long_window": 20}


def a_frame(rows: int = 400, seed: int = 7, index: Any = None, **changed: Any) -> pd.DataFrame:
    """Daily bars of business days."""
    bars = a_market(rows, seed=seed)
    when = pd.bdate_range("2015-01-01", periods=rows) if index is None else index
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame({**columns, **changed}, index=when)


class Leaking(BaseStrategy):
    """Knows the next close."""

    def features(self, bars):
        return {"next": np.append(bars["main"].close[1:], np.nan), "close": bars["main"].close}

    def generate_signals(self, f):
        return Signals(np.where(f["next"] > f["close"], 1.0, 0.0))


class Pair(BaseStrategy):
    """Whichever of two rose more, asked bar by bar."""

    other = series()

    def features(self, bars):
        return {key: b.close / np.append(np.nan, b.close[:-1]) for key, b in bars.items()}

    def generate_signal(self, now):
        first = now["main"] > now["other"]
        symbols = [self.inputs()[key].instrument for key in ("main", "other")]
        return [Signal(symbols[0], 0.5 * first), Signal(symbols[1], 0.5 * (not first))]


# What comes out ---------------------------------------------------------------------------------


def test_a_run_says_what_it_came_to_in_numbers_and_frames():
    found = run("moving_average_cross", a_frame(), parameters=CROSS)
    assert (found.engine, found.why, found.gate["verdict"]) == ("kernel", "", "clean")
    assert len(found.trades) == found.metrics["trades"].value > 2
    assert len(found.fills) == len(found.transactions)
    assert found.equity["equity"].iloc[-1] == found.metrics["final_equity"].value
    assert (1 + found.returns).prod() - 1 == pytest.approx(found.metrics["total_return"].value)
    held = found.positions.sum(axis=1)
    assert held.iloc[-1] == pytest.approx(found.equity["equity"].iloc[-1])
    assert list(found.trades["symbol"].unique()) == ["main"]
    assert "standard deviation" in found.metrics["sharpe"].how
    assert len(found.benchmark) == len(found.returns)


def test_a_run_shows_itself_in_a_console_and_in_a_notebook(tmp_path):
    found = run("moving_average_cross", a_frame(), parameters=CROSS, gate=False)
    said = repr(found)
    assert said.startswith("MovingAverageCross: 400 bars in ")
    assert "(kernel)" in said
    assert re.search(r"Sharpe +\S+\n", said)
    assert re.search(r"Look-ahead +not examined", said)
    assert ">Sharpe<" in found._repr_html_()
    page = found.report(tmp_path / "run.html").read_text()
    assert "MovingAverageCross" in page
    assert "short_window 5, long_window 20" in page


def test_a_class_that_looks_ahead_is_marked():
    found = run(Leaking, a_frame(), costs=0)
    assert found.gate["verdict"] == "leaks"
    assert "leaks" in repr(found)


def test_several_inputs_and_options_reach_the_run():
    given = {"main": a_frame(seed=1), "other": a_frame(seed=2)}
    found = run(
        Pair, given, symbols={"main": "AAA", "other": "BBB"}, costs={"fee_rate": 0.01},
        starts_at="2015-06-01", capital=5_000, currency="EUR", gate=False,
    )  # fmt: skip
    assert found.engine == "loop"
    assert set(found.fills["symbol"]) == {"AAA", "BBB"}
    assert found.fills["filled_at"].min() >= pd.Timestamp("2015-06-01")
    assert found.fills["fee"].iloc[0] == pytest.approx(
        0.01 * found.fills["price"].iloc[0] * found.fills["quantity"].iloc[0]
    )
    assert found.specification.instruments[1].quote_asset == "EUR"
    ruled = run(Pair, given, risk={"position_size": {"enabled": True, "max_fraction": "0.01"}})
    assert len(ruled.fills) == 0


def test_chance_begins_at_the_seed():
    class Dice(BaseStrategy):
        def features(self, bars):
            return {"dice": np.random.random(len(bars["main"]))}

        def generate_signals(self, f):
            return Signals(np.where(f["dice"] > 0.5, 1.0, 0.0))

    first, again, other = (run(Dice, a_frame(), seed=s, gate=False).digest for s in (1, 1, 2))
    assert first == again != other


# What goes in -----------------------------------------------------------------------------------


def test_frames_with_and_without_a_zone_and_bars_are_the_same_run():
    plain = a_frame(index=pd.date_range("2024-01-01", periods=400, freq="h"))
    shouted = plain.rename(columns=str.upper)
    there = plain.tz_localize("UTC").tz_convert("Asia/Tokyo")
    bars = from_frame(plain)
    assert (bars.interval, likely_calendar(bars)) == (3600, "24/7")
    digests = {
        run("moving_average_cross", one, parameters=CROSS, gate=False).digest
        for one in (plain, shouted, there, bars, {"main": plain})
    }
    assert len(digests) == 1


def test_weeks_without_a_weekend_are_an_exchange():
    assert likely_calendar(from_frame(a_frame())) == "XNYS"
    assert likely_calendar(from_frame(a_frame(5))) == "24/7"
    assert run("moving_average_cross", a_frame(), calendar="24/7", gate=False).result.calendar == (
        "24/7"
    )


@pytest.mark.parametrize(
    ("bars", "said"),
    [
        (a_frame().drop(columns="high"), r"bars\['main'\]: no column high \(there are: open, low"),
        (a_frame(high=1.0), r"high of 2015-01-01 00:00:00 is 1.0: it is below open or close \(400"),
        (a_frame(close=np.nan), "close of .* is nan: a price is a number above 0"),
        (a_frame(volume=-1.0), r"volume of .* is -1.0: .*fillna\(0\)"),
        (a_frame(close="x"), "a column is not of numbers"),
        (a_frame().reset_index(drop=True), "the index is RangeIndex; set a DatetimeIndex"),
        (a_frame()[::-1], "does not come after the row before it; sort"),
        (a_frame(1), "1 rows; at least 2 are needed"),
        ({"main": a_frame(), "daily": a_frame()}, "main, daily given; give one of each of main"),
        (3, "int is no bars; give a pandas DataFrame"),
    ],
)  # fmt: skip
def test_bars_that_cannot_be_are_refused_by_row_and_column(bars, said):
    with pytest.raises(ValueError, match=said):
        run("moving_average_cross", bars)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"strategy": "nothing"}, r"'nothing' is no strategy here \(known: .*moving_average_cross"),
        ({"strategy": BaseStrategy}, "must define exactly one of generate_signals"),
        ({"strategy": 3}, "strategy: 3 is no class"),
        ({"parameters": {"short": 1}}, r"short.* is no parameter here \(known: short_window"),
        ({"capital": 0}, "capital: 0 must be above 0"),
        ({"costs": {"fee": 1}}, "costs: fee is no cost"),
        ({"costs": 0.9}, "fee_rate"),
        ({"sizing": {"method": "all"}}, "method: 'all' is not one of"),
        ({"calendar": "Mars"}, "calendar: 'Mars' is not one of"),
        ({"starts_at": "soon"}, "starts_at: 'soon' is no date"),
        ({"starts_at": "2099-01-01"}, "starts_at: 0 bars of main close after 2099"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_names_field_value_and_remedy(changed, said):
    with pytest.raises(ValueError, match=said):
        run(**{"strategy": "moving_average_cross", "bars": a_frame(), **changed})


def test_a_stored_series_is_found_by_its_symbol(database_url, monkeypatch):
    bars = from_frame(a_frame(index=pd.date_range("2024-01-01", periods=400, freq="h")))
    sessions = make_sessions(database_url)
    with sessions() as session:
        row = InstrumentRow(
            venue="replay", symbol="ACME", base_asset="ACME", quote_asset="USD", calendar="24/7"
        )
        session.add(row)
        session.flush()
        own = Bars(row.id, 3600, *(getattr(bars, c) for c in COLUMNS))
        store_live_bars(session.connection(), own, source="import", simulated=False)
        session.commit()
    sessions.kw["bind"].dispose()
    asked = {"parameters": CROSS, "gate": False}
    stored = run("moving_average_cross", "acme@1h", database=database_url, **asked)
    assert stored.digest == run("moving_average_cross", own, **asked).digest
    assert set(stored.fills["symbol"]) == {"ACME"}
    longer = run("moving_average_cross", "ACME@4h", database=database_url, **asked)
    assert len(longer.equity) == 100
    with pytest.raises(ValueError, match="there is no series 'OTHER'; `seraphim import` adds one"):
        run("moving_average_cross", "OTHER", database=database_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ValueError, match="say where with database="):
        run("moving_average_cross", "ACME")


COLUMNS = ("opened_at", "closed_at", "open", "high", "low", "close", "volume", "filled")


# Sweeps -----------------------------------------------------------------------------------------


def test_a_sweep_is_the_runs_of_its_combinations_the_best_first():
    frame, over = a_frame(), {"short_window": range(3, 9, 2), "long_window": np.array([15, 20])}
    found = sweep("moving_average_cross", frame, over, objectives=["sharpe", "sortino"])
    assert list(found.columns[:4]) == ["short_window", "long_window", "sharpe", "sortino"]
    assert len(found) == 6
    assert found["sharpe"].is_monotonic_decreasing
    for best in (found.iloc[0], found.iloc[-1]):
        chosen = {name: int(best[name]) for name in over}
        alone = run("moving_average_cross", frame, parameters=chosen, gate=False)
        assert best["sharpe"] == pytest.approx(alone.metrics["sharpe"].value, rel=1e-9)
    one = sweep("moving_average_cross", frame, over, objectives=["sharpe", "sortino"], processes=1)
    pd.testing.assert_frame_equal(one, found)


def test_a_sweep_keeps_conditions_what_stays_and_which_way_is_better():
    found = sweep(
        "moving_average_cross", a_frame(), {"short_window": [5, 10, 30]}, where=["short_window < 20"],
        parameters={"long_window": 40}, objectives=["max_drawdown"], capital=1000.0,
    )  # fmt: skip
    assert sorted(found["short_window"]) == [5, 10]
    assert found["max_drawdown"].is_monotonic_increasing


class Fragile(BaseStrategy):
    """Fails for some of its parameters."""

    window = param(2, ge=1, le=9, help="Bars.")

    def features(self, bars):
        if self.window == 3:
            raise RuntimeError("three is too much")
        return {"close": bars["main"].close}

    def generate_signals(self, f):
        return Signals(np.where(f["close"] > 100, 1.0, 0.0))


def test_a_combination_that_fails_says_so_and_stops_no_other():
    found = sweep(Fragile, a_frame(), {"window": [2, 3]})
    assert found["error"].tolist() == ["", "RuntimeError: three is too much"]
    assert found["sharpe"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"over": {"short_window": []}}, "short_window"),
        ({"over": {"fast": [1]}}, "fast.* is no parameter here"),
        ({"objectives": ["luck"]}, "luck"),
        ({"where": ["short_window > 1000"]}, "no combination is left"),
        ({"processes": 0}, "processes: 0 must be from 1"),
    ],
)
def test_a_sweep_that_cannot_be_says_what_to_give(changed, said):
    with pytest.raises(ValueError, match=said):
        sweep(
            **{
                "strategy": "moving_average_cross",
                "bars": a_frame(),
                "over": {"short_window": [5]},
                **changed,
            }
        )


# The guide --------------------------------------------------------------------------------------


def test_the_code_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_frame(700).to_csv("prices.csv", index_label="date")
    text = (ROOT / "docs" / "research.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 4
    space: dict[str, Any] = {"__name__": "guide"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            exec(block, space)
    said = capsys.readouterr().out
    assert "MovingAverageCross: 700 bars" in said
    assert "Breakout: 700 bars" in said
    assert (tmp_path / "crossing.html").stat().st_size > 50_000
    assert len(space["found"]) == 8
