"""Reports: pictures hold what they were drawn from, months multiply up, words say what numbers are."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.shown import MINUS
from shared.report import curves, numbers, plots
from shared.report.curves import Days

SHEET = Path(__file__).parents[2] / "webapp" / "static" / "report.css"


def days_of(levels, capital=100.0, first=20_000, hold=()):
    count = len(levels)
    return Days.of(np.arange(first, first + count), np.array(levels), np.array(hold), capital)


# Curves -----------------------------------------------------------------------------------------


def test_falls_are_told_deepest_first_and_from_peak_to_being_back():
    found = curves.worst_falls(days_of([110.0, 99.0, 105.0, 110.0, 120.0, 60.0, 90.0]))
    assert [(f.peak, f.low, f.back) for f in found] == [
        (20_004, 20_005, None),
        (20_000, 20_001, 20_003),
    ]
    assert [f.depth for f in found] == pytest.approx([0.5, 0.1])


def test_a_fall_from_the_start_has_its_peak_the_day_before_the_first():
    (fall,) = curves.worst_falls(days_of([90.0, 95.0]))
    assert (fall.peak, fall.low, fall.back) == (19_999, 20_000, None)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=80))
def test_months_multiply_up_and_falls_are_what_the_curve_has(levels):
    days = days_of(levels)
    grown = np.prod([1 + y.value for y in curves.years(days.times, days.equity)])
    assert grown == pytest.approx(levels[-1] / 100, rel=1e-9)
    falls = curves.worst_falls(days, most=1_000)
    deepest = float(-curves.drawdowns(days.equity).min())
    assert (falls[0].depth if falls else 0.0) == pytest.approx(deepest, abs=1e-12)
    assert all(f.peak < f.low and (f.back is None or f.low < f.back) for f in falls)
    spans = sorted((f.peak, f.back or f.low) for f in falls)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_rolling_ratio_is_the_ratio_of_each_window_and_empty_where_nothing_varies():
    random = np.random.default_rng(1)
    returns = np.concatenate([np.zeros(100), random.normal(0.001, 0.01, 100)])
    found = curves.rolling_sharpe(returns, 365)
    assert len(found) == 200 - 89
    assert np.isnan(found[0])
    last = returns[-90:]
    assert found[-1] == pytest.approx(last.mean() / last.std(ddof=1) * 365**0.5, rel=1e-12)
    assert len(curves.rolling_sharpe(returns[:89], 365)) == 0


@given(st.lists(st.floats(-0.5, 2), min_size=5, max_size=200))
def test_no_value_falls_between_bins_and_none_across_zero(values):
    found = curves.bins(np.array(values))
    assert sum(b.count for b in found) == len(values)
    assert all(a.high == pytest.approx(b.low) for a, b in pairwise(found))
    assert not any(b.low < -1e-9 and b.high > 1e-9 for b in found)


def test_means_of_stretches_are_the_mean_of_the_whole():
    values = np.arange(1_000.0)
    found, rows = curves.means(values, 40)
    assert (len(found), rows[-1]) == (40, 999)
    assert found.mean() == pytest.approx(values.mean())
    short, rows = curves.means(values[:5], 40)
    assert (short.tolist(), rows.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])


def test_of_very_many_points_the_largest_stay():
    size = np.random.default_rng(2).random(10_000)
    rows = curves.outstanding(size, 500)
    assert len(rows) <= 500
    assert set(np.argsort(size)[-100:]) <= set(rows)
    assert (np.diff(rows) > 0).all()


# Pictures ---------------------------------------------------------------------------------------


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def paths(svg, kind):
    tree = ElementTree.fromstring(svg)
    return [p.get("d") for p in tree.iter("path") if kind in p.get("class").split()]


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=2, max_size=60),
    st.booleans(),
)
def test_a_line_can_be_read_back_and_gaps_stay_gaps(values, zero):
    times = np.arange(len(values)) * 86_400.0 + 1.7e9
    line = np.array(values)
    svg = plots.lines(times, [plots.Line(line)], str, "some line", zero=zero, reads="money 0")
    ElementTree.fromstring(svg)
    low, high = (float(re.search(rf'data-{name}="([^"]+)"', svg)[1]) for name in ("low", "high"))
    (path,) = paths(svg, "line")
    known = np.isfinite(line)
    found = points(path)
    assert len(found) == known.sum()
    read = [low + (1 - y / 1000) * (high - low) for _, y in found]
    assert read == pytest.approx(line[known].tolist(), abs=(high - low) / 5_000)
    assert path.count("M") == (np.diff(np.concatenate([[0], known.astype(int)])) == 1).sum()
    if zero:
        assert low <= 0 <= high


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_scales_have_a_few_round_ticks_inside(low, width):
    found = plots.scale(np.array([low, low + width]))
    assert found.low <= low
    assert found.high >= low + width
    assert 1 <= len(found.ticks) <= 6
    assert all(found.low - 1e-9 * abs(t) <= t <= found.high + 1e-9 * abs(t) for t in found.ticks)


def test_columns_of_a_histogram_are_as_high_as_their_counts():
    svg = plots.histogram(curves.bins(np.array([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0])), str, "days", "d")
    tree = ElementTree.fromstring(svg)
    heights = [float(r.get("height")) for r in tree.iter("rect")]
    assert max(heights) / min(heights) == pytest.approx(2, rel=0.01)
    kinds = [r.get("class") for r in tree.iter("rect")]
    assert kinds == ["bars loss", "bars gain"]


def test_points_of_gains_and_losses_are_apart():
    x, y = np.array([0.1, 0.2, 0.3]), np.array([1.0, -1.0, 2.0])
    svg = plots.scatter(x, y, y > 0, str, "three points")
    assert [len(points(p)) for p in paths(svg, "gain")] == [2]
    assert [len(points(p)) for p in paths(svg, "loss")] == [1]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ((2000, 3, 1), (2013, 3, 1), ["2002", "2004", "2006", "2008", "2010", "2012"]),
        ((2012, 5, 18), (2013, 3, 1), ["Jul 2012", "Oct 2012", "Jan 2013"]),
        ((2020, 1, 1), (2020, 6, 1), ["Jan 2020", "Mar 2020", "May 2020"]),
        ((1900, 1, 1), (2100, 1, 1), ["1900", "2000", "2100"]),
    ],
)
def test_months_and_years_are_told_where_they_begin(first, last, words):
    start, end = (datetime(*day, tzinfo=UTC).timestamp() for day in (first, last))
    found = plots.time_ticks(start, end)
    assert [text for _, text in found] == words
    form = "%Y" if len(words[0]) == 4 else "%b %Y"
    began = [datetime.fromtimestamp(start + place * (end - start) + 1, UTC) for place, _ in found]
    assert [f"{day:{form}}" for day in began] == words
    assert all((day.day, day.hour) == (1, 0) for day in began)


@given(st.integers(0, 4_000_000_000), st.integers(1, 6_000_000_000))
def test_a_time_axis_has_a_few_words_on_it(first, span):
    found = plots.time_ticks(float(first), float(first + span))
    assert 1 <= len(found) <= 12
    assert all(0 <= place <= 1 for place, _ in found)


def test_the_longer_the_labels_the_more_room_they_have():
    def room(words, beside=""):
        line = plots.Line(np.array([1.0, 2.0]))
        times = np.array([0.0, 1.0])
        svg = plots.lines(times, [line], lambda v: words, "some line", beside=beside)
        return re.search(r'<svg class="plot ?(\w*)"', svg)[1]

    lengths = [room(words) for words in ("0 %", "-10 %", "200 000", "1 000 000 000")]
    assert lengths == ["few", "some", "many", ""]
    assert room("0 %", beside="200 000") == "many"
    assert all(f".plot.{kind} " in plots.STYLE for kind in lengths[:3])


def test_words_in_pictures_are_escaped():
    svg = plots.lines(
        np.array([0.0, 1.0]), [plots.Line(np.array([1.0, 2.0]))], lambda v: "<b>", "a & b"
    )
    assert "<b>" not in svg
    assert 'aria-label="a &amp; b"' in svg


def test_the_console_s_pictures_look_as_the_file_s():
    assert plots.STYLE in SHEET.read_text()


# Words ------------------------------------------------------------------------------------------


def metric(value, unit="ratio", **details):
    return {
        "value": value,
        "unit": unit,
        "n": 12,
        "how": "somehow",
        "reason": "",
        "details": details,
    }


@pytest.mark.parametrize(
    ("name", "unit", "value", "text", "tone"),
    [
        ("total_return", "%", 0.1234, "+12.34 %", "gain"),
        ("total_return", "%", -0.1, f"{MINUS}10.00 %", "loss"),
        ("max_drawdown", "%", 0.25, f"{MINUS}25.00 %", "loss"),
        ("max_drawdown", "%", 0.0, "0.00 %", ""),
        ("var_95", "%", -0.01, "+1.00 %", ""),
        ("sharpe", "ratio", 1.234, "1.23", ""),
        ("trades", "count", 12345.0, "12 345", ""),
        ("average_duration", "seconds", 7200.0, "2 h", ""),
        ("capacity", "currency", 1234567.8, "1 234 568", ""),
        ("fees", "currency", 10.0, f"{MINUS}10.00", ""),
        ("sharpe", "ratio", None, "—", ""),
    ],
)
def test_numbers_read_with_unit_and_sign(name, unit, value, text, tone):
    said = numbers.text(name, metric(value, unit))
    assert said.replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ") == text
    assert numbers.tone(name, metric(value, unit)) == tone


def test_what_has_no_value_says_why_and_every_number_can_be_shown():
    metrics = {name: metric(1.0) for name in numbers.TITLES}
    metrics["cagr"] = {**metric(None), "reason": "59 days are fewer than 90"}
    found = numbers.families(metrics, "USD", 1000.0)
    assert [n.name for family in found.values() for n in family] == list(numbers.TITLES)
    (cagr,) = [n for n in found["Growth"] if n.name == "cagr"]
    assert (cagr.text, cagr.note, cagr.tone) == ("—", "59 days are fewer than 90", "muted")
    silent = [n.name for family in found.values() for n in family if not n.note]
    assert silent == ["profit_without_best_5"], "its note is in details that are not there"


def test_a_run_of_long_ago_shows_what_it_has():
    found = numbers.families({"sharpe": metric(1.0), "nobody": metric(2.0)})
    assert {family: [n.name for n in found[family]] for family in found} == {
        "Risk and return": ["sharpe"]
    }
