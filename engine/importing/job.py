"""The import job and the look before it: bodies as `engine.jobs` runs them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.history import Added, Adding, series_of
from engine.importing import mappings
from engine.importing.blocks import bar_blocks, trade_blocks
from engine.importing.columns import MICROSECOND, decimals
from engine.importing.dates import EPOCH
from engine.importing.detection import TRADES_TO, Detection, glances, look
from engine.importing.layout import Layout
from engine.importing.problems import BadFile
from engine.importing.reading import Row, Series, rows
from engine.importing.sources import Source, sha256_of, sources_in
from engine.importing.tables import Odd
from engine.importing.trades import BarsOfTrades, Trades, bad_interval
from engine.packing import Block, TooLong
from engine.work import JobRefused, Work
from shared.db.market import ImportRow, InstrumentRow
from shared.domain.instruments import DAYS_PER_YEAR
from shared.domain.market import interval_seconds, interval_text
from shared.jobs import ImportRequest, InspectRequest

READING_SHARE: Final = 0.3
"""How much of the time reading takes when bars have to be compared with stored ones. Measured."""

SLOW_BLOCK: Final = 20_000
VENUE = "replay"
SOURCE = "import"
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9._/:^=+-]{0,39}")
Tell = Callable[[float, int], None]


def inspect(request: InspectRequest, work: Work) -> dict[str, Any]:
    """What is in the file: `Detection` as JSON; of an archive, a glance at each of its `members`."""
    work.progress(0.0, f"Looking at {request.file_name}")
    try:
        path = uploaded(work.settings.home, request.path)
        with work.sessions() as session:
            return found_in(session, path, request.file_name, request.mapping, work.progress)
    except (BadFile, ValueError) as bad:
        raise JobRefused(str(bad)) from bad


def found_in(
    session: Session,
    path: Path,
    file_name: str,
    mapping: Mapping[str, str],
    progress: Callable[[float, str], None] = lambda fraction, text: None,
    timezone: str = "UTC",
) -> dict[str, Any]:
    """`Detection` as JSON, with "mapping_name" where a saved mapping was used, and "members" of an archive."""
    sources = sources_in(path, file_name)
    if len(sources) == 1:
        found = look(sources[0], mapping, timezone=timezone, digest=sha256_of(path))
        saved = None if mapping else mappings.for_header(session, found.header, found.mapping)
        if saved is not None:
            wanted = {**saved.mapping, "delimiter": found.mapping["delimiter"]}
            found = look(sources[0], wanted, timezone=timezone, digest=found.sha256)
        name = saved.name if saved else ""
        return {**found.as_json(), "mapping_name": name, "text": f"{found.rows or 0:,} rows"}

    def tell(done: int) -> None:
        progress(done / len(sources), f"{done:,} of {len(sources):,} files in it looked at")

    members = [_glance(each) for each in glances(sources, mapping, timezone=timezone, tell=tell)]
    fitting = [member for member in members if not member["problems"]]
    shown = (fitting or members)[0]
    text = f"{len(members):,} files in an archive"
    return {
        **shown,
        "members": members,
        "size": path.stat().st_size,
        "text": text,
        "mapping_name": "",
    }


def _glance(found: Detection) -> dict[str, Any]:
    """What is kept of one of thousands."""
    short = replace(found, first=found.first[:1], last=(), problems=found.problems[:2])
    return {name: value for name, value in short.as_json().items() if name != "sha256"}


def run(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Bring one file into its series: all of it or nothing."""
    try:
        path = uploaded(work.settings.home, request.path)
        parts = _parts(path, request)
        result = _import(path, request, parts, work)
    except (BadFile, ValueError) as bad:
        raise JobRefused(str(bad)) from bad
    path.unlink(missing_ok=True)
    return result


def uploaded(home: Path, name: str) -> Path:
    """The uploaded file of this name. Nothing outside the folder of uploads is ever read."""
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of an uploaded file")
    return home / "uploads" / name


# --- what goes where --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """The instrument of venue `replay` whose history this is."""

    symbol: str
    quote_asset: str
    asset_class: str
    calendar: str
    tick_size: str | None = None

    @property
    def base_asset(self) -> str:
        """BTC of BTC/USD; of a stock its own symbol."""
        return self.symbol.partition("/")[0]


