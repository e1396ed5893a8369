"""What is pressed on the trade page: each press one command, however often it is pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from flask import abort, redirect, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import CommandRow
from shared.db.trading import OrderRow, PositionRow, StrategyRow
from shared.messages import (
    AdoptPosition,
    AmendOrder,
    CancelOrder,
    CancelOrders,
    ClosePosition,
    ForceEntry,
    ForceExit,
    PlaceOrder,
    ProtectPosition,
)
from webapp import auth, commands, live
from webapp.db import db
from webapp.formats import decimal
from webapp.frame import zone
from webapp.partials import is_partial, partial
from webapp.trade import desk, page, preview, ticket
from webapp.trade.blueprint import bp
from webapp.trade.page import Place

# The ticket ------------------------------------------------------------------------------------


@bp.post("/preview")
@auth.trader
def ask_preview() -> AnyResponse:
    """What the ticket would do. Every press asks anew: a preview changes nothing."""
    here = page.place()
    entered = _with_share(ticket.typed(request.form), here)
    row = commands.ask_and_wait(_place_order(here, entered), uuid4())
    return _ticket_answer(here, row)


def _with_share(entered: dict[str, str], here: Place) -> dict[str, str]:
    """The size of a pressed 25/50/75/100 %: of what is held when selling it, else of equity."""
    share = request.form.get("share", "")
    if not share.isdecimal():
        return entered
    held = desk.held_by_hand(here.account, here.instrument)
    reduces = held > 0 if entered["side"] == "sell" else held < 0
    of_held = {"reduce_only": "yes"} if reduces else {}
    return {**entered, "size": share, "size_in": "percent", **of_held}


def _place_order(here: Place, entered: dict[str, str]) -> PlaceOrder:
    return PlaceOrder(
        account_id=here.account.id,
        instrument_id=here.instrument.id,
        **ticket.orders(entered, zone()),
        note=entered.get("note", ""),
        preview=True,
    )


def _ticket_answer(here: Place, row: CommandRow, *, again: bool = False) -> AnyResponse:
    if is_partial():
        trigger = "refresh" if not row.arguments.get("preview") else None
        return partial(page.ticket_part_html(here, row, again=again), trigger=trigger)
    return redirect(here.url("page", order=row.id) + "#ticket", code=303)


@bp.post("/send")
@auth.trader
def send() -> AnyResponse:
    """The order of a preview. Its command's id comes from the preview's, so that it is sent once.

    A preview older than half a minute is not sent but made again.
    """
    seen = desk.newest_of(page.asked_id("preview"), ("PlaceOrder",), current_user.username)
    if seen is None or not seen.arguments.get("preview") or seen.state != "done":
        abort(409, "preview: there is none to send. Preview the order first.")
    here = _place_of(seen)
    sent = db.session.get(CommandRow, preview.sent_by(seen.id))
    if sent is None and preview.is_stale(seen, live.now()):
        asked = PlaceOrder(**seen.arguments)
        return _ticket_answer(here, commands.ask_and_wait(asked, uuid4()), again=True)
    order = PlaceOrder(**{**seen.arguments, "preview": False})
    return _ticket_answer(here, commands.ask(order, preview.sent_by(seen.id)))


def _place_of(row: CommandRow) -> Place:
    """Where a ticket is for, as its command says."""
    account = desk.account_of(row.arguments["account_id"])
    wanted = row.arguments["instrument_id"]
    every = desk.tradable(account) if account else []
    instrument = next((i for i in every if i.id == wanted), None)
    if account is None or instrument is None:
        abort(409, "What this ticket is for is not traded here any more.")
    return Place(account, instrument)


# Orders ----------------------------------------------------------------------------------------


def _order(order_id: UUID) -> OrderRow:
    row = db.session.get(OrderRow, order_id)
    if row is None:
        abort(404, "There is no such order.")
    return row


@bp.post("/orders/<uuid:order_id>/amend")
@auth.trader
def amend(order_id: UUID) -> AnyResponse:
    """Quantity and levels of a working order; what was left as it is stays what it is."""
    order, here = _order(order_id), page.place()
    changed = {
        name: _changed(request.form.get(name, ""), getattr(order, name))
        for name in ("quantity", "limit_price", "stop_price")
    }
    row = commands.ask_and_wait(AmendOrder(order_id=str(order_id), **changed))
    return _form_answer(here, row, f"amend-{order_id}", "orders", page.orders_part_html)


def _changed(text: str, now: Any) -> str:
    """What was typed, or "" when it is what it was."""
    plain = text.strip()[: ticket.LONGEST]
    typed = decimal(plain)
    return "" if typed is not None and now is not None and typed == now else plain


@bp.post("/orders/<uuid:order_id>/cancel")
@auth.trader
def cancel(order_id: UUID) -> AnyResponse:
    order = _order(order_id)
    row = commands.ask(CancelOrder(order_id=str(order.client_order_id)))
    back = url_for(".page", account=order.account_id, instrument=order.instrument_id)
    return commands.answer(row, f"{back}#orders")


@bp.post("/cancel-all")
@auth.trader
def cancel_all() -> AnyResponse:
    """Every working order of the account, or those in one instrument; stops and targets if ticked."""
    here = page.place()
    command = CancelOrders(
        account_id=here.account.id,
        instrument_id=here.instrument.id if request.form.get("only") == "instrument" else None,
        protection=request.form.get("protection") == "yes",
    )
    return commands.answer(commands.ask(command), here.url("page") + "#orders")


# Positions -------------------------------------------------------------------------------------


def _position(position_id: int) -> PositionRow:
    row = db.session.get(PositionRow, position_id)
    if row is None:
        abort(404, "There is no such position.")
    return row


def _owner(position: PositionRow) -> dict[str, Any]:
    return {"account_id": position.account_id, "instrument_id": position.instrument_id}


@bp.post("/positions/<int:position_id>/close")
@auth.trader
def close(position_id: int) -> AnyResponse:
    """At the market, all of it or a share; `reverse` ends with as much on the other side."""
    position, here = _position(position_id), page.place()
    reverse = request.form.get("reverse") == "yes"
    command = ClosePosition(
        **_owner(position),
        strategy_id=position.strategy_id,
        percent="100" if reverse else _text("percent", "100"),
        reverse=reverse,
    )
    what = "reverse" if reverse else "close"
    return _position_answer(here, commands.ask_and_wait(command), f"{what}-{position_id}")


@bp.post("/positions/<int:position_id>/protect")
@auth.trader
def protect(position_id: int) -> AnyResponse:
    """Stop and target, in place of those it has."""
    position, here = _position(position_id), page.place()
    command = ProtectPosition(
        **_owner(position),
        strategy_id=position.strategy_id,
        stop_loss=_text("stop_loss"),
        take_profit=_text("take_profit"),
        stop_trail=_text("stop_trail"),
    )
    return _position_answer(here, commands.ask_and_wait(command), f"protect-{position_id}")


@bp.post("/positions/<int:position_id>/adopt")
@auth.trader
def adopt(position_id: int) -> AnyResponse:
    """Hand it to another owner of the same account; "hand" is by hand."""
    position, here = _position(position_id), page.place()
    there = request.form.get("to", "")
    if there != "hand" and not there.isdecimal():
        abort(400, "to: choose who takes it over.")
    command = AdoptPosition(
        **_owner(position),
        from_strategy_id=position.strategy_id,
        to_strategy_id=int(there) if there != "hand" else None,
        quantity=_text("quantity"),
    )
    return _position_answer(here, commands.ask_and_wait(command), f"adopt-{position_id}")


def _text(name: str, otherwise: str = "") -> str:
    return request.form.get(name, "").strip()[: ticket.LONGEST] or otherwise


def _position_answer(here: Place, row: CommandRow, open_: str) -> AnyResponse:
    return _form_answer(here, row, open_, "positions", page.positions_part_html)


def _form_answer(
    here: Place,
    row: CommandRow,
    open_: str,
    part: str,
    html: Callable[[Place, CommandRow], str],
) -> AnyResponse:
    """The part with the form's answer in it; without JavaScript the page, with the answer there."""
    if is_partial():
        return partial(html(here, row), trigger="refresh" if row.state == "done" else None)
    if row.state == "done":
        return commands.settled_page(row, here.url("page") + f"#{part}")
    return redirect(here.url("page", open=open_, asked=row.id) + f"#{part}", code=303)


