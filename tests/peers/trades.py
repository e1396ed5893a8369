"""Our trades beside backtesting.py's and vectorbt's on the same bars. Run by hand, in an environment of its own:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install . backtesting==0.6.6 vectorbt==1.2.0
    /tmp/peers/bin/python tests/peers/trades.py prices.csv                  # a table (`made`: of made bars)
    /tmp/peers/bin/python tests/peers/trades.py > tests/peers/trades.json   # theirs, on made bars

prices.csv has columns Date, Open, High, Low, Close, Volume. tests/engine/test_peer_trades.py holds us to what the
second one printed; docs/research.md says where definitions differ. Neither library is a dependency of ours.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.backtest.given import from_frame
from engine.bars import Bars
from tests.peers.crosses import (
    ALL_IN_BOTH_WAYS,
    CAPITAL,
    CASES,
    FEE,
    LONG,
    SHORT,
    Case,
    Outcome,
    Traded,
    made,
    ours,
)

UNIT = 1e-10
"""What backtesting.py rounds quantities down to; it trades whole numbers of these."""

CLOSE_ENOUGH = 1e-9
COUNTED = ("ours", "theirs", "entries", "exits", "prices", "sizes", "P&L")

# backtesting.py ---------------------------------------------------------------------------------


def in_the_order(case: Case, frame: pd.DataFrame) -> Outcome:
    """Stop and target lie in the order, at their distance from the open that it will fill at; averages without NaN."""
    return _backtesting(case, frame, late=False, warms=False)


def after_the_fill(case: Case, frame: pd.DataFrame) -> Outcome:
    """`trade.sl` and `trade.tp` are set in the first `next()` after the fill."""
    return _backtesting(case, frame, late=True, warms=False)


def with_its_warm_up(case: Case, frame: pd.DataFrame) -> Outcome:
    """Averages begin with NaN, which it waits out."""
    return _backtesting(case, frame, late=False, warms=True)


def _backtesting(case: Case, frame: pd.DataFrame, *, late: bool, warms: bool) -> Outcome:
    from backtesting.lib import FractionalBacktest

    cross = _cross(case, targets(case, frame), late=late, warms=warms)
    test = FractionalBacktest(frame, cross, cash=CAPITAL, commission=FEE, fractional_unit=UNIT)
    stats = test.run()
    rows = stats["_trades"].sort_values("EntryBar")
    columns = (
        np.sign(rows.Size).astype(int), rows.EntryBar, rows.ExitBar, rows.Size.abs(), rows.EntryPrice, rows.ExitPrice,
        rows.PnL,
    )  # fmt: skip
    trades = (Traded(*row) for row in zip(*(c.tolist() for c in columns), strict=True))
    return Outcome(tuple(trades), float(stats["_equity_curve"].Equity.iloc[-1]))


def _cross(case: Case, wanted: Any, *, late: bool, warms: bool) -> Any:
    """The strategy as it is written for backtesting.py: it turns when the target does."""
    from backtesting import Strategy

    known = np.nan_to_num(wanted)
    first = LONG if warms else 1

    class Cross(Strategy):
        def init(self):
            self.opens = np.array(self.data.Open)
            self.wanted = self.I(lambda: wanted if warms else known, plot=False)

        def next(self):
            row = len(self.data) - 1
            if late and case.guarded:
                self.protect()
            before = 0.0 if row == first else known[row - 1]
            if row + 1 < len(known) and known[row] != before:
                self.turn(known[row], self.opens[row + 1])

        def protect(self):
            for trade in self.trades:
                if trade.sl is None:
                    side = 1 if trade.is_long else -1
                    trade.sl = trade.entry_price * (1 - side * case.stop)
                    trade.tp = trade.entry_price * (1 + side * case.target)

        def turn(self, target, fill):
            for trade in self.trades:
                trade.close()
            if target == 0:
                return
            order = {} if case.units is None else {"size": round(case.units / UNIT)}
            if case.guarded and not late:
                order |= {
                    "sl": fill * (1 - target * case.stop),
                    "tp": fill * (1 + target * case.target),
                }
            (self.buy if target > 0 else self.sell)(**order)

    return Cross


# vectorbt ---------------------------------------------------------------------------------------


def two_rows_a_bar(case: Case, frame: pd.DataFrame) -> Outcome:
    """A row for the open, at which signals fill, and one for the rest of the bar, in which stops are looked for."""
    rows = pd.DataFrame(
        {
            name: np.stack([frame["Open"], frame[name]], axis=1).ravel()
            for name in ("Open", "High", "Low", "Close")
        }
    )
    signals = np.stack([_turns(case, frame), np.full(len(frame), np.nan)], axis=1).ravel()
    return _vectorbt(case, rows, signals, rows["Close"], 2)


def one_row_a_bar(case: Case, frame: pd.DataFrame) -> Outcome:
    """Signals fill at the open of the row in which stops are looked for too."""
    rows = frame.reset_index(drop=True)
    return _vectorbt(case, rows, _turns(case, frame), rows["Open"], 1)


def _turns(case: Case, frame: pd.DataFrame) -> Any:
    """At each open: the target that the close before turned to, NaN where it did not."""
    wanted = np.nan_to_num(targets(case, frame))
    turned = np.concatenate([[False], wanted[1:] != wanted[:-1]])
    return np.concatenate([[np.nan], np.where(turned, wanted, np.nan)[:-1]])


def _vectorbt(case: Case, rows: pd.DataFrame, turns: Any, price: Any, rows_a_bar: int) -> Outcome:
    import vectorbt as vbt
    from vectorbt.portfolio.enums import StopEntryPrice, StopExitPrice

    stops = {"sl_stop": case.stop, "tp_stop": case.target} if case.guarded else {}
    done = vbt.Portfolio.from_signals(
        rows["Close"],
        entries=pd.Series(turns == 1),
        exits=pd.Series(turns == 0),
        short_entries=pd.Series(turns == -1),
        price=price,
        open=rows["Open"],
        high=rows["High"],
        low=rows["Low"],
        size=np.inf if case.units is None else case.units,
        lock_cash=case.below < 0,
        fees=FEE,
        init_cash=CAPITAL,
        stop_entry_price=StopEntryPrice.FillPrice,
        stop_exit_price=StopExitPrice.StopMarket,
        **stops,
    )
    return Outcome(_closed(done.trades.records, rows_a_bar), float(done.value().iloc[-1]))


def _closed(records: pd.DataFrame, rows_a_bar: int) -> tuple[Traded, ...]:
    found = records[records["status"] == 1].sort_values("entry_idx")
    columns = (
        1 - 2 * found["direction"], found["entry_idx"] // rows_a_bar, found["exit_idx"] // rows_a_bar,
        found["size"], found["entry_price"], found["exit_price"], found["pnl"],
    )  # fmt: skip
    return tuple(Traded(*row) for row in zip(*(c.tolist() for c in columns), strict=True))


# Side by side -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """A peer and its options; `because`: why its trades are others than ours where they are."""

    run: Callable[[Case, pd.DataFrame], Outcome]
    because: str = ""


SAME = {"backtesting.py": Way(in_the_order), "vectorbt": Way(two_rows_a_bar)}
"""Options under which a case means the same to them as to us."""

OTHERS = {
    "backtesting.py, levels set after the fill": Way(
        after_the_fill, "next() comes at the close: the bar of the entry has no stop and no target"
    ),
    "backtesting.py, its own warm-up": Way(
        with_its_warm_up, "it asks first one bar after the averages are there"
    ),
    "vectorbt, one row a bar": Way(
        one_row_a_bar,
        "one order a row: none protects in the entry's, and a stop replaces the signal at the open",
    ),
}

TURNS = "a turn is sized at the close that decided it, and cut to what there is at the open; theirs at the open alone"


def targets(case: Case, frame: pd.DataFrame) -> Any:
    """The target after each close, by pandas' averages; NaN before the long one is there."""
    close = frame["Close"]
    short, long = close.rolling(SHORT).mean(), close.rolling(LONG).mean()
    return np.where(long.isna(), np.nan, np.where(short > long, 1.0, case.below))


