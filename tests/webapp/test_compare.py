"""Notes, tags and stars on runs, and runs side by side."""

import re

import pytest

from tests.webapp.history import some_stocks
from tests.webapp.made_runs import a_run
from webapp import compare, marks

PARTIAL = {"HX-Request": "true"}


@pytest.fixture
def runs(rows, settings):
    """Three runs: two of one strategy, one with other costs and half the capital."""
    series_id = some_stocks(rows, settings).acme_series
    fast, slow = ({"short_window": 5, "long_window": 15}, {"short_window": 10, "long_window": 30})
    return [
        a_run(rows, settings, series_id, parameters=fast),
        a_run(rows, settings, series_id, parameters=slow),
        a_run(
            rows, settings, series_id, parameters=fast, capital="50000", costs={"fee_rate": "0.01"}
        ),
    ]


def side_by_side(client, *ids):
    return client.get("/research/compare?" + "&".join(f"run={id_}" for id_ in ids)).text


def listed(client, query=""):
    """The numbers of the runs a list shows."""
    html = client.get(f"/research{query}").text
    return [int(found) for found in re.findall(r'<tr id="run-(\d+)">', html)]


# Side by side -----------------------------------------------------------------------------------


def test_the_best_of_each_row_is_marked_and_money_of_other_capitals_is_not_judged(runs):
    first, second, _ = runs
    lines = {
        line.name: line for line in compare.lines(runs[:2], ("sharpe", "max_drawdown", "fees"))
    }
    values = {
        name: [run.metrics[name]["value"] for run in (first, second)]
        for name in ("sharpe", "max_drawdown", "fees")
    }
    for name, wanted in (("sharpe", max), ("max_drawdown", min), ("fees", min)):
        best = [cell.best for cell in lines[name].cells]
        assert best == [value == wanted(values[name]) for value in values[name]], name
        assert sum(best) == 1
    every = {line.name: line for line in compare.lines(runs, ("sharpe", "fees"))}
    assert any(cell.best for cell in every["sharpe"].cells)
    assert not any(cell.best for cell in every["fees"].cells)


def test_equal_numbers_neutral_ones_and_missing_ones_have_no_best(runs):
    first, second, _ = runs
    same = compare.lines([first, first], ("sharpe",))[0]
    assert not any(cell.best for cell in same.cells)
    neutral = compare.lines([first, second], ("exposure",))[0]
    assert not any(cell.best for cell in neutral.cells)
    second.metrics = {**second.metrics, "sharpe": {"value": None, "reason": "too short"}}
    lost = compare.lines([first, second], ("sharpe", "nothing_at_all"))
    assert [line.name for line in lost] == ["sharpe"]
    assert [cell.text for cell in lost[0].cells][1] == "—"
    assert lost[0].cells[1].reason == "too short"
    assert not any(cell.best for cell in lost[0].cells)


def test_every_number_that_is_judged_has_a_title():
    known = {name for names in compare.numbers.FAMILIES.values() for name in names}
    assert known >= compare.HIGHER | compare.LOWER
    assert not compare.HIGHER & compare.LOWER


def test_only_what_differs_is_told(runs):
    told = {one.title: one.texts for one in compare.differences(runs[:2])}
    assert told == {"Short window": ["5", "10"], "Long window": ["15", "30"]}
    told = {one.title: one.texts for one in compare.differences([runs[0], runs[2]])}
    assert told["Capital"] == ["100000", "50000"]
    assert "Short window" not in told
    assert any(title.startswith("Costs") for title in told)
    assert compare.differences([runs[0], runs[0]]) == []


def test_the_page_shows_the_runs_in_the_order_of_the_address(viewer, runs):
    html = side_by_side(viewer, runs[1].id, runs[0].id, runs[1].id)
    heads = re.findall(r'<i class="run-key run-\d"[^>]*></i><a href="/research/runs/(\d+)">', html)
    assert heads[:2] == [str(runs[1].id), str(runs[0].id)]
    assert "Compare 2 runs" in html
    assert "is-best" in html


def test_curves_are_of_each_run_s_own_capital(viewer, runs):
    ids = "&".join(f"run={run.id}" for run in runs)
    told = viewer.get(f"/research/compare/curves.json?{ids}").json["runs"]
    assert [one["id"] for one in told] == [run.id for run in runs]
    for one, run in zip(told, runs, strict=True):
        assert len(one["times"]) == len(one["growth"]) == len(one["drawdown"]) > 100
        assert one["growth"][0] == 0
        assert one["growth"][-1] == pytest.approx(run.metrics["total_return"]["value"])
        assert max(one["drawdown"]) <= 0


def test_too_few_too_many_and_lost_runs_are_said(viewer, rows, runs):
    assert "Two to eight runs go side by side" in side_by_side(viewer)
    html = side_by_side(viewer, runs[0].id, 99)
    assert "#99 is not there any more." in html
    assert "Two to eight runs go side by side" in html
    html = side_by_side(viewer, *(run.id for run in runs), *range(90, 100))
    assert "the first 8 of 13" in html
    assert "Compare 3 runs" in html
    assert side_by_side(viewer, "x", runs[0].id, runs[1].id).count("Compare 2 runs") == 1


