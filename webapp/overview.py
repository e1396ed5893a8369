"""The first page: is it running, am I making or losing money, does anything need me?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from shared.db.backtests import JobRow, RunRow
from shared.db.market import InstrumentRow
from shared.db.trading import (
    AccountRow,
    EventRow,
    FillRow,
    StrategyRow,
    StrategyTypeRow,
)
from shared.messages import CreateStrategy
from webapp import accounts, auth, charts, commands, frame, happenings, live, risk_policy, workers
from webapp.db import db
from webapp.formats import percent, plural, signed
from webapp.paging import Slice, sliced
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("overview", __name__)

EVENTS: Final = 9
FIRST_TYPE: Final = "moving_average_cross"
FIRST_SYMBOL: Final = "BTC/USD"


@bp.get("/")
@auth.viewer
def page() -> str:
    """Everything at a glance."""
    span = request.args.get("range", "1d")
    return render_template(
        "overview/page.html",
        account=accounts.chosen(),
        steps=first_steps(),
        numbers=numbers(),
        positions=positions(),
        events=newest_events(),
        span=span if span in charts.RANGES else "1d",
        ranges=list(charts.RANGES),
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """The four answers at the top."""

    health: str
    health_tone: str
    health_note: str
    running: int
    strategies: int
    strategies_note: str
    day: accounts.Today | None
    day_note: str
    spark: list[float]
    trades: int
    trades_note: str
    asset: str
    version: str


def numbers() -> Numbers:
    account = accounts.chosen()
    health, tone, note = _health(account)
    statuses = _strategy_statuses(account)
    day = accounts.today(account, frame.zone()) if account else None
    trades = _fill_count(account)
    said = (health, note, statuses, day, trades)
    return Numbers(
        health=health,
        health_tone=tone,
        health_note=note,
        running=statuses["running"],
        strategies=statuses.total(),
        strategies_note=_status_note(statuses),
        day=day,
        day_note=f"realised {signed(day.realised)} · fees {signed(-day.fees)}" if day else "",
        spark=_day_spark(account, day),
        trades=trades,
        trades_note=_trades_note(account, day),
        asset=account.base_asset if account else "",
        version=stamp(*said),
    )


def _health(account: AccountRow | None) -> tuple[str, str, str]:
    """(word, tone, why): healthy only when engine, worker and clock beat and the feed is fresh."""
    beats = live.heartbeats()
    if not beats.answers:
        return "Redis is away", "warning", "live numbers and new jobs wait for it"
    kinds = {process.partition(":")[0] for process in beats.by_process}
    missing = [kind for kind in ("engine", "worker", "clock") if kind not in kinds]
    if missing:
        return "Not whole", "danger", f"no heartbeat of {', '.join(missing)}"
    status = frame.status()
    if account and status.feed_at and (live.now() - status.feed_at) > timedelta(seconds=30):
        return (
            "Feed silent",
            "warning",
            f"{plural(len(beats.by_process), 'process', 'processes')} alive",
        )
    return "Healthy", "gain", f"{plural(len(beats.by_process), 'process', 'processes')} alive"


def _strategy_statuses(account: AccountRow | None) -> Counter[str]:
    if account is None:
        return Counter()
    query = (
        sa.select(StrategyRow.status, sa.func.count())
        .where(StrategyRow.account_id == account.id, StrategyRow.deleted_at.is_(None))
        .group_by(StrategyRow.status)
    )
    return Counter(dict(db.session.execute(query).all()))


def _status_note(statuses: Counter[str]) -> str:
    others = [f"{statuses[s]} {s}" for s in ("stopped", "failed", "quarantined") if statuses[s]]
    return " · ".join(others) or ("all running" if statuses else "none yet")


def _fill_count(account: AccountRow | None) -> int:
    if account is None:
        return 0
    query = sa.select(sa.func.count()).where(FillRow.account_id == account.id)
    return db.session.scalar(query) or 0


def _trades_note(account: AccountRow | None, day: accounts.Today | None) -> str:
    """Today's count, and the share of closing fills that gained, with how many that is of."""
    if account is None or day is None:
        return ""
    query = sa.select(
        sa.func.count().filter(FillRow.realised > 0), sa.func.count().filter(FillRow.realised != 0)
    ).where(FillRow.account_id == account.id)
    won, closed = db.session.execute(query).one()
    rate = f" · win rate {percent(won / closed, 0)} of {closed}" if closed else ""
    return f"{day.trades} today{rate}"


