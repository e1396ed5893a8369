"""Files on their way in: chosen, looked into, confirmed, imported."""

import gzip
import io
import zipfile
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared.db.backtests import JobRow
from shared.db.console import AuditRow
from shared.db.market import ImportMappingRow, SeriesRow
from shared.jobs import ImportRequest
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses

CSV = "Date,Open,High,Low,Close,Volume\n" + "".join(
    f"2024-01-{day:02},10,11,9,10.{day:02},100\n" for day in range(2, 12)
)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


def upload(client, content, name="prices.csv"):
    return client.post(
        "/data/import",
        data={"file": (io.BytesIO(content), name), "command_id": str(uuid4())},
        content_type="multipart/form-data",
    )


def looked_at(client, rows, settings, content=None, name="ACME_prices.csv"):
    """The address of the page that shows what was found in an uploaded file."""
    answer = upload(client, CSV.encode() if content is None else content, name)
    assert answer.status_code == 303
    do_job(settings, newest_job(rows, "inspect").id)
    return answer.location


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_shown_before_it_is_stored_and_then_imported_whole(
    trader, rows, settings, packed
):
    content, name = (
        (gzip.compress(CSV.encode()), "ACME.csv.gz") if packed else (CSV.encode(), "ACME.csv")
    )
    where = looked_at(trader, rows, settings, content, name)
    page = trader.get(where).text
    assert "2024-01-02" in page
    assert "Import 10 rows" in page
    answer = trader.post(where, data=confirmed(page))
    job = newest_job(rows, "import")
    assert answer.location == f"/jobs/{job.id}"
    assert ImportRequest(**job.arguments).symbol == "ACME"
    do_job(settings, job.id)
    result = trader.get(f"/jobs/{job.id}").text
    assert "10 bars added" in result
    assert "Open the series" in result
    assert "ACME" in trader.get("/data").text
    assert "was imported already" in trader.get(where).text


def test_a_bad_row_is_named_with_line_value_and_reason_and_cannot_be_imported(
    trader, rows, settings
):
    where = looked_at(
        trader, rows, settings, CSV.replace("2024-01-05,10,11", "2024-01-05,ten,11").encode()
    )
    page = trader.get(where).text
    assert "As it is, this file would be refused" in page
    assert "line 5" in page
    assert "ten" in page
    assert 'type="submit" disabled>Import' in page


def test_what_the_user_says_about_the_columns_is_looked_at_again(trader, rows, settings):
    where = looked_at(trader, rows, settings, CSV.replace("Open", "Erster").encode())
    page = trader.get(where).text
    assert "No column holds the open" not in page
    form = confirmed(page)
    assert form["map.open"] == ""
    answer = trader.post(f"{where}/look", data={**form, "map.open": "Erster"})
    job = newest_job(rows, "inspect")
    assert answer.location == f"/data/import/{job.id}"
    do_job(settings, job.id)
    assert "Import 10 rows" in trader.get(answer.location).text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("symbol_name", "", "Nothing is not a symbol"),
        ("interval", "daily", "daily is not an interval"),
        ("calendar", "moon", "is no calendar"),
        ("quote_asset", " ", "Nothing is not a currency"),
        ("map.close", "", "No column holds the close"),
        ("map.date_style", "", "How dates are written cannot be told"),
    ],
)
def test_a_wrong_answer_is_refused_beside_its_field_and_the_rest_is_kept(
    trader, rows, settings, field, value, said
):
    where = looked_at(trader, rows, settings)
    form = {**confirmed(trader.get(where).text), "asset_class": "index", field: value}
    answer = trader.post(where, data=form)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'id="f-{field}-error"' in answer.text
    assert confirmed(answer.text)["asset_class"] == "index"


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "empty.csv", "empty.csv is empty"),
        (b"PK", "book.xlsx", "export a spreadsheet as CSV"),
        (b"a,b\n1,2\n", "", "No file was chosen"),
    ],
)
def test_what_is_no_csv_file_is_refused_with_a_remedy(trader, content, name, said):
    answer = upload(trader, content, name)
    assert answer.status_code == 422
    assert said in answer.text


