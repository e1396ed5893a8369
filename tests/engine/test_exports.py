"""Runs for other tools: frames that add up, files that read back, a report that needs nothing else."""

import csv
import io
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from engine.backtest import exports
from engine.backtest.metrics import DEFINITIONS, FAMILIES, Curve, measure
from engine.backtest.results import Fills, Trades
from engine.backtest.trades import round_trips
from engine.bars import DAY, Bars
from shared.report import numbers
from shared.report.files import parquet
from tests.engine.plain_trades import AFill, columns

START = 1_704_067_200 * 10**9  # 2024-01-01
HOURS = 120 * 24
SYMBOLS = {1: "AAA", 2: "BBB"}


def bars_of(instrument, seed):
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.005, HOURS)))
    opened = START + np.arange(HOURS) * 3600 * 10**9
    opens = np.concatenate([[100.0], close[:-1]])
    return Bars(
        instrument,
        3600,
        opened,
        opened + 3600 * 10**9,
        opens,
        np.maximum(opens, close),
        np.minimum(opens, close),
        close,
        np.full(HOURS, 50.0),
        np.zeros(HOURS, dtype=bool),
    )


BARS = {1: bars_of(1, 1), 2: bars_of(2, 2)}


def some_fills(count=40):
    """Both instruments bought and sold by turns at opens; the last is left open."""
    made = []
    for number in range(count):
        instrument = 1 + number % 2
        row = 30 + number * 60
        side = 1 if number // 2 % 2 == 0 else -1
        bars = BARS[instrument]
        made.append(
            AFill(
                side, 2.0, float(bars.open[row]), 0.5, int(bars.opened_at[row]),
                "entry" if side > 0 else "exit", "dip" if number % 3 else "", instrument,
            )
        )  # fmt: skip
    return columns(made)


FILLS = some_fills()
TRADES = round_trips(FILLS, BARS)


def a_curve(fills=FILLS):
    """Cash and holdings after every bar, worked out the slow way."""
    times = BARS[1].closed_at
    cash, held = np.full(HOURS, 10_000.0), np.zeros(HOURS)
    for i in range(len(fills)):
        later = times > fills.at[i]
        value = fills.side[i] * fills.quantity[i]
        cash[later] -= value * fills.price[i] + fills.fee[i]
        held[later] += value * BARS[int(fills.instrument[i])].close[later]
    return Curve(START, 10_000.0, times, cash + held, held / (cash + held))


CURVE = a_curve()
METRICS = measure(CURVE, TRADES, fills=FILLS, calendar="24/7", hold=BARS.values())


# Frames -----------------------------------------------------------------------------------------


def test_returns_are_a_series_by_day_without_a_zone_and_compound_to_the_total():
    found = exports.returns(CURVE, "24/7")
    assert isinstance(found.index, pd.DatetimeIndex)
    assert (found.index.tz, found.name, len(found)) == (None, "returns", 120)
    assert found.index[0] == pd.Timestamp("2024-01-01")
    total = next(m for m in METRICS if m.name == "total_return").value
    assert (1 + found).prod() - 1 == pytest.approx(total, rel=1e-12)


def test_the_benchmark_compounds_to_buying_and_holding():
    found = exports.benchmark_returns(CURVE, "24/7", BARS.values())
    held = next(m for m in METRICS if m.name == "buy_and_hold").value
    assert (1 + found).prod() - 1 == pytest.approx(held, rel=1e-12)
    assert (found.index == exports.returns(CURVE, "24/7").index).all()
    with pytest.raises(ValueError, match="no bars"):
        exports.benchmark_returns(CURVE, "24/7", [])


def test_positions_and_cash_are_equity_at_the_end_of_every_day():
    found = exports.positions(CURVE, FILLS, "24/7", BARS, SYMBOLS)
    assert list(found.columns) == ["AAA", "BBB", "cash"]
    ends = CURVE.equity[23::24]
    assert found.sum(axis=1).to_numpy() == pytest.approx(ends, rel=1e-12)
    share = CURVE.exposure[23::24] * ends
    assert (found["AAA"] + found["BBB"]).to_numpy() == pytest.approx(share, abs=1e-6)
    assert found.index.tz is None


def test_transactions_are_the_fills_with_signed_amounts():
    found = exports.transactions(FILLS, SYMBOLS)
    assert list(found.columns) == ["amount", "price", "symbol"]
    assert found["amount"].tolist() == (FILLS.side * FILLS.quantity).tolist()
    assert set(found["symbol"]) == {"AAA", "BBB"}
    assert found.index[0] == pd.Timestamp(int(FILLS.at[0]))
    assert found.index.tz is None


# Files ------------------------------------------------------------------------------------------


