"""Strategies: what runs, what it earned and why; and the catalogue they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import CommandRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    FillRow,
    StrategyCodeRow,
    StrategyRow,
    StrategyTypeRow,
)
from shared.domain.market import interval_text
from shared.messages import (
    CreateStrategy,
    DeleteStrategy,
    EditStrategy,
    ReloadStrategies,
    StartStrategy,
    StopStrategy,
)
from webapp import accounts, auth, charts, commands, fields, risk_policy
from webapp.db import db
from webapp.formats import percent
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("strategies", __name__, url_prefix="/strategies")

TONES: Final = {"running": "good", "stopped": "", "failed": "bad", "quarantined": "bad"}
INTERVALS: Final = (60, 300, 900, 1_800, 3_600, 14_400, 86_400)
DECISIONS: Final = 15
SPARK_FILLS: Final = 120
OUTCOME_TONES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}


# The list ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """One strategy in the list, with what it holds and has earned after fees."""

    row: StrategyRow
    account: AccountRow
    reads: str
    pnl: Decimal
    holdings: list[accounts.Holding]
    spark: list[float]
    decided_at: datetime | None

    @property
    def is_running(self) -> bool:
        return self.row.status == "running"

    @property
    def is_changing(self) -> bool:
        """Asked to run or stop, and not there yet."""
        return self.row.desired != self.row.status and self.row.status in ("running", "stopped")


@dataclass(frozen=True, slots=True)
class Listing:
    rows: list[Running]
    version: str


@bp.get("/")
@auth.viewer
def page() -> str:
    return render_template(
        "strategies/page.html",
        listing=listing(),
        tones=TONES,
        types=_types(),
        account=accounts.chosen(),
        bounds=fields.bounds_text,
    )


def listing() -> Listing:
    """Strategies of the chosen account, by name."""
    account = accounts.chosen()
    if account is None:
        return Listing([], "none")
    query = (
        sa.select(StrategyRow)
        .where(StrategyRow.account_id == account.id, StrategyRow.deleted_at.is_(None))
        .order_by(sa.func.lower(StrategyRow.name), StrategyRow.id)
    )
    rows = [_running(strategy, account) for strategy in db.session.scalars(query)]
    seen = [
        (r.row.id, r.row.status, r.row.desired, r.row.version, r.pnl, r.decided_at) for r in rows
    ]
    return Listing(rows, stamp(seen))


def _running(row: StrategyRow, account: AccountRow) -> Running:
    held = accounts.holdings(account.id, row.id)
    last = sa.select(sa.func.max(DecisionRow.decided_at)).where(DecisionRow.strategy_id == row.id)
    return Running(
        row=row,
        account=account,
        reads=_reads_text(row.inputs),
        pnl=_pnl(row, held),
        holdings=held,
        spark=_earned(row),
        decided_at=db.session.scalar(last),
    )


def _reads_text(inputs: Mapping[str, Any]) -> str:
    """BTC/USD 1m."""
    instruments = accounts.names(InstrumentRow, {c.get("instrument_id") for c in inputs.values()})
    parts = []
    for chosen in inputs.values():
        instrument = instruments.get(chosen.get("instrument_id"))
        parts.append(
            f"{instrument.symbol if instrument else '?'} {interval_text(chosen['interval'])}"
        )
    return ", ".join(parts)


def _pnl(row: StrategyRow, held: list[accounts.Holding]) -> Decimal:
    """Realised and unrealised less fees, since the beginning."""
    query = sa.select(
        sa.func.coalesce(sa.func.sum(FillRow.realised), 0),
        sa.func.coalesce(sa.func.sum(FillRow.fee), 0),
    ).where(FillRow.strategy_id == row.id)
    realised, fees = db.session.execute(query).one()
    unrealised = sum((h.unrealised or Decimal(0) for h in held), Decimal(0))
    return Decimal(realised) - Decimal(fees) + unrealised


def _earned(row: StrategyRow) -> list[float]:
    """What the last fills added up to, as a sparkline."""
    query = (
        sa.select(FillRow.realised - FillRow.fee)
        .where(FillRow.strategy_id == row.id)
        .order_by(FillRow.filled_at.desc(), FillRow.id.desc())
        .limit(SPARK_FILLS)
    )
    total = 0.0
    line = []
    for earned in reversed(list(db.session.scalars(query))):
        total += float(earned)
        line.append(total)
    return charts.thinned(line)


@bp.get("/list")
@auth.viewer
def list_part() -> Response:
    now = listing()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("strategies/_list.html", listing=now, tones=TONES))


# The catalogue -------------------------------------------------------------------------------


def _types() -> list[StrategyTypeRow]:
    """Types that work first, then broken files; by name."""
    query = sa.select(StrategyTypeRow).order_by(
        StrategyTypeRow.error.is_not(None), StrategyTypeRow.origin, StrategyTypeRow.name
    )
    return list(db.session.scalars(query))


@bp.get("/types/<name>/source")
@auth.viewer
def source(name: str) -> str:
    """The code of a type, as the engine has it."""
    row = db.session.get(StrategyTypeRow, name)
    if row is None:
        abort(404)
    code = db.session.get_one(StrategyCodeRow, row.code_hash)
    return render_template("strategies/source.html", type=row, code=code)


@bp.post("/reload")
@auth.trader
def reload() -> AnyResponse:
    """Look at the strategies folder now."""
    return commands.answer(commands.ask(ReloadStrategies()), url_for("strategies.page"))


# Creating ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A strategy being made or edited: its forms, and what the engine said against it."""

    name: str
    allocation: str
    parameters: fields.Form
    sizing: fields.Form
    inputs: dict[str, str]
    start: bool
    problems: dict[str, str]
    answer: str = ""

    @property
    def all_problems(self) -> dict[str, str]:
        return {**self.problems, **self.parameters.problems, **self.sizing.problems}

    def against(self, row: CommandRow) -> Draft:
        """The same draft with the engine's objection beside the field it names."""
        named = str((row.result or {}).get("field", ""))
        text = commands.text_of(row).removeprefix(f"{named}: ")
        key = _field_key(named, self)
        problems = {**self.problems, key: text} if key else self.problems
        parameters, sizing = self.parameters, self.sizing
        if key.startswith(fields.PARAMETER):
            parameters = fields.Form(parameters.values, parameters.entered, {key: text})
        if key.startswith(fields.SIZING):
            sizing = fields.Form(sizing.values, sizing.entered, {key: text})
        return Draft(
            self.name, self.allocation, parameters, sizing, self.inputs, self.start, problems,
            "" if key else text,
        )  # fmt: skip


