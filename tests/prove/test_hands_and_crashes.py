"""An engine killed while people trade by hand: every press is one order or none, and the answer says which."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import LedgerEntryRow, OrderIntentRow, PositionRow
from shared.messages import AdoptPosition, CancelOrders, ClosePosition, PlaceOrder, TopUpPaper
from tests.prove.agreement import disagreements
from tests.prove.installation import Installation, seeded, wait_for


def pressed(installation, dice, account_id, instruments):
    """One thing somebody might press; its command's id."""
    instrument_id = dice.choice(instruments)
    side = dice.choice(["buy", "buy", "buy", "sell"])
    ticket = {"side": side, "type": "market", "size": "100", "size_in": "value"}
    if side == "sell":
        ticket |= {"reduce_only": True}
    if dice.random() < 0.3 and side == "buy":
        ticket |= {"stop_trail": "5"}
    command = dice.choices(
        [
            PlaceOrder(account_id, instrument_id, ticket),
            ClosePosition(account_id, instrument_id, percent="50"),
            CancelOrders(account_id),
            TopUpPaper(account_id, "10"),
            AdoptPosition(account_id, instrument_id, None, None),
        ],
        [8, 2, 1, 2, 1],
    )[0]
    return installation.ask(command)


def trade_through_kills(settings, kills, name):
    dice = seeded(name)
    installation = Installation(settings, speed=600)
    try:
        installation.prepare()
        account_id = installation.account().id
        instruments = sorted(installation.instruments().values())[:2]
        engine = installation.start()
        installation.wait_until_trading(engine)
        asked = []
        for _ in range(kills):
            for _ in range(dice.randint(2, 6)):
                asked.append(pressed(installation, dice, account_id, instruments))
                time.sleep(dice.random() * 0.06)
            engine.kill()
            engine = installation.start()
            installation.wait_until_trading(engine)
        for command_id in asked:
            wait_for(lambda one=command_id: installation.command(one).settled_at, 30)
        wait_for(lambda: not working(installation), 30)
        yield installation, asked
        assert disagreements(installation.db) == []
    finally:
        installation.end()


def working(installation):
    """Orders by hand that are neither protection nor over."""
    query = sa.text(
        "SELECT o.client_order_id FROM orders o JOIN order_intents i USING (client_order_id)"
        " WHERE o.state NOT IN ('filled', 'cancelled', 'expired', 'rejected')"
        " AND i.leg IN ('entry', 'exit')"
    )
    return installation.rows(query)


def check(installation, asked):
    commands = {row.id: row for row in installation.rows(sa.select(CommandRow.__table__))}
    intents = {
        row.client_order_id for row in installation.rows(sa.select(OrderIntentRow.client_order_id))
    }
    for command_id in asked:
        row = commands[command_id]
        if row.kind in ("PlaceOrder", "ClosePosition"):
            assert (row.state == "done") == (command_id in intents), (row.state, row.result)
    booked = installation.rows(
        sa.select(LedgerEntryRow.reference).where(LedgerEntryRow.kind == "deposit")
    )
    topped = {f"command:{id_}" for id_ in asked
              if commands[id_].kind == "TopUpPaper" and commands[id_].state == "done"}  # fmt: skip
    references = [row.reference for row in booked if row.reference != "opening"]
    assert sorted(references) == sorted(topped), "each top-up is booked once"
    assert installation.rows(sa.select(PositionRow.quantity).where(PositionRow.quantity < 0)) == []
    return sum(commands[id_].state == "done" for id_ in asked)


def test_every_press_is_one_order_or_none_whenever_the_engine_dies(settings):
    for installation, asked in trade_through_kills(settings, 3, "hands"):
        assert check(installation, asked) > 0


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_every_press_is_one_order_or_none_through_forty_kills(settings):
    for installation, asked in trade_through_kills(settings, 40, "forty hands"):
        assert check(installation, asked) > 40
