"""Prices that leap: outliers that come back, and jumps that look like a split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.bars import DAY, SECOND, Bars, Prices
from engine.findings.finding import (
    Finding,
    Found,
    Limits,
    Mask,
    at_row,
    collected,
    largest_rows,
    price_text,
    prices_of,
    times_text,
    when_text,
)

BLOCK: Final = 256

SPLITS: Final = (
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    7.0,
    8.0,
    10.0,
    15.0,
    20.0,
    25.0,
    50.0,
    100.0,
    1.5,
    4 / 3,
    1.25,
)


@dataclass(frozen=True, slots=True)
class Moves:
    """Log returns from close to close, and the usual size of one around each bar. Row 0 is 0."""

    returns: Prices
    usual: Prices
    overall: float

    @classmethod
    def of(cls, bars: Bars) -> Moves:
        if len(bars) < 2:
            return cls(np.zeros(len(bars)), np.ones(len(bars)), math.nan)
        returns = np.concatenate([[0.0], np.diff(np.log(bars.close))])
        overall = _usual(returns[1:])
        return cls(returns, np.maximum(_by_block(returns), overall), overall)


def _usual(returns: Prices) -> float:
    """1.4826 x the median absolute deviation: a standard deviation that outliers do not move."""
    return float(1.4826 * np.median(np.abs(returns - np.median(returns))))


def _by_block(returns: Prices) -> Prices:
    """The usual move of each block of rows or of the block beside it, whichever is larger."""
    whole = len(returns) // BLOCK
    if whole < 2:
        return np.zeros(len(returns))
    blocks = returns[: whole * BLOCK].reshape(whole, BLOCK)
    middle = np.median(blocks, axis=1, keepdims=True)
    usual = 1.4826 * np.median(np.abs(blocks - middle), axis=1)
    around = np.maximum(usual, np.maximum(np.roll(usual, 1), np.roll(usual, -1)))
    return np.concatenate([np.repeat(around, BLOCK), np.full(len(returns) % BLOCK, around[-1])])


def outliers(bars: Bars, moves: Moves, limits: Limits) -> Found:
    """Closes that leap and come back within three bars, and highs and lows that only a wick reached."""
    if len(bars) < 8:
        return Found()
    least = np.maximum(limits.outlier * moves.usual, limits.outlier_least)
    spikes = _spikes(bars, moves, least, limits)
    upper = np.log(bars.high / _around(bars.high, np.maximum(bars.open, bars.close), np.maximum))
    lower = np.log(_around(bars.low, np.minimum(bars.open, bars.close), np.minimum) / bars.low)
    wicks = ((upper > least) | (lower > least)) & ~spikes
    rows = np.flatnonzero(spikes | wicks)
    found = [
        _spike(bars, moves, row) if spikes[row] else _wick(bars, moves, row, upper, lower)
        for row in largest_rows(rows, np.maximum(np.abs(moves.returns), np.maximum(upper, lower)))
    ]
    return Found(len(rows), len(rows), tuple(found))


def _spikes(bars: Bars, moves: Moves, least: Prices, limits: Limits) -> Mask:
    """Rows whose close leaps away and is back, for the most part, one to three bars later."""
    marked = np.zeros(len(bars), dtype=np.bool_)
    for row in np.flatnonzero(np.abs(moves.returns) > least):
        if marked[row - 1] or row + 1 >= len(bars):
            continue
        later = np.log(bars.close[row + 1 : row + 4] / bars.close[row - 1])
        back = np.abs(later) <= (1 - limits.outlier_back) * abs(moves.returns[row])
        if back.any():
            marked[row : row + 1 + int(np.argmax(back))] = True
    return marked


def _around(edge: Prices, body: Prices, furthest: Any) -> Prices:
    """How far the body of a bar and its neighbours reach on that side."""
    before = np.concatenate([edge[:1], edge[:-1]])
    after = np.concatenate([edge[1:], edge[-1:]])
    before[0], after[-1] = after[0], before[-1]
    return np.asarray(furthest(body, furthest(before, after)))


def _spike(bars: Bars, moves: Moves, row: int) -> Finding:
    move, usual = float(moves.returns[row]), float(moves.usual[row])
    if abs(move) < 1e-12:
        move = float(np.log(bars.close[row] / bars.close[row - 1]))
    times = abs(move) / usual if usual > 0 else math.inf
    text = (
        f"{when_text(bars.opened_at[row])}: close {price_text(bars.close[row - 1])} to "
        f"{price_text(bars.close[row])} ({math.expm1(move):+.1%}, {times_text(times)} the usual move), and back"
    )
    numbers = {"move": math.expm1(move), "times": times, "usual": usual}
    return at_row("outliers", bars, row, text, numbers | prices_of(bars, row))


def _wick(bars: Bars, moves: Moves, row: int, upper: Prices, lower: Prices) -> Finding:
    side, size = ("high", upper[row]) if upper[row] >= lower[row] else ("low", lower[row])
    usual = float(moves.usual[row])
    times = float(size) / usual if usual > 0 else math.inf
    price = getattr(bars, side)[row]
    text = (
        f"{when_text(bars.opened_at[row])}: {side} {price_text(price)}, {math.expm1(size):.1%} beyond its body "
        f"and its neighbours ({times_text(times)} the usual move)"
    )
    numbers = {"move": math.expm1(size), "times": times, "usual": usual}
    return at_row("outliers", bars, row, text, numbers | prices_of(bars, row))


def splits(bars: Bars, moves: Moves, adjusted: Prices | None, limits: Limits) -> Found:
    """Jumps between two bars near a simple ratio that stay, or that the adjusted close does not make."""
    if len(bars) < 3:
        return Found()
    jump = np.zeros(len(bars))
    jump[1:] = np.log(bars.close[:-1] / bars.open[1:])
    big = (np.abs(jump) > math.log(1.2)) & (np.abs(jump) > 6 * moves.usual)
    proven = _adjusted_jump(bars, adjusted)
    rows = [row for row in np.flatnonzero(big | (np.abs(proven) > math.log(1.1))) if row]
    found = [
        one
        for row in rows
        if (one := _split(bars, int(row), float(jump[row]), float(proven[row]), limits))
    ]
    return collected(found, lambda one: abs(math.log(one.numbers["ratio"])))


def _adjusted_jump(bars: Bars, adjusted: Prices | None) -> Prices:
    """How much more the raw close fell than the adjusted one, as a logarithm; 0 where that is not known."""
    if adjusted is None:
        return np.zeros(len(bars))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(bars.close / adjusted)
    step = np.zeros(len(bars))
    step[1:] = ratio[:-1] - ratio[1:]
    return np.nan_to_num(step, nan=0.0, posinf=0.0, neginf=0.0)


def _split(bars: Bars, row: int, jump: float, proven: float, limits: Limits) -> Finding | None:
    if abs(proven) > math.log(1.1):
        name, _ = _simple(math.exp(proven))
        text = f"the raw close falls by {name} and the adjusted one does not"
        return _split_at(bars, row, math.exp(proven), name, text, evidence=3)
    name, off = _simple(math.exp(jump))
    if off > limits.split or _is_far(bars, row) or not _stays(bars, row, jump):
        return None
    change = _volume_change(bars, row)
    # A crash trades more value; after a split the same value is more, or fewer, shares.
    if change is None or (change > 1) != (jump > 0) or abs(math.log(change)) < abs(jump) * 0.7:
        return None if abs(jump) < math.log(1.8) else _split_at(
            bars, row, math.exp(jump), name, f"the price jumps by {name} between two bars and stays", 1
        )  # fmt: skip
    text = f"the price jumps by {name} between two bars and stays, volume by {change:.1f}"
    return _split_at(bars, row, math.exp(jump), name, text, 2)


def _split_at(bars: Bars, row: int, ratio: float, name: str, text: str, evidence: int) -> Finding:
    numbers = {"ratio": ratio, "evidence": evidence, "before": float(bars.close[row - 1])}
    said = f"{when_text(bars.opened_at[row])}: {text} ({name} split?)"
    return at_row("splits", bars, row, said, numbers | prices_of(bars, row))


def _simple(ratio: float) -> tuple[str, float]:
    """The nearest simple ratio, as "4:1" or "1:10", and how far from it this one is."""
    upward = max(ratio, 1 / ratio)
    best = min(SPLITS, key=lambda simple: abs(math.log(upward / simple)))
    names = {1.5: (3, 2), 4 / 3: (4, 3), 1.25: (5, 4)}
    more, less = names.get(best, (round(best), 1))
    name = f"{more}:{less}" if ratio >= 1 else f"{less}:{more}"
    return name, abs(upward / best - 1)


def _is_far(bars: Bars, row: int) -> bool:
    """Whether so much time lies between the two bars that anything may have happened."""
    return bool(
        bars.opened_at[row] - bars.closed_at[row - 1] > max(5 * DAY, 2 * bars.interval * SECOND)
    )


def _stays(bars: Bars, row: int, jump: float) -> bool:
    """Whether the next closes are still nearer to the new price than to the old one."""
    later = np.log(bars.close[row - 1] / bars.close[row : row + 5])
    return bool(np.all(np.sign(later) == np.sign(jump)) and np.all(np.abs(later) > abs(jump) / 2))


def _volume_change(bars: Bars, row: int) -> float | None:
    before, after = bars.volume[max(0, row - 20) : row], bars.volume[row : row + 20]
    middle = float(np.median(before)), float(np.median(after))
    return middle[1] / middle[0] if min(middle) > 0 else None
