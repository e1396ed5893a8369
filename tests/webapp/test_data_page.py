"""Data: what there is, how whole it is, and files on their way in."""

import gzip
import io
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from engine.history import NewBar, add_bars, coverage, series_of
from shared.db.market import InstrumentRow
from shared.jobs import ImportRequest
from tests.webapp.history import FIRST, SPLIT_AT, acme_bars, do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from webapp import coverage as console_coverage
from webapp import series

PARTIAL = {"HX-Request": "true"}
CSV = "Date,Open,High,Low,Close,Volume\n" + "".join(
    f"2024-01-{day:02},10,11,9,10.{day:02},100\n" for day in range(2, 12)
)


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


def test_an_empty_installation_is_offered_the_sample_and_an_import(trader):
    page = trader.get("/data").text
    assert "No real history yet" in page
    assert "Load sample data" in page
    assert "/data/import" in page


def test_every_series_is_listed_with_its_line_and_its_label(trader, stocks):
    page = trader.get("/data").text
    assert "ACME" in page
    assert "TINY/USD" in page
    assert page.count("<polyline") == 2
    assert "No real history yet" not in page


def test_simulated_bars_are_labelled_where_they_are_shown(trader, rows, stocks):
    made_up = InstrumentRow(
        venue="simulated", symbol="FAKE/USD", base_asset="FAKE", quote_asset="USD", calendar="24/7"
    )
    rows.add(made_up)
    rows.flush()
    made = series_of(rows.connection(), made_up.id, "simulated", 60, simulated=True)
    at = datetime(2024, 3, 1, tzinfo=UTC)
    add_bars(
        rows.connection(), made, [NewBar(at, at + timedelta(minutes=1), "1", "1", "1", "1", "1")]
    )
    rows.commit()
    assert "simulated" in trader.get("/data?source=simulated").text
    assert "ACME" not in trader.get("/data?source=simulated").text.split("<tbody>")[1]
    assert "Invented prices" in trader.get(f"/data/{made}").text


def test_candles_come_in_windows_and_older_ones_on_request(trader, stocks):
    newest = trader.get(f"/data/{stocks.acme_series}/candles.json?limit=50").json["candles"]
    assert len(newest) == 50
    older = trader.get(
        f"/data/{stocks.acme_series}/candles.json?limit=50&before={newest[0][0]}"
    ).json
    assert len(older["candles"]) == 50
    assert older["candles"][-1][0] < newest[0][0]
    everything = trader.get(f"/data/{stocks.acme_series}/candles.json?limit=99999").json["candles"]
    assert len(everything) == 300


def test_candles_of_a_finer_interval_than_is_stored_are_refused(trader, stocks):
    answer = trader.get(f"/data/{stocks.acme_series}/candles.json?interval=60")
    assert answer.status_code == 400
    assert "multiple of 86400" in answer.text


def test_coverage_counts_as_the_engine_does(app, rows, stocks):
    """The engine fills quiet intervals when it reads bars; the console counts them without the engine."""
    with app.test_request_context():
        for series_id in (stocks.acme_series, stocks.tiny_series):
            shown = console_coverage.coverage(series.stored(series_id))
            truth = coverage(rows, series_id)
            assert (shown.quiet, shown.revised) == (truth.filled, truth.revised)


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XNYS"])
def test_quiet_intervals_are_counted_by_the_calendar_as_the_engine_fills_them(app, rows, calendar):
    """Minutes of a Friday and the Monday after it, across the change of clocks, with minutes missing."""
    row = InstrumentRow(
        venue="replay", symbol=f"C{calendar}", base_asset="C", quote_asset="USD", calendar=calendar
    )
    rows.add(row)
    rows.flush()
    id_ = series_of(rows.connection(), row.id, "import", 60)
    starts = [datetime(2024, 3, 8, 14, 30, tzinfo=UTC), datetime(2024, 3, 11, 13, 30, tzinfo=UTC)]
    minutes = [
        start + timedelta(minutes=m)
        for start in starts
        for m in range(390)
        if m % 7 and m not in range(60, 80)
    ]
    add_bars(
        rows.connection(),
        id_,
        [NewBar(at, at + timedelta(minutes=1), "5", "6", "4", "5", "1") for at in minutes],
    )
    rows.commit()
    with app.test_request_context():
        shown = console_coverage.coverage(series.stored(id_))
    assert shown.quiet == coverage(rows, id_).filled


