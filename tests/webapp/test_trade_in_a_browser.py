"""What only a real browser shows of the trade page: keys, typed values that stay, ageing previews."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from shared import bus
from shared.db.console import CommandRow
from shared.db.sessions import make_engine
from tests.webapp.orders import (
    a_position_by_hand,
    an_order_by_hand,
    asked,
    previewed,
    settle,
)

pytestmark = pytest.mark.browser


@pytest.fixture
def address(app):
    """The console served over HTTP on a free port."""
    app.testing = False
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cookies(app, users, address):
    """The trader's session, for any browser."""
    serializer = app.session_interface.get_signing_serializer(app)
    session = {"_user_id": f"{users['trader'].id}.1", "_fresh": True}
    return [{"name": "seraphim", "value": serializer.dumps(session), "url": address}]


@pytest.fixture
def console(page, address, cookies, world, settings):
    """The trade page, open; what the browser complains about fails the test."""
    quote = {"bid": 99.9, "ask": 100.1, "last": 100.0}
    with bus.connect(settings.redis_url) as client:
        bus.remember_quote(client, "simulated", "BTC/USD", quote)
    page.context.add_cookies(cookies)
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/trade/")
    yield page
    assert complaints == []


@pytest.fixture
def engine(settings):
    """Answers every order and every preview until the test ends, as if it had done so `ago` seconds before."""
    made = make_engine(settings.database_url, poolclass=sa.NullPool)
    ends, told = threading.Event(), SimpleNamespace(ago=0)
    answers = {True: previewed(), False: {"text": "Ordered.", "link": "", "orders": []}}

    def answer():
        with Session(made, expire_on_commit=False) as own:
            while not ends.wait(0.03):
                for row in asked(own, "PlaceOrder"):
                    if row.state == "asked":
                        settle(own, row.id, "done", answers[row.arguments["preview"]], ago=told.ago)

    thread = threading.Thread(target=answer)
    thread.start()
    yield told
    ends.set()
    thread.join()


def kept(page, selector):
    return page.locator(selector).input_value()


def checked(page, name):
    return page.locator(f"#ticket-form input[name={name}]:checked").get_attribute("value")


def test_keys_choose_the_side_preview_and_clear(console, engine):
    console.keyboard.press("s")
    assert checked(console, "side") == "sell"
    console.keyboard.type("0.1")
    console.keyboard.press("Enter")
    console.locator("#preview").wait_for()
    assert "order=" in console.url
    console.keyboard.press("Escape")
    assert console.locator("#preview").count() == 0
    assert "order=" not in console.url
    assert kept(console, "#f-size") == "0.1"
    console.keyboard.press("Escape")
    assert kept(console, "#f-size") == ""
    console.keyboard.press("b")
    assert checked(console, "side") == "buy"


def test_what_is_typed_after_a_preview_takes_the_preview_away(console, engine):
    console.fill("#f-size", "0.1")
    console.keyboard.press("Enter")
    console.locator("#preview .send").wait_for()
    console.fill("#f-size", "0.2")
    assert console.locator("#preview").count() == 0


def test_a_preview_that_has_grown_old_is_made_again_and_not_sent(console, engine, rows):
    engine.ago = 28
    console.fill("#f-size", "0.1")
    console.keyboard.press("Enter")
    console.locator("#preview .send:has-text('Send: buy')").wait_for()
    again = console.locator("#preview .send:has-text('Preview again')")
    again.wait_for()
    assert console.locator("#preview .stale-note").is_visible()
    engine.ago = 0
    again.click()
    console.locator("#preview .send:has-text('Send: buy')").wait_for()
    assert [row.arguments["preview"] for row in asked(rows, "PlaceOrder")] == [True, True]


def test_each_type_shows_the_fields_it_needs(console):
    shown = {}
    for type_ in ("market", "limit", "stop", "stop_limit", "trailing_stop", "take_profit"):
        console.locator(f"#f-type-{type_}").check(force=True)
        fields = ("limit_price", "stop_price", "trail")
        shown[type_] = [name for name in fields if console.locator(f"#f-{name}").is_visible()]
    assert shown == {
        "market": [], "limit": ["limit_price"], "stop": ["stop_price"],
        "stop_limit": ["limit_price", "stop_price"], "trailing_stop": ["trail"],
        "take_profit": ["stop_price"],
    }  # fmt: skip


