"""Why did it (not) trade? One sentence, then everything that led to it. Computed by a worker, never here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from shared import queueing
from shared.db.backtests import JobRow, RunFillRow, RunRow
from shared.db.market import BarRow, InstrumentRow
from shared.db.trading import (
    AccountRow,
    FillRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    StrategyRow,
    TradingStateRow,
)
from shared.domain.market import interval_text
from shared.jobs import WhyRequest, encode
from webapp import accounts, auth, closeup, frame, live, workers
from webapp.charts import json_answer
from webapp.db import db
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("why", __name__, url_prefix="/why")

DAY: Final = 86_400
RUNS: Final = 30
"""Newest runs the form offers; any other is reached from its own page."""

TRADED_TEXT: Final = {True: "traded", False: "did not trade"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked about: a strategy of an account, or a finished run."""

    key: str
    name: str
    inputs: dict[str, Any]
    now: datetime
    strategy: StrategyRow | None = None
    run: RunRow | None = None
    account: AccountRow | None = None

    @property
    def clock(self) -> dict[str, Any]:
        """The input whose bars are the moments."""
        return next(i for i in self.inputs.values() if i["trades"])

    @property
    def interval(self) -> int:
        return int(self.clock["interval"])

    @property
    def is_daily(self) -> bool:
        return self.interval >= DAY

    def arguments(self) -> dict[str, Any]:
        """Of the page's address."""
        kind, _, number = self.key.partition(":")
        return {kind: int(number)}


@dataclass(frozen=True, slots=True)
class Question:
    """A whole question."""

    subject: Subject
    instrument: InstrumentRow
    at: datetime

    def url(self, at: datetime | None = None) -> str:
        return url_for(
            "why.page",
            **self.subject.arguments(),
            instrument=self.instrument.id,
            at=(at or self.at).astimezone(UTC).isoformat(),
        )


@bp.get("")
@auth.viewer
def page() -> ResponseReturnValue:
    """The form, and with a whole question in the address its answer: that address is a permalink."""
    subject = _subject()
    if subject is None:
        return render_template("why/page.html", question=None, job=None, **_form(None, None))
    question = Question(subject, _instrument(subject), _at(subject))
    given = request.args.get("at", "")
    if "instrument" not in request.args or not _is_exact(given) or "subject" in request.args:
        return redirect(question.url())
    job = workers.wait_for(_ask(question))
    return render_template(
        "why/page.html", **_shown(question, job), **_form(subject, question.instrument, question.at)
    )


@bp.get("/<uuid:job_id>/answer")
@auth.viewer
def answer(job_id: UUID) -> Response:
    """The answer once a worker has it; 204 until then."""
    job = _job(job_id)
    if is_current(stamp(job.state, job.progress_text)):
        return unchanged()
    return partial(render_template("why/_answer.html", **_shown(_question_of(job), job)))


@bp.get("/<uuid:job_id>/chart.json")
@auth.viewer
def chart(job_id: UUID) -> Response:
    """Candles around the moment, its bar marked, features that are prices, trades and order levels."""
    job = _job(job_id)
    found = (job.result or {}).get("why")
    if not found:
        abort(404)
    question = _question_of(job)
    moment = datetime.fromisoformat(found["moment"])
    drawn = closeup.closeup(question.instrument, int(found["interval"]), moment, moment)
    begins = drawn["candles"][0][0] if drawn["candles"] else moment.timestamp()
    ends = drawn["candles"][-1][0] + drawn["interval"] if drawn["candles"] else begins
    span = (datetime.fromtimestamp(begins, UTC), datetime.fromtimestamp(ends, UTC))
    opened = found.get("bar_opened_at")
    clock = question.subject.clock["instrument_id"] == question.instrument.id
    return json_answer(
        {
            **drawn,
            "markers": closeup.marks(_fills(question, span)),
            "levels": _levels(found),
            "bar": datetime.fromisoformat(opened).timestamp() if opened else None,
            "features": _inside(found["features"], drawn["candles"]) if clock else [],
        }
    )


def _inside(features: list[Any], rows: list[list[float]]) -> list[dict[str, Any]]:
    """Features on the candles drawn, and on no others."""
    shown = {row[0] for row in rows}
    return [{**f, "points": [p for p in f["points"] if p[0] in shown]} for f in features]