def test_a_correction_is_counted_as_a_revision(app, rows, trader, stocks):
    changed = acme_bars()[10]
    better = NewBar(
        changed.opened_at,
        changed.closed_at,
        changed.open,
        changed.high,
        changed.low,
        changed.open,
        "7",
        "90",
    )
    add_bars(rows.connection(), stocks.acme_series, [better])
    rows.commit()
    fragment = trader.get(f"/data/{stocks.acme_series}/coverage", headers=PARTIAL).text
    assert "Revised bars</dt><dd>1" in fragment


def test_a_split_of_raw_prices_is_found_by_the_adjusted_ones(app, stocks):
    with app.test_request_context():
        one = series.stored(stocks.acme_series)
        [split] = series.likely_splits(one, one.row.first_opened_at, one.row.last_closed_at)
        assert split.at == acme_bars()[SPLIT_AT].opened_at
        assert split.ratio == pytest.approx(2, rel=0.01)
        assert series.likely_splits(one, FIRST, FIRST + timedelta(days=30)) == []


def test_all_bars_can_be_taken_away_as_csv(viewer, stocks):
    answer = viewer.get(f"/data/{stocks.acme_series}/bars.csv")
    lines = answer.text.splitlines()
    assert answer.mimetype == "text/csv"
    assert lines[0].startswith("opened_at,closed_at,open")
    assert len(lines) == 301
    assert lines[1].startswith("2020-01-06T14:30:00+00:00,2020-01-06T21:00:00+00:00,100.00")


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


def confirmed(page):
    """The confirmation form as a browser would send it, unchanged."""
    from html.parser import HTMLParser

    class Form(HTMLParser):
        def __init__(self):
            super().__init__()
            self.values, self.select = {}, None

        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            if tag == "input" and given.get("name"):
                self.values[given["name"]] = given.get("value", "")
            if tag == "select":
                self.select = given["name"]
            if (
                tag == "option"
                and self.select
                and ("selected" in given or self.select not in self.values)
            ):
                self.values[self.select] = given.get("value", "")

        def handle_endtag(self, tag):
            if tag == "select":
                self.select = None

    form = Form()
    form.feed(page)
    return form.values


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


def test_a_viewer_may_look_and_not_bring_in(viewer, stocks):
    page = viewer.get("/data").text
    assert "Import a file" not in page
    assert viewer.get("/data/import").status_code == 403
    assert viewer.post("/data/sample").status_code == 403


def test_a_file_that_is_not_kept_any_more_is_asked_for_again(trader, rows, settings):
    where = looked_at(trader, rows, settings)
    form = confirmed(trader.get(where).text)
    for file in (settings.home / "uploads").iterdir():
        file.unlink()
    answer = trader.post(where, data=form)
    assert answer.status_code == 422
    assert "is not kept any more" in answer.text


def test_pages_of_data_are_sound(app, trader, rows, settings, stocks):
    where = looked_at(trader, rows, settings)
    bad = looked_at(trader, rows, settings, b"a,b\n1,2\n", "bad.csv")
    upload(trader, CSV.encode(), "waiting.csv")
    waiting = f"/data/import/{newest_job(rows, 'inspect').id}"
    paths = [
        "/data", "/data?source=sample", "/data/import", where, bad, waiting, f"/data/{stocks.acme_series}",
        f"/data/{stocks.tiny_series}?interval=300",
    ]  # fmt: skip
    for path in paths:
        answer = trader.get(path)
        page = read(answer.text)
        assert answer.status_code == 200
        assert page.wrong + lost_addresses(app, page) == [], path
    for path in (
        "/data/under-way", f"/data/{stocks.acme_series}/coverage", f"/data/{stocks.tiny_series}/coverage",
        f"/data/{stocks.acme_series}/candles/table",
    ):  # fmt: skip
        fragment = read(trader.get(path, headers=PARTIAL).text)
        assert fragment.wrong + lost_addresses(app, fragment) == [], path
        assert "html" not in fragment.tags


def test_what_is_under_way_refreshes_the_page_when_it_has_come_in(trader, rows):
    trader.post("/data/sample", data={"command_id": str(uuid4())})
    assert "Load sample data" in trader.get("/data/under-way", headers=PARTIAL).text
    job = newest_job(rows, "sample_data")
    job.state = "done"
    rows.commit()
    assert trader.get("/data/under-way?had=1", headers=PARTIAL).headers["HX-Refresh"] == "true"
    assert "HX-Refresh" not in trader.get("/data/under-way", headers=PARTIAL).headers
