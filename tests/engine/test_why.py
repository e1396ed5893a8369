"""Why it did, or did not, trade: real situations on real rows, and the exact sentence for each of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine import catalogue, trading_state
from engine.desk import Desk
from engine.history import NewBar, add_bars, series_of
from engine.inquiry.job import of_run, of_strategy, run
from engine.jobs import JobRefused, perform
from engine.why import explain
from engine.why_facts import BarFacts, Facts, MarketFacts, SignalFacts
from engine.why_words import number, percent
from shared import queueing
from shared.db.backtests import JobRow, RunRow
from shared.db.console import CommandRow
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine, make_sessions
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EngineLeaseRow,
    EquitySnapshotRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
)
from shared.jobs import BacktestRequest, WhyRequest
from shared.messages import CreateStrategy, OpenReplay, StartReplay
from tests.prove.in_process import play

START = datetime(2026, 1, 5, 14, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FRIDAY = datetime(2026, 1, 9, 20, 50, tzinfo=UTC)
"""Ten minutes before the exchange in New York closes for the week-end."""

SCRIPTED = '''
import math
from engine.indicators import sma
from engine.strategies.base import BaseStrategy, param, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Limit, Market, Signals, StopLoss
import numpy as np


@register_strategy("scripted")
class Scripted(BaseStrategy):
    """Says what its script says, one word a bar, the last one for ever: a number, or `-` to leave."""

    script = param("-")
    window = param(2, ge=1)
    limit = param(0.0)
    stop = param(0.0)

    def features(self, bars):
        return {"average": sma(bars["main"].close, self.window)}

    def generate_signals(self, f):
        words = self.script.split()
        words += words[-1:] * (len(f) - len(words))
        said = np.array([math.nan if word == "-" else float(word) for word in words[: len(f)]])
        said[np.isnan(f["average"])] = math.nan
        entry = Limit(self.limit) if self.limit else Market()
        exits = (StopLoss(fraction=math.nan if self.stop < 0 else self.stop),) if self.stop else ()
        return Signals(said, entry=entry, exits=exits)

    def because(self, now):
        return f"the average is {now['average']:g}"


@register_strategy("reader")
class Reader(Scripted):
    """Reads a second series, which it does not trade."""

    other = series(trades=False)
'''
OFF = {
    rule: {"enabled": False}
    for rule in ("position_size", "max_drawdown", "concentration", "volatility", "liquidity")
}


class Floor:
    """An installation without processes: bars, replay accounts, scripted strategies, and questions."""

    def __init__(self, settings):
        self.settings = settings
        self.db = make_engine(settings.database_url)
        self.desk = Desk(settings.engine_group)
        self.folder = settings.strategies_folder
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "scripted.py").write_text(SCRIPTED)
        with self.db.begin() as connection:
            catalogue.sync(connection, self.folder)
        self.series, self.ids = {}, {}

    def instrument(self, symbol, bars, **changed):
        given = {
            "calendar": "24/7",
            "lot_size": Decimal(1),
            "tick_size": Decimal("0.01"),
            **changed,
        }
        base = symbol.partition("/")[0]
        with self.db.begin() as connection:
            insert = sa.insert(InstrumentRow).values(
                venue="replay",
                symbol=symbol,
                name=symbol,
                base_asset=base,
                quote_asset="USD",
                **given,
            )
            self.ids[symbol] = connection.execute(insert.returning(InstrumentRow.id)).scalar_one()
            self.series[symbol] = series_of(connection, self.ids[symbol], "import", 60)
            add_bars(connection, self.series[symbol], bars)

    def account(self, name, policy=None, *, start=True, **changed):
        given = {
            "capital": "1000000", "costs": {"fee_rate": "0", "slippage": "0"}, "speed": 0.0,
            "risk_policy": {**OFF, **(policy or {})}, "starts_at": "", "ends_at": "",
        }  # fmt: skip
        matching = changed.pop("matching", None)
        played = [self.series[symbol] for symbol in changed.pop("plays", ("X/USD", "Y/USD"))]
        asked = OpenReplay(name=name, series_ids=played, **{**given, **changed})
        with self.db.begin() as connection:
            self.desk.open_replay(connection, asked, "anna")
            id_ = connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == name))
            if matching:
                connection.execute(
                    sa.update(AccountRow).where(AccountRow.id == id_).values(matching=matching)
                )
            if start:
                self.desk.start_replay(connection, StartReplay(id_), "anna")
        return id_

    def strategy(self, account, name, script="-", symbol="X/USD", *, start=True, **changed):
        sizing = changed.pop("sizing", {"method": "fraction", "fraction": 1.0})
        allocation = changed.pop("allocation", "1000")
        type_ = changed.pop("type", "scripted")
        inputs = {"main": {"instrument_id": self.ids[symbol], "interval": 60}}
        if type_ == "reader":
            inputs["other"] = {"instrument_id": self.ids["Y/USD"], "interval": 60}
        given = CreateStrategy(
            name, type_, account, {"script": script, **changed}, inputs, allocation, sizing, start
        )
        with self.db.begin() as connection:
            self.desk.create_strategy(connection, given, "anna")
            return connection.scalar(sa.select(StrategyRow.id).where(StrategyRow.name == name))

    def id_of(self, name):
        with self.db.connect() as connection:
            return connection.scalar(sa.select(StrategyRow.id).where(StrategyRow.name == name))

    def ask(self, name, minute, symbol="X/USD", **given):
        """Facts and answer about the moment that many minutes after the start."""
        at = minute if isinstance(minute, datetime) else START + minute * MINUTE
        request = WhyRequest(self.ids[symbol], at.isoformat(), self.id_of(name), **given)
        with Session(self.db) as session:
            found = of_strategy(session, request, at)
        return explain(found.facts)

    def change(self, model, name, **values):
        with self.db.begin() as connection:
            connection.execute(sa.update(model).where(model.name == name).values(values))

    def order_of(self, name, **values):
        """Change the newest order of a strategy, as a venue's answer would."""
        mine = sa.select(OrderRow.client_order_id).where(OrderRow.strategy_id == self.id_of(name))
        with self.db.begin() as connection:
            newest = connection.scalar(mine.order_by(OrderRow.decided_at.desc()).limit(1))
            connection.execute(
                sa.update(OrderRow).where(OrderRow.client_order_id == newest).values(values)
            )
            return newest


