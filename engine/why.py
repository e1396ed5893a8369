"""Why it did, or did not, trade: from facts to one sentence, and to the whole record beneath it.

Pure: whoever collects the facts says which of them are record and which were computed again.
Sentences name numbers and people; times are told in the asker's zone, market time unless they say otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared.domain.market import interval_text

DAY: Final = 86_400
STRICT: Final = ("running", "reduce_only", "halted")
PROTECTIVE: Final = ("stop_loss", "take_profit", "trailing_stop")


# Facts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BarFacts:
    """What there is of the bar that closes at the moment.

    status    found, quiet (carried forward), closed (market), gap, before or after all there is, none
    hole      (from, to) of the missing bars, when they are a gap; (first, last) stored, otherwise
    """

    status: str
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    open: float = math.nan
    high: float = math.nan
    low: float = math.nan
    close: float = math.nan
    volume: float = math.nan
    hole: tuple[datetime | None, datetime | None] = (None, None)
    calendar: str = "24/7"


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The newest bar of one input at the moment; `bars` is how many there were to read."""

    key: str
    symbol: str
    interval: int
    trades: bool
    closed_at: datetime | None
    bars: int


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature at the moment and at the moment before; NaN while it is not known."""

    name: str
    now: float
    before: float


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What the strategy says at the moment, computed again on the stored bars.

    target, before   asked at this moment and at the one before; NaN leaves things as they are
    standing         what it last acted on and still stands for
    needed, had      bars of warm-up
    """

    target: float = math.nan
    before: float = math.nan
    standing: float = 0.0
    because: str = ""
    needed: int = 0
    had: int = 0
    features: tuple[FeatureFacts, ...] = ()
    error: str = ""
    caveat: str = ""
    exposure: float | None = None
    """Value held as a fraction of what it may use; None when it cannot be known."""
    wanted: float | None = None
    band: float | None = None


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """An order of a decision and what became of it, at the time the question is asked.

    lowest, highest   of the market between its decision and its end (or now)
    """

    id: str
    leg: str
    side: str
    type: str
    state: str
    quantity: float | None = None
    value: float | None = None
    limit: float | None = None
    stop: float | None = None
    filled: float = 0.0
    average: float | None = None
    fees: float = 0.0
    reason: str = ""
    ended_at: datetime | None = None
    ended_by: str = ""
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """A decision on record."""

    id: str
    at: datetime
    kind: str
    outcome: str
    target: float | None
    previous: float | None
    because: str
    reason: str
    price: float | None
    checks: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    orders: tuple[OrderFacts, ...] = ()
    link: str = ""


@dataclass(frozen=True, slots=True)
class FillFacts:
    """A fill inside the bar whose decision was made earlier."""

    side: str
    quantity: float
    price: float
    at: datetime
    leg: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class StateFacts:
    """A request about trading in force at the moment. `since` in market time where that is known."""

    scope: str
    scope_id: str
    state: str
    actor: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LifeFacts:
    """Where the strategy was in its life at the moment.

    status   running, stopped, failed, quarantined, not_created, not_started
    """

    status: str = "running"
    since: datetime | None = None
    by: str = ""
    text: str = ""
    now: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """How far the market was heard.

    state   live, waiting (a replay not started), finished (one that ended), away (no engine), behind (its feed)
    """

    state: str = "live"
    heard_until: datetime | None = None
    since: datetime | None = None
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything one question is answered from. `moment` is the close of the strategy's clock at or before `at`."""

    name: str
    symbol: str
    base: str
    quote: str
    at: datetime
    moment: datetime
    interval: int
    zone: str = "UTC"
    is_run: bool = False
    trades: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    lot: Decimal | None = None
    held: float = 0.0
    bar: BarFacts = field(default_factory=lambda: BarFacts("found"))
    inputs: tuple[InputFacts, ...] = ()
    signal: SignalFacts | None = None
    decision: DecisionFacts | None = None
    earlier: DecisionFacts | None = None
    """The newest decision before this moment."""
    fills: tuple[FillFacts, ...] = ()
    states: tuple[StateFacts, ...] = ()
    life: LifeFacts = field(default_factory=LifeFacts)
    market: MarketFacts = field(default_factory=MarketFacts)
    range: tuple[datetime | None, datetime | None] = (None, None)
    """Of a run: when it began to trade, and when it ended."""
    notes: tuple[str, ...] = ()


