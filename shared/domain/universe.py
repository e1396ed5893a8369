"""Pair lists: which instruments their rules choose on a day, from the days before it alone.

Pure, so that the preview of the console and what a job records are one calculation. Every number of day D is of
bars that closed before D began; what cannot be known does not pass.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any, Final

from shared.domain.decisions import Check

STALE_DAYS: Final = 8
"""An instrument without a bar for longer than this before a day is in no list of that day."""

SORTS: Final = ("value", "volume", "volatility", "spread", "price", "age", "change")
LONGEST_WINDOW: Final = 365
ROOT: Final = 3 - 2 * math.sqrt(2)


class BadRules(ValueError):
    """A rule that cannot be: `field`, the value and the remedy."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.field, self.text = name, text


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of an instrument. `value` is what was traded, in the quote asset."""

    day: date
    high: float
    low: float
    close: float
    volume: float
    value: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What a pair list wants. "" and None ask nothing; fractions are fractions (0.01 is 1 %).

    window          days that value, spread, volatility and change are measured over
    min_value       mean traded value a day, in the quote asset
    max_spread      estimate of Corwin and Schultz from daily highs and lows: stored bars have no quotes
    include, exclude  instruments in or out by hand, whatever the filters say
    sort, descending, top   the first `top` of those that pass, by a measure; None for all
    """

    venue: str = ""
    quote_asset: str = ""
    asset_class: str = ""
    window: int = 20
    min_value: float | None = None
    max_spread: float | None = None
    min_price: float | None = None
    max_price: float | None = None
    min_age: int | None = None
    min_volatility: float | None = None
    max_volatility: float | None = None
    include: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()
    sort: str = "value"
    descending: bool = True
    top: int | None = 20

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Rules:
        """BadRules names what is wrong."""
        if extra := set(given) - set(cls.__dataclass_fields__):
            raise BadRules(sorted(extra)[0], "there is no such rule")
        lists = {name: tuple(given.get(name, ())) for name in ("include", "exclude")}
        rules = cls(**{**given, **lists})
        _check(rules)
        return rules


_LEAST: Final = {
    "min_value": 0.0, "max_spread": 0.0, "min_price": 0.0, "max_price": 0.0, "min_age": 0.0,
    "min_volatility": 0.0, "max_volatility": 0.0,
}  # fmt: skip


def _check(rules: Rules) -> None:
    for name, least in _LEAST.items():
        number = getattr(rules, name)
        if number is not None and not (math.isfinite(number) and number >= least):
            raise BadRules(name, f"{number} must be {least:g} or more; leave it empty for no limit")
    if not 2 <= rules.window <= LONGEST_WINDOW:
        raise BadRules("window", f"{rules.window} must be from 2 to {LONGEST_WINDOW} days")
    if rules.top is not None and rules.top < 1:
        raise BadRules("top", f"{rules.top} must be 1 or more; leave it empty for all that pass")
    if rules.sort not in SORTS:
        raise BadRules("sort", f"{rules.sort!r} must be one of {', '.join(SORTS)}")
    for low, high in (("min_price", "max_price"), ("min_volatility", "max_volatility")):
        least, most = getattr(rules, low), getattr(rules, high)
        if least is not None and most is not None and least > most:
            raise BadRules(high, f"{most:g} is below the least, {least:g}: nothing could pass")
    if both := set(rules.include) & set(rules.exclude):
        raise BadRules("exclude", f"instrument {min(both)} is included by hand as well: choose one")


