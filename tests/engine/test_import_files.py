"""Files looked at and read: what is found in them, and what they are refused for."""

# ruff: noqa: DTZ001 moments of imports are naive and in UTC

import gzip
from datetime import UTC, datetime, timedelta

import pytest

from engine.importing.detection import detect
from engine.importing.layout import Layout
from engine.importing.problems import BadFile
from engine.importing.reading import Series
from engine.importing.reading import rows as source_rows
from engine.importing.sources import Source

HEADER = "time,open,high,low,close,volume\n"
GOOD = HEADER + (
    "2020-01-01 00:00,10,12,9,11,5\n"
    "2020-01-01 00:01,11,13,10,12,6\n"
    "2020-01-01 00:02,12,12,8,9.5,7.25\n"
)


@pytest.fixture
def file(tmp_path):
    """A function that writes a file and gives its path."""

    def write(content, name="prices.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def bars(path, interval=60, calendar="24/7", **options):
    """All rows as an import reads them."""
    found = detect(path)
    layout = Layout.from_mapping({**found.mapping, **options.pop("mapping", {})})
    keys = {options.pop("symbol")} if "symbol" in options else None
    series = Series(interval, calendar, **options)
    return list(source_rows(Source(path, path.name), layout, series, keys=keys))


def refusal(path, **options):
    with pytest.raises(BadFile) as refused:
        bars(path, **options)
    return str(refused.value)


# --- what is found ----------------------------------------------------------------------------------


def test_a_plain_file_is_described_whole(file):
    found = detect(file(GOOD, "kraken_btcusd_1min.csv"))
    assert found.rows == 3
    assert {word: column for word, column in found.mapping.items() if column} == {
        "time": "time", "open": "open", "high": "high", "low": "low", "close": "close",
        "volume": "volume", "date_style": "year-first", "delimiter": ",", "decimal": ".",
        "stamp": "open", "header": "yes",
    }  # fmt: skip
    assert (found.interval, found.interval_text) == (60, "1m")
    assert found.interval_why == "2 of 2 steps are 1m"
    assert (found.symbol, found.quote_asset, found.calendar) == ("BTC/USD", "USD", "24/7")
    assert (found.first[0].line, found.first[0].opened_at) == (2, "2020-01-01 00:00:00")
    assert found.first[0].closed_at == "2020-01-01 00:01:00"
    assert (found.last[-1].line, found.last[-1].close) == (4, "9.5")
    assert found.problems == ()
    assert found.notes == ()


def test_gzip_is_told_by_its_content_and_the_same_rows_come_out(file):
    plain = bars(file(GOOD))
    packed = bars(file(gzip.compress(GOOD.encode()), "no_ending"))
    assert [row.copy_line() for row in packed] == [row.copy_line() for row in plain]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("Date,Open,High,Low,Close,Adj Close,Volume", {"time": "Date", "adjusted_close": "Adj Close"}),
        ("Gmt time,Open,High,Low,Close,Volume", {"time": "Gmt time"}),
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>", {"time": "<DATE>", "time_of_day": "<TIME>"}),
        ("unix,date,symbol,open,high,low,close,Volume BTC,Volume USD", {"volume": "Volume BTC"}),
        ("Open Time,Open,High,Low,Close,Volume,Close Time", {"time": "Open Time", "stamp": "open"}),
        ("close_time,o,h,l,c,v", {"time": "close_time", "open": "o", "stamp": "close"}),
    ],
)  # fmt: skip
def test_columns_are_known_by_many_names(file, header, wanted):
    mapping = detect(file(header + "\n")).mapping
    assert wanted.items() <= mapping.items()


def test_the_adjusted_close_is_never_taken_for_the_close(file):
    mapping = detect(file("Date,Adj Close,Open,High,Low,Close\n")).mapping
    assert (mapping["close"], mapping["adjusted_close"]) == ("Close", "Adj Close")