# The answer ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One fact as it is shown."""

    name: str
    text: str
    link: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the answer. `source`: record, or again (computed now from stored bars)."""

    name: str
    title: str
    source: str
    lines: tuple[Line, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """`outcome` names the kind of answer; `traded` whether anything traded."""

    sentence: str
    outcome: str
    traded: bool
    tone: str
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reason alone. With `whole` it is the sentence as it stands."""

    outcome: str
    reason: str
    traded: bool = False
    tone: str = ""
    whole: bool = False


Judge = Callable[[Facts], Verdict | None]


def explain(facts: Facts) -> Why:
    """The first judge that knows an answer gives it: from what makes the question moot to the signal itself."""
    verdict = next(found for judge in JUDGES if (found := judge(facts)) is not None)
    reason = verdict.reason.strip().rstrip(".")
    sentence = reason if verdict.whole else f"{_did_not(facts)}: {reason}"
    tone = verdict.tone or ("good" if verdict.traded else "")
    return Why(f"{sentence}.", verdict.outcome, verdict.traded, tone, sections(facts))


def _did_not(facts: Facts) -> str:
    return f"It did not trade {facts.symbol} {_when(facts)}"


def _when(facts: Facts) -> str:
    return _at(facts, facts.at if facts.at > facts.moment else facts.moment)


# Judges: what makes the question moot ------------------------------------------------------------


def _foreign(facts: Facts) -> Verdict | None:
    if facts.symbol in facts.trades:
        return None
    if facts.symbol in facts.reads:
        what = f"it only reads {facts.symbol} and trades {_and(facts.trades)}"
    else:
        what = f"{facts.name} does not read it (it trades {_and(facts.trades)})"
    return Verdict("not_traded_by_it", what)


def _outside_run(facts: Facts) -> Verdict | None:
    began, ended = facts.range
    if not facts.is_run:
        return None
    if began is not None and facts.moment <= began:
        return Verdict(
            "before_run",
            f"the run began {_at(facts, began)}; bars before it only warm up",
        )
    if ended is not None and facts.at >= ended + timedelta(seconds=facts.interval):
        return Verdict("after_run", f"the run ended {_at(facts, ended)}")
    if ended is not None and facts.moment >= ended and facts.decision is None:
        return Verdict("last_bar", "it is the run's last bar, after which nothing can fill")
    return None


def _not_heard(facts: Facts) -> Verdict | None:
    """The market has not got there, or nobody heard it."""
    market = facts.market
    if facts.is_run or (market.heard_until is not None and facts.moment <= market.heard_until):
        return None
    heard = "nothing yet" if market.heard_until is None else _clock(facts, market.heard_until)
    if market.state == "waiting":
        return Verdict("replay_waiting", "its replay has not been started")
    if market.state == "finished":
        return Verdict("replay_finished", f"its replay finished {_at(facts, market.heard_until)}")
    if market.state == "away":
        since = f" since {_clock(facts, market.since)}" if market.since else ""
        return Verdict(
            "engine_away",
            f"the engine is away{since}; it had heard the market until {heard}",
            tone="bad",
        )
    if market.now is not None and facts.moment > market.now:
        ahead = duration(facts.moment - market.now)
        return Verdict(
            "future", f"that is {ahead} ahead; its market is at {_clock(facts, market.now)}"
        )
    if market.state == "behind":
        return Verdict("feed_behind", f"the feed is behind: it was heard until {heard}", tone="bad")
    return Verdict("not_closed", f"that bar has not closed yet; its market is at {heard}")


# Judges: what is on record --------------------------------------------------------------------


