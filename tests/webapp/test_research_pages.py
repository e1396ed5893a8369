"""Research: asking for a backtest, its run with every number explained, its trades, decisions and files."""

import csv
import io
import itertools
import math
import re
from uuid import UUID, uuid4

import numpy as np
import pytest
import sqlalchemy as sa

from shared.db.backtests import JobRow, RunFillRow, RunRow, RunSeriesRow, RunTradeRow
from shared.db.trading import StrategyTypeRow
from shared.domain.decided import Decided
from shared.jobs import BacktestRequest
from shared.report import curves
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from webapp import run_columns

PARTIAL = {"HX-Request": "true"}


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


@pytest.fixture
def form(trader, stocks):
    """The form as it is offered, for ACME, with a faster cross."""
    offered = confirmed(trader.get(f"/research/new?series={stocks.acme_series}").text)
    offered["rules"] = "off"
    return {**offered, "p.short_window": "5", "p.long_window": "15"}


@pytest.fixture
def run(trader, rows, settings, form):
    """A backtest asked for through the form and done."""
    return a_run(trader, rows, settings, form)


def a_run(client, rows, settings, form, **changed):
    answer = client.post("/research/new", data={**form, "command_id": str(uuid4()), **changed})
    assert answer.status_code == 303, answer.text
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(RunRow, job.result["run_id"])


def words(html):
    """The text of a page, blanks folded."""
    text = re.sub(r"<[^>]+>", " ", html)
    return re.sub(
        r"\s+",
        " ",
        text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " "),
    )


# --- asking -----------------------------------------------------------------------------------------


def test_a_press_asks_for_exactly_what_the_form_says(trader, rows, stocks, form):
    filled = {
        **form, "starts": "2020-03-01", "ends": "2020-12-31", "capital": "50 000", "fee": "0.25",
        "slippage": "0,1", "sizing.method": "value", "sizing.value": "1000", "rules": "own",
        "rule.position_size.enabled": "yes", "rule.position_size.limit": "7.5",
    }  # fmt: skip
    for rule in ("max_drawdown", "concentration", "volatility", "liquidity", "max_positions"):
        filled.pop(f"rule.{rule}.enabled", None)
    answer = trader.post("/research/new", data=filled)
    job = newest_job(rows, "backtest")
    assert answer.location == f"/jobs/{job.id}?follow=1"
    asked = BacktestRequest(**job.arguments)
    assert asked.strategy_type == "moving_average_cross"
    assert asked.parameters == {"short_window": 5, "long_window": 15}
    assert asked.inputs == {"main": {"series_id": stocks.acme_series, "trades": True}}
    assert (asked.capital, asked.starts_at, asked.ends_at) == ("50000", "2020-03-01", "2020-12-31")
    assert asked.costs == {"fee_rate": "0.0025", "slippage": "0.001"}
    assert asked.sizing == {"method": "value", "value": "1000"}
    assert asked.risk_policy["position_size"] == {"enabled": True, "max_fraction": 0.075}
    assert not any(
        asked.risk_policy[r]["enabled"] for r in asked.risk_policy if r != "position_size"
    )
    assert job.requested_by == "trader"


def test_rules_are_off_unless_asked_for(trader, rows, form):
    trader.post("/research/new", data=form)
    policy = newest_job(rows, "backtest").arguments["risk_policy"]
    assert len(policy) == 6
    assert not any(rule["enabled"] for rule in policy.values())