def test_semicolons_and_decimal_commas_are_seen_through(file):
    text = "Datum;date;open;high;low;close;volume\nx;31.12.2019;1,5;1,75;1,25;1,5;1000\nx;02.01.2020;1,5;2;1;1,25;900\n"
    path = file(text)
    found = detect(path)
    assert (found.mapping["delimiter"], found.mapping["decimal"]) == (";", ",")
    [first, _] = bars(path, 86_400, "XNYS")
    assert first.numbers == "1.5\t1.75\t1.25\t1.5\t1000\t\\N"


def test_a_byte_order_mark_is_no_part_of_the_first_column(file):
    assert detect(file(b"\xef\xbb\xbf" + GOOD.encode())).mapping["time"] == "time"


def test_weekday_dates_suggest_a_stock_exchange_and_currencies_a_currency_week(file):
    days = [datetime(2020, 1, 6) + timedelta(days=n) for n in range(12) if n % 7 < 5]
    text = HEADER + "".join(f"{day:%Y-%m-%d},1,1,1,1,1\n" for day in days)
    assert detect(file(text, "acme_1day.csv")).calendar == "XNYS"
    assert detect(file(text, "eurusd_1day.csv")).calendar == "24/5"
    assert detect(file(text, "eurusd_1day.csv")).symbol == "EUR/USD"
    assert detect(file(text, "ethusdt.csv")).calendar == "24/7"


def test_the_interval_is_the_usual_step_despite_gaps(file):
    hours = [n for n in range(60) if n % 10]
    text = HEADER + "".join(
        f"{datetime(2020, 1, 1) + timedelta(hours=n):%Y-%m-%d %H:%M},1,1,1,1,1\n" for n in hours
    )
    assert detect(file(text)).interval_text == "1h"


def test_monthly_rows_have_no_interval_and_say_why(file):
    text = HEADER + "".join(f"2020-{month:02}-01,1,1,1,1,1\n" for month in range(1, 13))
    found = detect(file(text))
    assert found.interval is None
    assert "month" in found.interval_why


def test_what_the_user_says_wins_over_what_is_found(file):
    text = "time,open,high,low,close,last,volume\n03/04/2020,1,3,1,2,3,9\n04/04/2020,1,3,1,2,3,9\n"
    found = detect(file(text), mapping={"close": "last", "date_style": "month-first", "volume": ""})
    assert found.mapping["close"] == "last"
    assert found.first[0].opened_at.startswith("2020-03-04")
    assert any("liquidity" in note for note in found.notes)
    with pytest.raises(ValueError, match="colour"):
        detect(file(text), mapping={"colour": "red"})


def test_an_undecidable_date_style_is_a_problem_not_a_guess(file):
    found = detect(file(HEADER + "01/02/2020,1,1,1,1,1\n01/03/2020,1,1,1,1,1\n"))
    assert found.mapping["date_style"] == ""
    assert "both fit" in found.problems[0]


def test_missing_columns_are_named_with_the_remedy(file):
    problems = detect(file("time,close,volume\n2020-01-01,1,1\n")).problems
    assert problems[0] == "line 1: no column for open was found. Name it: open=COLUMN."
    assert len(problems) == 3


def test_splits_are_noted(file):
    text = "Date,Open,High,Low,Close,Adj Close,Volume\n" + "".join(
        f"2020-01-{day:02},{p},{p},{p},{p},25,1\n"
        for day, p in ((6, 100), (7, 100), (8, 50), (9, 50))
    )
    [note] = detect(file(text)).notes
    assert "Splits" in note
    assert "2020-01-08" in note


def test_a_file_of_several_symbols_is_read_one_at_a_time(file):
    text = "Ticker,Date,Open,High,Low,Close,Volume\n" + "".join(
        f"{name},2020-01-{day:02},{n},{n},{n},{n},1\n"
        for n, name in enumerate(("AAA", "BBB"), 1)
        for day in (6, 7, 8)
    )
    path = file(text)
    found = detect(path)
    assert (found.symbols, found.symbol, found.rows) == (("AAA", "BBB"), "AAA", 3)
    assert [row.numbers[0] for row in bars(path, 86_400, "XNYS", symbol="BBB")] == ["2", "2", "2"]
    assert "The file has AAA, BBB" in refusal(path, interval=86_400, symbol="CCC")


