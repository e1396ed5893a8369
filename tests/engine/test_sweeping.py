"""Sweeps from a request to ranked points, on real PostgreSQL: chunks, cancelling, resuming, losing and failing."""

import random

import numpy as np
import pytest
import sqlalchemy as sa

from engine.backtest import metrics
from engine.jobs import lose
from engine.sweeping import advancing, due, proposing, ranking
from engine.sweeping.evaluation import evaluate
from shared import bus
from shared.db.backtests import JobRow
from shared.db.market import BarRow
from shared.db.sweeps import SweepChunkRow, SweepPointRow, SweepRow
from shared.db.trading import EventRow
from shared.domain.objectives import (
    ALWAYS_KEPT,
    LOWER_IS_BETTER,
    METRICS,
    BadObjective,
    Objective,
    aggregated,
    kept,
    objectives_from,
)
from shared.domain.space import (
    MOST_POINTS,
    Axis,
    BadSpace,
    Space,
    count,
    drawn,
    grid,
    parse_axis,
    space_from,
)
from tests.engine.sweeps import SPACE, Laboratory, a_surface

CROSS = ["short_window < long_window"]


@pytest.fixture(scope="module")
def laboratory(module_settings):
    """One for all tests; each has series and sweeps of its own."""
    made = Laboratory(module_settings)
    yield made
    made.end()


@pytest.fixture(scope="module")
def a_series(laboratory):
    return laboratory.series()


@pytest.fixture
def clock(laboratory):
    """What `clock` does once a second."""
    client = bus.connect(laboratory.settings.redis_url)

    def tick():
        with laboratory.sessions() as session:
            due.keep_going(session, client)

    yield tick
    client.close()


def call_off(laboratory, sweep_id):
    with laboratory.sessions() as session:
        session.get_one(SweepRow, sweep_id).wanted = "stopped"
        session.commit()


def resume(laboratory, sweep_id):
    with laboratory.sessions() as session:
        row = session.get_one(SweepRow, sweep_id)
        row.wanted, row.resumed = "running", row.resumed + 1
        session.commit()


# --- what is searched -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5:8", (5, 6, 7, 8)),
        ("30:129:25", (30, 55, 80, 105)),
        ("0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("1.5", (1.5,)),
        ("a,b,a", ("a", "b")),
        ("true,false", (True, False)),
    ],
)
def test_an_axis_is_read_as_it_is_typed(text, values):
    assert parse_axis("x", text) == Axis("x", values)


def test_a_range_without_a_step_between_broken_numbers_is_continuous():
    assert parse_axis("x", "0.1:0.5") == Axis("x", (), 0.1, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9:3", "x: 9 is above 3"),
        ("1:5:0", "x: a step of 0 leads nowhere"),
        ("1:5:-1", "x: a step of -1 leads nowhere"),
        ("1:b", "x: 'b' is not a number"),
        ("1:2:3:4", "is no range"),
        ("", "there is no value to try"),
        ("0:1:0.00001", "values are too many: give a larger step"),
        ("nan:1", "is not a number"),
    ],
)
def test_an_axis_that_cannot_be_says_why(text, said):
    with pytest.raises(BadSpace, match=said):
        parse_axis("x", text)


def test_a_grid_is_every_combination_that_the_constraints_allow_the_last_parameter_fastest():
    space = space_from(
        [{"name": "a", "low": 1, "high": 4}, {"name": "b", "values": [2, 4]}],
        ["a < b", "(a + b) % 3 != 0 or a == 1"],
    )
    expected = [
        {"a": a, "b": b}
        for a in range(1, 5)
        for b in (2, 4)
        if a < b and ((a + b) % 3 != 0 or a == 1)
    ]
    assert grid(space) == expected
    assert count(space) == len(expected)


def test_constraints_compare_words_and_chains_and_take_a_division_by_zero_for_false():
    axes = [{"name": "n", "low": 0, "high": 3}, {"name": "w", "values": ["x", "y"]}]
    assert grid(space_from(axes, ["not w == 'x'", "0 <= n <= 1"])) == [
        {"n": 0, "w": "y"},
        {"n": 1, "w": "y"},
    ]
    assert count(space_from(axes, ["6 / n > 2"])) == 4  # n = 1 and 2, not 0
    assert count(space_from(axes, ["n % 0 == 1"])) == 0


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "a.__class__ < b",
        "(lambda: 1)() < 2",
        "a ** b < 9",
        "[a] < b",
        "a if b else 1",
        "a",
        "a + b",
        "a <",
        "a in b",
        "a is b",
        "a < 1j",
        "a < " + "1 +" * 80 + " 1",
    ],
)
def test_a_constraint_that_is_more_than_comparing_and_counting_is_refused(text):
    with pytest.raises(BadSpace):
        space_from([{"name": "a", "low": 1, "high": 2}, {"name": "b", "low": 1, "high": 2}], [text])


