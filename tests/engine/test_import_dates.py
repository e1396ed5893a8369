"""Times as files write them."""

# ruff: noqa: DTZ001 moments of imports are naive and in UTC

from datetime import datetime

import pytest

from engine.importing.dates import BadTime, TimeReader, style_of


def read(style, text, zone="UTC"):
    return TimeReader(style, zone).read(text)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("2020-01-31", "year-first"),
        ("2020-01-31 23:59:00", "year-first"),
        ("2020-01-31T23:59:00Z", "year-first"),
        ("2020/1/31", "year-first"),
        ("2020.01.31", "year-first"),
        ("20200131", "year-first"),
        ("20200131 235900", "year-first"),
        ("20200131235900", "year-first"),
        ("31/01/2020", "day-first"),
        ("31.01.2020 23:59:00.000", "day-first"),
        ("01/31/2020", "month-first"),
        ("1/31/99", "month-first"),
        ("31 Jan 2020", "named-month"),
        ("31-Jan-2020", "named-month"),
        ("Jan 31, 2020", "named-month"),
        ("1577836800", "epoch-seconds"),
        ("1577836800.5", "epoch-seconds"),
        ("1577836800000", "epoch-milliseconds"),
        ("1577836800000000", "epoch-microseconds"),
        ("yesterday", ""),
        ("12.5", ""),
        ("2020-13-01", ""),
    ],
)
def test_a_style_is_told_by_the_form_of_a_time(text, style):
    assert style_of([(2, text)]).name == style


@pytest.mark.parametrize(
    ("style", "text", "moment"),
    [
        ("year-first", "2020-01-31", datetime(2020, 1, 31)),
        ("year-first", "20200131", datetime(2020, 1, 31)),
        ("year-first", "20200131235901", datetime(2020, 1, 31, 23, 59, 1)),
        ("year-first", "20200131 2359", datetime(2020, 1, 31, 23, 59)),
        ("year-first", "2020-01-31T23:59:01.5Z", datetime(2020, 1, 31, 23, 59, 1, 500_000)),
        ("year-first", "2020-01-31 23:59:01+02:00", datetime(2020, 1, 31, 21, 59, 1)),
        ("year-first", "2020-01-31 23:59:01-0530", datetime(2020, 2, 1, 5, 29, 1)),
        ("year-first", "2020-01-31 23:59:01 UTC", datetime(2020, 1, 31, 23, 59, 1)),
        ("day-first", "03.04.2020 09:30", datetime(2020, 4, 3, 9, 30)),
        ("month-first", "03/04/2020 9:30 PM", datetime(2020, 3, 4, 21, 30)),
        ("month-first", "03/04/2020 12:05 am", datetime(2020, 3, 4, 0, 5)),
        ("month-first", "1/4/99", datetime(1999, 1, 4)),
        ("day-first", "1/4/19", datetime(2019, 4, 1)),
        ("named-month", "Jan 31, 2020", datetime(2020, 1, 31)),
        ("named-month", "31-jan-20 10:00", datetime(2020, 1, 31, 10)),
        ("epoch-seconds", "1577836800", datetime(2020, 1, 1)),
        ("epoch-seconds", "1577836800.25", datetime(2020, 1, 1, 0, 0, 0, 250_000)),
        ("epoch-milliseconds", "1577836800123", datetime(2020, 1, 1, 0, 0, 0, 123_000)),
        ("epoch-microseconds", "1577836800123456", datetime(2020, 1, 1, 0, 0, 0, 123_456)),
    ],
)
def test_a_time_is_a_moment_in_utc(style, text, moment):
    assert read(style, text) == moment


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("year-first", "2020-02-30"),
        ("year-first", "2020-01-31 25:00"),
        ("year-first", "31/01/2020"),
        ("day-first", "01/31/2020"),
        ("month-first", "31/01/2020"),
        ("month-first", "03/04/2020 13:00 PM"),
        ("named-month", "31 Foo 2020"),
        ("epoch-seconds", "2020-01-31"),
        ("epoch-seconds", "9" * 30),
        ("year-first", ""),
    ],
)
def test_what_is_no_time_in_the_style_is_refused(style, text):
    with pytest.raises(BadTime):
        read(style, text)


def test_one_day_after_the_12th_decides_for_the_whole_column():
    column = [(2, "01/02/2020"), (3, "02/02/2020"), (900, "13/02/2020")]
    style = style_of(column)
    assert style.name == "day-first"
    assert style.why == "13/02/2020 on line 900 can only be day first"
    assert style_of([(2, "01/02/2020"), (3, "02/13/2020")]).name == "month-first"


def test_with_no_such_day_the_order_of_the_rows_decides():
    months = [(n, f"01/{n:02}/2020") for n in range(2, 12)]  # the 1st of each month, day first
    assert style_of(months[:3]).name == ""  # both orders fit: January 2nd, 3rd, 4th
    turn = [(2, "11/01/2020"), (3, "12/01/2020"), (4, "01/02/2020"), (5, "02/02/2020")]
    assert style_of(turn).name == "day-first"  # month first would jump to and fro
    assert "order" in style_of(turn).why


def test_a_column_that_contradicts_itself_has_no_style_and_says_where():
    style = style_of([(2, "13/02/2020"), (3, "02/14/2020")])
    assert style.name == ""
    assert "13/02/2020 on line 2" in style.why
    assert "02/14/2020 on line 3" in style.why


def test_local_times_follow_the_clocks_of_their_zone():
    assert read("year-first", "2020-01-15 09:30", "America/New_York") == datetime(
        2020, 1, 15, 14, 30
    )
    assert read("year-first", "2020-07-15 09:30", "America/New_York") == datetime(
        2020, 7, 15, 13, 30
    )


def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_the_rows():
    reader = TimeReader("year-first", "America/New_York")
    texts = ["2020-11-01 00:30", "2020-11-01 01:30", "2020-11-01 01:30", "2020-11-01 02:30"]
    forward = []
    for text in texts:
        forward.append(reader.read(text, forward[-1] if forward else None))
    assert [moment.hour for moment in forward] == [4, 5, 6, 7]
    backward = []
    for text in reversed(texts):
        before = backward[-1] if backward else None
        backward.append(reader.read(text, before, ascending=False))
    assert backward == forward[::-1]


def test_the_hour_that_was_left_out_is_refused():
    with pytest.raises(BadTime, match="did not exist in America/New_York"):
        read("year-first", "2020-03-08 02:30", "America/New_York")


def test_an_unknown_zone_is_named():
    with pytest.raises(BadTime, match="Mars/Base"):
        TimeReader("year-first", "Mars/Base")