def _decided(facts: Facts) -> Verdict | None:
    decision = facts.decision
    if decision is None:
        return None
    judge = {"ordered": _ordered, "denied": _denied, "refused": _refused, "nothing": _nothing}
    return judge[decision.outcome](facts, decision)


def _denied(facts: Facts, decision: DecisionFacts) -> Verdict:
    failed = [check for check in decision.checks if not check["allowed"]]
    said = "; ".join(_over(check, facts.symbol) for check in failed) or decision.reason
    return Verdict("denied", f"denied by risk: {said}", tone="warning")


def _over(check: Mapping[str, Any], symbol: str) -> str:
    """A rule's no with its value and limit."""
    value, limit = check.get("value"), check.get("limit")
    words = str(check["rule"]).replace("_", " ")
    if value is None or limit is None:
        return f"{words}: {str(check.get('text', '')).removesuffix(': denied')}"
    phrase = _RULES.get(str(check["rule"]))
    if phrase is None:
        return f"{words}: {check.get('text', '')}"
    shown = (
        (percent(value), percent(limit))
        if check.get("unit") == "%"
        else (number(value), number(limit))
    )
    return phrase.format(value=shown[0], limit=shown[1], symbol=symbol, bars=_bars_in(check))


_RULES: Final = {
    "position_size": "position size {value} of equity would exceed {limit}",
    "max_drawdown": "equity stands {value} below its peak, and {limit} is the limit",
    "concentration": "{symbol} would be {value} of equity, over {limit}",
    "volatility": "its {bars}volatility of {value} a year is over {limit}",
    "liquidity": "the order would be {value} of the {bars}mean traded value, over {limit}",
    "max_positions": "it would be the {value}th instrument held, over {limit}",
    "margin": "used margin would be {value} of equity, over {limit}",
}


def _bars_in(check: Mapping[str, Any]) -> str:
    found = re.search(r"(\d+)-bar", str(check.get("text", "")))
    return f"{found[1]}-bar " if found else ""


def _refused(facts: Facts, decision: DecisionFacts) -> Verdict:
    """The release said no: the trading state that did, by whom and since when."""
    blocking = [s for s in facts.states if s.state != "running"]
    if not blocking:
        return Verdict("refused", f"its release was refused: {decision.reason}", tone="bad")
    strict = max(blocking, key=lambda s: STRICT.index(s.state))
    since = f" since {_clock(facts, strict.since)}" if strict.since else ""
    why = f" ({strict.reason})" if strict.reason else ""
    where = _SCOPES.get(strict.scope, "").format(id=strict.scope_id, symbol=facts.symbol)
    what = f"trading was {strict.state.replace('_', '-')}{where} by {strict.actor}{since}{why}"
    if strict.state == "reduce_only":
        what += ", and this would have made its position larger"
    return Verdict(f"refused_{strict.state}", what, tone="bad")


_SCOPES: Final = {
    "account": " for this account",
    "venue": " for venue {id}",
    "strategy": " for this strategy",
    "instrument": " for {symbol}",
}


def _nothing(facts: Facts, decision: DecisionFacts) -> Verdict:
    reason, target = decision.reason, decision.target or 0.0
    if any(step["name"] == "short" for step in decision.steps) and facts.held == 0:
        return Verdict(
            "long_only", f"its target {target:g} is short, and this account trades long only"
        )
    if reason == "nothing is held":
        return Verdict(
            "already_met",
            f"{_led(decision.because)}its target {target:g} is met already: nothing is held",
        )
    if reason == "what is held is what is wanted":
        holds = f"it already holds the {_base(facts)} its target {target:g} wants"
        return Verdict("already_met", f"{_led(decision.because)}{holds}")
    if "volatility is not known" in reason:
        text = next((str(s["text"]) for s in decision.steps if s["name"] == "volatility"), "")
        return Verdict(
            "size_unknown", f"its size cannot be known: the volatility {text or 'is not known yet'}"
        )
    if (found := re.search(r"^the (\w+) of its (\w+) is not known yet", reason)) is not None:
        return Verdict(
            "exit_unknown",
            f"the {found[1]} of its {found[2]} was not known yet, and it does not enter unprotected",
        )
    return _too_little(facts, decision) or Verdict(
        "nothing", reason or "there was nothing to order"
    )


