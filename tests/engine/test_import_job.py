"""Imports as jobs and on the command line: everything of a file is stored, or nothing is."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from deploy.cli import main
from engine import jobs
from engine.history import series_bars
from engine.importing import sample
from shared import queueing
from shared.db.backtests import JobRow
from shared.db.market import BarRow, ImportRow, InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.db.trading import EventRow
from shared.jobs import ImportRequest, InspectRequest, SampleDataRequest
from shared.settings import ROOT

DAILY = "Date,Open,High,Low,Close,Adj Close,Volume\n" + "".join(
    f"2020-01-{day:02},{day},{day + 2},{day - 1},{day + 1},{day}.5,1000\n"
    for day in (6, 7, 8, 9, 10)
)


@pytest.fixture
def sessions(settings):
    (settings.home / "uploads").mkdir()
    made = make_sessions(settings.database_url)
    yield made
    made.kw["bind"].dispose()


@pytest.fixture
def command_line(sessions, settings, monkeypatch):
    """Run `seraphim` in this process, on this test's installation."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        try:
            return main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse
            return end.code

    return run


def environment(settings):
    return {
        "SERAPHIM_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
    }


def upload(settings, text=DAILY, name="acme.csv"):
    (settings.home / "uploads" / name).write_text(text)
    return name


def an_import(path, **changed):
    wanted = {
        "path": path, "file_name": "acme.csv", "symbol": "ACME", "interval": "1d", "calendar": "XNYS",
    }  # fmt: skip
    return ImportRequest(**(wanted | changed))


def run(sessions, settings, request, listener=None):
    """The job's row after it was run in this process."""
    with sessions() as session:
        job = queueing.ask(session, None, request, title="Import acme.csv", actor="me")
    jobs.perform(sessions, None, settings, job.id, 1, worker="here", listener=listener)
    with sessions() as session:
        return session.get_one(JobRow, job.id)


def count(sessions, *rows):
    with sessions() as session:
        return [session.scalar(sa.select(sa.func.count()).select_from(row)) for row in rows]


def test_a_file_becomes_an_instrument_a_series_and_its_bars(sessions, settings):
    job = run(sessions, settings, an_import(upload(settings)))
    assert job.state == "done"
    assert job.result["text"] == "ACME 1d: 5 bars added"
    with sessions() as session:
        instrument = session.scalars(sa.select(InstrumentRow)).one()
        series = session.scalars(sa.select(SeriesRow)).one()
        taken = session.scalars(sa.select(ImportRow)).one()
        first = session.scalars(sa.select(BarRow).order_by(BarRow.opened_at)).first()
        assert series_bars(session, series.id).close.tolist() == [7, 8, 9, 10, 11]
        told = session.scalars(sa.select(EventRow)).one()
    assert (instrument.venue, instrument.symbol, instrument.calendar) == ("replay", "ACME", "XNYS")
    assert (series.source, series.bars, series.simulated) == ("import", 5, False)
    assert (first.adjusted_close, first.job_id) == (Decimal("6.5"), job.id)
    assert (taken.rows_read, taken.rows_added, taken.job_id) == (5, 5, job.id)
    assert "adjusted_close=Adj Close" in taken.mapping
    assert told.text == "Import acme.csv: ACME 1d: 5 bars added"
    assert told.link == job.result["link"] == f"/data/{series.id}"
    assert list((settings.home / "uploads").iterdir()) == []


def test_the_same_file_again_adds_nothing_and_a_changed_one_revises(sessions, settings):
    run(sessions, settings, an_import(upload(settings)))
    again = run(sessions, settings, an_import(upload(settings)))
    assert again.result["text"] == "ACME 1d: 0 bars added, 5 already there"
    changed = upload(settings, DAILY.replace("9.5,1000", "9.5,2000"))
    revised = run(sessions, settings, an_import(changed))
    assert revised.result["text"] == "ACME 1d: 0 bars added, 1 revised, 4 already there"
    assert count(sessions, BarRow, ImportRow) == [6, 3]


def test_one_bad_row_refuses_the_whole_file_and_leaves_no_trace(sessions, settings):
    path = upload(settings, DAILY + "2020-01-13,1,2,0.5,oops,1,1\n")
    job = run(sessions, settings, an_import(path))
    assert job.state == "failed"
    assert job.error == 'acme.csv: line 7, Close "oops": is no number.'
    assert count(sessions, BarRow, SeriesRow, InstrumentRow, ImportRow) == [0, 0, 0, 0]
    assert (settings.home / "uploads" / path).exists()  # to try again with another mapping


