"""Watch lists and pair lists: made, changed, seen, and recorded."""

import pytest
import sqlalchemy as sa

from shared.db.lists import PairListRow, WatchListItemRow, WatchListRow
from shared.db.market import InstrumentRow
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses

PARTIAL = {"HX-Request": "true"}
FORM = {
    "name": "Liquid",
    "window": "5",
    "top": "3",
    "sort": "value",
    "descending": "yes",
    "is_daily": "yes",
}


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


def instrument(rows, symbol):
    return rows.scalars(sa.select(InstrumentRow).where(InstrumentRow.symbol == symbol)).one()


def a_watch_list(trader, rows, **changed):
    answer = trader.post("/lists/watch", data={"name": "Mine", **changed})
    assert answer.status_code == 303
    return answer.location


def test_an_instrument_is_put_on_a_watch_list_once_and_taken_out(trader, rows, stocks):
    path = a_watch_list(trader, rows)
    acme = instrument(rows, "ACME")
    assert ">ACME<" in trader.get(f"{path}?q=acm").text
    for _ in range(2):
        trader.post(f"{path}/items", data={"instrument_id": acme.id})
    rows.rollback()
    assert len(rows.scalars(sa.select(WatchListItemRow)).all()) == 1
    page = trader.get(path).text
    assert ">ACME<" in page
    assert "Take out ACME" in page
    assert ">Mine<" in trader.get(f"/instruments/{acme.id}").text
    trader.post(f"{path}/items", data={"instrument_id": acme.id, "remove": "yes"})
    assert "Nothing on it yet" in trader.get(path).text
    assert trader.post(f"{path}/items", data={"instrument_id": "x"}).status_code == 400


def test_a_list_of_one_s_own_is_nobody_else_s_and_everyone_s_is_all_s(trader, admin, rows):
    own, shared = a_watch_list(trader, rows), a_watch_list(trader, rows, name="All", shared="yes")
    assert admin.get(own).status_code == 404
    assert admin.get(shared).status_code == 200
    again = trader.post("/lists/watch", data={"name": "Mine"}, follow_redirects=True)
    assert "There is a watch list Mine already" in again.text
    assert trader.post("/lists/watch", data={"name": " "}).status_code == 400
    trader.post(f"{own}/delete")
    rows.rollback()
    assert rows.scalars(sa.select(WatchListRow.name)).all() == ["All"]


def a_pair_list(trader, rows, **changed):
    answer = trader.post("/lists/pairs", data={**FORM, **changed})
    assert answer.status_code == 303, answer.text
    rows.rollback()
    return answer.location


def test_a_pair_list_is_recorded_and_its_members_are_seen_by_day(trader, rows, settings, stocks):
    path = a_pair_list(trader, rows)
    assert "Nothing is recorded yet" in trader.get(path).text
    empty = trader.get(f"{path}/membership.json").json
    assert empty["rows"] == []
    trader.post(f"{path}/record")
    do_job(settings, newest_job(rows, "pair_list").id)
    page = trader.get(path).text
    assert "Members on" in page
    shown = trader.get(f"{path}/membership.json").json
    names = {row["name"] for row in shown["rows"]}
    assert "ACME" in names
    for row in shown["rows"]:
        pairs = zip(row["bars"], row["expected"], strict=True)
        assert all(inside <= recorded for inside, recorded in pairs)
    assert trader.get(f"{path}/membership.json?from=soon").status_code == 400
    table = trader.get(f"{path}/membership", headers=PARTIAL).text
    assert "ACME" in table
    assert "recorded" in trader.get("/lists/").text.lower()


def test_the_preview_says_who_passes_and_why_the_others_do_not(trader, rows, stocks):
    said = trader.post(
        "/lists/pairs/preview", data={**FORM, "min_price": "1e9"}, headers=PARTIAL
    ).text
    assert "price" in said
    assert ">out<" in said
    by_hand = {**FORM, "min_price": "1e9", "include": "acme"}
    assert "in by hand" in trader.post("/lists/pairs/preview", data=by_hand, headers=PARTIAL).text
    wrong = trader.post("/lists/pairs/preview", data={**FORM, "window": "1"}, headers=PARTIAL).text
    assert "must be from 2 to 365 days" in wrong


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"name": ""}, "Give it a name"),
        ({"window": "1"}, "must be from 2 to 365 days"),
        ({"min_value": "much"}, "much is not a number"),
        ({"top": "2.5"}, "2.5 is not a whole number"),
        ({"min_price": "5", "max_price": "1"}, "nothing could pass"),
    ],
)
def test_rules_that_cannot_be_stand_beside_their_field_and_nothing_is_lost(
    trader, rows, changed, text
):
    answer = trader.post("/lists/pairs", data={**FORM, "max_spread": "0.5", **changed})
    assert answer.status_code == 400
    assert text in answer.text
    assert 'value="0.5"' in answer.text
    rows.rollback()
    assert rows.scalars(sa.select(PairListRow)).all() == []


def test_changing_rules_counts_a_version_and_a_name_is_given_once(trader, rows):
    path = a_pair_list(trader, rows)
    assert trader.post("/lists/pairs", data=FORM).status_code == 400
    trader.post(path, data={**FORM, "top": "9"})
    trader.post(path, data={**FORM, "top": "9", "name": "Other"})
    rows.rollback()
    row = rows.scalars(sa.select(PairListRow)).one()
    assert (row.version, row.name, row.rules["top"]) == (2, "Other", 9)
    assert 'value="9"' in trader.get(f"{path}/edit").text
    trader.post(f"{path}/delete")
    assert trader.get(f"{path}/edit").status_code == 404
    seen = trader.get(path).text
    assert ">deleted<" in seen, "runs lead here"
    assert "Change rules" not in seen
    assert a_pair_list(trader, rows, name="Other") != path