def _fills(question: Question, span: tuple[datetime, datetime]) -> Sequence[Any]:
    model: Any = RunFillRow if question.subject.run else FillRow
    owner = (
        RunFillRow.run_id == question.subject.run.id
        if question.subject.run
        else FillRow.strategy_id == (question.subject.strategy or StrategyRow()).id
    )
    query = sa.select(model).where(
        owner,
        model.instrument_id == question.instrument.id,
        model.filled_at >= span[0],
        model.filled_at < span[1],
    )
    return list(db.session.scalars(query.order_by(model.filled_at)))


def _levels(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Levels of the orders that the decision sent."""
    decision = found.get("decision", "").rpartition("/")[2]
    if not decision:
        return []
    query = (
        sa.select(OrderRow, OrderIntentRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .where(OrderIntentRow.decision_id == UUID(decision))
    )
    levels = []
    for order, intent in db.session.execute(query):
        text = intent.leg.replace("_", " ")
        levels += closeup.level(order.limit_price or order.stop_price, text)
    return levels


# Asking ----------------------------------------------------------------------------------------


def _ask(question: Question) -> JobRow:
    """The job that answers: the same one while nothing has happened that could change its answer."""
    subject = question.subject
    wanted = WhyRequest(
        instrument_id=question.instrument.id,
        at=question.at.astimezone(UTC).isoformat(),
        strategy_id=subject.strategy.id if subject.strategy else 0,
        run_id=subject.run.id if subject.run else 0,
        timezone=frame.zone(),
    )
    seen = stamp(encode(wanted), _seen(question), request.args.get("again", ""))
    here = question.at.astimezone(ZoneInfo(wanted.timezone))
    return queueing.ask(
        db.session,
        live.client(),
        wanted,
        title=f"Why {question.instrument.symbol} at {here:%-d %b %Y %H:%M}, {subject.name}",
        actor=current_user.username,
        request_key=f"why:{seen}",
    )


def _seen(question: Question) -> object:
    """What the answer depends on and can still change."""
    row, account = question.subject.strategy, question.subject.account
    if row is None or account is None:
        return None
    orders = (
        sa.select(OrderIntentRow.client_order_id)
        .where(
            OrderIntentRow.strategy_id == row.id,
            OrderIntentRow.instrument_id == question.instrument.id,
            OrderIntentRow.decided_at <= question.at,
        )
        .order_by(OrderIntentRow.decided_at.desc())
        .limit(12)
    )
    newest = sa.select(sa.func.max(OrderEventRow.id)).where(
        OrderEventRow.client_order_id.in_(orders)
    )
    state = (row.version, row.code_hash, row.status, row.desired, row.deleted_at)
    heard = account.market_time
    is_over = heard is not None and heard >= question.at
    return (
        state,
        db.session.scalar(newest),
        db.session.scalar(sa.select(sa.func.max(TradingStateRow.id))),
        None if is_over else (heard, account.feed.get("state"), datetime.now(UTC).minute),
    )


def _shown(question: Question, job: JobRow) -> dict[str, Any]:
    """What the answer's template needs."""
    found = (job.result or {}).get("why")
    moment = datetime.fromisoformat(found["moment"]) if found else question.at
    steps = _neighbours(question.subject, question.instrument, moment)
    return {
        "question": question,
        "job": job,
        "why": found,
        "moment": moment,
        "version": stamp(job.state, job.progress_text),
        "before_url": question.url(steps[0]),
        "after_url": question.url(steps[1]),
        "again_url": f"{question.url()}&again={stamp(datetime.now(UTC))}",
        "traded_text": TRADED_TEXT,
    }


def _neighbours(
    subject: Subject, instrument: InstrumentRow, moment: datetime
) -> tuple[datetime, datetime]:
    """The moments before and after; days that do not trade are stepped over."""
    step = timedelta(seconds=subject.interval)
    if not subject.is_daily:
        return moment - step, moment + step
    mine = (BarRow.instrument_id == instrument.id, BarRow.interval == subject.interval)
    before = sa.select(sa.func.max(BarRow.closed_at)).where(*mine, BarRow.closed_at < moment)
    after = sa.select(sa.func.min(BarRow.closed_at)).where(*mine, BarRow.closed_at > moment)
    return (
        db.session.scalar(before) or moment - step,
        db.session.scalar(after) or moment + step,
    )


# Reading the address -----------------------------------------------------------------------------


def _subject() -> Subject | None:
    """Of `?strategy=`, `?run=`, or the form's `?subject=strategy:3`."""
    kind, _, number = request.args.get("subject", "").partition(":")
    strategy_id = request.args.get("strategy", type=int)
    run_id = request.args.get("run", type=int)
    if kind in ("strategy", "run") and number.isdecimal():
        strategy_id, run_id = (int(number), None) if kind == "strategy" else (None, int(number))
    if strategy_id is not None:
        return _of_strategy(db.session.get(StrategyRow, strategy_id))
    return None if run_id is None else _of_run(db.session.get(RunRow, run_id))


def _of_strategy(row: StrategyRow | None) -> Subject:
    if row is None or not any(i["trades"] for i in row.inputs.values()):
        abort(404)
    account = db.session.get_one(AccountRow, row.account_id)
    now = accounts.market_now(account)
    return Subject(f"strategy:{row.id}", row.name, row.inputs, now, strategy=row, account=account)


def _of_run(row: RunRow | None) -> Subject:
    if row is None:
        abort(404)
    name = f"run {row.id}, {row.strategy_type.replace('_', ' ')}"
    return Subject(f"run:{row.id}", name, row.inputs, row.ends_at, run=row)


def _instrument(subject: Subject) -> InstrumentRow:
    asked = request.args.get("instrument", type=int)
    row = db.session.get(InstrumentRow, asked or subject.clock["instrument_id"])
    if row is None:
        abort(404)
    return row


def _is_exact(text: str) -> bool:
    """Whether the address names one instant, the same for everybody."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _at(subject: Subject) -> datetime:
    """The time asked about; without one, now. A day stands for its end, a time is in the user's zone."""
    text = request.args.get("at", "").strip().replace(" ", "+")
    if not text:
        return subject.now
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        abort(400, f"at: {text!r} is no time; write 2026-01-31 or 2026-01-31T14:30")
    if not 1971 <= at.year <= 2199:
        abort(400, f"at: there are no markets in {at.year}; write a year from 1971 to 2199")
    if len(text) == len("2026-01-31"):
        return datetime.combine(at.date(), time(23, 59, 59), UTC)
    return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(frame.zone())).astimezone(UTC)


