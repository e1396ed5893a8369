"""What is in a file, found by looking and shown before anything is imported."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from engine.importing import dates, shapes
from engine.importing.dates import BadTime, TimeReader
from engine.importing.layout import DELIMITERS, PRICES, Layout, guess
from engine.importing.problems import BadFile, Problem
from engine.importing.reading import DAY_SECONDS, Row, Series, Spans, rows
from engine.importing.sources import Source, sha256_of, sources_in
from engine.importing.tables import Odd, Table, first_line, open_table
from shared.domain.market import interval_text

LOOKED_AT: Final = 20_000
"""Rows checked now as the import would check them; the import itself checks all."""

GLANCED_AT: Final = 2_000
"""The same for each of the many members of an archive, which is not read to its end."""

SHOWN_ROWS: Final = 3
SPLIT: Final = 1.4
"""A day on which the raw close moves this much more than the adjusted one is told as a likely split."""

TRADES_TO: Final = "1m"
_CRYPTO: Final = frozenset(
    ("BTC", "XBT", "ETH", "SOL", "XRP", "LTC", "ADA", "DOGE", "BCH", "DOT", "BNB", "AVAX", "LINK")
)
_QUOTES: Final = ("USDT", "USDC", "BUSD", *sorted(shapes.CURRENCIES), "BTC", "ETH")


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
    """A table, described. `problems` keep it from being imported as it is; `notes` are worth knowing.

    `interval` (seconds) is None when it cannot be told. `symbol`, `calendar`, `asset_class` and
    `quote_asset` are guesses for the user to put right; `mapping` is the `Layout` that was found. `symbols`
    are those of a file with a column for them, with their rows. `rows` is None where only the beginning
    was looked at. `is_guess`: there is no header, and the columns were guessed from what they hold.
    """

    file_name: str
    size: int
    sha256: str
    header: tuple[str, ...]
    mapping: dict[str, str]
    date_style_why: str
    rows: int | None
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
    member: str = ""
    kind: str = "bars"
    is_guess: bool = False
    symbol_rows: tuple[int, ...] = ()

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
    """Look at the one table of a file. What the user says in `mapping` wins over what is found.

    Raises BadFile when it is no readable table at all, ValueError for a mapping nobody understands.
    """
    sources = sources_in(path, file_name)
    if len(sources) > 1:
        raise sources[0].refuse("is an archive of several tables")
    return look(sources[0], mapping, timezone=timezone, symbol=symbol, digest=sha256_of(path))


def glances(
    sources: Sequence[Source],
    mapping: Mapping[str, str] | None = None,
    *,
    timezone: str = "UTC",
    tell: Callable[[int], None] = lambda done: None,
) -> Iterator[Detection]:
    """The beginning of each table of an archive. One that cannot be read has that as its problem."""
    for number, source in enumerate(sources):
        tell(number)
        try:
            yield look(source, mapping, timezone=timezone, glance=True)
        except BadFile as bad:
            yield _unreadable(source, bad)


def look(
    source: Source,
    mapping: Mapping[str, str] | None = None,
    *,
    timezone: str = "UTC",
    symbol: str = "",
    glance: bool = False,
    digest: str = "",
) -> Detection:
    """As `detect`, of one source; a `glance` ends after the first rows."""
    scan = _scan(source, dict(mapping or {}), symbol, glance=glance)
    layout, why_style = _with_style(scan)
    moments = _moments(scan, layout, timezone)
    interval, why_interval = _interval(moments, scan, layout)
    guessed = symbol or _symbol(scan, source)
    asset_class, quote_asset = _asset(guessed)
    calendar = _calendar(moments, interval, asset_class)
    problems = _layout_problems(scan, layout) + _style_problems(scan, layout, why_style)
    first: tuple[Look, ...] = ()
    last: tuple[Look, ...] = ()
    if not problems:
        series = Series(interval or 1, calendar, timezone)
        first, problems = _first_rows(scan, layout, series, GLANCED_AT if glance else LOOKED_AT)
        last = () if glance else _last_rows(scan, layout, series)
    return Detection(
        file_name=source.name,
        size=source.path.stat().st_size,
        sha256=digest,
        header=tuple(scan.header),
        mapping=layout.as_mapping(),
        date_style_why=why_style,
        rows=None if glance and len(scan.head) >= GLANCED_AT else scan.rows,
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
        member=source.member,
        kind="trades" if layout.is_trades else "bars",
        is_guess=scan.is_guess,
        symbol_rows=tuple(scan.symbols.values()),
    )


def _unreadable(source: Source, bad: BadFile) -> Detection:
    return Detection(
        source.name, 0, "", (), Layout().as_mapping(), "", None, None, "", "", "", "24/7", "", "", (), (), (),
        (), tuple(map(str, bad.problems)), source.member,
    )  # fmt: skip


# --- looking through the file -----------------------------------------------------------------------


@dataclass(slots=True)
class _Scan:
    """What looking through the whole file finds. With several symbols, rows are those of `symbol`."""

    source: Source
    header: list[str]
    layout: Layout
    symbol: str = ""
    name_symbol: str = ""
    name_interval: int | None = None
    is_guess: bool = False
    unit: str = "line"
    rows: int = 0
    head: list[list[str]] = field(default_factory=list)
    tail: list[tuple[int, list[str]]] = field(default_factory=list)
    days: dict[str, int] = field(default_factory=dict)
    symbols: Counter[str] = field(default_factory=Counter)
    splits: list[str] = field(default_factory=list)
    ratio: float = 0.0


def _scan(source: Source, mapping: dict[str, str], symbol: str, *, glance: bool) -> _Scan:
    line = first_line(source)
    delimiter = mapping.get("delimiter") or _delimiter(line)
    cells = next(csv.reader([line], delimiter=delimiter)) if line else []
    has_header = (
        mapping["header"] != "no" if mapping.get("header") else not line or shapes.is_header(cells)
    )
    mapping |= {"delimiter": delimiter, "header": "yes" if has_header else "no"}
    head, scan = _head(source, mapping, symbol, GLANCED_AT if glance else LOOKED_AT)
    if glance or len(head) < LOOKED_AT:
        _note(scan, _as_columns(scan.header, [cells for _, cells in head]), [n for n, _ in head])
        return scan
    return _whole(source, scan)


def _head(
    source: Source, mapping: dict[str, str], symbol: str, most: int
) -> tuple[list[tuple[int, list[str]]], _Scan]:
    """The first rows, and the layout they suggest."""
    with open_table(source, mapping["delimiter"], has_header=mapping["header"] == "yes") as table:
        whole = len(table.header)
        head = [(table.line, cells) for cells in islice(table.rows(), most) if len(cells) == whole]
        scan = _Scan(source, table.header, Layout(), symbol, unit=table.unit)
    _guess(scan, mapping, [cells for _, cells in head])
    scan.head = [cells for _, cells in head]
    return head, scan


def _guess(scan: _Scan, mapping: dict[str, str], head: list[list[str]]) -> None:
    found: dict[str, str] = {}
    if mapping["header"] == "no":
        known = shapes.kraken(scan.source.member or scan.source.name, len(scan.header))
        if known:
            found, scan.name_symbol, scan.name_interval = known
        else:
            found = shapes.by_content(head[:200])
            scan.is_guess = not any(mapping.get(word) for word in ("time", "open", "price"))
        scan.layout = Layout(**found).over(mapping)
    else:
        scan.layout = guess(scan.header).over(mapping)


def _whole(source: Source, scan: _Scan) -> _Scan:
    """The rest of a long file: column by column if it is plain, else row by row."""
    fresh = (scan.source, scan.header, scan.layout, scan.symbol, scan.name_symbol, scan.name_interval,
             scan.is_guess, scan.unit)  # fmt: skip
    for columns_of in (_plain_batches, _row_batches):
        looked = _Scan(*fresh, head=scan.head)
        try:
            with open_table(
                source, scan.layout.delimiter, has_header=scan.layout.has_header
            ) as table:
                for cells, lines in columns_of(table, looked):
                    _note(looked, cells, lines)
        except Odd:
            continue
        return looked
    raise AssertionError("reading row by row is never odd")


def _plain_batches(
    table: Table, scan: _Scan
) -> Iterator[tuple[dict[str, pa.StringArray], Sequence[int]]]:
    line = 1 + (scan.layout.has_header and table.unit == "line")
    for cells in table.columns([name for name in dict.fromkeys(scan.header) if name]):
        count = len(next(iter(cells.values())))
        yield cells, range(line, line + count)
        line += count


def _row_batches(
    table: Table, scan: _Scan
) -> Iterator[tuple[dict[str, pa.StringArray], Sequence[int]]]:
    remaining = ((table.line, cells) for cells in table.rows() if len(cells) == len(scan.header))
    while block := list(islice(remaining, LOOKED_AT)):
        yield _as_columns(scan.header, [cells for _, cells in block]), [line for line, _ in block]


def _as_columns(header: Sequence[str], cells: Sequence[Sequence[str]]) -> dict[str, pa.StringArray]:
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(header)
    named = zip(reversed(header), reversed(columns), strict=True)
    return {name: pa.array(column, pa.string()) for name, column in named}


def _note(scan: _Scan, cells: dict[str, pa.StringArray], lines: Sequence[int]) -> None:
    """Take some rows into account."""
    layout = scan.layout
    if not len(lines):
        return
    if layout.symbol in cells:
        cells, lines = _of_symbol(scan, cells, lines)
        if not len(lines):
            return
    scan.rows += len(lines)
    if layout.time in cells:
        _note_days(scan, cells[layout.time], lines)
    if layout.adjusted_close in cells and layout.close in cells and layout.time in cells:
        _note_splits(scan, *(cells[n] for n in (layout.close, layout.adjusted_close, layout.time)))
    last = range(max(len(lines) - SHOWN_ROWS, 0), len(lines))
    shown = [
        (lines[i], [cells[name][i].as_py() if name in cells else "" for name in scan.header])
        for i in last
    ]
    scan.tail = [*scan.tail, *shown][-SHOWN_ROWS:]


def _of_symbol(
    scan: _Scan, cells: dict[str, pa.StringArray], lines: Sequence[int]
) -> tuple[dict[str, pa.StringArray], Sequence[int]]:
    names = pc.utf8_trim_whitespace(cells[scan.layout.symbol])
    for pair in pc.value_counts(names).to_pylist():
        scan.symbols[pair["values"]] += pair["counts"]
    scan.symbol = scan.symbol or names[0].as_py()
    mine = pc.equal(names, scan.symbol)
    kept = [int(i) for i in pc.indices_nonzero(mine).to_numpy()]
    return {name: column.filter(mine) for name, column in cells.items()}, [lines[i] for i in kept]


def _note_days(scan: _Scan, times: pa.StringArray, lines: Sequence[int]) -> None:
    """The different days of the file; only where their order of day and month is in question."""
    first = next((text for text in times[:1].to_pylist()), "").strip()
    if not scan.days and first:
        is_open = dates.is_ambiguous(first)
        scan.days[first.partition(" ")[0].partition("T")[0] if is_open else first] = lines[0]
    if not first or not dates.is_ambiguous(first):
        return
    for text in pc.unique(
        pc.list_element(pc.split_pattern(times, " ", max_splits=1), 0)
    ).to_pylist():
        day = text.partition("T")[0]
        if day and day not in scan.days:
            at = pc.index(pc.starts_with(times, text), pa.scalar(value=True)).as_py()
            scan.days[day] = lines[at]


def _note_splits(
    scan: _Scan, closes: pa.StringArray, adjusted: pa.StringArray, times: pa.StringArray
) -> None:
    """Days on which only the raw close jumps."""
    for close, other, at in zip(
        closes.to_pylist(), adjusted.to_pylist(), times.to_pylist(), strict=True
    ):
        try:
            ratio = float(close) / float(other)
        except (ValueError, ZeroDivisionError):
            continue  # the import will name the row
        if scan.ratio and not 1 / SPLIT < ratio / scan.ratio < SPLIT:
            scan.splits.append(at)
        scan.ratio = ratio


def _index(scan: _Scan, word: str) -> int | None:
    name = getattr(scan.layout, word)
    return scan.header.index(name) if name in scan.header else None


def _delimiter(line: str) -> str:
    """The mark that cuts the header into the most columns."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))


