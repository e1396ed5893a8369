"""Every cost in every form that asks for costs, and in words; the gate's switch; the engine of a run."""

from uuid import uuid4

import pytest

from engine.costs import Costs
from shared.jobs import BacktestRequest
from shared.messages import EditAccount, decode
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_replays_page import asked
from tests.webapp.test_research_pages import a_run, words
from tests.webapp.test_trade import only
from webapp import costs

TYPED = {
    "fee": "0.1", "slippage": "0.05", "fee_per_unit": "0,005", "fee_minimum": "1", "spread": "0.02",
    "slippage_fixed": "0.01", "slippage_impact": "10",
    "fee_tiers": "0: 0.26\r\n\r\n50 000: 0,24 %\r\n250000:0.18",
}  # fmt: skip
MEANT = {
    "fee_rate": "0.001", "slippage": "0.0005", "fee_per_unit": "0.005", "fee_minimum": "1",
    "spread": "0.0002", "slippage_fixed": "0.01", "slippage_impact": "0.1",
    "fee_tiers": [["0", "0.0026"], ["50000", "0.0024"], ["250000", "0.0018"]],
}  # fmt: skip
SHOWN = {
    **TYPED,
    "fee_per_unit": "0.005",
    "fee_tiers": "0: 0.26\n50000: 0.24\n250000: 0.18",
}
WRONG = [
    ("fee_per_unit", "cheap", "cheap is not a cost: from 0 up to 999 999 999"),
    ("fee_minimum", "-1", "-1 is not a cost"),
    ("spread", "21", "21 is not a cost: from 0 up to 20 %"),
    ("slippage_impact", "nan", "nan is not a cost"),
    ("fee_tiers", "50 000", "line 1: 50 000 is no tier: write a value and its fee, 50 000: 0.24"),
    ("fee_tiers", "0: 0.2\n0: 0.1", "line 2: 0 is not more than the 0 of the line before"),
    ("fee_tiers", "0: 0.2\n\n9: 30", "line 3: 30 is not a fee: from 0 up to 20 %"),
    ("fee_tiers", "-5: 0.2", "line 1: -5 is not a value traded"),
]


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


@pytest.fixture
def form(trader, stocks):
    offered = confirmed(trader.get(f"/research/new?series={stocks.acme_series}").text)
    return {**offered, "rules": "off", "p.short_window": "5", "p.long_window": "15"}


def test_every_cost_the_engine_knows_has_a_field():
    assert set(costs.FIELDS) == set(Costs.__dataclass_fields__)


def test_what_is_typed_is_what_the_engine_takes_and_what_is_shown_again():
    problems = {}
    meant = costs.read(TYPED, problems)
    assert problems == {}
    assert meant == MEANT
    assert costs.shown(meant) == SHOWN
    engine = Costs.from_json(meant)
    assert engine.fee_tiers == ((0.0, 0.0026), (50_000.0, 0.0024), (250_000.0, 0.0018))
    stored = {name: getattr(engine, name) for name in Costs.__dataclass_fields__}
    assert costs.shown(stored) == SHOWN


@pytest.mark.parametrize(("field", "value", "said"), WRONG)
def test_a_wrong_cost_is_refused_with_its_value_and_the_remedy(field, value, said):
    problems = {}
    costs.read({**TYPED, field: value}, problems)
    assert problems.keys() == {field}
    assert words(problems[field]).startswith(said)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "fee 0.10 %, slippage 0.00 %"),
        ({"fee_rate": 0}, "fee 0.00 %, slippage 0.00 %"),
        ({"fee_rate": "0.00005", "slippage": 0.0}, "fee 0.005 %, slippage 0.00 %"),
        (MEANT,
         "fee 0.26 % / 0.24 % from 50 000 USD / 0.18 % from 250 000 USD traded in 30 days, 0.005 USD a unit,"
         " at least 1.00 USD an order, slippage 0.05 % and 0.01 USD, spread 0.02 %, impact 10.00 %"),
        ({"fee_rate": 0.001, "fee_tiers": [[1000, 0.0]]},
         "fee 0.10 % / 0.00 % from 1 000 USD traded in 30 days, slippage 0.00 %"),
    ],
)  # fmt: skip
def test_costs_in_words_lose_no_digit(given, text):
    assert words(costs.text(given, "USD")) == text


def test_costs_in_few_words_tell_the_ends_of_the_tiers():
    line = words(costs.short_text(MEANT, "USD"))
    assert line.startswith("fee 0.26 % to 0.18 % by what was traded, 0.005 USD a unit")
    assert words(costs.short_text({"fee_rate": 0.001})) == "fee 0.10 %, slippage 0.00 %"


# --- backtests --------------------------------------------------------------------------------------


def test_a_run_pays_every_cost_says_so_and_offers_them_again(trader, rows, settings, form):
    run = a_run(trader, rows, settings, form, **TYPED)
    assert newest_job(rows, "backtest").arguments["costs"] == MEANT
    page = trader.get(f"/research/runs/{run.id}").text
    assert "0.24 % from 50 000 USD / 0.18 % from 250 000 USD traded in 30 days" in words(page)
    assert "spread 0.02 %" in words(page)
    again = trader.get(f"/research/new?run={run.id}").text
    offered = confirmed(again)
    assert {name: offered[name] for name in SHOWN} == SHOWN
    assert 'id="more-costs" open' in again
    assert read(again).wrong == []


