"""Asking the engine: a row first, then a word over Redis; and showing what became of it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID, uuid4

import sqlalchemy as sa
from flask import Blueprint, Response, abort, current_app, flash, redirect, render_template, request
from flask_login import current_user
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from werkzeug.wrappers import Response as AnyResponse

from shared import bus
from shared.db.console import CommandRow
from shared.messages import DEFAULT_EXPIRY_SECONDS, Command, encode
from webapp import auth, live
from webapp.db import db
from webapp.partials import is_partial, partial
from webapp.paths import is_ours

bp = Blueprint("commands", __name__, url_prefix="/commands")

TOKEN: Final = "command_id"  # noqa: S105  (the name of a field)
"""The hidden field that makes two presses of one form one command."""

SETTLED: Final = ("done", "denied", "expired")
WAIT_SECONDS: Final = 2.0
"""How long a form waits for the engine's answer, unless the app's COMMAND_WAIT_SECONDS says otherwise."""

_FLASHED: Final = "command"

TONES: Final = {
    "asked": "info",
    "accepted": "info",
    "done": "good",
    "denied": "bad",
    "expired": "warning",
}
SENTENCES: Final = {
    "CreateStrategy": "Create strategy",
    "EditStrategy": "Change strategy",
    "StartStrategy": "Start strategy",
    "StopStrategy": "Stop strategy",
    "DeleteStrategy": "Delete strategy",
    "StopTrading": "Stop trading",
    "ResumeTrading": "Resume trading",
    "EditRiskPolicy": "Change risk policy",
    "OpenReplay": "Open replay",
    "StartReplay": "Start replay",
    "ReloadStrategies": "Reload strategies",
    "EditInstrument": "Change instrument",
    "PlaceOrder": "Place order",
    "AmendOrder": "Amend order",
    "CancelOrder": "Cancel order",
    "CancelOrders": "Cancel orders",
    "ClosePosition": "Close position",
    "ProtectPosition": "Set stop and target",
    "ForceEntry": "Enter now",
    "ForceExit": "Leave now",
    "AdoptPosition": "Hand position over",
    "EditAccount": "Change trading settings",
    "Deposit": "Book a deposit",
    "Withdraw": "Book a withdrawal",
    "Transfer": "Transfer between accounts",
    "Adjust": "Adjust the books",
    "BookIncome": "Book income",
    "Split": "Book a split",
    "ChangeSymbol": "Change a symbol",
    "WriteOffDust": "Write off dust",
    "TopUpPaper": "Top up paper money",
    "ResetPaper": "Start the paper account over",
    "EditBooks": "Change how books are kept",
}


def new_token() -> str:
    """A fresh id for a form's hidden field."""
    return str(uuid4())


def ask(command: Command, command_id: UUID | None = None) -> CommandRow:
    """The command's row, committed, and the engine woken for it.

    The id comes from the form that was sent, so sending one form twice asks once. With Redis away the
    engine finds the row by itself, within a second.
    """
    asked = command_id or _token_of_form() or uuid4()
    kind, arguments = encode(command)
    age = timedelta(seconds=DEFAULT_EXPIRY_SECONDS)
    added = db.session.execute(
        insert(CommandRow)
        .values(
            id=asked,
            kind=kind,
            arguments=arguments,
            actor=current_user.username,
            expires_at=sa.func.clock_timestamp() + age,
        )
        .on_conflict_do_nothing(index_elements=[CommandRow.id])
        .returning(CommandRow.id)
    ).scalar()
    if added is not None:
        auth.audit(f"command.{kind}", str(asked), arguments=arguments)
    db.session.commit()
    row = db.session.get_one(CommandRow, asked, populate_existing=True)
    if (row.kind, row.actor, row.arguments) != (kind, current_user.username, arguments):
        abort(409, "This form was already used for something else. Load the page again.")
    if added is not None:
        _announce(asked)
    return row


def ask_and_wait(command: Command, command_id: UUID | None = None) -> CommandRow:
    """Ask, and give the engine a moment, so that a form can show the answer beside its fields."""
    row = ask(command, command_id)
    until = time.monotonic() + current_app.config.get("COMMAND_WAIT_SECONDS", WAIT_SECONDS)
    while row.state not in SETTLED and time.monotonic() < until:
        time.sleep(0.05)
        db.session.rollback()
        db.session.refresh(row)
    return row


def answer(row: CommandRow, back: str) -> AnyResponse:
    """A toast that follows the command for a page that stays open; else back to `back`, with the toast."""
    if is_partial():
        return partial(_toast(row))
    flash(str(row.id), _FLASHED)
    return redirect(back, code=303)


def settled_page(row: CommandRow, otherwise: str) -> AnyResponse:
    """To what a waited-for command made, or to `otherwise` with a toast while it is still under way."""
    flash(str(row.id), _FLASHED)
    return redirect(link_of(row) or otherwise, code=303)


def link_of(row: CommandRow) -> str:
    """The console path of what came of it, or ""."""
    link = str((row.result or {}).get("link", ""))
    return link if is_ours(link) else ""


def text_of(row: CommandRow) -> str:
    """What became of it, in a sentence."""
    said = str((row.result or {}).get("text", ""))
    if row.state == "asked":
        return "Asked the engine."
    if row.state == "accepted":
        return said or "The engine is on it."
    if row.state == "expired":
        return said or "The engine did not answer in time, so this will not happen. Is it running?"
    return said or ("Done." if row.state == "done" else "Denied.")


def title_of(row: CommandRow) -> str:
    return SENTENCES.get(row.kind, row.kind)


def flashed() -> list[CommandRow]:
    """Commands whose form sent the user to this page."""
    from flask import get_flashed_messages

    ids = [UUID(m) for m in cast("list[str]", get_flashed_messages(category_filter=[_FLASHED]))]
    if not ids:
        return []
    return list(db.session.scalars(sa.select(CommandRow).where(CommandRow.id.in_(ids))))


def recent(kinds: tuple[str, ...], limit: int = 20) -> list[CommandRow]:
    """The newest commands of some kinds, newest first."""
    query = sa.select(CommandRow).where(CommandRow.kind.in_(kinds))
    return list(db.session.scalars(query.order_by(CommandRow.created_at.desc()).limit(limit)))


def context() -> dict[str, Any]:
    """What templates need to show and send commands."""
    return {
        "new_token": new_token,
        "command_tone": lambda row: TONES[row.state],
        "command_text": text_of,
        "command_title": title_of,
        "command_link": link_of,
        "command_is_settled": lambda row: row.state in SETTLED,
        "flashed_commands": flashed,
    }


@bp.get("/<uuid:command_id>/toast")
@auth.viewer
def toast(command_id: UUID) -> Response:
    """One command's toast; it asks again until the command is settled."""
    row = db.session.get(CommandRow, command_id)
    if row is None:
        abort(404)
    if row.state == request.args.get("v"):
        return Response(status=204)
    return partial(_toast(row), trigger="refresh" if row.state in SETTLED else None)


def _toast(row: CommandRow) -> str:
    return render_template("frame/_command_toast.html", row=row)


def _token_of_form() -> UUID | None:
    try:
        return UUID(request.form.get(TOKEN, ""))
    except ValueError:
        return None


def _announce(command_id: UUID) -> None:
    try:
        bus.announce_command(live.client(), str(command_id))
    except RedisError:
        return  # the engine looks at the rows every second anyway