def test_a_run_can_be_left_out(viewer, runs):
    html = side_by_side(viewer, *(run.id for run in runs))
    assert f'href="/research/compare?run={runs[0].id}&amp;run={runs[1].id}"' in html
    assert "Leave run" not in side_by_side(viewer, runs[0].id, runs[1].id)


# Notes, tags and stars --------------------------------------------------------------------------


def test_notes_and_tags_are_kept_and_shown(trader, viewer, rows, runs):
    run = runs[0]
    answer = trader.post(
        f"/research/runs/{run.id}/notes",
        data={"notes": "One line.\r\nAnd <b>another</b>.\n", "tags": " a  b, Fast,fast ,, slow "},
    )
    assert answer.location == f"/research/runs/{run.id}#notes"
    rows.refresh(run)
    assert (run.notes, run.tags) == ("One line.\nAnd <b>another</b>.", ["a b", "Fast", "slow"])
    html = viewer.get(f"/research/runs/{run.id}").text
    assert "And &lt;b&gt;another&lt;/b&gt;." in html
    assert 'href="/research?tag=a+b"' in html or 'href="/research?tag=a%20b"' in html
    assert "<textarea" not in html
    edit = trader.get(f"/research/runs/{run.id}/notes").text
    assert 'value="a b, Fast, slow"' in edit


def test_what_cannot_be_kept_is_said_beside_its_field_and_nothing_is_lost(trader, rows, runs):
    path = f"/research/runs/{runs[0].id}/notes"
    long = "x" * (marks.LONGEST_TAG + 1)
    answer = trader.post(path, data={"notes": "kept as typed", "tags": f"a, {long}"})
    assert answer.status_code == 422
    assert f"{long} is too long" in answer.text
    assert "kept as typed" in answer.text
    many = ",".join(map(str, range(marks.MOST_TAGS + 1)))
    assert "These are 13 tags" in trader.post(path, data={"tags": many}).text
    notes = "x" * (marks.LONGEST_NOTES + 1)
    assert "shorten them to 20,000" in trader.post(path, data={"notes": notes}).text
    rows.refresh(runs[0])
    assert (runs[0].notes, runs[0].tags) == ("", [])


def test_a_star_is_put_on_and_taken_off_and_two_presses_are_one(trader, rows, runs):
    path = f"/research/runs/{runs[0].id}/star"
    for _ in range(2):
        answer = trader.post(path, data={"on": "yes"}, headers=PARTIAL)
        assert 'aria-pressed="true"' in answer.text
        assert "<html" not in answer.text
    rows.refresh(runs[0])
    assert runs[0].favourite
    answer = trader.post(path, data={"on": "no"})
    assert (answer.status_code, answer.location) == (303, f"/research/runs/{runs[0].id}")
    rows.refresh(runs[0])
    assert not runs[0].favourite


def test_runs_are_found_by_tag_star_and_words(trader, rows, runs):
    first, second, third = (run.id for run in runs)
    trader.post(f"/research/runs/{first}/notes", data={"notes": "100% sure_thing", "tags": "a, b"})
    trader.post(f"/research/runs/{second}/notes", data={"notes": "", "tags": "b"})
    trader.post(f"/research/runs/{third}/star", data={"on": "yes"})
    assert listed(trader) == [third, second, first]
    assert listed(trader, "?tag=b") == [second, first]
    assert listed(trader, "?tag=a") == [first]
    assert listed(trader, "?tag=") == [third, second, first]
    assert listed(trader, "?starred=yes") == [third]
    assert listed(trader, "?q=SURE_") == [first]
    assert listed(trader, "?q=%25") == [first]
    assert listed(trader, "?q=s_re") == []
    assert listed(trader, f"?q=%23{second}") == [second]
    assert listed(trader, "?tag=b&starred=yes") == []
    html = trader.get("/research?tag=b&sort=sharpe").text
    assert "tag=b" in re.search(r'class="sort" href="([^"]*)">Return', html)[1]
    assert "No such run" in trader.get("/research?tag=none").text


def test_runs_of_a_list_can_be_ticked_for_comparing(trader, runs):
    html = trader.get("/research").text
    for run in runs:
        assert f'form="compare" name="run" value="{run.id}"' in html
    assert 'action="/research/compare"' in html


def test_nobody_s_run_is_not_found_and_viewers_write_nothing(trader, viewer, runs):
    for path in ("notes", "star"):
        assert trader.post(f"/research/runs/99/{path}", data={}).status_code == 404
        assert viewer.post(f"/research/runs/{runs[0].id}/{path}", data={}).status_code == 403
    assert trader.get("/research/runs/99/notes").status_code == 404
    assert viewer.get(f"/research/runs/{runs[0].id}/notes").status_code == 403
