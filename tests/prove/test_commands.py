"""Commands as rows: done once, in time or never, and none that is wrong stops the engine."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from shared.db.trading import StrategyRow
from shared.messages import CreateStrategy, EditRiskPolicy, ResumeTrading, StartStrategy
from tests.prove.installation import Installation, wait_for


@pytest.fixture(scope="module")
def running(module_settings):
    """An installation with an engine at work, for all tests of this module."""
    made = Installation(module_settings)
    made.prepare()
    engine = made.start()
    made.wait_until_trading(engine)
    yield made
    assert engine.is_alive, "no command may end the engine"
    made.end()


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        ("Dance", {}, "command 'Dance' is not one this engine knows"),
        ("StartStrategy", {"strategy_id": 1, "fast": True}, "fields this engine does not know: fast"),
        ("StartStrategy", {}, "StartStrategy: "),
        ("StartStrategy", {"strategy_id": "1"}, "StartStrategy.strategy_id: '1' is not"),
        ("StartStrategy", {"strategy_id": True}, "StartStrategy.strategy_id: True is not"),
        ("StartStrategy", {"strategy_id": 77}, "there is no strategy 77"),
        ("StartStrategy", {"strategy_id": 10**30}, "it could not be done"),
        ("CreateStrategy", {"name": "n", "type": "rsi_reversion", "account_id": 1, "parameters": {},
                            "inputs": {"main": 5}, "allocation": "1", "sizing": {}}, "it could not be done"),
        ("OpenReplay", {"name": "r", "series_ids": [1], "speed": 0, "capital": "1", "starts_at": "soon"}, "soon"),
        ("ResumeTrading", {}, "nothing is halted"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_done_is_denied_and_says_why(running, kind, arguments, text):
    settled = running.settled(running.ask_raw(kind, arguments), 10)
    assert settled.state == "denied"
    assert text in settled.result["text"]


def test_a_command_older_than_its_expiry_is_refused_never_executed_late(running):
    asked = running.ask(EditRiskPolicy(running.account().id, {}), expires_in=-1)
    settled = running.settled(asked, 10)
    assert settled.state == "expired"
    assert settled.result["text"].startswith("no engine took it in time")


def test_a_command_without_a_word_in_redis_is_done_within_two_seconds(running):
    asked = running.ask(EditRiskPolicy(running.account().id, {}), announce=False)
    assert running.settled(asked, 2).state == "done"


def test_the_same_command_asked_twice_is_done_once(running):
    command = CreateStrategy(
        "Once", "moving_average_cross", running.account().id, {},
        {"main": {"instrument_id": running.instruments()["BTC/USD"], "interval": 60}}, "1000",
        {"method": "fraction"}, start=True,
    )  # fmt: skip
    answers = [running.settled(running.ask(command)) for _ in range(2)]
    assert [answer.state for answer in answers] == ["done", "denied"]
    assert answers[1].result["field"] == "name"
    rows = running.rows(sa.select(StrategyRow.id).where(StrategyRow.name == "Once"))
    assert answers[0].result["link"] == f"/strategies/{rows[0].id}"
    assert len(rows) == 1
    wait_for(lambda: running.strategy("Once").status == "running", 10)
    again = running.settled(running.ask(StartStrategy(rows[0].id)))
    assert again.result["text"] == "Strategy Once runs already"


def test_commands_for_another_group_are_not_ours(running):
    asked = running.ask(ResumeTrading())
    with running.db.begin() as connection:
        connection.execute(
            sa.text("UPDATE commands SET engine_group = 'other', state = 'asked' WHERE id = :id"),
            {"id": asked},
        )
    running.settled(running.ask(EditRiskPolicy(running.account().id, {})))
    assert running.command(asked).state == "asked"
