"""Replays: stored bars played through the live engine, on a paper account of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as AnyResponse

from shared.db.market import SeriesRow
from shared.db.trading import AccountRow, FillRow, StrategyRow
from shared.messages import OpenReplay, StartReplay
from webapp import accounts, auth, charts, commands, costs, fields, live, risk_policy, series
from webapp.db import db
from webapp.formats import instant
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("replays", __name__, url_prefix="/replays")

SPEEDS: Final = (
    ("0", "As fast as it goes"),
    ("604800", "A week a second"),
    ("86400", "A day a second"),
    ("3600", "An hour a second"),
    ("60", "A minute a second"),
    ("1", "As it happened"),
)
COSTS: Final = {"fee": "0.1", "slippage": "0.05", **costs.EMPTY}
WORDS: Final = {"waiting": "waiting to start", "playing": "playing", "finished": "finished"}
TONES: Final = {"waiting": "info", "playing": "good", "finished": ""}


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay account: what it plays and how far it is."""

    account: AccountRow
    played: list[series.Stored]
    state: str
    starts_at: datetime | None
    ends_at: datetime | None
    equity: Decimal | None
    capital: Decimal
    market_time: datetime | None

    @property
    def share(self) -> float:
        """How much of the bars has been played, 0 to 1."""
        if self.state == "finished":
            return 1.0
        if not (self.starts_at and self.ends_at and self.market_time):
            return 0.0
        whole = (self.ends_at - self.starts_at).total_seconds()
        return min(
            1.0, max(0.0, (self.market_time - self.starts_at).total_seconds() / max(whole, 1.0))
        )

    @property
    def gain(self) -> Decimal | None:
        return None if self.equity is None or not self.capital else self.equity / self.capital - 1

    @property
    def speed_text(self) -> str:
        return speed_text(self.account.feed.get("speed", 0))

    @property
    def names(self) -> str:
        return ", ".join(one.name for one in self.played)


def speed_text(speed: Any) -> str:
    known = dict(SPEEDS)
    text = f"{float(speed):g}"
    return known.get(text, f"{text}\N{MULTIPLICATION SIGN}").lower()


def replay_of(account: AccountRow) -> Replay:
    feed = account.feed
    played = series.stored_series(SeriesRow.id.in_(feed.get("series_ids", [])))
    ends = [one.row.last_closed_at for one in played if one.row.last_closed_at]
    beat = live.heartbeats().account(account.id)
    snapshot = accounts.newest_snapshot(account.id)
    capital = accounts.capital(account)
    return Replay(
        account=account,
        played=played,
        state=str(feed.get("state", "waiting")),
        starts_at=account.market_started_at,
        ends_at=instant(feed.get("ends_at") or None) or max(ends, default=None),
        equity=(snapshot.equity if snapshot else None) or (capital or None),
        capital=capital,
        market_time=instant(beat.get("market_time")) or account.market_time,
    )


@bp.get("")
@auth.viewer
def page() -> str:
    """Every replay, newest first."""
    found = [replay_of(a) for a in accounts.accounts() if a.clock == "replay"]
    return render_template("replays/page.html", replays=found, words=WORDS, tones=TONES)


# --- opening one ------------------------------------------------------------------------------------


@bp.get("/new")
@auth.trader
def new() -> str:
    chosen = request.args.get("series", "")
    playable = _playable()
    first = next((s for s in playable if str(s.id) == chosen), None)
    entered = {
        "name": _free_name(f"Replay {first.name}" if first else "Replay"),
        "speed": "86400",
        "capital": "100000",
        "starts": "",
        "ends": "",
        **COSTS,
    }
    return _form(entered, {chosen} if first else set(), risk_policy.shown({}), {})


