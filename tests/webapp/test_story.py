"""The life of an order: from its events alone, and held against the row that stands for it."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import FillRow, OrderEventRow, OrderIntentRow, OrderRow
from shared.domain.story import differences
from tests.prove.busy import fill_the_floor
from tests.prove.in_process import play
from tests.prove.installation import Installation
from tests.webapp.world import NOON
from webapp.db import db
from webapp.story import story_of

SECOND = timedelta(seconds=1)


def an_event(rows, order, kind, *, at=NOON, recorded=NOON, key="", **data):
    rows.add(
        OrderEventRow(
            client_order_id=order, kind=kind, key=key or f"{kind}:{uuid4()}", happened_at=at,
            recorded_at=recorded, data={name: str(value) for name, value in data.items()},
        )
    )  # fmt: skip
    rows.commit()


def a_fill(rows, order, quantity, price, *, key, at=NOON, recorded=NOON, **data):
    """A fill as the engine books it: the row, and the event that tells of it."""
    intent = rows.get(OrderIntentRow, order)
    rows.add(
        FillRow(
            venue="simulated", account_id=intent.account_id, venue_fill_id=key, client_order_id=order,
            strategy_id=intent.strategy_id, instrument_id=intent.instrument_id, side=intent.side,
            quantity=Decimal(quantity), price=Decimal(price), fee=Decimal("0.01"), fee_asset="USD",
            liquidity="maker", filled_at=at,
        )
    )  # fmt: skip
    said = {"quantity": quantity, "price": price, "fee": "0.01", **data}
    an_event(rows, order, "fill", key=key, at=at, recorded=recorded, **said)


@pytest.fixture
def stop(rows, world):
    """The world's working stop loss, acknowledged like any other."""
    an_event(rows, world.stop_order, "acknowledged", recorded=NOON + SECOND, venue_order_id="V-17")
    changed(rows, world.stop_order, venue_order_id="V-17")
    return world.stop_order


def changed(rows, order, **values):
    rows.execute(sa.update(OrderRow).where(OrderRow.client_order_id == order).values(values))
    rows.commit()


def page_of(client, order):
    answer = client.get(f"/books/orders/{order}")
    assert answer.status_code == 200
    return answer.text


@pytest.fixture(scope="module")
def floor(module_settings):
    """A database in which everything an order can have has happened."""
    made = Installation(module_settings, speed=0)
    yield made
    made.end()


def test_the_story_of_every_order_of_a_busy_market_is_its_row(floor, app, rows):
    floor.speed = 3600 * 24
    fill_the_floor(floor, busy_account=False)
    account = floor.account()
    play(floor.db, account.id, account.market_time + timedelta(minutes=90))
    with app.test_request_context():
        intents = list(db.session.scalars(sa.select(OrderIntentRow)))
        told = {intent.client_order_id: story_of(intent) for intent in intents}
        wrong = [
            (id_, story.problems, found)
            for id_, story in told.items()
            if (found := differences(story, db.session.get_one(OrderRow, id_))) or story.problems
        ]
    assert wrong == []
    legs, states = {i.leg for i in intents}, {s.order.state.value for s in told.values()}
    assert len(intents) > 150
    assert legs >= {"entry", "exit", "stop_loss", "take_profit", "trailing_stop"}
    assert states >= {"filled", "cancelled"}


def test_a_row_that_its_events_do_not_say_is_told_in_red(viewer, rows, stop):
    assert "add up to its row" in page_of(viewer, stop)
    changed(rows, stop, filled_quantity=Decimal("0.2"), state="cancelled")
    page = page_of(viewer, stop)
    assert "Its events and its row do not agree." in page
    assert "State: the row says <b>cancelled</b>, its events say <b>working</b>." in page
    assert "Filled quantity: the row says <b>0.2</b>, its events say <b>0</b>." in page
    assert "add up to its row" not in page


def test_an_amendment_shows_each_term_before_and_after(viewer, rows, stop):
    an_event(rows, stop, "amended", revision=1, stop_price="92.5", quantity="0.3")
    changed(rows, stop, stop_price=Decimal("92.5"), quantity=Decimal("0.3"), revision=1)
    page = page_of(viewer, stop)
    assert "quantity 0.5 → 0.3, stop 90.00 → 92.50" in page
    assert "do not agree" not in page


def test_partial_fills_come_with_their_running_total(viewer, rows, stop):
    a_fill(rows, stop, "0.2", "90", key="one")
    a_fill(rows, stop, "0.3", "89.5", key="two")
    changed(
        rows, stop, state="filled", filled_quantity=Decimal("0.5"), filled_value=Decimal("44.85"),
        fees=Decimal("0.02"),
    )  # fmt: skip
    page = page_of(viewer, stop)
    assert "Partly filled: 0.2 at 90.00" in page
    assert "0.2 of 0.5 BTC so far" in page
    assert "Filled: 0.3 at 89.50" in page
    assert "fee 0.01 USD · maker" in page
    assert "Sold 0.5 BTC at 89.70 on average in 2 fills" in page
    assert "do not agree" not in page