# Measures -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class History:
    """The days of one instrument with running sums, so that any day's measures cost next to nothing."""

    days: tuple[date, ...]
    close: tuple[float, ...]
    first: date | None
    days_per_year: int
    value: tuple[float, ...]
    volume: tuple[float, ...]
    returns: tuple[float, ...]
    squares: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, days: Sequence[Day], days_per_year: int, first: date | None = None) -> History:
        """`first` is the first day there are bars of, when `days` begin later than that."""
        logs = [0.0, *(math.log(b.close / a.close) for a, b in pairwise(days))]
        spreads = [0.0, *(corwin_schultz(a, b) for a, b in pairwise(days))]
        return cls(
            days=tuple(day.day for day in days),
            close=tuple(day.close for day in days),
            first=first or (days[0].day if days else None),
            days_per_year=days_per_year,
            value=_sums(day.value for day in days),
            volume=_sums(day.volume for day in days),
            returns=_sums(logs),
            squares=_sums(log * log for log in logs),
            spread=_sums(spreads),
        )

    def measures(self, day: date, window: int) -> Measures:
        """What was known when `day` began."""
        rows = bisect_left(self.days, day)
        if not rows:
            return Measures()
        age = (day - self.first).days if self.first else 0
        is_whole = rows > window  # a return more than days
        return Measures(
            price=self.close[rows - 1],
            age=age,
            last=self.days[rows - 1],
            known=rows,
            value=_mean(self.value, rows, window),
            volume=_mean(self.volume, rows, window),
            spread=_mean(self.spread, rows, window) if is_whole else None,
            volatility=self._volatility(rows, window) if is_whole else None,
            change=self.close[rows - 1] / self.close[rows - 1 - window] - 1 if is_whole else None,
        )

    def _volatility(self, rows: int, window: int) -> float:
        total = self.returns[rows] - self.returns[rows - window]
        squares = self.squares[rows] - self.squares[rows - window]
        variance = max(0.0, squares - total * total / window) / (window - 1)
        return math.sqrt(variance * self.days_per_year)


@dataclass(frozen=True, slots=True)
class Measures:
    """An instrument as it stood when a day began; None for what cannot be known."""

    price: float | None = None
    age: int | None = None
    last: date | None = None
    known: int = 0
    value: float | None = None
    volume: float | None = None
    spread: float | None = None
    volatility: float | None = None
    change: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SORTS}


def corwin_schultz(before: Day, after: Day) -> float:
    """The spread, as a fraction of the price, that two days' highs and lows imply; never below 0.

    Corwin and Schultz (2012), with their correction for a price that moved while nothing traded.
    """
    shift = max(0.0, after.low - before.close) - max(0.0, before.close - after.high)
    high, low = after.high - shift, after.low - shift
    if low <= 0:
        return 0.0
    beta = math.log(before.high / before.low) ** 2 + math.log(high / low) ** 2
    gamma = math.log(max(before.high, high) / min(before.low, low)) ** 2
    alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / ROOT - math.sqrt(gamma / ROOT)
    return max(0.0, 2 * math.expm1(alpha) / (1 + math.exp(alpha)))


def _sums(numbers: Any) -> tuple[float, ...]:
    return (0.0, *accumulate(numbers))


def _mean(sums: Sequence[float], rows: int, window: int) -> float | None:
    return (sums[rows] - sums[rows - window]) / window if rows >= window else None


# Verdicts -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instrument that the venue, quote asset and class of the rules let in, or that is in by hand."""

    instrument_id: int
    symbol: str
    history: History


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter's answer: value against limit. `value` of None is not known."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One candidate on one day. `rank` from 1 among the members, None for those that are none."""

    instrument_id: int
    symbol: str
    measures: Measures
    filters: tuple[Filter, ...]
    reason: str
    rank: int | None = None
    by_hand: bool = False

    @property
    def passes(self) -> bool:
        return all(one.passed for one in self.filters)


def evaluate(rules: Rules, candidates: Sequence[Candidate], day: date) -> list[Verdict]:
    """A verdict on every candidate: members by rank first, then the others by symbol."""
    verdicts = [_verdict(rules, candidate, day) for candidate in candidates]
    by_hand = [one for one in verdicts if one.by_hand]
    passed = [one for one in verdicts if one.passes and not one.by_hand]
    ordered = sorted(passed, key=lambda one: _sort_key(rules, one))
    room = len(ordered) if rules.top is None else max(0, rules.top - len(by_hand))
    members = sorted([*by_hand, *ordered[:room]], key=lambda one: _sort_key(rules, one))
    ranked = [_with(one, number, one.reason) for number, one in enumerate(members, start=1)]
    late = [
        _with(one, None, f"place {room + number} by {rules.sort}, and the list takes {room}")
        for number, one in enumerate(ordered[room:], start=1)
    ]
    out = [one for one in verdicts if not one.passes and not one.by_hand]
    return [*ranked, *late, *sorted(out, key=lambda one: one.symbol)]


def members(rules: Rules, candidates: Sequence[Candidate], day: date) -> list[Verdict]:
    """The members of a day, by rank."""
    return [one for one in evaluate(rules, candidates, day) if one.rank is not None]


def _with(one: Verdict, rank: int | None, reason: str) -> Verdict:
    return Verdict(
        one.instrument_id, one.symbol, one.measures, one.filters, reason, rank, one.by_hand
    )


