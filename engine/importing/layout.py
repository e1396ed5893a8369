"""Which column is what, and how its values are written: found by looking, or named by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Final, Self

from engine.importing.dates import STYLES
from engine.importing.problems import Problem

PRICES: Final = ("open", "high", "low", "close")
COLUMNS: Final = ("time", "time_of_day", *PRICES, "volume", "adjusted_close", "symbol", "price")
DELIMITERS: Final = (",", ";", "\t", "|")
STAMPS: Final = ("open", "close")
THOUSANDS: Final = ("", ",", ".", " ", "'")
HEADERS: Final = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file. Column names are the header's own; "" means the file has no such column.

    `stamp` says whether a row's time is the bar's opening or its close. `decimal` is the decimal mark,
    `thousands` the mark between groups of three digits. With a `price` instead of the four, rows are
    trades. A file without a header has columns named "column 1", "column 2" and so on.
    """

    time: str = ""
    open: str = ""
    high: str = ""
    low: str = ""
    close: str = ""
    volume: str = ""
    adjusted_close: str = ""
    time_of_day: str = ""
    symbol: str = ""
    price: str = ""
    date_style: str = ""
    delimiter: str = ","
    decimal: str = "."
    thousands: str = ""
    stamp: str = "open"
    header: str = "yes"

    @property
    def is_trades(self) -> bool:
        return bool(self.price) and not any(getattr(self, name) for name in PRICES)

    @property
    def has_header(self) -> bool:
        return self.header != "no"

    def columns(self) -> dict[str, str]:
        """What each word is called in the file's header, for those that have a column."""
        return {word: column for word in COLUMNS if (column := getattr(self, word))}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> Self:
        """As the user confirmed it; ValueError names a key nobody knows."""
        known = {field.name for field in fields(cls)}
        if unknown := set(mapping) - known:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: the mapping knows {', '.join(sorted(known))}"
            )
        return cls(**{name: str(value) for name, value in mapping.items()})

    def over(self, mapping: Mapping[str, str]) -> Self:
        """This layout where the user said nothing else."""
        type(self).from_mapping(mapping)
        return replace(self, **{name: str(value) for name, value in mapping.items()})

    def as_mapping(self) -> dict[str, str]:
        return asdict(self)

    def problems(self, header: Sequence[str]) -> list[Problem]:
        """What keeps this layout from reading a file with this header."""
        return [*self._missing(), *self._unknown(header), *self._bad_words()]

    def _missing(self) -> list[Problem]:
        prices = ("price", "volume") if self.is_trades else PRICES
        needed = [name for name in ("time", *prices) if not getattr(self, name)]
        return [
            Problem(f"no column for {name} was found", 1, remedy=f"Name it: {name}=COLUMN")
            for name in needed
        ]

    def _unknown(self, header: Sequence[str]) -> list[Problem]:
        named = [(name, getattr(self, name)) for name in COLUMNS]
        return [
            Problem(
                f"there is no such column for {name}",
                1,
                value=column,
                remedy=f"The columns are {', '.join(header)}",
            )
            for name, column in named
            if column and column not in header
        ]

    def _bad_words(self) -> list[Problem]:
        wrong = []
        for name, allowed in (
            ("date_style", STYLES),
            ("delimiter", DELIMITERS),
            ("decimal", (".", ",")),
            ("thousands", THOUSANDS),
            ("stamp", STAMPS),
            ("header", HEADERS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                known = ", ".join(repr(word) for word in allowed)
                wrong.append(Problem(f"{name} {value!r} is none of {known}"))
        if self.thousands and self.thousands == self.decimal:
            wrong.append(Problem(f"{self.decimal!r} cannot be both decimal and thousands mark"))
        return wrong


# Names as files spell them, without case, blanks and punctuation; the first that is there wins.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "time": (
        "time", "date", "datetime", "timestamp", "opentime", "opendate", "unixtime", "unixtimestamp",
        "unix", "epoch", "ts", "gmttime", "localtime", "utctime", "timeutc", "dateutc", "bartime",
        "closetime", "endtime", "day", "period", "begin", "start", "starttime", "timestart", "t",
        "tradetime", "tradetimestamp", "createdat", "tradedat", "indexlevel0",
    ),
    "open": ("open", "o", "openprice", "opening", "first", "openask", "openbid", "askopen", "bidopen"),
    "high": ("high", "h", "highprice", "max", "highask", "highbid", "askhigh", "bidhigh"),
    "low": ("low", "l", "lowprice", "min", "lowask", "lowbid", "asklow", "bidlow"),
    "close": (
        "close", "c", "closeprice", "closing", "last", "closelast", "closeask", "closebid", "price",
        "askclose", "bidclose",
    ),
    "volume": ("volume", "vol", "v", "vol.", "tickvolume", "tickvol", "totalvolume", "basevolume"),
    "adjusted_close": ("adjclose", "adjustedclose", "closeadjusted", "adjclosing"),
    "symbol": ("symbol", "ticker", "instrument", "pair", "code", "secid"),
}  # fmt: skip
_TRADED: Final = (
    "volume", "amount", "size", "qty", "quantity", "vol", "v", "tradesize", "lastsize", "tradevolume",
)  # fmt: skip
_PRICE: Final = ("price", "tradeprice", "last", "lastprice", "p")
_CLOSING_NAMES: Final = ("closetime", "endtime", "end", "timeclose")


def guess(header: Sequence[str]) -> Layout:
    """The columns this header names, as far as their names say."""
    plain = {_plain(name): name for name in reversed(header)}
    found = {word: _first_of(plain, names) for word, names in _NAMES.items()}
    if not found["volume"]:  # "Volume BTC", "Volume (shares)"
        found["volume"] = next((name for name in header if _plain(name).startswith("volume")), "")
    if not any(found[word] for word in ("open", "high", "low")):
        found |= _as_trades(plain, found)
    if "date" in plain and "time" in plain:
        found["time"], found["time_of_day"] = plain["date"], plain["time"]
    stamp = "close" if _plain(found["time"]) in _CLOSING_NAMES else "open"
    return Layout(**found, stamp=stamp)


def _as_trades(plain: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Rows with one price and an amount, and no open, high and low, are trades."""
    price = _first_of(plain, _PRICE)
    volume = _first_of(plain, _TRADED) or found["volume"]
    return {"price": price, "volume": volume, "close": ""} if price and volume else {}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _first_of(plain: Mapping[str, str], names: Sequence[str]) -> str:
    return next((plain[name] for name in names if name in plain), "")
