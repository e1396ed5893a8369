"""A run for other tools: frames that quantstats and pyfolio take, CSV and Parquet, a report as one HTML file.

    series = returns(curve, "24/7")
    quantstats.reports.full(series)
    pyfolio.create_full_tear_sheet(series, positions(...), transactions(...))

Frames are pandas'; their days and times are UTC without a zone, as those libraries want them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from engine.backtest.groups import tables
from engine.backtest.metrics import Curve, Metric, as_json, daily_equity
from engine.backtest.metrics.curves import daily_rows
from engine.backtest.report import daily_levels
from engine.backtest.results import LEGS, NEVER, REASONS, Fills, Trades
from engine.bars import DAY, SECOND, Bars, instant
from shared.report import curves
from shared.report.files import Table, csv_pieces, parquet
from shared.report.page import TRADES as TRADES_LISTED
from shared.report.page import Report, TradeLine, html
from shared.report.pictures import STRETCHES, Columns

if TYPE_CHECKING:
    import pandas as pd

Symbols = Mapping[int, str]
Format = Literal["csv", "parquet"]


# Frames -----------------------------------------------------------------------------------------


def returns(curve: Curve, calendar: str) -> pd.Series:
    """Daily returns of marked equity, by day, named `returns`; the first is from the starting capital."""
    import pandas as pd

    days, equity = daily_equity(curve, calendar)
    levels = np.concatenate([[curve.capital], equity])
    index = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[ns]"))
    return pd.Series(levels[1:] / levels[:-1] - 1, index=index, name="returns")


def benchmark_returns(curve: Curve, calendar: str, hold: Iterable[Bars]) -> pd.Series:
    """Daily returns of buying and holding what was traded, beside `returns`; ValueError without bars."""
    import pandas as pd

    days, _, held = daily_levels(curve, Trades.none(), calendar, tuple(hold))
    if not len(held):
        raise ValueError("hold: there are no bars of the run to compare with")
    levels = np.concatenate([[curve.capital], held])
    index = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[ns]"))
    return pd.Series(levels[1:] / levels[:-1] - 1, index=index, name="benchmark")


def positions(
    curve: Curve, fills: Fills, calendar: str, bars: Mapping[int, Bars], symbols: Symbols
) -> pd.DataFrame:
    """What was held at the end of each day, a column a symbol and `cash`, in the quote asset.

    Cash is what equity has beside it. `bars` of each traded instrument say what it was worth.
    """
    import pandas as pd

    days, rows = daily_rows(curve, calendar)
    ends = (days + 1) * DAY
    held = {
        symbols.get(number, str(number)): _held(fills, number, ends, own)
        for number, own in bars.items()
        if (fills.instrument == number).any()
    }
    equity = np.where(rows < 0, curve.capital, curve.equity[rows]) if len(rows) else np.zeros(0)
    index = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[ns]"))
    frame = pd.DataFrame(held, index=index)
    frame["cash"] = equity - frame.sum(axis=1)
    return frame


def _held(
    fills: Fills, instrument: int, ends: npt.NDArray[np.int64], bars: Bars
) -> npt.NDArray[np.float64]:
    """The value of what is held of one instrument at each instant; what floats leave over is nothing."""
    own = fills[fills.instrument == instrument]
    amounts = np.concatenate([[0.0], np.cumsum(own.side * own.quantity)])
    amounts[np.abs(amounts) < 1e-12 * np.abs(amounts).max()] = 0.0
    quantity = amounts[np.searchsorted(own.at, ends, side="right")]
    row = np.searchsorted(bars.closed_at, ends, side="right") - 1
    return np.asarray(quantity * np.where(row < 0, 0.0, bars.close[row]))


def transactions(fills: Fills, symbols: Symbols) -> pd.DataFrame:
    """Every fill by its time: `amount` (signed), `price`, `symbol`."""
    import pandas as pd

    return pd.DataFrame(
        {
            "amount": fills.side * fills.quantity,
            "price": fills.price,
            "symbol": [symbols.get(number, str(number)) for number in fills.instrument.tolist()],
        },
        index=pd.DatetimeIndex(fills.at.astype("datetime64[ns]"), name="date"),
    )


# Files ------------------------------------------------------------------------------------------


def trades_table(trades: Trades, symbols: Symbols) -> Table:
    """A row a trade, by entry. Open ones have no exit."""
    return {
        "number": np.arange(1, len(trades) + 1),
        "symbol": [symbols.get(number, str(number)) for number in trades.instrument.tolist()],
        "side": ["long" if side > 0 else "short" for side in trades.side.tolist()],
        "quantity": trades.quantity,
        "entry_at": trades.entry_at.astype("datetime64[ns]"),
        "entry_price": trades.entry_price,
        # `NEVER` is what numpy reads as no time
        "exit_at": trades.exit_at.astype("datetime64[ns]"),
        "exit_price": trades.exit_price,
        "fees": trades.fees,
        "pnl": trades.pnl,
        "return_fraction": trades.return_fraction,
        "bars_held": trades.bars_held,
        "mae": trades.mae,
        "mfe": trades.mfe,
        "exit_reason": [REASONS[code] for code in trades.exit_reason.tolist()],
        "tag": [trades.tags[code] for code in trades.tag.tolist()],
    }


def fills_table(fills: Fills, symbols: Symbols) -> Table:
    """A row a fill, as they happened."""
    return {
        "number": np.arange(1, len(fills) + 1),
        "symbol": [symbols.get(number, str(number)) for number in fills.instrument.tolist()],
        "side": ["buy" if side > 0 else "sell" for side in fills.side.tolist()],
        "leg": [LEGS[code] for code in fills.leg.tolist()],
        "quantity": fills.quantity,
        "price": fills.price,
        "raw_price": fills.raw,
        "fee": fills.fee,
        "filled_at": fills.at.astype("datetime64[ns]"),
        "tag": [fills.tags[code] for code in fills.tag.tolist()],
    }


def equity_table(curve: Curve) -> Table:
    """A row a mark."""
    peaks = np.maximum.accumulate(np.maximum(curve.equity, curve.capital))
    return {
        "at": curve.times.astype("datetime64[ns]"),
        "equity": curve.equity,
        "drawdown": curve.equity / peaks - 1,
        "exposure": curve.exposure,
    }


def write_tables(
    folder: Path,
    curve: Curve,
    trades: Trades,
    fills: Fills,
    symbols: Symbols,
    form: Format = "parquet",
) -> list[Path]:
    """trades, fills and equity as files in `folder`, which is made; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, table in (
        ("trades", trades_table(trades, symbols)),
        ("fills", fills_table(fills, symbols)),
        ("equity", equity_table(curve)),
    ):
        path = folder / f"{name}.{form}"
        if form == "parquet":
            path.write_bytes(parquet(table))
        else:
            path.write_text("".join(csv_pieces(table)), newline="")
        found.append(path)
    return found


