"""The life of one order, told from its events alone and held against the row that stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, url_for

from shared.db.console import CommandRow
from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    FillRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
)
from shared.domain.orders import Order, OrderType
from shared.domain.story import (
    Chapter,
    Difference,
    Story,
    differences,
    fill_of,
    recorded_of,
    request_of,
    taken,
    tell,
)
from webapp import auth, closeup
from webapp.accounts import ORDER_TONES
from webapp.charts import json_answer
from webapp.db import db
from webapp.formats import duration, money, percent, plural, price, quantity

bp = Blueprint("story", __name__, url_prefix="/books/orders")

TITLES: Final = {
    "held": "Held back",
    "submitted": "Sent",
    "acknowledged": "Acknowledged",
    "triggered": "Triggered",
    "cancelsent": "Cancel asked",
    "cancelrefused": "Cancel refused",
    "amended": "Amended",
    "amendrefused": "Amendment refused",
    "cancelled": "Cancelled",
    "expired": "Expired",
    "rejected": "Rejected",
    "wentunknown": "Unknown",
    "fill": "Filled",
}
TONES: Final = {
    "submitted": "info",
    "acknowledged": "info",
    "triggered": "info",
    "cancelsent": "warning",
    "cancelrefused": "warning",
    "amended": "info",
    "amendrefused": "warning",
    "rejected": "bad",
    "wentunknown": "bad",
    "fill": "good",
}
TERMS: Final = {"quantity": "quantity", "stop_price": "stop", "limit_price": "limit"}
REASONS: Final = {
    "asked": "somebody asked for it",
    "replaced": "a later decision took its place",
}
COMMANDS: Final = {
    "PlaceOrder": "placed by hand",
    "AmendOrder": "change asked",
    "CancelOrder": "cancel asked",
    "CancelOrders": "cancel of all asked",
    "ClosePosition": "close asked",
    "ProtectPosition": "protection asked",
    "ForceEntry": "entry forced",
    "ForceExit": "exit forced",
    "StopTrading": "trading stopped",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline. `passed`: machine time since the line before."""

    title: str
    text: str
    tone: str
    market_at: datetime | None
    machine_at: datetime
    passed: timedelta | None = None
    link: str = ""
    note: str = ""
    is_late: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True)
class Relative:
    """An order this one belongs with: where it stands in the tree and in its life."""

    order: OrderRow
    intent: OrderIntentRow
    depth: int
    is_this: bool
    relation: str


@dataclass(frozen=True, slots=True)
class Told:
    """Everything the page shows."""

    order: OrderRow
    intent: OrderIntentRow
    instrument: InstrumentRow
    strategy: StrategyRow | None
    account: AccountRow
    decision: DecisionRow | None
    story: Story
    entries: list[Entry]
    differences: tuple[Difference, ...]
    family: list[Relative]

    @property
    def average(self) -> Decimal | None:
        filled = self.story.order.filled
        return self.story.order.filled_value / filled if filled else None

    @property
    def slippage(self) -> Decimal | None:
        """What the fills cost against the price it was decided at, as a fraction; above 0 is worse.
        Protection trades at a level of its own, not near that price."""
        is_protective = self.story.order.request.leg.is_protective
        decided = self.decision.price if self.decision and not is_protective else None
        if not decided or self.average is None:
            return None
        return (self.average / decided - 1) * self.story.order.request.side.sign


@bp.get("/<uuid:client_order_id>")
@auth.viewer
def page(client_order_id: UUID) -> str:
    """One order: what was asked, all that became of it in order, and whether its row says the same."""
    told = _told(client_order_id)
    return render_template(
        "story/page.html",
        told=told,
        summary=summary(told),
        spans=[(name, span_text(span)) for name, span in taken(told.story).items()],
        order_tones=ORDER_TONES,
        span_text=span_text,
        has_children=len(told.family) > 1,
        is_trailing=told.story.order.request.type is OrderType.TRAILING_STOP,
    )


