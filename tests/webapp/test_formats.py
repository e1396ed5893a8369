"""How numbers, ages and times read."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp import formats

NARROW = "\N{NARROW NO-BREAK SPACE}"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1234567.891"), f"1{NARROW}234{NARROW}567.89"),
        (Decimal("-0.004"), "0.00"),
        (Decimal(0), "0.00"),
        (-12.5, f"{MINUS}12.50"),
        ("104318.27", f"104{NARROW}318.27"),
        (None, "—"),
        (float("nan"), "—"),
        ("not a number", "—"),
    ],
)
def test_money_is_grouped_and_a_rounded_zero_has_no_sign(value, text):
    assert formats.money(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("9.0900"), "9.09"),
        (Decimal("1E+3"), f"1{NARROW}000"),
        (Decimal("1000"), f"1{NARROW}000"),
        (Decimal("0.00000012"), "0.00000012"),
        (Decimal("-1.80"), f"{MINUS}1.8"),
        (0, "0"),
    ],
)
def test_a_quantity_is_never_in_scientific_notation_and_has_no_idle_zeros(value, text):
    assert formats.quantity(value) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_a_quantity_says_the_number_it_was_given_to_eight_decimals(value):
    text = formats.quantity(value).replace(NARROW, "").replace(MINUS, "-")
    assert Decimal(text) == round(value, 8)
    assert "E" not in text.upper()


def test_a_price_has_the_decimals_of_its_tick():
    assert formats.price(Decimal("95402.6"), Decimal("0.01")) == f"95{NARROW}402.60"
    assert formats.price(Decimal("95402.6"), Decimal("0.10")) == f"95{NARROW}402.6"
    assert formats.price(Decimal("95402"), Decimal(5)) == f"95{NARROW}402"


def test_a_price_without_a_tick_has_as_many_decimals_as_its_size_makes_sensible():
    assert formats.price(0.0012345) == "0.001234"
    assert formats.price(1.23456) == "1.2346"
    assert formats.price(226.183) == "226.18"


def test_changes_are_told_by_arrow_sign_and_class_not_by_colour_alone():
    assert formats.change(12.5) == '<span class="gain">▲ +12.50</span>'
    assert formats.change(-12.5) == f'<span class="loss">▼ {MINUS}12.50</span>'
    assert formats.change(0) == '<span class="flat">0.00</span>'
    assert formats.change(None) == '<span class="flat">—</span>'


def test_a_fraction_reads_as_per_cent():
    assert formats.percent(0.0354) == f"3.54{NBSP}%"
    assert formats.signed_percent(Decimal("0.0354")) == f"+3.54{NBSP}%"
    assert formats.signed_percent(-0.0284) == f"{MINUS}2.84{NBSP}%"
    assert formats.signed_percent(0.0000001) == f"0.00{NBSP}%"


def test_a_checks_value_reads_in_its_own_unit():
    assert formats.in_unit(0.208, "%") == f"20.80{NBSP}%"
    assert formats.in_unit(5000, "USD") == f"5{NARROW}000.00 USD"
    assert formats.in_unit(None, "%") == "—"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (3, "3 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
        (-5, "0 s"),
    ],
)
def test_a_duration_has_one_unit(seconds, text):
    assert formats.duration(seconds) == text.replace(" ", NBSP)


def test_an_age_carries_its_time_so_that_the_page_can_keep_it_current():
    now = datetime(2026, 9, 12, 12, 0, 3, tzinfo=UTC)
    text = formats.age("2026-09-12T14:00:00+02:00", now)
    assert 'datetime="2026-09-12T12:00:00+00:00"' in text
    assert f">3{NBSP}s<" in text
    assert "—" in formats.age(None)


def test_a_time_stands_in_the_users_zone_with_utc_on_hover():
    text = formats.local(datetime(2026, 9, 12, 12, 0, tzinfo=UTC), "Europe/Berlin")
    assert ">12 Sep 2026 14:00:00<" in text
    assert 'title="2026-09-12 12:00:00 UTC"' in text


def test_a_day_begins_at_midnight_of_the_zone_even_when_its_clocks_change():
    after = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)  # Berlin's 23-hour day
    begins = formats.day_start(after, "Europe/Berlin")
    assert begins.astimezone(UTC) == datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    assert formats.day_start(begins, "Europe/Berlin") == begins
    assert formats.day_start(begins - timedelta(seconds=1), "Europe/Berlin") < begins


def test_one_thing_is_not_called_many():
    assert formats.plural(1, "order") == "1 order"
    assert formats.plural(0, "order") == "0 orders"
    assert formats.plural(2, "process", "processes") == "2 processes"


def test_names_in_backticks_are_set_as_code_and_everything_else_is_escaped():
    assert formats.prose("under `buy_below` & <so on>") == (
        "under <code>buy_below</code> &amp; &lt;so on&gt;"
    )
    assert formats.prose("one ` alone") == "one ` alone"
