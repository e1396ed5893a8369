"""The loops under the indicators, compiled. `engine/indicators.py` says what each of them means.

What a window's row is depends on the values in the window alone, to the last bit: a running sum would
remember where the series began, and two averages that tie exactly would compare differently live and in
a backtest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.compiled import compiled

Column = npt.NDArray[np.float64]

_BLOCK: Final = 1024
"""Rows worked on at a time, so that they stay in the processor's nearest cache."""

_PARTS: Final = 8
"""Of a series, in which a recursive average goes on side by side. See `_side_by_side`."""

_FORGOTTEN: Final = 50
"""Over alpha: values after which a recursive average knows no more with what it began. See `_smoothed`."""


def window_sums(values: Column, window: int) -> Column:
    """float64[n]: the sum of each `window` values, NaN in the rows before the first whole one."""
    return _once(_sums, values, window, 1.0)  # type: ignore[no-any-return]


def window_means(values: Column, window: int) -> Column:
    """float64[n]: the mean of each `window` values."""
    return _once(_sums, values, window, float(window))  # type: ignore[no-any-return]


def window_deviations(values: Column, window: int) -> Column:
    """float64[n]: the population standard deviation of each `window` values."""
    return _once(_deviations, values, window)  # type: ignore[no-any-return]


def window_bands(values: Column, window: int, deviations: float) -> tuple[Column, Column, Column]:
    """(lower, mean, upper), float64[n] each: the mean and so many deviations below and above it."""
    return _once(_bands, values, window, deviations)  # type: ignore[no-any-return]


def smoothed(values: Column, alpha: float, least: int) -> Column:
    """float64[n]: the exponential average seeded with the first value, shown from the `least`-th value on.

    Values that are NaN are no values: the average stays as it is.
    """
    return _once(_smoothed, values, alpha, least)  # type: ignore[no-any-return]


def wilder_strength(values: Column, window: int) -> Column:
    """float64[n]: gains over all moves by Wilder's averages, 0 to 100."""
    return _once(_strength, values, window)  # type: ignore[no-any-return]


def wilder_ranges(high: Column, low: Column, close: Column, window: int) -> Column:
    """float64[n]: Wilder's average of the true range, seeded with the mean of the first `window`."""
    return _once(_ranges, high, low, close, window)  # type: ignore[no-any-return]


def extremes(values: Column, window: int, sign: float) -> Column:
    """float64[n]: the highest (`sign` 1) or lowest (-1) of each `window` values."""
    return _once(_extremes, values, window, sign)  # type: ignore[no-any-return]


# Columns that are asked for again ---------------------------------------------------------------


class _Memory:
    """Columns by what they were worked out from, the newest `most` bytes of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._columns: OrderedDict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> Any:
        """None where it was not worked out, or is gone."""
        found = self._columns.get(key)
        if found is None:
            return None
        self._columns.move_to_end(key)
        return found[0]

    def keep(self, key: tuple[Any, ...], found: Any, sources: tuple[Any, ...]) -> None:
        """Its sources are kept too: their addresses are part of the key."""
        self._columns[key] = found, sources
        self._held += _bytes(found)
        while self._held > self._most and len(self._columns) > 1:
            _, (oldest, _) = self._columns.popitem(last=False)
            self._held -= _bytes(oldest)


def _bytes(found: Any) -> int:
    return sum(column.nbytes for column in (found if isinstance(found, tuple) else (found,)))


_memory: ContextVar[_Memory | None] = ContextVar("columns", default=None)


@contextmanager
def remembered(most: int) -> Iterator[None]:
    """Inside, a column that was worked out before is given again: the same, and not to be written into."""
    token = _memory.set(_Memory(most))
    try:
        yield
    finally:
        _memory.reset(token)


def _once(function: Any, *given: Any) -> Any:
    """The column, or several, read-only: two strategies may hold the same ones."""
    memory = _memory.get()
    key: tuple[Any, ...] = ()
    if memory is not None:
        key = (function, *(_mark(one) if isinstance(one, np.ndarray) else one for one in given))
        if (found := memory.get(key)) is not None:
            return found
    arrays = [_floats(one) if isinstance(one, np.ndarray) else one for one in given]
    # numpy's own memory: large pieces of it come in large pages.
    outs = tuple(np.empty(len(arrays[0])) for _ in range(3 if function is _bands else 1))
    function(*arrays, *outs)
    found = outs if len(outs) > 1 else outs[0]
    for column in found if isinstance(found, tuple) else (found,):
        column.flags.writeable = False
    if memory is not None:
        memory.keep(key, found, given)
    return found


def _mark(array: Column) -> tuple[int, int, tuple[int, ...]]:
    return array.ctypes.data, len(array), array.strides


def _floats(values: Any) -> Column:
    """As compiled code takes them: whether they may be written into would be another type."""
    column = np.ascontiguousarray(values, dtype=np.float64)
    return column if column.flags.writeable else np.asarray(_Writable(column))


class _Writable:
    """The same numbers, said to be writable. Nobody writes into them."""

    def __init__(self, column: Column) -> None:
        self._column = column
        interface = dict(column.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


@compiled
def _paired(later: Any, earlier: Any, target: Any, count: int) -> None:
    """Sums of twice as many neighbours. Slices begin at 0: an index that might be negative is no vector."""
    for j in range(count):
        target[j] = later[j] + earlier[j]


@compiled
def _added(total: Any, part: Any, count: int) -> None:
    for j in range(count):
        total[j] += part[j]


@compiled
def _copied(out: Any, part: Any, count: int) -> None:
    """Not by a slice: numba would compile words for the case that the lengths differ, which takes seconds."""
    for j in range(count):
        out[j] = part[j]


@compiled
def _divided(out: Any, part: Any, count: int, by: float) -> None:
    for j in range(count):
        out[j] = part[j] / by


@compiled
def _finished(out: Any, total: Any, part: Any, count: int, by: float) -> None:
    for j in range(count):
        out[j] = (total[j] + part[j]) / by


@compiled
def _sums(values: Any, window: int, by: float, out: Any) -> None:
    """Sums of 1, 2, 4, ... neighbours, put together to the window's length, smallest part first."""
    n = len(values)
    out[: min(window - 1, n)] = np.nan
    one, other, total = np.empty(_BLOCK + window), np.empty(_BLOCK + window), np.empty(_BLOCK)
    start = window - 1
    while start < n:
        end = min(start + _BLOCK, n)
        rows = end - start
        part = values[start - window + 1 : end]
        covered, width = 0, 1
        while True:
            if window & width:
                at = window - 1 - covered
                if covered + width == window:
                    break
                if covered == 0:
                    _copied(total, part[at:], rows)
                else:
                    _added(total, part[at:], rows)
                covered += width
            _paired(part[width:], part, one[width:], rows + window - 1 - width)
            part = one
            one, other = other, one
            width *= 2
        if covered == 0:
            _divided(out[start:end], part[window - 1 :], rows, by)
        else:
            _finished(out[start:end], total, part[window - 1 - covered :], rows, by)
        start = end


