"""What a person does on the first day, in a real browser against a real `seraphim up`.

The journeys share one installation and run in this order: the last one ends and restarts it.
"""

from __future__ import annotations

import csv
import re
from decimal import Decimal
from uuid import uuid4

import pytest

from deploy.exits import Exit
from tests.journeys.console import wait_until_painted

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IN_AND_OUT = '''
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import register_strategy
from shared.domain.signals import Signal


@register_strategy("in_and_out")
class InAndOut(BaseStrategy):
    """In at one bar, out at the next: something for the rules to judge all the time."""

    def features(self, bars):
        return {}

    def generate_signal(self, now):
        self.state["in"] = not self.state.get("in", False)
        return Signal(self.inputs()["main"].instrument, 1.0 if self.state["in"] else 0.0)
'''

RULES = {
    "position_size": "position size",
    "max_drawdown": "max drawdown",
    "concentration": "concentration",
    "volatility": "volatility",
    "liquidity": "liquidity",
}
PAGES = ("/", "/markets/", "/strategies/", "/research", "/books/orders", "/risk/", "/data", "/jobs")
NO_BREAK = "[\u202f\u00a0 ]"


@pytest.fixture(scope="module")
def in_and_out(installation):
    """A strategy type of the user's own that trades at every bar."""
    installation.strategies.mkdir(parents=True, exist_ok=True)
    (installation.strategies / "in_and_out.py").write_text(IN_AND_OUT)


def number(text):
    """A number as the console writes it, as an exact one."""
    return Decimal(re.sub(NO_BREAK, "", text).replace("\N{MINUS SIGN}", "-").rstrip("%"))


def rows_named(console, name):
    """How many strategies of the list are called that."""
    console.open("/strategies/")
    return console.page.locator("#strategy-list").get_by_role("link", name=name, exact=True).count()


def test_the_printed_password_opens_a_console_where_one_press_leads_to_a_position(
    open_console, password
):
    console = open_console()
    console.log_in("admin", password)
    console.sees("Overview")

    console.press("Start a first strategy")
    console.open("/strategies/")
    console.page.locator("#strategy-list").get_by_role("link", name="First BTC/USD trend").click()
    console.sees(re.compile("^ordered$"), within="#strategy-decisions")
    console.sees(re.compile(r"^\d+(\.\d+)?$"), within="#strategy-numbers [data-n]")

    console.open("/")
    console.panel("What happened").get_by_text("Filled: buy").first.wait_for()
    console.panel("Open positions").get_by_text("First BTC/USD trend").first.wait_for()

    console.open("/books/orders")
    console.page.locator("tr[id^=order-]").last.locator("a").first.click()
    console.sees(re.compile("^Sent"), within="section[aria-label='Its life']")
    console.sees(re.compile("^Filled"), within="section[aria-label='Its life']")

    console.panel("Its life").get_by_role("link", name="Decided", exact=True).click()
    console.panel("Risk checks").wait_for()
    for rule in RULES.values():
        console.panel("Risk checks").get_by_role("cell", name=rule, exact=True).wait_for()
    assert console.panel("Risk checks").get_by_text("allowed", exact=True).count() == len(RULES)

    console.open("/books/positions")
    console.sees("First BTC/USD trend", within="tr[id^=position-]")


def test_sample_data_and_a_backtest_lead_to_a_result_with_its_picture_trades_and_numbers(console):
    console.open("/data")
    console.press("Load sample data")
    console.page.wait_for_url(re.compile(r"/data"))
    console.reload_until(lambda: console.page.get_by_role("link", name="GOOG", exact=True).count())

    run_backtest(console)
    wait_until_painted(console.page.locator("#run-equity canvas"))
    wait_until_painted(console.page.locator("#run-candles canvas"))

    trades = number(console.text("#tile-trades .value"))
    assert trades > 10
    assert number(console.text("#tile-total_return .value")) != 0
    shown = console.page.locator("[data-trades] tbody tr").count()
    assert 0 < shown <= trades
    with console.page.expect_download() as download:
        console.page.locator("#rows").get_by_role("link", name="CSV").click()
    with open(download.value.path(), newline="") as file:
        assert len(list(csv.DictReader(file))) == trades