def flat_bars(count, price=100.0, *, start=START, low=None, volume="1000", missing=()):
    """One-minute bars at one price; `low` is {row: how low it fell}."""
    return [
        NewBar(
            start + n * MINUTE, start + (n + 1) * MINUTE, str(price), str(price + 1),
            str((low or {}).get(n, price - 1)), str(price), volume,
        )
        for n in range(count)
        if n not in missing
    ]  # fmt: skip


def a_market(floor):
    floor.instrument("X/USD", flat_bars(60, low={12: 90.0}))
    # No bar for two days: longer than any quiet market is.
    floor.instrument("Y/USD", flat_bars(60) + flat_bars(60, start=START + timedelta(days=2)),
                     min_value=Decimal(5000))  # fmt: skip
    floor.instrument("NYX", flat_bars(10, start=FRIDAY) + flat_bars(10, start=FRIDAY + timedelta(days=3)),
                     calendar="XNYS")  # fmt: skip


def the_quiet_account(floor):
    """Everything that needs no risk rule, in one replay."""
    account = floor.account("open", ends_at=(START + 60 * MINUTE).isoformat())
    add = lambda name, *given, **more: floor.strategy(account, name, *given, **more)  # noqa: E731
    add("buys", "- - - - 1 - - - 0 -")
    add("stays", "- - 1")
    add("flat", "- - 0")
    add("warms", "1", window=30)
    add("waits", "- - 1", limit=80.0)
    add("gives up", "- - 1 1 1 0", limit=80.0)
    add("stopped out", "- - 1", stop=0.05)
    add("rounds", "- - 1 1.01")
    add("small", "- - 1", allocation="50")
    add("poor", "- - 1", allocation="50", sizing={"method": "quantity", "quantity": "7"})
    add("minimum", "- - 1", "Y/USD")
    add("unmoved", "- - 1", sizing={"method": "volatility", "annual_volatility": 0.2, "window": 20})
    add("banded", "- - 1", sizing={"method": "fraction", "fraction": 0.5, "band": 0.2})
    add("unprotected", "- - 1", stop=-1.0)
    add("bear", "- - -1")
    add("halted", "- - 1")
    add("reducing", "- - 1")
    add("reads", "- - 1", type="reader")
    add("cancelled", "- - 1", limit=80.0)
    add("expired", "- - 1", limit=80.0)
    add("rejected", "- - 1", limit=80.0)
    add("unknown", "- - 1", limit=80.0)
    add("sent", "- - 1", limit=80.0)
    add("failed", "- - 1")
    add("quarantined", "- - 1")
    add("stopped", "- - 1")
    add("asleep", "- - 1", start=False)
    heard = datetime.now(UTC) - timedelta(hours=1)
    with floor.db.begin() as connection:
        connection.execute(
            sa.insert(EquitySnapshotRow).values(
                account_id=account, at=START, equity=1, cash=1, holdings=[], recorded_at=heard
            )
        )
        for name, state in (("halted", "halted"), ("reducing", "reduce_only")):
            scope = ("strategy", str(floor.id_of(name)))
            trading_state.request(connection, *scope, state, "anna", "fat finger")
    play(floor.db, account, None)
    floor.change(AccountRow, "open", feed=sa.text('feed || \'{"state": "finished"}\''))


