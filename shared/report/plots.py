"""Pictures as SVG that fits any width: marks stretch, words do not, colours are the page's classes.

A picture is one `<svg class="plot">` without a viewBox: its height is given, its width is that of the page. The marks
are in an inner one, stretched; labels stand beside and below it at places in per cent. What those of the y axis take is
the picture's padding, by how long they are. No script, no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.report.curves import Bin

Column = npt.NDArray[Any]
Form = Callable[[float], str]

HEIGHT: Final = 220
_SIDE: Final = 1000.0
"""The inner picture's width and height."""

_PLOT: Final = 0.89
"""Of the height: what is below has the labels of the x axis."""

_HEADROOM: Final = 0.06

STYLE: Final = """\
.plot { display: block; width: 100%; overflow: visible; box-sizing: border-box; padding-left: 84px; }
.plot.few { padding-left: 32px; }
.plot.some { padding-left: 46px; }
.plot.many { padding-left: 64px; }
.plot svg { overflow: visible; }
.plot text { font-size: 11px; fill: var(--muted); }
.plot .grid { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.plot .zero { stroke: var(--line-strong); stroke-width: 1; vector-effect: non-scaling-stroke; }
.plot path { vector-effect: non-scaling-stroke; }
.plot .line { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-linejoin: round; }
.plot .line.thin { stroke-width: 1.1; }
.plot .line.muted { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 4 4; }
.plot .line.loss { stroke: var(--loss); stroke-width: 1; }
.plot .area { fill: var(--accent); opacity: .1; }
.plot .area.loss { fill: var(--loss); opacity: .22; }
.plot .bars.gain { fill: var(--gain); }
.plot .bars.loss { fill: var(--loss); }
.plot .dots { fill: none; stroke-width: 5; stroke-linecap: round; opacity: .55; }
.plot .dots.gain { stroke: var(--gain); }
.plot .dots.loss { stroke: var(--loss); }
@media (max-width: 560px) { .plot .more { display: none; } }
"""
"""What the classes look like; a page brings the colours as variables."""


# Scales -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`, with ticks at round values."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: Any) -> Any:
        """0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


def scale(values: Column, *, zero: bool = False, wanted: int = 5) -> Scale:
    """Around all finite values, with a little room; `zero` is always on it where asked for."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = max(abs(low) * 0.001, 1e-6)
        low, high = low - room, high + room
    room = (high - low) * _HEADROOM
    low = low if zero and low == 0 else low - room
    high = high if zero and high == 0 else high + room
    step = _round_step((high - low) / wanted)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Scale(low, high, tuple(step * n for n in range(first, last + 1)))