def _field_key(named: str, draft: Draft) -> str:
    """The HTML field for a name the engine used, or ""."""
    for key in (
        named,
        fields.PARAMETER + named,
        fields.SIZING + named,
        f"{fields.INPUT}{named}.instrument",
    ):
        known = (key in draft.parameters.entered, key in draft.sizing.entered, key in draft.inputs)
        if any(known) or key in ("name", "allocation"):
            return key
    return ""


@bp.get("/new")
@auth.trader
def new() -> str:
    """The form of one type, or the types to choose from."""
    account = accounts.chosen()
    type_ = _asked_type()
    if account is None or type_ is None:
        return render_template(
            "strategies/choose.html", account=account, types=[t for t in _types() if not t.error]
        )
    return _form(type_, account, _fresh_draft(type_, account))


def _asked_type() -> StrategyTypeRow | None:
    name = request.values.get("type", "")
    row = db.session.get(StrategyTypeRow, name) if name else None
    return row if row is not None and row.error is None else None


def _fresh_draft(type_: StrategyTypeRow, account: AccountRow) -> Draft:
    tradable = _tradable(account)
    wanted = request.args.get("instrument", "")
    first = (
        wanted
        if wanted in {str(i.id) for i in tradable}
        else str(tradable[0].id)
        if tradable
        else ""
    )
    instrument = next((i for i in tradable if str(i.id) == first), None)
    inputs = {}
    for entry in fields.inputs_of(type_.schema):
        inputs[f"{fields.INPUT}{entry['name']}.instrument"] = first
        inputs[f"{fields.INPUT}{entry['name']}.interval"] = str(_intervals(account)[0][0])
    symbol = instrument.symbol if instrument else ""
    return Draft(
        name=_free_name(f"{symbol} {type_.title.lower()}".strip()),
        allocation=_usual_allocation(account),
        parameters=fields.shown_parameters(type_.schema),
        sizing=fields.shown_sizing(),
        inputs=inputs,
        start=True,
        problems={},
    )


