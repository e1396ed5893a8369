"""What may be wrong with stored bars, found from the bars alone: pure, over columns.

Nothing here changes a bar. A finding says what, where and with which numbers; whether it matters is decided
by whoever runs something on the bars (`refused`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from engine.bars import DAY, SECOND, Bars, Prices, fill_quiet, instant, nanoseconds
from shared.domain.sessions import is_trading_day, trading_days, trading_seconds, trading_spans

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

KINDS: Final = ("gaps", "duplicates", "outliers", "splits", "flat", "off_tick", "zero_volume")
POLICY_KINDS: Final = ("gaps", "duplicates", "outliers", "splits")
"""The kinds a run may be refused for."""

KEPT: Final = 200
"""Findings of one kind that are kept with their numbers; all of them are counted."""

BLOCK: Final = 256
RULES_VERSION: Final = 1
"""Part of the fingerprint of what was found: raised when the finding itself changes."""

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


class BadLimits(ValueError):
    """A limit that cannot be: names the field, the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is told.

    outlier         multiples of the usual move (1.4826 x MAD of the log returns around it)
    outlier_least   a move smaller than this is none, however quiet the market
    outlier_back    how much of the move has to be taken back within three bars
    split           how far a jump may be from a simple ratio, as a fraction
    flat_bars       bars at one price in a row, when shorter than a day
    flat_days       the same for daily bars and longer
    source_bp       prices of two sources that differ by more than this many basis points differ
    """

    outlier: float = 15.0
    outlier_least: float = 0.01
    outlier_back: float = 0.6
    split: float = 0.06
    flat_bars: int = 120
    flat_days: int = 5
    source_bp: float = 10.0

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Limits:
        """Defaults for what is missing; BadLimits for a name nobody knows or a number that is none."""
        known = {f.name: f.default for f in fields(cls)}
        if extra := set(given) - set(known):
            raise BadLimits(
                f"{', '.join(sorted(extra))}: no such limit (known: {', '.join(known)})"
            )
        return cls(**{name: _limit(name, raw, known[name]) for name, raw in given.items()})


def _limit(name: str, raw: Any, default: Any) -> Any:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise BadLimits(f"{name}: {raw!r} is not a number; the usual one is {default}") from None
    if not math.isfinite(number) or number <= 0:
        raise BadLimits(f"{name}: {raw!r} must be above 0; the usual one is {default}")
    return round(number) if isinstance(default, int) else number


def fingerprint(limits: Limits, calendar: str, tick: Decimal | None) -> str:
    """What else than the bars the findings depend on."""
    said = [
        RULES_VERSION,
        asdict(limits),
        calendar,
        None if tick is None else f"{tick.normalize():f}",
    ]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: from the opening of its first bar to the closing of its last, in words and numbers."""

    kind: str
    at: int
    until: int
    bars: int
    text: str
    numbers: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "at": instant(self.at).isoformat(),
            "until": instant(self.until).isoformat(),
            "bars": self.bars,
            "text": self.text,
            "numbers": {name: _plain(value) for name, value in self.numbers.items()},
        }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Found:
    """All of one kind: how many there are, how many bars they touch, and those that are kept."""

    count: int = 0
    bars: int = 0
    kept: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a series, or in the part of it that a run uses. `usual` is the usual move of a bar."""

    bars: int
    filled: int
    zero_volume: int
    usual: float
    found: dict[str, Found]

    def count(self, kind: str) -> int:
        return self.found[kind].count if kind in self.found else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "bars": self.bars,
            "filled": self.filled,
            "zero_volume": self.zero_volume,
            "usual": _plain(self.usual),
            "counts": {kind: found.count for kind, found in self.found.items()},
            "bars_touched": {kind: found.bars for kind, found in self.found.items()},
            "findings": {
                kind: [one.as_json() for one in found.kept] for kind, found in self.found.items()
            },
        }


def look(
    bars: Bars,
    calendar: str,
    *,
    tick: Decimal | None = None,
    adjusted: Prices | None = None,
    limits: Limits | None = None,
) -> Report:
    """Everything there is to find in stored bars (those without a `filled` mark), oldest first.

    `adjusted` are the adjusted closes, NaN where there is none.
    """
    asked = limits or Limits()
    move = Moves.of(bars)
    whole = fill_quiet(bars, calendar)
    finders: dict[str, Callable[[], Found]] = {
        "gaps": lambda: _gaps(bars, whole, calendar),
        "duplicates": lambda: _duplicates(bars),
        "outliers": lambda: _outliers(bars, move, asked),
        "splits": lambda: _splits(bars, move, adjusted, asked),
        "flat": lambda: _flat(bars, asked),
        "off_tick": lambda: _off_tick(bars, tick),
        "zero_volume": lambda: _zero_volume(bars),
    }
    return Report(
        bars=len(bars),
        filled=len(whole) - len(bars),
        zero_volume=int((bars.volume == 0).sum()),
        usual=move.overall,
        found={kind: find() for kind, find in finders.items()},
    )


def refused(report: Report, kinds: Sequence[str]) -> str:
    """Why bars with this report may not be used, or "" when nothing of those kinds was found."""
    told = [
        f"{_WORDS[kind].format(n=report.count(kind))} (first: {report.found[kind].kept[0].text})"
        for kind in kinds
        if report.count(kind)
    ]
    return "; ".join(told)


_WORDS: Final = {
    "gaps": "{n} gaps",
    "duplicates": "{n} duplicates",
    "outliers": "{n} outliers",
    "splits": "{n} likely splits",
}


# Moves --------------------------------------------------------------------------------------------


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


# Gaps ---------------------------------------------------------------------------------------------


def _gaps(bars: Bars, filled: Bars, calendar: str) -> Found:
    """Stretches in which the calendar trades and there is no bar, longer than what is filled as quiet."""
    length = bars.interval * SECOND
    after = bars.opened_at[1:] - bars.closed_at[:-1]
    if length > DAY:
        rows = np.flatnonzero(after >= max(length // 2, 4 * DAY))
        missing = [max(1, round(after[row] / length)) for row in rows]
    elif length == DAY:
        rows = np.flatnonzero(after >= DAY // 2)
        missing = [_missing_days(bars, int(row), calendar) for row in rows]
    else:
        left = np.flatnonzero(filled.opened_at[1:] - filled.closed_at[:-1] >= length)
        rows = np.searchsorted(bars.opened_at, filled.opened_at[left], side="right") - 1
        missing = [_missing_bars(bars, int(row), calendar) for row in rows]
    found = [
        Finding(
            "gaps",
            int(bars.closed_at[row]),
            int(bars.opened_at[row + 1]),
            count,
            f"{count:,} {_of_interval(count, bars.interval)} missing from "
            f"{_when(bars.closed_at[row])} to {_when(bars.opened_at[row + 1])}",
            {"missing": count, "hours": float(after[row] / SECOND / 3600)},
        )
        for row, count in zip(rows, missing, strict=True)
        if count
    ]
    return _kept(found, lambda one: one.bars)


def _missing_days(bars: Bars, row: int, calendar: str) -> int:
    first, last = day_of(bars, row), day_of(bars, row + 1)
    return sum(1 for _ in trading_days(calendar, first + timedelta(days=1), last))


def _missing_bars(bars: Bars, row: int, calendar: str) -> int:
    seconds = trading_seconds(
        calendar, instant(bars.closed_at[row]), instant(bars.opened_at[row + 1])
    )
    return seconds // bars.interval


def day_of(bars: Bars, row: int) -> Any:
    """The day a daily bar is of: the one its middle lies in, as a currency day begins the evening before."""
    return instant((int(bars.opened_at[row]) + int(bars.closed_at[row])) // 2).date()


# Duplicates -----------------------------------------------------------------------------------------


def _duplicates(bars: Bars) -> Found:
    """Bars that begin inside the one before, and bars that are the one before over again."""
    if len(bars) < 2:
        return Found()
    inside = bars.opened_at[1:] < bars.closed_at[:-1]
    same: Mask = (bars.volume[1:] > 0) & (bars.high[1:] > bars.low[1:])
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(bars, name)
        same &= column[1:] == column[:-1]
    found = []
    for row in _first(np.flatnonzero(inside | same) + 1):
        what = "begins inside the bar before it" if inside[row - 1] else "repeats the bar before it"
        text = f"the bar of {_when(bars.opened_at[row])} {what}"
        found.append(_at_row("duplicates", bars, row, text, {"close": float(bars.close[row])}))
    count = int((inside | same).sum())
    return Found(count, count, tuple(found))


# Outliers -------------------------------------------------------------------------------------------


def _outliers(bars: Bars, moves: Moves, limits: Limits) -> Found:
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
        for row in _largest(rows, np.maximum(np.abs(moves.returns), np.maximum(upper, lower)))
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
        f"{_when(bars.opened_at[row])}: close {_price(bars.close[row - 1])} to "
        f"{_price(bars.close[row])} ({math.expm1(move):+.1%}, {_times(times)} the usual move), and back"
    )
    numbers = {"move": math.expm1(move), "times": times, "usual": usual}
    return _at_row("outliers", bars, row, text, numbers | _prices(bars, row))


def _wick(bars: Bars, moves: Moves, row: int, upper: Prices, lower: Prices) -> Finding:
    side, size = ("high", upper[row]) if upper[row] >= lower[row] else ("low", lower[row])
    usual = float(moves.usual[row])
    times = float(size) / usual if usual > 0 else math.inf
    price = getattr(bars, side)[row]
    text = (
        f"{_when(bars.opened_at[row])}: {side} {_price(price)}, {math.expm1(size):.1%} beyond its body "
        f"and its neighbours ({_times(times)} the usual move)"
    )
    numbers = {"move": math.expm1(size), "times": times, "usual": usual}
    return _at_row("outliers", bars, row, text, numbers | _prices(bars, row))


# Splits ---------------------------------------------------------------------------------------------


def _splits(bars: Bars, moves: Moves, adjusted: Prices | None, limits: Limits) -> Found:
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
    return _kept(found, lambda one: abs(math.log(one.numbers["ratio"])))


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
    said = f"{_when(bars.opened_at[row])}: {text} ({name} split?)"
    return _at_row("splits", bars, row, said, numbers | _prices(bars, row))


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


# Flat, off the tick, without volume -----------------------------------------------------------------


def _flat(bars: Bars, limits: Limits) -> Found:
    """Long stretches at one price."""
    least = limits.flat_days if bars.interval * SECOND >= DAY else limits.flat_bars
    still = (bars.high == bars.low) & (bars.open == bars.close)
    same = np.zeros(len(bars), dtype=np.bool_)
    same[1:] = still[1:] & (bars.open[1:] == bars.close[:-1])
    found = []
    for first, after in _runs(same):
        count = after - first
        if count >= least:
            text = (
                f"{count:,} bars at {_price(bars.close[first])} from {_when(bars.opened_at[first])}"
            )
            numbers = {"price": float(bars.close[first])}
            found.append(_stretch("flat", bars, first, after, text, numbers))
    return _kept(found, lambda one: one.bars)


def _zero_volume(bars: Bars) -> Found:
    """Stretches of stored bars in which nothing traded. Quiet intervals that were filled are not among them."""
    found = []
    for first, after in _runs(bars.volume == 0):
        text = f"{after - first:,} bars without volume from {_when(bars.opened_at[first])}"
        found.append(_stretch("zero_volume", bars, first, after, text, {}))
    return _kept(found, lambda one: one.bars)


def _off_tick(bars: Bars, tick: Decimal | None) -> Found:
    """Bars with a price that is no multiple of the instrument's tick."""
    if tick is None or not len(bars):
        return Found()
    step = float(tick)
    off = np.zeros(len(bars), dtype=np.bool_)
    for name in ("open", "high", "low", "close"):
        steps = getattr(bars, name) / step
        off |= np.abs(steps - np.round(steps)) > np.maximum(1e-6, steps * 1e-12)
    rows = np.flatnonzero(off)
    found = [
        _at_row(
            "off_tick",
            bars,
            row,
            f"{_when(bars.opened_at[row])}: {_off_price(bars, row, step)} is no multiple of {tick.normalize():f}",
            _prices(bars, row),
        )
        for row in _first(rows)
    ]
    return Found(len(rows), len(rows), tuple(found))


