"""Damaged and disguised files: each is read to the rows it has, by columns and by rows alike, or refused with what is wrong."""

# ruff: noqa: DTZ001 moments of imports are naive and in UTC

import gzip
import io
import os
import time
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from engine.importing import sources
from engine.importing.blocks import bar_blocks, trade_blocks
from engine.importing.columns import as_moment
from engine.importing.detection import look
from engine.importing.layout import Layout
from engine.importing.problems import BadFile
from engine.importing.reading import Series, rows
from engine.importing.sources import sources_in
from engine.importing.tables import Odd
from engine.importing.trades import BarsOfTrades

HEADER = "time,open,high,low,close,volume\n"
TIMES = [f"2020-01-01 00:{n:02}" for n in range(6)]
ROWS = [f"{at},10.50,12,9,11.25,{n}.125" for n, at in enumerate(TIMES)]
GOOD = HEADER + "\n".join(ROWS) + "\n"


def changed(row, text):
    """The good file with one of its rows replaced; row 0 is on line 2."""
    return HEADER + "\n".join([*ROWS[:row], text, *ROWS[row + 1 :]]) + "\n"


def with_times(times, header=HEADER):
    return header + "".join(f"{at},1,1,1,1,1\n" for at in times)


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def locked():
    """An archive whose member says that it is encrypted."""
    raw = bytearray(zipped({"a.csv": GOOD}, zipfile.ZIP_STORED))
    raw[6] |= 1
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1
    return bytes(raw)


def table(**columns):
    count = 6
    base = {
        "time": pa.array([datetime(2020, 1, 1, 0, n) for n in range(count)], pa.timestamp("us")),
        **{name: pa.array([10.5, 11.0, 11.5, 12.0, 12.5, 13.0]) for name in ("open", "high", "low", "close")},
        "volume": pa.array([1.5] * count),
    }  # fmt: skip
    return pa.table(base | columns)


def parquet(**columns):
    out = io.BytesIO()
    pa.parquet.write_table(table(**columns), out)
    return out.getvalue()


def feather(**columns):
    out = io.BytesIO()
    pa.feather.write_feather(table(**columns), out)
    return out.getvalue()


def outcome(path, interval=60, calendar="24/7", timezone="UTC", mapping=None):
    """How many rows a file has, read row by row, and by columns if it is plain; or the words it is refused with."""
    try:
        source, *more = sources_in(path)
        if more:
            return "an archive of several"
        found = look(source, mapping, timezone=timezone)
        layout = Layout.from_mapping(found.mapping)
        if not layout.date_style or layout.problems(found.header):
            return "\n".join(found.problems)
        series = Series(interval, calendar, timezone)
        slow = list(rows(source, layout, series))
    except BadFile as bad:
        return str(bad)
    by_columns = as_columns(source, layout, series)
    assert by_columns is None or sorted(by_columns) == sorted(slow_bars(slow))
    return len(slow)


def slow_bars(read):
    return [
        (row.key, row.opened_at, row.closed_at,
         *(Decimal(text) for text in row.numbers.split("\t") if text != r"\N"))
        for row in read
    ]  # fmt: skip


def as_columns(source, layout, series):
    """The same by columns; None if it is not plain."""
    try:
        blocks = list(bar_blocks(source, layout, series, None, lambda *_: None))
    except Odd:
        return None
    return [
        (key, as_moment(block.opened_at[i]), as_moment(block.closed_at[i]),
         *(Decimal(numbers.text(i)) for numbers in block.numbers().values() if numbers is not None))
        for key, block in blocks
        for i in range(len(block))
    ]  # fmt: skip


FUTURE = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d %H:%M}"