def compared(theirs: Outcome, own: Outcome) -> dict[str, int]:
    """How many trades there are, and how many are equal in what, of those with the same side and entry bar."""
    by_entry = {(t.side, t.entry_bar): t for t in own.trades}
    met = [(t, by_entry.get((t.side, t.entry_bar))) for t in theirs.trades]
    pairs = [(a, b) for a, b in met if b is not None]
    return {
        "ours": len(own.trades),
        "theirs": len(theirs.trades),
        "entries": len(pairs),
        "exits": sum(a.exit_bar == b.exit_bar for a, b in pairs),
        "prices": sum(
            _near(a.entry_price, b.entry_price) and _near(a.exit_price, b.exit_price) for a, b in pairs
        ),
        "sizes": sum(_near(a.quantity, b.quantity) for a, b in pairs),
        "P&L": sum(_near(a.pnl, b.pnl) for a, b in pairs),
    }  # fmt: skip


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= CLOSE_ENOUGH * max(abs(one), abs(other), 1.0)


def table(frame: pd.DataFrame) -> Iterator[str]:
    """A line for each case and way: counts, equity, and equal or why not."""
    bars = from_frame(frame)
    yield f"{'':<50}{'':<43}{' '.join(f'{n:>7}' for n in COUNTED)}   equity"
    for name, case in CASES.items():
        own = ours(case, bars)
        for way, asked in {**SAME, **OTHERS}.items():
            yield f"{name:<50}{way:<43}{_line(case, asked, asked.because, frame, own)}"
    own = ours(ALL_IN_BOTH_WAYS, bars)
    for way, asked in SAME.items():
        yield f"{'long and short, all in':<50}{way:<43}{_line(ALL_IN_BOTH_WAYS, asked, TURNS, frame, own)}"


