"""Pair lists: filters against values worked out here, no look at the day itself, and what a job records."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine import lists_due, universe
from engine.history import NewBar, add_bars, series_of
from engine.jobs import perform
from shared import queueing
from shared.db import daily
from shared.db.backtests import JobRow
from shared.db.lists import PairListDayRow, PairListRecordRow, PairListRow
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine, make_sessions
from shared.domain.universe import (
    BadRules,
    Candidate,
    Day,
    History,
    Membership,
    Rules,
    corwin_schultz,
    evaluate,
    members,
)
from shared.jobs import PairListRequest
from shared.settings import Settings

FIRST = date(2024, 1, 1)


def walk(count=60, price=100.0, volume=10.0, step=0.01, first=FIRST):
    """Closes that go up and down by `step` in turn."""
    found = []
    for number in range(count):
        close = price * (1 + step * (number % 2))
        day = first + timedelta(days=number)
        found.append(Day(day, close * 1.01, close * 0.99, close, volume, volume * close))
    return found


def candidate(number, days):
    return Candidate(number, f"C{number}", History.of(days, 365))


def test_measures_are_those_of_the_days_before():
    days = walk()
    found = candidate(1, days).history.measures(FIRST + timedelta(days=40), 20)
    closes = [day.close for day in days[:40]]
    returns = [math.log(b / a) for a, b in pairwise(closes[-21:])]
    assert found.price == closes[-1]
    assert found.value == pytest.approx(statistics.fmean(10 * c for c in closes[-20:]))
    assert found.volatility == pytest.approx(statistics.stdev(returns) * math.sqrt(365))
    assert found.change == pytest.approx(closes[-1] / closes[-21] - 1)
    assert found.age == 40
    spreads = [corwin_schultz(a, b) for a, b in pairwise(days[19:40])]
    assert found.spread == pytest.approx(statistics.fmean(spreads))


def test_the_day_itself_and_what_comes_after_change_nothing():
    day = FIRST + timedelta(days=40)
    past = walk(40)
    wild = [*past, *walk(20, price=9e6, volume=1e9, first=day)]
    rules = Rules(min_value=1, max_spread=1, max_volatility=9, top=None)
    one, other = (evaluate(rules, [candidate(1, days)], day) for days in (past, wild))
    assert one == other


def test_an_estimated_spread_is_that_of_the_paper():
    """Two days whose true range is 1 % and whose highs are asks and lows are bids 1 % apart."""
    one = Day(FIRST, 101.0, 99.0, 100.0, 1, 100)
    assert corwin_schultz(one, one) == pytest.approx(0.0200, abs=2e-4)
    flat = Day(FIRST, 100.0, 100.0, 100.0, 1, 100)
    assert corwin_schultz(flat, flat) == 0
    closed_low, a_day_later = (
        Day(FIRST, 101.0, 99.0, 99.0, 1, 99),
        Day(FIRST, 121.0, 119.0, 120.0, 1, 120),
    )
    assert corwin_schultz(closed_low, a_day_later) == corwin_schultz(one, one)


def test_each_filter_says_value_and_limit():
    rules = Rules(
        min_value=5_000, max_spread=0.0001, min_price=500, max_price=50, min_age=365,
        min_volatility=5.0, max_volatility=0.01, top=None,
    )  # fmt: skip
    with pytest.raises(BadRules, match="max_price: 50 is below the least, 500"):
        Rules.from_json(rules.as_json())
    verdict = evaluate(rules, [candidate(1, walk())], FIRST + timedelta(days=50))[0]
    failed = [one.name for one in verdict.filters if not one.passed]
    assert failed == [
        "value", "price", "price", "age", "volatility", "volatility",
    ]  # fmt: skip
    assert "traded value a day 1,005, below 5,000" in verdict.reason
    assert "days of history 50 d, below 365 d" in verdict.reason
    assert verdict.rank is None


def test_too_little_history_is_not_known_and_does_not_pass():
    verdict = evaluate(
        Rules(max_spread=1.0, top=None), [candidate(1, walk(10))], FIRST + timedelta(days=10)
    )
    assert verdict[0].reason == "spread not known: 21 days needed, 10 there"


def test_what_no_longer_trades_is_in_no_list():
    one = candidate(1, walk(30))
    fresh, gone = (FIRST + timedelta(days=30 + late) for late in (7, 8))
    assert [v.rank for v in evaluate(Rules(), [one], fresh)] == [1]
    assert evaluate(Rules(), [one], gone)[0].reason == "newest bar of 2024-01-30, 9 days before"


def test_the_first_by_a_measure_are_in_and_the_rest_know_their_place():
    some = [candidate(n, walk(volume=10.0 * n)) for n in range(1, 6)]
    day = FIRST + timedelta(days=50)
    found = evaluate(Rules(top=2), some, day)
    assert [(v.symbol, v.rank) for v in found[:2]] == [("C5", 1), ("C4", 2)]
    assert found[2].reason == "place 3 by value, and the list takes 2"
    assert [v.symbol for v in members(Rules(top=2, descending=False), some, day)] == ["C1", "C2"]


def test_by_hand_is_in_or_out_whatever_the_filters_say():
    some = [candidate(n, walk(volume=10.0 * n)) for n in range(1, 6)]
    rules = Rules(top=2, min_value=2_500, include=(1,), exclude=(5,))
    found = {v.symbol: v for v in evaluate(rules, some, FIRST + timedelta(days=50))}
    assert [s for s, v in found.items() if v.rank] == ["C4", "C1"]
    assert found["C1"].reason == "in by hand"
    assert found["C5"].reason == "out by hand"
    assert found["C3"].reason == "place 2 by value, and the list takes 1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 1}, "window: 1 must be from 2 to 365 days"),
        ({"top": 0}, "top: 0 must be 1 or more"),
        ({"sort": "luck"}, "sort: 'luck' must be one of value"),
        ({"min_value": -1.0}, "min_value: -1.0 must be 0 or more"),
        ({"include": [3], "exclude": [3]}, "exclude: instrument 3 is included by hand as well"),
        ({"colour": 1}, "colour: there is no such rule"),
    ],
)
def test_a_rule_that_cannot_be_is_named(given, message):
    with pytest.raises(BadRules, match=message):
        Rules.from_json(given)


def test_a_run_may_enter_members_of_the_day_only():
    day = date(2024, 2, 1)
    inside = Membership("Liquid", {day: frozenset({7})})
    noon = datetime(2024, 2, 1, 12, tzinfo=UTC)
    assert inside.check(7, noon).allowed
    refused = inside.check(8, noon)
    assert (refused.rule, refused.allowed, refused.value, refused.limit) == (
        "universe",
        False,
        0,
        1,
    )
    assert refused.text == "no member of Liquid on 2024-02-01, which has 1"
    later = inside.check(7, noon + timedelta(days=1))
    assert not later.allowed
    assert later.text == "Liquid was not recorded for 2024-02-02: record it for the days of the run"


# Recorded ---------------------------------------------------------------------------------------------


@pytest.fixture
def stored(settings: Settings):
    """Three instruments: 60 days of daily bars, 45 days of hourly ones, and one that stops after 20 days."""
    engine = make_engine(settings.database_url or "", poolclass=sa.NullPool)
    with Session(engine, expire_on_commit=False) as session:
        ids = [
            _instrument(session, "AAA", 60, 24, 500.0),
            _instrument(session, "BBB", 45, 1, 40.0),
            _instrument(session, "CCC", 20, 24, 900.0),
        ]
        rules = Rules(venue="replay", window=5, top=2)
        made = PairListRow(name="Liquid", rules=rules.as_json())
        session.add(made)
        session.commit()
        yield session, settings, made, ids


def _instrument(session, symbol, count, hours, volume):
    row = InstrumentRow(
        venue="replay", symbol=symbol, base_asset=symbol, quote_asset="USD", calendar="24/7"
    )
    session.add(row)
    session.flush()
    start = datetime(2024, 1, 1, tzinfo=UTC)
    step = timedelta(hours=hours)
    bars = [
        NewBar(start + n * step, start + (n + 1) * step, "10", "10.2", "9.8", "10", f"{volume}")
        for n in range(count * 24 // hours)
    ]
    add_bars(
        session.connection(), series_of(session.connection(), row.id, "import", hours * 3600), bars
    )
    return row.id


def record(session, settings, list_id, first="", last=""):
    request = PairListRequest(list_id, first, last)
    job = queueing.ask(session, None, request, title="Record", actor="me", request_key=str(uuid4()))
    sessions = make_sessions(settings.database_url or "")
    perform(sessions, None, settings, job.id, 1, worker="this test")
    sessions.kw["bind"].dispose()
    session.expire_all()
    return session.get_one(JobRow, job.id)


def test_hours_add_up_to_days_that_have_closed(stored):
    session, _, made, _ = stored
    chosen = {one.symbol: one for one in daily.considered(session, Rules.from_json(made.rules))}
    days = daily.daily(session, chosen["BBB"], date(2024, 1, 2), date(2024, 1, 4))
    assert [(d.day, d.volume, d.value) for d in days] == [
        (date(2024, 1, 2), 960.0, 9600.0), (date(2024, 1, 3), 960.0, 9600.0),
    ]  # fmt: skip


def test_every_day_is_recorded_from_what_had_closed_before(stored):
    session, settings, made, (aaa, bbb, ccc) = stored
    job = record(session, settings, made.id)
    assert job.state == "done", job.error
    assert job.result["text"].startswith("Liquid: 60 days recorded, 2024-01-02 to 2024-03-01")
    assert universe.members(session, made.id, date(2024, 1, 3)) == []
    assert universe.members(session, made.id, date(2024, 1, 10)) == [bbb, ccc]
    assert universe.members(session, made.id, date(2024, 2, 1)) == [bbb, aaa]
    assert universe.members(session, made.id, date(2024, 3, 1)) == [aaa]
    assert universe.members(session, made.id, date(2024, 3, 2)) is None
    row = session.get_one(PairListDayRow, (made.id, date(2024, 2, 1), aaa))
    assert (row.rank, row.values["value"]) == (2, 5000.0)
    found = universe.membership(session, made.id)
    assert found.check(aaa, datetime(2024, 2, 1, 9, tzinfo=UTC)).allowed
    assert not found.check(ccc, datetime(2024, 2, 10, 9, tzinfo=UTC)).allowed


def test_recording_again_replaces_the_days_asked_for_and_no_other(stored):
    session, settings, made, (aaa, _, _) = stored
    record(session, settings, made.id)
    made.rules = Rules(venue="replay", window=5, top=1, include=(aaa,)).as_json()
    made.version = 2
    session.commit()
    record(session, settings, made.id, "2024-01-20", "2024-01-21")
    versions = dict(
        session.execute(
            sa.select(PairListRecordRow.version, sa.func.count()).group_by(
                PairListRecordRow.version
            )
        ).all()
    )
    assert versions == {1: 58, 2: 2}
    assert universe.members(session, made.id, date(2024, 1, 20)) == [aaa]
    assert len(universe.members(session, made.id, date(2024, 1, 22))) == 2


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2030-01-01", "", "first_day: 2030-01-01 to 2024-03-01 has no day with bars before it"),
        ("soon", "", "first_day: 'soon' is no day; write 2024-01-31"),
    ],
)
def test_days_that_cannot_be_are_refused(stored, first, last, message):
    session, settings, made, _ = stored
    job = record(session, settings, made.id, first, last)
    assert job.state == "failed"
    assert job.error.startswith(message)


def test_an_unknown_list_is_refused(stored):
    session, settings, _, _ = stored
    assert record(session, settings, 99).error == "list_id: there is no pair list 99"
    assert universe.membership(session, 99) is None


# Day by day ------------------------------------------------------------------------------------------


def more_days(session, instrument_id, first, count):
    """Daily bars of the instrument's own series from `first` on."""
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    day = timedelta(days=1)
    bars = [
        NewBar(start + n * day, start + (n + 1) * day, "10", "10.2", "9.8", "10", "500")
        for n in range(count)
    ]
    series_id = series_of(session.connection(), instrument_id, "import", 86_400)
    add_bars(session.connection(), series_id, bars)
    session.commit()