def run_backtest(console, **fields):
    """A moving-average cross on GOOG, to its result."""
    console.open("/research/new?type=moving_average_cross")
    goog = console.page.locator("select[name='in.main.series'] option", has_text="GOOG")
    console.fill(in__main__series=goog.first.get_attribute("value"), **fields)
    if "rule__position_size__limit" in fields:
        console.page.get_by_label("Own rules").check()
    console.press("Run backtest")
    console.page.wait_for_url(re.compile(r"/research/runs/\d+$"))


def test_a_backtest_with_a_small_position_limit_shows_what_was_denied_with_value_and_limit(console):
    console.open("/research/new?type=moving_average_cross")
    goog = console.page.locator("select[name='in.main.series'] option", has_text="GOOG")
    console.fill(in__main__series=goog.first.get_attribute("value"))
    console.page.get_by_label("Own rules").check()
    console.fill(rule__position_size__limit="1")
    console.press("Run backtest")
    console.page.wait_for_url(re.compile(r"/research/runs/\d+$"))

    console.sees("No trade: the risk rules denied all")
    console.page.locator("#rows").get_by_role("link", name=re.compile("^Decisions")).click()
    denied = console.page.locator("tr[id^=decision-]", has_text="denied").first
    denied.get_by_text(re.compile(r"order value of equity \d+\.\d+%, over the limit 1\.00%"))
    denied.locator("summary").click()
    denied.get_by_text(re.compile(rf"\d+\.\d+{NO_BREAK}?% of 1\.00{NO_BREAK}?%")).wait_for()


def test_a_broken_strategy_file_shows_its_traceback_and_is_offered_once_it_is_mended(
    console, installation
):
    file = installation.strategies / "mine.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    good = IN_AND_OUT.replace("in_and_out", "mine").replace("InAndOut", "Mine")
    file.write_text(good.replace("return {}", "return {"))
    console.open("/strategies/")
    broken = console.page.locator("#catalogue tr", has_text="mine.py")
    console.reload_until(broken.count)
    broken.get_by_text("Traceback").click()
    assert "SyntaxError" in broken.locator("pre").inner_text()
    assert "mine.py" in broken.locator("pre").inner_text()

    file.write_text(good)
    console.open("/strategies/new")
    console.reload_until(console.page.locator("main a[href*='type=mine']").count)
    console.create_strategy("mine", "Mended")
    console.sees("ordered", within="#strategy-decisions")
    console.press("Stop", within="#strategy-numbers")
    console.sees("stopped", within="#strategy-numbers")


def test_each_rule_denies_in_a_live_session_and_its_value_and_limit_can_be_read(
    console, in_and_out
):
    console.open("/strategies/new")
    console.reload_until(console.page.locator("main a[href*='type=in_and_out']").count)
    console.create_strategy("in_and_out", "Judged")
    strategy = console.page.url.rpartition("/")[2]
    before = policy(console)
    for rule in RULES:
        set_policy(console, only(before, rule, limit="0.00001"))
        assert_denied_by(console, rule, strategy)
    set_policy(console, before)
    console.open(f"/strategies/{strategy}")
    ordered = console.page.locator("#strategy-decisions tbody tr").first
    ordered.get_by_text("ordered").or_(ordered.get_by_text("nothing")).first.wait_for()
    console.press("Stop", within="#strategy-numbers")
    console.sees("stopped", within="#strategy-numbers")


def policy(console):
    console.open("/risk/")
    return {k: v for k, v in console.form_of("/risk/policy").items() if k.startswith("rule.")}


def only(before, rule, limit):
    """Every rule off but this one."""
    kept = {name: value for name, value in before.items() if not name.endswith(".enabled")}
    return {**kept, f"rule.{rule}.limit": limit, f"rule.{rule}.enabled": "yes"}


