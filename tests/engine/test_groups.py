"""Tables of trades: every closed trade in exactly one row of each, and moods and crises where they were."""

from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.groups import CRISES, LOOKED_BACK, tables
from engine.backtest.metrics import Curve
from engine.backtest.results import LEGS, NEVER, OPEN, Trades
from engine.bars import DAY, Bars, nanoseconds

MONDAY = datetime(2020, 2, 3, tzinfo=UTC)


def trades_of(rows, tags=("", "dip")):
    """(entry, hours held or None, P&L, instrument, side, reason, tag) of each."""
    entries = np.array([nanoseconds(r[0]) for r in rows], dtype=np.int64)
    held = np.array([0 if r[1] is None else int(r[1] * 3600) for r in rows], dtype=np.int64)
    is_open = np.array([r[1] is None for r in rows], dtype=bool)
    pnl = np.array([r[2] for r in rows], dtype=np.float64)
    ones = np.ones(len(rows))
    reasons = [OPEN if r[1] is None else LEGS.index(r[5]) for r in rows]
    return Trades(
        instrument=np.array([r[3] for r in rows], dtype=np.int64),
        side=np.array([r[4] for r in rows], dtype=np.int8),
        quantity=ones,
        entry_at=entries,
        entry_price=ones * 100,
        exit_at=np.where(is_open, NEVER, entries + held * 10**9),
        exit_price=np.where(is_open, np.nan, 100.0),
        fees=ones * 0.5,
        pnl=pnl,
        return_fraction=pnl / 100,
        bars_held=np.ones(len(rows), dtype=np.int64),
        mae=ones * 0,
        mfe=ones * 0,
        exit_reason=np.array(reasons, dtype=np.int8),
        tag=np.array([tags.index(r[6]) for r in rows], dtype=np.int32),
        tags=tags,
    )


def a_trade(at, pnl=1.0, *, held=2.0, instrument=1, side=1, reason="exit", tag=""):
    return (at, held, pnl, instrument, side, reason, tag)


def a_curve(days=200, start=MONDAY, equity=None):
    times = nanoseconds(start) + np.arange(1, days + 1) * DAY
    equity = np.full(days, 1000.0) if equity is None else np.asarray(equity)
    return Curve(nanoseconds(start), 1000.0, times, equity, np.ones(days))


def bars_of(closes, start=MONDAY):
    closes = np.asarray(closes, dtype=np.float64)
    opened = nanoseconds(start) + np.arange(len(closes)) * DAY
    opens = np.concatenate([[100.0], closes[:-1]])
    flat = np.zeros(len(closes), dtype=bool)
    return Bars(1, 86_400, opened, opened + DAY, opens, closes, closes, closes, closes, flat)


def tabled(trades, **changes):
    given_ = {"curve": a_curve(), "calendar": "24/7", **changes}
    return tables(trades, **given_)


HOUR = timedelta(hours=1)
ROWS = [
    a_trade(MONDAY + 9 * HOUR, 10.0, tag="dip"),
    a_trade(MONDAY + 9.5 * HOUR, -4.0, instrument=2, side=-1, reason="stop_loss", held=4.0),
    a_trade(MONDAY + 33 * HOUR, 6.0, instrument=2, reason="take_profit"),
    a_trade(MONDAY + timedelta(days=30), 99.0, held=None),
]


def test_a_group_says_what_its_closed_trades_earned_and_counts_open_ones_beside_them():
    found = tabled(trades_of(ROWS), symbols={1: "BTC/USD"})
    first, second = found["instrument"]
    assert (first["name"], first["trades"], first["open"], first["pnl"]) == ("BTC/USD", 1, 1, 10)
    assert (second["name"], second["trades"], second["won"]) == ("instrument 2", 2, 1)
    assert (second["pnl"], second["average"]) == (2, 1)
    assert second["average_return"] == pytest.approx(0.01)
    assert (second["profit_factor"], second["best"], second["worst"]) == (1.5, 6, -4)
    assert (second["fees"], second["seconds"]) == (1, 3 * 3600)
    assert first["profit_factor"] is None


def test_hours_weekdays_and_months_are_the_entry_s_in_utc_and_in_order():
    found = tabled(trades_of(ROWS))
    assert [(g["name"], g["trades"]) for g in found["hour"]] == [("00:00", 0), ("09:00", 3)]
    assert [(g["name"], g["trades"]) for g in found["weekday"]] == [
        ("Monday", 2),
        ("Tuesday", 1),
        ("Wednesday", 0),
    ]
    assert [g["name"] for g in found["month"]] == ["2020-02", "2020-03"]


