"""Findings in bars made to have them, each one alone; real sessions have none."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from engine.bars import DAY, SECOND, Bars, nanoseconds
from engine.findings.days import days
from engine.findings.finding import KEPT, BadLimits, Limits
from engine.findings.sources import compare
from engine.quality import fingerprint, look, refused
from shared.domain.sessions import trading_days

START = datetime(2024, 3, 4, tzinfo=UTC)


def bars(count=600, interval=60, start=START, seed=5, move=0.001):
    """A quiet walk with volume: nothing to find in it."""
    random = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, move, count))), 2)
    opened = np.concatenate([[100.0], close[:-1]])
    at = nanoseconds(start) + np.arange(count) * interval * SECOND
    return Bars(
        1, interval, at, at + interval * SECOND, opened, np.maximum(opened, close) + 0.01,
        np.minimum(opened, close) - 0.01, close, np.round(random.uniform(9, 11, count), 3),
        np.zeros(count, np.bool_),
    )  # fmt: skip


def sessions(first="2020-01-02", after="2020-07-01"):
    """Daily bars of every session of the exchange, 09:30 to 16:00 in winter's UTC."""
    found = list(
        trading_days(
            "XNYS", datetime.fromisoformat(first).date(), datetime.fromisoformat(after).date()
        )
    )
    plain = bars(len(found), 86_400, move=0.01)
    opened = np.array(
        [nanoseconds(datetime(d.year, d.month, d.day, 14, 30, tzinfo=UTC)) for d in found]
    )
    return replace(plain, opened_at=opened, closed_at=opened + 23_400 * SECOND)


def changed(some, row, **values):
    columns = {name: getattr(some, name).copy() for name in values}
    for name, value in values.items():
        columns[name][row] = value
    return replace(some, **columns)


def without(some, rows):
    return some[np.setdiff1d(np.arange(len(some)), rows)]


def counts(report):
    return {kind: found.count for kind, found in report.found.items() if found.count}


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_found_in_a_quiet_walk(seed):
    report = look(bars(3_000, seed=seed), "24/7", tick=Decimal("0.01"))
    assert counts(report) == {}
    assert report.filled == report.zero_volume == 0
    assert report.usual == pytest.approx(0.001, rel=0.1)


def test_sessions_without_holidays_have_no_gap_and_a_missing_one_is_named():
    assert counts(look(sessions(), "XNYS")) == {}
    report = look(without(sessions(), [40, 41]), "XNYS")
    assert counts(report) == {"gaps": 1}
    gap = report.found["gaps"].kept[0]
    assert gap.bars == 2
    assert gap.text == "2 days missing from 2020-02-28 21:00 to 2020-03-04 14:30"


def test_a_quiet_stretch_is_filled_and_a_longer_one_is_a_gap():
    quiet = look(without(bars(4_000), range(100, 400)), "24/7")
    assert (counts(quiet), quiet.filled) == ({}, 300)
    hole = look(without(bars(4_000), range(100, 1_700)), "24/7")
    assert counts(hole) == {"gaps": 1}
    assert hole.found["gaps"].kept[0].bars == 1_600
    assert hole.filled == 0


def test_a_night_of_an_exchange_is_no_gap_and_a_session_without_bars_is():
    one = bars(390, start=datetime(2024, 3, 4, 14, 30, tzinfo=UTC))
    parts = []
    for day in (0, 1, 3):
        shift = day * DAY
        parts.append(replace(one, opened_at=one.opened_at + shift, closed_at=one.closed_at + shift))
    assert counts(look(Bars.joined(parts[:2]), "XNYS")) == {}
    report = look(Bars.joined(parts), "XNYS")
    assert counts(report) == {"gaps": 1}
    assert report.found["gaps"].kept[0].bars == 390


def test_a_close_that_leaps_and_comes_back_is_an_outlier_with_its_numbers():
    report = look(changed(bars(), 300, close=130.0, high=130.0), "24/7")
    assert counts(report) == {"outliers": 1}
    found = report.found["outliers"].kept[0]
    assert found.at == bars().opened_at[300]
    assert found.numbers["close"] == 130.0
    assert found.numbers["move"] == pytest.approx(130 / bars().close[299] - 1)
    assert found.numbers["times"] > 15
    assert "and back" in found.text