# --- what it means ----------------------------------------------------------------------------------


def _with_style(scan: _Scan) -> tuple[Layout, str]:
    """The layout with the style of its times, its decimal and thousands marks, and why that style."""
    layout = scan.layout
    if layout.decimal == "." and not layout.thousands:
        layout = layout.over(_marks(scan))
    if layout.date_style:
        return layout, "as you said"
    style = dates.style_of((line, text) for text, line in scan.days.items())
    return layout.over({"date_style": style.name}), style.why


def _marks(scan: _Scan) -> dict[str, str]:
    """Decimal and thousands marks, where the numbers leave no doubt: 1.234,5 or 1,234,567."""
    words = ("price", *PRICES, "volume")
    at = [i for word in words if (i := _index(scan, word)) is not None]
    texts = [cells[i].strip() for cells in scan.head[:500] for i in at]
    prices = [cells[i] for cells in scan.head[:50] for w in ("price", *PRICES)
              if (i := _index(scan, w)) is not None]  # fmt: skip
    for thousands, decimal in ((",", "."), (".", ","), (" ", "."), ("'", ".")):
        group = re.escape(thousands)
        sure = re.compile(
            rf"\d{{1,3}}(?:{group}\d{{3}})+{re.escape(decimal)}\d+|\d{{1,3}}(?:{group}\d{{3}}){{2,}}"
        )
        if any(sure.fullmatch(text) for text in texts):
            return {"decimal": decimal, "thousands": thousands}
    if (
        prices
        and all(re.fullmatch(r"\s*\d+(,\d+)?\s*", text) for text in prices)
        and any("," in text for text in prices)
    ):
        return {"decimal": ","}
    return {}


