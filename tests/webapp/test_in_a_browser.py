"""What only a real browser shows: parts that renew themselves without disturbing the reader."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from werkzeug.serving import make_server

from shared import bus
from shared.db.console import CommandRow
from tests.webapp.history import some_stocks
from tests.webapp.made_runs import a_run
from tests.webapp.world import an_event

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
def console(page, address, app, users):
    """A page logged in as the trader; what the browser complains about fails the test."""
    serializer = app.session_interface.get_signing_serializer(app)
    trader = users["trader"]
    session = {"_user_id": f"{trader.id}.{trader.session_version}", "_fresh": True}
    page.context.add_cookies(
        [{"name": "seraphim", "value": serializer.dumps(session), "url": address}]
    )
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.address, page.complaints = address, complaints
    yield page
    assert complaints == []


def quote(settings, price):
    with bus.connect(settings.redis_url) as client:
        bus.remember_quote(client, "simulated", "BTC/USD", {"last": price})


def test_a_new_price_changes_the_number_flashes_it_and_leaves_focus_and_scroll(
    console, world, settings
):
    quote(settings, 110.0)
    console.goto(f"{console.address}/")
    row = console.locator("#open-positions tbody tr")
    row.get_by_role("link", name="BTC/USD").focus()
    console.evaluate("window.scrollTo(0, 40); window.kept = document.activeElement")
    quote(settings, 120.0)
    console.wait_for_selector("#open-positions .flash")
    assert "+10.00" in row.inner_text()
    assert console.evaluate("document.activeElement === window.kept && window.kept.isConnected")
    assert console.evaluate("window.scrollY") == 40


def test_news_arrives_as_a_toast_without_a_reload(console, world, rows):
    console.goto(f"{console.address}/markets/")
    an_event(rows, "Filled: buy 1 BTC/USD", severity="good", link="/books/fills")
    toast = console.wait_for_selector(".toast:has-text('Filled: buy 1 BTC/USD')", timeout=8_000)
    toast.query_selector("[data-close]").click()
    console.wait_for_selector(".toast", state="detached")


def test_a_press_is_answered_at_once_and_then_with_the_truth(console, world, rows):
    console.goto(f"{console.address}/strategies/")
    console.get_by_role("button", name="Stop", exact=True).click()
    console.wait_for_selector(".toast:has-text('Asked the engine.')", timeout=5_000)
    rows.rollback()
    command = rows.scalars(sa.select(CommandRow)).one()
    command.state = "denied"
    command.result = {"text": "not while it rains", "link": ""}
    rows.commit()
    console.wait_for_selector(".toast.bad:has-text('not while it rains')", timeout=5_000)


def test_a_double_click_asks_once(console, world, rows):
    console.goto(f"{console.address}/strategies/")
    console.get_by_role("button", name="Stop", exact=True).dblclick()
    console.wait_for_selector(".toast")
    rows.rollback()
    assert rows.scalar(sa.select(sa.func.count()).select_from(CommandRow)) == 1


def test_a_lost_connection_is_said_and_goes_away_by_itself(console, world):
    console.goto(f"{console.address}/")
    console.context.set_offline(True)
    console.wait_for_selector("#offline:visible", timeout=8_000)
    console.context.set_offline(False)
    console.wait_for_selector("#offline", state="hidden", timeout=8_000)
    console.complaints.clear()  # of the network, which was away


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen_and_every_chart_draws(console, world, width, theme):
    console.set_viewport_size({"width": width, "height": 844})
    console.emulate_media(color_scheme=theme)
    for path in ("/", "/events", "/markets/", f"/markets/{world.btc.id}", "/strategies/",
                 "/strategies/new?type=rsi_reversion", f"/strategies/{world.strategy.id}",
                 "/books/orders", "/books/ledger", "/books/decisions", f"/decisions/{world.denied}",
                 "/risk/", "/stop/", "/trade/", "/trade/1/settings", "/system/", "/profile/", "/components"):  # fmt: skip
        console.goto(console.address + path)
        assert console.evaluate("document.documentElement.scrollWidth") <= width, path
        for chart in console.locator("[data-chart]").all():
            chart.locator("canvas").first.wait_for(timeout=8_000)


def test_charts_have_a_crosshair_for_the_keyboard_and_numbers_behind_one_press(console, world):
    console.goto(f"{console.address}/")
    console.wait_for_selector("#equity canvas")
    newest = console.inner_text("#equity-readout")
    console.focus("#equity")
    console.keyboard.press("ArrowLeft")
    assert console.inner_text("#equity-readout") != newest
    console.get_by_text("Numbers", exact=True).click()
    console.wait_for_selector("#equity-numbers table td:has-text('1\u202f004.95')")


def test_stop_can_be_reached_and_pressed_without_javascript(
    browser, app, address, users, world, rows
):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    serializer = app.session_interface.get_signing_serializer(app)
    session = {"_user_id": f"{users['trader'].id}.1", "_fresh": True}
    context.add_cookies([{"name": "seraphim", "value": serializer.dumps(session), "url": address}])
    page = context.new_page()
    page.goto(f"{address}/books/orders")
    page.get_by_role("link", name="Stop trading…").click()
    page.get_by_text("Also close 1 position").click()
    page.get_by_role("button", name="Stop paper now").click()
    assert "Asked the engine." in page.inner_text("#toasts")
    context.close()
    rows.rollback()
    command = rows.scalars(sa.select(CommandRow)).one()
    assert command.arguments == {"account_id": world.account.id, "flatten": True,
                                 "reason": "stopped from the console"}  # fmt: skip


def test_a_table_keeps_what_it_shows_in_the_address(console, rows, settings):
    run = a_run(rows, settings, some_stocks(rows, settings).acme_series)
    console.goto(f"{console.address}/research/runs/{run.id}")
    table = console.locator("#rows")
    newest = table.locator("tbody tr").first.get_attribute("id")
    table.get_by_role("link", name="Worst").click()
    console.wait_for_url(lambda url: "order=worst" in url)
    console.reload()
    assert table.locator("tbody tr").first.get_attribute("id") != newest
    table.get_by_role("link", name="Decisions").click()
    console.wait_for_url(lambda url: "tab=decisions" in url)
    console.reload()
    assert table.locator("tbody tr").first.get_attribute("id").startswith("decision-")
