"""The report of a run: every number with its how, pictures and tables without a script, files of every kind."""

import csv
import io
import re
import time
import zlib
from uuid import uuid4

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from shared.db.backtests import RunFillRow, RunRow, RunSeriesRow, RunTradeRow
from shared.report.numbers import MAIN, TITLES
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from webapp import run_columns

PARTIAL = {"HX-Request": "true"}
MOST_MILLISECONDS = 300


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture
def run(app, trader, rows, settings, stocks):
    """A cross of ACME with many trades."""
    return a_run(app, trader, rows, settings, stocks)


def a_run(app, trader, rows, settings, stocks, **changed):
    app.config["JOB_WAIT_SECONDS"] = 0
    offered = confirmed(trader.get(f"/research/new?series={stocks.acme_series}").text)
    asked = {
        **offered,
        "rules": "off",
        "p.short_window": "3",
        "p.long_window": "8",
        "command_id": str(uuid4()),
        **changed,
    }
    assert trader.post("/research/new", data=asked).status_code == 303
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(RunRow, job.result["run_id"])


def plain(html):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def trades_of(rows, run):
    query = sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id).order_by(RunTradeRow.number)
    return rows.scalars(query).all()


# The page ---------------------------------------------------------------------------------------


def test_every_number_of_a_run_is_on_its_page_with_formula_inputs_and_count(viewer, run):
    page = viewer.get(f"/research/runs/{run.id}").text
    assert set(run.metrics) == set(TITLES)
    for name, metric in run.metrics.items():
        line = page[page.index(f'id="number-{name}"') :]
        line = line[: line.index("</li>")]
        assert metric["how"][:40].replace("&", "&amp;").replace("'", "&#39;") in line, name
        assert "<dt>from</dt>" in line
        assert str(metric["value"]) in line or metric["reason"] in plain(line)
    for name in MAIN:
        assert f'id="tile-{name}"' in page


def test_pictures_are_there_without_a_script(viewer, run):
    page = viewer.get(f"/research/runs/{run.id}").text
    for name in ("rolling-sharpe", "exposure", "daily-returns", "trade-returns", "mae", "mfe"):
        section = page[page.index(f'id="picture-{name}"') :]
        assert '<svg class="plot' in section[: section.index("</section>")], name
    still = page[page.index("<noscript>") : page.index("</noscript>")]
    assert still.count('<svg class="plot') == 2
    months = page[page.index('id="run-months"') :]
    assert months[: months.index("</details>")].count("<tr>") > 12


def test_months_tell_equity_as_the_curve_has_it(app, viewer, run):
    with app.test_request_context():
        days = run_columns.kept(run).days
    text = plain(viewer.get(f"/research/runs/{run.id}").text)
    last = f"{days.equity[-1]:,.2f}".replace(",", " ")
    month = str((days.number[-1:].astype("datetime64[D]"))[0].astype("datetime64[M]"))
    assert last in text
    assert month.startswith("2021")


def test_trades_are_grouped_by_what_is_asked_and_none_is_lost(viewer, rows, run):
    closed = [t for t in trades_of(rows, run) if t.exit_at]
    assert len(closed) > 3
    for by in ("instrument", "side", "exit_reason", "weekday", "hour", "month"):
        page = viewer.get(f"/research/runs/{run.id}/groups?by={by}", headers=PARTIAL).text
        assert read(page).wrong == []
        assert sum(counted(page).values()) == len(closed), by
    days = [f"{t.entry_at:%A}" for t in closed]
    weekdays = viewer.get(f"/research/runs/{run.id}/groups?by=weekday", headers=PARTIAL).text
    assert counted(weekdays) == {day: days.count(day) for day in set(days)}


def counted(page):
    """How many trades each group of a table has."""
    cells = re.findall(r'<tr><td><b>(.*?)</b>.*?</td><td class="num">(\d+)</td>', page)
    return {name: int(count) for name, count in cells}


def test_the_page_s_address_chooses_the_group(viewer, rows, run):
    page = viewer.get(f"/research/runs/{run.id}?by=weekday").text
    assert "By weekday of entry, UTC" in page
    assert f"{trades_of(rows, run)[0].entry_at:%A}" in page
    assert viewer.get(f"/research/runs/{run.id}?by=nonsense").status_code == 200


def test_trades_tell_how_far_prices_went(app, viewer, rows, run):
    first = trades_of(rows, run)[0]
    with app.test_request_context():
        against, favour = run_columns.excursions(run.id, [first.number])[first.number]
        assert run_columns.excursions(run.id, [10_000]) == {}
    assert against >= 0
    assert favour >= max(0.0, first.return_fraction) - 1e-3
    text = plain(viewer.get(f"/research/runs/{run.id}/rows?order=worst", headers=PARTIAL).text)
    assert "Against / for" in text


def test_a_run_without_a_trade_says_so_everywhere(app, trader, rows, settings, stocks):
    flat = a_run(
        app, trader, rows, settings, stocks, **{"p.short_window": "200", "p.long_window": "290"}
    )
    page = trader.get(f"/research/runs/{flat.id}")
    assert page.status_code == 200
    assert read(page.text).wrong == []
    assert "By instrument" not in page.text
    assert 'id="picture-mae"' not in page.text
    assert 'id="picture-exposure"' not in page.text
    assert "No trade: the strategy asked for none in this range" in page.text
    assert "no closed trade" in page.text
    for path in ("report.html", "trades.csv", "trades.parquet", "fills.parquet", "equity.parquet"):
        assert trader.get(f"/research/runs/{flat.id}/{path}").status_code == 200, path