def what_a_venue_or_a_person_did(floor):
    """Ends that a paper broker does not make by itself, as the rows would have them."""
    at = START + 9 * MINUTE
    cancelled = floor.order_of("cancelled", state="cancelled", reason="asked", updated_at=at)
    with floor.db.begin() as connection:
        connection.execute(
            sa.insert(CommandRow).values(
                id=uuid4(), kind="CancelOrder", arguments={"order_id": str(cancelled)}, actor="bert",
                state="done", expires_at=at,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(CommandRow).values(
                id=uuid4(), kind="StopStrategy", arguments={"strategy_id": floor.id_of("stopped")},
                actor="bert", state="done", expires_at=at, settled_at=datetime.now(UTC),
            )
        )  # fmt: skip
    floor.order_of("expired", state="expired", updated_at=at)
    floor.order_of("rejected", state="rejected", reason="too many orders", updated_at=at)
    floor.order_of("unknown", state="unknown", updated_at=at)
    floor.order_of("sent", state="submitted", limit_price=None, updated_at=at)
    early = {"last_moment_at": START + 5 * MINUTE}
    text = "ZeroDivisionError: division by zero (mine.py, line 12)"
    floor.change(StrategyRow, "failed", status="failed", status_text=text, **early)
    stalled = "its code did not return within 10 s and stalled the engine"
    floor.change(StrategyRow, "quarantined", status="quarantined", status_text=stalled, **early)
    floor.change(StrategyRow, "stopped", status="stopped", **early)


def the_strict_accounts(floor):
    """One account a rule, so that one rule alone denies."""
    until = {"ends_at": (START + 60 * MINUTE).isoformat(), "capital": "10000"}
    on = {"enabled": True}
    rules = {
        "sized": {"position_size": {**on, "max_fraction": 0.05}},
        "concentrated": {"concentration": {**on, "max_fraction": 0.08}},
        "volatile": {"volatility": {**on, "max_annual": 1.5, "window": 20}},
        "illiquid": {"liquidity": {**on, "max_fraction": 0.005, "window": 2}},
        "twice": {"position_size": {**on, "max_fraction": 0.05},
                  "concentration": {**on, "max_fraction": 0.08}},
    }  # fmt: skip
    for name, policy in rules.items():
        account = floor.account(name, policy, **until)
        floor.strategy(account, f"{name} buys", "- - - 1")
        play(floor.db, account, None)
    partly = floor.account("partly", matching={"volume_share": "0.002"}, **until)
    floor.strategy(partly, "part buys", "- " * 50 + "1", allocation="9000")
    play(floor.db, partly, None)
    waiting = floor.account("waiting", start=False)
    floor.strategy(waiting, "waits for play", "- - 1")
    sessions = floor.account("sessions", plays=("NYX", "Y/USD"))
    floor.strategy(sessions, "of the exchange", "- - 1", "NYX")
    floor.strategy(sessions, "over the hole", "- - 1", "Y/USD")
    play(floor.db, sessions, None)


@pytest.fixture(scope="module")
def floor(module_settings):
    made = Floor(module_settings)
    a_market(made)
    the_quiet_account(made)
    what_a_venue_or_a_person_did(made)
    the_strict_accounts(made)
    yield made
    made.db.dispose()


NOT = "It did not trade X/USD at 14:{:02}: ".format

SITUATIONS = {
    "it traded": ("buys", 5, "It bought 10 X/USD at 100, decided at 14:05: the average is 100."),
    "it left": ("buys", 9, "It sold 10 X/USD at 100, decided at 14:09: the average is 100."),
    "said nothing, holding": ("buys", 7, NOT(7) + "the average is 100, so it said nothing new and it went on holding 10 X."),
    "said nothing, flat": ("buys", 3, NOT(3) + "the average is 100, so it said nothing new and nothing is held."),
    "holds its target": ("stays", 9, NOT(9) + "the average is 100, so its target stayed 1 and it already holds that."),
    "wants nothing": ("flat", 9, NOT(9) + "the average is 100, so its target stayed 0 and nothing is held."),
    "warms up": ("warms", 8, NOT(8) + "8 of 30 bars of warm-up were there."),
    "works at its limit": ("waits", 3, NOT(3) + "its limit order to buy 10 X at 80 still works; the price came no lower than 90."),
    "its order works on": ("waits", 9, NOT(9) + "the average is 100, so its target stayed 1, and its limit order of 14:03 for it still works."),
    "its limit was given up": ("gives up", 3, NOT(3) + "its limit order to buy 10 X at 80 never reached its price (lowest 99) and was cancelled at 14:06."),
    "a stop was hit": ("stopped out", 13, "It sold 10 X/USD at 95 at 14:13: its stop loss was hit."),
    "stopped out, and the same target": ("stopped out", 20, NOT(20) + "the average is 100, so its target stayed 1 as the moment before, and a target acts only when it changes; its stop loss closed the position at 14:13."),
    "less than a lot more": ("rounds", 4, NOT(4) + "the average is 100, so it already holds the 10 X its target 1.01 wants."),
    "less than a lot": ("small", 3, NOT(3) + "its size 0.5 X is less than one lot of 1."),
    "no cash for a lot": ("poor", 3, NOT(3) + "free cash 50.00 USD pays for less than one lot of 1."),
    "volatility not known": ("unmoved", 3, NOT(3) + "its size cannot be known: the volatility needs 20 bars that moved."),
    "inside its band": ("banded", 9, NOT(9) + "the average is 100, so its target stayed 1 and its exposure of 50 % is within 20 % of the 50 % wanted."),
    "a stop not known yet": ("unprotected", 3, NOT(3) + "the fraction of its StopLoss was not known yet, and it does not enter unprotected."),
    "long only": ("bear", 3, NOT(3) + "its target -1 is short, and this account trades long only."),
    "halted": ("halted", 3, NOT(3) + "trading was halted for this strategy by anna since 14:00 (fat finger)."),
    "reduce-only": ("reducing", 3, NOT(3) + "trading was reduce-only for this strategy by anna since 14:00 (fat finger), and this would have made its position larger."),
    "refused before": ("halted", 9, NOT(9) + "the average is 100, so its target stayed 1 as the moment before, and a target acts only when it changes; its release was refused at 14:03."),
    "cancelled by hand": ("cancelled", 3, NOT(3) + "its limit order to buy 10 X at 80 never reached its price (lowest 99) and was cancelled at 14:09 by bert."),
    "expired": ("expired", 3, NOT(3) + "its limit order to buy 10 X at 80 never reached its price (lowest 99) and expired at 14:09."),
    "rejected": ("rejected", 3, NOT(3) + "the venue rejected its limit order to buy 10 X at 80: too many orders."),
    "unknown": ("unknown", 3, NOT(3) + "nobody knows what became of its limit order to buy 10 X at 80: the venue is being asked."),
    "sent": ("sent", 3, NOT(3) + "its limit order to buy 10 X is sent, and the market has not traded since."),
    "failed": ("failed", 9, NOT(9) + "failed had failed: ZeroDivisionError: division by zero (mine.py, line 12)."),
    "quarantined": ("quarantined", 9, NOT(9) + "quarantined was quarantined: its code did not return within 10 s and stalled the engine."),
    "never started": ("asleep", 9, NOT(9) + "asleep had not been started."),
    "denied for its size": ("sized buys", 4, NOT(4) + "denied by risk: position size 10 % of equity would exceed 5 %."),
    "denied for concentration": ("concentrated buys", 4, NOT(4) + "denied by risk: X/USD would be 10 % of equity, over 8 %."),
    "denied for volatility": ("volatile buys", 4, NOT(4) + "denied by risk: volatility: 20 returns needed, 3 known."),
    "denied for liquidity": ("illiquid buys", 4, NOT(4) + "denied by risk: the order would be 1 % of the 2-bar mean traded value, over 0.5 %."),
    "denied twice": ("twice buys", 4, NOT(4) + "denied by risk: position size 10 % of equity would exceed 5 %; X/USD would be 10 % of equity, over 8 %."),
    "denied before": ("sized buys", 9, NOT(9) + "the average is 100, so its target stayed 1 as the moment before, and a target acts only when it changes; position size denied it at 14:04."),
    "before all bars": ("buys", -30, "It did not trade X/USD at 13:30: no bar: the stored bars of X/USD begin at 14:00."),
    "a replay that waits": ("waits for play", 30, NOT(30) + "its replay has not been started."),
    "a replay that ended": ("buys", 90, "It did not trade X/USD at 15:30: its replay finished at 15:00."),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_sentence_says_why(floor, situation):
    name, minute, sentence = SITUATIONS[situation]
    assert floor.ask(name, minute).sentence == sentence


def test_there_are_25_reasons_for_not_trading_and_more():
    assert sum("did not trade" in sentence for _, _, sentence in SITUATIONS.values()) >= 25


@pytest.mark.parametrize(
    ("name", "minute", "symbol", "sentence"),
    [
        ("minimum", 3, "Y/USD", "its size 1000.00 is under the venue's minimum value 5000."),
        ("buys", 5, "Y/USD", "buys does not read it (it trades X/USD)."),
        ("reads", 5, "Y/USD", "it only reads Y/USD and trades X/USD."),
    ],
)
def test_the_sentence_about_another_instrument(floor, name, minute, symbol, sentence):
    assert floor.ask(name, minute, symbol).sentence == (
        f"It did not trade {symbol} at 14:{minute:02}: {sentence}"
    )


def test_a_closed_market_and_missing_bars_are_told_apart(floor):
    saturday = FRIDAY + timedelta(days=1)
    assert floor.ask("of the exchange", saturday, "NYX").sentence == (
        "It did not trade NYX at 20:50 on 10 Jan 2026: no bar: the market was closed "
        "(XNYS trades 09:30 to 16:00 New York, weekdays)."
    )
    hole = START + timedelta(days=1)
    assert floor.ask("over the hole", hole, "Y/USD").sentence == (
        "It did not trade Y/USD at 14:00 on 6 Jan 2026: no bar: the bars from 5 Jan 15:00 to 7 Jan 14:00 are missing."
    )


def test_a_partial_fill_says_how_much_and_what_the_rest_does(floor):
    found = floor.ask("part buys", 51)
    assert found.sentence.startswith("It bought ")
    assert (
        " of 90 X/USD at 100, decided at 14:51: the average is 100; the rest still works."
        in found.sentence
    )
    assert found.traded


def test_a_stopped_strategy_says_who_stopped_it(floor):
    found = floor.ask("stopped", 30)
    assert found.outcome == "stopped"
    assert "by bert" in found.sentence


def test_times_are_told_in_the_zone_of_whoever_asks(floor):
    assert "decided at 15:05" in floor.ask("buys", 5, timezone="Europe/Berlin").sentence


def test_between_two_moments_the_last_one_answers(floor):
    found = floor.ask("stays", START + timedelta(minutes=9, seconds=30))
    assert found.outcome == "unchanged"
    assert "at 14:09:30" in found.sentence


def test_what_is_record_and_what_was_computed_again_is_told_apart(floor):
    sources = {s.name: s.source for s in floor.ask("sized buys", 4).sections}
    assert sources == {
        "bar": "record", "inputs": "record", "signal": "again", "decision": "record",
        "sizing": "record", "checks": "record", "orders": "record", "states": "record", "life": "record",
    }  # fmt: skip


def test_the_record_holds_every_step_check_and_feature(floor):
    sections = {s.name: s for s in floor.ask("sized buys", 4).sections}
    assert [c["rule"] for c in sections["checks"].checks] == ["position_size"]
    assert [s["name"] for s in sections["sizing"].steps] == ["target", "change"]
    lines = {line.name: line.text for line in sections["signal"].lines}
    assert lines["average"] == "100 (the moment before 100)"
    assert lines["Warm-up"] == "needs 2 bars, had 4"
    assert lines["Target"] == "1 (the moment before nothing new)"


def test_an_account_with_a_market_of_its_own_says_when_nobody_listens(floor):
    """A real clock: the engine away, then there with a feed that lags."""
    name, now = "sized", datetime.now(UTC)
    floor.change(AccountRow, name, clock="real", market_time=START + 60 * MINUTE)
    with floor.db.begin() as connection:
        connection.execute(sa.delete(EngineLeaseRow))
    try:
        ask = lambda: floor.ask("sized buys", now).sentence  # noqa: E731
        assert "the engine is away; it had heard the market until 5 Jan" in ask()
        with floor.db.begin() as connection:
            connection.execute(
                sa.insert(EngineLeaseRow).values(
                    engine_group="main", token=uuid4(), holder="x", pid=1,
                    expires_at=datetime.now(UTC) + timedelta(minutes=5),
                )
            )  # fmt: skip
        assert "the feed is behind: it was heard until 5 Jan" in ask()
        ahead = floor.ask("sized buys", now + timedelta(days=3)).sentence
        assert "that is 2 d ahead" in ahead or "that is 3 d ahead" in ahead
    finally:
        floor.change(AccountRow, name, clock="replay", market_time=START + 60 * MINUTE)


def test_code_that_fails_on_these_bars_is_named(floor):
    broken = SCRIPTED.replace("words = self.script.split()", "1 / 0")
    (floor.folder / "broken.py").write_text(
        broken.replace('"scripted"', '"broken"').replace('"reader"', '"broken2"')
    )
    with floor.db.begin() as connection:
        catalogue.sync(connection, floor.folder)
    with floor.db.connect() as connection:
        account = connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == "open"))
    floor.strategy(account, "breaks", "- 1", type="broken")
    floor.change(StrategyRow, "breaks", status="running", last_moment_at=START + 60 * MINUTE)
    found = floor.ask("breaks", 9)
    assert found.sentence.startswith(
        NOT(9)
        + "its code fails on these bars: ZeroDivisionError: division by zero (broken.py, line"
    )


# Runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backtest(floor, module_settings):
    request = BacktestRequest(
        strategy_type="scripted", parameters={"script": "- - 1 1 1 - 0 -"},
        inputs={"main": {"series_id": floor.series["X/USD"], "trades": True}}, capital="1000",
        costs={"fee_rate": "0", "slippage": "0"}, risk_policy=OFF,
    )  # fmt: skip
    sessions = make_sessions(module_settings.database_url)
    with sessions() as session:
        job = queueing.ask(session, None, request, title="t", actor="anna").id
    perform(sessions, None, module_settings, job, 1, worker="t")
    with sessions() as session:
        row = session.scalars(sa.select(RunRow).where(RunRow.job_id == job)).one()
    yield SimpleNamespace(id=row.id, sessions=sessions, settings=module_settings)
    sessions.kw["bind"].dispose()


RUN_NOT = "It did not trade X/USD at 14:{:02} on 5 Jan 2026: ".format


@pytest.mark.parametrize(
    ("minute", "sentence"),
    [
        (3, "It bought 10 X/USD at 100, decided at 14:03 on 5 Jan 2026: the average is 100."),
        (4, RUN_NOT(4) + "the average is 100, so its target stayed 1 and it already holds that."),
        (6, RUN_NOT(6) + "the average is 100, so it said nothing new and it went on holding 10 X."),
        (7, "It sold 10 X/USD at 100, decided at 14:07 on 5 Jan 2026: the average is 100."),
        (1, RUN_NOT(1) + "1 of 2 bars of warm-up were there."),
        (
            60,
            "It did not trade X/USD at 15:00 on 5 Jan 2026: it is the run's last bar, after which nothing can fill.",
        ),
        (90, "It did not trade X/USD at 15:30 on 5 Jan 2026: the run ended at 15:00."),
    ],
)
def test_the_sentence_about_a_run(floor, backtest, minute, sentence):
    at = START + minute * MINUTE
    request = WhyRequest(floor.ids["X/USD"], at.isoformat(), run_id=backtest.id)
    with backtest.sessions() as session:
        assert explain(of_run(session, request, at).facts).sentence == sentence