def test_a_price_of_the_quote_goes_into_the_ticket_and_a_share_into_its_size(console):
    console.locator("#f-type-limit").check(force=True)
    console.get_by_role("button", name="100.10").click()
    assert kept(console, "#f-limit_price") == "100.1"
    console.get_by_role("button", name="50").first.click()
    assert (kept(console, "#f-size"), kept(console, "#f-size_in")) == ("50", "percent")


def test_a_press_is_answered_at_once_while_the_engine_thinks(console, app, rows):
    app.config["COMMAND_WAIT_SECONDS"] = 1.0
    console.fill("#f-size", "0.1")
    button = console.locator("#ticket-form .big-target")
    began = time.monotonic()
    button.click(no_wait_after=True)
    console.locator("#ticket-form .big-target.is-asked").wait_for()
    assert time.monotonic() - began < 0.7  # the browser's own 100 ms are a matter of one frame
    console.locator("#outcome").get_by_text("Asked the engine.").wait_for()
    settle(rows, asked(rows, "PlaceOrder")[0].id, "done", previewed())
    console.locator("#preview .send").wait_for()


def test_two_presses_of_two_tabs_are_one_order(console, engine, rows):
    console.fill("#f-size", "0.1")
    console.keyboard.press("Enter")
    console.locator("#preview .send").wait_for()
    other = console.context.new_page()
    other.goto(console.url)
    for tab in (console, other):
        tab.locator("#preview .send").dblclick(no_wait_after=True)
    for tab in (console, other):
        tab.locator("#outcome .is-past:has-text('done')").wait_for()
    sent = [row for row in asked(rows, "PlaceOrder") if not row.arguments["preview"]]
    assert len(sent) == 1


def test_a_form_below_a_row_keeps_what_is_typed_while_the_list_moves(console, rows, world):
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    console.locator(f"#order-{order}").get_by_role("button", name="Amend").click()
    console.fill("#f-amend-limit_price", "96.5")
    another = an_order_by_hand(rows, world.account, world.btc, limit_price="91")
    console.evaluate("document.body.dispatchEvent(new CustomEvent('refresh'))")
    console.locator(f"#order-{another}").wait_for()
    assert kept(console, "#f-amend-limit_price") == "96.5"
    console.locator(".sheet").get_by_role("button", name="Amend").click()
    console.locator(".sheet").get_by_text("Asked the engine.").wait_for()
    row = asked(rows, "AmendOrder")[0]
    settle(rows, row.id, "denied", {"text": "limit_price: not today", "field": "limit_price"})
    console.locator(".sheet .error:has-text('not today')").wait_for()
    assert kept(console, "#f-amend-limit_price") == "96.5"


def test_everything_can_be_done_without_javascript(
    browser, address, cookies, rows, world, engine, app
):
    app.config["COMMAND_WAIT_SECONDS"] = 1.0
    hand = a_position_by_hand(rows, world.account, world.btc)
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(f"{address}/trade/")
    page.locator("#f-type-limit").check(force=True)
    page.fill("#f-limit_price", "95")
    page.fill("#f-size", "0.1")
    page.locator("#ticket-form .big-target").click()
    page.locator("#preview .send").click()
    assert page.locator("#outcome").is_visible()
    page.locator(f"#position-{hand}").get_by_role("button", name="Close").click()
    page.locator(".sheet").get_by_role("button", name="Close BTC/USD").click()
    assert "Asked the engine." in page.locator(".sheet").inner_text()
    context.close()
    kinds = sorted(row.kind for row in rows.query(CommandRow))
    assert kinds == ["ClosePosition", "PlaceOrder", "PlaceOrder"]


@pytest.mark.parametrize("width", [1440, 390])
def test_no_state_of_the_page_is_wider_than_the_screen(console, engine, rows, world, width):
    hand = a_position_by_hand(rows, world.account, world.btc)
    order = an_order_by_hand(rows, world.account, world.btc, limit_price="95")
    console.set_viewport_size({"width": width, "height": 844})
    base = console.url.partition("/trade")[0]
    for open_ in (f"amend-{order}", *(f"{what}-{hand}" for what in ("close", "protect", "adopt"))):
        console.goto(f"{base}/trade/?open={open_}")
        assert console.evaluate("document.documentElement.scrollWidth") <= width, open_
    console.fill("#f-size", "0.1")
    console.keyboard.press("Enter")
    console.locator("#preview").wait_for()
    assert console.evaluate("document.documentElement.scrollWidth") <= width
