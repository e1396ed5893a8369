"""The books: every row reachable once, in order, whatever is added meanwhile."""

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from engine import lot_keeping
from shared.db.console import CommandRow
from shared.db.lots import LotBookRow, LotRow
from shared.db.trading import AccountRow, DecisionRow, FillRow, LedgerEntryRow
from shared.domain.ledger import entries_of
from shared.domain.orders import Fill, Side
from tests.builders import an_instrument
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


def test_the_account_shows_what_it_holds_as_the_sum_of_its_rows(viewer, world, rows):
    rows.add(
        LedgerEntryRow(
            account_id=world.account.id, at=NOON, kind="fee", asset="USD", amount=3, debit="fees",
            credit="holding", reference="x", leg="fee",
        )
    )  # fmt: skip
    rows.commit()
    page = viewer.get("/books/account").text
    assert re.search(r'id="balance-USD">.*?<td class="num">997.00</td>', page, re.S)


def test_positions_add_up(viewer, world):
    page = viewer.get("/books/positions").text
    assert "+5.00" in page
    assert "+4.95" in page  # together, after fees


def link(text, rel):
    found = re.search(rf'href="([^"]+)" rel="{rel}"', text)
    return found[1].replace("&amp;", "&") if found else None


def many_fills(world, rows, count):
    """Fills of quantities 1, 2, 3..., the realised gain cycling, several in each minute."""
    for n in range(count):
        rows.add(
            FillRow(
                venue="simulated", account_id=world.account.id, venue_fill_id=f"f{n}",
                client_order_id=world.order, strategy_id=world.strategy.id,
                instrument_id=world.btc.id, side="buy" if n % 2 else "sell", quantity=n + 1, price=100,
                fee=Decimal(n % 5) / 100, fee_asset="USD", liquidity="taker",
                realised=Decimal(n % 7) - 3, filled_at=NOON + timedelta(minutes=n // 4),
            )
        )  # fmt: skip
    rows.commit()


@pytest.mark.parametrize("sort", ["filled", "realised", "fee"])
@pytest.mark.parametrize("way", ["asc", "desc"])
def test_every_fill_is_on_exactly_one_page_in_both_directions_by_every_column(
    viewer, world, rows, sort, way
):
    many_fills(world, rows, 160)
    column = {"filled": FillRow.filled_at, "realised": FillRow.realised, "fee": FillRow.fee}[sort]
    order = [c.desc() if way == "desc" else c.asc() for c in (column, FillRow.id)]
    expected = [str(id_) for id_ in rows.scalars(sa.select(FillRow.id).order_by(*order))]
    path = f"/books/fills?sort={sort}&dir={way}"
    assert walk(viewer, path, "fill") == (expected, 4)
    path, found = f"{path}&end=last", []
    while path:
        text = viewer.get(path).text
        found = row_ids(text, "fill") + found
        path = link(text, "prev")
    assert found == expected


def test_the_last_page_is_one_press_away_and_says_where_it_is(viewer, world, rows):
    many_fills(world, rows, 120)
    text = viewer.get("/books/fills").text
    assert "121 rows" in text
    last = re.search(r'href="([^"]+end=last[^"]*)"', text)[1].replace("&amp;", "&")
    text = viewer.get(last).text
    assert link(text, "next") is None
    assert link(text, "prev") is not None


def test_the_csv_is_exactly_the_filter_in_its_order_with_exact_numbers(viewer, world, rows):
    many_fills(world, rows, 90)
    rows.add(
        FillRow(
            venue="simulated", account_id=world.account.id, venue_fill_id="=exact",
            client_order_id=world.order, strategy_id=None, instrument_id=world.btc.id, side="buy",
            quantity=Decimal("0.123456789012345678"), price=Decimal("1E+2"), fee=0, fee_asset="USD",
            liquidity="", realised=0, filled_at=NOON + timedelta(days=1),
        )
    )  # fmt: skip
    rows.commit()
    answer = viewer.get("/books/fills.csv?side=buy&sort=filled&dir=desc")
    assert answer.mimetype == "text/csv"
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    buys = rows.scalars(
        sa.select(FillRow.id).where(FillRow.side == "buy").order_by(FillRow.filled_at.desc(), FillRow.id.desc())
    )  # fmt: skip
    assert [int(line["id"]) for line in lines] == list(buys)
    first = lines[0]
    assert first["quantity"] == "0.123456789012345678"
    assert first["price"] == "100"
    assert first["filled_at"] == "2026-09-13T12:00:00+00:00"
    assert first["venue_fill_id"] == "'=exact", "a spreadsheet must not take it for a formula"
    assert (lines[1]["instrument"], lines[1]["strategy"]) == ("BTC/USD", "BTC dips")


def test_a_list_is_narrowed_by_days_of_the_users_zone_and_by_id(viewer, world, rows):
    many_fills(world, rows, 4)
    assert row_ids(viewer.get("/books/fills?from=2026-09-13").text, "fill") == []
    assert len(row_ids(viewer.get("/books/fills?from=2026-09-12&to=2026-09-12").text, "fill")) == 5
    midnight = "2026-09-12T14:00"  # noon in UTC, in Berlin
    assert row_ids(viewer.get(f"/books/fills?to={midnight}").text, "fill") == []
    assert len(row_ids(viewer.get("/books/fills?id=f2").text, "fill")) == 1
    assert row_ids(viewer.get("/books/orders?id=nonsense").text, "order") == []
    assert row_ids(viewer.get(f"/books/orders?id={world.order}").text, "order") == [
        str(world.order)
    ]
    refused = viewer.get("/books/fills?from=yesterday")
    assert refused.status_code == 400
    assert "yesterday is no date" in refused.text


def trade(world, rows, side, quantity, price, *, day=0, fee="0", owner=None):
    """A fill in the ledger, as the engine books it."""
    instrument = an_instrument(world.btc.id, base_asset="BTC", symbol="BTC/USD")
    fill = Fill(
        uuid4(), str(uuid4()), world.account.id, owner or 0, world.btc.id, side, Decimal(quantity),
        Decimal(price), Decimal(fee), "USD", NOON + timedelta(days=day),
    )  # fmt: skip
    for e in entries_of(fill, instrument):
        rows.add(LedgerEntryRow(**{name: getattr(e, name) for name in e.__struct_fields__}))
    rows.commit()
    return fill


def test_lots_follow_the_ledger_and_are_made_again_by_another_method(viewer, world, rows):
    trade(world, rows, Side.BUY, 1, 100, day=0)
    trade(world, rows, Side.BUY, 1, 300, day=1)
    lot_keeping.keep(rows)
    trade(world, rows, Side.SELL, 1, 400, day=2, fee="4")
    lot_keeping.keep(rows, chunk=3)
    assert rows.scalar(sa.select(LotRow.gain).where(LotRow.closed_at.is_not(None))) == 296
    page = viewer.get("/books/lots").text
    assert "+296.00" in page
    assert len(row_ids(viewer.get("/books/lots?state=open").text, "lot")) == 1
    rows.get(AccountRow, world.account.id).lot_method = "hifo"
    rows.commit()
    lot_keeping.keep(rows)
    assert rows.scalar(sa.select(LotRow.gain).where(LotRow.closed_at.is_not(None))) == 96
    book = rows.get_one(LotBookRow, world.account.id, populate_existing=True)
    assert book.books["holding"]["BTC"] == "1"
    assert (book.method, book.problem) == ("hifo", "")


def test_lots_made_in_small_steps_are_those_made_at_once(world, rows):
    for n in range(20):
        trade(
            world, rows, Side.SELL if n % 3 == 2 else Side.BUY, n % 4 + 1, 100 + n, day=n, fee="1"
        )
    fields = (LotRow.quantity, LotRow.opened_at, LotRow.closed_at, LotRow.cost, LotRow.gain)
    query = sa.select(*fields).order_by(*fields)
    lot_keeping.keep(rows, chunk=4, chunks=1000)
    small = rows.execute(query).all()
    rows.execute(sa.delete(LotBookRow))
    rows.commit()
    lot_keeping.keep(rows)
    assert rows.execute(query).all() == small
    assert len(small) > 8


def test_a_ledger_that_cannot_be_followed_says_where_and_stops_nothing(world, rows):
    rows.add(
        LedgerEntryRow(
            account_id=world.account.id, at=NOON, kind="split", asset="ETH", amount=3, debit="holding",
            credit="conversion", reference="s", leg="split:0", instrument_id=world.eth.id,
        )
    )  # fmt: skip
    rows.commit()
    lot_keeping.keep(rows)
    assert "a split of nothing" in rows.get_one(LotBookRow, world.account.id).problem


def test_the_tax_lots_of_a_year_by_any_method_are_a_csv(viewer, world, rows):
    trade(world, rows, Side.BUY, 1, 100, day=-400)
    trade(world, rows, Side.BUY, 1, 300, day=-10)
    trade(world, rows, Side.SELL, 1, 400)
    for method, gain, term in (("fifo", "300", "long"), ("lifo", "100", "short")):
        text = viewer.get(f"/books/tax-lots.csv?method={method}&year=2026").text
        [lot] = csv.DictReader(io.StringIO(text))
        assert (lot["gain"], lot["term"]) == (gain, term)
    assert viewer.get("/books/tax-lots.csv?year=2025").text.count("\r\n") == 1
    assert viewer.get("/books/tax-lots.csv?method=luck").status_code == 400


def test_a_posting_shows_its_entries_and_the_lots_it_closed(viewer, world, rows):
    trade(world, rows, Side.BUY, 1, 100)
    sold = trade(world, rows, Side.SELL, 1, 150, day=1)
    lot_keeping.keep(rows)
    entry = rows.scalar(
        sa.select(LedgerEntryRow.id).where(LedgerEntryRow.reference == f"fill:{sold.venue_fill_id}")
    )
    page = viewer.get(f"/books/ledger/{entry}").text
    assert page.count('id="entry-') == 2
    assert "+50.00" in page
    lot = rows.scalar(sa.select(LotRow.id))
    assert "held 24" in viewer.get(f"/books/lots/{lot}").text
    fill = rows.scalar(sa.select(FillRow.id))
    assert "Buy 0.5 BTC" in viewer.get(f"/books/fills/{fill}").text
    for path in ("/books/ledger/999", "/books/lots/999", "/books/fills/999"):
        assert viewer.get(path).status_code == 404


def test_returns_leave_deposits_out_and_say_how(viewer, world, rows):
    from tests.webapp.world import equity

    rows.execute(sa.text("DELETE FROM equity_snapshots"))
    later = NOON + timedelta(days=3)
    equity(rows, world.account, {NOON: "1000", NOON + timedelta(days=1): "1100", later: "1600"})
    rows.add(
        LedgerEntryRow(
            account_id=world.account.id, at=NOON + timedelta(days=2), kind="deposit", asset="USD",
            amount=500, debit="holding", credit="capital", reference="d", leg="main",
        )
    )  # fmt: skip
    rows.commit()
    page = viewer.get("/books/account").text
    assert "+10.00\N{NO-BREAK SPACE}%" in page
    assert "1 flow left out" in page
    numbers = viewer.get("/books/account/equity.json?range=all").json
    assert numbers["benchmark"][-1] - numbers["benchmark"][0] == 500
    assert numbers["returned"] == pytest.approx([0, 0.1, 0.1])
    assert numbers["drawdown"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("action", "form", "kind", "asked"),
    [
        ("deposit", {"amount": "5", "asset": "USD"}, "Deposit", {"amount": "5", "asset": "USD"}),
        ("withdraw", {"amount": "5", "asset": "USD"}, "Withdraw", {"amount": "5"}),
        ("transfer", {"amount": "5", "asset": "USD", "to_account_id": "2"}, "Transfer", {"to_account_id": 2}),
        ("adjust", {"amount": "-5", "asset": "USD", "reason": "r"}, "Adjust", {"reason": "r"}),
        ("income", {"kind": "dividend", "amount": "5", "asset": "USD", "instrument_id": "1"},
         "BookIncome", {"instrument_id": 1, "strategy_id": None}),
        ("split", {"instrument_id": "1", "numerator": "4", "denominator": "1"}, "Split", {"numerator": 4}),
        ("symbol", {"instrument_id": "1", "to_instrument_id": "2"}, "ChangeSymbol", {"to_instrument_id": 2}),
        ("dust", {"instrument_id": "1", "strategy_id": ""}, "WriteOffDust", {"strategy_id": None}),
        ("top-up", {"amount": "5"}, "TopUpPaper", {"amount": "5"}),
        ("reset", {"capital": "5"}, "ResetPaper", {"capital": "5"}),
        ("settings", {"lot_method": "lifo", "dust_value": ""}, "EditBooks", {"lot_method": "lifo"}),
    ],
)  # fmt: skip
def test_each_money_form_asks_the_engine_for_its_command(
    trader, world, rows, action, form, kind, asked
):
    trader.post(f"/books/account/{action}", data={**form, "account": world.account.id})
    [row] = rows.scalars(sa.select(CommandRow))
    assert row.kind == kind
    assert row.arguments["account_id"] == world.account.id
    assert asked.items() <= row.arguments.items()


def test_a_denied_amount_stands_beside_its_field_with_what_was_typed(
    trader, world, rows, monkeypatch
):
    from webapp import commands

    def denied(command):
        return CommandRow(
            id=uuid4(), kind="Withdraw", arguments={}, actor="trader", state="denied",
            result={"text": "amount: 5000000 USD is more than there is: 1000 USD", "field": "amount"},
        )  # fmt: skip

    monkeypatch.setattr(commands, "ask_and_wait", denied)
    form = {"amount": "5000000", "asset": "USD", "account": world.account.id}
    answer = trader.post("/books/account/withdraw", data=form)
    assert answer.status_code == 409
    assert (
        '<span class="error" role="alert">5000000 USD is more than there is: 1000 USD'
        in answer.text
    )
    assert 'value="5000000"' in answer.text


def test_a_viewer_sees_no_money_forms_and_nobody_books_into_an_unknown_account(
    viewer, trader, world
):
    assert "Book money" not in viewer.get("/books/account").text
    assert trader.post("/books/account/deposit", data={"account": "99"}).status_code == 400
    assert trader.post("/books/account/steal", data={"account": "1"}).status_code == 404


def test_a_deposit_after_the_newest_equity_is_no_loss(viewer, world, rows):
    """It is in the ledger, and not yet in the equity it would be compared with."""
    before = viewer.get("/frame", headers={"HX-Request": "true"}).text
    rows.add(
        LedgerEntryRow(
            account_id=world.account.id, at=NOON + timedelta(minutes=1), kind="deposit", asset="USD",
            amount=500, debit="holding", credit="capital", reference="d", leg="main",
        )
    )  # fmt: skip
    rows.commit()
    after = viewer.get("/frame", headers={"HX-Request": "true"}).text
    assert re.findall(r"[+\N{MINUS SIGN}][0-9.]+", after) == re.findall(
        r"[+\N{MINUS SIGN}][0-9.]+", before
    )
    assert "\N{MINUS SIGN}500" not in viewer.get("/books/account").text
