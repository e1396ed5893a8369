"""When calendars trade: New York's holidays over twenty years of real sessions, short days, currency weeks."""

from datetime import UTC, date, datetime, timedelta

import pytest

from shared.domain.sessions import (
    easter,
    exchange_holidays,
    is_short_session,
    is_trading_day,
    trading_days,
    trading_seconds,
)


@pytest.mark.parametrize(
    ("day", "why"),
    [
        ("1999-04-02", "Good Friday"),
        ("2001-09-12", "the attack"),
        ("2004-06-11", "mourning"),
        ("2005-12-26", "Christmas on a Sunday"),
        ("2010-12-24", "Christmas on a Saturday"),
        ("2012-10-29", "the storm"),
        ("2015-07-03", "Independence Day on a Saturday"),
        ("2017-01-02", "New Year on a Sunday"),
        ("2018-01-15", "Martin Luther King"),
        ("2022-06-20", "Juneteenth on a Sunday"),
        ("2024-11-28", "Thanksgiving"),
    ],
)
def test_the_exchange_rests_on(day, why):
    assert not is_trading_day("XNYS", date.fromisoformat(day)), why


@pytest.mark.parametrize("day", ["2010-12-31", "2021-12-31", "1997-01-20", "2021-06-18"])
def test_the_exchange_opens_on(day):
    assert is_trading_day("XNYS", date.fromisoformat(day))


def test_a_year_has_as_many_sessions_as_the_exchange_published():
    years = {2001: 248, 2008: 253, 2012: 250, 2018: 251, 2022: 251, 2024: 252}
    for year, sessions in years.items():
        days = list(trading_days("XNYS", date(year, 1, 1), date(year + 1, 1, 1)))
        assert len(days) == sessions, year


def test_easter_by_hand():
    assert [easter(y) for y in (1999, 2008, 2024, 2038)] == [
        date(1999, 4, 4), date(2008, 3, 23), date(2024, 3, 31), date(2038, 4, 25),
    ]  # fmt: skip


def test_holidays_are_weekdays():
    for year in range(1985, 2040):
        assert all(day.weekday() < 5 or day.month == 1 for day in exchange_holidays(year))


def test_short_sessions():
    assert is_short_session(date(2023, 11, 24))
    assert is_short_session(date(2023, 7, 3))
    assert not is_short_session(date(2021, 7, 3))
    start = datetime(2023, 11, 24, tzinfo=UTC)
    assert trading_seconds("XNYS", start, start + timedelta(days=1)) == 3.5 * 3600


def test_a_currency_week_is_five_days_long_on_both_sides_of_a_clock_change():
    for sunday in (datetime(2024, 3, 3, tzinfo=UTC), datetime(2024, 3, 10, tzinfo=UTC)):
        assert trading_seconds("24/5", sunday, sunday + timedelta(days=7)) == 5 * 86_400


def test_currencies_rest_over_christmas_from_evening_to_evening():
    start = datetime(2024, 12, 24, 22, tzinfo=UTC)
    assert trading_seconds("24/5", start, start + timedelta(days=1)) == 0
    assert trading_seconds("24/5", start, start + timedelta(days=1, hours=1)) == 3600


def test_a_market_that_never_closes_trades_every_second():
    start = datetime(2024, 12, 25, tzinfo=UTC)
    assert trading_seconds("24/7", start, start + timedelta(hours=5)) == 5 * 3600