# --- what the rows become ---------------------------------------------------------------------------


def test_numbers_keep_every_digit_they_were_written_with(file):
    text = (
        HEADER
        + "2020-01-01,0.1000000000000000055511151231257827,1e-1,.1,0.1,123456789012345678901.5\n"
    )
    text = text.replace("0.1000000000000000055511151231257827", "0.1")
    [row] = bars(file(text), 86_400)
    assert row.numbers == "0.1\t1e-1\t.1\t0.1\t123456789012345678901.5\t\\N"


@pytest.mark.parametrize(
    ("calendar", "interval", "opened", "closed"),
    [
        ("24/7", 86_400, "2020-07-06T00:00:00", "2020-07-07T00:00:00"),
        ("XNYS", 86_400, "2020-07-06T13:30:00", "2020-07-06T20:00:00"),
        ("24/5", 86_400, "2020-07-05T21:00:00", "2020-07-06T21:00:00"),
        ("24/7", 604_800, "2020-07-06T00:00:00", "2020-07-13T00:00:00"),
        ("XNYS", 604_800, "2020-07-06T13:30:00", "2020-07-10T20:00:00"),
        ("24/5", 604_800, "2020-07-05T21:00:00", "2020-07-10T21:00:00"),
    ],
)
def test_a_date_spans_the_session_of_its_calendar(file, calendar, interval, opened, closed):
    [row] = bars(file(HEADER + "2020-07-06,1,1,1,1,1\n"), interval, calendar)
    assert (row.opened_at.isoformat(), row.closed_at.isoformat()) == (opened, closed)


def test_sessions_follow_the_clock_change(file):
    text = HEADER + "2020-03-06,1,1,1,1,1\n2020-03-09,1,1,1,1,1\n"
    winter, summer = bars(file(text), 86_400, "XNYS")
    assert (winter.opened_at.hour, summer.opened_at.hour) == (14, 13)


def test_a_date_with_a_time_is_taken_at_its_word(file):
    text = HEADER + "2020-07-06 22:00,1,1,1,1,1\n2020-07-07 22:00,1,1,1,1,1\n"
    first, _ = bars(file(text), 86_400, "24/5")
    assert first.opened_at.isoformat() == "2020-07-06T22:00:00"
    assert first.closed_at - first.opened_at == timedelta(days=1)


def test_closing_times_open_one_interval_earlier(file):
    first, *_ = bars(file(GOOD), mapping={"stamp": "close"})
    assert first.opened_at.isoformat() == "2019-12-31T23:59:00"
    assert first.closed_at.isoformat() == "2020-01-01T00:00:00"


def test_a_file_that_runs_backwards_is_fine(file):
    lines = GOOD.splitlines()
    backwards = "\n".join([lines[0], *reversed(lines[1:])])
    assert sorted(row.copy_line() for row in bars(file(backwards))) == [
        row.copy_line() for row in bars(file(GOOD, "b.csv"))
    ]


def test_empty_lines_are_no_rows(file):
    assert len(bars(file(GOOD.replace("\n", "\n\n") + "\r\n"))) == 3


