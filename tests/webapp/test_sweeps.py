"""Sweeps in the console: asking for one, how it stands, its pictures and table, and what can be done with it."""

import csv
import io
import itertools
import re
import statistics
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from shared import jobs
from shared.db.backtests import JobRow, RunRow
from shared.db.console import AuditRow
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.db.trading import StrategyTypeRow
from shared.domain.space import axis_from
from tests.webapp.forms import confirmed
from tests.webapp.history import do_job, newest_job, some_stocks
from tests.webapp.markup import read
from tests.webapp.test_markup import lost_addresses
from tests.webapp.world import NOON

PARTIAL = {"HX-Request": "true"}
COMPUTED = ("sharpe", "total_return", "max_drawdown", "trades")
SHARPE = (0.4, 0.9, -0.2, 1.1, 1.8, 0.7, 0.3, 1.2, 0.1)


@pytest.fixture
def stocks(rows, settings):
    return some_stocks(rows, settings)


@pytest.fixture(autouse=True)
def _no_waiting(app):
    app.config["JOB_WAIT_SECONDS"] = 0


@pytest.fixture
def form(trader, stocks):
    """The form as it is offered for ACME, over few combinations."""
    offered = confirmed(trader.get(f"/research/sweeps/new?series={stocks.acme_series}").text)
    return {
        **offered,
        "from.short_window": "3", "to.short_window": "9", "step.short_window": "3",
        "from.long_window": "10", "to.long_window": "20", "step.long_window": "5",
    }  # fmt: skip


@pytest.fixture
def sweep(rows, stocks):
    """A sweep of nine combinations as its jobs would leave it, with numbers of our own."""
    asked = jobs.SweepRequest(
        base={"strategy_type": "moving_average_cross"},
        space=[
            {"name": "short_window", "low": 3, "high": 9, "step": 3},
            {"name": "long_window", "low": 10, "high": 20, "step": 5},
        ],
        series_ids=[stocks.acme_series],
        objectives=[{"metric": "sharpe", "direction": "maximize"}],
    )
    done = {"state": "done", "progress_text": "9 combinations", "progress": 1.0}
    job = JobRow(id=uuid4(), kind="sweep", title="Sweep it", arguments=jobs.encode(asked), **done)
    part = JobRow(
        id=uuid4(), kind="sweep_chunk", title="Sweep it · chunk 1", arguments={}, started_at=NOON, **done
    )  # fmt: skip
    rows.add_all([job, part])
    rows.flush()
    row = SweepRow(
        job_id=job.id, title="Sweep it", strategy_type="moving_average_cross",
        code_hash=rows.get_one(StrategyTypeRow, "moving_average_cross").code_hash, method="grid",
        seed=1, base=jobs.encode(jobs.BacktestRequest("moving_average_cross", {}, {})),
        space=[axis_from(axis).as_json() for axis in asked.space], constraints=[],
        objectives=asked.objectives, metrics=list(COMPUTED), aggregate="mean",
        series=[{"series_id": stocks.acme_series, "name": "ACME 1d", "ends_at": "", "bars": 300,
                 "hashes": {"main": "ab" * 32}}],
        total=9, planned=9, carved=9, state="done", text="9 combinations, best sharpe 1.80",
        plan=b"", created_at=NOON, finished_at=NOON + timedelta(seconds=4),
    )  # fmt: skip
    rows.add(row)
    rows.flush()
    rows.add(
        SweepChunkRow(
            sweep_id=row.id, number=1, first=0, points=9, job_id=part.id, seconds=3.0, done_at=NOON
        )
    )
    combinations = itertools.product((3, 6, 9), (10, 15, 20))
    rows.add_all(
        SweepPointRow(
            sweep_id=row.id, number=n, parameters={"short_window": short, "long_window": long},
            numbers=[SHARPE[n], SHARPE[n] / 10, 0.3 - 0.02 * (n * 4 % 9), float(n * 5 % 9)],
            plateau=None if n % 2 else n / 10, is_best=SHARPE[n] == max(SHARPE),
        )
        for n, (short, long) in enumerate(combinations)
    )  # fmt: skip
    rows.commit()
    return row