def test_a_viewer_sees_lists_and_changes_none(viewer, trader, rows):
    path = a_pair_list(trader, rows)
    assert "New pair list" not in viewer.get("/lists/").text
    assert viewer.get(path).status_code == 200
    for post in ("/lists/watch", "/lists/pairs", path, f"{path}/record", f"{path}/delete"):
        assert viewer.post(post).status_code == 403


def test_every_address_on_the_pages_leads_somewhere(app, trader, rows, settings, stocks):
    path, own = a_pair_list(trader, rows), a_watch_list(trader, rows)
    trader.post(f"{path}/record")
    do_job(settings, newest_job(rows, "pair_list").id)
    for page in ("/lists/", path, f"{path}/edit", "/lists/pairs/new", own):
        found = read(trader.get(page).text)
        assert found.wrong + lost_addresses(app, found) == [], page


def preview(trader, **changed):
    return trader.post("/lists/pairs/preview", data={**FORM, **changed}, headers=PARTIAL).text


def test_the_preview_of_an_earlier_day_knows_nothing_of_later_ones(trader, stocks):
    newest = preview(trader, venue="replay")
    assert "the newest day that can be recorded" in newest
    for wrong in ("soon", "2999-01-01"):
        assert preview(trader, venue="replay", on=wrong) == newest
    first = preview(trader, venue="replay", on="1990-01-01")
    assert "0 members of" in first
    assert "no bars before this day" in first


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("include", "NOBODY", "NOBODY is no instrument; Instruments lists them by symbol"),
        ("include", "TWIN", "TWIN is at replay and simulated: write TWIN@"),
        ("exclude", "TWIN@nowhere", "TWIN@nowhere is no instrument"),
        ("min_value", "1e30", "1e30 is more than anything here can be"),
    ],
)
def test_what_is_chosen_by_hand_is_told_by_symbol(trader, rows, field, text, problem):
    twins(rows)
    assert problem in preview(trader, **{field: text})
    answer = trader.post("/lists/pairs", data={**FORM, field: text})
    assert answer.status_code == 400
    assert f'value="{text}"' in answer.text


def twins(rows):
    for venue in ("replay", "simulated"):
        rows.add(
            InstrumentRow(
                venue=venue, symbol="TWIN", base_asset="TWIN", quote_asset="USD", calendar="24/7"
            )
        )
    rows.commit()


def test_a_symbol_at_two_venues_is_the_one_of_the_rules_or_as_it_is_said(trader, rows):
    twins(rows)
    path = a_pair_list(trader, rows, venue="replay", include="twin", exclude="TWIN@simulated")
    ids = dict(rows.execute(sa.select(InstrumentRow.venue, InstrumentRow.id)).all())
    row = rows.scalars(sa.select(PairListRow)).one()
    assert (row.rules["include"], row.rules["exclude"]) == ([ids["replay"]], [ids["simulated"]])
    form = trader.get(f"{path}/edit").text
    assert 'value="TWIN@replay"' in form
    assert 'value="TWIN@simulated"' in form
    assert "1 always in, 1 never in" in trader.get(path).text


def test_days_recorded_by_earlier_rules_are_told(trader, rows, settings, stocks):
    path = a_pair_list(trader, rows)
    trader.post(f"{path}/record")
    busy = trader.get(f"{path}/under-way", headers=PARTIAL)
    assert "Record Liquid" in busy.text
    do_job(settings, newest_job(rows, "pair_list").id)
    over = trader.get(f"{path}/under-way", headers=PARTIAL)
    assert over.headers["HX-Refresh"] == "true"
    assert "recorded by earlier rules" not in trader.get(path).text
    trader.post(path, data={**FORM, "top": "1"})
    assert "recorded by earlier rules" in trader.get(path).text


def test_a_watch_list_keeps_itself_current(trader, rows, stocks):
    path = a_watch_list(trader, rows)
    acme = instrument(rows, "ACME")
    empty = trader.get(f"{path}/rows", headers=PARTIAL).text
    version = empty.split("v=")[1].split('"')[0]
    assert trader.get(f"{path}/rows?v={version}", headers=PARTIAL).status_code == 204
    trader.post(f"{path}/items", data={"instrument_id": acme.id})
    now = trader.get(f"{path}/rows?v={version}", headers=PARTIAL)
    assert now.status_code == 200
    assert read(now.text).wrong == []


def test_an_instrument_is_put_on_a_list_from_its_own_page(trader, admin, rows, stocks):
    list_id = a_watch_list(trader, rows).rpartition("/")[2]
    acme = instrument(rows, "ACME")
    form = {"list_id": list_id, "instrument_id": acme.id}
    answer = trader.post("/lists/watch/items", data=form, follow_redirects=True)
    assert "ACME is on Mine now." in answer.text
    assert "Put it on" not in answer.text
    assert admin.post("/lists/watch/items", data=form).status_code == 404, "it is the trader's own"
    assert trader.post("/lists/watch/items", data={"list_id": list_id}).status_code == 400
