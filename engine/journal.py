"""The one writer of trading state: what a turn decided becomes rows in one commit, or nothing does.

Every commit first updates the lease row, so an engine that lost its lease writes nothing, and
whoever locks that row (a kill switch) is sure that no release slips past it. Decisions that want
orders are checked against trading states in the same transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
import structlog
from msgspec import structs
from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy.dialects.postgresql import JSONB, insert

from engine import settling
from engine.actions import Booked, Broken, OrderMoved, Posted
from engine.history import store_live_bars
from engine.trading_state import frozen_lets_go, refusal, rulings
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EngineLeaseRow,
    EquitySnapshotRow,
    EventRow,
    FillRow,
    LedgerEntryRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyRow,
)
from shared.domain.decisions import Decision, Outcome
from shared.domain.market import Bar
from shared.domain.orders import Acknowledged, Amended, Fill, OrderState
from shared.domain.positions import Position

log = structlog.get_logger()

LEASE_SECONDS: Final = 15
_SAID: Final = {
    Outcome.DENIED: "Denied",
    Outcome.REFUSED: "Refused",
    Outcome.NOTHING: "Nothing to do",
}
RETRY_SECONDS: Final = 0.5


class LeaseLost(RuntimeError):
    """Another engine trades for this group now: stop at once, without a word to the venue."""


class GivenUp(RuntimeError):
    """The engine ends while the database is away: the batch is not committed, and never will be."""


class CommandGone(RuntimeError):
    """The command was settled, or ran out, before its effect was committed: nothing of it may happen."""


class Doubled(RuntimeError):
    """A fill the books hold already was about to be booked again: memory and rows disagree."""


@dataclass(frozen=True, slots=True)
class Told:
    """A line for "What happened"."""

    kind: str
    severity: str
    text: str
    link: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: datetime
    equity: Decimal | None
    cash: Decimal
    holdings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Settlement:
    """A command that is taken and settled by the commit that has its effect.

    `text` and `link` are its answer if the batch's first decision (or the batch without one) stands.
    """

    command_id: UUID
    text: str
    link: str = ""
    orders: tuple[str, ...] = ()
    claimed: bool = False


@dataclass(slots=True)
class Batch:
    """Everything one commit holds, for one account."""

    account_id: int
    venue: str
    at: datetime
    decisions: list[Decision] = field(default_factory=list)
    moves: list[OrderMoved] = field(default_factory=list)
    booked: list[Booked] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    trails: list[tuple[UUID, float]] = field(default_factory=list)
    command: Settlement | None = None
    moment_at: datetime | None = None
    peak: Decimal | None = None
    snapshot: Snapshot | None = None
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    stood: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    """Standings to keep in place of those in `states` when a decision is refused."""
    positions: list[tuple[int, int, Position]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (
            self.decisions
            or self.moves
            or self.booked
            or self.posted
            or self.broken
            or self.told
            or self.bars
            or self.moment_at
            or self.states
            or self.command
        )


def is_away(error: sa.exc.DBAPIError) -> bool:
    """Whether trying again helps: the server is gone, or it ended a session that stood still too long."""
    stood_still = isinstance(error.orig, IdleInTransactionSessionTimeout)
    return stood_still or isinstance(error, sa.exc.OperationalError)


class Journal:
    """Commits batches for the holder of a lease. Blocking: the live shell gives it a thread of its own."""

    def __init__(self, engine: sa.Engine, group: str, token: UUID) -> None:
        self._engine = engine
        self._group = group
        self._token = token
        self._ending = threading.Event()

    def give_up(self) -> None:
        """Wait no longer for a database that is away: this engine ends."""
        self._ending.set()

    def commit(self, batch: Batch) -> dict[UUID, str]:
        """Store the batch; the decisions that were refused, and why.

        Waits for a database that is away, for as long as it takes: an engine that cannot journal
        must not trade. A commit whose answer was lost is looked up, never repeated.
        """
        batch_id = uuid4()
        while True:
            try:
                with self._engine.begin() as connection:
                    if self._is_committed(connection, batch_id):
                        return self._refused_before(connection, batch)
                    self._hold_lease(connection, batch_id)
                    return self._write(connection, batch)
            except sa.exc.DBAPIError as error:
                if not is_away(error):
                    raise
                log.warning(
                    "journal.waiting", error=str(error.orig)[:200], account=batch.account_id
                )
                if self._ending.wait(RETRY_SECONDS):
                    raise GivenUp("told to end while the database was away") from error

    def _is_committed(self, connection: sa.Connection, batch_id: UUID) -> bool:
        query = sa.select(EngineLeaseRow.last_batch, frozen_lets_go()).where(
            EngineLeaseRow.engine_group == self._group
        )
        return connection.scalar(query) == batch_id

    def _refused_before(self, connection: sa.Connection, batch: Batch) -> dict[UUID, str]:
        ids = [decision.id for decision in batch.decisions]
        query = sa.select(DecisionRow.id, DecisionRow.reason).where(
            DecisionRow.id.in_(ids), DecisionRow.outcome == Outcome.REFUSED
        )
        return {row.id: row.reason for row in connection.execute(query)}

    def _hold_lease(self, connection: sa.Connection, batch_id: UUID) -> None:
        expiry = sa.func.clock_timestamp() + sa.text(f"interval '{LEASE_SECONDS} seconds'")
        held = connection.execute(
            sa.update(EngineLeaseRow)
            .where(EngineLeaseRow.engine_group == self._group, EngineLeaseRow.token == self._token)
            .values(last_batch=batch_id, expires_at=expiry)
        )
        if held.rowcount != 1:
            raise LeaseLost(f"engine group {self._group!r} belongs to another engine")

    def _write(self, connection: sa.Connection, batch: Batch) -> dict[UUID, str]:
        self._claim(connection, batch)
        refused = self._decisions(connection, batch)
        self._order_events(connection, batch)
        self._books(connection, batch)
        self._stand_again(batch, refused)
        self._moment(connection, batch)
        self._told(connection, batch, refused)
        self._settle(connection, batch, refused)
        return refused

    @staticmethod
    def _claim(connection: sa.Connection, batch: Batch) -> None:
        command = batch.command
        if command is None or command.claimed:
            return
        if not settling.claim(connection, command.command_id):
            raise CommandGone(f"command {command.command_id} is not asked any more")

    @staticmethod
    def _settle(connection: sa.Connection, batch: Batch, refused: Mapping[UUID, str]) -> None:
        """The command's answer is what became of its decision."""
        command = batch.command
        if command is None:
            return
        result: dict[str, Any] = {"text": command.text, "link": command.link}
        state = "done"
        for decision in batch.decisions[:1]:
            why = refused.get(decision.id) or decision.reason
            if decision.id in refused or decision.outcome is not Outcome.ORDERED:
                state = "denied"
                said = "Refused" if decision.id in refused else _SAID[decision.outcome]
                result = {"text": f"{said}: {why}", "link": f"/decisions/{decision.id}"}
            elif command.orders:
                result["orders"] = list(command.orders)
        settling.settle(connection, command.command_id, state, result)

    @staticmethod
    def _stand_again(batch: Batch, refused: Mapping[UUID, str]) -> None:
        """A refusal and where it leaves the strategy are one commit. Newest first: the oldest counts."""
        for decision in reversed(batch.decisions):
            if decision.id in refused and decision.id in batch.stood:
                standings = batch.states[decision.strategy_id]["standings"]
                standings[str(decision.instrument_id)] = batch.stood[decision.id]

    # Decisions and intents ----------------------------------------------------------------

    def _decisions(self, connection: sa.Connection, batch: Batch) -> dict[UUID, str]:
        if not batch.decisions:
            return {}
        refused: dict[UUID, str] = {}
        wanted = [d for d in batch.decisions if d.outcome is Outcome.ORDERED]
        if wanted:
            states = rulings(connection)
            for decision in wanted:
                reduces = all(request.reduce_only for request in decision.requests)
                if why := refusal(states, decision, batch.venue, reduces=reduces):
                    refused[decision.id] = why
        rows = [_decision_row(decision, refused.get(decision.id)) for decision in batch.decisions]
        stored = connection.execute(
            insert(DecisionRow).on_conflict_do_nothing().returning(DecisionRow.id), rows
        )
        known = {row.id for row in stored}
        for decision in batch.decisions:
            if decision.id not in known:
                refused[decision.id] = "this moment was decided before"
        intents = [
            request
            for decision in wanted
            if decision.id not in refused
            for request in decision.requests
        ]
        if intents:
            connection.execute(sa.insert(OrderIntentRow), [_intent_row(r) for r in intents])
            connection.execute(sa.insert(OrderRow), [_new_order_row(r) for r in intents])
        return refused

    # Orders --------------------------------------------------------------------------------

    def _order_events(self, connection: sa.Connection, batch: Batch) -> None:
        if batch.moves:
            rows = [_event_row(move) for move in batch.moves]
            connection.execute(insert(OrderEventRow).on_conflict_do_nothing(), rows)
        newest = {move.order.request.client_order_id: move for move in batch.moves}
        placed = {
            move.order.request.client_order_id
            for move in batch.moves
            if isinstance(move.event, (Acknowledged, Amended))
        }
        for order_id, move in newest.items():
            connection.execute(_order_update(move, placed=order_id in placed))
        for order_id, level in batch.trails:
            connection.execute(
                sa.update(OrderRow)
                .where(OrderRow.client_order_id == order_id)
                .values(stop_price=_number(level))
            )

    # Books ---------------------------------------------------------------------------------

    def _books(self, connection: sa.Connection, batch: Batch) -> None:
        self._post(connection, batch)
        if not batch.booked:
            return
        rows = [_fill_row(booked, batch.venue) for booked in batch.booked]
        stored = connection.execute(
            insert(FillRow).on_conflict_do_nothing().returning(FillRow.id), rows
        ).all()
        if len(stored) != len(rows):
            raise Doubled(f"account {batch.account_id}: {[row['venue_fill_id'] for row in rows]}")
        entries = [_ledger_row(entry) for booked in batch.booked for entry in booked.entries]
        connection.execute(sa.insert(LedgerEntryRow), entries)
        newest = {(b.fill.strategy_id, b.fill.instrument_id): b for b in batch.booked}
        for booked in newest.values():
            fill = booked.fill
            owner = (fill.account_id, fill.strategy_id, fill.instrument_id)
            connection.execute(_position_upsert(*owner, booked.position, fill.at))

    def _post(self, connection: sa.Connection, batch: Batch) -> None:
        """What moved without a fill. An entry that is there already is an error: see `Doubled`."""
        if not batch.posted:
            return
        entries = [_ledger_row(entry) for posted in batch.posted for entry in posted.entries]
        if entries:
            stored = connection.execute(
                insert(LedgerEntryRow).on_conflict_do_nothing().returning(LedgerEntryRow.id),
                entries,
            ).all()
            if len(stored) != len(entries):
                raise Doubled(
                    f"account {batch.account_id}: {[row['reference'] for row in entries]}"
                )
        for posted in batch.posted:
            for strategy_id, instrument_id, position in posted.positions:
                owner = (batch.account_id, strategy_id, instrument_id)
                connection.execute(_position_upsert(*owner, position, batch.at))

    # The moment ------------------------------------------------------------------------------

    def _moment(self, connection: sa.Connection, batch: Batch) -> None:
        if batch.bars:
            store_live_bars(connection, batch.bars)
        for strategy_id, state in batch.states.items():
            values: dict[str, Any] = {"state": _kept_wish(state)}
            if batch.moment_at is not None:
                values["last_moment_at"] = batch.moment_at
            connection.execute(
                sa.update(StrategyRow).where(StrategyRow.id == strategy_id).values(values)
            )
        if batch.moment_at is not None:
            connection.execute(
                sa.update(AccountRow)
                .where(AccountRow.id == batch.account_id)
                .values(market_time=batch.moment_at, peak_equity=batch.peak)
            )
        if batch.snapshot is not None:
            row = {"account_id": batch.account_id, **asdict(batch.snapshot)}
            connection.execute(insert(EquitySnapshotRow).on_conflict_do_nothing(), [row])

    def _told(self, connection: sa.Connection, batch: Batch, refused: Mapping[UUID, str]) -> None:
        rows = [
            {
                "account_id": batch.account_id,
                "kind": told.kind,
                "severity": told.severity,
                "text": told.text,
                "link": told.link,
                "happened_at": told.at or batch.at,
            }
            for told in batch.told
        ]
        for broken in batch.broken:
            log.error("order.broken", account=batch.account_id, text=broken.text)
            rows.append(
                {
                    "account_id": batch.account_id,
                    "kind": "break",
                    "severity": "bad",
                    "text": broken.text,
                    "link": f"/books/orders/{broken.client_order_id}"
                    if broken.client_order_id
                    else "",
                    "happened_at": batch.at,
                }
            )
        for decision_id, why in refused.items():
            rows.append(
                {
                    "account_id": batch.account_id,
                    "kind": "decision.refused",
                    "severity": "warning",
                    "text": f"Refused: {why}",
                    "link": f"/decisions/{decision_id}",
                    "happened_at": batch.at,
                }
            )
        if rows:
            connection.execute(sa.insert(EventRow), rows)


