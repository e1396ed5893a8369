"""What stands on an account now: positions of every owner, working orders, and what people asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa
from flask import g

from shared.db.console import CommandRow
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import AccountRow, OrderIntentRow, OrderRow, PositionRow, StrategyRow
from webapp import accounts, commands
from webapp.db import db
from webapp.partials import stamp
from webapp.trade import ticket

BY_HAND: Final = "by hand"
SHOWN_COMMANDS: Final = 12
SHOWN_ORDERS: Final = 100
STOPS: Final = ("stop_loss", "trailing_stop")

KINDS: Final = (
    "PlaceOrder",
    "AmendOrder",
    "CancelOrder",
    "CancelOrders",
    "ClosePosition",
    "ProtectPosition",
    "ForceEntry",
    "ForceExit",
    "AdoptPosition",
    "EditAccount",
)
"""Commands of this page."""


# Where one trades ------------------------------------------------------------------------------


def account_of(account_id: int | None) -> AccountRow | None:
    return next((a for a in accounts.accounts() if a.id == account_id), None)


def tradable(account: AccountRow) -> list[InstrumentRow]:
    """Instruments of the account's venue; of a replay, those it plays. Read once a request."""
    if "tradable" not in g:
        query = sa.select(InstrumentRow).where(InstrumentRow.venue == account.venue)
        if account.clock == "replay":
            played = sa.select(SeriesRow.instrument_id).where(
                SeriesRow.id.in_(account.feed.get("series_ids", []))
            )
            query = query.where(InstrumentRow.id.in_(played))
        g.tradable = list(db.session.scalars(query.order_by(InstrumentRow.symbol)))
    return cast("list[InstrumentRow]", g.tradable)


# Orders ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Working:
    """An order that is not over yet, and whose it is."""

    order: OrderRow
    intent: OrderIntentRow
    instrument: InstrumentRow
    strategy: StrategyRow | None

    @property
    def id(self) -> UUID:
        return self.order.client_order_id

    @property
    def owner(self) -> str:
        return self.strategy.name if self.strategy else BY_HAND

    @property
    def is_waiting(self) -> bool:
        """Held at our side until its parent has filled."""
        return self.order.state == "held"

    @property
    def can_amend(self) -> bool:
        return self.order.state == "working"

    @property
    def can_cancel(self) -> bool:
        return self.order.state not in ("cancelling", *accounts.DONE_STATES)

    @property
    def has_limit(self) -> bool:
        return self.order.limit_price is not None

    @property
    def has_stop(self) -> bool:
        return self.order.stop_price is not None and self.intent.type != "trailing_stop"

    @property
    def share(self) -> Decimal:
        """How much of it has traded."""
        whole = self.order.quantity
        return self.order.filled_quantity / whole if whole else Decimal(0)


@dataclass(frozen=True, slots=True)
class Orders:
    """Working orders, parents before what waits for them."""

    rows: list[Working]
    protective: int
    version: str

    def row(self, order_id: UUID | None) -> Working | None:
        return next((row for row in self.rows if row.id == order_id), None)


def orders(account: AccountRow, *seen: Any) -> Orders:
    """Those of the account; `seen` is what else the open page shows of them."""
    query = (
        sa.select(OrderRow, OrderIntentRow, InstrumentRow, StrategyRow)
        .join(OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id)
        .join(InstrumentRow, InstrumentRow.id == OrderRow.instrument_id)
        .outerjoin(StrategyRow, StrategyRow.id == OrderRow.strategy_id)
        .where(OrderRow.account_id == account.id, OrderRow.state.not_in(accounts.DONE_STATES))
        .order_by(InstrumentRow.symbol, OrderIntentRow.released_at, OrderRow.client_order_id)
        .limit(SHOWN_ORDERS)
    )
    rows = _families([Working(*row) for row in db.session.execute(query)])
    shown = [
        (r.id, r.order.state, r.order.quantity, r.order.filled_quantity, r.order.stop_price,
         r.order.limit_price) for r in rows
    ]  # fmt: skip
    protective = sum(r.intent.leg not in ("entry", "exit") for r in rows)
    return Orders(rows, protective, stamp(shown, seen))


def _families(rows: list[Working]) -> list[Working]:
    """Every order with what waits for it right behind it."""
    known = {row.id for row in rows}
    first = [row for row in rows if row.intent.parent_id not in known]
    behind: dict[UUID | None, list[Working]] = {}
    for row in rows:
        if row.intent.parent_id in known:
            behind.setdefault(row.intent.parent_id, []).append(row)
    return [member for row in first for member in (row, *behind.get(row.id, []))]