def set_policy(console, fields):
    console.open("/risk/")
    for rule in RULES:
        console.page.locator(f"[name='rule.{rule}.limit']").fill(fields[f"rule.{rule}.limit"])
        box = console.page.locator(f"[name='rule.{rule}.enabled']")
        box.set_checked(f"rule.{rule}.enabled" in fields)
    console.press("Save limits")
    console.page.locator("#toasts .toast.good", has_text="Change risk policy").wait_for()


def assert_denied_by(console, rule, strategy):
    """The newest denial on record is this rule's, with a value above its limit."""
    console.open(f"/books/decisions?outcome=denied&strategy={strategy}")
    said = {"position_size": "order value of equity", "max_drawdown": "below its peak"}
    words = {**said, "concentration": "instrument of equity", "volatility": "volatility a year"}
    first = console.page.locator("tr[id^=decision-]").first
    reason = words.get(rule, "mean traded value")
    console.reload_until(lambda: first.count() and reason in first.inner_text())
    first.locator("a").first.click()
    console.sees("denied by risk", within=".page-head")
    checks = console.panel("Risk checks").locator("tbody tr")
    assert checks.count() == 1
    cells = checks.first.get_by_role("cell").all_inner_texts()
    assert cells[0] == RULES[rule]
    assert number(cells[1]) > number(cells[2]) == 0  # the limit is too small to show
    assert "denied" in cells
    console.panel("Orders").get_by_text("No order was sent").wait_for()


def test_stop_works_without_javascript_and_every_page_says_halted_until_somebody_resumes(
    open_console, admin_session, console, in_and_out
):
    console.create_strategy("in_and_out", "To be stopped")
    console.sees("ordered", within="#strategy-decisions")
    plain = open_console(storage_state=admin_session, java_script_enabled=False)
    plain.open("/")
    plain.page.get_by_role("link", name="Stop trading…").click()
    flatten = plain.page.locator("input[name=flatten]")
    plain.reload_until(lambda: flatten.is_enabled())
    flatten.check()
    plain.page.locator("input[name=reason]").first.fill("enough for today")
    plain.page.get_by_role("button", name="Stop paper now").click()

    steps = plain.panel("What the last stop did")
    plain.reload_until(lambda: steps.get_by_text("Positions closed").count())
    plain.reload_until(lambda: steps.locator("li").count() == steps.get_by_text("✓").count())
    plain.sees("enough for today")
    for path in PAGES:
        plain.open(path)
        assert plain.trading_state() == "Halted", path
    plain.open("/books/positions")
    assert plain.page.locator("tr[id^=position-] .muted", has_text="flat").count() > 0
    assert (
        plain.page.locator("tr[id^=position-]").count()
        == plain.page.locator("tr[id^=position-]", has_text="flat").count()
    )

    plain.open("/stop/")
    plain.page.get_by_role("button", name="Resume paper").click()
    plain.reload_until(lambda: plain.trading_state() == "Running")


def test_pressing_twice_makes_one(console):
    console.open("/strategies/new?type=rsi_reversion")
    console.fill(name="Pressed twice")
    console.button("Create strategy").dblclick()
    console.page.wait_for_url(re.compile(r"/strategies/\d+$"))
    assert rows_named(console, "Pressed twice") == 1

    assert sent_twice(console, "/research/new", action="/research/new", job="ackt") == 1
    assert sent_twice(console, "/data", action="/data/sample", job="sample") == 1


def sent_twice(console, page, action, job):
    """How many jobs come of one form that is sent twice."""
    jobs = console.page.locator(f"tr[id^=job-]:has-text('{job}')")
    console.open("/jobs")
    before = jobs.count()
    console.open(page)
    fields = console.form_of(action)
    answers = [console.send(action, fields).status for _ in range(2)]
    assert answers == [303, 303]
    console.open("/jobs")
    console.reload_until(lambda: jobs.count() > before)
    return jobs.count() - before


