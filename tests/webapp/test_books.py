"""The books: every row reachable once, in order, whatever is added meanwhile."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from shared.db.trading import DecisionRow, LedgerEntryRow
from tests.webapp.world import NOON, a_decision, a_filled_order, a_strategy


def row_ids(text, prefix):
    return re.findall(rf'<tr id="{prefix}-([^"]+)"', text)


def walk(client, path, prefix):
    """Ids of all rows, page after page, as a reader would press Older."""
    found, pages = [], 0
    while path:
        text = client.get(path).text
        found += row_ids(text, prefix)
        older = re.search(r'href="([^"]+)" rel="next"', text)
        path = older[1].replace("&amp;", "&") if older else None
        pages += 1
    return found, pages


def test_every_decision_is_on_exactly_one_page_newest_first(viewer, world, rows):
    for n in range(120):  # forty at each of three moments: ties are broken by id
        a_decision(
            rows, world.account, world.strategy, world.btc, at=NOON + timedelta(hours=n // 40)
        )
    rows.commit()
    found, pages = walk(viewer, "/books/decisions", "decision")
    key = (DecisionRow.decided_at.desc(), DecisionRow.id.desc())
    assert [UUID(i) for i in found] == list(rows.scalars(sa.select(DecisionRow.id).order_by(*key)))
    assert pages == 3


def test_rows_added_meanwhile_do_not_shift_the_older_pages(viewer, world, rows):
    for n in range(60):
        a_decision(rows, world.account, world.strategy, world.btc, at=NOON + timedelta(minutes=n))
    rows.commit()
    first = viewer.get("/books/decisions").text
    older = re.search(r'href="([^"]+)" rel="next"', first)[1].replace("&amp;", "&")
    before = row_ids(viewer.get(older).text, "decision")
    a_decision(rows, world.account, world.strategy, world.btc, at=NOON + timedelta(hours=9))
    rows.commit()
    assert row_ids(viewer.get(older).text, "decision") == before


@pytest.mark.parametrize("place", ["nonsense", "W10", "WyJub3QgYSB0aW1lIiwiMSJd"])
def test_a_place_that_is_none_is_refused_in_words(viewer, world, place):
    answer = viewer.get(f"/books/decisions?before={place}")
    assert answer.status_code == 400
    assert "not a place in the list" in answer.text


def test_lists_can_be_narrowed_and_the_narrowing_is_in_the_address(viewer, world, rows):
    other = a_strategy(rows, world.account, world.eth, "Other")
    a_filled_order(rows, world.account, other, world.eth)
    rows.commit()
    everything, _ = walk(viewer, "/books/orders", "order")
    assert len(everything) == 3
    only, _ = walk(viewer, f"/books/orders?strategy={other.id}", "order")
    assert len(only) == 1
    working, _ = walk(viewer, "/books/orders?state=working", "order")
    assert working == [str(world.stop_order)]
    denied, _ = walk(
        viewer, f"/books/decisions?outcome=denied&instrument={world.eth.id}", "decision"
    )
    assert denied == [str(world.denied)]


def test_a_filter_nobody_offers_is_left_out_rather_than_believed(viewer, world):
    assert len(row_ids(viewer.get("/books/orders?state=exploded").text, "order")) == 2


def test_paging_keeps_the_filter(viewer, world, rows):
    for n in range(60):
        a_decision(rows, world.account, world.strategy, world.btc, at=NOON + timedelta(minutes=n))
    rows.commit()
    found, pages = walk(viewer, "/books/decisions?outcome=denied", "decision")
    assert (found, pages) == ([str(world.denied)], 1)
    text = viewer.get(f"/books/decisions?instrument={world.btc.id}").text
    assert re.search(rf'href="[^"]*instrument={world.btc.id}[^"]*" rel="next"', text)


def test_a_decision_shows_bar_reason_steps_every_check_and_its_orders(viewer, world):
    denied = viewer.get(f"/decisions/{world.denied}").text
    assert "denied by risk" in denied
    assert "RSI 24.1 below 30" in denied
    assert "20.80\N{NO-BREAK SPACE}%" in denied
    assert "20.00\N{NO-BREAK SPACE}%" in denied
    assert "over the limit 20.00%" in denied
    assert "50 at 100" in denied
    assert "No order was sent." in denied
    ordered = viewer.get(f"/decisions/{world.decision}").text
    assert f"/books/orders/{world.order}" in ordered


def test_an_order_shows_what_was_asked_what_happened_and_why(viewer, world):
    page = viewer.get(f"/books/orders/{world.order}").text
    assert "submitted" in page
    assert str(world.order) in page
    assert f"/decisions/{world.decision}" in page
    assert "of 0.5 BTC" in page
    assert "add up to its row" in page


def test_the_ledger_shows_what_the_account_holds_as_the_sum_of_its_rows(viewer, world, rows):
    rows.add(
        LedgerEntryRow(
            account_id=world.account.id, at=NOON, kind="fee", asset="USD", amount=3, debit="fees",
            credit="holding", reference="x", leg="fee",
        )
    )  # fmt: skip
    rows.commit()
    assert "<b>997</b> USD" in viewer.get("/books/ledger").text


def test_positions_add_up(viewer, world):
    page = viewer.get("/books/positions").text
    assert "+5.00" in page
    assert "+4.95" in page  # together, after fees