@bp.get("/<uuid:client_order_id>/chart.json")
@auth.viewer
def chart(client_order_id: UUID) -> Response:
    """Candles around the order's life, its levels, its fills."""
    told = _told(client_order_id)
    interval = int((told.decision.bar or {}).get("interval", 60)) if told.decision else 60
    last = told.story.chapters[-1].recorded.at if told.story.chapters else told.intent.decided_at
    drawn = closeup.closeup(told.instrument, interval, told.intent.decided_at, last)
    fills = list(db.session.scalars(_fills(client_order_id)))
    order = told.order
    return json_answer(
        {
            **drawn,
            "markers": closeup.marks(fills),
            "levels": [
                *closeup.level(order.limit_price, "limit"),
                *closeup.level(order.stop_price, "stop"),
                *closeup.level(told.average, "average", "accent"),
            ],
            "bar": None,
            "features": [],
        }
    )


def _told(client_order_id: UUID) -> Told:
    row = db.session.get(OrderRow, client_order_id)
    if row is None:
        abort(404)
    intent = db.session.get_one(OrderIntentRow, client_order_id)
    instrument = db.session.get_one(InstrumentRow, row.instrument_id)
    decision = db.session.get(DecisionRow, intent.decision_id)
    story = story_of(intent)
    return Told(
        order=row,
        intent=intent,
        instrument=instrument,
        strategy=db.session.get(StrategyRow, row.strategy_id) if row.strategy_id else None,
        account=db.session.get_one(AccountRow, row.account_id),
        decision=decision,
        story=story,
        entries=_entries(intent, decision, story, instrument),
        differences=differences(story, row),
        family=_family(intent),
    )


def story_of(intent: OrderIntentRow) -> Story:
    """The story of an intent, from its events and fills."""
    id_ = intent.client_order_id
    events = sa.select(OrderEventRow).where(OrderEventRow.client_order_id == id_)
    return tell(
        request_of(intent),
        [recorded_of(row) for row in db.session.scalars(events.order_by(OrderEventRow.id))],
        [fill_of(row) for row in db.session.scalars(_fills(id_))],
    )


def _fills(client_order_id: UUID) -> sa.Select[FillRow]:
    return sa.select(FillRow).where(FillRow.client_order_id == client_order_id).order_by(FillRow.id)


def span_text(span: timedelta) -> str:
    """A duration down to milliseconds: machines are quick."""
    milliseconds = span.total_seconds() * 1000
    if milliseconds < 1:
        return "< 1 ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else duration(span)


# The timeline --------------------------------------------------------------------------------


def _entries(
    intent: OrderIntentRow,
    decision: DecisionRow | None,
    story: Story,
    instrument: InstrumentRow,
) -> list[Entry]:
    """Decision, commands, release and events, in the order the machine knew of them."""
    found = [*_beginnings(intent, decision), *_pressed(intent)]
    found += [_entry(chapter, instrument) for chapter in story.chapters]
    found.sort(
        key=lambda entry: entry.machine_at
    )  # stable: events keep the order they were heard in
    return [
        _since(entry, found[place - 1].machine_at if place else None)
        for place, entry in enumerate(found)
    ]


def _since(entry: Entry, before: datetime | None) -> Entry:
    return entry if before is None else replace(entry, passed=entry.machine_at - before)


def _beginnings(intent: OrderIntentRow, decision: DecisionRow | None) -> Iterator[Entry]:
    if decision is not None:
        yield Entry(
            "Decided",
            decision.because or decision.kind.replace("_", " "),
            "accent",
            decision.decided_at,
            decision.recorded_at,
            link=url_for("books.decision", decision_id=decision.id),
        )
    text = "committed with its decision, before any venue heard of it"
    yield Entry("Released", text, "accent", intent.decided_at, intent.released_at)