def _free_name(wanted: str) -> str:
    """The name, or with a number when it is taken."""
    query = sa.select(StrategyRow.name).where(
        StrategyRow.deleted_at.is_(None), StrategyRow.name.startswith(wanted, autoescape=True)
    )
    taken = set(db.session.scalars(query))
    names = (wanted if n == 1 else f"{wanted} {n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _usual_allocation(account: AccountRow) -> str:
    """As much as one order may be worth, less a tenth for prices to move."""
    equity = _equity(account)
    rule = risk_policy.rules_of(account.risk_policy)["position_size"]
    share = Decimal(repr(rule.limit)) * Decimal("0.9") if rule.enabled else Decimal("0.5")
    return str(max(Decimal(1), (equity * min(share, Decimal(1))).quantize(Decimal(1))))


def _equity(account: AccountRow) -> Decimal:
    snapshot = accounts.newest_snapshot(account.id)
    return (snapshot.equity if snapshot else None) or accounts.capital(account)


def _tradable(account: AccountRow) -> list[InstrumentRow]:
    """Instruments of the account's venue; of a replay, those it plays."""
    query = sa.select(InstrumentRow).where(InstrumentRow.venue == account.venue)
    if account.clock == "replay":
        played = sa.select(SeriesRow.instrument_id).where(
            SeriesRow.id.in_(account.feed.get("series_ids", []))
        )
        query = query.where(InstrumentRow.id.in_(played))
    return list(db.session.scalars(query.order_by(InstrumentRow.symbol)))


def _intervals(account: AccountRow) -> list[tuple[int, str]]:
    if account.clock != "replay":
        return [(seconds, interval_text(seconds)) for seconds in INTERVALS]
    query = sa.select(SeriesRow.interval).where(
        SeriesRow.id.in_(account.feed.get("series_ids", []))
    )
    played = sorted(set(db.session.scalars(query))) or [86_400]
    return [(seconds, interval_text(seconds)) for seconds in played]


def _form(type_: StrategyTypeRow, account: AccountRow, draft: Draft) -> str:
    return render_template(
        "strategies/new.html",
        type=type_,
        account=account,
        draft=draft,
        tradable=_tradable(account),
        intervals=_intervals(account),
        series=fields.inputs_of(type_.schema),
        methods=fields.METHODS,
        bounds=fields.bounds_text,
        preview=preview(account, draft.allocation),
    )


@bp.post("/new")
@auth.trader
def create() -> AnyResponse | tuple[str, int]:
    """Refused beside the field at fault; else to the new strategy's page."""
    type_ = _asked_type()
    account = _posted_account()
    if type_ is None:
        abort(400, "type: this strategy type is not in the catalogue any more. Choose another.")
    draft = _read_draft(type_.schema)
    inputs = _read_inputs(type_, draft)
    if draft.all_problems:
        return _form(type_, account, draft), 400
    row = commands.ask_and_wait(
        CreateStrategy(
            name=draft.name,
            type=type_.name,
            account_id=account.id,
            parameters=draft.parameters.values,
            inputs=inputs,
            allocation=draft.allocation,
            sizing=draft.sizing.values,
            start=draft.start,
        )
    )
    if row.state in ("denied", "expired"):
        return _form(type_, account, draft.against(row)), 409
    return commands.settled_page(row, url_for("strategies.page"))


def _posted_account() -> AccountRow:
    asked = request.form.get("account", type=int)
    account = next((a for a in accounts.accounts() if a.id == asked), None)
    if account is None:
        abort(400, "account: there is no such account. Load the page again.")
    return account


def _read_draft(schema: fields.Schema) -> Draft:
    form = request.form
    problems = {}
    name = " ".join(form.get("name", "").split())
    if not 1 <= len(name) <= 80:
        problems["name"] = f"{name or 'nothing'} is not a name: 1 to 80 characters"
    number, problem = fields.amount(form, "allocation", "what the strategy may use")
    if problem:
        problems["allocation"] = problem
    return Draft(
        name=name,
        allocation=str(number) if number is not None else form.get("allocation", ""),
        parameters=fields.read_parameters(schema, form),
        sizing=fields.read_sizing(form),
        inputs={key: value for key, value in form.items() if key.startswith(fields.INPUT)},
        start=form.get("start") == "yes",
        problems=problems,
    )


def _read_inputs(type_: StrategyTypeRow, draft: Draft) -> dict[str, Any]:
    """The series chosen; what is missing becomes a problem of the draft."""
    inputs = {}
    for entry in fields.inputs_of(type_.schema):
        key = f"{fields.INPUT}{entry['name']}"
        instrument, interval = (
            draft.inputs.get(f"{key}.instrument", ""),
            draft.inputs.get(f"{key}.interval", ""),
        )
        if not instrument.isdecimal():
            draft.problems[f"{key}.instrument"] = "choose an instrument"
        if not interval.isdecimal():
            draft.problems[f"{key}.interval"] = "choose an interval"
        if instrument.isdecimal() and interval.isdecimal():
            inputs[entry["name"]] = {
                "instrument_id": int(instrument),
                "interval": int(interval),
                "trades": bool(entry.get("trades", True)),
            }
    return inputs


@dataclass(frozen=True, slots=True)
class Preview:
    """What an allocation means: its share of equity, and what the position-size rule makes of it."""

    text: str
    tone: str


def preview(account: AccountRow, text: str) -> Preview:
    number, problem = fields.amount({"allocation": text}, "allocation", "what the strategy may use")
    equity = _equity(account)
    if number is None or not equity:
        return Preview(problem or "equity is not known yet", "muted")
    share = number / equity
    rule = risk_policy.rules_of(account.risk_policy)["position_size"]
    said = f"= {percent(share, 1)} of equity"
    if not rule.enabled:
        return Preview(f"{said}; the position-size rule is off", "muted")
    if share > Decimal(repr(rule.limit)):
        over = f"{said}; the rule allows orders up to {rule.limit_text}, so a full entry would be denied"
        return Preview(over, "warning")
    return Preview(f"{said}; the rule allows {rule.limit_text}", "muted")


@bp.get("/preview")
@auth.trader
def preview_part() -> Response:
    """The line below the allocation while it is being typed."""
    account = accounts.chosen()
    if account is None:
        return unchanged()
    now = preview(account, request.args.get("allocation", ""))
    return partial(render_template("strategies/_preview.html", preview=now))


# One strategy --------------------------------------------------------------------------------


def _strategy(strategy_id: int) -> StrategyRow:
    row = db.session.get(StrategyRow, strategy_id)
    if row is None:
        abort(404)
    return row


@dataclass(frozen=True, slots=True)
class Numbers:
    """The row of numbers of one strategy."""

    running: Running
    trades: int
    fees: Decimal
    decisions: int
    denied: int
    version: str


def numbers(row: StrategyRow) -> Numbers:
    account = db.session.get_one(AccountRow, row.account_id)
    now = _running(row, account)
    trades, fees = db.session.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(FillRow.fee), 0)).where(
            FillRow.strategy_id == row.id
        )
    ).one()
    decided, denied = db.session.execute(
        sa.select(
            sa.func.count(), sa.func.count().filter(DecisionRow.outcome.in_(("denied", "refused")))
        ).where(DecisionRow.strategy_id == row.id)
    ).one()
    held = [(h.position.quantity, h.mark) for h in now.holdings]
    seen = (row.status, row.desired, row.status_text, row.version, now.pnl, held, trades, decided)
    return Numbers(now, trades, Decimal(fees), decided, denied, stamp(seen))