def test_two_presses_are_one_job_and_changed_values_another(trader, rows, form):
    first = trader.post("/research/new", data=form)
    assert trader.post("/research/new", data=form).location == first.location
    back_and_changed = trader.post("/research/new", data={**form, "capital": "5000"})
    assert back_and_changed.location != first.location
    assert rows.scalar(sa.select(sa.func.count()).select_from(JobRow)) == 2


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("p.short_window", "ten", "ten is not a whole number"),
        ("p.long_window", "1", "out of bounds"),
        ("in.main.series", "999999", "This series is not there"),
        ("capital", "-5", "-5 is not above 0"),
        ("capital", "9999999999999", "is more than 1 000 000 000 000"),
        ("fee", "abc", "abc is not a cost"),
        ("slippage", "50", "50 is not a cost: from 0 up to 20"),
        ("starts", "31/12/2020", "31/12/2020 is not a day"),
        ("starts", "2030-01-01", "is after the last bar of ACME 1d"),
        ("ends", "2019-01-01", "is before the first bar of ACME 1d"),
        ("sizing.fraction", "0", "0 is not a share"),
    ],
)
def test_a_wrong_value_is_refused_beside_its_field_and_kept(trader, rows, form, field, value, said):
    answer = trader.post("/research/new", data={**form, field: value})
    assert answer.status_code == 422
    assert said in answer.text
    assert f'id="f-{field}-error"' in answer.text
    if field != "in.main.series":
        assert confirmed(answer.text)[field] == value
    assert rows.scalar(sa.select(sa.func.count()).select_from(JobRow)) == 0


def test_the_end_before_the_start_is_refused(trader, form):
    answer = trader.post(
        "/research/new", data={**form, "starts": "2020-06-01", "ends": "2020-05-01"}
    )
    assert "is not after 2020-06-01" in answer.text


def test_wrong_limits_of_rules_matter_only_when_own_rules_are_chosen(trader, form):
    wrong = {**form, "rule.volatility.window": "1"}
    assert trader.post("/research/new", data={**wrong, "rules": "off"}).status_code == 303
    assert trader.post("/research/new", data={**wrong, "rules": "own"}).status_code == 422


def test_what_only_the_strategy_can_tell_comes_back_beside_its_field(trader, rows, settings, form):
    trader.post("/research/new", data={**form, "p.short_window": "40"})
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    page = trader.get(f"/research/new?job={job.id}").text
    assert "must be less than long_window" in page.split('id="f-p.short_window-error"')[1][:120]
    assert confirmed(page)["p.short_window"] == "40"


def test_the_fields_follow_the_type_and_keep_the_series(trader, stocks, form):
    form = {
        **form,
        "type": "donchian_breakout",
        "in.main.series": str(stocks.tiny_series),
        "starts": "2024-03-01",
    }
    fragment = trader.get("/research/new/type", query_string=form, headers=PARTIAL).text
    offered = confirmed(fragment)
    assert "p.entry_window" in offered
    assert "p.short_window" not in offered
    assert offered["in.main.series"] == str(stocks.tiny_series)
    assert offered["starts"] == "2024-03-01"


def test_a_broken_strategy_file_is_shown_with_its_traceback_and_not_offered(trader, rows, stocks):
    row = rows.get_one(StrategyTypeRow, "rsi_reversion")
    row.error = "Traceback\nNameError: name 'x' is not defined"
    rows.commit()
    page = trader.get("/research/new").text
    assert "NameError" in page
    assert '<option value="rsi_reversion"' not in page


def test_without_bars_or_strategies_the_form_says_what_is_missing(trader, rows, settings):
    assert "No strategy to run" in trader.get("/research/new").text
    from engine import catalogue

    catalogue.sync(rows.connection(), settings.strategies_folder)
    rows.commit()
    assert "No bars to run on" in trader.get("/research/new").text


# --- the list ---------------------------------------------------------------------------------------


def test_an_empty_list_offers_a_first_backtest(trader, viewer):
    assert "Run a first backtest" in trader.get("/research").text
    assert "Ask a trader" in viewer.get("/research").text