@pytest.fixture
def real_sweep(trader, rows, settings, form):
    """A sweep of nine combinations, done by its jobs."""
    return a_sweep(trader, rows, settings, form)


def plan(client, rows, settings, form, **changed):
    """A sweep that is planned and has not begun."""
    answer = client.post(
        "/research/sweeps/new", data={**form, "command_id": str(uuid4()), **changed}
    )
    assert answer.status_code == 303, answer.text
    job = newest_job(rows, "sweep")
    do_job(settings, job.id)
    rows.refresh(job)
    assert job.state == "done", job.error
    return rows.get_one(SweepRow, job.result["sweep_id"])


def a_sweep(client, rows, settings, form, **changed):
    sweep = plan(client, rows, settings, form, **changed)
    while one_chunk(rows, settings, sweep):
        pass
    rows.refresh(sweep)
    assert sweep.state == "done", sweep.text
    return sweep


def one_chunk(rows, settings, sweep):
    """Do the next chunk in line; False when there is none."""
    rows.rollback()
    query = sa.select(JobRow).where(JobRow.kind == "sweep_chunk", JobRow.state == "queued")
    job = rows.scalars(query.order_by(JobRow.created_at).limit(1)).first()
    if job is None:
        return False
    do_job(settings, job.id)
    return True


def points_in(page):
    """The numbers of the points a page lists, in its order."""
    return [int(n) for n in re.findall(r'<tr id="point-(\d+)"', page)]


def words(html):
    text = re.sub(r"<[^>]+>", " ", html)
    return re.sub(r"\s+", " ", text.replace("\xa0", " ").replace("\N{NARROW NO-BREAK SPACE}", " "))


# --- asking -----------------------------------------------------------------------------------------


def test_a_press_asks_for_exactly_what_the_form_says(trader, rows, stocks, form):
    filled = {
        **form, "method": "random", "trials": "50", "seed": "7", "objective.0": "calmar",
        "objective.1": "max_drawdown", "direction.1": "minimize", "aggregate": "worst",
        "series": [str(stocks.acme_series), str(stocks.tiny_series)],
        "constraints": "short_window < long_window\n\nlong_window < 30", "to.long_window": "",
        "step.long_window": "", "from.long_window": "10, 15,40", "fee": "0.25", "ends": "2020-12-31",
    }  # fmt: skip
    answer = trader.post("/research/sweeps/new", data=filled)
    job = newest_job(rows, "sweep")
    assert answer.location == f"/jobs/{job.id}?follow=1"
    asked = jobs.SweepRequest(**job.arguments)
    assert asked.space == [
        {"name": "short_window", "low": 3, "high": 9, "step": 3},
        {"name": "long_window", "values": [10, 15, 40]},
    ]
    assert asked.series_ids == [stocks.acme_series, stocks.tiny_series]
    assert asked.objectives == [
        {"metric": "calmar", "direction": "maximize"},
        {"metric": "max_drawdown", "direction": "minimize"},
    ]
    assert asked.constraints == ["short_window < long_window", "long_window < 30"]
    assert (asked.method, asked.trials, asked.seed, asked.aggregate) == ("random", 50, 7, "worst")
    assert asked.base["costs"]["fee_rate"] == "0.0025"
    assert asked.base["ends_at"] == "2020-12-31"
    assert (asked.base["parameters"], asked.base["inputs"]) == ({}, {})


def test_longer_bars_are_made_of_each_series_or_refused(trader, rows, settings, stocks, form):
    tiny = {
        **form,
        "series": str(stocks.tiny_series),
        "to.long_window": "",
        "from.long_window": "10",
    }
    weekly = {**tiny, "in.main.interval": "300", "to.short_window": "4", "step.short_window": "1"}
    sweep = a_sweep(trader, rows, settings, weekly)
    assert sweep.series[0]["name"] == "TINY/USD 5m"
    assert sweep.base["inputs"]["main"] == {"interval": 300}
    trader.post(f"/research/sweeps/{sweep.id}/points/0/run")
    asked = jobs.BacktestRequest(**newest_job(rows, "backtest").arguments)
    assert asked.inputs["main"]["interval"] == 300
    again = confirmed(trader.get(f"/research/sweeps/new?sweep={sweep.id}").text)
    assert again["in.main.interval"] == "300"
    both = [str(stocks.tiny_series), str(stocks.acme_series)]
    refused = trader.post("/research/sweeps/new", data={**weekly, "series": both})
    assert refused.status_code == 422
    assert "Bars of ACME 1d cannot be made into these" in refused.text