def _layout_problems(scan: _Scan, layout: Layout) -> list[Problem]:
    """All but an unknown style of times, which has a better reason than the layout's own."""
    known = layout if layout.date_style else layout.over({"date_style": dates.YEAR_FIRST})
    return known.problems(scan.header)


def _style_problems(scan: _Scan, layout: Layout, why: str) -> list[Problem]:
    """Why the style cannot be told."""
    if layout.date_style or not layout.time:
        return []
    if not scan.rows:
        empty = (
            "has columns and no row" if scan.unit == "row" else "there are no rows below the header"
        )
        return [Problem(empty)]
    reason = why or "the times are in no style this program knows"
    return [Problem(reason, column=layout.time, remedy="Say which it is")]


def _moments(scan: _Scan, layout: Layout, timezone: str) -> list[datetime]:
    """The times of the first rows as far as they can be read, in ascending order."""
    if not layout.date_style or layout.problems(scan.header):
        return []
    reader = TimeReader(layout.date_style, timezone)
    symbol_at = _index(scan, "symbol")
    moments = []
    for cells in scan.head:
        if symbol_at is not None and cells[symbol_at].strip() != scan.symbol:
            continue
        try:
            moments.append(reader.local(_time_text(scan, cells))[0])
        except (BadTime, OverflowError):
            continue  # the check of the first rows will name it
    return sorted(moments)