def _kept_wish(state: Mapping[str, Any]) -> Any:
    """The new state, and the wish to be flattened that a command may have put beside the old one."""
    new = sa.cast(sa.literal(state, JSONB), JSONB)
    wish = sa.func.jsonb_build_object("flatten", StrategyRow.state["flatten"])
    return sa.case((StrategyRow.state.has_key("flatten"), new.op("||")(wish)), else_=new)


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def bar_json(bar: Bar | None) -> dict[str, Any] | None:
    """The bar a decision used, as the decision row keeps it."""
    if bar is None:
        return None
    return {
        "interval": bar.interval,
        "opened_at": bar.opened_at.isoformat(),
        "closed_at": bar.closed_at.isoformat(),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": bar.volume,
        "filled": bar.filled,
    }


def plain(value: Any) -> Any:
    """JSON without NaN: a number that is none is null."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=str))


def _decision_row(decision: Decision, refused: str | None) -> dict[str, Any]:
    return {
        "id": decision.id,
        "account_id": decision.account_id,
        "strategy_id": decision.strategy_id or None,
        "instrument_id": decision.instrument_id,
        "decided_at": decision.decided_at,
        "kind": decision.kind,
        "target": decision.target,
        "previous": decision.previous,
        "because": decision.because,
        "tag": decision.tag,
        "bar": bar_json(decision.bar),
        "price": _number(decision.price),
        "checks": plain([structs.asdict(check) for check in decision.checks]),
        "steps": plain([structs.asdict(step) for step in decision.steps]),
        "outcome": Outcome.REFUSED.value if refused else decision.outcome.value,
        "reason": refused or decision.reason,
    }


def _intent_row(request: Any) -> dict[str, Any]:
    return {
        "client_order_id": request.client_order_id,
        "decision_id": request.decision_id,
        "account_id": request.account_id,
        "strategy_id": request.strategy_id or None,
        "instrument_id": request.instrument_id,
        "leg": request.leg.value,
        "attempt": request.attempt,
        "parent_id": request.parent_id,
        "side": request.side.value,
        "type": request.type.value,
        "quantity": _number(request.quantity),
        "value": _number(request.value),
        "limit_price": _number(request.limit_price),
        "stop_price": _number(request.stop_price),
        "distance": _number(request.distance),
        "fraction": _number(request.fraction),
        "reduce_only": request.reduce_only,
        "tag": request.tag,
        "time_in_force": request.time_in_force.value,
        "expires_at": request.expires_at,
        "post_only": request.post_only,
        "oco": request.oco,
        "decided_at": request.decided_at,
    }


def _new_order_row(request: Any) -> dict[str, Any]:
    return {
        "client_order_id": request.client_order_id,
        "account_id": request.account_id,
        "strategy_id": request.strategy_id or None,
        "instrument_id": request.instrument_id,
        "decided_at": request.decided_at,
        "state": OrderState.NEW.value,
        "quantity": _number(request.quantity),
        "stop_price": _number(request.stop_price),
        "limit_price": _number(request.limit_price),
        "updated_at": request.decided_at,
    }


def _event_row(move: OrderMoved) -> dict[str, Any]:
    event = move.event
    kind = type(event).__name__.lower()
    key = event.venue_fill_id if isinstance(event, Fill) else f"{kind}:{event.at.isoformat()}"
    data = {
        name: str(value)
        for name in (
            "reason",
            "venue_order_id",
            "quantity",
            "price",
            "fee",
            "stop_price",
            "limit_price",
            "revision",
        )
        if (value := getattr(event, name, None)) not in (None, "")
    }
    if isinstance(event, Fill) and event.last:
        data["last"] = "True"
    return {
        "client_order_id": move.order.request.client_order_id,
        "kind": kind,
        "key": key,
        "happened_at": event.at,
        "data": data,
    }


def _order_update(move: OrderMoved, *, placed: bool) -> Any:
    """`placed`: the batch tells its levels. Later a trailing stop's row knows its level better."""
    order = move.order
    values: dict[str, Any] = {
        "state": order.state.value,
        "filled_quantity": _number(order.filled),
        "filled_value": _number(order.filled_value),
        "fees": _number(order.fees),
        "venue_order_id": order.venue_order_id,
        "reason": order.reason,
        "revision": order.revision,
        "ended": order.ended.value if order.ended is not None else None,
        "is_triggered": order.is_triggered,
        "updated_at": move.event.at,
    }
    if order.asked_quantity is not None:
        values["quantity"] = _number(order.asked_quantity)
    if placed:
        if order.stop_price is not None:
            values["stop_price"] = _number(order.stop_price)
        if order.limit_price is not None:
            values["limit_price"] = _number(order.limit_price)
    return (
        sa.update(OrderRow)
        .where(OrderRow.client_order_id == order.request.client_order_id)
        .values(values)
    )