def days_due(session):
    return [(one.list_id, f"{one.first}", f"{one.last}") for one in lists_due.due(session)]


def test_a_list_never_recorded_is_due_for_its_newest_day_and_then_for_what_came_since(stored):
    session, settings, made, (aaa, _, _) = stored
    assert days_due(session) == [(made.id, "2024-03-01", "2024-03-01")]
    record(session, settings, made.id)
    assert days_due(session) == []
    more_days(session, aaa, date(2024, 3, 1), 3)
    assert days_due(session) == [(made.id, "2024-03-02", "2024-03-04")]
    record(session, settings, made.id, "2024-03-02", "2024-03-04")
    assert days_due(session) == []


def test_the_clock_asks_once_and_rests_after_a_failure(stored):
    session, _, made, _ = stored
    assert lists_due.ask_when_due(session, None) == 1
    assert lists_due.ask_when_due(session, None) == 0, "one is under way"
    job = session.scalars(sa.select(JobRow)).one()
    assert (job.kind, job.title, job.requested_by) == ("pair_list", "Record Liquid", "clock")
    assert job.arguments == {
        "list_id": made.id, "first_day": "2024-03-01", "last_day": "2024-03-01",
    }  # fmt: skip
    job.state, job.finished_at = "failed", datetime.now(UTC)
    session.commit()
    assert lists_due.ask_when_due(session, None) == 0, "it failed a moment ago"
    job.finished_at = datetime.now(UTC) - lists_due.REST - timedelta(seconds=1)
    session.commit()
    assert lists_due.ask_when_due(session, None) == 1


def test_lists_that_are_deleted_by_request_only_or_have_nothing_to_hold_are_never_due(stored):
    session, _, made, _ = stored
    made.is_daily = False
    nothing = Rules(venue="nowhere").as_json()
    session.add_all(
        [
            PairListRow(name="Gone", rules=made.rules, deleted_at=datetime.now(UTC)),
            PairListRow(name="Empty", rules=nothing),
            PairListRow(name="Bad", rules={**nothing, "window": 1}),
        ]
    )
    session.commit()
    assert days_due(session) == []
