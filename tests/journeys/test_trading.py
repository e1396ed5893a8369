"""Trading by hand in a real browser against a real `seraphim up`: order, amend, cancel; bracket; sent once."""

from __future__ import annotations

import re
import time
from decimal import Decimal

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WHOLE_ACCOUNT = "#trade-orders tbody tr[id^=order-]"
BY_HAND = "#trade-positions tbody tr[id^=position-]"


@pytest.fixture(autouse=True)
def _calm(console):
    """The invented market may be wilder or thinner than the rules allow: that is not what is tried here."""
    boxes = {
        rule: console.page.locator(f"[name='rule.{rule}.enabled']")
        for rule in ("volatility", "liquidity")
    }
    console.open("/risk/")
    for _ in range(60):  # the console answers before the engine has opened its first account
        if boxes["volatility"].count():
            break
        time.sleep(0.5)
        console.open("/risk/")
    if any(box.is_checked() for box in boxes.values()):
        for box in boxes.values():
            box.set_checked(False)
        console.press("Save limits")
        console.page.locator("#toasts .toast.good", has_text="Change risk policy").wait_for()


def at(console, symbol):
    """The trade page of one instrument; its live quote has come."""
    console.open("/trade/")
    console.page.locator("#f-instrument").select_option(label=symbol)
    console.page.locator(f"#ticket h2:has-text('{symbol}')").wait_for()
    console.page.locator("#trade-quote [data-take]").first.wait_for()


def quote(console):
    """(bid, ask) as the page shows them now."""
    both = console.page.locator("#trade-quote [data-take]")
    return tuple(Decimal(both.nth(n).get_attribute("data-take")) for n in (0, 1))


def choose(console, name, value):
    console.page.locator(f"#ticket-form input[name={name}][value={value}]").check(force=True)


def preview(console):
    console.press("Preview", within="#ticket-form fieldset")
    console.page.locator("#preview .send").wait_for()


def send(console):
    console.page.locator("#preview .send").click()
    console.page.locator("#outcome .is-past:has-text('done')").wait_for()


def rows(console, text=""):
    return console.page.locator(WHOLE_ACCOUNT, has_text=text)


def test_a_limit_order_is_previewed_sent_amended_and_cancelled(console):
    at(console, "ETH/USD")
    bid, _ = quote(console)
    low = (bid * Decimal("0.8")).quantize(Decimal(1))
    choose(console, "type", "limit")
    console.fill(limit_price=str(low), size="0.1")
    preview(console)
    console.sees("position size", within="#preview")
    console.sees("→", within="#preview")
    send(console)

    order = rows(console, "ETH/USD")
    order.get_by_text("working", exact=True).wait_for()
    order.get_by_role("button", name="Amend").click()
    form = console.page.locator("#trade-orders .sheet")
    form.locator("[name=limit_price]").fill(f"{low + 10}.005")
    form.get_by_role("button", name="Amend").click()
    form.get_by_text("is off the tick").wait_for()
    assert form.locator("[name=limit_price]").input_value() == f"{low + 10}.005"
    form.locator("[name=limit_price]").fill(str(low + 10))
    form.get_by_role("button", name="Amend").click()
    form.wait_for(state="detached")
    shown = f"{low + 10:,}.00".replace(",", "\N{NARROW NO-BREAK SPACE}")
    order.get_by_text(shown).wait_for()

    order.get_by_role("button", name="Cancel").click()
    order.wait_for(state="detached")
    asked = console.panel("What was asked")
    for what in ("Cancel order", "Amend order", "Place order"):
        asked.get_by_role("listitem").filter(has_text=what).filter(has_text="done").first.wait_for()