def test_the_confirmed_mapping_is_what_is_imported(sessions, settings):
    path = upload(settings, DAILY.replace("Close,Adj Close", "Settle,Close"))
    mapping = {"time": "Date", "open": "Open", "high": "High", "low": "Low", "close": "Settle",
               "volume": "", "date_style": "year-first"}  # fmt: skip
    run(sessions, settings, an_import(path, mapping=mapping))
    with sessions() as session:
        bar = session.scalars(sa.select(BarRow).order_by(BarRow.opened_at)).first()
    assert (bar.close, bar.volume, bar.adjusted_close) == (7, 0, None)


def test_an_import_cancelled_on_the_way_stores_nothing(sessions, settings):
    start = datetime(2015, 1, 1, tzinfo=UTC)
    text = "time,open,high,low,close,volume\n" + "".join(
        f"{start + timedelta(minutes=n):%Y-%m-%d %H:%M},1,1,1,1,1\n" for n in range(300_000)
    )
    request = an_import(upload(settings, text), interval="1m", calendar="24/7")
    heard = []

    def call_off(fraction, said):
        heard.append(fraction)
        if fraction > 0:
            with sessions() as session:
                session.execute(sa.update(JobRow).values(cancel_requested_at=datetime.now(UTC)))
                session.commit()

    job = run(sessions, settings, request, call_off)
    assert job.state == "cancelled"
    assert 0 < heard[-1] < 1
    assert count(sessions, BarRow, SeriesRow, InstrumentRow) == [0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"symbol": " "}, "the symbol is missing"),
        ({"symbol": "<b>X</b>"}, "symbol '<b>X</b>': use up to 40 letters"),
        ({"interval": "1x"}, "write a number and a unit"),
        ({"calendar": "LSE"}, "calendar 'LSE' is none of"),
        ({"timezone": "Mars/Base"}, "'Mars/Base' is no time zone"),
        ({"mapping": {"colour": "red"}}, "colour"),
        ({"mapping": {"close": "Settle"}}, 'there is no such column for close. The columns are Date'),
        ({"path": "../secret_key"}, "is no name of an uploaded file"),
        ({"path": ""}, "is no name of an uploaded file"),
        ({"path": "gone.csv"}, "acme.csv: is not there. Give it again."),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_done_is_refused_with_its_reason(
    sessions, settings, changed, said
):
    job = run(sessions, settings, an_import(**({"path": upload(settings)} | changed)))
    assert job.state == "failed"
    assert said in job.error
    assert count(sessions, BarRow, InstrumentRow) == [0, 0]


def test_one_symbol_is_not_mixed_from_two_calendars(sessions, settings):
    run(sessions, settings, an_import(upload(settings)))
    job = run(sessions, settings, an_import(upload(settings), calendar="24/7"))
    assert "ACME is stored with the calendar XNYS, and this import says 24/7" in job.error
    assert count(sessions, BarRow) == [5]


def test_a_look_tells_what_is_in_a_file_without_storing_anything(sessions, settings):
    job = run(sessions, settings, InspectRequest(upload(settings), "acme.csv"))
    assert job.state == "done"
    assert (job.result["symbol"], job.result["calendar"], job.result["rows"]) == ("ACME", "XNYS", 5)
    assert job.result["mapping"]["adjusted_close"] == "Adj Close"
    assert job.result["first"][0]["opened_at"] == "2020-01-06 14:30:00"
    assert count(sessions, BarRow, EventRow) == [0, 0]


def test_sample_data_is_five_stocks_and_loading_it_again_adds_nothing(sessions, settings):
    with gzip.open(sample.stocks_file(), "rt") as file:
        lines = sum(1 for _ in file) - 1
    first = run(sessions, settings, SampleDataRequest())
    assert first.result["rows_added"] == lines > 12_000
    assert set(first.result["series"]) == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}
    again = run(sessions, settings, SampleDataRequest())
    assert (again.result["rows_added"], again.result["rows_unchanged"]) == (0, lines)
    with sessions() as session:
        bars = series_bars(session, first.result["series"]["AAPL"])
        tick, lot = session.execute(
            sa.select(InstrumentRow.tick_size, InstrumentRow.lot_size).where(
                InstrumentRow.symbol == "AAPL"
            )
        ).one()
    assert bars.bar(0).opened_at == datetime(2000, 3, 1, 14, 30, tzinfo=UTC)
    assert (bars.close[0], bars.volume[-1]) == (130.31, 19730300)
    assert (tick, lot) == (Decimal("0.01"), None)
    assert count(sessions, BarRow) == [lines]