def test_a_fill_heard_after_the_end_is_marked_as_late(viewer, rows, stop):
    an_event(rows, stop, "cancelsent")
    an_event(rows, stop, "cancelled", reason="asked")
    a_fill(rows, stop, "0.2", "90", key="late")
    changed(
        rows, stop, state="cancelled", ended="cancelled", reason="asked", fees=Decimal("0.01"),
        filled_quantity=Decimal("0.2"), filled_value=Decimal(18),
    )  # fmt: skip
    page = page_of(viewer, stop)
    assert "Late: it was cancelled already, and a fill is a fill." in page
    assert '<li class="good is-late">' in page
    assert "; the rest was cancelled." in page
    assert "do not agree" not in page


def test_a_time_in_which_nobody_knew_is_shown_as_such(viewer, rows, stop):
    an_event(rows, stop, "wentunknown", recorded=NOON + 2 * SECOND)
    an_event(rows, stop, "acknowledged", recorded=NOON + 9 * SECOND)
    page = page_of(viewer, stop)
    assert "the venue may or may not have it" in page
    assert "Nobody knew for 7\N{NO-BREAK SPACE}s what had become of it." in page


def test_machine_time_and_market_time_stand_apart(viewer, rows, world, stop):
    an_event(rows, stop, "cancelsent", at=NOON + 60 * SECOND, recorded=NOON + 3 * SECOND)
    page = page_of(viewer, stop)
    assert "14:00:03" in page  # this machine's, in Berlin
    assert "14:01:00" in page  # the market's
    assert "+ 2\N{NO-BREAK SPACE}s" in page


def test_who_pressed_is_told(viewer, rows, world, stop):
    rows.add(
        CommandRow(
            id=uuid4(), kind="CancelOrder", arguments={"order_id": str(stop)}, actor="anna",
            state="done", result={"text": "Cancel asked"}, expires_at=NOON, created_at=NOON,
        )
    )  # fmt: skip
    rows.commit()
    assert "Cancel asked by anna" in page_of(viewer, stop)


def test_an_event_that_cannot_be_is_a_problem_and_not_an_error(viewer, rows, stop):
    an_event(rows, stop, "fill", key="nobody", quantity="1", price="90", fee="0")
    an_event(rows, stop, "sneezed")
    page = page_of(viewer, stop)
    assert "An event tells of fill nobody, which is not booked." in page
    assert "kind &#39;sneezed&#39; is stored" in page


def test_a_fill_booked_otherwise_than_told_is_a_problem(viewer, rows, stop):
    a_fill(rows, stop, "0.5", "90", key="one", fee="0.02")
    assert "Fill one is booked with fee 0.01, its event says 0.02." in page_of(viewer, stop)


def test_the_family_is_a_tree_with_states(viewer, rows, world):
    parent = rows.get(OrderIntentRow, world.order)
    for leg, level in (("stop_loss", "90"), ("take_profit", "120")):
        rows.add(
            OrderIntentRow(
                client_order_id=(id_ := uuid4()), decision_id=parent.decision_id,
                account_id=parent.account_id, strategy_id=parent.strategy_id,
                instrument_id=parent.instrument_id, leg=leg, parent_id=world.order, side="sell",
                type="stop", decided_at=NOON,
            )
        )  # fmt: skip
        rows.flush()
        rows.add(
            OrderRow(
                client_order_id=id_, account_id=parent.account_id, strategy_id=parent.strategy_id,
                instrument_id=parent.instrument_id, decided_at=NOON, state="held",
                stop_price=Decimal(level), updated_at=NOON,
            )
        )  # fmt: skip
    rows.commit()
    page = page_of(viewer, id_)
    assert f'href="/books/orders/{world.order}"' in page
    assert "sell stop loss" in page
    assert "waits for its parent, cancels its siblings" in page
    assert "120.00" in page


def test_the_chart_holds_candles_levels_and_fills(viewer, world):
    drawn = json.loads(viewer.get(f"/books/orders/{world.order}/chart.json").text)
    assert len(drawn["candles"]) > 30
    assert drawn["markers"][0]["side"] == "buy"
    stop = json.loads(viewer.get(f"/books/orders/{world.stop_order}/chart.json").text)
    assert {"price": 90.0, "text": "stop", "tone": "warning"} in stop["levels"]


def test_an_order_that_is_not_there_is_not_found(viewer, world):
    assert viewer.get(f"/books/orders/{uuid4()}").status_code == 404
    assert viewer.get(f"/books/orders/{uuid4()}/chart.json").status_code == 404
