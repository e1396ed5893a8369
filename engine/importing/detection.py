"""What is in a file, found by looking and shown before anything is imported."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from engine.importing import dates
from engine.importing.dates import BadTime, TimeReader
from engine.importing.files import first_line, open_table, sha256_of
from engine.importing.layout import DELIMITERS, PRICES, Layout, guess
from engine.importing.problems import BadFile, Problem
from engine.importing.reading import DAY_SECONDS, Series, Spans, rows
from shared.domain.market import interval_text

LOOKED_AT: Final = 20_000
"""Rows checked now as the import would check them; the import itself checks all."""

SHOWN_ROWS: Final = 3
SPLIT: Final = 1.4
"""A day on which the raw close moves this much more than the adjusted one is told as a likely split."""

_CRYPTO: Final = frozenset(
    ("BTC", "XBT", "ETH", "SOL", "XRP", "LTC", "ADA", "DOGE", "BCH", "DOT", "BNB", "AVAX", "LINK")
)
_CURRENCIES: Final = frozenset(
    ("USD", "EUR", "GBP", "JPY", "CHF", "AUD", "NZD", "CAD", "SEK", "NOK", "MXN", "CNH", "ZAR")
)
_QUOTES: Final = ("USDT", "USDC", "BUSD", *sorted(_CURRENCIES), "BTC", "ETH")


@dataclass(frozen=True, slots=True)
class Look:
    """One row as it would be stored; times in UTC, numbers as the file has them."""

    line: int
    opened_at: str
    closed_at: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    adjusted_close: str


@dataclass(frozen=True, slots=True)
class Detection:
    """A file, described. `problems` keep it from being imported as it is; `notes` are worth knowing.

    `interval` (seconds) is None when it cannot be told. `symbol`, `calendar`, `asset_class` and
    `quote_asset` are guesses for the user to put right; `mapping` is the `Layout` that was found.
    `symbols` are those of a file with a column for them: it is imported one symbol at a time.
    """

    file_name: str
    size: int
    sha256: str
    header: tuple[str, ...]
    mapping: dict[str, str]
    date_style_why: str
    rows: int
    interval: int | None
    interval_text: str
    interval_why: str
    symbol: str
    calendar: str
    asset_class: str
    quote_asset: str
    symbols: tuple[str, ...]
    first: tuple[Look, ...]
    last: tuple[Look, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def detect(
    path: Path,
    file_name: str = "",
    mapping: Mapping[str, str] | None = None,
    *,
    timezone: str = "UTC",
    symbol: str = "",
) -> Detection:
    """Look at a file. What the user says in `mapping` wins over what is found.

    Raises BadFile when it is no readable table at all, ValueError for a mapping nobody understands.
    """
    file_name = file_name or path.name
    scan = _scan(path, file_name, dict(mapping or {}), symbol)
    layout, why_style = _with_style(scan)
    moments = _moments(scan, layout, timezone)
    interval, why_interval = _interval(moments)
    guessed = symbol or _symbol(scan, file_name)
    asset_class, quote_asset = _asset(guessed)
    calendar = _calendar(moments, interval, asset_class)
    problems = _layout_problems(scan, layout) + _style_problems(layout, why_style)
    first: tuple[Look, ...] = ()
    last: tuple[Look, ...] = ()
    if not problems:
        series = Series(interval or 1, calendar, timezone, scan.symbol)
        first, problems = _first_rows(path, file_name, layout, series)
        last = _last_rows(scan, layout, series)
    return Detection(
        file_name=file_name,
        size=path.stat().st_size,
        sha256=sha256_of(path),
        header=tuple(scan.header),
        mapping=layout.as_mapping(),
        date_style_why=why_style,
        rows=scan.rows,
        interval=interval,
        interval_text=interval_text(interval) if interval else "",
        interval_why=why_interval,
        symbol=guessed,
        calendar=calendar,
        asset_class=asset_class,
        quote_asset=quote_asset,
        symbols=tuple(scan.symbols),
        first=first,
        last=last,
        notes=tuple(_notes(scan, layout)),
        problems=tuple(map(str, problems)),
    )


# --- one pass over the file -------------------------------------------------------------------------


@dataclass(slots=True)
class _Scan:
    """What one pass over the whole file finds. With several symbols, rows are those of `symbol`."""

    header: list[str]
    layout: Layout
    symbol: str = ""
    rows: int = 0
    head: list[list[str]] = field(default_factory=list)
    tail: deque[tuple[int, list[str]]] = field(default_factory=lambda: deque(maxlen=SHOWN_ROWS))
    days: dict[str, int] = field(default_factory=dict)
    symbols: Counter[str] = field(default_factory=Counter)
    splits: list[str] = field(default_factory=list)


def _scan(path: Path, file_name: str, mapping: dict[str, str], symbol: str) -> _Scan:
    delimiter = Layout(delimiter=_delimiter(first_line(path, file_name))).over(mapping).delimiter
    with open_table(path, file_name, delimiter) as table:
        _refuse_headless(file_name, table.header)
        layout = guess(table.header).over({"delimiter": delimiter, **mapping})
        scan = _Scan(table.header, layout, symbol)
        time_at, symbol_at = (_index(scan, word) for word in ("time", "symbol"))
        ratios = _Splits(scan)
        for cells in table.rows:
            if len(cells) != len(table.header):
                continue
            if symbol_at is not None:
                name = cells[symbol_at].strip()
                scan.symbols[name] += 1
                scan.symbol = scan.symbol or name
                if name != scan.symbol:
                    continue
            scan.rows += 1
            scan.tail.append((table.line, cells))
            if len(scan.head) < LOOKED_AT:
                scan.head.append(cells)
            if time_at is not None:
                _note_day(scan.days, cells[time_at], table.line)
            ratios.watch(cells)
    return scan


def _note_day(days: dict[str, int], text: str, line: int) -> None:
    """The different days of the file; only where their order of day and month is in question."""
    text = text.strip()
    if not text or (days and not dates.is_ambiguous(text)):
        return
    days.setdefault(text.partition(" ")[0].partition("T")[0], line)


class _Splits:
    """Watches raw and adjusted close for days on which only the raw one jumps."""

    def __init__(self, scan: _Scan) -> None:
        self._scan = scan
        self._close, self._adjusted, self._time = (
            _index(scan, word) for word in ("close", "adjusted_close", "time")
        )
        self._ratio = 0.0

    def watch(self, cells: list[str]) -> None:
        if self._adjusted is None or self._close is None or self._time is None:
            return
        try:
            ratio = float(cells[self._close]) / float(cells[self._adjusted])
        except (ValueError, ZeroDivisionError):
            return  # the import will name the row
        if self._ratio and not 1 / SPLIT < ratio / self._ratio < SPLIT:
            self._scan.splits.append(cells[self._time])
        self._ratio = ratio


def _index(scan: _Scan, word: str) -> int | None:
    name = getattr(scan.layout, word)
    return scan.header.index(name) if name in scan.header else None


def _delimiter(line: str) -> str:
    """The mark that cuts the header into the most columns."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([line], delimiter=mark))))