def _too_little(facts: Facts, decision: DecisionFacts) -> Verdict | None:
    """What was left after sizing is less than can be ordered."""
    reason = decision.reason
    if reason == "no free cash":
        return Verdict("no_cash", "there was no free cash")
    lot = f"one lot of {facts.lot.normalize():f}" if facts.lot is not None else "what can be traded"
    below_lot = "less than one lot" in reason or reason == "nothing is left after rounding to lots"
    cash = _free_cash(decision.steps)
    if below_lot and cash is not None:
        kind, amount = cash
        return Verdict(
            "no_cash", f"free {kind} {money(amount)} {facts.quote} pays for less than {lot}"
        )
    if below_lot:
        size = next(
            (abs(float(s["value"])) for s in reversed(decision.steps) if s["name"] == "change"),
            None,
        )
        shown = number(size) if size is not None else reason.partition(" ")[0]
        return Verdict("below_lot", f"its size {shown} {facts.base} is less than {lot}")
    if "under the venue's minimum" in reason:
        return Verdict("below_minimum", f"its size {reason}")
    return None


def _free_cash(steps: Iterable[Mapping[str, Any]]) -> tuple[str, float] | None:
    for step in steps:
        if step["name"] == "cash":
            found = re.search(
                r"free (cash|margin) ([\d.e+-]+)|([\d.e+-]+) free (cash|margin)", str(step["text"])
            )
            if found:
                return found[1] or found[4], float(found[2] or found[3])
    return None


# Judges: what became of orders ------------------------------------------------------------------


def _ordered(facts: Facts, decision: DecisionFacts) -> Verdict:
    """One sentence for the orders of a decision: what traded, or what became of the one that did not."""
    mains = [order for order in decision.orders if order.leg not in PROTECTIVE]
    traded = [order for order in mains if order.filled]
    if traded:
        return _traded(facts, decision, traded)
    if not mains:
        return Verdict("ordered", "its order is on record, and nothing became of it yet")
    return _unfilled(facts, mains[-1])


def _traded(facts: Facts, decision: DecisionFacts, orders: Sequence[OrderFacts]) -> Verdict:
    parts = [
        f"{'bought' if order.side == 'buy' else 'sold'} {_part(order)}{facts.symbol if n == 0 else 'more'} at {number(order.average)}"
        for n, order in enumerate(orders)
    ]
    left = [order for order in orders if order.quantity and order.filled < order.quantity]
    because = decision.because or decision.kind.replace("_", " ")
    text = f"It {' and '.join(parts)}, decided {_when(facts)}: {because}"
    if left:
        text += f"; the rest {_fate(facts, left[-1])}"
    return Verdict("partly_traded" if left else "traded", text, traded=True, whole=True)


def _part(order: OrderFacts) -> str:
    if order.quantity and order.filled < order.quantity:
        return f"{number(order.filled)} of {number(order.quantity)} "
    return f"{number(order.filled)} "


def _unfilled(facts: Facts, order: OrderFacts) -> Verdict:
    what = _order_words(facts, order)
    if order.state in ("working", "cancelling"):
        return Verdict("working", f"{what} still works{_reach(order)}", tone="info")
    if order.state == "unknown":
        return Verdict(
            "order_unknown",
            f"nobody knows what became of {what}: the venue is being asked",
            tone="bad",
        )
    if order.state == "rejected":
        why = f": {order.reason}" if order.reason else ""
        return Verdict("rejected", f"the venue rejected {what}{why}", tone="bad")
    if order.state in ("cancelled", "expired"):
        never = (
            f" never reached its price{_extreme(order)} and" if order.limit or order.stop else ""
        )
        return Verdict(order.state, f"{what}{never} {_fate(facts, order)}")
    if order.state == "new":
        return Verdict("released", f"{what} is released and not sent yet", tone="info")
    return Verdict("sent", f"{what} is sent, and the market has not traded since", tone="info")


