"""Why it did, or did not, trade: from facts to one sentence.

Pure: whoever collects the facts says which of them are record and which were computed again.
Sentences name numbers and people; times are told in the asker's zone, market time unless they say otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from engine.why_facts import PROTECTIVE, DecisionFacts, Facts, OrderFacts, SignalFacts, Why
from engine.why_record import sections
from engine.why_words import (
    clock,
    dated,
    day_of,
    duration,
    held_words,
    holding,
    led,
    listed,
    money,
    number,
    percent,
)
from shared.domain.market import interval_text

STRICT: Final = ("running", "reduce_only", "halted")


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
    no_bar = _no_bar(facts)
    reason = verdict.reason.strip().rstrip(".")
    sentence = reason if verdict.whole else f"{_did_not(facts)}: {reason}"
    tone = verdict.tone or ("good" if verdict.traded else "")
    return Why(
        f"{sentence}.",
        verdict.outcome,
        verdict.traded,
        tone,
        sections(facts, no_bar.reason if no_bar else ""),
    )


def _did_not(facts: Facts) -> str:
    return f"It did not trade {facts.symbol} {_when(facts)}"


def _when(facts: Facts) -> str:
    """The time asked about; with its day when that is not the market's newest one."""
    at = facts.at if facts.at > facts.moment else facts.moment
    newest = None if facts.is_run else facts.market.heard_until
    return dated(facts, at, on_day=newest is None or day_of(facts, newest) != day_of(facts, at))


# Judges: what makes the question moot ------------------------------------------------------------


def _foreign(facts: Facts) -> Verdict | None:
    if facts.symbol in facts.trades:
        return None
    if facts.symbol in facts.reads:
        what = f"it only reads {facts.symbol} and trades {listed(facts.trades)}"
    else:
        what = f"{facts.name} does not read it (it trades {listed(facts.trades)})"
    return Verdict("not_traded_by_it", what)


def _outside_run(facts: Facts) -> Verdict | None:
    began, ended = facts.range
    if not facts.is_run:
        return None
    if began is not None and facts.moment <= began:
        return Verdict(
            "before_run",
            f"the run began {dated(facts, began)}; bars before it only warm up",
        )
    if ended is not None and facts.at >= ended + timedelta(seconds=facts.interval):
        return Verdict("after_run", f"the run ended {dated(facts, ended)}")
    if ended is not None and facts.moment >= ended and facts.decision is None:
        return Verdict("last_bar", "it is the run's last bar, after which nothing can fill")
    return None


