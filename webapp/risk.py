"""Risk: what the rules allow, how much of it is used, who stopped what, and what was denied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.market import InstrumentRow
from shared.db.trading import AccountRow, DecisionRow, StrategyRow, TradingStateRow
from shared.messages import EditRiskPolicy
from webapp import accounts, auth, commands, risk_policy
from webapp.db import db
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("risk", __name__, url_prefix="/risk")

DENIALS: Final = 12
REQUESTS: Final = 12


@bp.get("/")
@auth.viewer
def page() -> str:
    account = accounts.chosen()
    form = risk_policy.shown(account.risk_policy) if account else risk_policy.shown({})
    return _page(account, form, "")


def _page(account: AccountRow | None, form: risk_policy.PolicyForm, answer: str) -> str:
    return render_template(
        "risk/page.html",
        account=account,
        form=form,
        answer=answer,
        usage=usage(account),
        requests=_requests(),
        lifted=_lifted(),
        **_denials(account),
    )


@dataclass(frozen=True, slots=True)
class Used:
    """A rule, what it would measure right now, and which instrument that is about."""

    rule: risk_policy.Rule
    value: float | None
    about: str

    @property
    def allowed(self) -> bool:
        return not self.rule.enabled or self.value is None or self.value <= self.rule.limit


@dataclass(frozen=True, slots=True)
class Usage:
    """Every rule against the books as they stand; rules about an order wait for an order."""

    used: list[Used]
    state: str
    version: str


def usage(account: AccountRow | None) -> Usage:
    if account is None:
        return Usage([], "running", "none")
    rules = risk_policy.rules_of(account.risk_policy)
    snapshot = accounts.newest_snapshot(account.id)
    equity = snapshot.equity if snapshot else None
    depth = accounts.drawdown(account, equity)
    symbol, share = _largest(account, equity)
    last = _last_checks(account)
    measured: dict[str, tuple[float | None, str]] = {
        "max_drawdown": (
            float(depth) if depth is not None else None,
            "below the highest equity so far",
        ),
        "concentration": (share, symbol or "nothing is held"),
        "max_positions": (_held(account), "instruments held now"),
        **last,
    }
    used = [
        Used(rule, *measured.get(name, (None, "at the next order"))) for name, rule in rules.items()
    ]
    state = accounts.trading_state(account)
    return Usage(used, state, stamp(used, state))


def _largest(account: AccountRow, equity: Any) -> tuple[str, float | None]:
    """(symbol, share of equity) of the biggest holding, strategies together."""
    if not equity:
        return "", None
    shares: dict[str, float] = {}
    for holding in accounts.holdings(account.id):
        if holding.value is not None:
            symbol = holding.instrument.symbol
            shares[symbol] = shares.get(symbol, 0.0) + float(holding.value / equity)
    if not shares:
        return "", 0.0
    symbol = max(shares, key=lambda s: abs(shares[s]))
    return symbol, abs(shares[symbol])


def _held(account: AccountRow) -> float:
    """How many instruments are held."""
    return float(len({holding.instrument.id for holding in accounts.holdings(account.id)}))


def _last_checks(account: AccountRow) -> dict[str, tuple[float | None, str]]:
    """What the rules about orders measured last: (value, of which instrument)."""
    row = db.session.scalar(
        sa.select(DecisionRow)
        .where(
            DecisionRow.account_id == account.id, sa.func.jsonb_array_length(DecisionRow.checks) > 0
        )
        .order_by(DecisionRow.decided_at.desc())
        .limit(1)
    )
    if row is None:
        return {}
    instrument = db.session.get_one(InstrumentRow, row.instrument_id)
    return {
        check["rule"]: (check["value"], f"{instrument.symbol}, at the last order")
        for check in row.checks
        if check["rule"] in ("position_size", "volatility", "liquidity")
    }


def _requests() -> list[TradingStateRow]:
    """The newest halts, reduce-only requests and resumptions, newest first."""
    query = sa.select(TradingStateRow).order_by(TradingStateRow.id.desc()).limit(REQUESTS)
    return list(db.session.scalars(query))


def _lifted() -> set[int]:
    lifts = sa.select(TradingStateRow.lifts).where(TradingStateRow.lifts.is_not(None))
    return {number for number in db.session.scalars(lifts) if number is not None}


def _denials(account: AccountRow | None) -> dict[str, Any]:
    if account is None:
        return {"denials": [], "instruments": {}, "strategies": {}}
    query = (
        sa.select(DecisionRow)
        .where(DecisionRow.account_id == account.id, DecisionRow.outcome.in_(("denied", "refused")))
        .order_by(DecisionRow.decided_at.desc())
        .limit(DENIALS)
    )
    rows = list(db.session.scalars(query))
    return {
        "denials": rows,
        "instruments": accounts.names(InstrumentRow, {r.instrument_id for r in rows}),
        "strategies": accounts.names(
            StrategyRow, {r.strategy_id for r in rows if r.strategy_id is not None}
        ),
    }


@bp.get("/usage")
@auth.viewer
def part() -> Response:
    now = usage(accounts.chosen())
    if is_current(now.version):
        return unchanged()
    return partial(render_template("risk/_usage.html", usage=now))


@bp.post("/policy")
@auth.trader
def edit_policy() -> AnyResponse | tuple[str, int]:
    """New limits, from the next decision on."""
    account = next(
        (a for a in accounts.accounts() if a.id == request.form.get("account", type=int)), None
    )
    if account is None:
        abort(400, "account: there is no such account. Load the page again.")
    form = risk_policy.read(request.form)
    if form.problems:
        return _page(account, form, ""), 400
    row = commands.ask_and_wait(
        EditRiskPolicy(account_id=account.id, policy=risk_policy.policy_of(form.rules))
    )
    if row.state in ("denied", "expired"):
        return _page(account, form, commands.text_of(row)), 409
    return commands.settled_page(row, url_for("risk.page"))