def test_an_unknown_name_in_a_constraint_is_told_with_those_there_are():
    with pytest.raises(BadSpace, match=r"c is no parameter here \(known: a\)"):
        space_from([{"name": "a", "low": 1, "high": 2}], ["a < c"])


def test_a_word_compared_with_a_number_is_refused():
    with pytest.raises(BadSpace, match="compares a word with a number"):
        grid(space_from([{"name": "a", "values": ["x", "y"]}], ["a < 3"]))


def test_a_grid_that_is_too_large_says_how_large_before_it_is_made():
    axes = [{"name": n, "low": 1, "high": 1000} for n in "abc"]
    with pytest.raises(BadSpace, match="1,000,000,000 combinations are more than 100,000"):
        grid(space_from(axes, []))
    with pytest.raises(BadSpace, match="a: a grid needs a step"):
        grid(space_from([{"name": "a", "low": 0.1, "high": 0.2}], []))
    assert MOST_POINTS == 100_000


@pytest.mark.parametrize("continuous", [False, True])
def test_random_combinations_differ_are_allowed_and_come_again_with_the_seed(continuous):
    high = {"low": 0.0, "high": 50.5} if continuous else {"low": 1, "high": 40}
    space = space_from([{"name": "a", "low": 1, "high": 40}, {"name": "b", **high}], ["a < b"])
    found = drawn(space, 200, 7)
    assert found == drawn(space, 200, 7)
    assert found != drawn(space, 200, 8)
    assert len({tuple(c.values()) for c in found}) == 200
    assert all(c["a"] < c["b"] for c in found)


def test_random_search_over_few_combinations_finds_them_all_and_no_more():
    space = space_from([{"name": "a", "low": 1, "high": 5}], ["a != 3"])
    assert sorted(c["a"] for c in drawn(space, 99, 1)) == [1, 2, 4, 5]
    assert drawn(space, 9, 1, but=[{"a": 1}, {"a": 2}, {"a": 4}, {"a": 5}]) == []


# --- what it is judged by ---------------------------------------------------------------------------


def test_an_objective_takes_the_direction_most_people_want():
    found = objectives_from([{"metric": "sharpe"}, {"metric": "max_drawdown"}])
    assert [o.direction for o in found] == ["maximize", "minimize"]
    assert kept(found) == ("sharpe", "max_drawdown", "total_return", "trades")


def test_every_metric_that_can_be_searched_for_is_one_of_a_run_in_its_unit():
    of_runs = {definition.name: definition.unit for definition in metrics.DEFINITIONS}
    assert {name: unit for name, (_, unit) in METRICS.items()}.items() <= of_runs.items()
    assert set(ALWAYS_KEPT) | LOWER_IS_BETTER <= set(METRICS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "0 given; give 1 to 3"),
        ([{"metric": "luck"}], "'luck' is not one of sharpe"),
        ([{"metric": "sharpe", "direction": "up"}], "'up' is not one of maximize, minimize"),
        ([{"metric": "sharpe"}, {"metric": "sharpe"}], "given twice"),
    ],
)
def test_an_objective_that_cannot_be_says_why(given, said):
    with pytest.raises(BadObjective, match=said):
        objectives_from(given)


@pytest.mark.parametrize(
    ("aggregate", "direction", "expected"),
    [
        ("mean", "maximize", 3.0),
        ("median", "maximize", 2.0),
        ("worst", "maximize", 1.0),
        ("worst", "minimize", 6.0),
    ],
)
def test_several_series_make_one_number(aggregate, direction, expected):
    assert aggregated([1.0, 2.0, 6.0], aggregate, direction) == expected
    assert aggregated([1.0, None, 6.0], aggregate, direction) is None


# --- hill or spike ----------------------------------------------------------------------------------

AXES = [Axis("x", tuple(range(20))), Axis("y", tuple(range(20)))]


def hill(x, y):
    return float(np.exp(-((x - 10) ** 2 + (y - 10) ** 2) / 60))