@dataclass(frozen=True, slots=True)
class _Part:
    """One table and the series its symbols go into. `key` of "" stands for all rows of the table."""

    source: Source
    layout: Layout
    series: Series
    targets: dict[str, Target]
    intervals: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...] | None:
        return tuple(self.targets) if self.layout.symbol else None


def _parts(path: Path, request: ImportRequest) -> list[_Part]:
    sources = {source.member: source for source in sources_in(path, request.file_name)}
    if not request.series:
        if len(sources) > 1:
            raise ValueError(f"{request.file_name} is an archive: say which of its files go where")
        own = {"key": request.symbol if request.mapping.get("symbol") else ""}
        return [_part(next(iter(sources.values())), request, [own])]
    wanted: dict[str, list[dict[str, Any]]] = {}
    for entry in request.series:
        wanted.setdefault(str(entry.get("member", "")), []).append(entry)
    if unknown := set(wanted) - set(sources):
        raise ValueError(f"{request.file_name} holds no {sorted(unknown)[0]!r}")
    return [_part(sources[member], request, entries) for member, entries in wanted.items()]


def _part(source: Source, request: ImportRequest, entries: list[dict[str, Any]]) -> _Part:
    """As the user confirmed it; what was not said is looked for."""
    first = {**_defaults(request), **entries[0]}
    calendar = str(first["calendar"])
    if calendar not in DAYS_PER_YEAR:
        raise ValueError(f"calendar {calendar!r} is none of {', '.join(DAYS_PER_YEAR)}")
    targets = {
        str(entry.get("key", "")): _target({**_defaults(request), **entry}) for entry in entries
    }
    mapping = {**request.mapping, **first.get("mapping", {})}
    layout = _layout(source, mapping, request, first)
    if layout.symbol and "" in targets:
        targets = {request.symbol: targets[""]}
    if layout.is_trades:
        return _trades(source, layout, request, calendar, targets)
    interval = interval_seconds(str(first["interval"]))
    return _Part(source, layout, Series(interval, calendar, request.timezone), targets, (interval,))


def _trades(
    source: Source,
    layout: Layout,
    request: ImportRequest,
    calendar: str,
    targets: dict[str, Target],
) -> _Part:
    texts = request.trades_to or request.interval or TRADES_TO
    wanted = tuple(
        dict.fromkeys(interval_seconds(text.strip()) for text in texts.split(",") if text.strip())
    )
    for seconds in wanted:
        if why := bad_interval(seconds, calendar):
            raise ValueError(f"{interval_text(seconds)}: {why}")
    return _Part(source, layout, Series(min(wanted), calendar, request.timezone), targets, wanted)


def _defaults(request: ImportRequest) -> dict[str, Any]:
    names = ("symbol", "interval", "calendar", "quote_asset", "asset_class")
    return {name: getattr(request, name) for name in names}


def _target(entry: dict[str, Any]) -> Target:
    symbol = str(entry["symbol"])
    if not symbol.strip():
        raise ValueError("the symbol is missing: what are these the prices of?")
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(
            f"symbol {symbol!r}: use up to 40 letters, digits and . _ / : ^ = + -, such as BRK.B"
        )
    return Target(
        symbol, str(entry["quote_asset"]), str(entry["asset_class"]), str(entry["calendar"])
    )


def _layout(
    source: Source, mapping: Mapping[str, str], request: ImportRequest, entry: dict[str, Any]
) -> Layout:
    given = Layout.from_mapping(mapping)
    prices = given.price or all((given.open, given.high, given.low, given.close))
    if given.time and given.date_style and prices:
        return given
    symbol = str(entry.get("key", "")) or request.symbol
    found = look(source, mapping, timezone=request.timezone, symbol=symbol)
    if found.problems and not found.mapping["date_style"]:
        raise ValueError(f"{source.title}: {found.problems[0]}")
    return Layout.from_mapping(found.mapping)


# --- bringing it in ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of one series."""

    series_id: int
    target: Target
    interval: int
    added: Added