@dataclass(frozen=True, slots=True)
class Decided:
    """The newest decisions of one strategy."""

    rows: list[DecisionRow]
    instruments: dict[int, InstrumentRow]
    version: str


def decided(row: StrategyRow) -> Decided:
    query = (
        sa.select(DecisionRow)
        .where(DecisionRow.strategy_id == row.id)
        .order_by(DecisionRow.decided_at.desc(), DecisionRow.id.desc())
        .limit(DECISIONS)
    )
    rows = list(db.session.scalars(query))
    return Decided(
        rows,
        accounts.names(InstrumentRow, {r.instrument_id for r in rows}),
        stamp([r.id for r in rows]),
    )


@bp.get("/<int:strategy_id>")
@auth.viewer
def detail(strategy_id: int) -> str:
    row = _strategy(strategy_id)
    type_ = db.session.get(StrategyTypeRow, row.type)
    return render_template(
        "strategies/detail.html",
        strategy=row,
        numbers=numbers(row),
        decided=decided(row),
        type=type_,
        tones=TONES,
        outcome_tones=OUTCOME_TONES,
        pictures=_pictures(row),
        has_newer_code=type_ is not None and not type_.error and type_.code_hash != row.code_hash,
        sizing=fields.shown_sizing(row.sizing),
        methods=dict(fields.METHODS),
        interval_text=interval_text,
    )


