"""What trades were like. Open ones count in `trades` and nowhere else."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.backtest.metrics.facts import Facts
from engine.backtest.metrics.model import Definition, Found, Undefined
from engine.bars import SECOND

_95_PERCENT: Final = 1.959963984540054
"""Standard deviations either side that hold 95 % of a normal distribution."""

BEST: Final = 5


def _trades(facts: Facts) -> Found:
    count = len(facts.trades)
    closed = int(facts.is_closed.sum())
    long = int((facts.trades.side > 0).sum())
    details = {"closed": closed, "open": count - closed, "long": long, "short": count - long}
    return Found(float(count), count, details)


def wilson(won: int, count: int) -> tuple[float, float]:
    """Where a true rate lies with 95 % confidence, after `won` of `count` (at least one)."""
    z2 = _95_PERCENT**2
    rate = won / count
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    spread = rate * (1 - rate) / count + z2 / (4 * count**2)
    half = _95_PERCENT / (1 + z2 / count) * math.sqrt(spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _win_rate(facts: Facts) -> Found:
    won, count = len(facts.won), len(facts.results)
    low, high = wilson(won, count)
    return Found(won / count, count, {"won": won, "low_95": low, "high_95": high})


def _sums(facts: Facts) -> tuple[float, float]:
    """(what winners earned, what losers lost); something was lost."""
    count = len(facts.results)
    if not len(facts.lost):
        raise Undefined("no losing trade", count)
    return float(facts.won.sum()), float(facts.lost.sum())


def _payoff(facts: Facts) -> Found:
    earned, lost = _sums(facts)
    if not len(facts.won):
        raise Undefined("no winning trade", len(facts.results))
    win, loss = earned / len(facts.won), lost / len(facts.lost)
    return Found(win / loss, len(facts.results), {"average_win": win, "average_loss": loss})


def _profit_factor(facts: Facts) -> Found:
    earned, lost = _sums(facts)
    return Found(earned / lost, len(facts.results), {"earned": earned, "lost": lost})


def _average_trade(facts: Facts) -> Found:
    return Found(float(facts.results.mean()), len(facts.results))


def _average_return(facts: Facts) -> Found:
    returns = facts.of_closed(facts.trades.return_fraction)
    return Found(float(returns.mean()), len(returns))


def _expectancy_r(facts: Facts) -> Found:
    _, lost = _sums(facts)
    risk = lost / len(facts.lost)
    return Found(float(facts.results.mean()) / risk, len(facts.results), {"r": risk})


def _sqn(facts: Facts) -> Found:
    results = facts.results
    if len(results) < 2:
        raise Undefined("fewer than two closed trades", len(results))
    deviation = float(results.std(ddof=1))
    if deviation <= 1e-12 * float(np.abs(results).max()):
        raise Undefined("trades do not vary", len(results))
    return Found(math.sqrt(len(results)) * float(results.mean()) / deviation, len(results))


def _best_trade(facts: Facts) -> Found:
    return Found(float(facts.results.max()), len(facts.results))


def _worst_trade(facts: Facts) -> Found:
    return Found(float(facts.results.min()), len(facts.results))


def _largest_share(facts: Facts) -> Found:
    if not len(facts.won):
        raise Undefined("no winning trade", len(facts.results))
    return Found(float(facts.won.max() / facts.won.sum()), len(facts.won))


def _without_best(facts: Facts) -> Found:
    results = facts.results
    best = np.partition(results, len(results) - BEST)[-BEST:] if len(results) > BEST else results
    taken = float(best[best > 0].sum())
    return Found(float(results.sum()) - taken, len(results), {"the_best": taken})


# How far prices went ----------------------------------------------------------------------------


def _mae(facts: Facts) -> Found:
    against = facts.of_closed(facts.trades.mae)
    return Found(float(against.mean()), len(against), {"largest": float(against.max())})


def _mfe(facts: Facts) -> Found:
    favour = facts.of_closed(facts.trades.mfe)
    return Found(float(favour.mean()), len(favour), {"largest": float(favour.max())})


def _edge_ratio(facts: Facts) -> Found:
    against, favour = _mae(facts), _mfe(facts)
    if against.value == 0:
        raise Undefined("no price went against a trade", against.n)
    return Found(favour.value / against.value, against.n)


# How long ---------------------------------------------------------------------------------------


def _durations(held: npt.NDArray[np.int64], name: str) -> Found:
    if not len(held):
        raise Undefined(f"no {name} trade")
    details = {"shortest": int(held.min()) / SECOND, "longest": int(held.max()) / SECOND}
    return Found(int(held.sum()) / len(held) / SECOND, len(held), details)


def _average_duration(facts: Facts) -> Found:
    return _durations(facts.durations, "closed")


def _duration_won(facts: Facts) -> Found:
    return _durations(facts.durations[facts.winners], "winning")


def _duration_lost(facts: Facts) -> Found:
    return _durations(facts.durations[facts.losers], "losing")


def _average_bars(facts: Facts) -> Found:
    held = facts.of_closed(facts.trades.bars_held)
    return Found(int(held.sum()) / len(held), len(held), {"most": int(held.max())})


def _streak(facts: Facts, sign: int) -> Found:
    """Trades in the order they ended."""
    ends = facts.of_closed(facts.trades.exit_at)
    results = facts.results
    if (ends[1:] < ends[:-1]).any():
        results = results[np.argsort(ends, kind="stable")]
    breaks = np.flatnonzero(results * sign <= 0)
    edges = np.concatenate([[-1], breaks, [len(results)]])
    lengths = np.diff(edges) - 1
    return Found(float(lengths.max()), len(results), {"at_the_end": int(lengths[-1])})


def _win_streak(facts: Facts) -> Found:
    return _streak(facts, 1)


def _loss_streak(facts: Facts) -> Found:
    return _streak(facts, -1)


TRADING: Final = (
    Definition("trades", "count", "round trips from flat to flat, open ones counted", _trades),
    Definition(
        "win_rate", "%", "closed trades that earned more than their fees / closed trades", _win_rate
    ),
    Definition(
        "payoff", "ratio", "mean of winning trades / mean of losing trades, as amounts", _payoff
    ),
    Definition(
        "profit_factor",
        "ratio",
        "sum of what winning trades earned / sum of what losing trades lost, after fees, closed only",
        _profit_factor,
    ),
    Definition(
        "average_trade",
        "currency",
        "expectancy in money: mean P&L of closed trades, after fees",
        _average_trade,
    ),
    Definition(
        "average_return",
        "%",
        "mean over closed trades of P&L / value of the entry",
        _average_return,
    ),
    Definition(
        "expectancy_r",
        "ratio",
        "expectancy in R: mean P&L of closed trades / R, R being the mean loss of losing trades",
        _expectancy_r,
    ),
    Definition(
        "sqn",
        "ratio",
        "system quality number: sqrt(closed trades) x mean P&L / its standard deviation (n - 1)",
        _sqn,
    ),
    Definition("best_trade", "currency", "largest P&L of a closed trade, after fees", _best_trade),
    Definition(
        "worst_trade", "currency", "smallest P&L of a closed trade, after fees", _worst_trade
    ),
    Definition(
        "largest_trade_share",
        "%",
        "best trade / sum of what winning trades earned",
        _largest_share,
    ),
    Definition(
        "profit_without_best_5",
        "currency",
        "P&L of closed trades less that of the five that earned most",
        _without_best,
    ),
    Definition(
        "mae",
        "%",
        "mean over closed trades of the largest move against the trade while held / entry price",
        _mae,
    ),
    Definition(
        "mfe",
        "%",
        "mean over closed trades of the largest move for the trade while held / entry price",
        _mfe,
    ),
    Definition("edge_ratio", "ratio", "mean MFE / mean MAE of closed trades", _edge_ratio),
    Definition(
        "average_duration", "seconds", "mean of exit - entry, closed trades", _average_duration
    ),
    Definition(
        "average_bars", "ratio", "mean number of bars closed trades lived through", _average_bars
    ),
    Definition(
        "average_duration_won", "seconds", "mean of exit - entry, winning trades", _duration_won
    ),
    Definition(
        "average_duration_lost", "seconds", "mean of exit - entry, losing trades", _duration_lost
    ),
    Definition(
        "longest_win_streak", "count", "most winning trades in a row, as they ended", _win_streak
    ),
    Definition(
        "longest_loss_streak", "count", "most losing trades in a row, as they ended", _loss_streak
    ),
)
