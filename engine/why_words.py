"""How the answer to "why" reads: numbers, times in the asker's zone, lists."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from engine.why_facts import DAY, Facts


def number(value: float | None) -> str:
    """64012.5 as 64,012.5; eight figures at most, never 1e-05; a dash for what is not known."""
    if value is None or math.isnan(value):
        return "—"
    digits = 8 - len(str(int(abs(value))))
    text = f"{value:,.{max(0, min(8, digits))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: float) -> str:
    """0.124 as 12.4 %, two decimals at most."""
    text = f"{fraction * 100:,.2f}".rstrip("0").rstrip(".")
    return f"{text} %"


def money(value: float) -> str:
    return f"{value:,.2f}"


def duration(span: timedelta) -> str:
    """The largest unit that says enough: 90 min, 3 h, 2 d."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def clock(facts: Facts, at: datetime | None, *, day: bool = False) -> str:
    """A time in the asker's zone, with its day when that is not the day asked about."""
    if at is None:
        return "—"
    zone = ZoneInfo(facts.zone)
    here = at.astimezone(zone)
    if facts.interval >= DAY:
        return f"{here.day} {here:%b %Y}"
    text = f"{here:%H:%M:%S}" if here.second else f"{here:%H:%M}"
    if day or here.date() != facts.at.astimezone(zone).date():
        year = f" {here.year}" if here.year != facts.at.astimezone(zone).year else ""
        return f"{here.day} {here:%b}{year} {text}"
    return text


def dated(facts: Facts, at: datetime | None, *, on_day: bool = False) -> str:
    """`at 14:32` (`at 14:32 on 12 Sep 2026`), or `on 12 Sep 2026` where moments are days."""
    if facts.interval >= DAY or at is None:
        return f"on {clock(facts, at)}"
    text = f"at {clock(facts, at)}"
    return f"{text} on {day_of(facts, at)}" if on_day else text


def day_of(facts: Facts, at: datetime) -> str:
    """`12 Sep 2026` in the asker's zone."""
    here = at.astimezone(ZoneInfo(facts.zone))
    return f"{here.day} {here:%b %Y}"


def led(because: str) -> str:
    """A reason that leads to what follows."""
    return f"{because.rstrip('.')}, so " if because else ""


def target_words(value: float | None) -> str:
    return "nothing new" if value is None or math.isnan(value) else f"{value:g}"


def held_words(facts: Facts) -> str:
    return f"{number(facts.held)} {facts.base}" if facts.held else "nothing"


def holding(facts: Facts) -> str:
    return f"it went on holding {held_words(facts)}" if facts.held else "nothing is held"


def listed(names: Iterable[str]) -> str:
    every = list(names)
    if len(every) < 2:
        return "".join(every) or "nothing"
    return f"{', '.join(every[:-1])} and {every[-1]}"
