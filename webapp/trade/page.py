"""The page to trade on: candles and ticket above, positions, orders and what was asked below.

Every part has an address of its own and carries the account it speaks of, so that two tabs that look
at two accounts never mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from flask import Response, abort, render_template, request, url_for
from flask_login import current_user

from shared.db.console import CommandRow
from shared.db.market import InstrumentRow
from shared.db.trading import AccountRow
from shared.domain.market import interval_text
from webapp import accounts, auth, charts, commands, live
from webapp.frame import zone
from webapp.partials import is_current, partial, stamp, unchanged
from webapp.trade import desk, preview, ticket
from webapp.trade.blueprint import bp

SHARES: Final = (25, 50, 75, 100)
ACTIONS: Final = ("close", "reverse", "protect", "adopt")
"""What can be opened below a position."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one trades: the account, and the instrument the ticket is for."""

    account: AccountRow
    instrument: InstrumentRow

    def url(self, endpoint: str, **more: Any) -> str:
        """The address of a part, or of the page, of this account and instrument."""
        return url_for(
            f"trade.{endpoint}", account=self.account.id, instrument=self.instrument.id, **more
        )


def asked_place() -> Place | None:
    """Of the address or the form; the account looked at and its first instrument where they say nothing.

    404 for an account or instrument that is not there.
    """
    number = request.values.get("account", type=int)
    account = desk.account_of(number) if number is not None else accounts.chosen()
    if account is None:
        if "account" in request.values:
            abort(404, "There is no such account. Load the page again.")
        return None
    every = desk.tradable(account)
    wanted = request.values.get("instrument", type=int)
    chosen = next((i for i in every if i.id == wanted), None)
    if chosen is None and wanted is not None and "account" in request.values:
        abort(404, f"{account.name} does not trade such an instrument. Load the page again.")
    instrument = chosen or (every[0] if every else None)
    return Place(account, instrument) if instrument else None


def place() -> Place:
    """Of a part or a form, which always say it."""
    found = asked_place()
    if found is None:
        abort(404, "There is nothing to trade yet.")
    return found


def asked_id(name: str) -> UUID | None:
    """An id in the address or the form; None for none and for what is no id."""
    try:
        return UUID(request.values.get(name, ""))
    except ValueError:
        return None


@bp.get("/")
@auth.viewer
def page() -> str:
    """Everything of one account, with the ticket for one instrument."""
    here = asked_place()
    if here is None:
        return render_template("trade/nothing.html", account=accounts.chosen())
    accounts.choose(here.account.id)
    intervals = charts.intervals_of(here.instrument.id)
    asked = request.args.get("interval", type=int)
    interval = asked if asked in intervals else (intervals[0] if intervals else 60)
    return render_template(
        "trade/page.html",
        here=here,
        every_account=accounts.accounts(),
        instruments=desk.tradable(here.account),
        interval=interval,
        intervals=[(i, interval_text(i)) for i in intervals],
        quote=quote(here),
        recent=desk.recent(here.account),
        **ticket_context(here),
        **positions_context(here),
        **orders_context(here),
    )


# The live quote --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quoted:
    """The market now, and the means to trade on it."""

    quote: live.Quote | None
    last: Decimal | float | None
    equity: Decimal | None
    cash: Decimal | None
    by_hand: Decimal
    state: str
    version: str

    @property
    def spread(self) -> float | None:
        """Of the quote, as a fraction of its middle."""
        if self.quote is None or not self.quote.bid or not self.quote.ask:
            return None
        return (self.quote.ask - self.quote.bid) * 2 / (self.quote.ask + self.quote.bid)


def quote(here: Place) -> Quoted:
    now = live.quotes([here.instrument]).get(here.instrument.id)
    last = (
        now.mark
        if now
        else accounts.marks(here.account.id, [here.instrument]).get(here.instrument.id)
    )
    snapshot = accounts.newest_snapshot(here.account.id)
    equity, cash = (snapshot.equity, snapshot.cash) if snapshot else (None, None)
    held = desk.held_by_hand(here.account, here.instrument)
    state = accounts.trading_state(here.account)
    return Quoted(now, last, equity, cash, held, state, stamp(now, last, equity, cash, held, state))


@bp.get("/quote")
@auth.viewer
def quote_part() -> Response:
    here = place()
    now = quote(here)
    if is_current(now.version):
        return unchanged()
    return partial(render_template("trade/_quote.html", here=here, quote=now))


# The ticket ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Desk:
    """The ticket as it stands: what is typed, what is wrong with it, its preview, or its way to the engine."""

    form: ticket.Form
    command: CommandRow | None
    preview: preview.Preview | None
    notice: str
    tone: str
    said: str = ""
    """The order in a line, as it was typed."""

    is_again: bool = False
    """It was previewed again by itself, because the preview had grown old."""

    @property
    def is_pending(self) -> bool:
        return self.command is not None and not desk.is_over(self.command)

    @property
    def is_sent(self) -> bool:
        return self.command is not None and not self.command.arguments.get("preview")


def ticket_context(
    here: Place, command: CommandRow | None = None, *, again: bool = False
) -> dict[str, Any]:
    """What the ticket's template needs; the command is the one of the address unless given."""
    row = command or desk.newest_of(asked_id("order"), ("PlaceOrder",), current_user.username)
    return {
        "desk": ticket_state(here, row, request.args, again=again),
        "sides": ticket.SIDES,
        "types": ticket.TYPES,
        "times": ticket.TIMES_IN_FORCE,
        "shares": SHARES,
        "stale_seconds": int(preview.STALE_AFTER.total_seconds()),
        "by_hand": desk.held_by_hand(here.account, here.instrument),
        "market_now": accounts.market_now(here.account),
        "trading_state": accounts.trading_state(here.account),
    }