def spike(x, y):
    return float((x, y) == (10, 10))


def ridge(x, y):
    return float(x == 10)


def score_at_the_top(peak, method="grid"):
    values, combinations = a_surface(20, 20, peak)
    score = ranking.plateau(AXES, combinations, values, method)
    return score[combinations.index({"x": 10, "y": 10})]


@pytest.mark.parametrize("method", ["grid", "random"])
def test_the_top_of_a_hill_is_told_from_a_spike_and_a_ridge_lies_between(method):
    on_hill, on_ridge, on_spike = (score_at_the_top(p, method) for p in (hill, ridge, spike))
    assert on_hill > 0.9
    assert on_spike < 0.1
    assert 0.2 < on_ridge < 0.7


def test_points_below_the_median_and_lonely_ones_have_no_score():
    values, combinations = a_surface(20, 20, hill)
    score = ranking.plateau(AXES, combinations, values, "grid")
    assert np.isnan(score[values <= np.median(values)]).all()
    assert np.isfinite(score[values > np.median(values) + 0.01]).all()
    alone = ranking.plateau([Axis("x", (1, 2))], [{"x": 1}, {"x": 2}], np.array([1.0, 2.0]), "grid")
    assert np.isnan(alone).all()


def test_a_failed_neighbour_keeps_nothing_and_a_forbidden_one_does_not_count():
    values, combinations = a_surface(3, 3, lambda x, y: 1.0 if x < 2 else 0.0)
    combinations = [{"x": c["x"], "y": c["y"]} for c in combinations]
    axes = [Axis("x", (0, 1, 2)), Axis("y", (0, 1, 2))]
    values = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) + np.arange(9) / 1e6
    values[0] = 2.0
    whole = ranking.plateau(axes, combinations, values, "grid")[0]
    failed = values.copy()
    failed[1] = np.nan
    assert ranking.plateau(axes, combinations, failed, "grid")[0] < whole
    without = [c for c in combinations if c != {"x": 0, "y": 1}]
    rest = ranking.plateau(axes, without, np.delete(values, 1), "grid")[0]
    assert rest == pytest.approx(whole, abs=0.02)


def test_words_have_no_neighbours():
    axes = [Axis("x", (1, 2, 3)), Axis("w", ("a", "b"))]
    combinations = [{"x": x, "w": w} for x in (1, 2, 3) for w in "ab"]
    values = np.array([0.0, 9.0, 1.0, 0.0, 0.5, 0.1])  # 9 stands alone among its own word
    score = ranking.plateau(axes, combinations, values, "random")
    assert np.isnan(score[1]) or score[1] < 0.1


def test_the_front_holds_those_no_other_beats_in_everything():
    random_ = np.random.default_rng(3)
    values = random_.integers(0, 12, (300, 3)).astype(float)
    values[5] = np.nan
    expected = [
        not np.isnan(row).any()
        and not any((other >= row).all() and (other > row).any() for other in values)
        for row in values
    ]
    assert ranking.front(values).tolist() == expected
    assert sum(expected) > 3


# --- from the request to the points -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["grid", "random"])
def test_chunks_done_in_any_order_give_what_one_process_gives(laboratory, method):
    trials = 15 if method == "random" else 0
    series = laboratory.series()
    sweeps = []
    for pick in (min, max, random.Random(5).choice):
        chosen = pick if pick in (min, max) else lambda rows, key, pick=pick: pick(rows)
        sweep_id = laboratory.sweep([series], method=method, trials=trials, constraints=CROSS)
        assert laboratory.finish(sweep_id, chosen).state == "done"
        sweeps.append(sweep_id)
    first = laboratory.values(sweeps[0])
    assert len(first) == (15 if method == "random" else 19)
    assert first == laboratory.alone(sweeps[0])
    assert [laboratory.values(other) for other in sweeps[1:]] == [first, first]


def test_what_a_combination_comes_to_never_hangs_on_those_in_its_chunk(laboratory, a_series):
    """Runs with stops take another way than those without; dice begin anew with each."""
    space = [
        {"name": "window", "low": 5, "high": 7},
        {"name": "deviations", "values": [0.5, 1.0]},
        {"name": "stop", "values": [0.0, 0.05]},
        {"name": "patience", "values": [0, 9]},
    ]
    sweep_id = laboratory.sweep([a_series], space, base={"strategy_type": "bollinger_reversion"})
    specification, combinations = laboratory.specification(sweep_id)
    metrics = laboratory.row(sweep_id).metrics
    together = evaluate(specification, combinations, metrics)
    alone = [evaluate(specification, [one], metrics)[0] for one in combinations]
    backwards = evaluate(specification, combinations[::-1], metrics)[::-1]
    assert together == alone == backwards
    assert len({one.numbers for one in together}) > 6
    assert not any(one.error for one in together)