def _day_spark(account: AccountRow | None, day: accounts.Today | None) -> list[float]:
    if account is None or day is None:
        return []
    began = day.began_at
    points = charts.equity_points(account, accounts.market_now(account) - began)
    return charts.thinned([p.equity for p in points])


@dataclass(frozen=True, slots=True)
class Positions:
    """What is held, as bars and as rows."""

    holdings: list[accounts.Holding]
    equity: Decimal | None
    asset: str
    limit: float | None
    working: int
    version: str

    def share(self, holding: accounts.Holding) -> float:
        """Value as a percentage of equity, signed."""
        if holding.value is None or not self.equity:
            return 0.0
        return float(holding.value / self.equity * 100)

    @property
    def shares(self) -> list[tuple[str, int, float]]:
        """(symbol, instrument id, % of equity), strategies of one instrument together, largest first."""
        sums: dict[tuple[str, int], float] = {}
        for holding in self.holdings:
            key = (holding.instrument.symbol, holding.instrument.id)
            sums[key] = sums.get(key, 0.0) + self.share(holding)
        return sorted(((s, i, v) for (s, i), v in sums.items()), key=lambda row: row[0])

    @property
    def scale(self) -> tuple[float, float]:
        """(room to the right of zero, room to the left), in % of equity."""
        values = [share for _, _, share in self.shares]
        right = max([*values, self.limit or 0, 1.0]) * 1.05
        left = -min([*values, 0.0]) * 1.05
        return right, left

    @property
    def net(self) -> float:
        return sum(share for _, _, share in self.shares)

    @property
    def gross(self) -> float:
        return sum(abs(share) for _, _, share in self.shares)

    @property
    def unrealised(self) -> Decimal:
        return sum((h.unrealised or Decimal(0) for h in self.holdings), Decimal(0))


def positions() -> Positions:
    account = accounts.chosen()
    if account is None:
        return Positions([], None, "", None, 0, "none")
    held = accounts.holdings(account.id)
    snapshot = accounts.newest_snapshot(account.id)
    equity = snapshot.equity if snapshot else None
    rule = risk_policy.rules_of(account.risk_policy)["concentration"]
    limit = rule.limit * 100 if rule.enabled else None
    working = accounts.working_orders(account.id)
    seen = [(h.position.id, h.position.updated_at, h.mark) for h in held]
    return Positions(
        holdings=held,
        equity=equity,
        asset=account.base_asset,
        limit=limit,
        working=working,
        version=stamp(seen, equity, limit, working),
    )


@dataclass(frozen=True, slots=True)
class Happened:
    """The newest events, newest first."""

    events: list[EventRow]
    version: str


