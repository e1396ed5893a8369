"""Files on their way in: chosen, looked into, confirmed, imported."""

import gzip
import io
from uuid import uuid4

import pytest

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


def test_pages_of_importing_are_sound(app, trader, rows, settings):
    where = looked_at(trader, rows, settings)
    bad = looked_at(trader, rows, settings, b"a,b\n1,2\n", "bad.csv")
    upload(trader, CSV.encode(), "waiting.csv")
    waiting = f"/data/import/{newest_job(rows, 'inspect').id}"
    for path in ("/data/import", where, bad, waiting):
        answer = trader.get(path)
        page = read(answer.text)
        assert answer.status_code == 200
        assert page.wrong + lost_addresses(app, page) == [], path