@bp.post("/new")
@auth.trader
def open_replay() -> ResponseReturnValue:
    """Ask the engine for the account; or the form again, with what is wrong beside its field."""
    names = ("name", "speed", "capital", "starts", "ends", *COSTS)
    entered = {name: request.form.get(name, "").strip() for name in names}
    chosen = set(request.form.getlist("series"))
    policy = risk_policy.read(request.form)
    problems = dict(policy.problems)
    ids = [s.id for s in _playable() if str(s.id) in chosen]
    if not ids:
        problems["series"] = "Nothing is chosen: choose at least one series to play."
    if not 1 <= len(entered["name"]) <= 80:
        problems["name"] = f"{entered['name'] or 'Nothing'} is not a name: use 1 to 80 characters."
    if entered["speed"] not in dict(SPEEDS):
        problems["speed"] = f"{entered['speed']} is no speed: choose one of the list."
    capital, problem = fields.amount(request.form, "capital", "what the account starts with")
    if problem:
        problems["capital"] = problem
    days = {name: _day(entered, name, problems) for name in ("starts", "ends")}
    if days["starts"] and days["ends"] and days["starts"] >= days["ends"]:
        problems["ends"] = (
            f"{entered['ends']} is not after {entered['starts']}: choose a later day."
        )
    paid = costs.read(entered, problems)
    if problems:
        return _form(entered, chosen, policy, problems), 422
    row = commands.ask_and_wait(
        OpenReplay(
            name=entered["name"],
            series_ids=ids,
            speed=float(entered["speed"]),
            capital=f"{capital:f}",
            starts_at=days["starts"],
            ends_at=days["ends"],
            costs=paid,
            risk_policy=risk_policy.policy_of(policy.rules),
        )
    )
    if row.state == "denied":
        named = {"series_ids": "series", "starts_at": "starts", "ends_at": "ends"}
        field = str((row.result or {}).get("field", ""))
        said = commands.text_of(row)
        problems[named.get(field, field)] = said.partition(": ")[2] or said if field else said
        return _form(entered, chosen, policy, problems), 422
    return commands.settled_page(row, url_for("replays.page"))


def _day(entered: dict[str, str], name: str, problems: dict[str, str]) -> str:
    """Midnight UTC of the day entered, as ISO 8601; "" for none."""
    try:
        return f"{date.fromisoformat(entered[name])}T00:00:00+00:00" if entered[name] else ""
    except ValueError:
        problems[name] = f"{entered[name]} is not a day: write it as 2024-01-31."
        return ""


def _playable() -> list[series.Stored]:
    return [s for s in series.stored_series() if s.instrument.venue == "replay"]


def _free_name(wanted: str) -> str:
    taken = {account.name for account in accounts.accounts()}
    names = (wanted if n == 1 else f"{wanted} {n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _form(
    entered: dict[str, str],
    chosen: set[str],
    policy: risk_policy.PolicyForm,
    problems: dict[str, str],
) -> str:
    return render_template(
        "replays/new.html",
        entered=entered,
        chosen=chosen,
        policy=policy,
        problems=problems,
        playable=_playable(),
        speeds=SPEEDS,
    )


# --- one replay -------------------------------------------------------------------------------------


@bp.get("/<int:account_id>")
@auth.viewer
def detail(account_id: int) -> str:
    account = _account(account_id)
    return render_template("replays/detail.html", **state_of(account))


@bp.get("/<int:account_id>/state")
@auth.viewer
def state(account_id: int) -> Response:
    """How far it is, what it is worth, what trades on it."""
    now = state_of(_account(account_id))
    if is_current(now["version"]):
        return unchanged()
    return partial(render_template("replays/_state.html", **now))


def state_of(account: AccountRow) -> dict[str, Any]:
    found = replay_of(account)
    strategies = list(
        db.session.scalars(
            sa.select(StrategyRow)
            .where(StrategyRow.account_id == account.id, StrategyRow.deleted_at.is_(None))
            .order_by(StrategyRow.id)
        )
    )
    fills = db.session.scalar(sa.select(sa.func.count()).where(FillRow.account_id == account.id))
    seen = (found.state, found.market_time, found.equity, fills)
    return {
        "replay": found,
        "strategies": strategies,
        "fills": fills or 0,
        "words": WORDS,
        "tones": TONES,
        "version": stamp(seen, [(s.id, s.status, s.desired) for s in strategies]),
    }


@bp.get("/<int:account_id>/equity.json")
@auth.viewer
def equity(account_id: int) -> Response:
    """Marked equity of the replay account over its market's time."""
    points = charts.equity_points(_account(account_id), None)
    return charts.json_answer(
        {
            "times": [round(p.at.timestamp(), 3) for p in points],
            "equity": [p.equity for p in points],
            "drawdown": [p.drawdown for p in points],
        }
    )


@bp.post("/<int:account_id>/start")
@auth.trader
def start(account_id: int) -> AnyResponse:
    row = commands.ask(StartReplay(account_id=_account(account_id).id))
    return commands.answer(row, url_for("replays.detail", account_id=account_id))


@bp.post("/<int:account_id>/strategy")
@auth.trader
def add_strategy(account_id: int) -> AnyResponse:
    """Look at this account, and make a strategy on it."""
    accounts.choose(_account(account_id).id)
    return redirect(url_for("strategies.new"), code=303)


@bp.post("/<int:account_id>/books")
@auth.viewer
def books(account_id: int) -> AnyResponse:
    """Look at this account, and read its fills."""
    accounts.choose(_account(account_id).id)
    return redirect(url_for("books.fills"), code=303)


def _account(account_id: int) -> AccountRow:
    account = next((a for a in accounts.accounts() if a.id == account_id), None)
    if account is None or account.clock != "replay":
        abort(404)
    return account