# Positions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owned:
    """A position with the stop and the target that work for it."""

    holding: accounts.Holding
    stop: Working | None
    target: Working | None

    @property
    def id(self) -> int:
        return self.holding.position.id

    @property
    def owner(self) -> str:
        return self.holding.strategy.name if self.holding.strategy else BY_HAND

    @property
    def is_long(self) -> bool:
        return self.holding.position.quantity > 0


@dataclass(frozen=True, slots=True)
class Net:
    """What several owners hold of one instrument, taken together."""

    instrument: InstrumentRow
    quantity: Decimal
    unrealised: Decimal | None
    owners: int


@dataclass(frozen=True, slots=True)
class Positions:
    rows: list[Owned]
    nets: list[Net]
    version: str

    def row(self, position_id: int | None) -> Owned | None:
        return next((row for row in self.rows if row.id == position_id), None)


def positions(account: AccountRow, *seen: Any) -> Positions:
    """Of every owner; `seen` is what else the open page shows of them."""
    working = orders(account).rows
    rows = [
        Owned(holding, _guard(working, holding, STOPS), _guard(working, holding, ("take_profit",)))
        for holding in accounts.holdings(account.id)
    ]
    shown = [
        (r.id, r.holding.position.quantity, r.holding.position.cost, r.holding.mark,
         r.stop and r.stop.order.stop_price, r.target and r.target.order.limit_price) for r in rows
    ]  # fmt: skip
    return Positions(rows, _nets(rows), stamp(shown, seen))


def _guard(
    working: Iterable[Working], holding: accounts.Holding, legs: tuple[str, ...]
) -> Working | None:
    """The working protective order of this owner in this instrument."""
    position = holding.position
    return next(
        (
            row
            for row in working
            if row.intent.leg in legs
            and not row.is_waiting
            and (row.order.strategy_id, row.order.instrument_id)
            == (position.strategy_id, position.instrument_id)
        ),
        None,
    )


def _nets(rows: list[Owned]) -> list[Net]:
    """Of the instruments that more than one owner holds."""
    of: dict[int, list[Owned]] = {}
    for row in rows:
        of.setdefault(row.holding.instrument.id, []).append(row)
    return [
        Net(
            instrument=owned[0].holding.instrument,
            quantity=sum((o.holding.position.quantity for o in owned), Decimal(0)),
            unrealised=_sum(o.holding.unrealised for o in owned),
            owners=len(owned),
        )
        for owned in of.values()
        if len(owned) > 1
    ]


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def held_by_hand(account: AccountRow, instrument: InstrumentRow) -> Decimal:
    """What people hold of it themselves; a short position is negative."""
    found = db.session.scalar(
        sa.select(PositionRow.quantity).where(
            PositionRow.account_id == account.id,
            PositionRow.instrument_id == instrument.id,
            PositionRow.strategy_id.is_(None),
        )
    )
    return found or Decimal(0)


def strategies_on(account: AccountRow, instrument: InstrumentRow) -> list[StrategyRow]:
    """Those that trade the instrument, and so could own a position in it."""
    query = sa.select(StrategyRow).where(
        StrategyRow.account_id == account.id, StrategyRow.deleted_at.is_(None)
    )
    return [
        row
        for row in db.session.scalars(query.order_by(StrategyRow.name))
        if any(i.get("instrument_id") == instrument.id for i in row.inputs.values())
    ]


