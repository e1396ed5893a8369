"""The whole record behind an answer, in the order things happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from engine.why_facts import Facts, InputFacts, Line, OrderFacts, Section
from engine.why_words import clock, duration, held_words, money, number, percent, target_words
from shared.domain.market import interval_text


def sections(facts: Facts, no_bar: str) -> tuple[Section, ...]:
    """Everything the facts hold; `no_bar` says why there is none."""
    found = (
        _bar_section(facts, no_bar),
        _inputs_section(facts),
        _signal_section(facts),
        *_decision_sections(facts),
        _states_section(facts),
        _life_section(facts),
    )
    return tuple(section for section in found if section is not None)


def _bar_section(facts: Facts, no_bar: str) -> Section | None:
    bar = facts.bar
    if bar.opened_at is None or bar.closed_at is None:
        return Section("bar", "The bar", "record", (Line("Bar", no_bar or "none"),))
    lines = [
        Line(
            "Span",
            f"{clock(facts, bar.opened_at, day=True)} to {clock(facts, bar.closed_at, day=True)}",
        ),
        Line(
            "Open, high, low, close",
            ", ".join(number(p) for p in (bar.open, bar.high, bar.low, bar.close)),
        ),
        Line("Volume", number(bar.volume)),
    ]
    if bar.status == "quiet":
        lines.append(
            Line("Quiet", "nothing traded: carried forward from the bar before", tone="warning")
        )
    return Section("bar", "The bar", "record", tuple(lines))


def _inputs_section(facts: Facts) -> Section | None:
    if not facts.inputs:
        return None
    return Section(
        "inputs", "What it read", "record", tuple(_input_line(facts, i) for i in facts.inputs)
    )


def _input_line(facts: Facts, read: InputFacts) -> Line:
    name = f"{read.key.replace('_', ' ')}: {read.symbol} {interval_text(read.interval)}"
    if read.closed_at is None:
        return Line(name, "no bar had closed yet", tone="warning")
    old = facts.moment - read.closed_at
    is_old = old > timedelta(seconds=2 * read.interval)
    fresh = "closed just then" if old <= timedelta(0) else f"newest closed {duration(old)} before"
    return Line(name, f"{fresh}, {read.bars:,} bars to read", tone="warning" if is_old else "")


def _signal_section(facts: Facts) -> Section | None:
    signal = facts.signal
    if signal is None:
        return None
    lines = [
        Line(
            "Warm-up",
            f"needs {signal.needed:,} bars, had {signal.had:,}",
            tone="warning" if signal.had < signal.needed else "",
        )
    ]
    if signal.error:
        lines.append(Line("Code", signal.error, tone="bad"))
    lines += [
        Line(f.name.replace("_", " "), f"{number(f.now)} (the moment before {number(f.before)})")
        for f in signal.features
    ]
    lines += [
        Line(
            "Target",
            f"{target_words(signal.target)} (the moment before {target_words(signal.before)})",
        ),
        Line("Stood at", f"{signal.standing:g}, holding {held_words(facts)}"),
    ]
    if signal.because:
        lines.append(Line("Because", signal.because))
    if signal.band is not None and signal.exposure is not None and signal.wanted is not None:
        band = f", band {percent(signal.band)}"
        lines.append(
            Line("Exposure", f"{percent(signal.exposure)} of {percent(signal.wanted)} wanted{band}")
        )
    return Section("signal", "Features and signal", "again", tuple(lines), note=signal.caveat)


def _decision_sections(facts: Facts) -> tuple[Section | None, ...]:
    decision = facts.decision
    if decision is None:
        return (None,)
    lines = [
        Line("Decision", decision.kind.replace("_", " "), link=decision.link),
        Line(
            "Wanted", f"{target_words(decision.target)}, before {target_words(decision.previous)}"
        ),
        Line("Because", decision.because or "—"),
        Line("Outcome", f"{decision.outcome}{f': {decision.reason}' if decision.reason else ''}"),
    ]
    if decision.price is not None:
        lines.append(Line("Priced at", f"{number(decision.price)} {facts.quote}"))
    orders = Section(
        "orders", "The release and its orders", "record",
        tuple(_order_line(facts, order) for order in decision.orders),
        note="" if decision.orders else "No order was sent.",
    )  # fmt: skip
    return (
        Section("decision", "The decision", "record", tuple(lines)),
        Section("sizing", "Sizing", "record", steps=scaled(decision.steps))
        if decision.steps
        else None,
        Section("checks", "Risk checks", "record", checks=decision.checks)
        if decision.checks
        else None,
        orders,
    )


def scaled(steps: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Steps in base units with what they are a part of, so that they can be drawn beside each other."""
    in_units = [_in_base(step) for step in steps]
    sizes = [
        abs(float(s["value"]))
        for s, is_in in zip(steps, in_units, strict=True)
        if is_in and s["value"] is not None
    ]
    most = max(sizes, default=0.0)
    return tuple(
        {**step, "scale": most if is_in and most else None}
        for step, is_in in zip(steps, in_units, strict=True)
    )