def test_sides_tags_and_reasons_are_told_in_words():
    found = tabled(trades_of(ROWS))
    assert [g["name"] for g in found["side"]] == ["long", "short"]
    assert [g["name"] for g in found["tag"]] == ["dip", ""]
    assert {g["name"] for g in found["exit_reason"]} == {"exit", "stop_loss", "take_profit", "open"}


def test_without_trades_tables_are_empty_and_json():
    found = tabled(Trades.none())
    assert {name for name, rows in found.items() if rows} <= {"crisis"}
    assert orjson.loads(orjson.dumps(found)) == found


moments = st.integers(0, 199 * 24).map(lambda hours: MONDAY + hours * HOUR)
many = st.lists(
    st.tuples(
        moments,
        st.one_of(st.none(), st.floats(0.1, 100)),
        st.floats(-1e4, 1e4),
        st.integers(1, 3),
        st.sampled_from([1, -1]),
        st.sampled_from(LEGS[1:]),
        st.sampled_from(["", "dip"]),
    ),
    max_size=40,
)


@given(many)
def test_every_trade_is_in_one_row_of_each_table(rows):
    trades = trades_of(rows)
    walk = 100 * np.cumprod(1 + np.random.default_rng(1).normal(0, 0.01, 200))
    found = tabled(trades, hold=[bars_of(walk)])
    closed = trades.pnl[trades.closed]
    for name, groups in found.items():
        if name == "crisis" or not rows:
            continue
        assert sum(g["trades"] for g in groups) == len(closed), name
        assert sum(g["trades"] + g["open"] for g in groups) == len(rows), name
        assert sum(g["pnl"] for g in groups) == pytest.approx(closed.sum(), abs=1e-6), name


# Moods and crises ---------------------------------------------------------------------------------


def test_a_mood_is_how_wild_the_days_before_were_and_not_the_day_itself():
    returns = np.full(200, 0.001) * np.where(np.arange(200) % 2, 1, -1)
    returns[100:150] *= 30
    market = bars_of(100 * np.cumprod(1 + returns))
    days = {"early": 5, "calm": 60, "wild": 130, "the first wild day": 100}
    rows = [a_trade(MONDAY + timedelta(days=day, hours=1)) for day in days.values()]
    found = tabled(trades_of(rows), hold=[market])["regime"]
    by_name = {g["name"]: g["trades"] for g in found}
    assert by_name["wild"] == 1
    assert by_name[f"first {LOOKED_BACK} days"] == 1
    assert by_name.get("calm", 0) + by_name.get("usual", 0) == 2


@pytest.mark.parametrize("days", [2, 59])
def test_a_short_run_has_no_moods(days):
    market = bars_of(np.linspace(100, 120, days))
    trades = trades_of([a_trade(MONDAY + HOUR)])
    assert tabled(trades, curve=a_curve(days), hold=[market])["regime"] == []


def test_a_crisis_tells_of_the_run_and_of_buying_and_holding_in_its_days():
    equity = np.full(200, 1000.0)
    day = (datetime(2020, 2, 25, tzinfo=UTC) - MONDAY).days
    equity[day:] = 900.0
    market = bars_of(np.where(np.arange(200) < day, 100.0, 60.0))
    at = datetime(2020, 3, 2, tzinfo=UTC)
    trades = trades_of([a_trade(at, 7.0), a_trade(MONDAY, 5.0)])
    (crisis,) = tabled(trades, curve=a_curve(equity=equity), hold=[market])["crisis"]
    assert (crisis["name"], crisis["starts"], crisis["ends"]) == (
        "Covid crash",
        "2020-02-19",
        "2020-03-23",
    )
    assert crisis["days"] == 34
    assert crisis["total_return"] == pytest.approx(-0.1)
    assert crisis["max_drawdown"] == pytest.approx(0.1)
    assert crisis["hold"] == pytest.approx(-0.4)
    assert (crisis["trades"], crisis["pnl"]) == (1, 7.0)


def test_a_run_that_begins_inside_a_crisis_has_its_part_of_it():
    start = datetime(2020, 3, 20, tzinfo=UTC)
    (crisis,) = tabled(Trades.none(), curve=a_curve(30, start=start))["crisis"]
    assert (crisis["starts"], crisis["ends"], crisis["days"]) == ("2020-03-20", "2020-03-23", 4)
    assert crisis["hold"] is None


def test_crises_come_in_the_order_they_began_and_none_ends_before_it_begins():
    assert all(starts <= ends for _, starts, ends in CRISES)
    begun = [starts for _, starts, _ in CRISES]
    assert begun == sorted(begun)