READ = {
    "plain": GOOD,
    "gzip": gzip.compress(GOOD.encode()),
    "gzip without its ending": gzip.compress(GOOD.encode()),
    "zip of one": zipped({"prices.csv": GOOD}),
    "gzip in a zip": zipped({"prices.csv.gz": gzip.compress(GOOD.encode())}),
    "zip with litter": zipped({"a.csv": GOOD, "__MACOSX/._a.csv": "x", ".DS_Store": "x", "README.txt": "x"}),
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + GOOD.encode("utf-16-be"),
    "carriage returns": GOOD.replace("\n", "\r\n"),
    "no newline at the end": GOOD.rstrip("\n"),
    "empty lines": GOOD.replace("\n", "\n\n"),
    "semicolons and decimal commas": GOOD.replace(",", ";").replace(".", ","),
    "tabs": GOOD.replace(",", "\t"),
    "bars": GOOD.replace(",", "|"),
    "quoted": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in GOOD.splitlines()),
    "blanks around numbers": GOOD.replace(",", ", "),
    "strictly descending": HEADER + "\n".join(reversed(ROWS)) + "\n",
    "spreadsheet's days": with_times([f"{45123 + n}" for n in range(6)]),
    "spreadsheet's minutes": with_times([f"{45123 + n / 1440:.10f}" for n in range(6)]),
    "Unix seconds": with_times([1577836800 + 60 * n for n in range(6)]),
    "Unix seconds with a fraction": with_times([f"{1577836800 + 60 * n}.000" for n in range(6)]),
    "Unix milliseconds": with_times([1577836800000 + 60000 * n for n in range(6)]),
    "Unix microseconds": with_times([(1577836800 + 60 * n) * 10**6 for n in range(6)]),
    "Unix nanoseconds": with_times([(1577836800 + 60 * n) * 10**9 for n in range(6)]),
    "day first": with_times([f"31.12.2019 00:0{n}" for n in range(6)]),
    "short US dates": with_times([f"1/{n}/2020 9:30 AM" for n in range(9, 15)]),
    "named months": with_times([f"0{n} Oct 2019 10:00" for n in range(1, 7)]),
    "ISO with T and Z": with_times([f"2020-01-01T00:0{n}:00Z" for n in range(6)]),
    "another offset in each row": with_times([f"2020-01-01T0{n}:0{n}:00+0{n}:00" for n in range(6)]),
    "digits only": with_times([f"2020010100{n:02}00" for n in range(6)]),
    "Stooq": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    + "".join(f"AAPL.US,1,20200102,{930 + n:04}00,1,2,1,2,5,0\n" for n in range(6)),
    "thousands marks": "time;open;high;low;close;volume\n"
    + "".join(f"{at};1,234.50;1,235;1,233;1,234.5;1,234,567\n" for at in TIMES),
    "German thousands": "time;open;high;low;close;volume\n"
    + "".join(f"{at};1.234,50;1.235,0;1.233,0;1.234,5;5\n" for at in TIMES),
    "twenty-five digits": HEADER + "".join(f"{at},1,1,1,1,{'9' * 25}\n" for at in TIMES),
    "exponents": HEADER + "".join(f"{at},1e1,1E1,1e1,10,5e-3\n" for at in TIMES),
    "one name twice": GOOD.replace("volume", "volume,volume").replace(".125", ".125,7"),
    "Parquet": parquet(),
    "Parquet of decimals": parquet(**{n: pa.array([Decimal("10.50")] * 6) for n in ("open", "high", "low", "close")}),
    "Parquet of integers": parquet(volume=pa.array([5] * 6)),
    "Parquet with a zone": parquet(
        time=pa.array([datetime(2020, 1, 1, 0, n, tzinfo=UTC) for n in range(6)], pa.timestamp("ns", "America/New_York"))
    ),
    "Parquet of texts": parquet(time=pa.array(TIMES), open=pa.array(["10.5", "11", "11.5", "12", "12.5", "13"])),
    "Parquet in a zip": zipped({"a.parquet": parquet()}),
    "Feather": feather(),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_disguised_file_is_read_to_all_its_rows(tmp_path, name):
    content = READ[name]
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    interval = 86_400 if name in ("spreadsheet's days", "short US dates", "named months") else 60
    assert outcome(path, interval) == 6