def test_a_finished_sweep_has_its_best_its_scores_and_its_line_in_what_happened(laboratory):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    sweep = laboratory.finish(sweep_id)
    points = laboratory.points(sweep_id)
    [best] = [p for p in points if p.is_best]
    assert best.numbers[0] == max(p.numbers[0] for p in points)
    assert any(p.plateau is not None for p in points)
    assert sweep.text == f"19 combinations, best sharpe {best.numbers[0]:,.2f}"
    with laboratory.sessions() as session:
        link = f"/research/sweeps/{sweep_id}"
        [event] = session.scalars(sa.select(EventRow).where(EventRow.link == link)).all()
    assert (event.kind, event.text) == ("job", f"Sweep it: {sweep.text}")


def test_the_strategys_own_check_takes_combinations_away_before_anything_runs(laboratory):
    sweep = laboratory.row(laboratory.sweep([laboratory.series()]))
    assert (sweep.total, sweep.excluded) == (19, 1)  # 12 is not less than 10


def test_one_bad_combination_has_its_error_and_fails_nothing(laboratory):
    folder = laboratory.settings.strategies_folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "moody.py").write_text(
        "import numpy as np\n"
        "from engine.strategies.base import BaseStrategy, param\n"
        "from engine.strategies.registry import register_strategy\n"
        "from shared.domain.signals import Signals\n\n\n"
        "@register_strategy('moody')\n"
        "class Moody(BaseStrategy):\n"
        "    mood = param(1, ge=0, le=9)\n\n"
        "    def generate_signals(self, f):\n"
        "        return Signals(np.full(len(f), 6 / (self.mood - 3)))\n"
    )
    from engine import catalogue

    with laboratory.sessions() as session:
        catalogue.sync(session.connection(), folder)
        session.commit()
    base = {"strategy_type": "moody", "sizing": {"method": "value", "value": "100"}}
    space = [{"name": "mood", "low": 0, "high": 5}]
    sweep_id = laboratory.sweep([laboratory.series()], space, base=base)
    assert laboratory.finish(sweep_id).state == "done"
    errors = {p.parameters["mood"]: p.error for p in laboratory.points(sweep_id)}
    assert errors.pop(3) == "ZeroDivisionError: division by zero"
    assert set(errors.values()) == {None}
    assert len(errors) == 5


def test_each_combination_runs_on_each_series_and_both_are_kept(laboratory):
    ids = [laboratory.series(seed=3), laboratory.series(seed=4)]
    both = laboratory.sweep(ids, constraints=CROSS, aggregate="worst")
    laboratory.finish(both)
    alone = [laboratory.sweep([one], constraints=CROSS) for one in ids]
    for sweep_id in alone:
        laboratory.finish(sweep_id)
    rows = zip(laboratory.points(both), *map(laboratory.points, alone), strict=True)
    for point, on_x, on_y in rows:
        assert point.by_series == on_x.numbers + on_y.numbers
        assert point.numbers[0] == min(on_x.numbers[0], on_y.numbers[0])
        assert point.numbers[2] == max(on_x.numbers[2], on_y.numbers[2])  # drawdown: more is worse


def test_a_bayesian_search_is_the_same_whoever_is_first_and_finds_a_better_place(laboratory):
    series = laboratory.series()
    space = [
        {"name": "short_window", "low": 2, "high": 40},
        {"name": "long_window", "low": 5, "high": 90},
    ]
    asked = {"method": "bayes", "trials": 50, "constraints": CROSS, "seed": 4}
    sweeps = [laboratory.sweep([series], space, **asked) for _ in range(2)]
    for sweep_id, pick in zip(sweeps, (min, max), strict=True):
        assert laboratory.finish(sweep_id, pick).state == "done"
    first = laboratory.values(sweeps[0])
    assert first == laboratory.values(sweeps[1])
    assert len({tuple(parameters.values()) for _, parameters, _ in first}) == 50
    assert all(p["short_window"] < p["long_window"] for _, p, _ in first)
    sharpe = [numbers[0] for _, _, numbers in first]
    assert np.mean(sharpe[20:]) > np.mean(sharpe[:20])