def _round_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, not below `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= about * 0.999)


_MONTH: Final = 365.25 / 12 * 86_400
_MONTHS: Final = (1, 2, 3, 6, 12, 24, 60, 120, 240)
"""Months between ticks. A year's name is short; of months that have one, too, fewer fit."""

_SPANS: Final = ((3 * 86_400, "%H:%M"), (math.inf, "%-d %b"))


def time_ticks(first: float, last: float, wanted: int = 6) -> list[tuple[float, str]]:
    """(place from 0 to 1, text) of moments in UTC, `first` and `last` in seconds: of months and years where they begin."""
    span = max(last - first, 1.0)
    if span > 4 * _MONTH:
        step = next(
            (m for m in _MONTHS if span / (m * _MONTH) < wanted + (-2 if m % 12 else 1)), 1_200
        )
        form = "%b %Y" if step % 12 else "%Y"
        return [((at - first) / span, f"{day:{form}}") for at, day in _begun(first, last, step)]
    form = next(form for length, form in _SPANS if span < length)
    moments = np.linspace(first + span / (2 * wanted), last - span / (2 * wanted), wanted)
    found = [((at - first) / span, f"{datetime.fromtimestamp(at, UTC):{form}}") for at in moments]
    return [tick for i, tick in enumerate(found) if i == 0 or tick[1] != found[i - 1][1]]


def _begun(first: float, last: float, step: int) -> Iterator[tuple[float, datetime]]:
    """Every so many months, counted from the year 0, where one begins."""
    start = datetime.fromtimestamp(first, UTC)
    month = -(-(start.year * 12 + start.month - 1) // step) * step
    while month < 12 * 9_999:
        day = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
        if (at := day.timestamp()) > last:
            return
        if at >= first:
            yield at, day
        month += step


# Pictures ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a picture: `kind` is a class of `STYLE`, `area` fills down to the bottom, or to zero."""

    values: Column
    kind: str = ""
    area: bool = False


def lines(
    times: Column,
    drawn: Sequence[Line],
    form: Form,
    label: str,
    *,
    zero: bool = False,
    height: int = HEIGHT,
    reads: str = "",
    beside: str = "",
) -> str:
    """Lines over time (seconds). What is no number leaves a gap.

    The labels have room for `beside` at least: pictures below each other have one time axis.

    `reads` ("percent 1", "money 0") tells a script how to read values out; what it needs for that is on the picture.
    """
    axis = scale(np.concatenate([line.values for line in drawn]), zero=zero)
    first, last = float(times[0]), float(times[-1])
    x = (times - first) / max(last - first, 1.0) * _SIDE
    base = _from_top(axis, 0.0 if axis.low <= 0 <= axis.high and zero else axis.low)
    marks = [
        mark
        for line in drawn
        for mark in _line(x, np.asarray(_from_top(axis, line.values)), line, base)
    ]
    facts = (
        f' data-plot="{reads}" data-first="{first:.0f}" data-last="{last:.0f}"'
        f' data-low="{axis.low!r}" data-high="{axis.high!r}"'
        if reads
        else ""
    )
    return _picture(marks, axis, form, time_ticks(first, last), label, height, facts, beside)


def _line(x: Column, y: Column, line: Line, base: float) -> list[str]:
    paths = [_path(x[rows], y[rows]) for rows in _stretches(np.isfinite(line.values))]
    found = []
    if line.area:
        closed = "".join(
            f"{_path(x[rows], y[rows])}V{base:.1f}H{x[rows][0]:.1f}Z"
            for rows in _stretches(np.isfinite(line.values))
        )
        found.append(f'<path class="area {line.kind}" d="{closed}"/>')
    found.append(f'<path class="line {line.kind}" d="{"".join(paths)}"/>')
    return found


def _stretches(known: npt.NDArray[np.bool_]) -> list[slice]:
    """The runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    return [slice(a, b) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _path(x: Column, y: Column) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points)


def histogram(found: Sequence[Bin], form: Form, what: str, label: str, height: int = HEIGHT) -> str:
    """A column a bin, told by its title; columns left of zero are losses."""
    most = max(b.count for b in found)
    axis = scale(np.array([0.0, float(most)]), zero=True)
    wide = _SIDE / len(found)
    marks = [
        _column(number * wide, wide, _from_top(axis, float(b.count)), b, form, what)
        for number, b in enumerate(found)
        if b.count
    ]
    low, high = found[0].low, found[-1].high
    x = [(low, form(low)), (high, form(high))]
    if low < 0 < high:
        x.insert(1, (0.0, "0"))
    ticks = [((value - low) / (high - low), text) for value, text in x]
    return _picture(marks, axis, lambda v: f"{v:.0f}", ticks, label, height)


def _column(left: float, wide: float, top: float, b: Bin, form: Form, what: str) -> str:
    kind = "loss" if b.high <= 1e-12 else "gain"
    top = min(top, _SIDE - 4)  # one of very many can still be seen
    told = f"{b.count} {what} between {form(b.low)} and {form(b.high)}"
    return (
        f'<rect class="bars {kind}" x="{left + wide * 0.06:.1f}" y="{top:.1f}" '
        f'width="{wide * 0.88:.1f}" height="{_SIDE - top:.1f}"><title>{escape(told)}</title></rect>'
    )


def scatter(
    x: Column,
    y: Column,
    is_gain: npt.NDArray[np.bool_],
    form: Form,
    label: str,
    height: int = HEIGHT,
) -> str:
    """Points, gains apart from losses, both axes from zero."""
    across, up = scale(x, zero=True), scale(y, zero=True)
    places_x = across.place(x) * _SIDE
    places_y = _from_top(up, y)
    marks = [
        f'<path class="dots {kind}" d="{_dots(places_x[rows], places_y[rows])}"/>'
        for kind, rows in (("loss", ~is_gain), ("gain", is_gain))
        if rows.any()
    ]
    ticks = [(float(across.place(v)), form(v)) for v in across.ticks]
    return _picture(marks, up, form, ticks, label, height)


def _dots(x: Column, y: Column) -> str:
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _from_top(axis: Scale, values: Any) -> Any:
    return (1 - axis.place(values)) * _SIDE


def _picture(
    marks: Sequence[str],
    axis: Scale,
    form: Form,
    x_ticks: Sequence[tuple[float, str]],
    label: str,
    height: int,
    facts: str = "",
    beside: str = "",
) -> str:
    grid = "".join(
        f'<path class="{"zero" if tick == 0 else "grid"}" d="M0 {_from_top(axis, tick):.1f}H1000"/>'
        for tick in axis.ticks
    )
    labels = _y_labels(axis, form)
    return (
        f'<svg class="plot{_room(labels, beside)}" height="{height}" role="img" aria-label="{escape(label)}"{facts}>'
        f'<svg width="100%" height="{_PLOT:.0%}" viewBox="0 0 1000 1000" '
        f'preserveAspectRatio="none">{grid}{"".join(marks)}</svg>'
        f"{_beside(labels)}{_x_labels(x_ticks)}</svg>"
    )


def _y_labels(axis: Scale, form: Form) -> list[tuple[float, str]]:
    """(place from the top, text) of the lines."""
    return [(float((1 - axis.place(tick)) * _PLOT), form(tick)) for tick in axis.ticks]


_ROOMS: Final = ((4, " few"), (6, " some"), (9, " many"))


def _room(labels: Sequence[tuple[float, str]], beside: str) -> str:
    """The class that leaves room for the longest label."""
    longest = max(len(beside), *(len(text) for _, text in labels))
    return next((kind for letters, kind in _ROOMS if longest <= letters), "")


def _beside(labels: Sequence[tuple[float, str]]) -> str:
    """At the left of their lines."""
    return "".join(
        f'<text x="-8" y="{place:.2%}" dy="4" text-anchor="end">{escape(text)}</text>'
        for place, text in labels
    )


def _x_labels(ticks: Sequence[tuple[float, str]]) -> str:
    """Every second one may go where there is no room."""
    found = []
    for number, (place, text) in enumerate(ticks):
        anchor = "end" if place > 0.97 else "start" if place < 0.03 else "middle"
        kind = ' class="more"' if number % 2 and len(ticks) > 4 else ""
        found.append(
            f'<text{kind} x="{place:.2%}" y="100%" dy="-4" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return "".join(found)