def test_a_parameter_that_stays_is_no_part_of_the_search(trader, rows, form):
    trader.post("/research/sweeps/new", data={**form, "to.short_window": ""})
    asked = jobs.SweepRequest(**newest_job(rows, "sweep").arguments)
    assert [axis["name"] for axis in asked.space] == ["long_window"]
    assert asked.base["parameters"] == {"short_window": 3}


def test_a_fresh_form_offers_ranges_around_the_defaults(trader, stocks):
    offered = confirmed(trader.get("/research/sweeps/new").text)
    ends = [offered[f"{end}.short_window"] for end in ("from", "to", "step")]
    assert ends == ["5", "20", "2"]
    bollinger = confirmed(trader.get("/research/sweeps/new?type=bollinger_reversion").text)
    assert (bollinger["from.deviations"], bollinger["to.deviations"]) == ("1", "4")
    assert (bollinger["from.patience"], bollinger["to.patience"]) == ("40", "")


WRONG = [
    ({"from.short_window": "ten"}, "from.short_window", "ten is not a whole number"),
    ({"from.short_window": "0"}, "from.short_window", "out of bounds"),
    ({"to.short_window": "2"}, "from.short_window", "3 is above 2: give the lower end first"),
    ({"step.short_window": "0"}, "from.short_window", "out of bounds"),
    ({"step.short_window": "1.5"}, "from.short_window", "1.5 is not a whole number"),
    ({"series": "999999"}, "", "One of these series is not there any more"),
    ({"constraints": "short_window <"}, "constraints", "not understood"),
    ({"constraints": "open('x') < 1"}, "constraints", "is not allowed"),
    ({"constraints": "window < 3"}, "constraints", "window is no parameter here"),
    ({"method": "random", "trials": "many"}, "trials", "many is not a whole number from 1"),
    ({"method": "bayes", "trials": "5001"}, "trials", "from 1 to 5"),
    ({"objective.0": "luck"}, "objective.0", "is not one of"),
    ({"objective.1": "sharpe"}, "objective.0", "given twice"),
    ({"capital": "-5"}, "capital", "-5 is not above 0"),
    ({"starts": "31/12/2020"}, "starts", "is not a day"),
]


def test_a_wrong_value_is_refused_beside_its_field_and_kept(trader, rows, form):
    for changed, key, said in WRONG:
        answer = trader.post("/research/sweeps/new", data={**form, **changed})
        assert answer.status_code == 422, changed
        assert said in words(answer.text).replace("&#39;", "'"), changed
        if key:
            assert f'id="f-{key}-error"' in answer.text
            assert read(answer.text).wrong == []
    assert rows.scalar(sa.select(sa.func.count()).select_from(JobRow)) == 0


def test_all_that_is_wrong_is_said_at_once(trader, form):
    wrong = {"from.short_window": "x", "to.long_window": "y", "constraints": "a <", "capital": "0"}
    page = trader.post("/research/sweeps/new", data={**form, **wrong}).text
    assert "4 fields need another value" in words(page)


def test_a_sweep_on_nothing_is_refused(trader, form):
    given = {key: value for key, value in form.items() if key != "series"}
    answer = trader.post("/research/sweeps/new", data=given)
    assert answer.status_code == 422
    assert "choose at least one to search on" in answer.text


SIZES = [
    ({}, "9 combinations before the strategy"),
    ({"constraints": "short_window * 3 <= long_window"}, "4 combinations"),
    (
        {
            "to.short_window": "1000",
            "step.short_window": "1",
            "to.long_window": "5000",
            "step.long_window": "1",
        },
        "are more than 100",
    ),
    (
        {
            "to.short_window": "800",
            "step.short_window": "1",
            "to.long_window": "800",
            "step.long_window": "1",
        },
        "combinations are more than 100",
    ),
    ({"constraints": "short_window > 50"}, "No combination is left"),
    ({"method": "random", "trials": "200"}, "9 combinations: there are no more"),
    ({"method": "bayes", "trials": "5"}, "5 combinations"),
    ({"from.short_window": "x"}, "x is not a whole number"),
]