@compiled
def _joined(
    later: Any, earlier: Any, squares: Any, before: Any, to_sums: Any, to_squares: Any, half: float,
    count: int,
) -> None:  # fmt: skip
    """Sums, and sums of squared deviations, of twice as many neighbours (Chan, Golub and LeVeque 1983)."""
    for j in range(count):
        apart = later[j] - earlier[j]
        to_squares[j] = squares[j] + before[j] + apart * apart * half
        to_sums[j] = later[j] + earlier[j]


@compiled
def _appended(
    total: Any, square: Any, sums: Any, squares: Any, covered: int, width: int, count: int
) -> None:
    """`covered` values and the `width` before them, put together."""
    scale = 1.0 / (covered * width * (covered + width))
    for j in range(count):
        apart = total[j] * width - sums[j] * covered
        square[j] += squares[j] + apart * apart * scale
        total[j] += sums[j]


@compiled
def _rooted(out: Any, square: Any, count: int, by: float) -> None:
    for j in range(count):
        out[j] = np.sqrt(square[j] / by)


@compiled
def _moments(values: Any, window: int, means: Any, deviations: Any) -> None:
    """Means and population deviations of each window, put together as `_sums` does."""
    n = len(values)
    means[: min(window - 1, n)] = np.nan
    deviations[: min(window - 1, n)] = np.nan
    size = _BLOCK + window
    sums, squares, other, others = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    total, square = np.empty(_BLOCK), np.empty(_BLOCK)
    start = window - 1
    while start < n:
        end = min(start + _BLOCK, n)
        first, rows = start - window + 1, end - start
        count = end - first
        _copied(sums, values[first:], count)
        squares[:count] = 0.0
        covered, width = 0, 1
        while True:
            if window & width:
                at = window - 1 - covered
                if covered == 0:
                    _copied(total, sums[at:], rows)
                    _copied(square, squares[at:], rows)
                else:
                    _appended(total, square, sums[at:], squares[at:], covered, width, rows)
                covered += width
                if covered == window:
                    break
            _joined(
                sums[width:], sums, squares[width:], squares, other[width:], others[width:],
                0.5 / width, count - width,
            )  # fmt: skip
            sums, other = other, sums
            squares, others = others, squares
            width *= 2
        _divided(means[start:end], total, rows, float(window))
        _rooted(deviations[start:end], square, rows, float(window))
        start = end


@compiled
def _deviations(values: Any, window: int, out: Any) -> None:
    _moments(values, window, np.empty(len(values)), out)


@compiled
def _bands(values: Any, window: int, deviations: float, lower: Any, means: Any, upper: Any) -> None:
    """The mean, and so many deviations below and above it."""
    _moments(values, window, means, upper)
    for row in range(len(values)):
        away = deviations * upper[row]
        lower[row] = means[row] - away
        upper[row] = means[row] + away