def test_a_file_that_cannot_be_read_says_why_and_offers_another(trader, rows, settings):
    where = looked_at(trader, rows, settings, b"\x1f\x8b broken", "x.csv.gz")
    page = trader.get(where).text
    assert "This file cannot be read" in page
    assert "Choose another file" in page


def test_an_upload_that_is_too_large_is_refused_in_words(app, trader):
    app.config["MAX_CONTENT_LENGTH"] = 1_000
    answer = upload(trader, b"x" * 5_000)
    assert answer.status_code == 413
    assert "too large" in answer.text
    assert "seraphim import" in answer.text


def test_a_name_that_points_elsewhere_is_only_a_name(trader, rows, settings):
    upload(trader, CSV.encode(), "../../etc/passwd.csv")
    job = newest_job(rows, "inspect")
    assert job.arguments["file_name"] == "passwd.csv"
    assert "/" not in job.arguments["path"]
    assert (settings.home / "uploads" / job.arguments["path"]).is_file()


def test_a_file_that_is_not_kept_any_more_is_asked_for_again(trader, rows, settings):
    where = looked_at(trader, rows, settings)
    form = confirmed(trader.get(where).text)
    for file in (settings.home / "uploads").iterdir():
        file.unlink()
    answer = trader.post(where, data=form)
    assert answer.status_code == 422
    assert "is not kept any more" in answer.text


KRAKEN = "".join(f"{1577836800 + 60 * n},7{n}.5,80,70.25,71,{n}.125,3\n" for n in range(5))
LONG = "date,ticker,open,high,low,close,volume\n" + "".join(
    f"2020-01-{day:02},{name},{day},{day + 2},{day - 1},{day},5\n"
    for day in (6, 7, 8)
    for name in ("AAA", "BBB", "CCC")
)


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.csv", text)
    return out.getvalue()


def series_count(rows):
    rows.rollback()
    return rows.scalar(sa.select(sa.func.count()).select_from(SeriesRow))


def posted(client, where, page, **changed):
    """The form as a browser sends it, with all boxes of "pick" that are ticked."""
    form = confirmed(page)
    form["pick"] = changed.pop("pick")
    return client.post(where, data={**form, **changed})


def test_an_archive_is_shown_as_a_table_and_what_is_ticked_comes_in(trader, rows, settings):
    content = zipped(XBTUSD_1=KRAKEN, ETHEUR_1=KRAKEN, ADAUSD_1=KRAKEN.replace("80,", "1,"))
    where = looked_at(trader, rows, settings, content, "kraken.zip")
    page = trader.get(where).text
    assert "BTC/USD" in page
    assert "is above the high of 1" in page
    assert page.count('name="pick"') == 3
    assert page.count("disabled") == 3
    answer = posted(trader, where, page, pick=[])
    assert "No file is ticked" in answer.text
    answer = posted(trader, where, page, pick=["2"], **{"symbol.2": "XBT/USD", "interval.2": "x"})
    assert answer.status_code == 422
    assert "x is not an interval" in answer.text
    assert 'value="XBT/USD"' in answer.text
    posted(trader, where, page, pick=["1", "2"], **{"symbol.2": "XBT/USD"})
    job = newest_job(rows, "import")
    do_job(settings, job.id)
    assert "2 series: 10 bars added" in trader.get(f"/jobs/{job.id}").text
    assert "XBT/USD" in trader.get("/data").text


def test_of_several_symbols_those_that_are_ticked_come_in(trader, rows, settings):
    where = looked_at(trader, rows, settings, LONG.encode(), "long.csv")
    page = trader.get(where).text
    assert page.count('name="pick"') == 3
    assert "No symbol is ticked" in posted(trader, where, page, pick=[]).text
    posted(trader, where, page, pick=["0", "2"])
    do_job(settings, newest_job(rows, "import").id)
    assert series_count(rows) == 2