def test_how_much_it_would_be_is_told_before_it_begins(trader, form):
    for changed, said in SIZES:
        answer = trader.get("/research/sweeps/new/size", query_string={**form, **changed})
        assert said in words(answer.text), changed


def test_what_only_the_strategy_can_tell_comes_back_above_the_form(trader, rows, settings, form):
    never = {**form, "from.short_window": "60", "to.short_window": "90"}
    trader.post("/research/sweeps/new", data=never)
    job = newest_job(rows, "sweep")
    do_job(settings, job.id)
    page = trader.get(f"/research/sweeps/new?job={job.id}").text
    assert "no combination is left" in page
    assert "must be less than long_window" in page
    assert confirmed(page)["from.short_window"] == "60"


def test_the_fields_follow_the_type(trader, stocks, form):
    fragment = trader.get(
        "/research/sweeps/new/type", query_string={**form, "type": "donchian_breakout"}
    ).text
    offered = confirmed(fragment)
    assert "from.entry_window" in offered
    assert "from.short_window" not in offered
    assert "html" not in read(fragment).tags


def test_changing_and_searching_again_begins_where_the_last_one_was(trader, sweep):
    page = trader.get(f"/research/sweeps/new?sweep={sweep.id}").text
    offered = confirmed(page)
    assert [offered[f"{end}.short_window"] for end in ("from", "to", "step")] == ["3", "9", "3"]
    assert read(page).wrong == []


# --- how it stands ----------------------------------------------------------------------------------


def test_the_pages_are_sound_empty_under_way_done_and_failed(app, trader, rows, settings, form):
    assert "Start a first sweep" in trader.get("/research/sweeps").text
    sweep = plan(trader, rows, settings, form)
    pages = ("/research/sweeps", f"/research/sweeps/{sweep.id}", "/research/sweeps/new")
    fragments = [
        f"/research/sweeps/{sweep.id}/{part}" for part in ("progress", "rows", "heat/table")
    ]
    one_chunk(rows, settings, sweep)
    for state in ("running", "cancelled", "failed", "done"):
        rows.refresh(sweep)
        sweep.state = state
        sweep.wanted = "stopped" if state in ("cancelled", "failed") else "running"
        rows.commit()
        for path in (*pages, *fragments, "/research/sweeps/list"):
            answer = trader.get(path)
            assert answer.status_code == 200, path
            found = read(answer.text)
            wrong = [w for w in found.wrong if path in pages or "refers to ids" not in w]
            assert wrong + lost_addresses(app, found) == [], (state, path)


def test_progress_is_told_in_combinations_and_costs_nothing_while_nothing_changed(
    trader, rows, settings, form
):
    sweep = plan(trader, rows, settings, form)
    before = trader.get(f"/research/sweeps/{sweep.id}/progress").text
    assert "0 of 9 combinations" in words(before)
    assert "No worker is alive" in before
    version = re.search(r"v=(\w+)", before)[1]
    same = trader.get(f"/research/sweeps/{sweep.id}/progress?v={version}")
    assert same.status_code == 204
    one_chunk(rows, settings, sweep)
    after = trader.get(f"/research/sweeps/{sweep.id}/progress?v={version}").text
    assert "4 of 9 combinations" in words(after)
    assert "a second" in words(after)
    assert "every 1s" in after
    assert "Best so far" in after


def test_a_done_sweep_shows_its_best_with_its_parameters_and_stops_asking(trader, rows, real_sweep):
    sweep = real_sweep
    page = trader.get(f"/research/sweeps/{sweep.id}/progress").text
    points = rows.scalars(sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id)).all()
    best = max(points, key=lambda p: p.numbers[0])
    assert f"{best.numbers[0]:.2f}" in page
    assert f"short window {best.parameters['short_window']}" in words(page)
    assert "every 1s" not in page
    assert 'data-over="yes"' in page
    assert f"best sharpe {best.numbers[0]:.2f}" in trader.get("/events").text


