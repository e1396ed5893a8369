"""Stop trading, and resume: at the same place on every page, without JavaScript too.

The page says first what it will do, and afterwards shows each step with its evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import CommandRow
from shared.db.market import InstrumentRow
from shared.db.trading import AccountRow, OrderIntentRow, OrderRow, PositionRow, TradingStateRow
from shared.messages import ResumeTrading, StopTrading
from webapp import accounts, auth, commands
from webapp.db import db
from webapp.formats import plural
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("stop", __name__, url_prefix="/stop")

SHOWN_ORDERS: Final = 50


@bp.get("/")
@auth.viewer
def page() -> str:
    """What stopping would do now, and what became of the last time."""
    account = accounts.chosen()
    return render_template(
        "stop/page.html", account=account, now_=situation(account), **_choices(account)
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of stopping: done, under way, or waiting; with what shows it."""

    text: str
    state: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What is working, what is held, and how the last stop or resume went."""

    state: str
    requests: list[TradingStateRow]
    orders: list[tuple[OrderRow, OrderIntentRow, InstrumentRow]]
    order_count: int
    holdings: list[accounts.Holding]
    command: CommandRow | None
    steps: list[Step]
    version: str


def situation(account: AccountRow | None) -> Situation:
    """Of one account."""
    if account is None:
        return Situation("running", [], [], 0, [], None, [], "none")
    state = accounts.trading_state(account)
    requests = accounts.requests_on(account)
    count = accounts.working_orders(account.id)
    held = accounts.holdings(account.id)
    last = _last_command(account)
    orders = _orders(account)
    seen = [(o.client_order_id, o.state) for o, _, _ in orders]
    at = (last.id, last.state) if last else None
    held_now = [(h.position.id, h.position.quantity) for h in held]
    return Situation(
        state=state,
        requests=requests,
        orders=orders,
        order_count=count,
        holdings=held,
        command=last,
        steps=_steps(last, state, count, held),
        version=stamp(state, [r.id for r in requests], seen, held_now, at),
    )


def _orders(account: AccountRow) -> list[tuple[OrderRow, OrderIntentRow, InstrumentRow]]:
    query = (
        sa.select(OrderRow, OrderIntentRow, InstrumentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .join(InstrumentRow, InstrumentRow.id == OrderRow.instrument_id)
        .where(OrderRow.account_id == account.id, OrderRow.state.not_in(accounts.DONE_STATES))
        .order_by(InstrumentRow.symbol, OrderRow.client_order_id)
        .limit(SHOWN_ORDERS)
    )
    return [(order, intent, instrument) for order, intent, instrument in db.session.execute(query)]


def _last_command(account: AccountRow) -> CommandRow | None:
    """The newest stop or resume that reaches this account, of the last hour."""
    reaches = CommandRow.arguments["account_id"].astext
    return db.session.scalar(
        sa.select(CommandRow)
        .where(
            CommandRow.kind.in_(("StopTrading", "ResumeTrading")),
            CommandRow.created_at > sa.func.now() - sa.text("interval '1 hour'"),
            sa.or_(reaches == str(account.id), reaches.is_(None)),
        )
        .order_by(CommandRow.created_at.desc())
        .limit(1)
    )


def _steps(
    command: CommandRow | None, state: str, working: int, held: list[accounts.Holding]
) -> list[Step]:
    """What a stop consists of, each with what the books say now."""
    if command is None or command.kind != "StopTrading":
        return []
    if command.state in ("denied", "expired"):
        return [Step("Asked the engine", "failed", commands.text_of(command))]
    answered = command.state in ("accepted", "done")
    halted = state == "halted"
    steps = [
        Step("Asked the engine", "done", f"by {command.actor}"),
        Step("The engine took it", "done" if answered else "waiting", commands.text_of(command)),
        Step(
            "Trading halted: no new entries",
            "done" if halted else "waiting",
            "the request stands until somebody resumes" if halted else "",
        ),
        Step(
            "Working orders cancelled",
            "done" if halted and not working else "waiting",
            f"{plural(working, 'order')} still working" if working else "none is working",
        ),
    ]
    if command.arguments.get("flatten"):
        names = ", ".join(h.instrument.symbol for h in held)
        steps.append(
            Step(
                "Positions closed",
                "done" if halted and not held else "waiting",
                f"still held: {names}" if held else "flat",
            )
        )
    return steps


def _choices(account: AccountRow | None) -> dict[str, Any]:
    every = accounts.accounts()
    return {
        "accounts": every,
        "all_orders": accounts.working_orders(None),
        "all_positions": db.session.scalar(
            sa.select(sa.func.count()).where(PositionRow.quantity != 0)
        )
        or 0,
        "is_all": account is None,
    }


@bp.get("/situation")
@auth.viewer
def part() -> Response:
    """What stands, and the steps of the last stop."""
    return _part("stop/_situation.html")


@bp.get("/plan")
@auth.viewer
def plan_part() -> Response:
    """What pressing stop would do now."""
    return _part("stop/_plan.html")


@bp.get("/orders")
@auth.viewer
def orders_part() -> Response:
    """The orders that would be cancelled."""
    return _part("stop/_orders.html")


def _part(template: str) -> Response:
    account = accounts.chosen()
    now = situation(account)
    if account is None or is_current(now.version):
        return unchanged()
    return partial(render_template(template, now_=now, account=account))


@bp.post("/")
@auth.trader
def stop() -> AnyResponse:
    """Halt the account, or all of them; cancel what works, and flatten if asked."""
    row = commands.ask(
        StopTrading(
            account_id=_asked_account(),
            flatten=request.form.get("flatten") == "yes",
            reason=_reason("stopped from the console"),
        )
    )
    return commands.answer(row, url_for("stop.page"))


@bp.post("/resume")
@auth.trader
def resume() -> AnyResponse:
    """Lift every standing halt and reduce-only request on the account, or on all."""
    row = commands.ask(
        ResumeTrading(account_id=_asked_account(), reason=_reason("resumed from the console"))
    )
    return commands.answer(row, url_for("stop.page"))


def _asked_account() -> int | None:
    """The account of the form; "all" for every one."""
    asked = request.form.get("account", "")
    if asked == "all":
        return None
    if not asked.isdecimal() or not any(a.id == int(asked) for a in accounts.accounts()):
        abort(400, f"account: {asked or 'nothing'} is no account here. Load the page again.")
    return int(asked)


def _reason(otherwise: str) -> str:
    return request.form.get("reason", "").strip()[:200] or otherwise