def _order_words(facts: Facts, order: OrderFacts) -> str:
    level = order.limit if order.limit is not None else order.stop
    size = f" {number(order.quantity)}" if order.quantity else ""
    at = f" at {number(level)}" if level is not None else ""
    return f"its {order.type.replace('_', ' ')} order to {order.side}{size} {facts.base}{at}"


def _fate(facts: Facts, order: OrderFacts) -> str:
    at = f" at {_clock(facts, order.ended_at)}" if order.ended_at else ""
    if order.state == "expired":
        return f"expired{at}"
    if order.state == "cancelled" and order.ended_by:
        return f"was cancelled{at} by {order.ended_by}"
    if order.state == "cancelled":
        why = {"asked": "", "replaced": " when a later decision took its place"}.get(
            order.reason, f" ({order.reason})" if order.reason else ""
        )
        return f"was cancelled{at}{why}"
    return "still works"


def _reach(order: OrderFacts) -> str:
    """How near the market came to the level of an order that works on."""
    found, word = _nearest(order)
    return "" if found is None else f"; the price came no {word} than {number(found)}"


def _extreme(order: OrderFacts) -> str:
    """The same of one that ended."""
    found, word = _nearest(order)
    return "" if found is None else f" ({word.removesuffix('er')}est {number(found)})"


def _nearest(order: OrderFacts) -> tuple[float | None, str]:
    """The market's extreme on the order's side: a limit to buy and a stop to sell lie below it."""
    if order.limit is None and order.stop is None:
        return None, ""
    below = (order.side == "buy") == (order.limit is not None)
    return (order.lowest, "lower") if below else (order.highest, "higher")


def _filled_here(facts: Facts) -> Verdict | None:
    """No decision at this moment, and yet a trade: an order of before reached its price inside the bar."""
    if not facts.fills:
        return None
    fill = facts.fills[-1]
    verb = "bought" if fill.side == "buy" else "sold"
    why = {
        "stop_loss": "its stop loss was hit",
        "take_profit": "its target was reached",
        "trailing_stop": "its trailing stop was hit",
        "time_exit": "it had held for long enough",
    }.get(fill.leg, "an order decided earlier reached its price")
    text = f"It {verb} {number(fill.quantity)} {facts.symbol} at {number(fill.price)} at {_clock(facts, fill.at)}: {why}"
    return Verdict("traded", text, traded=True, whole=True)


# Judges: the bar, the strategy's life, the signal --------------------------------------------------


def _no_bar(facts: Facts) -> Verdict | None:
    bar = facts.bar
    first, last = bar.hole
    if bar.status in ("found", "quiet"):
        return None
    if bar.status == "closed":
        hours = _HOURS.get(bar.calendar, "")
        return Verdict("market_closed", f"no bar: the market was closed{hours}")
    if bar.status == "gap":
        return Verdict(
            "gap",
            f"no bar: the bars from {_clock(facts, first)} to {_clock(facts, last)} are missing",
            tone="warning",
        )
    if bar.status == "before":
        return Verdict(
            "before_data",
            f"no bar: the stored bars of {facts.symbol} begin {_at(facts, first)}",
        )
    if bar.status == "after":
        return Verdict(
            "after_data",
            f"no bar: the stored bars of {facts.symbol} end {_at(facts, last)}",
        )
    return Verdict(
        "no_bars",
        f"no bar: no bars of {facts.symbol} are stored at {interval_text(facts.interval)}",
    )


_HOURS: Final = {
    "XNYS": " (XNYS trades 09:30 to 16:00 New York, weekdays)",
    "24/5": " (it trades from Sunday 17:00 to Friday 17:00 New York)",
}