def _off_price(bars: Bars, row: int, step: float) -> str:
    prices = {name: float(getattr(bars, name)[row]) for name in ("open", "high", "low", "close")}
    name = max(prices, key=lambda n: abs(prices[n] / step - round(prices[n] / step)))
    return f"{name} {_price(prices[name])}"


# Two sources ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """Two series of one instrument and interval, over the time both span."""

    both: int
    differing: int
    only_here: int
    only_there: int
    worst_bp: float
    examples: tuple[dict[str, Any], ...]


def compare(here: Bars, there: Bars, limits: Limits | None = None) -> Compared:
    """Bars in both, those whose prices differ by more than `source_bp`, and those only one has."""
    if not len(here) or not len(there):
        return Compared(0, 0, 0, 0, 0.0, ())
    start = max(here.opened_at[0], there.opened_at[0])
    end = min(here.closed_at[-1], there.closed_at[-1])
    a, b = _inside(here, start, end), _inside(there, start, end)
    _, left, right = np.intersect1d(a.opened_at, b.opened_at, return_indices=True)
    apart = np.zeros(len(left))
    for name in ("open", "high", "low", "close"):
        one, other = getattr(a, name)[left], getattr(b, name)[right]
        apart = np.maximum(apart, np.abs(one / other - 1) * 10_000)
    asked = (limits or Limits()).source_bp
    worst = [row for row in np.argsort(-apart, kind="stable")[:20] if apart[row] > asked]
    examples = tuple(
        {
            "at": instant(a.opened_at[left[row]]).isoformat(),
            "bp": float(apart[row]),
            "here": _prices(a, left[row]),
            "there": _prices(b, right[row]),
        }
        for row in worst
    )
    return Compared(
        both=len(left),
        differing=int((apart > asked).sum()),
        only_here=len(a) - len(left),
        only_there=len(b) - len(left),
        worst_bp=float(apart.max()) if len(apart) else 0.0,
        examples=examples,
    )