def _interval(moments: Sequence[datetime], scan: _Scan, layout: Layout) -> tuple[int | None, str]:
    """The shortest common step between rows, in seconds."""
    if layout.is_trades:
        return 60, "trades: choose the length of the bars they are made into"
    if scan.name_interval:
        return scan.name_interval, "the file's name says so"
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


def _symbol(scan: _Scan, source: Source) -> str:
    """The file's own symbol, or what its name suggests."""
    if scan.symbol or scan.name_symbol:
        return scan.symbol or scan.name_symbol
    name = (source.member or source.name).replace("\\", "/").rpartition("/")[2]
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name.upper()) if word]
    for word in words:
        for quote in _QUOTES:
            base = word.removesuffix(quote)
            if word.endswith(quote) and base in _CRYPTO | shapes.CURRENCIES:
                return f"{'BTC' if base == 'XBT' else base}/{quote}"
    return next((word for word in words if re.fullmatch(r"[A-Z]{1,6}\d{0,3}", word)), "")


def _asset(symbol: str) -> tuple[str, str]:
    """(asset class, quote asset) that the symbol suggests."""
    base, slash, quote = symbol.partition("/")
    if not slash:
        return "stock", "USD"
    both = base in shapes.CURRENCIES and quote in shapes.CURRENCIES
    return ("fx" if both else "crypto"), quote


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
    scan: _Scan, layout: Layout, series: Series, most: int
) -> tuple[tuple[Look, ...], list[Problem]]:
    """The first rows as they would be stored, and what is wrong with as many as are looked at."""
    looks: list[Look] = []
    keys = {scan.symbol} if layout.symbol else None
    try:
        for row in rows(scan.source, layout, series, keys=keys, most=most):
            if len(looks) < SHOWN_ROWS:
                looks.append(_look(row, layout))
    except BadFile as bad:
        return tuple(looks), list(bad.problems)
    return tuple(looks), []