def _refuse_headless(file_name: str, header: Sequence[str]) -> None:
    if any(re.search(r"[A-Za-z]{2}|^[ohlcvt]$", name, re.IGNORECASE) for name in header):
        return
    problem = Problem(
        "holds no names of columns",
        1,
        value=",".join(header),
        remedy="Put a line such as time,open,high,low,close,volume above the first row",
    )
    raise BadFile(file_name, [problem])


# --- what it means ----------------------------------------------------------------------------------


def _with_style(scan: _Scan) -> tuple[Layout, str]:
    """The layout with the style of its times and its decimal mark, and why that style."""
    layout = scan.layout
    if layout.decimal == "." and _has_decimal_commas(scan):
        layout = layout.over({"decimal": ","})
    if layout.date_style:
        return layout, "as you said"
    style = dates.style_of((line, text) for text, line in scan.days.items())
    return layout.over({"date_style": style.name}), style.why


def _layout_problems(scan: _Scan, layout: Layout) -> list[Problem]:
    """All but an unknown style of times, which has a better reason than the layout's own."""
    known = layout if layout.date_style else layout.over({"date_style": dates.YEAR_FIRST})
    return known.problems(scan.header)


def _style_problems(layout: Layout, why: str) -> list[Problem]:
    """Why the style cannot be told."""
    if layout.date_style or not layout.time:
        return []
    reason = why or "the times are in no style this program knows"
    return [Problem(reason, column=layout.time, remedy="Say which it is")]


def _has_decimal_commas(scan: _Scan) -> bool:
    at = [i for word in PRICES if (i := _index(scan, word)) is not None]
    texts = [cells[i] for cells in scan.head[:50] for i in at]
    return (
        bool(texts)
        and all(re.fullmatch(r"\s*\d+(,\d+)?\s*", text) for text in texts)
        and any("," in text for text in texts)
    )


def _moments(scan: _Scan, layout: Layout, timezone: str) -> list[datetime]:
    """The times of the first rows as far as they can be read, in ascending order."""
    if not layout.date_style or layout.problems(scan.header):
        return []
    reader = TimeReader(layout.date_style, timezone)
    moments = []
    for cells in scan.head:
        try:
            moments.append(reader.local(_time_text(scan, cells))[0])
        except BadTime:
            continue  # the check of the first rows will name it
    return sorted(moments)