def _import(path: Path, request: ImportRequest, parts: list[_Part], work: Work) -> dict[str, Any]:
    work.progress(0.0, f"Reading {request.file_name}")
    digest = sha256_of(path)
    stored: list[_Stored] = []
    with work.sessions() as session:
        for number, part in enumerate(parts):
            stored += _bring_in(session, part, work, _Progress(work, number, len(parts)))
            for one in stored[len(stored) - len(part.targets) * len(part.intervals) :]:
                session.add(_import_row(one, work.job_id, part, request, digest))
        if request.save_mapping:
            mappings.save(session, request.save_mapping, parts[0].source, parts[0].layout)
        result = _result(stored)
        work.finish(session, result)
        session.commit()
    return result


def _bring_in(session: Session, part: _Part, work: Work, progress: _Progress) -> list[_Stored]:
    """One table: column by column if it is plain; else row by row, which names what is wrong."""
    try:
        with session.begin_nested():
            return _store(session, part, work, progress, _plainly)
    except (Odd, TooLong):
        with session.begin_nested():
            return _store(session, part, work, progress, _row_by_row)


def _store(
    session: Session,
    part: _Part,
    work: Work,
    progress: _Progress,
    read: Callable[[_Part, dict[tuple[str, int], int], Adding, Tell], None],
) -> list[_Stored]:
    ids = {
        (key, interval): series_for(session, target, SOURCE, interval)
        for key, target in part.targets.items()
        for interval in part.intervals
    }
    adding = Adding(session.connection(), ids.values(), work.job_id)
    progress.reading = 1.0 if adding.direct else READING_SHARE
    read(part, ids, adding, progress.read)
    for done, total in adding.store():
        progress.stored(done, total)
    return [
        _Stored(id_, part.targets[key], interval, adding.added_to(id_))
        for (key, interval), id_ in ids.items()
    ]


def _plainly(part: _Part, ids: dict[tuple[str, int], int], adding: Adding, tell: Tell) -> None:
    if part.layout.is_trades:
        trades = trade_blocks(part.source, part.layout, part.series, part.keys, tell)
        adding.take_blocks(_made_bars(part, ids, trades))
        return
    blocks = bar_blocks(part.source, part.layout, part.series, part.keys, tell)
    [interval] = part.intervals
    adding.take_blocks((ids[key, interval], block) for key, block in blocks)


def _row_by_row(part: _Part, ids: dict[tuple[str, int], int], adding: Adding, tell: Tell) -> None:
    read = rows(part.source, part.layout, part.series, keys=part.keys, tell=tell)
    if part.layout.is_trades:
        adding.take_blocks(_made_bars(part, ids, _in_blocks(part, read)))
        return
    [interval] = part.intervals
    adding.take_lines((ids[row.key, interval], row.copy_line()) for row in read)


def _made_bars(
    part: _Part, ids: dict[tuple[str, int], int], trades: Iterator[tuple[str, Trades]]
) -> Iterator[tuple[int, Block]]:
    makers = {key_and_interval: BarsOfTrades(key_and_interval[1]) for key_and_interval in ids}
    for key, some in trades:
        for interval in part.intervals:
            if block := makers[key, interval].take(some):
                yield ids[key, interval], block
    for which, maker in makers.items():
        if last := maker.rest():
            yield ids[which], last


def _in_blocks(part: _Part, read: Iterator[Row]) -> Iterator[tuple[str, Trades]]:
    """Trades that were read row by row, symbol by symbol."""
    backwards: dict[str, bool] = {}
    last: dict[str, Row] = {}
    while block := list(islice(read, SLOW_BLOCK)):
        for key in dict.fromkeys(row.key for row in block):
            mine = [row for row in block if row.key == key]
            ends = (last.get(key, mine[0]).opened_at, mine[-1].opened_at)
            if ends[0] != ends[1]:
                backwards[key] = ends[1] < ends[0]
            last[key] = mine[-1]
            yield key, _as_trades(part.source, mine, backwards=backwards.get(key, False))