def ticket_state(
    here: Place, row: CommandRow | None, given: Mapping[str, str], *, again: bool = False
) -> Desk:
    """A fresh ticket, a previewed one, or one that was sent."""
    if row is None:
        prefilled = {k: given[k] for k in ("side", "type", "limit_price", "size") if given.get(k)}
        return Desk(ticket.Form(ticket.fresh(**prefilled)), None, None, "", "")
    entered = ticket.of_command(row.arguments, zone())
    is_sent = not row.arguments.get("preview")
    if row.state in ("denied", "expired"):
        problems = ticket.problems_of(row.result or {}) if row.state == "denied" else {}
        told = all(ticket.known(name) for name in problems) and problems
        return Desk(
            ticket.Form(entered, problems), row, None, "" if told else commands.text_of(row), "bad"
        )
    if is_sent and row.state == "done":
        kept = {name: entered[name] for name in ("side", "type", "size_in") if entered.get(name)}
        return Desk(ticket.Form(ticket.fresh(**kept)), row, None, "", "good")
    shown = preview.read(row) if row.state == "done" else None
    base, quote_asset = here.instrument.base_asset, here.instrument.quote_asset
    said = ticket.sentence(row.arguments["ticket"], base, quote_asset)
    return Desk(ticket.Form(entered), row, shown, "", "", said, is_again=again)


def ticket_part_html(here: Place, command: CommandRow | None, *, again: bool = False) -> str:
    return render_template(
        "trade/_ticket.html", here=here, **ticket_context(here, command, again=again)
    )


@bp.get("/ticket")
@auth.viewer
def ticket_part() -> Response:
    """The ticket of an order on its way; unchanged until the engine has said something new."""
    here = place()
    row = desk.newest_of(asked_id("order"), ("PlaceOrder",), current_user.username)
    if row is not None and is_current(row.state):
        return unchanged()
    trigger = "refresh" if row is not None and desk.is_over(row) else None
    return partial(ticket_part_html(here, row), trigger=trigger)


# Positions and orders --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The form that is open below a row: which, of what, and what became of it when it was sent."""

    what: str = ""
    id: str = ""
    command: CommandRow | None = None

    @property
    def key(self) -> str:
        """Changes when the form has to be made anew; until then what is typed into it stays."""
        state = f"{self.command.id}-{self.command.state}" if self.command else "new"
        return f"{self.what}-{self.id}-{state}"

    @property
    def problems(self) -> Mapping[str, str]:
        if self.command is None or self.command.state != "denied":
            return {}
        return ticket.problems_of(self.command.result or {})

    @property
    def notice(self) -> str:
        """What is to be said that belongs to no field."""
        if self.command is None or self.command.state == "done" or self.problems:
            return ""
        return commands.text_of(self.command)

    @property
    def is_done(self) -> bool:
        return self.command is not None and self.command.state == "done"

    def text(self, name: str, otherwise: Any = "") -> str:
        """What was typed into a field the last time, or what it starts with."""
        if self.command is not None and self.command.arguments.get(name):
            return str(self.command.arguments[name])
        return "" if otherwise is None else str(otherwise)


NOTHING_OPEN: Final = Opened()


def opened(kinds: tuple[str, ...], command: CommandRow | None = None) -> Opened:
    """From `?open=what-id&asked=command`; nothing once that command is done."""
    what, _, id_ = request.values.get("open", "").partition("-")
    row = command or desk.newest_of(asked_id("asked"), kinds, current_user.username)
    found = Opened(what, id_, row)
    return NOTHING_OPEN if found.is_done or not what else found


def positions_context(here: Place, command: CommandRow | None = None) -> dict[str, Any]:
    open_ = opened(("ClosePosition", "ProtectPosition", "AdoptPosition"), command)
    if open_.what not in ACTIONS:
        open_ = NOTHING_OPEN
    held = desk.positions(here.account, open_.key)
    row = held.row(int(open_.id)) if open_.id.isdecimal() else None
    takers = desk.strategies_on(here.account, row.holding.instrument) if row else []
    return {"positions": held, "opened_position": open_, "owners": takers}


def positions_part_html(here: Place, command: CommandRow | None = None) -> str:
    return render_template("trade/_positions.html", here=here, **positions_context(here, command))


@bp.get("/positions")
@auth.viewer
def positions_part() -> Response:
    here = place()
    context = positions_context(here)
    if is_current(context["positions"].version):
        return unchanged()
    return partial(render_template("trade/_positions.html", here=here, **context))


def orders_context(here: Place, command: CommandRow | None = None) -> dict[str, Any]:
    open_ = opened(("AmendOrder",), command)
    if open_.what != "amend":
        open_ = NOTHING_OPEN
    return {
        "orders": desk.orders(here.account, open_.key),
        "opened_order": open_,
        "order_tones": accounts.ORDER_TONES,
    }


def orders_part_html(here: Place, command: CommandRow | None = None) -> str:
    return render_template("trade/_orders.html", here=here, **orders_context(here, command))


@bp.get("/orders")
@auth.viewer
def orders_part() -> Response:
    here = place()
    context = orders_context(here)
    if is_current(context["orders"].version):
        return unchanged()
    return partial(render_template("trade/_orders.html", here=here, **context))


@bp.get("/asked")
@auth.viewer
def recent_part() -> Response:
    here = place()
    now = desk.recent(here.account)
    if is_current(now.version):
        return unchanged()
    return partial(render_template("trade/_recent.html", here=here, recent=now))
