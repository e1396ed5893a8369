"""The trade page: a ticket, its preview, what is sent, and what is pressed below it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import StrategyRow, TradingStateRow
from shared.messages import (
    AdoptPosition,
    AmendOrder,
    CancelOrder,
    CancelOrders,
    ClosePosition,
    EditAccount,
    ForceEntry,
    ForceExit,
    PlaceOrder,
    ProtectPosition,
    decode,
)
from tests.webapp.markup import read
from tests.webapp.orders import (
    a_position_by_hand,
    an_order_by_hand,
    asked,
    previewed,
    settle,
)
from tests.webapp.world import an_account, an_instrument
from webapp.trade import ticket

HTMX = {"HX-Request": "true"}


@pytest.fixture
def here(world):
    return {"account": world.account.id, "instrument": world.btc.id}


def a_ticket(here, **changed):
    """A limit order as the browser sends it, hidden fields included."""
    return {**here, **ticket.fresh(type="limit", size="0.1", limit_price="100"), **changed}


def only(rows, kind):
    (row,) = asked(rows, kind)
    return decode(row.kind, row.arguments)


def a_preview(trader, rows, here, ago=0.0, said=None, **changed):
    """The id of a preview that the engine has answered."""
    trader.post("/trade/preview", data=a_ticket(here, **changed))
    id_ = asked(rows, "PlaceOrder")[-1].id
    settle(rows, id_, "done", said or previewed(), ago=ago)
    return id_


def ticket_html(client, here, order):
    return client.get("/trade/ticket", query_string={**here, "order": order}, headers=HTMX).text


# The ticket ------------------------------------------------------------------------------------


def test_a_ticket_is_previewed_before_it_is_sent(trader, rows, here, world):
    answer = trader.post("/trade/preview", data=a_ticket(here))
    command = only(rows, "PlaceOrder")
    assert command == PlaceOrder(
        world.account.id,
        world.btc.id,
        ticket={"side": "buy", "type": "limit", "size": "0.1", "size_in": "quantity",
                "time_in_force": "gtc", "limit_price": "100", "post_only": False,
                "reduce_only": False},
        preview=True,
    )  # fmt: skip
    assert answer.status_code == 303
    assert f"order={asked(rows, 'PlaceOrder')[0].id}" in answer.location


def test_the_preview_shows_cost_cash_position_and_every_check_beside_its_limit(
    trader, rows, here, world
):
    world.account.costs = {"fee_tiers": [[0, 0.0026], [50000, 0.0024]], "spread": "0.0002"}
    rows.commit()
    page = ticket_html(trader, here, a_preview(trader, rows, here))
    assert "Buy 0.1 BTC, limit" in page
    assert "at most" in page
    assert "fee 0.26\N{NO-BREAK SPACE}% to 0.24\N{NO-BREAK SPACE}% by what was traded" in page
    for text in ("10.01", "939.99", "position size", "of 5.00", "whole lots of 0.0001"):
        assert text in page
    assert "Send: buy 0.1 BTC" in page
    assert 'name="limit_price" type="text" value="100"' in page


def test_a_preview_that_would_be_denied_says_why_and_cannot_be_sent(trader, rows, here):
    denied = [{"rule": "funds", "allowed": False, "value": "2000", "limit": "950", "unit": "USD",
               "text": "costs 2,000.00 of 950.00 USD free cash"}]  # fmt: skip
    said = previewed(outcome="denied", reason="funds: costs too much", checks=denied)
    page = ticket_html(trader, here, a_preview(trader, rows, here, said=said))
    assert "It would be denied. funds: costs too much" in page
    assert "costs 2,000.00 of 950.00 USD free cash" in page
    assert "Cannot be sent" in page
    assert "disabled" in page.partition("Cannot be sent")[0].rpartition("<button")[2]


def test_unknown_numbers_of_a_preview_are_shown_as_unknown(trader, rows, here):
    nothing = dict.fromkeys(
        ("price", "value", "fee", "cost", "cash_before", "cash_after", "position_after")
    )
    said = previewed(
        **nothing, checks=[], margin=None, steps=None, legs=None, warnings=["No price."]
    )
    page = ticket_html(trader, here, a_preview(trader, rows, here, said=said))
    assert "No price." in page
    assert "leaving a position is always allowed" in page


def test_a_sale_brings_in_what_it_is_worth_less_the_fee(trader, rows, here):
    said = previewed(side="sell", cost="-9.99", cash_after="959.99")
    page = ticket_html(trader, here, a_preview(trader, rows, here, said=said))
    assert 'Brings in</dt><dd class="strong">9.99 USD' in page


def test_margin_is_shown_where_there_is_margin(trader, rows, here):
    margin = {"enabled": True, "used_before": "0", "used_after": "5", "free_after": "945",
              "level_after": "200"}  # fmt: skip
    page = ticket_html(trader, here, a_preview(trader, rows, here, said=previewed(margin=margin)))
    assert "Margin used" in page
    assert "945.00" in page


def test_sending_a_preview_sends_exactly_that_order(trader, rows, here):
    seen = a_preview(trader, rows, here)
    trader.post("/trade/send", data={"preview": seen})
    first, sent = (decode(r.kind, r.arguments) for r in asked(rows, "PlaceOrder"))
    assert (first.preview, sent.preview) == (True, False)
    assert sent.ticket == first.ticket


def test_however_often_a_preview_is_sent_it_is_one_command(trader, rows, here):
    seen = a_preview(trader, rows, here)
    for _ in range(3):
        assert trader.post("/trade/send", data={"preview": seen}).status_code == 303
    orders = [r for r in asked(rows, "PlaceOrder") if not r.arguments["preview"]]
    assert len(orders) == 1


def test_a_preview_older_than_half_a_minute_is_made_again_and_nothing_is_sent(trader, rows, here):
    seen = a_preview(trader, rows, here, ago=31)
    answer = trader.post("/trade/send", data={"preview": seen}, headers=HTMX)
    assert answer.status_code == 200
    again = asked(rows, "PlaceOrder")
    assert [r.arguments["preview"] for r in again] == [True, True]
    assert again[0].arguments == again[1].arguments


def test_an_order_sent_in_time_stays_sent_when_its_preview_has_grown_old(trader, rows, here):
    seen = a_preview(trader, rows, here)
    trader.post("/trade/send", data={"preview": seen})
    settle(rows, seen, "done", previewed(), ago=60)
    trader.post("/trade/send", data={"preview": seen})
    assert len(asked(rows, "PlaceOrder")) == 2


@pytest.mark.parametrize("what", ["", "nonsense", str(UUID(int=7))])
def test_without_a_preview_nothing_is_sent(trader, world, rows, what):
    answer = trader.post("/trade/send", data={"preview": what})
    assert answer.status_code == 409
    assert "Preview the order first" in answer.text
    assert asked(rows, "PlaceOrder") == []


def test_a_preview_that_is_not_answered_yet_cannot_be_sent(trader, rows, here):
    trader.post("/trade/preview", data=a_ticket(here))
    seen = asked(rows, "PlaceOrder")[0].id
    assert trader.post("/trade/send", data={"preview": seen}).status_code == 409


def test_nobody_sends_the_preview_of_somebody_else(trader, admin, rows, here):
    seen = a_preview(trader, rows, here)
    assert admin.post("/trade/send", data={"preview": seen}).status_code == 409


def test_a_sent_order_shows_asked_then_accepted_then_done_with_its_story(trader, rows, here, world):
    seen = a_preview(trader, rows, here)
    page = trader.post("/trade/send", data={"preview": seen}, headers=HTMX).text
    assert '<li class="is-now">asked</li>' in page
    sent = asked(rows, "PlaceOrder")[-1].id
    poll = {**here, "order": sent, "v": "asked"}
    assert trader.get("/trade/ticket", query_string=poll, headers=HTMX).status_code == 204
    settle(rows, sent, "accepted", {"text": ""})
    assert '<li class="is-now">accepted</li>' in ticket_html(trader, here, sent)
    link = f"/books/orders/{world.order}"
    settle(rows, sent, "done", {"text": "Ordered: buy 0.1 BTC/USD", "link": link, "orders": []})
    page = ticket_html(trader, here, sent)
    assert '<li class="is-past">done</li>' in page
    assert f'href="{link}"' in page
    assert 'name="limit_price" type="text" value=""' in page  # ready for the next one


@pytest.mark.parametrize(
    ("field", "beside"),
    [("ticket.limit_price", "f-limit_price-error"), ("size", "f-size-error"),
     ("other.stop_price", "f-other.stop_price-error"), ("then.size", "f-then.size-error"),
     ("ticket.expires_at", "f-expires_at-error"), ("ticket.post_only", "f-post_only-error")],
)  # fmt: skip
def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(
    trader, rows, here, field, beside
):
    typed = a_ticket(
        here, limit_price="1oo", time_in_force="gtd", expires_at="2026-01-01T10:00",
        with_other="yes", with_then="yes", **{"then.size": "1e400", "other.limit_price": "90"},
    )  # fmt: skip
    trader.post("/trade/preview", data=typed)
    id_ = asked(rows, "PlaceOrder")[0].id
    settle(rows, id_, "denied", {"text": f"{field}: that cannot be", "field": field})
    page = ticket_html(trader, here, id_)
    assert f'id="{beside}" role="alert">that cannot be' in page
    assert page.count("that cannot be") == 1
    for text in ('value="1oo"', 'value="1e400"', 'value="2026-01-01T10:00"', 'value="90"'):
        assert text in page


def test_what_is_wrong_with_no_field_of_the_ticket_is_said_above_it(trader, rows, here):
    trader.post("/trade/preview", data=a_ticket(here))
    id_ = asked(rows, "PlaceOrder")[0].id
    settle(rows, id_, "denied", {"text": "paper is halted", "field": "account_id"})
    assert "paper is halted" in ticket_html(trader, here, id_).partition("<form")[0]


def test_an_engine_that_does_not_answer_is_said_and_the_ticket_stays(trader, rows, here):
    trader.post("/trade/preview", data=a_ticket(here))
    id_ = asked(rows, "PlaceOrder")[0].id
    settle(rows, id_, "expired", None)
    page = ticket_html(trader, here, id_)
    assert "did not answer in time" in page
    assert 'name="limit_price" type="text" value="100"' in page


def test_a_time_is_typed_where_the_user_is_and_comes_back_as_typed(trader, rows, here):
    trader.post(
        "/trade/preview",
        data=a_ticket(here, time_in_force="gtd", expires_at="2026-09-13T10:00"),
    )
    row = asked(rows, "PlaceOrder")[0]
    assert row.arguments["ticket"]["expires_at"] == "2026-09-13T10:00:00+02:00"
    assert 'value="2026-09-13T10:00"' in ticket_html(trader, here, row.id)


@pytest.mark.parametrize("type_", [name for name, _ in ticket.TYPES])
def test_each_type_sends_the_fields_it_shows_and_no_other(trader, rows, here, type_):
    typed = a_ticket(here, type=type_, limit_price="1", stop_price="2", trail="3", expires_at="x")
    trader.post("/trade/preview", data=typed)
    said = asked(rows, "PlaceOrder")[0].arguments["ticket"]
    beside = set(said) - {*ticket.ALWAYS, *ticket.FLAGS}
    assert beside == set(ticket.OF_TYPE[type_])


def test_a_bracket_and_both_further_orders_are_sent_when_they_are_ticked(trader, rows, here):
    typed = a_ticket(
        here, protect="yes", stop_loss="90", take_profit="120", with_other="yes", with_then="yes",
        **{"other.type": "stop", "other.stop_price": "110", "other.size": "1", "then.size": "2",
           "then.limit_price": "130"},
    )  # fmt: skip
    trader.post("/trade/preview", data=typed)
    command = only(rows, "PlaceOrder")
    assert (command.ticket["stop_loss"], command.ticket["take_profit"]) == ("90", "120")
    assert (command.other["type"], command.other["stop_price"]) == ("stop", "110")
    assert (command.then["side"], command.then["limit_price"]) == ("sell", "130")


def test_what_is_not_ticked_is_not_sent(trader, rows, here):
    typed = a_ticket(here, stop_loss="90", **{"other.size": "1", "then.size": "2"})
    trader.post("/trade/preview", data=typed)
    command = only(rows, "PlaceOrder")
    assert command.other == command.then == {}
    assert "stop_loss" not in command.ticket


def test_a_share_is_of_equity_and_when_selling_what_is_held_of_that(trader, rows, here, world):
    trader.post("/trade/preview", data=a_ticket(here, share="25"))
    a_position_by_hand(rows, world.account, world.btc)
    trader.post("/trade/preview", data=a_ticket(here, share="50", side="sell"))
    buys, sells = (r.arguments["ticket"] for r in asked(rows, "PlaceOrder"))
    assert (buys["size"], buys["size_in"], buys["reduce_only"]) == ("25", "percent", False)
    assert (sells["size"], sells["size_in"], sells["reduce_only"]) == ("50", "percent", True)


def test_what_no_database_can_hold_is_left_out_of_what_was_typed(trader, rows, here):
    answer = trader.post("/trade/preview", data=a_ticket(here, size="1\x002", note="x" * 500))
    assert answer.status_code == 303
    said = asked(rows, "PlaceOrder")[0].arguments
    assert said["ticket"]["size"] == "12"
    assert len(said["note"]) == ticket.LONGEST


@pytest.mark.parametrize("where", [{"account": "99"}, {"instrument": "99"}, {"account": "x"}])
def test_a_ticket_for_what_is_not_there_is_refused(trader, world, rows, here, where):
    answer = trader.post("/trade/preview", data=a_ticket({**here, **where}))
    assert answer.status_code in (303, 404)
    for row in asked(rows, "PlaceOrder"):
        assert row.arguments["account_id"] == world.account.id


def test_the_ticket_can_be_opened_with_side_and_price_written_in(viewer, here):
    page = viewer.get("/trade/?side=sell&type=limit&limit_price=123").text
    assert 'id="f-side-sell" value="sell" checked' in page
    assert 'value="123"' in page


# The page --------------------------------------------------------------------------------------


def test_the_page_and_its_parts_are_sound_html(trader, rows, here, world):
    busy(rows, world)
    seen = a_preview(trader, rows, here)
    hand = a_position_by_hand(rows, world.account, world.eth)
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    for more in ("", f"&order={seen}", f"&open=amend-{order}", f"&open=close-{hand}",
                 f"&open=reverse-{hand}", f"&open=protect-{hand}", f"&open=adopt-{hand}"):  # fmt: skip
        page = trader.get(
            f"/trade/?account={here['account']}&instrument={here['instrument']}{more}"
        )
        assert page.status_code == 200
        assert read(page.text).wrong == [], more
    for part in ("quote", "ticket", "positions", "orders", "asked"):
        answer = trader.get(f"/trade/{part}", query_string=here, headers=HTMX)
        assert read(answer.text).wrong == [], part


def busy(rows, world):
    entry = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    an_order_by_hand(
        rows, world.account, world.btc, state="held", side="sell", type_="stop", leg="stop_loss",
        parent=entry, stop_price="90",
    )  # fmt: skip
    an_order_by_hand(
        rows, world.account, world.btc, state="held", side="sell", type_="trailing_stop",
        leg="trailing_stop", parent=entry, fraction="0.02",
    )  # fmt: skip
    a_position_by_hand(rows, world.account, world.btc)


@pytest.mark.parametrize("part", ["quote", "positions", "orders", "asked"])
def test_a_part_that_has_not_changed_costs_nothing(trader, rows, here, world, part):
    busy(rows, world)
    html = trader.get(f"/trade/{part}", query_string=here, headers=HTMX).text
    version = html.partition("v=")[2].partition('"')[0]
    again = trader.get(f"/trade/{part}", query_string={**here, "v": version}, headers=HTMX)
    assert again.status_code == 204


def test_positions_of_every_owner_stand_with_their_stop_and_their_net(viewer, rows, here, world):
    a_position_by_hand(rows, world.account, world.btc, "-0.2", "-20")
    html = viewer.get("/trade/positions", query_string=here).text
    assert "BTC dips" in html
    assert "by hand" in html
    assert ">90.00</span>" in html  # the strategy's stop
    assert "net of 2 owners" in html
    assert ">0.3<" in html


def test_an_order_that_waits_stands_below_the_one_it_waits_for(viewer, rows, here, world):
    busy(rows, world)
    html = viewer.get("/trade/orders", query_string=here).text
    assert html.index("95.00") < html.index("waits for its entry")
    assert "2.0\N{NO-BREAK SPACE}% away" in html


def test_orders_of_another_account_are_not_shown(viewer, rows, here):
    other = an_account(rows, "other")
    an_order_by_hand(rows, other, an_instrument(rows, "XRP/USD"), limit_price="95")
    assert "XRP/USD" not in viewer.get("/trade/orders", query_string=here).text


def test_what_was_asked_stands_with_why_it_was_denied_and_previews_do_not(trader, rows, here):
    seen = a_preview(trader, rows, here)
    trader.post("/trade/send", data={"preview": seen})
    sent = asked(rows, "PlaceOrder")[-1].id
    text = "stop_loss: 9 must be below the market"
    settle(rows, sent, "denied", {"text": text, "field": "stop_loss"})
    html = trader.get("/trade/asked", query_string=here).text
    assert "buy 0.1 BTC, limit at 100" in html
    assert "Stop loss: 9 must be below the market" in html
    assert html.count("<li ") == 1


def test_a_viewer_sees_everything_and_can_press_nothing(viewer, rows, here, world):
    busy(rows, world)
    page = viewer.get("/trade/", query_string=here).text
    main = page.partition("<main")[2].partition("</main")[0]
    assert "Trading needs the role trader" in main
    assert "BTC dips" in main
    for name in ("Close", "Reverse", "Amend", "Cancel", "Cancel all"):
        assert f">{name}<" not in main
    assert '<fieldset class="stack" disabled>' in main


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("halted", "whatever is sent is refused"), ("reduce_only", "may only reduce")],
)
def test_a_ticket_says_beforehand_that_trading_is_stopped(trader, rows, here, state, sentence):
    rows.add(TradingStateRow(scope="all", state=state, actor="trader", reason="news"))
    rows.commit()
    assert sentence in trader.get("/trade/", query_string=here).text


def test_before_there_is_an_account_the_page_says_so(viewer):
    page = viewer.get("/trade/")
    assert "No account yet" in page.text
    assert read(page.text).wrong == []


def test_an_account_without_instruments_says_so(viewer, rows):
    an_account(rows)
    rows.commit()
    assert "Nothing to trade on paper" in viewer.get("/trade/").text


# What is pressed -------------------------------------------------------------------------------


def test_amending_sends_only_what_was_changed(trader, rows, here, world):
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    trader.post(
        f"/trade/orders/{order}/amend",
        data={**here, "quantity": "0.10", "limit_price": "96", "open": f"amend-{order}"},
    )
    assert only(rows, "AmendOrder") == AmendOrder(str(order), limit_price="96")


def test_an_amendment_that_is_denied_says_why_beside_its_field_and_keeps_it(
    trader, rows, here, world
):
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    form = {**here, "limit_price": "95.001", "open": f"amend-{order}"}
    answer = trader.post(f"/trade/orders/{order}/amend", data=form)
    id_ = asked(rows, "AmendOrder")[0].id
    assert f"asked={id_}" in answer.location
    settle(rows, id_, "denied", {"text": "95.001 is off the tick of 0.01", "field": "limit_price"})
    query = {**here, "open": f"amend-{order}", "asked": id_}
    html = trader.get("/trade/orders", query_string=query, headers=HTMX).text
    assert 'id="f-amend-limit_price-error" role="alert">95.001 is off the tick' in html
    assert 'value="95.001"' in html
    settle(rows, id_, "done", {"text": "Amended."})
    assert "f-amend" not in trader.get("/trade/orders", query_string=query, headers=HTMX).text


def test_cancelling_asks_for_that_order(trader, rows, here, world):
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    answer = trader.post(f"/trade/orders/{order}/cancel")
    assert answer.location.startswith("/trade/?account=")
    assert only(rows, "CancelOrder") == CancelOrder(str(order))


def test_cancel_all_is_of_the_account_and_leaves_protection_unless_ticked(trader, rows, here):
    trader.post("/trade/cancel-all", data=here)
    trader.post("/trade/cancel-all", data={**here, "only": "instrument", "protection": "yes"})
    first, second = (decode(r.kind, r.arguments) for r in asked(rows, "CancelOrders"))
    assert first == CancelOrders(here["account"], None, False)
    assert second == CancelOrders(here["account"], here["instrument"], True)


def test_closing_and_reversing_ask_for_the_position_of_that_owner(trader, rows, here, world):
    hand = a_position_by_hand(rows, world.account, world.btc)
    trader.post(f"/trade/positions/{hand}/close", data={**here, "percent": "50"})
    trader.post(f"/trade/positions/{hand}/close", data={**here, "reverse": "yes"})
    first, second = (decode(r.kind, r.arguments) for r in asked(rows, "ClosePosition"))
    assert first == ClosePosition(world.account.id, world.btc.id, None, "50", False)
    assert second == ClosePosition(world.account.id, world.btc.id, None, "100", True)


def test_stop_and_target_are_set_for_the_position_of_a_strategy(trader, rows, here, world):
    position = rows.execute(sa.text("SELECT id FROM positions")).scalar()
    form = {**here, "stop_loss": "80", "take_profit": "150", "open": f"protect-{position}"}
    html = trader.post(f"/trade/positions/{position}/protect", data=form, headers=HTMX).text
    assert only(rows, "ProtectPosition") == ProtectPosition(
        world.account.id, world.btc.id, world.strategy.id, "80", "150", ""
    )
    assert "Asked the engine." in html
    assert 'value="80"' in html


def test_a_position_is_handed_to_a_strategy_and_back(trader, rows, here, world):
    hand = a_position_by_hand(rows, world.account, world.btc)
    trader.post(f"/trade/positions/{hand}/adopt", data={**here, "to": str(world.strategy.id)})
    assert only(rows, "AdoptPosition") == AdoptPosition(
        world.account.id, world.btc.id, None, world.strategy.id, ""
    )
    assert trader.post(f"/trade/positions/{hand}/adopt", data=here).status_code == 400


@pytest.mark.parametrize("path", ["close", "protect", "adopt"])
def test_a_position_that_is_gone_is_said(trader, here, path):
    assert trader.post(f"/trade/positions/999/{path}", data=here).status_code == 404


def test_an_order_that_never_was_is_said(trader, here):
    assert trader.post(f"/trade/orders/{uuid4()}/amend", data=here).status_code == 404
    assert trader.post(f"/trade/orders/{uuid4()}/cancel", data=here).status_code == 404


def test_a_strategy_can_be_made_to_enter_and_to_leave(trader, rows, world):
    number = world.strategy.id
    trader.post(f"/trade/strategies/{number}/enter", data={"instrument": world.btc.id})
    trader.post(f"/trade/strategies/{number}/leave", data={})
    assert only(rows, "ForceEntry") == ForceEntry(number, world.btc.id, "1")
    assert only(rows, "ForceExit") == ForceExit(number, None)
    assert trader.post(f"/trade/strategies/{number}/enter").status_code == 400
    assert trader.post("/trade/strategies/999/leave").status_code == 404


def test_the_page_of_a_running_strategy_offers_both(trader, viewer, rows, world):
    path = f"/strategies/{world.strategy.id}"
    page = trader.get(path).text
    assert f'action="/trade/strategies/{world.strategy.id}/enter"' in page
    assert f'action="/trade/strategies/{world.strategy.id}/leave"' in page
    assert "/trade/strategies/" not in viewer.get(path).text
    rows.execute(sa.update(StrategyRow).values(desired="stopped", status="stopped"))
    rows.commit()
    assert f'action="/trade/strategies/{world.strategy.id}/enter"' not in trader.get(path).text


# How the account trades ------------------------------------------------------------------------


def test_settings_are_shown_and_asked_for_in_per_cent(trader, rows, world):
    path = f"/trade/{world.account.id}/settings"
    page = trader.get(path)
    assert read(page.text).wrong == []
    assert 'name="costs.fee_rate" type="text" value="0.1"' in page.text
    form = {"costs.fee_rate": "0.25", "costs.slippage": "0", "matching.intrabar": "ohlc_path",
            "matching.volume_share": "10", "margin.enabled": "yes", "margin.leverage": "2",
            "margin.borrow_rate": "5", "margin.call_level": "80",
            "margin.liquidation_level": "40"}  # fmt: skip
    trader.post(path, data=form)
    assert only(rows, "EditAccount") == EditAccount(
        world.account.id,
        costs={"fee_rate": "0.0025", "slippage": "0"},
        matching={"intrabar": "ohlc_path", "volume_share": "0.1"},
        margin={"enabled": True, "leverage": "2", "borrow_rate": "0.05", "call_level": "0.8",
                "liquidation_level": "0.4"},
    )  # fmt: skip


@pytest.mark.parametrize("field", ["margin.leverage", "leverage"])
def test_a_setting_that_cannot_be_is_said_beside_its_field(app, trader, rows, world, field):
    app.config["COMMAND_WAIT_SECONDS"] = 0.0
    path, token = f"/trade/{world.account.id}/settings", str(uuid4())
    form = {"margin.leverage": "99", "command_id": token}
    trader.post(path, data=form)
    settle(rows, token, "denied", {"text": "leverage: 99 must be from 1 to 20", "field": field})
    answer = trader.post(path, data=form)
    assert answer.status_code == 409
    assert 'id="f-margin.leverage-error" role="alert">99 must be' in answer.text


def test_settings_of_an_account_that_is_not_there(trader):
    assert trader.get("/trade/99/settings").status_code == 404
    assert trader.post("/trade/99/settings").status_code == 404


def test_no_command_of_the_page_is_made_by_looking_at_it(viewer, rows, here, world):
    viewer.get("/trade/", query_string=here)
    assert rows.scalar(sa.select(sa.func.count()).select_from(CommandRow)) == 0