def _in_base(step: Mapping[str, Any]) -> bool:
    named = step["name"] in ("change", "lot", "close")
    return named or (step["name"] == "cash" and "pays for no more" in str(step["text"]))


def _order_line(facts: Facts, order: OrderFacts) -> Line:
    name = f"{order.side} {order.leg.replace('_', ' ')}, {order.type.replace('_', ' ')}"
    level = order.limit if order.limit is not None else order.stop
    parts = [] if order.state == "filled" and order.filled else [order.state]
    if level is not None:
        parts.append(f"at {number(level)}")
    if order.filled:
        asked = f" of {number(order.quantity)}" if order.quantity else ""
        parts.append(
            f"filled {number(order.filled)}{asked} at {number(order.average)}, fees {money(order.fees)} {facts.quote}"
        )
    if order.reason:
        parts.append(order.reason)
    tone = {"filled": "good", "rejected": "bad", "unknown": "bad"}.get(order.state, "")
    return Line(
        name, ", ".join(parts), link=f"/books/orders/{order.id}" if order.id else "", tone=tone
    )


def _states_section(facts: Facts) -> Section | None:
    if facts.is_run:
        return None
    lines = tuple(
        Line(
            f"{s.state.replace('_', '-')} for {s.scope if s.scope == 'all' else f'{s.scope} {s.scope_id}'}",
            f"by {s.actor}{f' since {clock(facts, s.since, day=True)}' if s.since else ''}"
            f"{f' until {clock(facts, s.until, day=True)}' if s.until else ''}{f': {s.reason}' if s.reason else ''}",
            link="/risk",
            tone="bad" if s.state == "halted" else "warning",
        )
        for s in facts.states
    )
    return Section(
        "states",
        "Trading states then",
        "record",
        lines,
        note="" if lines else "Nothing stopped trading.",
    )


def _life_section(facts: Facts) -> Section | None:
    if facts.is_run:
        return None
    life, market = facts.life, facts.market
    words = life.status.replace("_", " ")
    lines = [
        Line(
            "Strategy then",
            words + (f", {life.text}" if life.text else ""),
            tone="" if life.status == "running" else "warning",
        )
    ]
    if life.now:
        lines.append(Line("Strategy now", f"{life.now}, version {life.version}"))
    if market.heard_until is not None:
        lines.append(Line("Market heard until", clock(facts, market.heard_until, day=True)))
    lines.append(
        Line(
            "Engine and feed",
            _MARKETS[market.state],
            tone="bad" if market.state in ("away", "behind") else "",
        )
    )
    lines += [Line("Note", note) for note in facts.notes]
    return Section("life", "Engine, feed and strategy", "record", tuple(lines))


_MARKETS: Final = {
    "live": "at work",
    "waiting": "the replay waits to be started",
    "finished": "the replay has finished",
    "away": "no engine holds the lease",
    "behind": "the feed is behind",
}