def test_a_run_from_before_reports_were_kept_still_has_its_page(viewer, rows, run):
    kept = ("times", "equity", "exposure", "close", "ledger")
    rows.execute(
        sa.delete(RunSeriesRow).where(RunSeriesRow.run_id == run.id, RunSeriesRow.name.not_in(kept))
    )
    rows.execute(
        sa.update(RunRow)
        .where(RunRow.id == run.id)
        .values(metrics={name: run.metrics[name] for name in ("sharpe", "trades", "total_return")})
    )
    rows.commit()
    page = viewer.get(f"/research/runs/{run.id}")
    assert page.status_code == 200
    assert 'id="tile-sharpe"' in page.text
    assert 'id="groups"' not in page.text
    assert "Monthly return" in page.text
    assert viewer.get(f"/research/runs/{run.id}/report.html").status_code == 200
    assert viewer.get(f"/research/runs/{run.id}/trades.csv").status_code == 200


def test_pages_and_parts_are_sound(app, viewer, run):
    for path in ("", "?by=month", "?order=worst"):
        page = read(viewer.get(f"/research/runs/{run.id}{path}").text)
        assert page.wrong + lost_addresses(app, page) == [], path
        assert page.tags.count("h1") == 1


# Files ------------------------------------------------------------------------------------------


def test_parquet_and_csv_hold_the_stored_rows(viewer, rows, run):
    for name, model in (("trades", RunTradeRow), ("fills", RunFillRow)):
        stored = rows.scalars(
            sa.select(model).where(model.run_id == run.id).order_by(model.number)
        ).all()
        answer = viewer.get(f"/research/runs/{run.id}/{name}.parquet")
        assert f'filename="run-{run.id}-{name}.parquet"' in answer.headers["Content-Disposition"]
        table = pq.read_table(io.BytesIO(answer.data))
        lines = list(
            csv.DictReader(io.StringIO(viewer.get(f"/research/runs/{run.id}/{name}.csv").text))
        )
        assert table.column_names == list(lines[0])
        assert table["number"].to_pylist() == [row.number for row in stored]
        assert [int(line["number"]) for line in lines] == [row.number for row in stored]
        column = "pnl" if name == "trades" else "price"
        assert table[column].to_pylist() == [float(getattr(row, column)) for row in stored]
        assert [float(line[column]) for line in lines] == table[column].to_pylist()
    equity = pq.read_table(io.BytesIO(viewer.get(f"/research/runs/{run.id}/equity.parquet").data))
    assert equity["equity"][-1].as_py() == run.metrics["final_equity"]["value"]
    assert equity.num_rows == 301


def test_trades_in_files_have_their_excursions_and_ends(viewer, rows, run):
    lines = list(
        csv.DictReader(io.StringIO(viewer.get(f"/research/runs/{run.id}/trades.csv").text))
    )
    for line, trade in zip(lines, trades_of(rows, run), strict=True):
        assert float(line["mae"]) >= 0
        assert line["entry_at"] == trade.entry_at.isoformat()
        assert bool(line["exit_at"]) == (trade.exit_at is not None) == bool(line["exit_price"])
        assert line["exit_reason"] == trade.exit_reason


def test_the_report_is_one_file_that_needs_nothing(viewer, rows, run):
    answer = viewer.get(f"/research/runs/{run.id}/report.html")
    assert f'filename="run-{run.id}-report.html"' in answer.headers["Content-Disposition"]
    text = answer.text
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|://", text)
    assert run.digest in text
    assert run.code_hash in text
    assert all(run.inputs[key]["data_hash"] in text for key in run.inputs)
    said = plain(text)
    for name in ("Moving average cross", "ACME 1d", "By weekday of entry, UTC", "Deepest falls"):
        assert name in said
    assert text.count('<svg class="plot') == 8


def test_files_that_do_not_exist_are_not_found(viewer, run):
    for path in ("decisions.parquet", "nonsense.csv", "groups.csv"):
        assert viewer.get(f"/research/runs/{run.id}/{path}").status_code == 404
    for path in ("report.html", "trades.parquet", "groups", "trades.csv"):
        assert viewer.get(f"/research/runs/999/{path}").status_code == 404


# Very many --------------------------------------------------------------------------------------


@pytest.fixture
def huge(rows, run):
    """The run as if it had made 20,000 trades."""
    count = 20_000
    random = np.random.default_rng(1)
    model = trades_of(rows, run)[0]
    same = {
        column.name: getattr(model, column.name)
        for column in RunTradeRow.__table__.columns
        if column.name != "number"
    }
    rows.execute(sa.delete(RunTradeRow).where(RunTradeRow.run_id == run.id))
    for first in range(0, count, 2_000):
        rows.execute(
            sa.insert(RunTradeRow), [{**same, "number": first + n + 1} for n in range(2_000)]
        )
    for name in ("trade.return", "trade.mae", "trade.mfe"):
        column = np.abs(random.normal(0, 0.02, count)).astype("<f4")
        rows.execute(
            sa.update(RunSeriesRow)
            .where(RunSeriesRow.run_id == run.id, RunSeriesRow.name == name)
            .values(data=zlib.compress(column.tobytes(), 1))
        )
    metrics = orjson.loads(orjson.dumps(run.metrics))
    metrics["trades"]["value"] = float(count)
    rows.execute(sa.update(RunRow).where(RunRow.id == run.id).values(metrics=metrics))
    rows.commit()
    return run


def test_a_page_of_very_many_trades_is_quick_and_small(viewer, huge):
    viewer.get(f"/research/runs/{huge.id}")
    took = []
    for _ in range(3):
        started = time.perf_counter()
        page = viewer.get(f"/research/runs/{huge.id}")
        took.append((time.perf_counter() - started) * 1000)
    assert min(took) < MOST_MILLISECONDS
    assert len(page.data) < 500_000
    assert "20 000 trades" in plain(page.text)