def test_trades_ask_which_bars_are_made_of_them(trader, rows, settings):
    trades = b"1577836800,100.5,1\n1577836830,101,0.5\n1577836930,99.25,2\n"
    where = looked_at(trader, rows, settings, trades, "XBTUSD.csv")
    page = trader.get(where).text
    assert "Bars to make of the trades" in page
    answer = trader.post(where, data=confirmed(page) | {"trades_to": "soon"})
    assert "soon is not an interval" in answer.text
    trader.post(where, data=confirmed(page) | {"trades_to": "1m,1h"})
    do_job(settings, newest_job(rows, "import").id)
    assert series_count(rows) == 2


def test_columns_that_were_guessed_have_to_be_seen(trader, rows, settings):
    content = b"2020-01-01 00:00,1,3,1,2,5\n2020-01-01 00:01,1,3,1,2,5\n"
    where = looked_at(trader, rows, settings, content, "ACME.csv")
    form = confirmed(trader.get(where).text)
    assert "columns_seen" not in form, "nobody has ticked it yet"
    assert "only a guess" in trader.post(where, data=form).text
    assert trader.post(where, data=form | {"columns_seen": "yes"}).status_code == 303
    do_job(settings, newest_job(rows, "import").id)
    assert series_count(rows) == 1


def test_columns_are_kept_offered_for_the_same_header_and_deleted(trader, rows, settings):
    odd = b"Wann,Auf,Hoch,Tief,Zu\n2020-01-06,1,3,1,2\n2020-01-07,1,3,1,2\n"
    where = looked_at(trader, rows, settings, odd, "ACME.csv")
    form = confirmed(trader.get(where).text)
    columns = {"time": "Wann", "open": "Auf", "high": "Hoch", "low": "Tief", "close": "Zu"}
    form |= {f"map.{word}": name for word, name in columns.items()}
    form |= {"map.date_style": "year-first", "interval": "1d", "save_mapping": "odd"}
    trader.post(where, data=form)
    do_job(settings, newest_job(rows, "import").id)
    again = looked_at(trader, rows, settings, odd.replace(b"01-", b"02-"), "ACME.csv")
    assert "Read with the columns saved as odd" in trader.get(again).text
    assert "Close = Zu" in trader.get("/data/import").text
    rows.rollback()
    saved = rows.scalars(sa.select(ImportMappingRow)).one()
    trader.post(f"/data/import/mappings/{saved.id}/delete")
    assert "Close = Zu" not in trader.get("/data/import").text
    deleted = sa.select(AuditRow).where(AuditRow.action == "import_mapping.deleted")
    rows.rollback()
    assert rows.scalars(deleted).one().subject == "odd"


def test_several_files_at_once_are_each_looked_into(trader, rows, settings):
    files = [(io.BytesIO(CSV.encode()), "ONE.csv"), (io.BytesIO(b"\x1f\x8b broken"), "TWO.csv.gz")]
    answer = trader.post(
        "/data/import",
        data={"file": files, "command_id": str(uuid4())},
        content_type="multipart/form-data",
    )
    assert answer.location.startswith("/data/import/several?job=")
    assert "looking…" in trader.get(answer.location).text
    for job in rows.scalars(sa.select(JobRow).where(JobRow.kind == "inspect")):
        do_job(settings, job.id)
    page = trader.get(answer.location).text
    assert "10 rows" in page
    assert "the gzip file is damaged" in page
    assert page.count("/data/import/") == 2
    assert "No such files" in trader.get("/data/import/several?job=x").text


def test_pages_of_importing_are_sound(app, trader, rows, settings):
    where = looked_at(trader, rows, settings)
    bad = looked_at(trader, rows, settings, b"a,b\n1,2\n", "bad.csv")
    upload(trader, CSV.encode(), "waiting.csv")
    waiting = f"/data/import/{newest_job(rows, 'inspect').id}"
    archive = looked_at(trader, rows, settings, zipped(XBTUSD_1=KRAKEN, a="x,y\n"), "kraken.zip")
    symbols = looked_at(trader, rows, settings, LONG.encode(), "long.csv")
    several = f"/data/import/several?job={newest_job(rows, 'inspect').id}"
    for path in ("/data/import", where, bad, waiting, archive, symbols, several):
        answer = trader.get(path)
        page = read(answer.text)
        assert answer.status_code == 200
        assert page.wrong + lost_addresses(app, page) == [], path