def _sort_key(rules: Rules, one: Verdict) -> tuple[bool, float, str]:
    value = getattr(one.measures, rules.sort)
    if value is None:
        return True, 0.0, one.symbol
    return False, -float(value) if rules.descending else float(value), one.symbol


def _verdict(rules: Rules, candidate: Candidate, day: date) -> Verdict:
    found = candidate.history.measures(day, rules.window)
    filters = tuple(_filters(rules, candidate, found, day))
    by_hand = candidate.instrument_id in rules.include
    failed = [one.text for one in filters if not one.passed]
    reason = "in by hand" if by_hand else "; ".join(failed) or "passes every filter"
    return Verdict(
        candidate.instrument_id, candidate.symbol, found, filters, reason, by_hand=by_hand
    )


def _filters(rules: Rules, candidate: Candidate, found: Measures, day: date) -> list[Filter]:
    if candidate.instrument_id in rules.exclude:
        return [Filter("excluded", passed=False, value=None, limit=None, text="out by hand")]
    answers = [_fresh(found, day)]
    if not answers[0].passed:
        return answers  # what it was worth then tells nothing
    for name, words, limit, is_least in (
        ("value", "traded value a day", rules.min_value, True),
        ("spread", "estimated spread", rules.max_spread, False),
        ("price", "price", rules.min_price, True),
        ("price", "price", rules.max_price, False),
        ("age", "days of history", rules.min_age, True),
        ("volatility", "volatility a year", rules.min_volatility, True),
        ("volatility", "volatility a year", rules.max_volatility, False),
    ):
        if limit is not None:
            given = (name, words, found, float(limit), rules.window)
            answers.append(_answer(*given, is_least=is_least))
    if rules.top is not None and all(one.name != rules.sort for one in answers):
        answers.extend(_unsorted(rules, found))
    return answers


def _unsorted(rules: Rules, found: Measures) -> list[Filter]:
    """What cannot be put in order cannot be among the first."""
    if getattr(found, rules.sort) is not None or found.last is None:
        return []
    text = _unknown(rules.sort, found, rules.window)
    return [Filter(rules.sort, passed=False, value=None, limit=None, text=text)]


def _unknown(name: str, found: Measures, window: int) -> str:
    needed = window if name in ("value", "volume") else window + 1
    return f"{name} not known: {needed} days needed, {found.known} there"


def _fresh(found: Measures, day: date) -> Filter:
    if found.last is None:
        return Filter("bars", passed=False, value=None, limit=None, text="no bars before this day")
    behind = (day - found.last).days
    fresh = behind <= STALE_DAYS
    text = f"newest bar of {found.last}" + ("" if fresh else f", {behind} days before")
    return Filter("bars", fresh, behind, STALE_DAYS, text)


def _answer(
    name: str, words: str, found: Measures, limit: float, window: int, *, is_least: bool
) -> Filter:
    value = getattr(found, name)
    if value is None:
        return Filter(
            name, passed=False, value=None, limit=limit, text=_unknown(name, found, window)
        )
    passed = value >= limit if is_least else value <= limit
    relation = (
        ("at least" if passed else "below") if is_least else ("at most" if passed else "above")
    )
    text = f"{words} {shown(name, value)}, {relation} {shown(name, limit)}"
    return Filter(name, passed, float(value), limit, text)


def shown(name: str, value: float | None) -> str:
    """A measure as people read it."""
    if value is None:
        return "not known"
    if name in ("spread", "volatility", "change"):
        return f"{value * 100:.3g} %"
    if name == "age":
        return f"{value:,.0f} d"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.6g}"


@dataclass(frozen=True, slots=True)
class Membership:
    """Who is in a list on which days, as recorded: what a run asks before an entry."""

    name: str
    days: Mapping[date, frozenset[int]] = field(default_factory=dict)

    def check(self, instrument_id: int, at: datetime) -> Check:
        """Whether an instrument may be entered at a moment, as one of a decision's checks.

        The membership of a day was decided when it began; a day that was never recorded lets nothing in.
        """
        day = at.astimezone(UTC).date()
        found = self.days.get(day)
        if found is None:
            text = f"{self.name} was not recorded for {day}: record it for the days of the run"
            return Check("universe", allowed=False, value=None, limit=1.0, unit="", text=text)
        inside = instrument_id in found
        said = "a member" if inside else "no member"
        text = f"{said} of {self.name} on {day}, which has {len(found)}"
        return Check("universe", allowed=inside, value=float(inside), limit=1.0, unit="", text=text)


def every_day(first: date, last: date) -> list[date]:
    """From first to last, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