def test_bayesian_search_climbs_a_planted_hill_with_one_objective_and_with_two():
    space = space_from(
        [
            {"name": "x", "low": 0, "high": 99},
            {"name": "y", "low": 0.0, "high": 9.9},
            {"name": "w", "values": ["a", "b"]},
        ],
        ["x + y > 1"],
    )

    def height(c):
        return -abs(c["x"] - 70) - 5 * abs(c["y"] - 3.3) - (c["w"] == "a") * 20

    for objectives in (
        (Objective("sharpe"),),
        (Objective("sharpe"), Objective("fees", "minimize")),
    ):
        tried, values = [], []
        for _ in range(6):
            more = proposing.propose(space, objectives, tried, values, seed=2)
            assert len(more) == proposing.BATCH
            tried += more
            values += [[height(c), -height(c)][: len(objectives)] for c in more]
        heights = [v[0] for v in values]
        assert np.mean(heights[-20:]) > np.mean(heights[:20]) + 15
        assert len({tuple(c.values()) for c in tried}) == len(tried)


def test_a_bayesian_search_ends_when_there_is_nothing_left_to_try(laboratory):
    space = [{"name": "short_window", "low": 2, "high": 26}]
    sweep_id = laboratory.sweep([laboratory.series()], space, method="bayes", trials=60)
    sweep = laboratory.finish(sweep_id)
    assert (sweep.state, sweep.total, sweep.planned) == ("done", 25, 25)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"space": [{"name": "shrt", "low": 1, "high": 2}]}, "shrt: is no parameter here"),
        ({"space": [{"name": "short_window", "low": 0, "high": 2}]}, "must be at least 1"),
        (
            {"space": [{"name": "short_window", "low": 1.5, "high": 4.5}]},
            "short_window: is a whole number",
        ),
        ({"space": [{"name": "short_window", "low": 90, "high": 99}]}, "no combination is left"),
        ({"constraints": ["short_window > 99"]}, "no combination is left"),
        ({"constraints": ["shrt > 1"]}, "shrt is no parameter here"),
        ({"objectives": [{"metric": "luck"}]}, "objectives: 'luck' is not one of"),
        ({"method": "guess"}, "method: 'guess' is not one of grid, random, bayes"),
        ({"method": "random", "trials": 0}, "trials: 0 must be from 1 to 20,000"),
        ({"aggregate": "best"}, "aggregate: 'best' is not one of mean, median, worst"),
        ({"base": {"strategy_type": "nonsense"}}, "strategy type 'nonsense' is not one of"),
        ({"base": {"capital": "much"}}, "capital: 'much' is not an amount"),
        ({"base": {"colour": "red"}}, "colour"),
    ],
)
def test_a_wrong_request_is_refused_by_field_value_and_remedy(laboratory, a_series, changed, said):
    job = laboratory.ask([a_series], **changed)
    assert job.state == "failed"
    assert said in job.error
    assert "Traceback" not in job.error
    with laboratory.sessions() as session:
        query = sa.select(sa.func.count()).where(SweepRow.job_id == job.id)
        assert session.scalar(query) == 0


def test_a_sweep_without_series_or_on_one_that_is_not_there_is_refused(laboratory):
    assert "main: choose at least one series" in laboratory.ask([]).error
    assert "main: there is no series 9999" in laboratory.ask([9999]).error


# --- losing, calling off, going on ------------------------------------------------------------------


def test_a_sweep_called_off_keeps_what_it_found_and_goes_on_with_only_what_is_missing(
    laboratory, clock
):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    laboratory.do(*laboratory.waiting(sweep_id)[0])
    found = laboratory.values(sweep_id)
    call_off(laboratory, sweep_id)
    clock()
    assert laboratory.waiting(sweep_id) == []
    clock()
    sweep = laboratory.row(sweep_id)
    assert (sweep.state, sweep.text) == ("cancelled", "Cancelled; what was found is kept")
    assert laboratory.values(sweep_id) == found
    assert found
    resume(laboratory, sweep_id)
    clock()
    sweep = laboratory.finish(sweep_id)
    assert sweep.state == "done"
    assert laboratory.values(sweep_id) == laboratory.alone(sweep_id)