def test_the_best_is_held_against_what_luck_alone_would_show(trader, rows, sweep):
    url = f"/research/sweeps/{sweep.id}/progress"
    assert "By luck alone" not in trader.get(url).text  # nine points say nothing about luck
    rows.execute(
        sa.insert(SweepPointRow),
        [
            {
                "sweep_id": sweep.id,
                "number": n,
                "parameters": {},
                "numbers": [n % 2 - 0.5, 0.0, 0.0, 1.0],
            }
            for n in range(100, 1100)
        ],
    )
    rows.execute(sa.delete(SweepPointRow).where(SweepPointRow.number < 100))
    rows.commit()
    text = words(trader.get(url).text)
    assert "Sharpe of up to 1.63" in text  # 0.5 x 3.255, the best of 1,000 standard normal draws
    assert "no more than that" in text


def test_a_failed_combination_is_told_with_its_reason(trader, rows, sweep):
    point = rows.get_one(SweepPointRow, (sweep.id, 3))
    point.error, point.numbers = "ZeroDivisionError: division by zero", [None] * 4
    rows.commit()
    assert "1 combination failed" in words(trader.get(f"/research/sweeps/{sweep.id}").text)
    only = trader.get(f"/research/sweeps/{sweep.id}?only=errors").text
    assert points_in(only) == [3]
    assert "ZeroDivisionError" in only


# --- table and pictures -----------------------------------------------------------------------------


def test_the_table_is_sorted_filtered_and_paged_by_the_address(trader, rows, sweep):
    points = rows.scalars(sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id)).all()

    def shown(query=""):
        return points_in(trader.get(f"/research/sweeps/{sweep.id}{query}").text)

    by_sharpe = [p.number for p in sorted(points, key=lambda p: -p.numbers[0])]
    by_drawdown = [p.number for p in sorted(points, key=lambda p: p.numbers[2])]
    assert shown() == by_sharpe
    assert shown("?sort=-m.sharpe") == by_sharpe[::-1]
    assert shown("?sort=m.max_drawdown") == by_drawdown
    assert shown("?sort=order") == sorted(by_sharpe)
    assert shown("?sort=nonsense") == by_sharpe
    long_10 = {p.number for p in points if p.parameters["long_window"] == 10}
    assert set(shown("?max.p.long_window=12")) == long_10
    floor = points[4].numbers[0]
    above = {p.number for p in points if p.numbers[0] >= floor}
    assert set(shown(f"?min.m.sharpe={floor!r}")) == above
    assert set(shown(f"?min.m.sharpe={floor!r}&max.p.long_window=12")) == above & long_10
    assert shown("?min.m.sharpe=99") == []
    assert shown("?only=best") == [p.number for p in points if p.is_best]