# What was asked --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A command of this page and what it was about, in words."""

    row: CommandRow
    about: str

    @property
    def outcome(self) -> str:
        """What became of it; a field at fault is named as people call it."""
        text = commands.text_of(self.row)
        field, colon, rest = text.partition(": ")
        if not colon or field != (self.row.result or {}).get("field"):
            return text
        return f"{ticket.called(field)}: {rest}"

    @property
    def took(self) -> float | None:
        """Seconds from the press to the end."""
        if self.row.settled_at is None:
            return None
        return (self.row.settled_at - self.row.created_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Recent:
    rows: list[Asked]
    version: str


def recent(account: AccountRow) -> Recent:
    """The newest commands about the account, previews left out."""
    said = CommandRow.arguments
    order = sa.select(OrderRow.account_id).where(
        OrderRow.client_order_id == sa.cast(said["order_id"].astext, sa.Uuid)
    )
    strategy = sa.select(StrategyRow.account_id).where(
        StrategyRow.id == sa.cast(said["strategy_id"].astext, sa.BigInteger)
    )
    about = sa.case(
        (CommandRow.kind.in_(("AmendOrder", "CancelOrder")), order.scalar_subquery()),
        (CommandRow.kind.in_(("ForceEntry", "ForceExit")), strategy.scalar_subquery()),
        else_=sa.cast(said["account_id"].astext, sa.BigInteger),
    )
    query = (
        sa.select(CommandRow)
        .where(
            CommandRow.kind.in_(KINDS),
            sa.func.coalesce(said["preview"].astext, "false") != "true",
            about == account.id,
        )
        .order_by(CommandRow.created_at.desc())
        .limit(SHOWN_COMMANDS)
    )
    rows = list(db.session.scalars(query))
    named = _Names(rows)
    shown = [Asked(row, named.about(row.kind, row.arguments)) for row in rows]
    return Recent(shown, stamp([(row.id, row.state) for row in rows]))


class _Names:
    """The names behind the numbers of some commands."""

    def __init__(self, rows: list[CommandRow]) -> None:
        said = [row.arguments for row in rows]
        ids = {UUID(a["order_id"]) for a in said if a.get("order_id")}
        query = sa.select(OrderRow, OrderIntentRow).join(
            OrderIntentRow, OrderIntentRow.client_order_id == OrderRow.client_order_id
        )
        found = db.session.execute(query.where(OrderRow.client_order_id.in_(ids))) if ids else ()
        self.orders = {str(order.client_order_id): (order, intent) for order, intent in found}
        instruments = {a.get("instrument_id") for a in said}
        instruments |= {order.instrument_id for order, _ in self.orders.values()}
        self.instruments = accounts.names(InstrumentRow, instruments)
        owners = {
            a.get(key)
            for a in said
            for key in ("strategy_id", "from_strategy_id", "to_strategy_id")
        }
        self.strategies = accounts.names(StrategyRow, owners)

    def about(self, kind: str, said: Mapping[str, Any]) -> str:
        """What the command is about, in a line."""
        symbol = self._symbol(said.get("instrument_id"))
        if kind == "PlaceOrder":
            instrument = self.instruments.get(said["instrument_id"])
            if instrument is None:
                return ""
            base, quote = instrument.base_asset, instrument.quote_asset
            return ticket.sentence(said.get("ticket") or {}, base, quote)
        if kind in ("AmendOrder", "CancelOrder"):
            return self._order(said)
        if kind == "CancelOrders":
            return f"every order{f' in {symbol}' if symbol else ''}"
        if kind == "ClosePosition":
            turned = "reverse" if said.get("reverse") else f"{said.get('percent', '')} %"
            return f"{symbol} {self._owner(said.get('strategy_id'))}, {turned}"
        if kind == "AdoptPosition":
            there = self._owner(said.get("to_strategy_id"))
            return f"{symbol}: {self._owner(said.get('from_strategy_id'))} to {there}"
        if kind in ("ForceEntry", "ForceExit"):
            return f"{self._owner(said.get('strategy_id'))} {symbol}".strip()
        return f"{symbol} {self._levels(said)}".strip()

    def _symbol(self, instrument_id: Any) -> str:
        row = self.instruments.get(instrument_id)
        return row.symbol if row else ""

    def _owner(self, strategy_id: Any) -> str:
        row = self.strategies.get(strategy_id)
        return row.name if row else BY_HAND

    def _order(self, said: Mapping[str, Any]) -> str:
        if said.get("order_id") not in self.orders:
            return ""
        order, intent = self.orders[said["order_id"]]
        what = f"{intent.side} {self._symbol(order.instrument_id)} {intent.type.replace('_', ' ')}"
        levels = self._levels(said)
        return f"{what}: {levels}" if levels else what

    @staticmethod
    def _levels(said: Mapping[str, Any]) -> str:
        words = {
            "quantity": "quantity",
            "limit_price": "limit",
            "stop_price": "stop",
            "stop_loss": "stop",
            "take_profit": "target",
            "stop_trail": "trailing by %",
        }
        return ", ".join(f"{word} {said[name]}" for name, word in words.items() if said.get(name))


def newest_of(command_id: UUID | None, kinds: tuple[str, ...], actor: str) -> CommandRow | None:
    """A command of these kinds that this user asked, or None."""
    row = db.session.get(CommandRow, command_id) if command_id else None
    return row if row is not None and row.kind in kinds and row.actor == actor else None


def is_over(row: CommandRow | None) -> bool:
    return row is not None and row.state in commands.SETTLED