def _not_running(facts: Facts) -> Verdict | None:
    life = facts.life
    if facts.is_run or life.status == "running":
        return None
    since = f" at {_clock(facts, life.since)}" if life.since else ""
    by = f" by {life.by}" if life.by else ""
    text = f": {life.text}" if life.text else ""
    said = {
        "not_created": f"{facts.name} did not exist yet: it was made{since}{by}",
        "not_started": f"{facts.name} had not been started"
        + (f": it was{since}{by}" if since else ""),
        "stopped": f"{facts.name} was stopped{since}{by}"
        + (f" ({life.text})" if life.text else ""),
        "failed": f"{facts.name} had failed{since}{text}",
        "quarantined": f"{facts.name} was quarantined{since}{text}",
    }[life.status]
    bad = life.status in ("failed", "quarantined")
    return Verdict(life.status, said, tone="bad" if bad else "warning")


def _signal(facts: Facts) -> Verdict:
    """Nothing was decided, so the target did not act: why not."""
    signal = facts.signal
    if signal is None:
        return Verdict(
            "unknown", "no decision is on record, and the strategy could not be evaluated again"
        )
    if signal.error:
        return Verdict("code_fails", f"its code fails on these bars: {signal.error}", tone="bad")
    if math.isnan(signal.target):
        return _left(facts, signal)
    if signal.target == signal.standing:
        return _stayed(facts, signal)
    if signal.target == signal.before:
        return _as_before(facts, signal)
    text = f"{_led(signal.because)}its target changed from {signal.standing:g} to {signal.target:g}, and no decision is on record"
    return Verdict("not_at_work", f"{text}: it was not at work at that moment", tone="warning")


def _left(facts: Facts, signal: SignalFacts) -> Verdict:
    blank = [f for f in signal.features if math.isnan(f.now)]
    if signal.had < signal.needed and (blank or not signal.features):
        return Verdict("warm_up", f"{signal.had} of {signal.needed} bars of warm-up were there")
    if blank:
        names = _and([f.name.replace("_", " ") for f in blank])
        return Verdict(
            "feature_unknown",
            f"{names} {'was' if len(blank) == 1 else 'were'} not known, so it said nothing new and {_holding(facts)}",
        )
    return Verdict("leaves", f"{_led(signal.because)}it said nothing new and {_holding(facts)}")


def _stayed(facts: Facts, signal: SignalFacts) -> Verdict:
    led = _led(signal.because)
    open_order = _still_open(facts.earlier)
    if open_order is not None:
        at = _clock(facts, facts.earlier.at) if facts.earlier else ""
        words = f"its {open_order.type.replace('_', ' ')} order of {at} for it still works"
        return Verdict(
            "order_working", f"{led}its target stayed {signal.target:g}, and {words}", tone="info"
        )
    if (
        signal.band is not None
        and signal.exposure is not None
        and signal.wanted is not None
        and signal.target
    ):
        text = f"its exposure of {percent(signal.exposure)} is within {percent(signal.band)} of the {percent(signal.wanted)} wanted"
        return Verdict("within_band", f"{led}its target stayed {signal.target:g} and {text}")
    holds = "it already holds that" if signal.target else "nothing is held"
    return Verdict("unchanged", f"{led}its target stayed {signal.target:g} and {holds}")


def _as_before(facts: Facts, signal: SignalFacts) -> Verdict:
    """The same target as the moment before does not act again; what kept it from standing is said."""
    text = f"{_led(signal.because)}its target stayed {signal.target:g} as the moment before, and a target acts only when it changes"
    earlier = facts.earlier
    if earlier is None:
        return Verdict("as_before", text)
    at = _clock(facts, earlier.at)
    closing = [o for o in earlier.orders if o.leg in PROTECTIVE and o.filled]
    if earlier.outcome == "denied":
        failed = [check for check in earlier.checks if not check["allowed"]]
        rules = _and([str(check["rule"]).replace("_", " ") for check in failed]) or "risk"
        return Verdict("as_before_denied", f"{text}; {rules} denied it at {at}", tone="warning")
    if earlier.outcome == "refused":
        return Verdict(
            "as_before_refused", f"{text}; its release was refused at {at}", tone="warning"
        )
    if closing:
        ended = _clock(facts, closing[-1].ended_at) if closing[-1].ended_at else at
        leg = closing[-1].leg.replace("_", " ")
        return Verdict("as_before_stopped_out", f"{text}; its {leg} closed the position at {ended}")
    if earlier.outcome == "nothing":
        return Verdict("as_before_nothing", f"{text}; at {at} it came to nothing: {earlier.reason}")
    return Verdict("as_before", f"{text}; it last acted at {at}")