def _pressed(intent: OrderIntentRow) -> Iterator[Entry]:
    """What people asked of this order: commands that name it, or that answered with it."""
    id_ = str(intent.client_order_id)
    links = (f"/books/orders/{id_}", f"/decisions/{intent.decision_id}")
    query = sa.select(CommandRow).where(
        sa.or_(
            CommandRow.arguments["order_id"].astext == id_,
            CommandRow.result["link"].astext.in_(links),
        )
    )
    for row in db.session.scalars(query.order_by(CommandRow.created_at)):
        words = COMMANDS.get(row.kind, row.kind)
        said = str((row.result or {}).get("text", ""))
        yield Entry(f"{words.capitalize()} by {row.actor}", said, "accent", None, row.created_at)


def _entry(chapter: Chapter, instrument: InstrumentRow) -> Entry:
    late = chapter.is_late and chapter.kind == "fill"
    notes = []
    if late:
        notes.append(f"late: it was {chapter.before.state.value} already, and a fill is a fill")
    elif chapter.is_late:
        notes.append(f"heard after it was {chapter.before.state.value}: changes nothing")
    if chapter.unknown_for is not None:
        notes.append(f"nobody knew for {span_text(chapter.unknown_for)} what had become of it")
    if chapter.problem:
        notes.append(chapter.problem)
    return Entry(
        title=_title(chapter, instrument),
        text=_words(chapter, instrument),
        tone="bad" if chapter.problem else TONES.get(chapter.kind, ""),
        market_at=chapter.recorded.at,
        machine_at=chapter.recorded.recorded_at,
        note="; ".join(notes),
        is_late=late,
        state=chapter.after.state.value if chapter.changes_state else "",
    )


def _title(chapter: Chapter, instrument: InstrumentRow) -> str:
    if chapter.kind != "fill" or chapter.fill is None:
        return TITLES.get(chapter.kind, chapter.kind)
    fill = chapter.fill
    verb = "Filled" if chapter.after.is_complete else "Partly filled"
    return f"{verb}: {quantity(fill.quantity)} at {price(fill.price, instrument.tick_size)}"


def _words(chapter: Chapter, instrument: InstrumentRow) -> str:
    said = REASONS.get(chapter.reason, chapter.reason)
    if chapter.kind == "fill" and chapter.fill is not None:
        return _fill_words(chapter, instrument)
    if chapter.kind == "amended":
        return ", ".join(
            f"{TERMS[c.name]} {_term(c.name, c.before, instrument)} → {_term(c.name, c.after, instrument)}"
            for c in chapter.changes
        )
    if chapter.kind == "acknowledged":
        return _acknowledged(chapter, instrument)
    if chapter.kind == "held":
        return "waits at our side until its parent fills"
    if chapter.kind == "wentunknown":
        return said or "the venue may or may not have it: it is asked, and nothing is sent again"
    return said


def _fill_words(chapter: Chapter, instrument: InstrumentRow) -> str:
    fill, after = chapter.fill, chapter.after
    assert fill is not None
    asked = after.asked_quantity
    sum_ = f"{quantity(after.filled)} of {quantity(asked)}" if asked else quantity(after.filled)
    parts = [f"fee {money(fill.fee)} {fill.fee_asset}", fill.liquidity]
    if asked is None or fill.quantity != after.filled or not after.is_complete:
        parts.append(f"{sum_} {instrument.base_asset} so far")
    return " · ".join(part for part in parts if part)


def _acknowledged(chapter: Chapter, instrument: InstrumentRow) -> str:
    data = chapter.recorded.data
    parts = [f"the venue calls it {data['venue_order_id']}"] if data.get("venue_order_id") else []
    parts += [
        f"{TERMS[name]} {_term(name, data[name], instrument)}"
        for name in ("quantity", "limit_price", "stop_price")
        if data.get(name)
    ]
    return " · ".join(parts)


def _term(name: str, value: Any, instrument: InstrumentRow) -> str:
    return quantity(value) if name == "quantity" else price(value, instrument.tick_size)