def test_ten_thousand_points_stay_quick_and_none_is_shown_twice(trader, rows, sweep):
    import time

    rows.execute(sa.delete(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id))
    rows.execute(
        sa.insert(SweepPointRow),
        [
            {
                "sweep_id": sweep.id, "number": n,
                "parameters": {"short_window": 3 * (1 + n % 3), "long_window": 10 + 5 * (n // 3 % 3)},
                "numbers": [n % 700 / 100, 0.1, 0.2, 3.0], "plateau": 0.5, "is_best": False,
            }
            for n in range(10_000)
        ],
    )  # fmt: skip
    rows.commit()
    trader.get(f"/research/sweeps/{sweep.id}")
    started = time.perf_counter()
    first = trader.get(f"/research/sweeps/{sweep.id}").text
    assert time.perf_counter() - started < 1.5
    older = re.search(r'href="([^"]+)" [^>]*rel="next"', first)[1].replace("&amp;", "&")
    second = trader.get(older).text
    assert len(points_in(first)) == len(points_in(second)) == 40
    assert not set(points_in(first)) & set(points_in(second))
    assert "10 000 points" in words(first)
    lines = trader.get(f"/research/sweeps/{sweep.id}/lines.json").json
    assert lines["all"] == 10_000
    assert 500 <= lines["shown"] <= 1_500


def test_the_heat_map_holds_every_point_at_its_place(trader, rows, sweep):
    answer = trader.get(
        f"/research/sweeps/{sweep.id}/heat.json?x=short_window&y=long_window&value=m.trades"
    ).json
    assert answer["x"]["labels"] == ["3", "6", "9"]
    assert answer["y"]["labels"] == ["10", "15", "20"]
    for point in rows.scalars(sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id)):
        column = [3, 6, 9].index(point.parameters["short_window"])
        row = [10, 15, 20].index(point.parameters["long_window"])
        assert answer["cells"][row][column] == point.numbers[3]
    assert answer["points"] == [[1, 1, 1]] * 3


def test_other_parameters_of_the_map_count_by_their_best_their_mean_or_held(
    trader, rows, settings, stocks
):
    offered = confirmed(trader.get("/research/sweeps/new?type=bollinger_reversion").text)
    form = {
        **offered, "series": str(stocks.acme_series),
        "from.window": "5, 10", "to.window": "", "step.window": "",
        "from.deviations": "0.5", "to.deviations": "1.5", "step.deviations": "0.5",
        "from.stop": "0.02", "to.stop": "0.06", "step.stop": "0.02",
    }  # fmt: skip
    sweep = a_sweep(trader, rows, settings, form)
    points = rows.scalars(sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id)).all()
    assert len(points) == 18

    def cell(query):
        url = f"/research/sweeps/{sweep.id}/heat.json?x=deviations&y=window&value=m.total_return"
        return trader.get(f"{url}&{query}").json["cells"][1][0]

    here = {
        p.parameters["stop"]: p.numbers[1]
        for p in points
        if (p.parameters["window"], p.parameters["deviations"]) == (10, 0.5)
    }
    assert len(here) == 3
    assert cell("way=best") == max(here.values())
    assert cell("way=mean") == pytest.approx(sum(here.values()) / 3)
    assert cell("way=fixed&at.stop=0.04") == here[0.04]
    best = max(points, key=lambda p: p.numbers[0])
    assert cell("way=fixed") == here[best.parameters["stop"]]
    assert "0.04" in trader.get(f"/research/sweeps/{sweep.id}?way=fixed&at.stop=0.04").text


def test_the_lines_cross_every_parameter_and_what_it_is_judged_by(trader, rows, sweep):
    answer = trader.get(f"/research/sweeps/{sweep.id}/lines.json").json
    keys = [axis["key"] for axis in answer["axes"]]
    assert keys == [
        "p.short_window", "p.long_window", "m.sharpe", "m.max_drawdown", "m.trades", "plateau",
    ]  # fmt: skip
    assert (answer["shown"], answer["all"], answer["color"]) == (9, 9, 2)
    for number, short, long, sharpe, *_ in answer["lines"]:
        point = rows.get_one(SweepPointRow, (sweep.id, number))
        assert point.parameters == {"short_window": short, "long_window": long}
        assert point.numbers[0] == sharpe


def test_all_points_come_as_a_file(viewer, rows, sweep):
    answer = viewer.get(f"/research/sweeps/{sweep.id}/points.csv")
    head, *lines = csv.reader(io.StringIO(answer.text))
    assert head == [
        "number", "short_window", "long_window", *COMPUTED, "plateau", "is_best", "error",
    ]  # fmt: skip
    assert len(lines) == 9
    assert sum(line[head.index("is_best")] == "yes" for line in lines) == 1


# --- what can be done -------------------------------------------------------------------------------


def test_one_press_leads_from_a_point_to_its_full_run_and_the_next_one_to_the_same(
    trader, rows, settings, real_sweep
):
    sweep = real_sweep
    point = rows.scalars(sa.select(SweepPointRow).where(SweepPointRow.is_best)).one()
    url = f"/research/sweeps/{sweep.id}/points/{point.number}/run"
    trader.post(url)
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    run = rows.get_one(RunRow, job.result["run_id"])
    assert run.parameters == point.parameters
    assert run.code_hash == sweep.code_hash
    numbers = [run.metrics[name]["value"] for name in COMPUTED]
    assert numbers == pytest.approx(point.numbers, rel=1e-9)
    assert trader.post(url).location == f"/research/runs/{run.id}"
    assert rows.scalar(sa.select(sa.func.count()).where(JobRow.kind == "backtest")) == 1
    assert f'href="/research/runs/{run.id}"' in trader.get(f"/research/sweeps/{sweep.id}").text