def _not_heard(facts: Facts) -> Verdict | None:
    """The market has not got there, or nobody heard it."""
    market = facts.market
    if facts.is_run or (market.heard_until is not None and facts.moment <= market.heard_until):
        return None
    heard = "nothing yet" if market.heard_until is None else clock(facts, market.heard_until)
    if market.state == "waiting":
        return Verdict("replay_waiting", "its replay has not been started")
    if market.state == "finished":
        return Verdict("replay_finished", f"its replay finished {dated(facts, market.heard_until)}")
    if market.state == "away":
        since = f" since {clock(facts, market.since)}" if market.since else ""
        return Verdict(
            "engine_away",
            f"the engine is away{since}; it had heard the market until {heard}",
            tone="bad",
        )
    if market.now is not None and facts.moment > market.now:
        ahead = duration(facts.moment - market.now)
        return Verdict(
            "future", f"that is {ahead} ahead; its market is at {clock(facts, market.now)}"
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
    since = f" since {clock(facts, strict.since)}" if strict.since else ""
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
            f"{led(decision.because)}its target {target:g} is met already: nothing is held",
        )
    if reason == "what is held is what is wanted":
        holds = f"it already holds the {held_words(facts)} its target {target:g} wants"
        return Verdict("already_met", f"{led(decision.because)}{holds}")
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
    if reason == "the distance of an exit is not known yet":
        return Verdict(
            "exit_unknown",
            "the distance of an exit was not known yet, and it does not enter unprotected",
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
        if size is None and not reason[:1].isdigit():
            return Verdict("below_lot", f"what is left of its size is less than {lot}")
        shown = number(size) if size is not None else reason.partition(" ")[0]
        return Verdict("below_lot", f"its size {shown} {facts.base} is less than {lot}")
    if reason == "it is less than the venue takes":
        return Verdict("below_minimum", "its size is less than the venue takes")
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
    at = f" at {clock(facts, order.ended_at)}" if order.ended_at else ""
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
    text = f"It {verb} {number(fill.quantity)} {facts.symbol} at {number(fill.price)} at {clock(facts, fill.at)}: {why}"
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
            f"no bar: the bars from {clock(facts, first)} to {clock(facts, last)} are missing",
            tone="warning",
        )
    if bar.status == "before":
        return Verdict(
            "before_data",
            f"no bar: the stored bars of {facts.symbol} begin {dated(facts, first)}",
        )
    if bar.status == "after":
        return Verdict(
            "after_data",
            f"no bar: the stored bars of {facts.symbol} end {dated(facts, last)}",
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
    since = f" at {clock(facts, life.since)}" if life.since else ""
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
    text = f"{led(signal.because)}its target changed from {signal.standing:g} to {signal.target:g}, and no decision is on record"
    return Verdict("not_at_work", f"{text}: it was not at work at that moment", tone="warning")


def _left(facts: Facts, signal: SignalFacts) -> Verdict:
    blank = [f for f in signal.features if math.isnan(f.now)]
    if signal.had < signal.needed and (blank or not signal.features):
        return Verdict("warm_up", f"{signal.had} of {signal.needed} bars of warm-up were there")
    if blank:
        names = listed([f.name.replace("_", " ") for f in blank])
        return Verdict(
            "feature_unknown",
            f"{names} {'was' if len(blank) == 1 else 'were'} not known, so it said nothing new and {holding(facts)}",
        )
    return Verdict("leaves", f"{led(signal.because)}it said nothing new and {holding(facts)}")


def _stayed(facts: Facts, signal: SignalFacts) -> Verdict:
    lead = led(signal.because)
    open_order = _still_open(facts.earlier)
    if open_order is not None:
        at = clock(facts, facts.earlier.at) if facts.earlier else ""
        words = f"its {open_order.type.replace('_', ' ')} order of {at} for it still works"
        return Verdict(
            "order_working", f"{lead}its target stayed {signal.target:g}, and {words}", tone="info"
        )
    if (
        signal.band is not None
        and signal.exposure is not None
        and signal.wanted is not None
        and signal.target
    ):
        text = f"its exposure of {percent(signal.exposure)} is within {percent(signal.band)} of the {percent(signal.wanted)} wanted"
        return Verdict("within_band", f"{lead}its target stayed {signal.target:g} and {text}")
    holds = "it already holds that" if signal.target else "nothing is held"
    return Verdict("unchanged", f"{lead}its target stayed {signal.target:g} and {holds}")


def _as_before(facts: Facts, signal: SignalFacts) -> Verdict:
    """The same target as the moment before does not act again; what kept it from standing is said."""
    text = f"{led(signal.because)}its target stayed {signal.target:g} as the moment before, and a target acts only when it changes"
    earlier = facts.earlier
    if earlier is None:
        return Verdict("as_before", text)
    at = clock(facts, earlier.at)
    closing = [o for o in earlier.orders if o.leg in PROTECTIVE and o.filled]
    if earlier.outcome == "denied":
        failed = [check for check in earlier.checks if not check["allowed"]]
        rules = listed([str(check["rule"]).replace("_", " ") for check in failed]) or "risk"
        return Verdict("as_before_denied", f"{text}; {rules} denied it at {at}", tone="warning")
    if earlier.outcome == "refused":
        return Verdict(
            "as_before_refused", f"{text}; its release was refused at {at}", tone="warning"
        )
    if closing:
        ended = clock(facts, closing[-1].ended_at) if closing[-1].ended_at else at
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