# --- the command line -------------------------------------------------------------------------------


def test_the_command_line_shows_what_it_found_and_imports_it(command_line, tmp_path, capsys):
    file = tmp_path / "acme_1day.csv"
    file.write_text(DAILY)
    assert command_line("import", file, "--yes") == 0
    shown = capsys.readouterr().out
    assert "close = Close" in shown
    assert "year-first ('2020-01-06' on line 2)" in shown
    assert "symbol     ACME, in USD, calendar XNYS" in shown
    assert shown.endswith("ACME 1d: 5 bars added\n")


def test_the_command_line_does_not_import_unasked(command_line, sessions, tmp_path, capsys):
    file = tmp_path / "acme.csv"
    file.write_text(DAILY)
    assert command_line("import", file) == 2
    assert "add --yes" in capsys.readouterr().err
    assert count(sessions, JobRow, BarRow) == [0, 0]


def test_the_command_line_can_be_told_everything(command_line, tmp_path, sessions, capsys):
    file = tmp_path / "odd.csv"
    file.write_text("When,O,H,L,Last,V\n03/04/2020,1,3,1,2,5\n04/04/2020,1,3,1,2,5\n")
    options = ["--symbol", "ODD/EUR", "--interval", "1d", "--calendar", "24/7", "--quote", "EUR"]
    columns = "time=When,close=Last,volume="
    assert (
        command_line("import", file, *options, "--columns", columns, "--day-first", "--json") == 0
    )
    assert json.loads(capsys.readouterr().out)["rows_added"] == 2
    with sessions() as session:
        instrument = session.scalars(sa.select(InstrumentRow)).one()
        bar = session.scalars(sa.select(BarRow).order_by(BarRow.opened_at)).first()
    assert (instrument.base_asset, instrument.quote_asset) == ("ODD", "EUR")
    assert (bar.opened_at, bar.volume) == (datetime(2020, 4, 3, tzinfo=UTC), 0)


@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        (None, [], 2, "there is no such file"),
        ("", [], 1, "the file is empty"),
        (DAILY.replace(",8,", ",x,", 1), ["--yes"], 1, '"x": is no number'),
        (DAILY, ["--columns", "colour=Close"], 2, "write WORD=COLUMN"),
        (DAILY, ["--interval", "daily", "--yes"], 2, "write a number and a unit"),
        (DAILY, ["--columns", "close=Last", "--yes"], 1, "there is no such column for close"),
        (DAILY.splitlines()[0] + "\n2020-01-06,1,1,1,1,1,1\n", ["--yes"], 2, "say --interval"),
    ],
)
def test_the_command_line_refuses_with_a_reason_and_an_exit_code(
    command_line, tmp_path, sessions, capsys, text, options, code, said
):
    file = tmp_path / "acme.csv"
    if text is not None:
        file.write_text(text)
    assert command_line("import", file, *options) == code
    assert said in capsys.readouterr().err
    assert count(sessions, BarRow) == [0]


def test_sample_data_loads_from_the_command_line(command_line, capsys):
    assert command_line("sample-data") == 0
    assert capsys.readouterr().out == "12,154 daily bars of AAPL, FB, GOOG, IBM, MSFT\n"


def test_an_import_killed_on_the_way_leaves_nothing_and_is_done_by_a_worker(
    sessions, settings, tmp_path
):
    start = datetime(2015, 1, 1, tzinfo=UTC)
    file = tmp_path / "btcusd.csv"
    file.write_text(
        "time,open,high,low,close,volume\n"
        + "".join(
            f"{start + timedelta(minutes=n):%Y-%m-%d %H:%M},1,1,1,1,1\n" for n in range(200_000)
        )
    )
    command = [sys.executable, "-m", "deploy", "import", str(file), "--yes"]
    importing = subprocess.Popen(
        command, env=os.environ | environment(settings), cwd=ROOT, stdout=subprocess.DEVNULL
    )
    job = None
    until = time.monotonic() + 30
    while job is None:
        assert time.monotonic() < until
        with sessions() as session:
            job = session.scalars(sa.select(JobRow).where(JobRow.progress > 0.2)).one_or_none()
    importing.send_signal(signal.SIGKILL)
    importing.wait()
    assert count(sessions, BarRow, SeriesRow) == [0, 0]
    with sessions() as session:
        assert jobs.lose(session, job.id, 1, "killed") == 2
    jobs.perform(sessions, None, settings, job.id, 2, worker="another")
    with sessions() as session:
        assert session.get_one(JobRow, job.id).result["rows_added"] == 200_000
    assert count(sessions, BarRow) == [200_000]