def _inside(bars: Bars, start: int, end: int) -> Bars:
    return bars[(bars.opened_at >= start) & (bars.closed_at <= end)]


# Bars a day -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Days:
    """Bars a UTC day and how many the calendar has room for, from `first` (days since 1970) on."""

    first: int
    bars: npt.NDArray[np.uint32]
    expected: npt.NDArray[np.uint32]


def days(bars: Bars, calendar: str) -> Days:
    """Counted and expected between the first bar's opening and the last one's closing.

    A bar of more than a day counts once in each day it spans.
    """
    if not len(bars):
        return Days(0, np.zeros(0, np.uint32), np.zeros(0, np.uint32))
    length = bars.interval * SECOND
    if length > DAY:
        return _long_days(bars)
    at = bars.opened_at if length < DAY else (bars.opened_at + bars.closed_at) // 2
    number = at // DAY
    first, last = int(number[0]), int(number[-1])
    counted = np.bincount(number - first, minlength=last - first + 1).astype(np.uint32)
    starts, ends = int(bars.opened_at[0]), int(bars.closed_at[-1])
    expected = [
        _expected(day, calendar, bars.interval, starts, ends) for day in range(first, last + 1)
    ]
    return Days(first, counted, np.array(expected, dtype=np.uint32))


def _expected(day: int, calendar: str, interval: int, starts: int, ends: int) -> int:
    when = instant(day * DAY).date()
    if interval * SECOND >= DAY:
        return int(is_trading_day(calendar, when))
    seconds = sum(
        max(0, min(nanoseconds(closes), ends) - max(nanoseconds(opens), starts)) / SECOND
        for opens, closes in trading_spans(calendar, when)
    )
    return math.ceil(seconds / interval)


