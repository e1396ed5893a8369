"""The look-ahead gate against a zoo: strategies that leak, and strategies that only look as if they did."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from engine.backtest.results import LEGS, Fills
from engine.backtest.specification import Specification, run
from engine.costs import Costs
from engine.indicators import Feature
from engine.lookahead.gate import examine
from engine.risk.rules import OFF
from engine.sizing import Sizing
from engine.strategies.base import BadParameter
from engine.strategies.registry import BUILT_IN, load_source
from tests.builders import a_bound_input, a_market, an_instrument, ohlc, strategy_type
from tests.prove.installation import seeded

ZOO = Path(__file__).parent / "zoo"
BARS = 700
FIVE_MINUTES, HOUR = 300, 3600


def species(folder):
    return sorted((ZOO / folder).glob("*.py"), key=lambda path: path.name)


def named(path):
    return path.stem


def made():
    """Five-minute bars with a volume that varies, and the hourly ones made of them."""
    bars = a_market(BARS, 23, sigma=0.004, interval=FIVE_MINUTES)
    volume = np.random.Generator(np.random.PCG64(3)).uniform(1e5, 1e6, BARS)
    bars.volume[:] = volume
    whole = BARS // 12 * 12
    by_hour = [c[:whole].reshape(-1, 12) for c in (bars.open, bars.high, bars.low, bars.close)]
    hours = ohlc(
        by_hour[0][:, 0],
        by_hour[1].max(1),
        by_hour[2].min(1),
        by_hour[3][:, -1],
        interval=HOUR,
    )
    return {"main": bars, "slow": hours}


def a_specification(source, market, name="x.py"):
    loaded = load_source(name, source)
    assert loaded.error is None, loaded.error
    strategy = next(iter(loaded.types.values()))
    inputs = [a_bound_input("main", interval=FIVE_MINUTES)]
    if "slow" in strategy.series():
        inputs.append(a_bound_input("slow", interval=HOUR, trades=False))
    return Specification(
        strategy=strategy,
        inputs=tuple(inputs),
        bars={bound.key: market[bound.key] for bound in inputs},
        instruments={1: an_instrument(1)},
        costs=Costs(0.0),
        sizing=Sizing("quantity", quantity=1.0),
        policy=OFF,
    )


def fills_of(record):
    found = [b.fill for b in record.fills]
    return Fills(
        instrument=np.array([f.instrument_id for f in found], np.int64),
        at=np.array([int(f.at.timestamp()) * 10**9 for f in found], np.int64),
        side=np.array([f.side.sign for f in found], np.int8),
        quantity=np.array([f.quantity for f in found], float),
        price=np.array([f.price for f in found], float),
        raw=np.array([f.price for f in found], float),
        fee=np.array([f.fee for f in found], float),
        leg=np.array([LEGS.index(b.leg.value) for b in record.fills], np.int8),
        tag=np.zeros(len(found), np.int32),
    )


def verdict_on(source, market, budget=0.12, name="x.py"):
    """Run it as a backtest does, then examine the run."""
    specification = a_specification(source, market, name)
    record = run(specification).record
    decided = [int(d.decided_at.timestamp()) * 10**9 for d in record.decisions]
    return examine(specification, np.array(decided, np.int64), budget, fills_of(record))


@pytest.fixture(scope="module")
def market():
    return made()


@pytest.fixture(autouse=True)
def folder_of_their_own(tmp_path, monkeypatch):
    """Where the animals leave what they write down."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("path", species("leaking"), ids=named)
def test_a_strategy_that_sees_the_future_is_caught(path, market):
    verdict = verdict_on(path.read_text(), market, name=path.name)
    assert verdict.answer == "leaks", verdict.text
    assert verdict.findings[0].text in verdict.text


@pytest.mark.parametrize("path", species("clean"), ids=named)
def test_a_strategy_that_only_looks_suspicious_is_let_through(path, market):
    verdict = verdict_on(path.read_text(), market, name=path.name)
    assert verdict.answer == "clean", verdict.findings
    assert verdict.coverage.examined >= 3


# --- the strategies that ship -------------------------------------------------------------------------


def ahead_by(strategy, bars):
    """The same strategy with every feature of the future."""

    class Ahead(strategy):
        def features(self, given):
            return {
                name: np.append(found.values[bars:], np.full(min(bars, len(found.values)), np.nan))
                if isinstance(found, Feature)
                else found
                for name, found in super().features(given).items()
            }

    return Ahead


def examined(strategy, parameters, bars, budget=0.1):
    specification = Specification(
        strategy, (a_bound_input(interval=FIVE_MINUTES),), {"main": bars}, {1: an_instrument(1)},
        parameters, costs=Costs(0.0), sizing=Sizing("quantity", quantity=1.0), policy=OFF,
    )  # fmt: skip
    decided = [d.decided_at.timestamp() for d in run(specification).record.decisions]
    return examine(specification, np.array(decided, np.int64) * 10**9, budget)


def rolled(dice, strategy):
    """Parameters within their bounds that go together."""
    while True:
        given = {
            name: dice.randint(max(2, int(p.ge or 2)), 40)
            for name, p in strategy.params().items()
            if p.type == "int" and "window" in name
        }
        try:
            strategy(given, {})
        except BadParameter:
            continue
        return given


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_strategy_that_ships_is_clean_and_leaks_once_it_sees_ahead(name):
    strategy = strategy_type(name)
    bars = a_market(900, 8, sigma=0.006, interval=FIVE_MINUTES)
    assert examined(strategy, {}, bars).answer == "clean"
    assert examined(ahead_by(strategy, 1), {}, bars).answer == "leaks"


@pytest.mark.prove
@pytest.mark.parametrize("name", BUILT_IN)
def test_whatever_the_parameters_and_the_market_no_clean_one_is_flagged_and_no_leak_missed(name):
    dice = seeded(f"gate {name}")
    strategy = strategy_type(name)
    for _ in range(150):
        bars = a_market(
            dice.randint(300, 3000),
            dice.randint(1, 10**6),
            sigma=dice.uniform(0.001, 0.03),
            interval=FIVE_MINUTES,
        )
        given = rolled(dice, strategy)
        clean = examined(strategy, given, bars, 0.3)
        assert clean.answer == "clean", (given, clean.text)
        leaking = examined(ahead_by(strategy, dice.randint(1, 20)), given, bars, 0.3)
        assert leaking.answer == "leaks", (given, leaking.text)