def test_a_bracket_whose_target_is_hit_takes_its_stop_along(console):
    at(console, "BTC/USD")
    bid, ask = quote(console)
    choose(console, "type", "market")
    console.fill(size="0.001")
    console.page.locator("#f-protect").check()
    target, stop = ask * Decimal("1.2"), bid * Decimal("0.7")
    console.fill(stop_loss=f"{stop:.0f}", take_profit=f"{target:.0f}")
    preview(console)
    assert console.page.locator("#preview .legs li").count() == 3
    send(console)
    console.page.locator(BY_HAND, has_text="BTC/USD").wait_for()
    rows(console, "stop loss").get_by_text("working", exact=True).wait_for()

    # A target brought to where the market is, whichever way it moves meanwhile, is hit at once.
    reached = rows(console, "take profit")
    reached.get_by_role("button", name="Amend").click()
    form = console.page.locator("#trade-orders .sheet")
    form.locator("[name=limit_price]").fill(f"{bid * Decimal('0.9'):.0f}")
    form.get_by_role("button", name="Amend").click()
    console.page.locator(BY_HAND, has_text="BTC/USD").wait_for(state="detached")
    rows(console, "stop loss").wait_for(state="detached")
    console.open("/books/orders")
    states = console.reload_until(lambda: ended_legs(console))
    assert states == {"entry": "filled", "take profit": "filled", "stop loss": "cancelled"}


def ended_legs(console):
    """State by leg of the orders in BTC/USD, once all three have ended."""
    found = {}
    for row in console.page.locator("tr[id^=order-]", has_text="BTC/USD").all():
        text = row.inner_text()
        for leg in ("entry", "take profit", "stop loss"):
            for state in ("filled", "cancelled"):
                if leg in text and state in text:
                    found[leg] = state
    return found if len(found) == 3 else None


def test_two_tabs_and_double_clicks_send_an_order_once(console):
    at(console, "SOL/USD")
    bid, _ = quote(console)
    choose(console, "type", "limit")
    console.fill(limit_price=f"{bid * Decimal('0.7'):.1f}", size="1")
    preview(console)
    second = console.page.context.new_page()
    second.goto(console.page.url)
    second.locator("#preview .send").wait_for()
    for page in (console.page, second):  # a real double click may find the button off in between
        page.locator("#preview .send").evaluate("button => { button.click(); button.click(); }")
    rows(console, "SOL/USD").first.wait_for()
    second.locator("#outcome, #preview").first.wait_for()
    console.page.wait_for_timeout(1000)  # whatever else was pressed would be there by now
    assert rows(console, "SOL/USD").count() == 1
    placed = console.panel("What was asked").get_by_role("listitem").filter(has_text="1 SOL")
    assert placed.count() == 1

    console.press("Cancel all", within="#trade-orders")
    rows(console, "SOL/USD").wait_for(state="detached")