def _fill_row(booked: Booked, venue: str) -> dict[str, Any]:
    fill = booked.fill
    return {
        "venue": venue,
        "account_id": fill.account_id,
        "venue_fill_id": fill.venue_fill_id,
        "client_order_id": fill.client_order_id,
        "strategy_id": fill.strategy_id or None,
        "instrument_id": fill.instrument_id,
        "side": fill.side.value,
        "quantity": fill.quantity,
        "price": fill.price,
        "fee": fill.fee,
        "fee_asset": fill.fee_asset,
        "liquidity": fill.liquidity,
        "realised": booked.realised,
        "filled_at": fill.at,
    }


def _ledger_row(entry: Any) -> dict[str, Any]:
    return {
        "account_id": entry.account_id,
        "strategy_id": entry.strategy_id,
        "at": entry.at,
        "kind": entry.kind,
        "asset": entry.asset,
        "amount": entry.amount,
        "debit": entry.debit,
        "credit": entry.credit,
        "reference": entry.reference,
        "leg": entry.leg,
        "instrument_id": entry.instrument_id,
        "note": entry.note,
        "worth": entry.worth,
    }


def _position_upsert(
    account_id: int, strategy_id: int, instrument_id: int, position: Position, at: datetime
) -> Any:
    values = {
        "quantity": position.quantity,
        "cost": position.cost,
        "realised": position.realised,
        "fees": position.fees,
        "opened_at": position.opened_at,
        "updated_at": at,
    }
    return (
        insert(PositionRow)
        .values(
            account_id=account_id,
            strategy_id=strategy_id or None,
            instrument_id=instrument_id,
            **values,
        )
        .on_conflict_do_update(
            index_elements=["account_id", "strategy_id", "instrument_id"], set_=values
        )
    )