def _still_open(decision: DecisionFacts | None) -> OrderFacts | None:
    if decision is None:
        return None
    return next(
        (
            o
            for o in decision.orders
            if o.leg == "entry"
            and o.state in ("new", "submitted", "working", "cancelling", "unknown")
        ),
        None,
    )


JUDGES: Final[tuple[Judge, ...]] = (
    _foreign,
    _outside_run,
    _not_heard,
    _decided,
    _filled_here,
    _no_bar,
    _not_running,
    _signal,
)


# Sections --------------------------------------------------------------------------------------


def sections(facts: Facts) -> tuple[Section, ...]:
    """The whole record, in the order things happen."""
    found = (
        _bar_section(facts),
        _inputs_section(facts),
        _signal_section(facts),
        *_decision_sections(facts),
        _states_section(facts),
        _life_section(facts),
    )
    return tuple(section for section in found if section is not None)


def _bar_section(facts: Facts) -> Section | None:
    bar = facts.bar
    if bar.opened_at is None or bar.closed_at is None:
        verdict = _no_bar(facts)
        return Section(
            "bar", "The bar", "record", (Line("Bar", verdict.reason if verdict else "none"),)
        )
    lines = [
        Line(
            "Span",
            f"{_clock(facts, bar.opened_at, day=True)} to {_clock(facts, bar.closed_at, day=True)}",
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
        Line("Target", f"{_target(signal.target)} (the moment before {_target(signal.before)})"),
        Line("Stood at", f"{signal.standing:g}, holding {_base(facts)}"),
    ]
    if signal.because:
        lines.append(Line("Because", signal.because))
    if signal.exposure is not None and signal.wanted is not None:
        band = f", band {percent(signal.band)}" if signal.band is not None else ""
        lines.append(
            Line("Exposure", f"{percent(signal.exposure)} of {percent(signal.wanted)} wanted{band}")
        )
    return Section("signal", "Features and signal", "again", tuple(lines), note=signal.caveat)


def _decision_sections(facts: Facts) -> tuple[Section | None, ...]:
    decision = facts.decision
    if decision is None:
        return (None,)
    lines = [
        Line("Kind", decision.kind.replace("_", " "), link=decision.link),
        Line("Wanted", f"{_target(decision.target)}, before {_target(decision.previous)}"),
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
    parts = [order.state]
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
            f"by {s.actor}{f' since {_clock(facts, s.since, day=True)}' if s.since else ''}"
            f"{f' until {_clock(facts, s.until, day=True)}' if s.until else ''}{f': {s.reason}' if s.reason else ''}",
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
        lines.append(Line("Market heard until", _clock(facts, market.heard_until, day=True)))
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


# Words ---------------------------------------------------------------------------------------


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


def _clock(facts: Facts, at: datetime | None, *, day: bool = False) -> str:
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


def _at(facts: Facts, at: datetime | None) -> str:
    """`at 14:32`, or `on 12 Sep 2026` where moments are days."""
    preposition = "on" if facts.interval >= DAY else "at"
    return f"{preposition} {_clock(facts, at)}"


def _led(because: str) -> str:
    """A reason that leads to what follows."""
    return f"{because.rstrip('.')}, so " if because else ""


def _target(value: float | None) -> str:
    return "nothing new" if value is None or math.isnan(value) else f"{value:g}"


def _base(facts: Facts) -> str:
    return f"{number(facts.held)} {facts.base}" if facts.held else "nothing"


def _holding(facts: Facts) -> str:
    return f"it went on holding {_base(facts)}" if facts.held else "nothing is held"


def _and(names: Iterable[str]) -> str:
    listed = list(names)
    if len(listed) < 2:
        return "".join(listed) or "nothing"
    return f"{', '.join(listed[:-1])} and {listed[-1]}"