def test_a_running_chunk_hears_that_it_is_called_off(laboratory, clock):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    job_id, attempt = laboratory.waiting(sweep_id)[0]
    with laboratory.sessions() as session:
        session.get_one(JobRow, job_id).state = "running"
        session.commit()
    call_off(laboratory, sweep_id)
    clock()
    with laboratory.sessions() as session:
        job = session.get_one(JobRow, job_id)
        assert job.cancel_requested_at is not None
        assert lose(session, job_id, attempt, "it stopped") is None
    clock()
    assert laboratory.row(sweep_id).state == "cancelled"


def test_a_chunk_whose_workers_died_fails_the_sweep_and_a_retry_does_only_it(laboratory, clock):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    job_id, attempt = laboratory.waiting(sweep_id)[0]
    while attempt:
        with laboratory.sessions() as session:
            session.get_one(JobRow, job_id).state = "running"
            session.commit()
            attempt = lose(session, job_id, attempt, "the worker died")
    sweep = laboratory.finish(sweep_id)
    assert sweep.state == "failed"
    assert sweep.text.startswith("1 chunk failed: Given up after 3 attempts")
    before = len(laboratory.points(sweep_id))
    assert before == 19 - advancing.PROBE
    clock()
    assert laboratory.row(sweep_id).state == "failed"  # nobody asked for more
    resume(laboratory, sweep_id)
    clock()
    assert len(laboratory.waiting(sweep_id)) == 1
    assert laboratory.finish(sweep_id).state == "done"
    assert laboratory.values(sweep_id) == laboratory.alone(sweep_id)


def test_a_chunk_done_twice_is_stored_once(laboratory):
    """Its worker was taken for dead and another one did it."""
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    job_id, attempt = laboratory.waiting(sweep_id)[0]
    laboratory.do(job_id, attempt)
    laboratory.do(job_id, attempt)
    assert len(laboratory.points(sweep_id)) == advancing.PROBE


def test_the_clock_takes_on_a_sweep_that_nobody_took_on(laboratory, clock):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    with laboratory.sessions() as session:  # as if the process died right after its commit
        session.execute(sa.delete(SweepChunkRow).where(SweepChunkRow.sweep_id == sweep_id))
        session.get_one(SweepRow, sweep_id).carved = 0
        session.commit()
    clock()
    assert laboratory.finish(sweep_id).state == "done"


def test_bars_that_change_under_a_sweep_stop_it_instead_of_mixing_old_and_new(laboratory, clock):
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    with laboratory.sessions() as session:
        instrument_id = laboratory.row(sweep_id).series[0]["instrument_id"]
        session.execute(
            sa.update(BarRow)
            .where(BarRow.instrument_id == instrument_id)
            .values(volume=BarRow.volume * 2)
        )
        session.commit()
    while waiting := laboratory.waiting(sweep_id):
        laboratory.do(*waiting[0])
    clock()
    sweep = laboratory.row(sweep_id)
    assert sweep.state == "failed"
    assert "changed since the sweep began" in sweep.text
    assert laboratory.points(sweep_id) == []


def test_chunks_grow_to_what_a_worker_does_in_a_second_and_share_the_end():
    sweep = SweepRow(planned=10_000, carved=0, rate=None)
    assert advancing._points(sweep, 2) == advancing.PROBE
    sweep.rate = 300.0
    assert advancing._points(sweep, 2) == 360
    sweep.carved = 9_900
    assert advancing._points(sweep, 2) == 50
    assert advancing._points(sweep, 2, beside=0.3) == 90
    sweep.rate = 0.1
    assert advancing._points(sweep, 2) == 1


def test_results_of_a_chunk_and_its_being_done_are_one(laboratory):
    """A result that cannot be stored leaves neither points nor a chunk that is done."""
    sweep_id = laboratory.sweep([laboratory.series()], constraints=CROSS)
    with laboratory.sessions() as session:
        session.add(SweepPointRow(sweep_id=sweep_id, number=3, parameters={}, numbers=[]))
        session.commit()
    laboratory.do(*laboratory.waiting(sweep_id)[0])
    assert [p.number for p in laboratory.points(sweep_id)] == [3]
    with laboratory.sessions() as session:
        chunk = session.get_one(SweepChunkRow, (sweep_id, 1))
        assert chunk.done_at is None
        assert session.get_one(JobRow, chunk.job_id).state == "failed"


def test_the_space_of_the_tests_is_what_it_is_taken_for():
    assert count(space_from(SPACE, CROSS)) == 19
    assert Space(()).raw == 1