def newest_events(limit: int = EVENTS) -> Happened:
    events = list(db.session.scalars(happenings.events_of(accounts.chosen()).limit(limit)))
    return Happened(events, stamp(events[0].id if events else 0))


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What a new user has not done yet: a strategy, real history, a backtest. Gone once all are done."""

    account: AccountRow | None
    has_strategy: bool
    has_history: bool
    has_run: bool
    can_start: bool
    is_loading: bool
    version: str

    @property
    def are_done(self) -> bool:
        return self.has_strategy and self.has_history and self.has_run


def first_steps() -> FirstSteps:
    account = accounts.chosen()
    has_strategy = _any(sa.select(StrategyRow.id))
    has_history = _any(sa.select(InstrumentRow.id).where(InstrumentRow.venue == "replay"))
    has_run = _any(sa.select(RunRow.id))
    is_known = db.session.get(StrategyTypeRow, FIRST_TYPE) is not None
    can_start = account is not None and is_known and _first_instrument(account) is not None
    is_loading = _any(
        sa.select(JobRow.id).where(
            JobRow.kind == "sample_data", JobRow.state.in_(("queued", "running"))
        )
    )
    known = (account and account.id, has_strategy, has_history, has_run, can_start, is_loading)
    return FirstSteps(
        account, has_strategy, has_history, has_run, can_start, is_loading, stamp(known)
    )


def _any(query: sa.Select[Any]) -> bool:
    return db.session.execute(query.limit(1)).first() is not None


def _first_instrument(account: AccountRow) -> InstrumentRow | None:
    return db.session.scalar(
        sa.select(InstrumentRow).where(
            InstrumentRow.venue == account.venue, InstrumentRow.symbol == FIRST_SYMBOL
        )
    )


@bp.post("/first-strategy")
@auth.trader
def start_first() -> AnyResponse:
    """One press: a moving-average cross on BTC/USD, on paper, running."""
    account = accounts.chosen()
    instrument = _first_instrument(account) if account else None
    if account is None or instrument is None:
        flash("The engine has not made its first account yet. Try again in a few seconds.")
        return redirect(url_for("overview.page"), code=303)
    row = commands.ask_and_wait(
        CreateStrategy(
            name=f"First {instrument.symbol} trend",
            type=FIRST_TYPE,
            account_id=account.id,
            parameters={},
            inputs={"main": {"instrument_id": instrument.id, "interval": 60, "trades": True}},
            allocation=_first_allocation(account),
            sizing={"method": "fraction", "fraction": 1.0},
            start=True,
        )
    )
    return commands.settled_page(row, url_for("overview.page"))


def _first_allocation(account: AccountRow) -> str:
    """As much as the position-size rule lets one order be, with a little room for the price to move."""
    snapshot = accounts.newest_snapshot(account.id)
    equity = (snapshot.equity if snapshot else None) or accounts.capital(account)
    rule = risk_policy.rules_of(account.risk_policy)["position_size"]
    share = Decimal(repr(rule.limit)) if rule.enabled else Decimal("0.05")
    return str(max(Decimal(1), (equity * share * Decimal("0.9")).quantize(Decimal(1))))


@bp.post("/sample-data")
@auth.trader
def load_sample_data() -> AnyResponse:
    """Ask a worker for the stock history that ships with the installation."""
    workers.ask_for_sample_data()
    flash("A worker loads the sample data; this takes a few seconds.")
    return redirect(url_for("overview.page"), code=303)


@bp.get("/events")
@auth.viewer
def events() -> str:
    """All that happened, newest first; `?severity=warning` shows warnings and worse."""
    return render_template("overview/events.html", page=_events_page(), severity=_severity())


def _severity() -> str:
    return "warning" if request.args.get("severity") == "warning" else ""


def _events_page() -> Slice[EventRow]:
    query = happenings.events_of(accounts.chosen())
    if _severity():
        query = query.where(happenings.is_trouble())
    return sliced(query, (EventRow.id,), lambda event: (event.id,), size=60)


@bp.get("/overview/first-steps")
@auth.viewer
def first_steps_part() -> Response:
    now = first_steps()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("overview/_first_steps.html", steps=now))


@bp.get("/overview/numbers")
@auth.viewer
def numbers_part() -> Response:
    now = numbers()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("overview/_numbers.html", numbers=now))


@bp.get("/overview/positions")
@auth.viewer
def positions_part() -> Response:
    now = positions()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("overview/_positions.html", positions=now))


@bp.get("/overview/bars")
@auth.viewer
def bars_part() -> Response:
    now = positions()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("overview/_bars.html", positions=now))


@bp.get("/overview/events")
@auth.viewer
def events_part() -> Response:
    now = newest_events()
    if is_current(now.version):
        return unchanged()
    return partial(render_template("overview/_events.html", events=now))
