"""The rules of a pair list as people write and read them: a form, a line of words, a table of verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from shared.db.market import InstrumentRow
from shared.domain.universe import BadRules, Rules, Verdict
from webapp.db import db
from webapp.formats import SPACE, decimal, money, percent, plain, price, quantity

WORDS: Final = ("venue", "quote_asset", "asset_class", "sort")
NUMBERS: Final = ("min_value", "min_price", "max_price")
FRACTIONS: Final = ("max_spread", "min_volatility", "max_volatility")
"""Entered in per cent."""

WHOLE: Final = ("window", "min_age", "top")
BY_HAND: Final = ("include", "exclude")
"""Entered as symbols."""

FIELDS: Final = (*WORDS, *NUMBERS, *FRACTIONS, *WHOLE, *BY_HAND, "descending")
MEASURES: Final = {
    "value": "traded value",
    "volume": "volume",
    "volatility": "volatility",
    "spread": "estimated spread",
    "price": "price",
    "age": "days of history",
    "change": "change over the window",
}
LONGEST: Final = 2_000


# A form --------------------------------------------------------------------------------------


def entered_of(rules: Rules) -> dict[str, str]:
    """What the form shows of rules."""
    shown = {name: str(getattr(rules, name)) for name in WORDS}
    for name in (*NUMBERS, *WHOLE):
        shown[name] = plain(getattr(rules, name))
    for name in FRACTIONS:
        value = decimal(getattr(rules, name))
        shown[name] = plain(None if value is None else value * 100)
    for name in BY_HAND:
        shown[name] = ", ".join(_symbols(getattr(rules, name)))
    return {**shown, "descending": "yes" if rules.descending else ""}


def typed(form: Mapping[str, str]) -> dict[str, str]:
    return {name: form.get(name, "").strip()[:LONGEST] for name in FIELDS}


def read(form: Mapping[str, str]) -> tuple[Rules | None, dict[str, str]]:
    """The rules of a form; None and what is wrong, by the field it stands beside."""
    entered = typed(form)
    problems: dict[str, str] = {}
    given: dict[str, Any] = {name: entered[name] for name in WORDS}
    given["sort"] = given["sort"] or "value"
    given["descending"] = bool(entered["descending"])
    given["top"] = None  # an empty field is no limit
    for name in (*NUMBERS, *FRACTIONS, *WHOLE):
        try:
            number = _number(name, entered[name])
        except ValueError as error:
            problems[name] = str(error)
            continue
        if number is not None:
            given[name] = number
    for name in BY_HAND:
        try:
            given[name] = _ids(entered[name], entered["venue"])
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        return None, problems
    try:
        return Rules.from_json(given), {}
    except BadRules as bad:
        return None, {bad.field: bad.text}


def _number(name: str, text: str) -> int | float | None:
    if not text:
        return None
    number = decimal(text.replace(",", "."))
    if number is None:
        raise ValueError(f"{text[:40]} is not a number; write 1000000 or 2.5")
    if abs(number) > 10**15:
        raise ValueError(f"{text[:40]} is more than anything here can be")
    if name not in WHOLE:
        return float(number / 100 if name in FRACTIONS else number)
    if number != int(number):
        raise ValueError(f"{text[:40]} is not a whole number")
    return int(number)


def _ids(text: str, venue: str) -> tuple[int, ...]:
    """`BTC/USD, XRP/USD@replay`: instruments by symbol, with the venue where the symbol alone does not tell."""
    wanted = [one.strip() for one in text.split(",") if one.strip()]
    if not wanted:
        return ()
    bare = {one.partition("@")[0].strip().upper() for one in wanted}
    query = sa.select(InstrumentRow.id, InstrumentRow.symbol, InstrumentRow.venue)
    rows = db.session.execute(query.where(sa.func.upper(InstrumentRow.symbol).in_(bare))).all()
    return tuple(sorted({_id_of(one, venue, rows) for one in wanted}))


def _id_of(one: str, venue: str, rows: Sequence[Any]) -> int:
    symbol, _, place = (part.strip() for part in one.partition("@"))
    named = [row for row in rows if row.symbol.upper() == symbol.upper()]
    found = [row for row in named if row.venue == place] if place else named
    if len(found) > 1:
        found = [row for row in found if row.venue == venue] or found
    if len(found) == 1:
        return int(found[0].id)
    if found:
        places = " and ".join(sorted(row.venue for row in found))
        raise ValueError(f"{symbol} is at {places}: write {found[0].symbol}@{found[0].venue}")
    raise ValueError(f"{one[:40]} is no instrument; Instruments lists them by symbol")


def _symbols(ids: Iterable[int]) -> list[str]:
    """Each as `_ids` reads it."""
    every = sa.select(InstrumentRow.symbol).group_by(InstrumentRow.symbol)
    shared = set(db.session.scalars(every.having(sa.func.count() > 1))) if ids else set()
    query = sa.select(InstrumentRow.symbol, InstrumentRow.venue)
    found = db.session.execute(
        query.where(InstrumentRow.id.in_(list(ids))).order_by(InstrumentRow.symbol)
    )
    return [f"{symbol}@{venue}" if symbol in shared else symbol for symbol, venue in found]


# Words ---------------------------------------------------------------------------------------


def measure_text(name: str, value: float | None) -> str:
    """A measure as a table shows it."""
    if name in ("spread", "volatility", "change"):
        return percent(value)
    if name == "price":
        return price(value)
    if value is not None and name in ("value", "volume") and abs(value) >= 1_000:
        return money(value, 0)
    return quantity(value if value is None or name == "age" else float(f"{value:.4g}"))


def limit_text(name: str, limit: float) -> str:
    """A limit as somebody wrote it: 80 %, not 80.00 %."""
    if name in ("spread", "volatility"):
        return f"{limit * 100:.6g}{SPACE}%"
    return quantity(limit)


def in_words(given: Rules | Mapping[str, Any]) -> str:
    """What a pair list wants, in a line."""
    try:
        rules = given if isinstance(given, Rules) else Rules.from_json(given)
    except BadRules as bad:
        return f"rules that cannot be: {bad}"
    parts = [word for word in (rules.venue, rules.asset_class, rules.quote_asset) if word]
    for name, before, after in (
        ("min_value", "traded value from", "a day"), ("max_spread", "spread up to", ""),
        ("min_price", "price from", ""), ("max_price", "price up to", ""),
        ("min_age", "at least", "days old"), ("min_volatility", "volatility from", ""),
        ("max_volatility", "volatility up to", ""),
    ):  # fmt: skip
        value = getattr(rules, name)
        if value is not None:
            text = limit_text(name.partition("_")[2], value)
            parts.append(f"{before} {text} {after}".strip())
    order = "highest" if rules.descending else "lowest"
    best = f"the {rules.top} with the {order} {MEASURES[rules.sort]}"
    parts.append(best if rules.top else "all that pass")
    for name, word in (("include", "always in"), ("exclude", "never in")):
        if count := len(getattr(rules, name)):
            parts.append(f"{count} {word}")
    return ", ".join(parts)


# Verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One measure of the preview, and what is asked of it."""

    name: str
    title: str
    limit: str

    def cell(self, verdict: Verdict) -> tuple[str, bool]:
        """(its value as text, whether a filter on it failed)."""
        failed = any(one.name == self.name and not one.passed for one in verdict.filters)
        return measure_text(self.name, getattr(verdict.measures, self.name)), failed


def columns(rules: Rules) -> list[Column]:
    """The measures that decide: those with a limit, and the one they are sorted by."""
    shown = []
    for name, title in MEASURES.items():
        least = getattr(rules, f"min_{name}", None)
        most = getattr(rules, f"max_{name}", None)
        if (least, most) == (None, None) and (name != rules.sort or rules.top is None):
            continue
        shown.append(Column(name, title, _limit(name, least, most)))
    return shown


def _limit(name: str, least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{limit_text(name, least)} to {limit_text(name, most)}"
    if least is not None:
        return f"from {limit_text(name, least)}"
    return f"up to {limit_text(name, most)}" if most is not None else "sorted by"


def stopped_by(rules: Rules, verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    """How many each filter stops, the most first; one that fails several is counted at each."""
    names = {**MEASURES, "bars": "no bar lately", "excluded": "out by hand"}
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        if verdict.rank is None:
            failed = {one.name for one in verdict.filters if not one.passed}
            counts.update(names[name] for name in failed)
            counts[f"not among the first {rules.top}"] += int(not failed)
    return [(name, count) for name, count in counts.most_common() if count]
