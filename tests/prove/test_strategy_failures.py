"""A strategy that fails, in whatever way, stops alone and says why; the others trade on."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from shared.db.trading import EventRow, FillRow, StrategyRow, StrategyTypeRow
from shared.messages import CreateStrategy, StartStrategy, StopStrategy
from tests.prove.agreement import disagreements
from tests.prove.installation import Installation, wait_for

HEAD = """
import math
import sys
import time

import numpy as np

from engine.strategies.base import BaseStrategy, param, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Limit, Signal, Signals, StopLoss
"""

ARRAYS = """
    def features(self, bars):
        return {{"close": bars["main"].close}}

    def generate_signals(self, f):
        {body}
"""

SCALARS = """
    def generate_signal(self, now):
        {body}
"""

# What the strategy does; what its status must then say.
FAILURES = {
    "raises_in_features": (
        "    def features(self, bars):\n        if len(bars['main']): raise ZeroDivisionError('no luck')\n        return {}\n"
        "    def generate_signals(self, f):\n        return Signals(np.ones(len(f)))\n",
        "ZeroDivisionError: no luck (raises_in_features.py, line 15)",
    ),
    "raises_in_signals": (ARRAYS.format(body="raise KeyError('gone')"), "KeyError: 'gone'"),
    "raises_in_signal": (SCALARS.format(body="return now['nothing']"), "KeyError: 'nothing'"),
    "raises_in_because": (
        ARRAYS.format(body="return Signals(np.ones(len(f)))")
        + "\n    def because(self, now):\n        raise RuntimeError('no words')\n",
        "RuntimeError: no words",
    ),
    "raises_on_fill": (
        SCALARS.format(body="return Signal(self.inputs()['main'].instrument, 1.0)")
        + "\n    def on_fill(self, fill, now):\n        raise OSError('not now')\n",
        "OSError: not now",
    ),
    "exits": (SCALARS.format(body="sys.exit(3)"), "SystemExit: 3"),
    "exits_in_features": (
        "    def features(self, bars):\n        if len(bars['main']): sys.exit('bye')\n        return {}\n"
        "    def generate_signals(self, f):\n        return Signals(np.ones(len(f)))\n",
        "SystemExit: bye",
    ),
    "wrong_shape": (ARRAYS.format(body="return Signals(np.ones(3))"), "target has shape (3, 1)"),
    "infinite": (
        ARRAYS.format(body="return Signals(np.full(len(f), np.inf))"), "an infinite value",
    ),
    "no_signal": (SCALARS.format(body="return 'buy'"), "generate_signal gave 'b'"),
    "not_a_number": (
        SCALARS.format(body="return Signal(self.inputs()['main'].instrument, math.nan)"), "target nan",
    ),
    "no_price": (
        SCALARS.format(body="return Signal(self.inputs()['main'].instrument, 1.0, Limit(math.nan))"),
        "entry price nan: give a price above 0",
    ),
    "wrong_symbol": (SCALARS.format(body="return Signal('GOLD', 1.0)"), "signal for 'GOLD'"),
    "state_no_json": (
        SCALARS.format(body="self.state['x'] = {1, 2}"), "Object of type set is not JSON",
    ),
    "state_nan": (SCALARS.format(body="self.state['x'] = math.nan"), "not JSON compliant"),
    "raises_oddly": (
        SCALARS.format(body="raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})()"),
        "Odd: its message cannot be shown",
    ),
}  # fmt: skip

# Odd, but no failure: these go on trading.
HARMLESS = {
    "prints": ARRAYS.format(body="print('hello', flush=True); return Signals(np.ones(len(f)))"),
    "all_nan": ARRAYS.format(body="return Signals(np.full(len(f), np.nan))"),
    "odd_words": SCALARS.format(
        body="return Signal(self.inputs()['main'].instrument, 1.0, tag='a\\0b' + chr(0xD800))"
    )
    + "\n    def because(self, now):\n        return {'no': 'text'}\n",
    "no_words": ARRAYS.format(body="return Signals(np.ones(len(f)))")
    + "\n    def because(self, now):\n        pass\n",
}


def source(name, body):
    return f'{HEAD}\n@register_strategy("{name}")\nclass Tested(BaseStrategy):\n{body}'


@pytest.fixture
def installation(settings):
    made = Installation(settings)
    settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    yield made
    made.end()


def write(installation, name, text):
    (installation.settings.strategies_folder / f"{name}.py").write_text(text)


def create(installation, type_, name=None, *, start=True, **parameters):
    instrument = installation.instruments()["BTC/USD"]
    return installation.create(
        CreateStrategy(
            name or type_, type_, installation.account().id, parameters,
            {"main": {"instrument_id": instrument, "interval": 60}}, "1000",
            {"method": "fraction", "fraction": 1.0}, start,
        )
    )  # fmt: skip


def statuses(installation):
    rows = installation.rows(sa.select(StrategyRow.__table__).order_by(StrategyRow.id))
    return {row.name: (row.status, row.status_text) for row in rows}


def fills_of(installation, strategy_id):
    query = sa.select(FillRow.id).where(FillRow.strategy_id == strategy_id)
    return len(installation.rows(query))


def test_every_way_to_fail_stops_that_strategy_alone_and_says_why(installation):
    for name, (body, _) in FAILURES.items():
        write(installation, name, source(name, body))
    for name, body in HARMLESS.items():
        write(installation, name, source(name, body))
    installation.prepare()
    witness = create(installation, "moving_average_cross", "witness", short_window=1, long_window=2)
    for name in (*FAILURES, *HARMLESS):
        create(installation, name)
    engine = installation.start()
    installation.wait_until_trading(engine)

    def still_running():
        found = statuses(installation)
        return {name for name in FAILURES if found[name][0] != "failed"}

    deadline = time.monotonic() + 60
    while still_running() and engine.is_alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert still_running() == set(), statuses(installation)
    before = fills_of(installation, witness)
    wait_for(lambda: fills_of(installation, witness) > before + 1, 30)
    found = statuses(installation)
    wrong = {
        name: found[name]
        for name, (_, text) in FAILURES.items()
        if found[name][0] != "failed" or text not in found[name][1]
    }
    assert wrong == {}
    assert {found[name] for name in (*HARMLESS, "witness")} == {("running", "")}
    told_of = [
        row.text for row in installation.rows(sa.select(EventRow.text).where(EventRow.kind == "strategy.failed"))
    ]  # fmt: skip
    assert len(told_of) == len(FAILURES), "each was told once"
    assert engine.is_alive
    assert engine.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


LOOPS = {
    "loops_in_signal": SCALARS.format(body="while True: pass"),
    "loops_on_fill": SCALARS.format(body="return Signal(self.inputs()['main'].instrument, 1.0)")
    + "\n    def on_fill(self, fill, now):\n        while True: pass\n",
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_strategy_that_never_returns_is_quarantined_and_the_next_engine_trades_on(
    installation, name
):
    write(installation, name, source(name, LOOPS[name]))
    installation.prepare()
    witness = create(installation, "moving_average_cross", "witness", short_window=1, long_window=2)
    create(installation, name)
    engine = installation.start(stall=1.5)
    assert engine.wait(90) == 70
    status, text = statuses(installation)[name]
    assert (status, "did not return" in text) == ("quarantined", True)
    engine = installation.start(stall=1.5)
    installation.wait_until_trading(engine)
    before = fills_of(installation, witness)
    wait_for(lambda: fills_of(installation, witness) > before, 30)
    assert statuses(installation)["witness"][0] == "running"
    assert statuses(installation)[name][0] == "quarantined"
    assert engine.stop() == 0
    assert "\n".join(disagreements(installation.db)) == ""


def test_a_strategy_that_never_returns_at_its_start_is_quarantined(installation):
    write(
        installation, "loops_at_start",
        source("loops_at_start", "    def features(self, bars):\n        while len(bars['main']): pass\n        return {}\n"
               "    def generate_signals(self, f):\n        return Signals(np.ones(len(f)))\n"),
    )  # fmt: skip
    installation.prepare()
    strategy = create(installation, "loops_at_start", start=False)
    engine = installation.start(stall=1.5)
    installation.wait_until_trading(engine)
    installation.ask(StartStrategy(strategy))
    assert engine.wait(90) == 70
    assert statuses(installation)["loops_at_start"][0] == "quarantined"


def test_a_strategy_that_never_returns_when_it_starts_again_is_quarantined(installation):
    text = source("loops_later", SCALARS.format(body="return None"))
    write(installation, "loops_later", text)
    installation.prepare()
    create(installation, "moving_average_cross", "witness", short_window=1, long_window=2)
    create(installation, "loops_later")
    loop = (
        "    def features(self, bars):\n        while len(bars['main']): pass\n        return {}\n"
    )
    with installation.db.begin() as connection:  # the same code, in a world where it never returns
        connection.execute(
            sa.text("UPDATE strategy_code SET source = :source WHERE file_name = 'loops_later.py'"),
            {"source": text + loop},
        )
    engine = installation.start(stall=1.5)
    assert engine.wait(90) == 70
    assert statuses(installation)["loops_later"][0] == "quarantined"
    engine = installation.start(stall=1.5)
    installation.wait_until_trading(engine)
    assert statuses(installation)["witness"][0] == "running"


def catalogue(installation, name):
    query = sa.select(StrategyTypeRow.__table__).where(StrategyTypeRow.name == name)
    return next(iter(installation.rows(query)), None)


def test_a_saved_file_is_in_the_catalogue_within_three_seconds_broken_or_mended(installation):
    good = source("mended", ARRAYS.format(body="return Signals(np.zeros(len(f)))"))
    installation.prepare()
    engine = installation.start()
    installation.wait_until_trading(engine)

    write(installation, "mended", good.replace("np.zeros(len(f))", "np.zeros("))
    wait_for(lambda: catalogue(installation, "mended"), 3)
    assert "SyntaxError" in catalogue(installation, "mended").error
    assert "mended.py" in catalogue(installation, "mended").error

    write(installation, "mended", good)
    wait_for(lambda: catalogue(installation, "mended").error is None, 3)
    strategy = create(installation, "mended")
    wait_for(lambda: statuses(installation)["mended"][0] == "running", 10)
    version = installation.strategy("mended").code_hash

    write(installation, "mended", good.replace("np.zeros(len(f))", "1 / 0"))
    wait_for(lambda: catalogue(installation, "mended").code_hash != version, 3)
    installation.wait_for_moments(3)
    assert statuses(installation)["mended"] == ("running", ""), "it keeps the version it runs"
    assert installation.strategy("mended").code_hash == version

    (installation.settings.strategies_folder / "mended.py").write_bytes(b"\0\xff")
    wait_for(lambda: "can't decode" in (catalogue(installation, "mended").error or ""), 3)
    (installation.settings.strategies_folder / "mended.py").unlink()
    wait_for(lambda: catalogue(installation, "mended") is None, 3)
    stopped = installation.settled(installation.ask(StopStrategy(strategy)))
    assert stopped.state == "done"
    started = installation.settled(installation.ask(StartStrategy(strategy)))
    assert started.state == "done", "its code is a row: it starts without its file"
    assert engine.stop() == 0