def test_a_leap_that_stays_is_no_outlier():
    plain = bars()
    up = np.where(np.arange(len(plain)) >= 300, 1.15, 1.0)
    moved = replace(plain, **{n: getattr(plain, n) * up for n in ("open", "high", "low", "close")})
    assert "outliers" not in counts(look(moved, "24/7"))


def test_a_wick_nobody_else_reached_is_an_outlier():
    low = changed(bars(), 300, low=60.0)
    report = look(low, "24/7")
    assert counts(report) == {"outliers": 1}
    assert report.found["outliers"].kept[0].text.startswith("2024-03-04 05:00: low 60")
    tame = Limits(outlier=2_000)
    assert counts(look(low, "24/7", limits=tame)) == {}


def test_what_is_usual_is_measured_around_the_bar():
    calm, wild = bars(2_048, move=0.0005), bars(2_048, move=0.01, seed=9)
    shift = DAY * 3
    wild = replace(wild, opened_at=wild.opened_at + shift, closed_at=wild.closed_at + shift)
    scale = calm.close[-1] / wild.open[0]
    wild = replace(wild, **{n: getattr(wild, n) * scale for n in ("open", "high", "low", "close")})
    assert counts(look(Bars.joined([calm, wild]), "24/7")) == {"gaps": 1}


@pytest.mark.parametrize(
    ("ratio", "name"),
    [(2.0, "2:1"), (3.0, "3:1"), (1.5, "3:2"), (4.0, "4:1"), (7.0, "7:1"), (0.1, "1:10")],
)
def test_a_jump_near_a_simple_ratio_with_volume_the_other_way_may_be_a_split(ratio, name):
    plain = sessions()
    after = np.arange(len(plain)) >= 60
    prices = {
        n: np.where(after, getattr(plain, n) / ratio, getattr(plain, n))
        for n in ("open", "high", "low", "close")
    }
    split = replace(plain, **prices, volume=np.where(after, plain.volume * ratio, plain.volume))
    report = look(split, "XNYS")
    assert counts(report) == {"splits": 1}
    found = report.found["splits"].kept[0]
    assert found.at == plain.opened_at[60]
    assert f"({name} split?)" in found.text
    assert found.numbers["ratio"] == pytest.approx(ratio, rel=0.05)


def test_an_adjusted_close_that_does_not_jump_proves_a_split():
    plain = sessions()
    after = np.arange(len(plain)) >= 60
    prices = {
        n: np.where(after, getattr(plain, n) / 2, getattr(plain, n))
        for n in ("open", "high", "low", "close")
    }
    report = look(replace(plain, **prices), "XNYS", adjusted=plain.close / 2)
    assert counts(report) == {"splits": 1}
    assert report.found["splits"].kept[0].numbers["evidence"] == 3


def test_a_crash_of_a_quarter_is_no_split():
    plain = sessions()
    after = np.arange(len(plain)) >= 60
    fallen = {
        n: np.where(after, getattr(plain, n) * 0.7, getattr(plain, n))
        for n in ("open", "high", "low", "close")
    }
    assert "splits" not in counts(look(replace(plain, **fallen), "XNYS"))


def test_bars_over_again_and_bars_inside_each_other_are_duplicates():
    plain = bars()
    names = ("open", "high", "low", "close", "volume")
    again = changed(plain, 50, **{name: getattr(plain, name)[49] for name in names})
    assert counts(look(again, "24/7")) == {"duplicates": 1}
    inside = changed(plain, 50, opened_at=plain.opened_at[50] - 30 * SECOND)
    found = look(inside, "24/7").found["duplicates"]
    assert found.count == 1
    assert "begins inside the bar before it" in found.kept[0].text