def test_the_job_answers_with_the_sentence_and_the_whole_record(floor, backtest):
    request = WhyRequest(floor.ids["X/USD"], (START + 5 * MINUTE).isoformat(), floor.id_of("buys"))
    with backtest.sessions() as session:
        job = queueing.ask(session, None, request, title="Why", actor="anna").id
    perform(backtest.sessions, None, backtest.settings, job, 1, worker="t")
    with backtest.sessions() as session:
        row = session.get_one(JobRow, job)
        assert row.state == "done"
        assert row.result["text"] == SITUATIONS["it traded"][2]
        why = row.result["why"]
        assert why["moment"] == (START + 5 * MINUTE).isoformat()
        assert [f["name"] for f in why["features"]] == ["average"]
        decision = session.scalars(
            sa.select(DecisionRow).where(DecisionRow.strategy_id == request.strategy_id)
        ).first()
        assert why["decision"] == f"/decisions/{decision.id}"
        intents = session.scalars(
            sa.select(OrderIntentRow).where(OrderIntentRow.decision_id == decision.id)
        )
        orders = next(s for s in why["sections"] if s["name"] == "orders")
        assert [line["link"] for line in orders["lines"]] == [
            f"/books/orders/{i.client_order_id}" for i in intents
        ]


@pytest.mark.parametrize(
    "request_",
    [
        WhyRequest(1, "soon", 1),
        WhyRequest(1, "2026-01-05", 1, timezone="Mars"),
        WhyRequest(99, "2026-01-05", 1),
        WhyRequest(1, "2026-01-05", run_id=99),
    ],
)
def test_a_question_about_nothing_is_refused(floor, backtest, request_):
    work = SimpleNamespace(sessions=backtest.sessions, progress=lambda *a: None)
    with pytest.raises(JobRefused):
        run(request_, work)