# The family ----------------------------------------------------------------------------------


def _family(intent: OrderIntentRow) -> list[Relative]:
    """The orders it belongs with as a tree, walked from the top: parents, children, siblings."""
    top = intent
    while top.parent_id is not None:
        top = db.session.get_one(OrderIntentRow, top.parent_id)
    tops = [top]
    if top.oco is not None:
        query = sa.select(OrderIntentRow).where(
            OrderIntentRow.oco == top.oco, OrderIntentRow.parent_id.is_(None)
        )
        tops = list(db.session.scalars(query.order_by(OrderIntentRow.client_order_id)))
    found: list[Relative] = []
    for each in tops:
        _walk(each, intent, 0, len(tops) > 1, found)
    return found


def _walk(
    node: OrderIntentRow,
    this: OrderIntentRow,
    depth: int,
    has_siblings: bool,  # noqa: FBT001  (says how one node stands to the others)
    found: list[Relative],
) -> None:
    order = db.session.get_one(OrderRow, node.client_order_id)
    relation = "cancels its sibling" if has_siblings else ""
    if depth:
        relation = "waits for its parent" if order.state == "held" else "came with the fill"
        relation = f"{relation}, cancels its siblings" if has_siblings else relation
    is_this = node.client_order_id == this.client_order_id
    found.append(Relative(order, node, depth, is_this, relation))
    query = sa.select(OrderIntentRow).where(OrderIntentRow.parent_id == node.client_order_id)
    children = list(db.session.scalars(query.order_by(OrderIntentRow.leg, OrderIntentRow.attempt)))
    protective = [c for c in children if c.leg in ("stop_loss", "take_profit", "trailing_stop")]
    for child in children:
        _walk(child, this, depth + 1, len(protective) > 1 and child in protective, found)


# In one sentence -----------------------------------------------------------------------------


def summary(told: Told) -> str:
    """What became of it, with its numbers."""
    order, instrument = told.story.order, told.instrument
    fills = sum(chapter.kind == "fill" for chapter in told.story.chapters)
    if order.filled:
        return _filled_summary(told, fills)
    reason = REASONS.get(order.reason, order.reason)
    because = f": {reason}" if reason else ""
    level = price(_level(order), instrument.tick_size)
    waiting = {
        "new": "Released, and not sent yet.",
        "held": "Waits at our side for the fill of its parent.",
        "submitted": "Sent, and not acknowledged yet.",
        "working": f"Works at {level}: nothing has traded yet."
        if _level(order)
        else "Works at the venue: nothing has traded yet.",
        "cancelling": "A cancel is on its way; nothing has traded.",
        "unknown": "Nobody knows what became of it: the venue is asked, and nothing is sent again.",
        "cancelled": f"Cancelled without a fill{because}.",
        "expired": f"Expired without a fill{because}.",
        "rejected": f"Rejected by the venue{because}.",
    }
    return waiting.get(order.state.value, order.state.value)


def _filled_summary(told: Told, fills: int) -> str:
    order, instrument = told.story.order, told.instrument
    verb = "Bought" if order.request.side == "buy" else "Sold"
    asked = order.asked_quantity
    of = f" of {quantity(asked)}" if asked is not None and not order.is_complete else ""
    text = f"{verb} {quantity(order.filled)}{of} {instrument.base_asset} at {price(told.average, instrument.tick_size)}"
    text += f" on average in {plural(fills, 'fill')}" if fills > 1 else ""
    if told.slippage is not None and told.slippage != 0:
        worse = "worse" if told.slippage > 0 else "better"
        text += f", {percent(abs(told.slippage))} {worse} than the price it was decided at"
    if order.is_done and not order.is_complete:
        text += f"; the rest was {order.state.value}"
    return f"{text}."


def _level(order: Order) -> float | None:
    request = order.request
    for level in (order.limit_price, order.stop_price, request.limit_price, request.stop_price):
        if level is not None:
            return level
    return None