def _job(job_id: UUID) -> JobRow:
    job = db.session.get(JobRow, job_id)
    if job is None or job.kind != "why":
        abort(404)
    return job


def _question_of(job: JobRow) -> Question:
    given = WhyRequest(**job.arguments)
    subject = (
        _of_run(db.session.get(RunRow, given.run_id))
        if given.run_id
        else _of_strategy(db.session.get(StrategyRow, given.strategy_id))
    )
    instrument = db.session.get(InstrumentRow, given.instrument_id)
    if instrument is None:
        abort(404)
    return Question(subject, instrument, datetime.fromisoformat(given.at))


# The form --------------------------------------------------------------------------------------


def _form(
    subject: Subject | None, instrument: InstrumentRow | None, at: datetime | None = None
) -> dict[str, Any]:
    strategies = db.session.scalars(
        sa.select(StrategyRow).where(StrategyRow.deleted_at.is_(None)).order_by(StrategyRow.name)
    )
    runs = list(db.session.scalars(sa.select(RunRow).order_by(RunRow.id.desc()).limit(RUNS)))
    if subject and subject.run and subject.run.id not in {run.id for run in runs}:
        runs.append(subject.run)
    here = (at or datetime.now(UTC)).astimezone(ZoneInfo(frame.zone()))
    return {
        "strategies": list(strategies),
        "runs": runs,
        "instruments": _instruments(subject),
        "chosen": subject.key if subject else "",
        "chosen_instrument": instrument.id if instrument else None,
        "is_daily": subject.is_daily if subject else False,
        "at_text": f"{here:%Y-%m-%d}" if subject and subject.is_daily else f"{here:%Y-%m-%dT%H:%M}",
        "has_time": at is not None,
        "interval_text": interval_text,
    }


def _instruments(subject: Subject | None) -> list[InstrumentRow]:
    """Those it reads first; then the others of their venue, because "why not that one" is a question too."""
    if subject is None:
        return []
    own = {int(i["instrument_id"]) for i in subject.inputs.values()}
    venues = sa.select(InstrumentRow.venue).where(InstrumentRow.id.in_(own))
    query = sa.select(InstrumentRow).where(InstrumentRow.venue.in_(venues))
    rows = list(db.session.scalars(query.order_by(InstrumentRow.symbol)))
    return sorted(rows, key=lambda row: row.id not in own)