def test_the_fold_is_closed_while_there_is_nothing_in_it(trader, form):
    page = trader.get("/research/new").text
    assert 'id="more-costs"' in page
    assert 'id="more-costs" open' not in page


@pytest.mark.parametrize(("field", "value", "said"), [WRONG[0], WRONG[4]])
def test_a_wrong_cost_is_told_beside_its_field_in_an_open_fold(trader, form, field, value, said):
    answer = trader.post("/research/new", data={**form, field: value})
    assert answer.status_code == 422
    assert said in words(answer.text.split(f'id="f-{field}-error"')[1][:200])
    assert 'id="more-costs" open' in answer.text
    assert confirmed(answer.text)[field] == value


def test_a_cost_a_worker_refuses_is_told_beside_its_field(trader, rows, settings, form):
    trader.post("/research/new", data=form)
    job = newest_job(rows, "backtest")
    job.arguments = {**job.arguments, "costs": {"spread": "0.9"}}
    rows.commit()
    do_job(settings, job.id)
    page = trader.get(f"/research/new?job={job.id}").text
    assert "must be from 0 to 0.5" in page.split('id="f-spread-error"')[1][:120]


# --- the gate ---------------------------------------------------------------------------------------


def test_the_gate_examines_a_run_unless_it_is_switched_off(trader, rows, settings, form):
    assert form["gate"] == "yes"
    examined = a_run(trader, rows, settings, form)
    assert examined.gate["verdict"] == "clean"
    without = {name: value for name, value in form.items() if name != "gate"}
    run = a_run(trader, rows, settings, without)
    assert run.gate is None
    assert "not examined" in words(trader.get(f"/research/runs/{run.id}").text)
    assert "gate" not in confirmed(trader.get(f"/research/new?run={run.id}").text)
    assert confirmed(trader.get(f"/research/new?run={examined.id}").text)["gate"] == "yes"


def test_a_form_without_the_question_leaves_the_gate_on(trader, rows, form):
    trader.post("/research/new", data={n: v for n, v in form.items() if "gate" not in n})
    assert BacktestRequest(**newest_job(rows, "backtest").arguments).gate


# --- the engine of a run ----------------------------------------------------------------------------


def test_a_run_tells_which_engine_ran_and_why_it_was_the_core(trader, rows, settings, form):
    run = a_run(trader, rows, settings, form)
    page = trader.get(f"/research/runs/{run.id}").text
    assert "compiled kernel" in words(page)
    assert "the same times, prices and quantities as the core" in page
    many = "\n".join(f"{n * 1000}: 0.{30 - n}" for n in range(14))
    run = a_run(trader, rows, settings, form, fee_tiers=many)
    assert run.engine == "core"
    page = words(trader.get(f"/research/runs/{run.id}").text)
    assert "the core: more than 12 fee tiers" in page
    report = words(trader.get(f"/research/runs/{run.id}/report.html").text)
    assert "the core: more than 12 fee tiers" in report


# --- sweeps, replays, paper accounts ----------------------------------------------------------------


def test_a_sweep_pays_every_cost(trader, rows, stocks):
    form = confirmed(trader.get("/research/sweeps/new").text)
    form = {**form, **TYPED, "series": [str(stocks.acme_series)], "command_id": str(uuid4())}
    assert trader.post("/research/sweeps/new", data=form).status_code == 303
    base = newest_job(rows, "sweep").arguments["base"]
    assert base["costs"] == MEANT
    assert base["gate"]
    bad = trader.post("/research/sweeps/new", data={**form, "spread": "wide"})
    assert "wide is not a cost" in bad.text.split('id="f-spread-error"')[1][:120]


def test_a_replay_pays_every_cost(trader, rows, stocks):
    form = confirmed(trader.get(f"/replays/new?series={stocks.acme_series}").text)
    form = {**form, **TYPED, "series": [str(stocks.acme_series)]}
    bad = trader.post("/replays/new", data={**form, "fee_tiers": "much"})
    assert "line 1: much is no tier" in bad.text.split('id="f-fee_tiers-error"')[1][:160]
    assert trader.post("/replays/new", data=form).status_code == 303
    [row] = asked(rows)
    assert decode(row.kind, row.arguments).costs == MEANT


def test_a_paper_account_keeps_every_cost(trader, rows, world):
    path = f"/trade/{world.account.id}/settings"
    page = trader.get(path).text
    assert 'id="more-costs" open' not in page
    typed = {f"costs.{name}": TYPED[field] for name, field in costs.FIELDS.items()}
    form = {**confirmed(page), **typed}
    bad = trader.post(path, data={**form, "costs.fee_tiers": "7"})
    assert bad.status_code == 422
    assert "line 1: 7 is no tier" in bad.text.split('id="f-costs.fee_tiers-error"')[1][:160]
    trader.post(path, data=form)
    command = only(rows, "EditAccount")
    assert isinstance(command, EditAccount)
    assert command.costs == MEANT
    world.account.costs = command.costs
    rows.commit()
    page = trader.get(path).text
    offered = confirmed(page)
    assert {field: offered[f"costs.{name}"] for name, field in costs.FIELDS.items()} == SHOWN
    assert read(page).wrong == []
