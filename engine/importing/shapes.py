"""Files without a header: known ones by their name, others by what their columns hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath
from typing import Final

from engine.importing.dates import style_of
from engine.importing.layout import PRICES

CURRENCIES: Final = frozenset(
    ("USD", "EUR", "GBP", "JPY", "CHF", "AUD", "NZD", "CAD", "SEK", "NOK", "MXN", "CNH", "ZAR")
)
_STABLE: Final = ("USDT", "USDC", "BUSD", "DAI", "PYUSD", "EURT")
_KRAKEN_NAMES: Final = {"XBT": "BTC", "XDG": "DOGE", "XXBT": "BTC", "XETH": "ETH", "XXDG": "DOGE"}
_KRAKEN_QUOTES: Final = (*_STABLE, *sorted(CURRENCIES), "XBT", "BTC", "ETH")
_KRAKEN_BARS: Final = re.compile(r"([A-Z0-9.]{5,14})_(\d{1,5})")
_KRAKEN_TRADES: Final = re.compile(r"[A-Z0-9.]{5,14}")
_NUMBER: Final = re.compile(r" *[+-]?[\d.,' ]*\d[\d.,' ]*(?:[eE][+-]?\d+)? *")
_LETTERS: Final = re.compile(r"[A-Za-z]{2}|^[ohlcvt]$", re.IGNORECASE)


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names columns: a row of data is mostly numbers."""
    numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in cells)
    return numbers * 2 < len(cells) and any(_LETTERS.search(cell) for cell in cells)


def kraken(file_name: str, columns: int) -> tuple[dict[str, str], str, int | None] | None:
    """(columns, symbol, interval in seconds; None for trades) of a file of Kraken's downloadable archives."""
    stem = PurePosixPath(file_name.replace("\\", "/")).name.split(".csv")[0]
    bars = _KRAKEN_BARS.fullmatch(stem)
    if bars and columns in (7, 8):
        symbol = kraken_symbol(bars[1])
        words = ("time", *PRICES, *(("",) if columns == 8 else ()), "volume")
        return (_numbered(words), symbol, int(bars[2]) * 60) if symbol else None
    if _KRAKEN_TRADES.fullmatch(stem) and columns == 3:
        symbol = kraken_symbol(stem)
        return (_numbered(("time", "price", "volume")), symbol, None) if symbol else None
    return None


def _numbered(words: Sequence[str]) -> dict[str, str]:
    return {word: f"column {number}" for number, word in enumerate(words, 1) if word}


def kraken_symbol(pair: str) -> str:
    """BTC/USD of XBTUSD; "" for what is no pair with a known quote."""
    for quote in sorted(_KRAKEN_QUOTES, key=len, reverse=True):
        base = pair.removesuffix(quote)
        if base != pair and len(base) >= 2:
            return f"{_KRAKEN_NAMES.get(base, base)}/{_KRAKEN_NAMES.get(quote, quote)}"
    return ""


def by_content(rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """A guess: a column of times, then four prices with the second never below and the third never above
    the others, then perhaps a volume. {} when the columns do not say."""
    columns = list(zip(*rows, strict=True))
    times = [at for at, texts in enumerate(columns) if _are_times(texts)]
    numbers = [_as_numbers(texts) for texts in columns]
    for at in range(len(columns) - 3):
        four = numbers[at : at + 4]
        if times and times[0] not in range(at, at + 4) and _are_prices(four):
            words = {word: f"column {at + n}" for n, word in enumerate(PRICES, 1)}
            rest = [
                n for n in range(at + 4, len(columns)) if numbers[n] is not None and n not in times
            ]
            volume = {"volume": f"column {rest[0] + 1}"} if rest else {}
            return {"time": f"column {times[0] + 1}", **words, **volume}
    return {}


def _are_times(texts: Sequence[str]) -> bool:
    style = style_of((line, text) for line, text in enumerate(texts, 1))
    return bool(style.name) or "both fit" in style.why


def _as_numbers(texts: Sequence[str]) -> list[Decimal] | None:
    try:
        return [Decimal(text.strip().replace(",", ".")) for text in texts]
    except InvalidOperation:
        return None


def _are_prices(four: Sequence[list[Decimal] | None]) -> bool:
    opened, high, low, closed = four
    if opened is None or high is None or low is None or closed is None:
        return False
    return all(
        0 < lo <= min(op, cl) and max(op, cl) <= hi
        for op, hi, lo, cl in zip(opened, high, low, closed, strict=True)
    )