def _interval(moments: Sequence[datetime]) -> tuple[int | None, str]:
    """The shortest common step between rows, in seconds."""
    steps = Counter(int((b - a).total_seconds()) for a, b in pairwise(moments))
    steps.pop(0, None)
    if not steps:
        return None, "there are too few rows to tell"
    total = steps.total()
    usual = min(
        step
        for step, times in steps.items()
        if times >= total * 0.05 or times == max(steps.values())
    )
    if 28 * DAY_SECONDS <= usual <= 31 * DAY_SECONDS:
        return None, "the rows are a month apart, and months are no interval of fixed length"
    return usual, f"{steps[usual]:,} of {total:,} steps are {interval_text(usual)}"


def _symbol(scan: _Scan, file_name: str) -> str:
    """The file's own symbol, or what its name suggests."""
    if scan.symbol:
        return scan.symbol
    words = [word for word in re.split(r"[^A-Za-z0-9]+", file_name.upper()) if word]
    for word in words:
        for quote in _QUOTES:
            base = word.removesuffix(quote)
            if word.endswith(quote) and base in _CRYPTO | _CURRENCIES:
                return f"{base}/{quote}"
    return next((word for word in words if re.fullmatch(r"[A-Z]{1,6}\d{0,3}", word)), "")


def _asset(symbol: str) -> tuple[str, str]:
    """(asset class, quote asset) that the symbol suggests."""
    base, slash, quote = symbol.partition("/")
    if not slash:
        return "stock", "USD"
    return ("fx" if base in _CURRENCIES and quote in _CURRENCIES else "crypto"), quote


def _calendar(moments: Sequence[datetime], interval: int | None, asset_class: str) -> str:
    """The narrowest calendar that has room for the week-days and hours seen."""
    weekdays = {moment.weekday() for moment in moments}
    if asset_class == "crypto" or not interval or not weekdays or 5 in weekdays:
        return "24/7"
    if asset_class == "fx" or 6 in weekdays:
        return "24/5"
    hours = {moment.hour for moment in moments}
    if interval < DAY_SECONDS and len(hours) > 10:
        return "24/5"
    return "XNYS"


def _first_rows(
    path: Path, file_name: str, layout: Layout, series: Series
) -> tuple[tuple[Look, ...], list[Problem]]:
    """The first rows as they would be stored, and what is wrong with as many as are looked at."""
    looks: list[Look] = []
    try:
        for row in rows(path, file_name, layout, series, most=LOOKED_AT):
            if len(looks) < SHOWN_ROWS:
                looks.append(
                    Look(
                        row.line, _told(row.opened_at), _told(row.closed_at), *_numbers(row.numbers)
                    )
                )
    except BadFile as bad:
        return tuple(looks), list(bad.problems)
    return tuple(looks), []


def _numbers(text: str) -> list[str]:
    return ["" if number == r"\N" else number.strip() for number in text.split("\t")]


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _last_rows(scan: _Scan, layout: Layout, series: Series) -> tuple[Look, ...]:
    """The last rows as they would be stored; a time that cannot be read is told instead."""
    at = {word: _index(scan, word) for word in (*PRICES, "volume", "adjusted_close")}
    spans = Spans(layout, series)
    looks: list[Look] = []
    for line, cells in scan.tail:
        text = {word: cells[i].strip() if i is not None else "" for word, i in at.items()}
        try:
            opened_at, closed_at = map(_told, spans.of(_time_text(scan, cells)))
        except (BadTime, OverflowError) as error:
            opened_at, closed_at = str(error), ""
        looks.append(Look(line, opened_at, closed_at, *text.values()))
    return tuple(looks)


def _time_text(scan: _Scan, cells: list[str]) -> str:
    parts = [
        cells[i].strip()
        for word in ("time", "time_of_day")
        if (i := _index(scan, word)) is not None
    ]
    return " ".join(parts)


def _notes(scan: _Scan, layout: Layout) -> Iterator[str]:
    if not layout.volume:
        yield (
            "There is no column for volume: it is stored as 0, and the liquidity rule denies every order"
            " on such bars unless it is switched off."
        )
    if len(scan.symbols) > 1:
        yield (
            f"The file holds {len(scan.symbols)} symbols; one import takes one of them. Shown here:"
            f" {scan.symbol}."
        )
    if scan.splits:
        listed = ", ".join(scan.splits[:4]) + (", …" if len(scan.splits) > 4 else "")
        yield (
            f"Splits, by the look of it: the raw close jumps and the adjusted one does not on {listed}."
            " Bars are stored raw, with the adjusted close beside them."
        )
    ignored = [name for name in scan.header if name and name not in layout.as_mapping().values()]
    if ignored:
        yield f"Not used: {', '.join(ignored)}."
