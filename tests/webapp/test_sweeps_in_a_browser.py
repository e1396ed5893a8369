"""A sweep as a user goes it: the size told while typing, watched, its pictures narrowing the table, a point run in full."""

import re

import pytest
from playwright.sync_api import expect

from shared.db.sweeps import SweepRow
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.test_in_a_browser import address, console
from tests.webapp.test_sweeps import one_chunk

pytestmark = pytest.mark.browser
fixtures = (address, console)


def test_from_the_form_over_the_pictures_to_a_full_run(console, app, rows, settings):
    app.config["JOB_WAIT_SECONDS"] = 0
    some_stocks(rows, settings)
    console.goto(f"{console.address}/research/sweeps/new")
    for name, value in (("from", "3"), ("to", "9"), ("step", "3")):
        console.fill(f"[name='{name}.short_window']", value)
    for name, value in (("from", "10"), ("to", "25"), ("step", "5")):
        console.fill(f"[name='{name}.long_window']", value)
    expect(console.locator("#sweep-size")).to_contain_text("12 combinations")
    console.fill("[name=constraints]", "short_window * 2 < long_window")
    expect(console.locator("#sweep-size")).to_contain_text("9 combinations")
    console.get_by_role("button", name="Start sweep").click()
    console.wait_for_url("**/jobs/*")
    do_job(settings, newest_job(rows, "sweep").id)
    console.wait_for_url("**/research/sweeps/*")
    expect(console.locator("#sweep-progress")).to_contain_text("0 of 9 combinations")
    sweep = rows.query(SweepRow).one()
    while one_chunk(rows, settings, sweep):
        pass
    expect(console.locator("#sweep-progress")).to_contain_text("done")
    expect(console.locator("#points h2")).to_have_text("9 points")
    keep_the_right_half(console)
    expect(console.locator("#points h2")).not_to_have_text("9 points")
    assert re.search(r"min\.p\.long_window=\d+", console.url)
    console.locator("#points .chip.filter").first.click()
    expect(console.locator("#points h2")).to_have_text("9 points")
    press_the_best_cell(console)
    expect(console.locator("#points h2")).to_have_text("1 point")
    console.locator("#points tbody button").click()
    console.wait_for_url("**/jobs/*")
    do_job(settings, newest_job(rows, "backtest").id)
    console.wait_for_url("**/research/runs/*")


def keep_the_right_half(console):
    """Drag along the second axis of the lines, from its top to its middle."""
    lines = console.locator("#sweep-lines canvas")
    lines.scroll_into_view_if_needed()
    box = lines.bounding_box()
    axes = console.evaluate("document.querySelector('#sweep-lines').dataset.url")
    count = len(console.evaluate(f"fetch('{axes}').then((r) => r.json())")["axes"])
    x = box["x"] + 46 + (box["width"] - 92) / (count - 1)
    console.mouse.move(x, box["y"] + 36)
    console.mouse.down()
    console.mouse.move(x, box["y"] + 150, steps=4)
    console.mouse.up()


def press_the_best_cell(console):
    """By keys: to a cell with a point, and Enter."""
    heat = console.locator("#sweep-heat")
    heat.scroll_into_view_if_needed()
    heat.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        heat.press(key)