# --- what a file is refused for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2020-01-01 00:03,10,12,9,NaN,5", 'line 5, close "NaN": stands for a missing number'),
        ("2020-01-01 00:03,10,12,9,,5", "line 5, close: the cell is empty. Delete the row"),
        ("2020-01-01 00:03,10,12,9,abc,5", 'line 5, close "abc": is no number'),
        ("2020-01-01 00:03,10,12,9,Infinity,5", 'line 5, close "Infinity": is infinite'),
        ("2020-01-01 00:03,10,12,9,1_1,5", 'line 5, close "1_1": is no number'),
        ('2020-01-01 00:03,10,"1,012",9,11,5', 'line 5, high "1,012": is a number with thousands marks'),
        ("2020-01-01 00:03,-10,12,9,11,5", 'line 5, open "-10": is negative'),
        ("2020-01-01 00:03,10,12,0,11,5", 'line 5, low "0": a price must be above zero'),
        ("2020-01-01 00:03,10,12,9,11,-1", 'line 5, volume "-1": is negative'),
        ("2020-01-01 00:03,13,12,9,11,5", 'line 5, open "13": the open is above the high of 12'),
        ("2020-01-01 00:03,10,12,9,8,5", 'line 5, close "8": the close is below the low of 9'),
        ("2020-01-01 00:03,10,8,9,8,5", "line 5, open \"10\": the open is above the high of 8"),
        ("2020-01-01 00:03,10,12,9,11", "line 5: the row has 5 cells, the header 6"),
        ("2020-01-01 00:03,10,12,9,11,5,6", "line 5: the row has 7 cells, the header 6"),
        ("2020-01-01 00:02,10,12,9,11,5", 'line 5, time "2020-01-01 00:02": has the same time as line 4'),
        ("2020-01-01 00:02:30,10,12,9,11,5", "overlaps line 4: the two are less than 1m apart"),
        ("2019-12-31 00:00,10,12,9,11,5", "comes out of order after line 4: the file's times are ascending"),
        ("2020-01-99 00:03,10,12,9,11,5", 'line 5, time "2020-01-99 00:03": there is no such day'),
        ("soon,10,12,9,11,5", 'line 5, time "soon": is no date with the year first'),
        (",10,12,9,11,5", "line 5, time: the cell is empty. Times are read as year-first"),
        ("2999-01-01 00:03,10,12,9,11,5", "this bar closes in the future (2999-01-01 00:04 UTC)"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_line_value_and_reason(file, row, said):
    assert said in refusal(file(GOOD + row + "\n"))


def test_a_bar_that_is_not_over_yet_is_refused(file):
    now = datetime.now(UTC)
    text = HEADER + f"{now - timedelta(days=1):%Y-%m-%d},1,1,1,1,1\n{now:%Y-%m-%d},1,1,1,1,1\n"
    assert "line 3" in refusal(file(text), interval=86_400)


def test_the_first_few_bad_rows_are_told_together(file):
    bad = "".join(f"2020-01-01 01:{minute:02},1,1,1,x{minute},1\n" for minute in range(20))
    said = refusal(file(GOOD + bad))
    assert [f'"x{n}"' in said for n in (0, 4, 5)] == [True, True, False]


def test_a_weekend_date_on_a_weekday_calendar_names_the_remedy(file):
    said = refusal(file(HEADER + "2020-01-04,1,1,1,1,1\n"), interval=86_400, calendar="XNYS")
    assert "Saturday" in said
    assert "24/7" in said


def test_rows_that_are_never_one_interval_apart_are_of_another_interval(file):
    text = HEADER + "".join(f"2020-01-01 {hour:02}:00,1,1,1,1,1\n" for hour in range(12))
    assert "usually they are 1h apart" in refusal(file(text), interval=60)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n1,2,3\n", "line 1, which should name the columns, is empty"),
        (b"PK\x03\x04rest", "is a damaged archive"),
        ("time,open\n".encode("utf-32"), "is UTF-32 text"),
        (GOOD.encode() + b"2020-01-01 00:03,10,12,9,11,5\xe9\n", "line 5: byte 0xe9 near"),
        (gzip.compress(GOOD.encode() * 50)[:-20], "the gzip file is damaged or cut short"),
        (gzip.compress(GOOD.encode())[:-8] + b"\0" * 8, "the gzip file is damaged or cut short"),
        (HEADER.encode() + b"x" * 200_000, "the line is longer than 100,000 characters"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong_with_it(file, content, said):
    with pytest.raises(BadFile, match=said) as refused:
        detect(file(content))
    assert str(refused.value).startswith("prices.csv: ")


def test_a_file_without_rows_is_refused(file):
    assert "no rows below the header" in refusal(file(HEADER), mapping={"date_style": "year-first"})


def test_bad_rows_show_when_the_file_is_looked_at_already(file):
    found = detect(file(GOOD + "2020-01-01 00:03,10,12,9,x,5\n"))
    assert found.problems == ('line 5, close "x": is no number.',)