def test_runs_are_sorted_by_the_column_in_the_address(trader, rows, settings, form):
    ids = [a_run(trader, rows, settings, form, **{"p.short_window": n}).id for n in ("3", "5", "8")]
    values = {i: rows.get_one(RunRow, i).metrics["total_return"]["value"] for i in ids}

    def order(query):
        return [int(i) for i in re.findall(r'id="run-(\d+)"', trader.get(f"/research{query}").text)]

    assert order("") == sorted(ids, reverse=True)
    assert order("?sort=return") == sorted(ids, key=values.get, reverse=True)
    assert order("?sort=-return") == sorted(ids, key=values.get)
    assert len(order("?symbol=ACME&type=moving_average_cross")) == 3
    assert order("?symbol=NOBODY") == []


def test_a_number_that_is_not_defined_comes_last_whichever_way(trader, rows, settings, form):
    flat = a_run(trader, rows, settings, form, **{"p.short_window": "200", "p.long_window": "290"})
    busy = a_run(trader, rows, settings, form)
    assert flat.metrics["sharpe"]["value"] is None
    for sort in ("sharpe", "-sharpe"):
        page = trader.get(f"/research?sort={sort}").text
        assert page.index(f'id="run-{busy.id}"') < page.index(f'id="run-{flat.id}"')


# --- the run ----------------------------------------------------------------------------------------


def test_the_page_shows_every_number_with_its_formula_and_how_many_inputs(viewer, run):
    page = viewer.get(f"/research/runs/{run.id}").text
    text = words(page)
    for name in ("total_return", "sharpe", "max_drawdown", "win_rate", "profit_factor", "fees"):
        metric = run.metrics[name]
        assert metric["value"] is not None
        assert metric["how"].replace("'", "&#39;") in page
        assert str(metric["value"]) in page
    assert "short window 5, long window 15" in text
    assert f"{run.bars:,}".replace(",", " ") in text
    assert run.digest[:12] in text
    assert run.code_hash[:7] in text


def test_what_is_not_defined_is_empty_and_says_why(trader, rows, settings, form):
    flat = a_run(trader, rows, settings, form, **{"p.short_window": "200", "p.long_window": "290"})
    text = words(trader.get(f"/research/runs/{flat.id}").text)
    assert "Not defined: " in text
    assert flat.metrics["win_rate"]["reason"] in text


def test_the_curve_keeps_its_ends_its_peak_and_its_lowest_point(viewer, rows, run):
    answer = viewer.get(f"/research/runs/{run.id}/equity.json").json
    capital = float(run.options["capital"])
    assert answer["equity"][0] == capital
    assert answer["equity"][-1] == pytest.approx(run.metrics["final_equity"]["value"], rel=1e-12)
    assert min(answer["drawdown"]) == pytest.approx(-run.metrics["max_drawdown"]["value"], rel=1e-9)
    held = 1 + run.metrics["buy_and_hold"]["value"]
    assert answer["benchmark"][-1] == pytest.approx(capital * held, rel=1e-9)
    assert answer["times"] == sorted(answer["times"])


def test_a_long_column_is_thinned_to_two_thousand_points_with_its_extremes():
    random = np.random.default_rng(5)
    values = np.cumsum(random.standard_normal(200_000))
    rows = curves.extremes(values, 2_000)
    assert len(rows) <= 2_000
    assert np.all(np.diff(rows) > 0)
    assert {0, len(values) - 1, int(values.argmin()), int(values.argmax())} <= set(rows.tolist())
    assert curves.extremes(values[:7], 2_000).tolist() == list(range(7))


def test_months_multiply_up_to_the_whole_return(app, rows, run):
    with app.test_request_context():
        days = run_columns.kept(run).days
    years = curves.years(days.times, days.equity)
    grown = math.prod(1 + year.value for year in years) - 1
    assert grown == pytest.approx(run.metrics["total_return"]["value"], rel=1e-9)
    months = [month for year in years for month in year.months if month]
    assert math.prod(1 + month.value for month in months) - 1 == pytest.approx(grown, rel=1e-9)
    assert all(-4 <= month.level <= 4 and month.level * month.value >= 0 for month in months)