def _line(case: Case, way: Way, because: str, frame: pd.DataFrame, own: Outcome) -> str:
    try:
        theirs = way.run(case, frame)
    except ValueError as refused:
        return f"refused by it: {refused}"
    counts, apart = compared(theirs, own), theirs.equity / own.equity - 1
    equal = len(set(counts.values())) == 1 and abs(apart) < CLOSE_ENOUGH
    said = "equal" if equal else f"differs: {because or 'NOT EXPLAINED'}"
    return f"{' '.join(f'{n:>7}' for n in counts.values())} {apart:>+8.0e}  {said}"


def frame_of(bars: Bars) -> pd.DataFrame:
    """Bars as both peers read them."""
    columns = {
        name.title(): getattr(bars, name) for name in ("open", "high", "low", "close", "volume")
    }
    return pd.DataFrame(columns, index=pd.DatetimeIndex(bars.opened_at.astype("datetime64[ns]")))


def frozen() -> str:
    """Theirs on made bars as JSON, a line for each peer's run, and what tells that the bars are these."""
    bars = made()
    frame = frame_of(bars)
    cases = {**CASES, "long and short, all in": ALL_IN_BOTH_WAYS}
    lines = [
        json.dumps([name, peer, asdict(way.run(case, frame))])
        for name, case in cases.items()
        for peer, way in SAME.items()
    ]
    total = round(float(bars.close.sum()), 2)
    return f'{{"sum_of_closes": {total}, "runs": [\n' + ",\n".join(lines) + "\n]}"


def _given(path: str) -> pd.DataFrame:
    if path == "made":
        return frame_of(made())
    frame = pd.read_csv(path, index_col="Date", parse_dates=True)
    return frame[["Open", "High", "Low", "Close", "Volume"]].astype(float)


def main() -> None:
    warnings.simplefilter("ignore")
    given = sys.argv[1:]
    print(*(table(_given(given[0])) if given else [frozen()]), sep="\n")


if __name__ == "__main__":
    main()