LIMIT = {"type": "limit", "size": "0.1", "limit_price": "1000"}
BAD = [
    ("an empty size", {"size": ""}, "size", "say how much"),
    ("letters", {"size": "ten"}, "size", "'ten' is not a number"),
    ("a negative size", {"size": "-1"}, "size", "must be above 0"),
    ("nothing at all", {"size": "0"}, "size", "must be above 0"),
    ("more than there is in the world", {"size": "1e400"}, "size", "beyond what can be traded"),
    ("no number", {"size": "NaN"}, "size", "not a number one can trade"),
    ("a decimal comma", {"size": "0,5"}, "size", "write decimals with a point"),
    ("infinity", {"size": "Infinity"}, "size", "not a number one can trade"),
    ("less than a lot", {"size": "0.000001"}, "size", "less than one lot"),
    ("more than everything", {"size": "101", "size_in": "percent"}, "size", "more than all there is"),
    ("an unknown measure", {"size_in": "bags"}, "size_in", "is not one of"),
    ("no side", {"side": ""}, "side", "choose one of"),
    ("an unknown side", {"side": "hold"}, "side", "is not one of"),
    ("an unknown type", {"type": "magic"}, "type", "is not one of"),
    ("a limit order without limit", {**LIMIT, "limit_price": ""}, "limit_price", "needs a limit price"),
    ("a price off the tick", {**LIMIT, "limit_price": "1000.001"}, "limit_price", "off the tick"),
    ("a price below nothing", {**LIMIT, "limit_price": "-5"}, "limit_price", "must be above 0"),
    ("a stop without trigger", {"type": "stop"}, "stop_price", "needs a stop price"),
    ("a stop on the wrong side", {"type": "stop", "stop_price": "1"}, "stop_price", "must be above"),
    ("a target on the wrong side", {"type": "take_profit", "stop_price": "90000"}, "stop_price",
     "must be below"),
    ("a trail of nothing", {"type": "trailing_stop", "trail": "0"}, "trail", "must be above 0"),
    ("a trail of all of it", {"type": "trailing_stop", "trail": "100", "trail_in": "percent"}, "trail",
     "the whole price"),
    ("GTD without a time", {**LIMIT, "time_in_force": "gtd"}, "expires_at", "needs the time"),
    ("an end that has passed", {**LIMIT, "time_in_force": "gtd", "expires_at": "2001-01-01T00:00"},
     "expires_at", "is over already"),
    ("a time that is none", {**LIMIT, "time_in_force": "gtd", "expires_at": "soon"}, "expires_at",
     "is no time"),
    ("a market order that waits", {"post_only": "yes"}, "post_only", "only a limit order can wait"),
    ("post-only at once", {**LIMIT, "post_only": "yes", "time_in_force": "ioc"}, "post_only",
     "trades at once"),
    ("a stop at once", {"type": "stop", "stop_price": "90000", "time_in_force": "ioc"}, "time_in_force",
     "a stop has to wait"),
    ("reducing nothing", {"side": "sell", "reduce_only": "yes"}, "reduce_only", "nothing is held"),
    ("a bracket's stop above", {"protect": "yes", "stop_loss": "90000"}, "stop_loss", "must be below"),
    ("a bracket's target below", {"protect": "yes", "take_profit": "1"}, "take_profit",
     "must be above"),
    ("two stops", {"protect": "yes", "stop_loss": "1000", "stop_trail": "2"}, "stop_trail", "not both"),
    ("a second order without price", {**LIMIT, "with_other": "yes", "other.type": "limit",
                                      "other.size": "1"}, "other.limit_price", "needs a limit price"),
    ("a next order without size", {**LIMIT, "with_then": "yes", "then.type": "market"}, "then.size",
     "say how much"),
]  # fmt: skip
FRESH = {"side": "buy", "type": "market", "size": "0.1", "size_in": "quantity", "trail_in": "price",
         "time_in_force": "gtc", "other.side": "sell", "other.size_in": "quantity",
         "other.time_in_force": "gtc", "then.side": "sell", "then.size_in": "quantity",
         "then.time_in_force": "gtc"}  # fmt: skip


def test_every_kind_of_bad_order_is_said_beside_its_field_and_kept(console):
    at(console, "ETH/USD")
    fields = console.form_of("/trade/preview")
    where = {name: fields[name] for name in ("csrf_token", "account", "instrument")}
    wrong = {}
    for kind, changed, field, sentence in BAD:
        html = ask(console, {**where, **FRESH, **changed})
        said = re.search(rf'id="f-{re.escape(field)}-error" role="alert">([^<]*)', html)
        text = said[1].replace("&#39;", "'") if said else re.sub(r"\s+", " ", html)[:200]
        typed = {k: v for k, v in changed.items() if v and k not in ("side", "type", "size_in")}
        kept = all(f'value="{text}"' in html for text in typed.values())
        if sentence not in text or not kept:
            wrong[kind] = text
    assert wrong == {}


@pytest.mark.parametrize(
    ("kind", "changed", "rule"),
    [
        ("not enough cash", {"size": "1000"}, "funds"),
        ("short where it is not allowed", {"side": "sell", "size": "0.1"}, "short"),
        ("over a limit of risk", {"size": "3"}, "position size"),
    ],
)
def test_what_the_rules_deny_is_previewed_with_the_rule(console, kind, changed, rule):
    at(console, "ETH/USD")
    fields = console.form_of("/trade/preview")
    where = {name: fields[name] for name in ("csrf_token", "account", "instrument")}
    html = ask(console, {**where, **FRESH, **changed})
    denied = re.findall(r'<li class="is-denied">.*?</span><span>([^<]*)</span>', html, re.DOTALL)
    assert rule in denied, kind
    assert "Cannot be sent" in html


def ask(console, form):
    """A preview as the form asks for it; the part the engine's answer comes in."""
    answer = console.page.request.post("/trade/preview", form=form, headers={"HX-Request": "true"})
    assert answer.ok, answer.status
    return answer.text()