# The sentence alone ------------------------------------------------------------------------------


A_FACT = Facts(
    name="Trend", symbol="BTC/USD", base="BTC", quote="USD", at=START, moment=START, interval=60,
    trades=("BTC/USD",), reads=("BTC/USD",), market=MarketFacts(heard_until=START + MINUTE),
)  # fmt: skip


def test_a_day_is_named_by_its_date():
    facts = replace(A_FACT, interval=86_400, bar=BarFacts("closed", calendar="XNYS"))
    assert explain(facts).sentence.startswith("It did not trade BTC/USD on 5 Jan 2026: no bar: ")


def test_a_target_that_changed_without_a_decision_is_not_explained_away():
    signal = SignalFacts(target=1.0, before=0.0, standing=0.0, because="up")
    assert explain(replace(A_FACT, signal=signal)).sentence == (
        "It did not trade BTC/USD at 14:00: up, so its target changed from 0 to 1, and no decision is on "
        "record: it was not at work at that moment."
    )


def test_the_end_of_all_bars_is_named():
    bar = BarFacts("after", hole=(START, START))
    assert explain(replace(A_FACT, bar=bar)).sentence.endswith(
        "no bar: the stored bars of BTC/USD end at 14:00."
    )


def test_numbers_read_as_people_write_them():
    assert number(64012.5) == "64,012.5"
    assert number(0.00004) == "0.00004"
    assert number(100.0) == "100"
    assert percent(0.1244) == "12.44 %"
    assert percent(0.05) == "5 %"