# The report -------------------------------------------------------------------------------------


def report_html(
    curve: Curve,
    trades: Trades,
    metrics: Sequence[Metric],
    *,
    title: str,
    calendar: str,
    currency: str = "",
    hold: Iterable[Bars] = (),
    symbols: Symbols | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """One HTML file that needs nothing else: numbers with how they came about, pictures, tables, trades.

    `facts` are (name, value) of what was run.
    """
    held, names = tuple(hold), symbols or {}
    grouped = tables(trades, curve=curve, calendar=calendar, hold=held, symbols=names)
    first, last = curve.started_at, curve.times[-1] if len(curve.times) else curve.started_at
    report = Report(
        title=title,
        subtitle=f"{instant(first):%-d %b %Y} to {instant(last):%-d %b %Y}",
        currency=currency,
        capital=curve.capital,
        calendar=calendar,
        metrics=as_json(metrics),
        columns=_columns(curve, trades, calendar, held),
        tables=grouped,
        facts=facts,
        trades=_lines(trades[:TRADES_LISTED], names),
        trade_count=len(trades),
        made_at=datetime.now(UTC),
    )
    return html(report)


def _columns(curve: Curve, trades: Trades, calendar: str, hold: tuple[Bars, ...]) -> Columns:
    exposure, rows = curves.means(curve.exposure, STRETCHES)
    days, equity, held = daily_levels(curve, trades, calendar, hold)
    return Columns(
        times=curve.times[rows] / SECOND,
        exposure=exposure,
        days=curves.Days.of(days, equity, held, curve.capital),
        trade_return=trades.return_fraction,
        mae=trades.mae,
        mfe=trades.mfe,
    )


def _lines(trades: Trades, symbols: Symbols) -> list[TradeLine]:
    return [_line(number, row, symbols) for number, row in enumerate(trades.rows(), 1)]


def _line(number: int, row: tuple[Any, ...], symbols: Symbols) -> TradeLine:
    instrument, side, quantity, entry_at, entry_price, exit_at, exit_price, *rest = row
    _, pnl, gained, _, _, _, reason, _ = rest
    is_open = exit_at == NEVER
    return TradeLine(
        number=number,
        symbol=symbols.get(instrument, str(instrument)),
        side="long" if side > 0 else "short",
        entry_at=instant(entry_at),
        entry_price=entry_price,
        exit_at=None if is_open else instant(exit_at),
        exit_price=None if is_open else exit_price,
        quantity=quantity,
        pnl=pnl,
        return_fraction=gained,
        reason=REASONS[reason],
    )