def test_zero_volume_bars_are_told_from_filled_ones():
    quiet = changed(without(bars(), range(20, 30)), slice(100, 140), volume=0.0)
    report = look(quiet, "24/7")
    assert (report.zero_volume, report.filled) == (40, 10)
    assert counts(report) == {"zero_volume": 1}
    assert report.found["zero_volume"].kept[0].bars == 40


def test_flat_stretches_and_prices_off_the_tick():
    flat = changed(
        bars(), slice(100, 300), **dict.fromkeys(("open", "high", "low", "close"), 100.0)
    )
    assert look(flat, "24/7").found["flat"].kept[0].bars == 199
    assert look(flat, "24/7", limits=Limits(flat_bars=200)).count("flat") == 0
    off = look(changed(bars(), 7, close=100.0051, high=100.1), "24/7", tick=Decimal("0.01"))
    assert off.count("off_tick") == 1
    assert "close 100.0051 is no multiple of 0.01" in off.found["off_tick"].kept[0].text


def test_all_are_counted_and_the_first_are_kept():
    plain = bars(2_000)
    off = replace(plain, close=plain.close + 0.005, high=plain.high + 0.01)
    found = look(off, "24/7", tick=Decimal("0.01")).found["off_tick"]
    assert (found.count, len(found.kept)) == (2_000, KEPT)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_few_bars_are_looked_over_too(count):
    assert counts(look(bars(count), "24/7", tick=Decimal("0.01"))) == {}
    assert len(days(bars(count), "24/7").bars) == min(count, 1)


def test_two_sources_are_compared_where_both_are():
    here = bars(1_000)
    there = changed(without(here[100:], [5, 6, 7]), 50, close=here.close[153] * 1.01)
    there = replace(there, high=np.maximum(there.high, there.close))
    compared = compare(without(here, [400]), there)
    assert (compared.both, compared.only_here, compared.only_there) == (896, 3, 1)
    assert compared.differing == 1
    assert compared.worst_bp == pytest.approx(100, rel=0.01)
    assert compared.examples[0]["at"] == (START + timedelta(minutes=153)).isoformat()
    assert compare(here, bars(0)).both == 0


def test_days_know_how_many_bars_they_should_have():
    found = days(without(bars(3 * 1440 - 60), range(1500, 1600)), "24/7")
    assert found.bars.tolist() == [1440, 1340, 1380]
    assert found.expected.tolist() == [1440, 1440, 1380]
    daily = days(without(sessions(), [3]), "XNYS")
    assert daily.bars.sum() == daily.expected.sum() - 1
    weekly = bars(3, 7 * 86_400)
    assert days(weekly, "24/7").bars.tolist() == [1] * 21


def test_a_refusal_names_what_was_found_with_the_first_of_each():
    report = look(changed(without(bars(4_000), range(100, 1_700)), 50, low=60.0), "24/7")
    said = refused(report, ("gaps", "outliers", "splits"))
    assert said.startswith("1 gaps (first: 1,600 bars missing from 2024-03-04 01:40")
    assert "; 1 outliers (first: 2024-03-04 00:50: low 60" in said
    assert refused(report, ("splits",)) == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"outlier": 0}, "outlier: 0 must be above 0; the usual one is 15.0"),
        ({"outlier": "many"}, "outlier: 'many' is not a number"),
        ({"outlier": math.inf}, "outlier: inf must be above 0"),
        ({"colour": 1}, "colour: no such limit"),
    ],
)
def test_a_limit_that_cannot_be_is_named(given, message):
    with pytest.raises(BadLimits, match=message):
        Limits.from_json(given)


def test_findings_are_those_of_limits_calendar_and_tick():
    prints = {
        fingerprint(Limits(), "24/7", None),
        fingerprint(Limits(outlier=9), "24/7", None),
        fingerprint(Limits(), "XNYS", None),
        fingerprint(Limits(), "24/7", Decimal("0.01")),
    }
    assert len(prints) == 4
    assert fingerprint(Limits(), "24/7", Decimal("0.010")) == fingerprint(
        Limits(), "24/7", Decimal("0.01")
    )
