"""Data: what there is, and how whole it is."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from engine.history import NewBar, add_bars, coverage, series_of
from shared.db.market import InstrumentRow
from tests.webapp.history import (
    FIRST,
    SPLIT_AT,
    acme_bars,
    do_job,
    newest_job,
    some_stocks,
)
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from webapp import coverage as console_coverage
from webapp import series

PARTIAL = {"HX-Request": "true"}


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


def test_a_viewer_may_look_and_not_bring_in(viewer, stocks):
    page = viewer.get("/data").text
    assert "Import a file" not in page
    assert viewer.get("/data/import").status_code == 403
    assert viewer.post("/data/sample").status_code == 403


def test_pages_of_data_are_sound(app, trader, stocks):
    paths = [
        "/data", "/data?source=sample", f"/data/{stocks.acme_series}",
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


# Findings, and the picture of what there is ------------------------------------------------


def looked_over(trader, settings, rows, path="/data/look-over"):
    answer = trader.post(path, data={"command_id": str(uuid4())})
    assert answer.status_code in (302, 303)
    do_job(settings, newest_job(rows, "quality").id)


def test_the_picture_counts_bars_by_series_and_day(viewer, stocks):
    shown = viewer.get("/data/coverage.json").json
    assert shown["unit"] in ("day", "week")
    [acme] = [row for row in shown["rows"] if row["name"].startswith("ACME")]
    assert sum(acme["bars"]) == 300
    assert abs(sum(acme["expected"]) - 300) < 20, (
        "but for the exchange's holidays, which ACME keeps not"
    )
    near = viewer.get("/data/coverage.json?from=2020-02-03&to=2020-02-07").json
    assert len(near["starts"]) == 6, "five days, and the day after the last"
    assert viewer.get("/data/coverage.json?from=soon").status_code == 400
    table = viewer.get("/data/coverage/table", headers=PARTIAL).text
    assert "ACME" in table
    assert ">2020<" in table


def test_what_is_found_is_told_with_candles_around_it(trader, rows, settings, stocks):
    path = f"/data/{stocks.acme_series}"
    assert "Not looked over yet" in trader.get(path).text
    looked_over(trader, settings, rows)
    page = trader.get(path).text
    assert "Likely splits" in page
    assert "the adjusted one does not" in page
    assert "1 likely split" in trader.get("/data").text
    around = trader.get(f"{path}/around?at=2020-06-01T00:00:00%2B00:00", headers=PARTIAL)
    assert "Show it in the large chart" in around.text
    candles = trader.get(f"{path}/around.json?at=2020-06-01T00:00:00%2B00:00").json
    assert 30 < len(candles["candles"]) <= 61
    assert trader.get(f"{path}/around").status_code == 400
    part = trader.get(f"{path}/findings", headers=PARTIAL)
    assert part.status_code == 200
    verdicts = trader.get(f"/data/verdicts?in.main.series={stocks.acme_series}", headers=PARTIAL)
    assert "1 likely split" in verdicts.text


def test_limits_of_a_look_are_the_user_s_and_wrong_ones_are_said(trader, rows, settings, stocks):
    path = f"/data/{stocks.acme_series}/look-over"
    trader.post(path, data={"command_id": str(uuid4()), "outlier": "many"})
    job = newest_job(rows, "quality")
    do_job(settings, job.id)
    assert "outlier: 'many' is not a number" in newest_job(rows, "quality").error
    trader.post(path, data={"command_id": str(uuid4()), "outlier_least": "2,5"})
    assert newest_job(rows, "quality").arguments["limits"] == {"outlier_least": "0.025"}


def test_a_viewer_sees_findings_and_asks_for_none(viewer, stocks):
    assert "Look over what changed" not in viewer.get("/data").text
    assert viewer.post("/data/look-over").status_code == 403
    assert viewer.post(f"/data/{stocks.acme_series}/look-over").status_code == 403


def test_findings_of_earlier_bars_are_labelled(trader, rows, settings, stocks):
    looked_over(trader, settings, rows)
    at = datetime(2030, 1, 1, tzinfo=UTC)
    add_bars(
        rows.connection(),
        stocks.acme_series,
        [NewBar(at, at + timedelta(hours=6), "1", "1", "1", "1", "1")],
    )
    rows.commit()
    page = trader.get(f"/data/{stocks.acme_series}").text
    assert "These are of earlier bars" in page
    assert "hash not worked out for the bars of now" in page