def test_parquet_and_csv_say_the_same_and_read_back_exactly(tmp_path):
    made = exports.write_tables(tmp_path / "out", CURVE, TRADES, FILLS, SYMBOLS)
    assert [path.name for path in made] == ["trades.parquet", "fills.parquet", "equity.parquet"]
    exports.write_tables(tmp_path / "out", CURVE, TRADES, FILLS, SYMBOLS, "csv")
    for path in made:
        table = pq.read_table(path)
        with path.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert table.column_names == list(rows[0])
        for name in table.column_names:
            assert [_text(v) for v in table[name].to_pylist()] == [r[name] for r in rows], name
    trades = pq.read_table(made[0])
    assert trades["pnl"].to_pylist() == TRADES.pnl.tolist()
    assert (
        trades["exit_at"].null_count == (~TRADES.closed).sum() == 0
        or trades["exit_price"].null_count == (~TRADES.closed).sum()
    )
    assert str(trades.schema.field("entry_at").type) == "timestamp[ns, tz=UTC]"


def _text(value):
    if value is None:
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def test_open_trades_have_no_exit_in_files():
    fills = FILLS[: len(FILLS) - 2]
    trades = round_trips(fills, BARS)
    assert (~trades.closed).any()
    table = pq.read_table(io.BytesIO(parquet(exports.trades_table(trades, SYMBOLS))))
    assert table["exit_at"].null_count == table["exit_price"].null_count == (~trades.closed).sum()


def test_nothing_makes_files_with_heads_only():
    table = pq.read_table(io.BytesIO(parquet(exports.trades_table(Trades.none(), {}))))
    assert table.num_rows == 0
    assert "mae" in table.column_names
    assert len(exports.transactions(Fills.none(), {})) == 0


# The report -------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Tags opened and closed, and every attribute."""

    empty = frozenset(("meta", "path", "rect", "br"))

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.tags, self.attributes = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.empty:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def a_report(curve=CURVE, trades=TRADES, metrics=METRICS, **changes):
    given = {
        "title": "Cross <of> averages",
        "calendar": "24/7",
        "currency": "USD",
        "hold": BARS.values(),
        "symbols": SYMBOLS,
        "facts": [("fee", "0.1 %")],
        **changes,
    }
    return exports.report_html(curve, trades, metrics, **given)


def test_the_report_is_one_sound_file_that_fetches_nothing_and_runs_nothing():
    text = a_report()
    page = Tags(text)
    assert (page.open, page.wrong) == ([], [])
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [
        name
        for name, _ in page.attributes
        if name in ("src", "href", "srcset", "action", "style") or name.startswith("on")
    ]
    assert "://" not in text
    assert "url(" not in text
    assert "Cross &lt;of&gt; averages" in text
    assert "<of>" not in text


def test_the_report_tells_every_number_with_formula_and_count_every_picture_and_every_table():
    text = a_report()
    for metric in METRICS:
        assert escape(numbers.TITLES[metric.name]) in text
        assert escape(metric.how) in text
    assert text.count('<svg class="plot') == 8
    for title in (
        "Equity", "Under water", "Rolling Sharpe", "Exposure", "Daily returns", "Returns of trades",
        "Adverse excursion", "Favourable excursion", "Monthly return, %", "Deepest falls, by day",
        "By instrument", "By tag", "By exit reason", "By hour of entry, UTC", "By weekday of entry, UTC",
        "What was run", "Trades (20)",
    ):  # fmt: skip
        assert f"<h2>{title}" in text, title


@pytest.mark.parametrize(
    "curve",
    [
        replace(
            CURVE,
            times=CURVE.times[:count],
            equity=CURVE.equity[:count],
            exposure=CURVE.exposure[:count],
        )
        for count in (0, 1, 30)
    ],
    ids=["no mark", "one mark", "a day"],
)
def test_a_run_of_next_to_nothing_has_a_report_that_says_why_numbers_are_missing(curve):
    metrics = measure(curve, Trades.none(), fills=Fills.none(), calendar="24/7")
    page = Tags(a_report(curve, Trades.none(), metrics, hold=(), facts=()))
    assert (page.open, page.wrong) == ([], [])
    assert "Not defined: " in a_report(curve, Trades.none(), metrics, hold=())


def test_a_report_of_very_many_trades_lists_the_first_and_says_how_many_there_are():
    many = TRADES[np.arange(3_000) % len(TRADES)]
    text = a_report(trades=many)
    assert "Trades (3\N{NARROW NO-BREAK SPACE}000)" in text
    assert "The first 1\N{NARROW NO-BREAK SPACE}000 of 3\N{NARROW NO-BREAK SPACE}000." in text
    assert len(text) < 2_000_000


def test_every_metric_has_a_title_in_its_family():
    assert {f: [d.name for d in defs] for f, defs in FAMILIES.items()} == {
        family: list(titles) for family, titles in numbers.FAMILIES.items()
    }
    assert set(numbers.MAIN) <= {d.name for d in DEFINITIONS}
    assert len(set(numbers.TITLES.values())) == len(DEFINITIONS)


def test_days_of_the_report_end_where_the_curve_does():
    levels = exports.daily_levels(CURVE, TRADES, "24/7", tuple(BARS.values()))
    days, equity, held = levels
    assert len(days) == len(equity) == len(held) == 120
    assert equity[-1] == CURVE.equity[-1]
    assert days[0] == START // DAY