@compiled
def _smoothed(values: Any, alpha: float, least: int, out: Any) -> None:
    n = len(values)
    mean, seen, keeps = np.nan, 0, 1.0 - alpha
    row = 0
    while row < n and seen < least:
        value = values[row]
        if value == value:
            seen += 1
            mean = value if seen == 1 else keeps * mean + alpha * value
        out[row] = mean if seen >= least else np.nan
        row += 1
    part = (n - row) // _PARTS
    forgets = int(_FORGOTTEN / alpha)
    if part < 4 * forgets:
        _average_on(values, alpha, mean, row, n, out)
        return
    # A step waits for the one before it: parts of the series take theirs side by side. Each but the first
    # begins so far ahead that it has forgotten with what, to the last bit, or else is done again.
    means = np.empty(_PARTS)
    means[0] = mean
    for k in range(1, _PARTS):
        begin = row + k * part
        ahead = begin - forgets
        means[k] = _average_on(values, alpha, values[ahead], ahead, begin, out)
    _side_by_side(values, alpha, row, part, means, out)
    _average_on(values, alpha, out[row + _PARTS * part - 1], row + _PARTS * part, n, out)
    for k in range(1, _PARTS):
        mean = out[row + k * part - 1]
        for again in range(row + k * part, n):
            mean = _averaged(mean, values[again], alpha)
            if mean == out[again]:
                break
            out[again] = mean


@compiled
def _side_by_side(values: Any, alpha: float, first: int, part: int, means: Any, out: Any) -> None:
    """Eight parts of `part` rows from `first` on, `means` being what each begins with."""
    keeps = 1.0 - alpha
    a, b, c, d, e, f, g, h = (
        means[0], means[1], means[2], means[3], means[4], means[5], means[6], means[7],
    )  # fmt: skip
    given, found = values[first:], out[first:]
    for row in range(part):
        a = keeps * a + alpha * given[row]
        b = keeps * b + alpha * given[row + part]
        c = keeps * c + alpha * given[row + 2 * part]
        d = keeps * d + alpha * given[row + 3 * part]
        e = keeps * e + alpha * given[row + 4 * part]
        f = keeps * f + alpha * given[row + 5 * part]
        g = keeps * g + alpha * given[row + 6 * part]
        h = keeps * h + alpha * given[row + 7 * part]
        found[row], found[row + part], found[row + 2 * part], found[row + 3 * part] = a, b, c, d
        found[row + 4 * part], found[row + 5 * part] = e, f
        found[row + 6 * part], found[row + 7 * part] = g, h
    if not a + b + c + d + e + f + g + h < np.inf:
        for k in range(_PARTS):
            begin = first + k * part
            _average_on(values, alpha, means[k], begin, begin + part, out)


@compiled
def _average_on(values: Any, alpha: float, mean: float, first: int, after: int, out: Any) -> float:
    """Rows from `first` to before `after`, `mean` being what the row before them had; what the last has."""
    keeps, begun = 1.0 - alpha, mean
    for row in range(first, after):
        mean = keeps * mean + alpha * values[row]
        out[row] = mean
    if mean == mean:
        return mean
    # A value that is none was among them, which shows at the end: again, asking each.
    mean = begun
    for row in range(first, after):
        mean = _averaged(mean, values[row], alpha)
        out[row] = mean
    return mean


@compiled
def _averaged(mean: float, value: float, alpha: float) -> float:
    """An exponential average with one value more."""
    return (1.0 - alpha) * mean + alpha * value if value == value else mean


@compiled
def _strength(values: Any, window: int, out: Any) -> None:
    n = len(values)
    alpha = 1.0 / window
    keeps = 1.0 - alpha
    gains = losses = 0.0
    for row in range(n):
        if row > 0:
            change = values[row] - values[row - 1]
            gains = keeps * gains + alpha * max(change, 0.0)
            losses = keeps * losses + alpha * max(-change, 0.0)
        if row < window:
            out[row] = np.nan
        elif losses == 0:
            out[row] = 100.0
        else:
            out[row] = 100.0 - 100.0 / (1.0 + gains / losses)


@compiled
def _ranges(high: Any, low: Any, close: Any, window: int, out: Any) -> None:
    n = len(close)
    out[:] = np.nan
    total = 0.0
    for row in range(n):
        span = high[row] - low[row]
        if row > 0:
            before = close[row - 1]
            span = max(span, abs(high[row] - before), abs(low[row] - before))
        if row < window:
            total += span
            if row == window - 1:
                out[row] = total / window
        else:
            out[row] = (out[row - 1] * (window - 1) + span) / window


@compiled
def _extremes(values: Any, window: int, sign: float, out: Any) -> None:
    """The candidates for the extreme wait in a ring, each better than the ones after it."""
    n = len(values)
    waiting = np.empty(window, np.int64)
    first = last = 0
    unknown = -1  # the newest row without a value
    for row in range(n):
        value = sign * values[row]
        if value != value:
            unknown = row
        while last > first and waiting[first % window] <= row - window:
            first += 1
        while last > first and sign * values[waiting[(last - 1) % window]] <= value:
            last -= 1
        waiting[last % window] = row
        last += 1
        whole = row >= window - 1 and unknown <= row - window
        out[row] = values[waiting[first % window]] if whole else np.nan