def test_candles_of_the_run_carry_its_fills_and_go_to_any_moment(viewer, rows, run, stocks):
    base = f"/research/runs/{run.id}/candles/main.json"
    newest = viewer.get(base).json
    fills = rows.scalars(sa.select(RunFillRow).where(RunFillRow.run_id == run.id)).all()
    assert len(newest["candles"]) == 300
    assert len(newest["markers"]) == len(fills)
    assert [m["side"] for m in newest["markers"]][:2] == ["buy", "sell"]
    middle = newest["candles"][150][0]
    before = viewer.get(f"{base}?before={middle}").json["candles"]
    assert before[-1][0] < middle
    around = viewer.get(f"{base}?around={middle}").json["candles"]
    assert around[0][0] <= middle <= around[-1][0]
    after = viewer.get(f"{base}?after={middle}").json["candles"]
    assert after[-1][0] == newest["candles"][-1][0]
    assert viewer.get(f"/research/runs/{run.id}/candles/nobody.json").status_code == 404


def test_trades_are_paged_and_sorted_by_what_they_earned(viewer, rows, run):
    trades = rows.scalars(sa.select(RunTradeRow).where(RunTradeRow.run_id == run.id)).all()
    assert len(trades) > 3

    def numbers(query):
        text = viewer.get(f"/research/runs/{run.id}/rows{query}", headers=PARTIAL).text
        return [int(n) for n in re.findall(r'id="trade-(\d+)"', text)]

    assert numbers("") == sorted((t.number for t in trades), reverse=True)[:25]
    best = sorted(trades, key=lambda t: (float(t.pnl), t.number), reverse=True)
    assert numbers("?order=best") == [t.number for t in best][:25]
    worst = sorted(trades, key=lambda t: (-float(t.pnl), t.number), reverse=True)
    assert numbers("?order=worst") == [t.number for t in worst][:25]


def test_denied_decisions_are_found_with_value_and_limit(trader, rows, settings, form):
    own = {
        "rules": "own", "rule.position_size.enabled": "yes", "rule.position_size.limit": "5",
        "rule.max_drawdown.enabled": "", "rule.concentration.enabled": "", "rule.volatility.enabled": "",
        "rule.liquidity.enabled": "",
    }  # fmt: skip
    run = a_run(trader, rows, settings, form, **own)
    text = words(trader.get(f"/research/runs/{run.id}").text)
    assert "No trade: the risk rules denied all" in text
    denied = words(trader.get(f"/research/runs/{run.id}?tab=decisions&outcome=denied").text)
    assert "over the limit 5.00%" in denied
    assert "100.00 % of 5.00 %" in denied
    assert "denied" in decided(rows, run).outcomes()
    assert "Nothing here" in trader.get(f"/research/runs/{run.id}?tab=fills").text


def decided(rows, run):
    """The decisions of a run that a kernel did."""
    return Decided(
        rows.get_one(RunSeriesRow, (run.id, "decisions")).data, run.options["risk_policy"]
    )


def test_everything_can_be_taken_away_as_csv(viewer, rows, run):
    for name, model in (
        ("trades", RunTradeRow),
        ("fills", RunFillRow),
    ):
        answer = viewer.get(f"/research/runs/{run.id}/{name}.csv")
        lines = list(csv.DictReader(io.StringIO(answer.text)))
        stored = rows.scalars(
            sa.select(model).where(model.run_id == run.id).order_by(model.number)
        ).all()
        assert [int(line["number"]) for line in lines] == [row.number for row in stored]
        assert {line["symbol"] for line in lines} == {"ACME"}
    lines = list(
        csv.DictReader(io.StringIO(viewer.get(f"/research/runs/{run.id}/decisions.csv").text))
    )
    kept = decided(rows, run)
    assert [int(line["number"]) for line in lines] == list(range(1, len(kept) + 1))
    assert [line["outcome"] for line in lines] == [kept.row(i).outcome for i in range(len(kept))]
    equity = list(
        csv.DictReader(io.StringIO(viewer.get(f"/research/runs/{run.id}/equity.csv").text))
    )
    assert float(equity[-1]["equity"]) == pytest.approx(
        run.metrics["final_equity"]["value"], rel=1e-12
    )
    assert len(equity) == 301