def test_the_full_run_of_a_point_counts_the_combinations_it_was_chosen_from(
    trader, rows, settings, real_sweep
):
    sweep = real_sweep
    trader.post(f"/research/sweeps/{sweep.id}/points/4/run")
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    run = rows.get_one(RunRow, job.result["run_id"])
    assert run.metrics["dsr"]["details"]["trials"] == 9
    page = trader.get(f"/research/runs/{run.id}").text
    assert f"Chosen from sweep #{sweep.id} , 9 combinations" in words(page)
    assert re.search(r"of 9 trials, above \d", words(page))
    assert "trials 9" in words(page)  # among the inputs of the number


def asked_of_a_point(trader, rows, sweep, number=0, **series):
    trader.post(f"/research/sweeps/{sweep.id}/points/{number}/run", data=series)
    asked = jobs.BacktestRequest(**newest_job(rows, "backtest").arguments)
    assert asked.sweep_id == sweep.id
    return asked.trials, asked.trials_variance


def test_a_point_is_told_how_far_the_ratios_scatter_once_there_are_ten(trader, rows, sweep):
    sweep.total = 12
    rows.add_all(
        SweepPointRow(sweep_id=sweep.id, number=n, parameters={}, numbers=[None] * 4, error="no")
        for n in (9, 10)
    )
    rows.commit()
    assert asked_of_a_point(trader, rows, sweep) == (11, None)  # nine ratios say nothing
    rows.add(
        SweepPointRow(sweep_id=sweep.id, number=11, parameters={}, numbers=[0.5, 0.0, 0.0, 1.0])
    )
    rows.commit()
    variance = statistics.variance([*SHARPE, 0.5])
    assert asked_of_a_point(trader, rows, sweep, 1) == (12, pytest.approx(variance))


def test_a_point_of_a_sweep_that_goes_on_counts_all_that_will_be_tried(trader, rows, sweep):
    standing = [
        ("running", "running", 400),
        ("running", "stopped", 9),
        ("cancelled", "stopped", 9),
        ("failed", "running", 400),
    ]
    sweep.total = 400
    for number, (sweep.state, sweep.wanted, trials) in enumerate(standing):
        rows.commit()
        assert asked_of_a_point(trader, rows, sweep, number) == (trials, None)


def test_a_point_of_several_series_is_held_against_the_ratios_on_its_own(trader, rows, sweep):
    other = {**sweep.series[0], "series_id": 777, "name": "OTHER 1d"}
    sweep.series = [*sweep.series, other]
    rows.execute(sa.delete(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id))
    rows.add_all(
        SweepPointRow(
            sweep_id=sweep.id, number=n, parameters={}, numbers=[0.0] * 4,
            by_series=[float(n), *[0.0] * 3, 10.0 * n, *[0.0] * 3],
        )
        for n in range(10)
    )  # fmt: skip
    rows.commit()
    variance = statistics.variance(range(10))
    assert asked_of_a_point(trader, rows, sweep) == (10, pytest.approx(variance))
    assert asked_of_a_point(trader, rows, sweep, 0, series="777") == (
        10,
        pytest.approx(100 * variance),
    )


def test_a_sweep_of_code_that_looks_ahead_says_so(trader, rows, settings, real_sweep):
    url = f"/research/sweeps/{real_sweep.id}"
    trader.post(f"{url}/points/0/run")
    job = newest_job(rows, "backtest")
    do_job(settings, job.id)
    rows.refresh(job)
    assert "looks ahead" not in trader.get(url).text
    run = rows.get_one(RunRow, job.result["run_id"])
    run.gate = {**(run.gate or {}), "verdict": "leaks", "text": "its signal knows tomorrow's close"}
    rows.commit()
    text = words(trader.get(url).text).replace("&#39;", "'")
    assert (
        f"the code looks ahead. Run #{run.id} found that its signal knows tomorrow's close" in text
    )