def cut_parquet():
    return parquet()[:-40]


def torn_parquet():
    raw = bytearray(parquet())
    raw[60:120] = b"\xff" * 60
    return bytes(raw)


REFUSED = {
    "empty": (b"", "the file is empty"),
    "only a header": (HEADER, "there are no rows below the header"),
    "only blanks": (b"\n\n", "line 1, which should name the columns, is empty"),
    "Latin-1": (GOOD.encode() + b"2020-01-01 00:06,1,1,1,1,5\xe9\n", "line 8: byte 0xe9 near"),
    "UTF-32": (GOOD.encode("utf-32"), "is UTF-32 text. Save it as UTF-8"),
    "UTF-16, cut": (GOOD.encode("utf-16")[:-1], "is damaged UTF-16 text"),
    "zero bytes": (GOOD.encode() + b"\0" * 50, "line 8: holds a zero byte"),
    "zeros only": (b"\0" * 5_000, "line 1: holds a zero byte"),
    "mixed separators": (changed(3, ROWS[3].replace(",", ";")), 'line 5: the row has 1 cells, the header 6; it is parted by \';\''),
    "more cells than columns": (changed(2, ROWS[2] + ",7"), "line 4: the row has 7 cells, the header 6"),
    "fewer cells": (changed(2, TIMES[2] + ",7"), "line 4: the row has 2 cells, the header 6"),
    "duplicate time": (changed(3, ROWS[2]), 'line 5, time "2020-01-01 00:02": has the same time as line 4'),
    "one row out of order": (changed(4, ROWS[1]), "comes out of order after line 5"),
    "overlap": (changed(3, ROWS[3].replace("00:03", "00:02:30")), "overlaps line 4: the two are less than 1m apart"),
    "25 o'clock": (changed(2, ROWS[2].replace("00:02", "25:00")), "'25:00' is no time of day"),
    "30 February": (changed(2, ROWS[2].replace("01-01", "02-30")), "there is no such day"),
    "negative price": (changed(2, f"{TIMES[2]},-10.5,12,9,11,1"), 'line 4, open "-10.5": is negative'),
    "price of nothing": (changed(2, f"{TIMES[2]},0,12,0,11,1"), "a price must be above zero"),
    "negative volume": (changed(2, f"{TIMES[2]},10,12,9,11,-1"), 'line 4, volume "-1": is negative'),
    "NaN": (changed(2, f"{TIMES[2]},NaN,12,9,11,1"), 'line 4, open "NaN": stands for a missing number'),
    "infinity": (changed(2, f"{TIMES[2]},10,inf,9,11,1"), 'line 4, high "inf": is infinite'),
    "1e400": (changed(2, f"{TIMES[2]},10,1e400,9,11,1"), 'line 4, high "1e400": has more digits than'),
    "an empty cell": (changed(2, f"{TIMES[2]},,12,9,11,1"), "line 4, open: the cell is empty"),
    "two points": (changed(2, f"{TIMES[2]},1.2.3,12,9,11,1"), 'line 4, open "1.2.3": is a number with thousands'),
    "thousands that may be decimals": (
        changed(2, f'{TIMES[2]},"1,234","1,235","1,233","1,234",1'), 'line 4, open "1,234": is a number with thousands marks'),
    "high below low": (changed(2, f"{TIMES[2]},10,8,9,10,1"), "is above the high of 8"),
    "close above high": (changed(2, f"{TIMES[2]},10,12,9,13,1"), "the close is above the high of 12"),
    "in the future": (HEADER + f"{FUTURE},1,1,1,1,1\n", "this bar closes in the future"),
    "another date format halfway": (changed(3, ROWS[3].replace("2020-01-01", "01/01/2020")), 'line 5, time "01/01/2020 00:03": is no date with the year first'),
    "day and month contradict": (with_times(["13/01/2020", "01/14/2020"]), "can only be day first"),
    "day or month": (with_times(["01/02/2020", "01/03/2020"]), "both fit"),
    "only some times name a zone": (changed(3, ROWS[3].replace("00:03", "00:03Z")), "names an offset from UTC, unlike the rows before"),
    "an offset of 99 hours": (changed(0, ROWS[0].replace("00:00", "00:00+99:00")), "+99:00 is no offset from UTC"),
    "a long line": (HEADER.encode() + b"x" * 200_000, "the line is longer than 100,000 characters"),
    "gzip, cut": (gzip.compress((HEADER + "\n".join(ROWS * 99)).encode())[:-20], "the gzip file is damaged or cut short"),
    "gzip, wrong sum": (gzip.compress(GOOD.encode())[:-8] + b"\0" * 8, "the gzip file is damaged or cut short"),
    "gzip twice": (gzip.compress(gzip.compress(GOOD.encode())), "is packed twice with gzip"),
    "zip, cut": (zipped({"a.csv": GOOD})[:-30], "is a damaged archive"),
    "zip, empty": (zipped({}), "is a zip archive without anything in it"),
    "zip of a zip": (zipped({"a.zip": zipped({"a.csv": GOOD})}), "x.csv/a.zip: is an archive inside an archive. Unpack it first"),
    "zip that points out": (zipped({"../../etc/cron.csv": GOOD}), "points outside the archive"),
    "zip that points to a drive": (zipped({"C:\\a.csv": GOOD}), "points outside the archive"),
    "zip with a password": (locked(), "is locked with a password. Unpack it first"),
    "a workbook": (zipped({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}), "is an Excel workbook"),
    "an old workbook": (b"\xd0\xcf\x11\xe0" + b"\0" * 50, "is an old Excel or Word file. Save the sheet as CSV"),
    "bzip2": (b"BZh9" + b"\1" * 50, "is packed with bzip2. Unpack it"),
    "Parquet, cut": (cut_parquet(), "is a damaged or cut Parquet file"),
    "Parquet, torn": (torn_parquet(), "Parquet file"),
    "Feather, cut": (feather()[:-40], "is a damaged or cut Feather file"),
    "Parquet with nulls": (parquet(open=pa.array([10.5, None, 11.5, 12, 12.5, 13])), "row 2, open: the cell is empty"),
    "Parquet with NaN": (parquet(open=pa.array([10.5, float("nan"), 11.5, 12, 12.5, 13])), 'row 2, open "nan": stands for a missing'),
    "Parquet of lists": (parquet(open=pa.array([[1.0]] * 6)), "the column is of type list"),
    "Parquet of truths": (parquet(open=pa.array([True] * 6)), "the column is of type bool"),
    "Parquet without rows": (None, "has columns and no row"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_file_is_refused_with_its_place_and_its_reason(tmp_path, name):
    content, said = REFUSED[name]
    if content is None:
        out = io.BytesIO()
        pa.parquet.write_table(table().slice(0, 0), out)
        content = out.getvalue()
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert said in str(outcome(path))


def test_a_clock_put_forward_names_the_time_that_never_was(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(with_times([f"2020-03-08 0{n}:30" for n in (0, 1, 2, 3)]))
    assert "this time did not exist in America/New_York" in outcome(
        path, 3_600, timezone="America/New_York"
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_an_hour_that_happened_twice_is_told_apart_alike(tmp_path, backwards):
    times = [f"2020-11-01 0{n}:{m}0" for n in (0, 1) for m in range(6)]
    times += [f"2020-11-01 0{n}:{m}0" for n in (1, 2) for m in range(6)]
    path = tmp_path / "x.csv"
    path.write_text(with_times(times[::-1] if backwards else times))
    assert outcome(path, 600, timezone="America/New_York") == 24


def test_a_bomb_is_stopped_early(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BOMB_FROM", 1_000_000)
    line = b"2020-01-01 00:00,1,1,1,1,1\n"
    packed = tmp_path / "bomb.csv.gz"
    packed.write_bytes(gzip.compress(HEADER.encode() + line * 400_000))
    archive = tmp_path / "bomb.zip"
    archive.write_bytes(zipped({"a.csv": HEADER.encode() + line * 400_000}))
    assert "that is no table of prices" in outcome(packed)
    assert "that is no archive of prices" in outcome(archive)


def test_a_header_of_two_gigabytes_is_refused_at_once(tmp_path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.write(b"time,open" + b"x" * 200_000)
        file.truncate(2 * 1024**3)
    started = time.monotonic()
    assert "the line is longer than 100,000 characters" in outcome(path)
    assert time.monotonic() - started < 2


def test_what_is_no_file_is_refused(tmp_path):
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "nowhere.csv")
    assert "is no regular file (a pipe" in outcome(pipe)
    assert "is a link to nothing" in outcome(link)
    assert "is a folder" in outcome(tmp_path)
    assert "is not there" in outcome(tmp_path / "none.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(GOOD)
    path.chmod(0)
    assert "may not be read" in outcome(path)


def test_columns_and_rows_agree_on_a_long_random_walk(tmp_path):
    random = np.random.Generator(np.random.PCG64(3))
    lines = []
    for n in range(40_000):
        price = int(random.integers(1, 10_000_000))
        numbers = [f"{price}.{d}" for d in ("5", "75", "25", "50")]
        lines.append(f"{datetime(2019, 1, 1) + timedelta(minutes=n)},{','.join(numbers)},{price}e0"
                     if n == 39_999 and random.integers(2) else
                     f"{datetime(2019, 1, 1) + timedelta(minutes=n)},{','.join(numbers)},{price}")  # fmt: skip
    path = tmp_path / "x.csv"
    path.write_text(HEADER + "\n".join(lines))
    assert outcome(path) == 40_000


MARKS = b"0123456789.,;-: TZ+e\n\"'x\x00\xff"


def torn(random):
    """One of the good files with a few bytes changed, put in or taken out."""
    content = READ[random.choice(list(READ))]
    raw = bytearray(content.encode() if isinstance(content, str) else content)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(raw))
        match random.randrange(3):
            case 0:
                raw[at] = random.choice(MARKS)
            case 1:
                raw.insert(at, random.choice(MARKS))
            case _:
                del raw[at]
    return bytes(raw)


@pytest.mark.parametrize(
    ("seed", "times"), [(1, 700), pytest.param(2, 60_000, marks=pytest.mark.prove)]
)
def test_a_torn_file_is_read_alike_by_columns_and_rows_or_refused(tmp_path, seed, times):
    random = Random(seed)
    path = tmp_path / "x.csv"
    for _ in range(times):
        path.write_bytes(torn(random))
        came_of_it = outcome(path, random.choice((60, 86_400)))
        assert isinstance(came_of_it, int) or came_of_it


def test_symbols_that_take_turns_are_read_alike(tmp_path):
    text = "date,ticker,open,high,low,close,volume\n" + "".join(
        f"2020-01-{day:02},{name},{day}.5,{day + 2},{day - 1},{day},5\n"
        for day in range(6, 20)
        for name in ("AAA", "B B", "CCC")
        if (day, name) != (9, "CCC")
    )
    path = tmp_path / "long.csv"
    path.write_text(text)
    [source] = sources_in(path)
    layout = Layout.from_mapping(look(source).mapping)
    series = Series(86_400)
    slow = slow_bars(rows(source, layout, series))
    assert sorted(as_columns(source, layout, series)) == sorted(slow)
    assert len(slow) == 14 * 3 - 1
    bad = text + "2020-01-19,AAA,1,1,1,1,1\n"
    path.write_text(bad)
    assert as_columns(source, layout, series) is None
    with pytest.raises(BadFile, match='date "2020-01-19": has the same time as line 40'):
        list(rows(source, layout, series))


# --- trades -----------------------------------------------------------------------------------------


def bars_of(path, interval=60):
    [source] = sources_in(path)
    layout = Layout.from_mapping(look(source).mapping)
    bars = BarsOfTrades(interval)
    made = []
    for _, trades in trade_blocks(source, layout, Series(interval), None, lambda *_: None):
        made.append(bars.take(trades))
    made.append(bars.rest())
    return sorted(
        tuple(block.numbers()[name].text(i) for name in ("open", "high", "low", "close", "volume"))
        for block in made if block is not None for i in range(len(block))
    )  # fmt: skip


TRADES = [
    (1381095255, "122.0", "0.1"), (1381095258, "123.61", "0.10"), (1381095299, "121", "0.005"),
    (1381095599, "123.5", "1"),
]  # fmt: skip
MADE = [
    ("122.00", "123.61", "121.00", "121.00", "0.205"),
    ("123.5", "123.5", "123.5", "123.5", "1"),
]


def numbers_of(bars):
    return [tuple(map(Decimal, bar)) for bar in bars]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("header", ["", "timestamp,price,amount\n"])
def test_trades_become_bars_and_quiet_minutes_become_none(tmp_path, header, backwards):
    path = tmp_path / "XBTUSD.csv"
    lines = [",".join(map(str, trade)) for trade in TRADES]
    path.write_text(header + "\n".join(lines[::-1] if backwards else lines) + "\n")
    assert sorted(numbers_of(bars_of(path))) == sorted(numbers_of(MADE))


def test_bars_of_trades_do_not_depend_on_how_the_file_is_cut_into_blocks(tmp_path, monkeypatch):
    random = np.random.Generator(np.random.PCG64(5))
    at, lines = 1_500_000_000, []
    for _ in range(3_000):
        at += int(random.integers(0, 40))
        lines.append(f"{at},{random.integers(1, 9)}.{random.integers(100)},{random.integers(9)}.5")
    path = tmp_path / "XBTUSD.csv"
    path.write_text("\n".join(lines))
    whole = bars_of(path)
    monkeypatch.setattr("engine.importing.tables.BLOCK_BYTES", 700)
    assert numbers_of(bars_of(path)) == numbers_of(whole)
    volumes = sum(Decimal(line.split(",")[2]) for line in lines)
    assert sum(Decimal(bar[4]) for bar in whole) == volumes


@pytest.mark.parametrize(
    ("name", "row", "wanted"),
    [
        ("XBTUSD_1.csv", "1577836800,1,2,0.5,1,3,7", ("BTC/USD", "1m", "bars")),
        ("ETHEUR_1440.csv", "1577836800,1,2,0.5,1,3,7", ("ETH/EUR", "1d", "bars")),
        ("XDGUSDT_15.csv", "1577836800,1,2,0.5,1,3,7", ("DOGE/USDT", "15m", "bars")),
        ("ADAXBT.csv", "1577836800,1,2", ("ADA/BTC", "1m", "trades")),
    ],
)
def test_krakens_files_are_known_by_their_names(tmp_path, name, row, wanted):
    path = tmp_path / name
    path.write_text(row + "\n")
    found = look(sources_in(path)[0])
    assert (found.symbol, found.interval_text, found.kind) == wanted
    assert not found.is_guess
    assert found.problems == ()


def test_columns_of_a_file_without_a_header_are_a_guess_that_is_told(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(ROWS))
    found = look(sources_in(path)[0])
    assert found.is_guess
    assert (found.mapping["time"], found.mapping["high"], found.mapping["volume"]) == (
        "column 1", "column 3", "column 6",
    )  # fmt: skip
    assert outcome(path) == 6
