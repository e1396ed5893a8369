"""What is known of an instrument can be put right; what cannot be is said, and nothing is half changed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from engine.costs import Costs
from engine.desk import Denied
from engine.instruments import edit
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import EventRow
from shared.domain.orders import Fill, OrderType
from shared.messages import EditInstrument
from tests.builders import an_instrument
from tests.engine.test_matching import Desk, a_request

ASKED = EditInstrument(
    0, 0, "Bitcoin", "crypto", "24/7", "0.01", "0.001", "0.01", "5", "-0.0001", "0.002"
)


@pytest.fixture
def connection(database_url):
    engine = make_engine(database_url)
    with engine.begin() as found:
        yield found
    engine.dispose()


@pytest.fixture
def asked(connection):
    made = connection.execute(
        sa.insert(InstrumentRow)
        .values(venue="replay", symbol="BTC/USD", base_asset="BTC", quote_asset="USD",
                calendar="24/7", tick_size="0.1")
        .returning(InstrumentRow.id)
    )  # fmt: skip
    return replace(ASKED, instrument_id=made.scalar_one())


def test_an_edit_is_kept_counted_and_told(connection, asked):
    said = edit(connection, asked, "anna").text
    assert said.startswith(
        "BTC/USD changed: name none to Bitcoin; tick 0.1 to 0.01; lot none to 0.001"
    )
    assert said.endswith("maker fee none to -0.01 %; taker fee none to 0.2 %")
    row = connection.execute(sa.select(InstrumentRow.__table__)).one()
    assert (row.version, row.tick_size, row.taker_fee) == (1, Decimal("0.01"), Decimal("0.002"))
    [event] = connection.execute(sa.select(EventRow.text)).scalars()
    assert event.startswith("Instrument BTC/USD changed by anna: ")
    again = edit(connection, replace(asked, version=1), "anna")
    assert again.text == "BTC/USD: nothing was changed"


def test_an_edit_of_what_somebody_else_changed_meanwhile_is_denied(connection, asked):
    edit(connection, asked, "anna")
    with pytest.raises(Denied, match="changed by somebody else meanwhile"):
        edit(connection, replace(asked, name="B"), "ben")


@pytest.mark.parametrize(
    ("changed", "field", "text"),
    [
        ({"tick_size": "0"}, "tick_size", "0 must be above 0"),
        ({"tick_size": "-1"}, "tick_size", "-1 must be above 0"),
        ({"lot_size": "much"}, "lot_size", "'much' is not a number"),
        ({"min_value": "NaN"}, "min_value", "'NaN' is not a number one can use"),
        ({"min_quantity": "0.0015"}, "min_quantity", "no multiple of the lot 0.001"),
        ({"taker_fee": "-0.001"}, "taker_fee", "-0.1 % must be from 0 % to less than 50 %"),
        ({"maker_fee": "0.5"}, "maker_fee", "50 % must be from -1 % to less than 50 %"),
        ({"calendar": "8/5"}, "calendar", "'8/5' is not one of 24/7, 24/5, XNYS"),
        ({"asset_class": "gold"}, "asset_class", "'gold' is not one of crypto, stock"),
        ({"name": "x" * 81}, "name", "give at most 80 characters, not 81"),
        ({"instrument_id": 10**6}, "", "there is no instrument 1000000"),
    ],
)
def test_what_cannot_be_is_denied_and_nothing_changes(connection, asked, changed, field, text):
    with pytest.raises(Denied) as denied:
        edit(connection, replace(asked, **changed), "anna")
    assert text in str(denied.value)
    assert denied.value.field == field
    assert connection.scalar(sa.select(InstrumentRow.version)) == 0


def test_the_calendar_stays_while_daily_bars_span_its_sessions(connection, asked):
    edit(connection, replace(asked, calendar="24/5"), "anna")
    connection.execute(
        sa.text(
            "INSERT INTO series (instrument_id, source, interval, bars) VALUES (:id, 'x', 86400, 3)"
        ),
        {"id": asked.instrument_id},
    )
    with pytest.raises(Denied, match="BTC/USD has daily bars, which span the sessions of 24/5"):
        edit(connection, replace(asked, calendar="XNYS", version=1), "anna")


def test_an_instrument_s_own_fees_take_the_place_of_the_account_s():
    own = {"maker_fee": Decimal("-0.0001"), "taker_fee": Decimal("0.002")}
    desk = Desk(fee=0.01, **own)
    desk.submit(a_request(), a_request(type=OrderType.LIMIT, limit_price=99.5))
    desk.bar(100.0, 101.0, 99.0, 100.0)
    fills = [event for _, event in desk.told if isinstance(event, Fill)]
    assert [(f.liquidity, f.fee) for f in fills] == [
        ("taker", Decimal("0.4")),
        ("maker", Decimal("-0.0199")),
    ]
    assert Costs(0.01).of(an_instrument(1)).fee_rate == 0.01