def test_the_same_form_in_two_tabs_makes_one_strategy_and_says_why_not_two(
    console, open_console, admin_session
):
    other = open_console(storage_state=admin_session)
    for tab in (console, other):
        tab.open("/strategies/new?type=rsi_reversion")
        tab.fill(name="In two tabs")
    console.press("Create strategy")
    console.page.wait_for_url(re.compile(r"/strategies/\d+$"))
    other.press("Create strategy")
    other.page.locator("#f-name-error").wait_for()
    assert "In two tabs" in other.text("#f-name-error")
    assert rows_named(console, "In two tabs") == 1


def test_a_viewer_sees_every_page_and_can_act_on_none_and_five_wrong_passwords_lock(
    console, open_console
):
    console.open("/users/")
    console.fill(username="watcher", role="viewer", password="watching only")
    console.press("Add user")
    console.sees("watcher")

    viewer = open_console()
    viewer.log_in("watcher", "watching only")
    viewer.sees("Overview")
    for path in (*PAGES, "/stop/", "/system/", "/replays", "/books/positions", "/strategies/1"):
        viewer.open(path)
        assert buttons_that_act(viewer) == [], path
    token = viewer.token()
    for path in ("/first-strategy", "/stop/", "/risk/policy", "/strategies/1/stop", "/users/"):
        answer = viewer.send(path, {"csrf_token": token, "command_id": str(uuid4())})
        assert answer.status == 403, path

    stranger = open_console()
    for _ in range(5):
        stranger.log_in("watcher", "not the password")
    stranger.sees("5 wrong passwords: this name is locked for 5 min")
    stranger.log_in("watcher", "watching only")
    stranger.sees("this name is locked")


def buttons_that_act(console):
    """What could be pressed to change something, other than logging out and choosing what to look at."""
    return console.page.evaluate(
        """() => [...document.querySelectorAll("form[method=post]")]
            .filter(form => !/\\/(logout|account)$/.test(new URL(form.action).pathname))
            .flatMap(form => [...form.querySelectorAll("button:not([disabled]), input[type=submit]")])
            .map(button => button.textContent.trim())"""
    )


def test_a_session_that_ends_under_an_open_page_leads_back_to_that_page(
    console, password, installation
):
    console.open("/books/fills")
    console.lose_session()
    console.page.get_by_label("User name").fill("admin")
    console.page.get_by_label("Password").fill(password)
    console.page.get_by_role("button", name="Log in").click()
    console.page.wait_for_url(f"{installation.url}/books/fills")


@pytest.mark.parametrize(
    "path",
    [
        "/strategies/preview?allocation=1e300",
        "/strategies/9999999999999999999999",
        "/research/runs/1/candles/main.json?before=nan",
        "/data/1/candles.json?before=1e300",
        "/data/1/candles.json?interval=0",
        "/books/orders?before=%00",
        "/research?sort=%3Cscript%3E&symbol=%22",
    ],
)
def test_an_address_nobody_would_type_is_answered(console, path):
    assert console.page.request.get(path).status < 500


def test_after_ctrl_c_and_a_new_start_the_same_person_finds_the_same_books_and_trading_goes_on(
    console, installation, password, open_console
):
    console.open("/stop/")
    console.press("Stop paper now")
    console.reload_until(lambda: console.trading_state() == "Halted")
    before = books(console)

    assert installation.stop() == Exit.OK
    assert installation.processes() == []
    installation.start()
    assert installation.first_password() is None

    again = open_console()
    again.log_in("admin", password)
    again.sees("Overview")
    assert books(again) == before
    again.page.locator("#status").get_by_text("Halted").wait_for()
    again.open("/stop/")
    again.press("Resume paper")
    again.page.locator("#status").get_by_text("Running").wait_for()
    again.open("/books/fills")
    again.reload_until(lambda: again.text("main") != before["/books/fills"])

    assert installation.stop() == Exit.OK
    assert installation.processes() == []


def books(console):
    """Every balance, and the newest fills, orders and entries in full."""
    pages = {}
    for path in ("/books/fills", "/books/orders", "/books/ledger"):
        console.open(path)
        pages[path] = console.text("main")
    return pages