# Strategies ------------------------------------------------------------------------------------


def _strategy(strategy_id: int) -> StrategyRow:
    row = db.session.get(StrategyRow, strategy_id)
    if row is None:
        abort(404, "There is no such strategy.")
    return row


@bp.post("/strategies/<int:strategy_id>/enter")
@auth.trader
def force_entry(strategy_id: int) -> AnyResponse:
    """Let a running strategy enter one instrument now, as if its signal had said so."""
    strategy = _strategy(strategy_id)
    instrument_id = request.form.get("instrument", type=int)
    if instrument_id is None:
        abort(400, "instrument: choose what it shall enter.")
    row = commands.ask(
        ForceEntry(
            strategy_id=strategy.id, instrument_id=instrument_id, target=_text("target", "1")
        )
    )
    return commands.answer(row, url_for("strategies.detail", strategy_id=strategy.id))


@bp.post("/strategies/<int:strategy_id>/leave")
@auth.trader
def force_exit(strategy_id: int) -> AnyResponse:
    """Let a strategy leave one instrument, or all of them."""
    strategy = _strategy(strategy_id)
    instrument_id = request.form.get("instrument", type=int)
    row = commands.ask(ForceExit(strategy_id=strategy.id, instrument_id=instrument_id))
    return commands.answer(row, url_for("strategies.detail", strategy_id=strategy.id))
