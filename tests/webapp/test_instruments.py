"""Instruments: found, read, and changed by those who may."""

from datetime import UTC, date, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.lists import PairListDayRow, PairListRecordRow, PairListRow
from shared.db.market import InstrumentRow
from shared.domain.universe import Rules
from tests.webapp.forms import confirmed
from tests.webapp.history import some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture
def acme(rows, stocks):
    return rows.scalars(sa.select(InstrumentRow).where(InstrumentRow.symbol == "ACME")).one()


@pytest.fixture
def settle(app, rows):
    """Nobody waits for an engine that is not there."""
    app.config["COMMAND_WAIT_SECONDS"] = 0


def test_instruments_are_found_by_symbol_name_venue_and_class(viewer, rows, acme):
    acme.name = "Anvils_100%"
    rows.commit()
    assert 'id="instrument-' in viewer.get("/instruments/").text
    for query in ("q=acm", "q=anvils", "q=s_100%25", "asset_class=stock", "venue=replay"):
        assert ">ACME<" in viewer.get(f"/instruments/?{query}").text, query
    for query in ("q=AxME", "q=%25ACME%25x", "venue=simulated"):
        assert ">ACME<" not in viewer.get(f"/instruments/?{query}").text, query
    assert "No instrument like that" in viewer.get("/instruments/?q=nobody").text


def test_a_long_list_goes_on_by_key_and_no_row_is_there_twice(viewer, rows):
    rows.add_all(
        [
            InstrumentRow(venue="replay", symbol=f"S{n:03d}", base_asset=f"S{n}", quote_asset="USD",
                          calendar="24/7")
            for n in range(120)
        ]
    )  # fmt: skip
    rows.commit()
    seen, path = [], "/instruments/"
    while path:
        page = viewer.get(path).text
        seen += [line.split('"')[0] for line in page.split('id="instrument-')[1:]]
        after = page.split('rel="next"')[0].rsplit('href="', 1)[-1].split('"')[0]
        path = after.replace("&amp;", "&") if 'rel="next"' in page else ""
    assert len(seen) == len(set(seen)) == 120
    assert viewer.get("/instruments/?after=nowhere").status_code == 400


def test_the_page_of_one_says_what_is_known_and_who_may_change_it(viewer, acme):
    page = viewer.get(f"/instruments/{acme.id}").text
    assert "Changing it needs the role admin" in page
    assert "<fieldset" in page
    assert " disabled" in page
    assert viewer.get("/instruments/999999").status_code == 404
    assert viewer.post(f"/instruments/{acme.id}").status_code == 403
    found = read(page)
    assert found.wrong == []


def test_a_press_asks_the_engine_for_exactly_what_the_form_says(admin, rows, acme, settle):
    form = confirmed(admin.get(f"/instruments/{acme.id}").text)
    form |= {"tick_size": "0.05", "maker_fee": "-0,01", "taker_fee": "0.2", "name": "Anvils"}
    answer = admin.post(f"/instruments/{acme.id}", data=form)
    assert answer.status_code == 303
    rows.rollback()
    row = rows.scalars(sa.select(CommandRow)).one()
    assert row.kind == "EditInstrument"
    assert row.arguments["tick_size"] == "0.05"
    assert (row.arguments["maker_fee"], row.arguments["taker_fee"]) == ("-0.0001", "0.002")
    assert (row.arguments["name"], row.arguments["version"]) == ("Anvils", 0)
    admin.post(f"/instruments/{acme.id}", data=form)
    rows.rollback()
    assert len(rows.scalars(sa.select(CommandRow)).all()) == 1, "the same form is one command"


def test_what_the_engine_denies_stands_beside_its_field_and_nothing_typed_is_lost(
    admin, rows, acme, settle
):
    form = confirmed(admin.get(f"/instruments/{acme.id}").text) | {
        "tick_size": "-1",
        "name": "Kept",
    }
    rows.execute(
        sa.insert(CommandRow).values(
            id=form["command_id"], kind="EditInstrument", actor="admin", state="denied",
            arguments=arguments_of(acme, form),
            result={"text": "tick_size: -1 must be above 0", "field": "tick_size"},
            expires_at=sa.func.now(), settled_at=sa.func.now(),
        )
    )  # fmt: skip
    rows.commit()
    answer = admin.post(f"/instruments/{acme.id}", data=form)
    assert answer.status_code == 409
    assert "-1 must be above 0" in answer.text
    assert 'value="Kept"' in answer.text


def arguments_of(instrument, form):
    given = {name: form.get(name, "") for name in
             ("name", "asset_class", "calendar", "tick_size", "lot_size", "min_quantity", "min_value",
              "maker_fee", "taker_fee")}  # fmt: skip
    return {"instrument_id": instrument.id, "version": int(form["version"]), **given}


def test_every_address_on_the_pages_leads_somewhere(app, viewer, acme):
    for path in ("/instruments/", f"/instruments/{acme.id}"):
        assert lost_addresses(app, read(viewer.get(path).text)) == []


def test_an_edit_of_what_changed_meanwhile_stays_one_of_the_old_version(admin, rows, acme, settle):
    form = confirmed(admin.get(f"/instruments/{acme.id}").text)
    acme.version, acme.name = 4, "Somebody else's"
    rows.execute(
        sa.insert(CommandRow).values(
            id=form["command_id"], kind="EditInstrument", actor="admin", state="denied",
            arguments=arguments_of(acme, form),
            result={"text": "ACME was changed by somebody else meanwhile", "field": "version"},
            expires_at=sa.func.now(), settled_at=sa.func.now(),
        )
    )  # fmt: skip
    rows.commit()
    answer = admin.post(f"/instruments/{acme.id}", data=form)
    assert "changed by somebody else meanwhile" in answer.text
    assert confirmed(answer.text)["version"] == "0", "pressing again overwrites nobody"


def test_the_page_of_one_tells_its_changes_and_its_rank_on_lists(viewer, rows, acme):
    made = PairListRow(name="Liquid", rules=Rules().as_json())
    rows.add(made)
    rows.flush()
    day = date(2024, 1, 31)
    rows.add(PairListRecordRow(list_id=made.id, day=day, version=1, considered=2, members=1))
    rows.add(PairListDayRow(list_id=made.id, day=day, instrument_id=acme.id, rank=1, values={}))
    rows.add(
        CommandRow(
            id=uuid4(), kind="EditInstrument", actor="anna", state="done",
            arguments={"instrument_id": acme.id}, result={"text": "ACME changed: tick 0.1 to 0.01"},
            expires_at=datetime.now(UTC),
        )
    )  # fmt: skip
    rows.commit()
    page = viewer.get(f"/instruments/{acme.id}").text
    assert "rank 1" in page
    assert "on 31 Jan 2024" in page
    assert "ACME changed: tick 0.1 to 0.01" in page
    assert "anna" in page
    assert read(page).wrong == []