def _as_trades(source: Source, read: list[Row], *, backwards: bool) -> Trades:
    at = np.array([(row.opened_at - EPOCH) // MICROSECOND for row in read], np.int64)
    pairs = [row.numbers.split("\t") for row in read]
    try:
        price, volume = (
            decimals([pa.array([pair[i] for pair in pairs], pa.string())])[0] for i in (0, 1)
        )
    except Odd as odd:
        line = f"between the lines {read[0].line} and {read[-1].line}"
        raise source.refuse(f"{odd}, {line}: bars cannot be made of such trades") from odd
    return Trades(at, price, volume, backwards)


class _Progress:
    """How far an import of several tables is: rows, rate and time left."""

    def __init__(self, work: Work, number: int, total: int) -> None:
        self._work = work
        self._number = number
        self._total = total
        self._started = time.monotonic()
        self.reading = 1.0

    def read(self, fraction: float, done: int) -> None:
        rate = done / max(time.monotonic() - self._started, 1e-3)
        self._tell(fraction * self.reading, f"{done:,} rows read · {rate:,.0f} a second")

    def stored(self, done: int, total: int) -> None:
        fraction = self.reading + (1 - self.reading) * done / total
        self._tell(fraction, f"{done:,} of {total:,} rows compared and stored")

    def _tell(self, fraction: float, text: str) -> None:
        if self._total > 1:
            text = f"file {self._number + 1:,} of {self._total:,}: {text}"
        self._work.progress((self._number + fraction) / self._total, text)


def _import_row(
    one: _Stored, job_id: UUID, part: _Part, request: ImportRequest, digest: str
) -> ImportRow:
    return ImportRow(
        series_id=one.series_id,
        job_id=job_id,
        file_name=replace(part.source, name=request.file_name).title,
        sha256=digest,
        rows_read=one.added.read,
        rows_added=one.added.added,
        rows_revised=one.added.revised,
        rows_unchanged=one.added.unchanged,
        mapping=" ".join(
            f"{word}={column}" for word, column in part.layout.as_mapping().items() if column
        ),
    )


def _result(stored: list[_Stored]) -> dict[str, Any]:
    total = Added(*(sum(getattr(one.added, name) for one in stored) for name in Added.__slots__))
    counts = [f"{total.added:,} bars added"]
    if total.revised:
        counts.append(f"{total.revised:,} revised")
    if total.unchanged:
        counts.append(f"{total.unchanged:,} already there")
    one = stored[0]
    name = f"{one.target.symbol} {interval_text(one.interval)}"
    if len(stored) > 1:
        name = f"{len(stored):,} series"
    return {
        "text": f"{name}: {', '.join(counts)}",
        "link": f"/data/{one.series_id}" if len(stored) == 1 else "/data",
        "series_id": one.series_id,
        "series": [
            {"id": each.series_id, "symbol": each.target.symbol, "interval": interval_text(each.interval),
             "rows_added": each.added.added, "rows_revised": each.added.revised,
             "rows_unchanged": each.added.unchanged}
            for each in stored[:500]
        ],
        "rows_read": total.read,
        "rows_added": total.added,
        "rows_revised": total.revised,
        "rows_unchanged": total.unchanged,
    }  # fmt: skip


# --- where bars go ----------------------------------------------------------------------------------


def series_for(session: Session, target: Target, source: str, interval: int) -> int:
    """The series these bars belong to; instrument and series are made if they are new.

    Refuses to mix: an instrument has one calendar and one quote asset.
    """
    session.execute(
        sa.text(
            "INSERT INTO instruments (venue, symbol, name, asset_class, base_asset, quote_asset,"
            " calendar, tick_size)"
            " VALUES (:venue, :symbol, :symbol, :asset_class, :base, :quote, :calendar,"
            " CAST(:tick AS numeric)) ON CONFLICT (venue, symbol) DO NOTHING"
        ),
        {
            "venue": VENUE,
            "symbol": target.symbol,
            "asset_class": target.asset_class,
            "base": target.base_asset,
            "quote": target.quote_asset,
            "calendar": target.calendar,
            "tick": target.tick_size,
        },
    )
    instrument = session.scalars(
        sa.select(InstrumentRow).where(
            InstrumentRow.venue == VENUE, InstrumentRow.symbol == target.symbol
        )
    ).one()
    for word, there, here in (
        ("calendar", instrument.calendar, target.calendar),
        ("quote asset", instrument.quote_asset, target.quote_asset),
    ):
        if there != here:
            raise JobRefused(
                f"{target.symbol} is stored with the {word} {there}, and this import says {here}."
                f" Import it with {there}, or under another symbol."
            )
    return series_of(session.connection(), instrument.id, source, interval)