def _long_days(bars: Bars) -> Days:
    first = int(bars.opened_at[0] // DAY)
    last = int((bars.closed_at[-1] - 1) // DAY)
    counted = np.zeros(last - first + 1, np.uint32)
    for opened, closed in zip(bars.opened_at, bars.closed_at, strict=True):
        counted[int(opened // DAY) - first : int((closed - 1) // DAY) - first + 1] = 1
    return Days(first, counted, np.ones(len(counted), np.uint32))


# Words and rows ---------------------------------------------------------------------------------------


def _kept(found: list[Finding], size: Callable[[Finding], float]) -> Found:
    """All counted; the largest kept, in the order of time."""
    largest = sorted(found, key=size, reverse=True)[:KEPT]
    kept = tuple(sorted(largest, key=lambda one: one.at))
    return Found(len(found), sum(one.bars for one in found), kept)


def _first(rows: Rows) -> Iterable[int]:
    return (int(row) for row in rows[:KEPT])


def _largest(rows: Rows, size: Prices) -> Iterable[int]:
    chosen = rows[np.argsort(-size[rows], kind="stable")[:KEPT]]
    return (int(row) for row in np.sort(chosen))


def _runs(mask: Mask) -> Iterator[tuple[int, int]]:
    """(first, after) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _at_row(kind: str, bars: Bars, row: int, text: str, numbers: dict[str, float]) -> Finding:
    return Finding(kind, int(bars.opened_at[row]), int(bars.closed_at[row]), 1, text, numbers)


def _stretch(
    kind: str, bars: Bars, first: int, after: int, text: str, numbers: dict[str, float]
) -> Finding:
    ends = int(bars.closed_at[after - 1])
    return Finding(kind, int(bars.opened_at[first]), ends, after - first, text, numbers)


def _prices(bars: Bars, row: int) -> dict[str, float]:
    names = ("open", "high", "low", "close", "volume")
    return {name: float(getattr(bars, name)[row]) for name in names}


def _when(at: int | np.int64) -> str:
    moment: datetime = instant(int(at))
    return f"{moment:%Y-%m-%d}" if moment.hour == moment.minute == 0 else f"{moment:%Y-%m-%d %H:%M}"


def _price(value: float) -> str:
    return f"{value:,.8g}" if abs(value) < 1e6 else f"{value:,.2f}"


def _times(times: float) -> str:
    return f"{times:,.0f} x" if math.isfinite(times) else "many times"


def _of_interval(count: int, interval: int) -> str:
    what = "day" if interval == 86_400 else "bar"
    return what if count == 1 else f"{what}s"