def test_a_sweep_over_several_series_runs_a_point_on_the_one_that_is_chosen(
    trader, rows, settings, stocks, form
):
    both = [str(stocks.acme_series), str(stocks.tiny_series)]
    sweep = a_sweep(trader, rows, settings, form, series=both, **{"objective.0": "total_return"})
    page = trader.get(f"/research/sweeps/{sweep.id}").text
    assert "ACME 1d, TINY/USD 1m" in page
    on_tiny = f"m.total_return.{stocks.tiny_series}"
    assert f'<option value="{on_tiny}">Total return on TINY/USD 1m</option>' in page
    cells = trader.get(f"/research/sweeps/{sweep.id}/heat.json?value={on_tiny}").json["cells"]
    query = sa.select(SweepPointRow).where(SweepPointRow.sweep_id == sweep.id)
    points = rows.scalars(query.order_by(SweepPointRow.number)).all()
    place = len(sweep.metrics) + list(sweep.metrics).index("total_return")
    assert any(p.by_series[place] is not None for p in points)
    assert sorted(c for row in cells for c in row if c is not None) == sorted(
        p.by_series[place] for p in points if p.by_series[place] is not None
    )
    head, *lines = csv.reader(
        io.StringIO(trader.get(f"/research/sweeps/{sweep.id}/points.csv").text)
    )
    assert float(lines[0][head.index("trades on TINY/USD 1m")]) == points[0].by_series[-1]
    trader.post(f"/research/sweeps/{sweep.id}/points/0/run", data={"series": both[1]})
    asked = jobs.BacktestRequest(**newest_job(rows, "backtest").arguments)
    assert asked.inputs["main"]["series_id"] == stocks.tiny_series
    other = trader.post(f"/research/sweeps/{sweep.id}/points/0/run", data={"series": "77"})
    assert other.status_code == 404


def test_cancel_takes_jobs_out_of_line_keeps_results_and_resume_asks_for_the_rest(
    trader, rows, settings, form
):
    sweep = plan(trader, rows, settings, form)
    one_chunk(rows, settings, sweep)
    answer = trader.post(f"/research/sweeps/{sweep.id}/cancel")
    assert answer.status_code == 303
    rows.expire_all()
    assert rows.get_one(SweepRow, sweep.id).wanted == "stopped"
    assert not one_chunk(rows, settings, sweep)
    assert rows.scalar(sa.select(sa.func.count()).select_from(SweepPointRow)) == 4
    page = trader.get(f"/research/sweeps/{sweep.id}").text
    assert "stopping" in page
    trader.post(f"/research/sweeps/{sweep.id}/resume")
    rows.expire_all()
    row = rows.get_one(SweepRow, sweep.id)
    assert (row.wanted, row.resumed) == ("running", 1)
    actions = set(rows.scalars(sa.select(AuditRow.action)))
    assert {"sweep.cancel", "sweep.resume"} <= actions


def test_parts_of_a_sweep_are_no_jobs_of_the_list_unless_they_failed(trader, rows, sweep):
    page = trader.get("/jobs").text
    assert "Sweep it" in page
    assert "chunk" not in page
    chunk = rows.scalars(sa.select(SweepChunkRow).limit(1)).one()
    rows.get_one(JobRow, chunk.job_id).state = "failed"
    rows.commit()
    assert "chunk 1" in trader.get("/jobs").text


def test_a_sweep_that_is_not_there_is_said_so(trader):
    for path in ("", "/progress", "/rows", "/heat.json", "/lines.json", "/points.csv"):
        assert trader.get(f"/research/sweeps/99{path}").status_code == 404


def test_viewers_see_sweeps_and_start_none(viewer, sweep):
    page = viewer.get(f"/research/sweeps/{sweep.id}").text
    assert "Full run" not in page.split("<tbody>")[1]
    assert "Change and search again" not in page
    assert viewer.get("/research/sweeps/new").status_code == 403