def test_a_likely_split_inside_the_run_is_told(viewer, run):
    text = words(viewer.get(f"/research/runs/{run.id}").text)
    assert "Raw prices: a likely split of ACME" in text
    assert "The bars of this run have" not in text  # the same, once more


def test_the_form_of_a_run_is_filled_in_as_it_was(trader, rows, settings, form):
    changed = {
        "fee": "0.3",
        "capital": "12345",
        "starts": "2020-02-03",
        "sizing.method": "fraction",
        "sizing.fraction": "50",
    }
    run = a_run(trader, rows, settings, form, **changed)
    again = confirmed(trader.get(f"/research/new?run={run.id}").text)
    assert {name: again[name] for name in changed} == changed
    assert again["p.short_window"] == "5"


def test_the_same_request_on_the_same_bars_gives_the_same_digest(trader, rows, settings, form):
    first, second = (a_run(trader, rows, settings, form) for _ in range(2))
    assert first.digest == second.digest
    assert first.inputs["main"]["data_hash"] == second.inputs["main"]["data_hash"]


def test_pages_of_research_are_sound(app, trader, rows, settings, stocks, form, run):
    trader.post("/research/new", data={**form, "capital": "7"})
    wrong = trader.post(
        "/research/new", data={**form, "capital": "x", "rules": "own", "rule.liquidity.limit": ""}
    )
    page = read(wrong.text)
    assert page.wrong + lost_addresses(app, page) == []
    for path in (
        "/research", "/research?sort=-drawdown&symbol=ACME", "/research/new", f"/research/new?run={run.id}",
        f"/research/runs/{run.id}", f"/research/runs/{run.id}?tab=decisions", f"/research/runs/{run.id}?tab=fills",
    ):  # fmt: skip
        answer = trader.get(path)
        page = read(answer.text)
        assert answer.status_code == 200, path
        assert page.wrong + lost_addresses(app, page) == [], path
        assert page.tags.count("h1") == 1
    for path in (
        "/research/under-way", f"/research/runs/{run.id}/rows", f"/research/runs/{run.id}/rows?tab=decisions",
        f"/research/runs/{run.id}/groups?by=weekday", "/research/new/type?type=rsi_reversion",
    ):  # fmt: skip
        fragment = read(trader.get(path, headers=PARTIAL).text)
        assert fragment.wrong + lost_addresses(app, fragment) == [], path
        assert "html" not in fragment.tags


def test_a_viewer_reads_runs_and_asks_for_none(viewer, run):
    page = viewer.get(f"/research/runs/{run.id}").text
    assert "Change and run again" not in page
    assert viewer.get("/research/new").status_code == 403
    assert viewer.post("/research/new").status_code == 403


@pytest.mark.parametrize(
    "path", ["/research/runs/999", "/research/new?run=999", f"/research/new?job={UUID(int=7)}"]
)
def test_what_is_not_there_is_said(trader, stocks, path):
    assert trader.get(path).status_code == 404


def test_returns_of_trades_fall_into_bins_with_an_edge_at_zero_and_none_is_lost(app, rows, run):
    returns = rows.scalars(
        sa.select(RunTradeRow.return_fraction).where(RunTradeRow.run_id == run.id)
    ).all()
    with app.test_request_context():
        bins = curves.bins(run_columns.kept(run).columns.trade_return)
    assert sum(b.count for b in bins) == len(returns)
    assert sum(b.count for b in bins if b.low >= -1e-12) == sum(r >= 0 for r in returns)
    assert all(a.high == pytest.approx(b.low) for a, b in itertools.pairwise(bins))