def _look(row: Row, layout: Layout) -> Look:
    numbers = ["" if number == r"\N" else number.strip() for number in row.numbers.split("\t")]
    if layout.is_trades:
        numbers = [*[numbers[0]] * 4, numbers[1], ""]
    return Look(row.line, _told(row.opened_at), _told(row.closed_at), *numbers)


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _last_rows(scan: _Scan, layout: Layout, series: Series) -> tuple[Look, ...]:
    """The last rows as they would be stored; a time that cannot be read is told instead."""
    prices = ("price",) * 4 if layout.is_trades else PRICES
    at = [_index(scan, word) for word in (*prices, "volume", "adjusted_close")]
    spans = Spans(layout, series)
    looks: list[Look] = []
    for line, cells in scan.tail:
        text = [cells[i].strip() if i is not None else "" for i in at]
        try:
            opened_at, closed_at = map(_told, spans.of(_time_text(scan, cells)))
        except (BadTime, OverflowError) as error:
            opened_at, closed_at = str(error), ""
        looks.append(Look(line, opened_at, closed_at, *text))
    return tuple(looks)


def _time_text(scan: _Scan, cells: list[str]) -> str:
    parts = [
        cells[i].strip()
        for word in ("time", "time_of_day")
        if (i := _index(scan, word)) is not None
    ]
    return " ".join(parts)


def _notes(scan: _Scan, layout: Layout) -> Iterator[str]:
    if scan.is_guess:
        yield "The file has no header: what its columns are was guessed from what they hold."
    if layout.is_trades:
        yield (
            "These are trades, and bars are made of them; an interval without a trade makes no bar."
            " The first and the last bar may be cut off where the file begins and ends."
        )
    elif not layout.volume:
        yield (
            "There is no column for volume: it is stored as 0, and the liquidity rule denies every order"
            " on such bars unless it is switched off."
        )
    if layout.thousands:
        yield f"Numbers have {layout.thousands!r} between thousands; it is left out."
    if len(scan.symbols) > 1:
        yield f"The file holds {len(scan.symbols)} symbols. Shown here: {scan.symbol}."
    if scan.splits:
        listed = ", ".join(scan.splits[:4]) + (", …" if len(scan.splits) > 4 else "")
        yield (
            f"Splits, by the look of it: the raw close jumps and the adjusted one does not on {listed}."
            " Bars are stored raw, with the adjusted close beside them."
        )
    ignored = [name for name in scan.header if name and name not in layout.columns().values()]
    if ignored:
        yield f"Not used: {', '.join(ignored[:20])}."