def _pictures(row: StrategyRow) -> list[tuple[InstrumentRow, int]]:
    """(instrument, interval) of each series it reads."""
    instruments = accounts.names(InstrumentRow, {c["instrument_id"] for c in row.inputs.values()})
    return [(instruments[c["instrument_id"]], c["interval"]) for c in row.inputs.values()]


@bp.get("/<int:strategy_id>/numbers")
@auth.viewer
def numbers_part(strategy_id: int) -> Response:
    row = _strategy(strategy_id)
    now = numbers(row)
    if is_current(now.version):
        return unchanged()
    return partial(
        render_template("strategies/_numbers.html", numbers=now, strategy=row, tones=TONES)
    )


@bp.get("/<int:strategy_id>/decisions")
@auth.viewer
def decisions_part(strategy_id: int) -> Response:
    row = _strategy(strategy_id)
    now = decided(row)
    if is_current(now.version):
        return unchanged()
    return partial(
        render_template(
            "strategies/_decisions.html", decided=now, strategy=row, outcome_tones=OUTCOME_TONES
        )
    )


@bp.post("/<int:strategy_id>/start")
@auth.trader
def start(strategy_id: int) -> AnyResponse:
    row = commands.ask(StartStrategy(strategy_id=_strategy(strategy_id).id))
    return commands.answer(row, url_for("strategies.detail", strategy_id=strategy_id))


@bp.post("/<int:strategy_id>/stop")
@auth.trader
def stop(strategy_id: int) -> AnyResponse:
    """Stop deciding; `flatten` also sells what it holds."""
    flatten = request.form.get("flatten") == "yes"
    row = commands.ask(StopStrategy(strategy_id=_strategy(strategy_id).id, flatten=flatten))
    return commands.answer(row, url_for("strategies.detail", strategy_id=strategy_id))


@bp.post("/<int:strategy_id>/delete")
@auth.trader
def delete(strategy_id: int) -> AnyResponse:
    """Only a stopped, flat one; its history stays."""
    row = commands.ask_and_wait(DeleteStrategy(strategy_id=_strategy(strategy_id).id))
    gone = row.state == "done"
    otherwise = (
        url_for("strategies.page")
        if gone
        else url_for("strategies.detail", strategy_id=strategy_id)
    )
    return commands.settled_page(row, otherwise)


# Editing -------------------------------------------------------------------------------------


@bp.get("/<int:strategy_id>/edit")
@auth.trader
def edit(strategy_id: int) -> str:
    row = _strategy(strategy_id)
    type_ = _type_of(row)
    draft = Draft(
        name=row.name,
        allocation=f"{row.allocation:f}",
        parameters=fields.shown_parameters(type_.schema, row.parameters),
        sizing=fields.shown_sizing(row.sizing),
        inputs={},
        start=False,
        problems={},
    )
    return _edit_form(row, type_, draft)


def _type_of(row: StrategyRow) -> StrategyTypeRow:
    type_ = db.session.get(StrategyTypeRow, row.type)
    if type_ is None:
        abort(
            409, f"The type {row.type} is not in the catalogue any more, so its form is not known."
        )
    return type_


def _edit_form(row: StrategyRow, type_: StrategyTypeRow, draft: Draft) -> str:
    account = db.session.get_one(AccountRow, row.account_id)
    return render_template(
        "strategies/edit.html",
        strategy=row,
        type=type_,
        account=account,
        draft=draft,
        methods=fields.METHODS,
        bounds=fields.bounds_text,
        preview=preview(account, draft.allocation),
        has_newer_code=not type_.error and type_.code_hash != row.code_hash,
    )


@bp.post("/<int:strategy_id>/edit")
@auth.trader
def save(strategy_id: int) -> AnyResponse | tuple[str, int]:
    """Takes effect at the next start."""
    row = _strategy(strategy_id)
    type_ = _type_of(row)
    draft = _read_draft(type_.schema)
    draft.problems.pop("name", None)
    if draft.all_problems:
        return _edit_form(row, type_, draft), 400
    command = commands.ask_and_wait(
        EditStrategy(
            strategy_id=row.id,
            parameters=draft.parameters.values,
            allocation=draft.allocation,
            sizing=draft.sizing.values,
            reload=request.form.get("reload") == "yes",
        )
    )
    if command.state in ("denied", "expired"):
        return _edit_form(row, type_, draft.against(command)), 409
    return commands.settled_page(command, url_for("strategies.detail", strategy_id=row.id))
