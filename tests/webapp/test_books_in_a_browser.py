"""Books as a person uses them: a list is narrowed, sorted and taken away; money is booked once."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import FillRow
from tests.webapp.test_books import many_fills
from tests.webapp.test_in_a_browser import address, console

__all__ = ["address", "console"]

pytestmark = pytest.mark.browser


def test_a_list_is_narrowed_sorted_paged_and_its_csv_is_what_it_shows(console, world, rows):
    many_fills(world, rows, 130)
    console.goto(f"{console.address}/books/fills")
    console.get_by_label("Side").select_option("buy")  # no button: choosing is enough
    console.wait_for_url("**side=buy**")
    console.get_by_role("link", name="Realised").click()
    console.wait_for_url("**sort=realised**")
    assert "side=buy" in console.url, "sorting keeps the filter"
    console.get_by_role("link", name="Next").click()
    console.wait_for_url("**after=**")
    assert console.locator("tbody tr").count() == 16  # 66 buys
    with console.expect_download() as waiting:
        console.get_by_role("link", name="CSV").click()
    lines = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    query = sa.select(FillRow.id).where(FillRow.side == "buy")
    expected = list(rows.scalars(query.order_by(FillRow.realised.desc(), FillRow.id.desc())))
    assert [int(line["id"]) for line in lines] == expected
    assert all(Decimal(line["price"]) == 100 for line in lines)
    console.go_back()
    assert "sort=realised" in console.url


def test_money_pressed_twice_is_asked_once(console, world, rows):
    console.goto(f"{console.address}/books/account")
    console.locator("details.money", has_text="Top up").locator("summary").click()
    form = console.locator('form[action="/books/account/top-up"]')
    form.get_by_label("Amount").fill("250")
    token = form.locator('[name="command_id"]').input_value()
    form.get_by_role("button", name="Top up").dblclick()
    console.locator(".toast", has_text="Top up paper money").first.wait_for()
    asked = list(rows.scalars(sa.select(CommandRow)))
    assert [(str(c.id), c.kind, c.arguments["amount"]) for c in asked] == [
        (token, "TopUpPaper", "250")
    ]
