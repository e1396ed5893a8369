"""Trading by hand: what each order command does in its running account.

A command that makes orders is settled by the commit that releases them, so it happens once or not at
all. One that changes or cancels is taken first, done, and settled with its journal; after a crash
between the two it is done again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import structlog

from engine import settling, tickets
from engine.actions import Action, Amend, Cancel
from engine.adopting import NotToHand, handed_over
from engine.byhand import ByHand, Protection
from engine.core import FAILURES
from engine.costs import Costs
from engine.desk import Denied
from engine.journal import LeaseLost, Settlement, is_away
from engine.live import AccountLoop
from engine.margin import Margin
from engine.matching import Matching
from engine.narrator import number, stopped_at_error
from engine.previewing import preview
from engine.standing import StrategyRun
from engine.tickets import Asked, BadTicket
from engine.waiting import answered
from shared.db.trading import AccountRow, OrderRow
from shared.domain.decisions import Decision
from shared.domain.identity import BY_HAND
from shared.domain.orders import Order, OrderRequest, OrderType, Side
from shared.messages import (
    AdoptPosition,
    AmendOrder,
    CancelOrder,
    CancelOrders,
    ClosePosition,
    ForceEntry,
    ForceExit,
    PlaceOrder,
    ProtectPosition,
)

log = structlog.get_logger()

ORDERS: Final = (
    AdoptPosition,
    AmendOrder,
    CancelOrder,
    CancelOrders,
    ClosePosition,
    ForceEntry,
    ForceExit,
    PlaceOrder,
    ProtectPosition,
)
"""Commands that are done here: their effect is in a running account and in rows at once."""


class Trading:
    """Does order commands in the loops of running accounts."""

    def __init__(self, db: sa.Engine, loops: Mapping[int, AccountLoop]) -> None:
        self._db = db
        self._loops = loops

    async def do(
        self, command_id: UUID, command: Any, actor: str, *, claimed: bool = False
    ) -> None:
        """Do it and settle it. `claimed`: an engine before this one had taken it already."""
        try:
            await self._do(command_id, command, actor, claimed=claimed)
        except (BadTicket, Denied) as wrong:
            result = {"text": str(wrong), "field": wrong.field}
            await answered(self._deny, command_id, result, claimed)
        except LeaseLost:
            raise
        except sa.exc.DBAPIError as error:
            if is_away(error):
                raise
            await self._failed(command_id, error, claimed=claimed)
        except FAILURES as error:  # one command nobody foresaw must not stop trading
            await self._failed(command_id, error, claimed=claimed)

    async def _failed(self, command_id: UUID, error: BaseException, *, claimed: bool) -> None:
        log.exception("command.failed", command=str(command_id))
        text = f"it could not be done: {stopped_at_error(error)}"
        await answered(self._deny, command_id, {"text": text}, claimed)

    async def _do(self, command_id: UUID, command: Any, actor: str, *, claimed: bool) -> None:
        match command:
            case PlaceOrder():
                await self._place(command_id, command, actor)
            case ClosePosition():
                await self._close(command_id, command, actor)
            case ProtectPosition():
                await self._protect(command_id, command, actor)
            case ForceEntry() | ForceExit():
                await self._force(command_id, command, actor)
            case AdoptPosition():
                await self._adopt(command_id, command, actor, claimed=claimed)
            case AmendOrder():
                await self._amend(command_id, command, claimed=claimed)
            case CancelOrder():
                await self._cancel(command_id, command, claimed=claimed)
            case CancelOrders():
                await self._cancel_all(command_id, command, claimed=claimed)

    def _claim(self, command_id: UUID) -> bool:
        with self._db.begin() as connection:
            return settling.claim(connection, command_id)

    def _deny(self, command_id: UUID, result: dict[str, Any], claimed: bool) -> None:  # noqa: FBT001
        with self._db.begin() as connection:
            if claimed or settling.claim(connection, command_id):
                settling.settle(connection, command_id, "denied", result)

    def _loop(self, account_id: int) -> AccountLoop:
        loop = self._loops.get(account_id)
        if loop is None:
            raise Denied(f"account {account_id} is not trading now", "account_id")
        return loop

    # Orders that are made ---------------------------------------------------------------

    async def _place(self, command_id: UUID, command: PlaceOrder, actor: str) -> None:
        loop = self._loop(command.account_id)
        because = f"by {actor}" + (f": {command.note.strip()}" if command.note.strip() else "")
        asked = self._by_hand(loop, command_id, command, because)
        async with loop.turn_lock:
            at = loop.market_time()
            try:
                decision = loop.core.by_hand(asked, at)
            except BadTicket as bad:
                raise bad if "." in bad.field else bad.inside("ticket") from bad
            if not command.preview:
                await self._order(loop, command_id, decision, at)
                return
            shown = preview(loop, decision, asked)
        result = {"text": "Previewed", "preview": shown}
        if await answered(self._claim, command_id):
            await answered(settling.settled, self._db, command_id, "done", result)

    @staticmethod
    def _by_hand(loop: AccountLoop, command_id: UUID, command: PlaceOrder, because: str) -> ByHand:
        if command.instrument_id not in loop.instruments:
            raise Denied("this account trades no such instrument", "instrument_id")
        closes, values, interval = loop.recent(command.instrument_id)
        return ByHand(
            key=command_id,
            strategy_id=BY_HAND,
            instrument_id=command.instrument_id,
            asked=_part("ticket", command.ticket),
            because=because,
            other=_part("other", command.other) if command.other else None,
            then=_part("then", command.then) if command.then else None,
            closes=closes,
            values=values,
            interval=interval,
            touch=loop.touch(command.instrument_id),
        )

    @staticmethod
    async def _order(loop: AccountLoop, command_id: UUID, decision: Decision, at: datetime) -> None:
        """Let a decision made by hand stand, and settle its command with it."""
        actions = loop.core.take(decision)
        orders = [str(request.client_order_id) for request in decision.requests]
        text = _said(decision, loop) if decision.requests else ""
        link = f"/books/orders/{orders[0]}" if orders else ""
        settlement = Settlement(command_id, text, link, tuple(orders))
        await loop.obey(settlement, actions, at)

    async def _close(self, command_id: UUID, command: ClosePosition, actor: str) -> None:
        loop = self._loop(command.account_id)
        owner = command.strategy_id or BY_HAND
        percent = tickets.amount("percent", command.percent)
        if percent > 100:
            raise Denied(f"percent: {percent} is more than all of it", "percent")
        closes, values, interval = loop.recent(command.instrument_id)
        async with loop.turn_lock:
            at = loop.market_time()
            held = loop.core.portfolio.held_by(owner, command.instrument_id)
            if not held:
                raise Denied("nothing is held there any more")
            if command.reverse and owner != BY_HAND:
                raise Denied("a strategy decides its own side: stop it, or force its exit")
            side = Side.SELL if held > 0 else Side.BUY
            asked = Asked(side, OrderType.MARKET, percent, "percent", reduce_only=True)
            if command.reverse:
                asked = Asked(side, OrderType.MARKET, 2 * abs(held))
            question = ByHand(
                command_id, owner, command.instrument_id, asked,
                f"{'reversed' if command.reverse else 'closed'} by {actor}",
                closes=closes, values=values, interval=interval,
                touch=loop.touch(command.instrument_id),
            )  # fmt: skip
            await self._order(loop, command_id, loop.core.by_hand(question, at), at)

    async def _protect(self, command_id: UUID, command: ProtectPosition, actor: str) -> None:
        loop = self._loop(command.account_id)
        given = {
            "stop_loss": command.stop_loss,
            "take_profit": command.take_profit,
            "stop_trail": command.stop_trail,
        }
        read = {name: tickets.optional_amount(given, name) for name in given}
        trail = read["stop_trail"]
        if trail is not None and trail >= 100:
            raise Denied(f"stop_trail: {trail} % is the whole price", "stop_trail")
        asked = Protection(
            command_id,
            command.strategy_id or BY_HAND,
            command.instrument_id,
            f"stop and target set by {actor}",
            read["stop_loss"],
            read["take_profit"],
            trail / 100 if trail is not None else None,
        )
        async with loop.turn_lock:
            at = loop.market_time()
            await self._order(loop, command_id, loop.core.protect(asked, at), at)

    async def _force(self, command_id: UUID, command: ForceEntry | ForceExit, actor: str) -> None:
        loop, run = self._run(command.strategy_id)
        entry = isinstance(command, ForceEntry)
        if entry and (run.stopping or run.evaluation is None or run.row < 0):
            raise Denied(f"strategy {run.name} is not running: start it first")
        target = _target(command.target) if isinstance(command, ForceEntry) else 0.0
        wanted = [
            bound.instrument_id
            for bound in run.traded
            if command.instrument_id in (None, bound.instrument_id)
        ]
        if not wanted:
            raise Denied(f"strategy {run.name} does not trade it", "instrument_id")
        async with loop.turn_lock:
            at = loop.market_time()
            held = [i for i in wanted if loop.core.portfolio.held_by(run.id, i)]
            if not entry and not held:
                raise Denied(f"strategy {run.name} holds nothing there")
            because = f"{'entry' if entry else 'exit'} forced by {actor}"
            actions = [
                action
                for instrument_id in (wanted if entry else held)
                for action in loop.core.force(run.id, instrument_id, target, at, because)
            ]
            text = f"{run.name}: {because}"
            link = f"/strategies/{run.id}"
            await loop.obey(Settlement(command_id, text, link), actions, at)

    def _run(self, strategy_id: int) -> tuple[AccountLoop, StrategyRun]:
        for loop in self._loops.values():
            if (run := loop.core.runs.get(strategy_id)) is not None:
                return loop, run
        raise Denied("the strategy is not running, and holds nothing", "strategy_id")

    async def _adopt(
        self, command_id: UUID, command: AdoptPosition, actor: str, *, claimed: bool
    ) -> None:
        loop = self._loop(command.account_id)
        giver, taker = (
            command.from_strategy_id or BY_HAND,
            command.to_strategy_id or BY_HAND,
        )
        if taker != BY_HAND and taker not in loop.core.runs:
            raise Denied("the strategy to take it is not running", "to_strategy_id")
        if taker != BY_HAND and not any(
            bound.instrument_id == command.instrument_id for bound in loop.core.runs[taker].traded
        ):
            raise Denied("the strategy to take it does not trade it", "to_strategy_id")
        async with loop.turn_lock:
            at, portfolio = loop.market_time(), loop.core.portfolio
            held = portfolio.held_by(giver, command.instrument_id)
            text = command.quantity.strip()
            quantity = tickets.amount("quantity", text) if text else abs(held)
            asked = (command.instrument_id, giver, taker, quantity, at, command_id)
            try:
                handed_over(portfolio, loop.account_id, *asked)
            except NotToHand as wrong:
                raise Denied(f"quantity: {wrong}", "quantity") from None
            # Taken before memory changes: a command that is gone must leave the books alone.
            if not claimed and not await answered(self._claim, command_id):
                return
            symbol = loop.instruments[command.instrument_id].symbol
            said = f"{number(quantity)} {symbol} handed over at cost by {actor}"
            settlement = Settlement(command_id, said, "/books/positions", claimed=True)
            await loop.obey(settlement, loop.core.adopt(*asked), at)

    # Orders that are there --------------------------------------------------------------

    async def _amend(self, command_id: UUID, command: AmendOrder, *, claimed: bool) -> None:
        loop, order_id = await self._of_order(command.order_id)
        async with loop.turn_lock:
            order = _working(loop, order_id)
            terms = _terms(command, order, loop)
            changed = self._changed(loop, order, terms)
            if not claimed and not await answered(self._claim, command_id):
                return
            at = loop.market_time()
            action = Amend(order_id, *terms)
            text = f"Order amended: {changed}"
            settlement = Settlement(command_id, text, f"/books/orders/{order_id}", claimed=True)
            await loop.obey(settlement, [action], at)

    @staticmethod
    def _changed(
        loop: AccountLoop, order: Order, terms: tuple[Decimal | None, float | None, float | None]
    ) -> str:
        """What changes, in words; Denied when the larger order would break a rule."""
        quantity, limit_price, stop_price = terms
        request = order.request
        asked = order.asked_quantity or Decimal(0)
        price = limit_price or stop_price or order.limit_price or order.stop_price
        price = price or loop.core.portfolio.marks.get(request.instrument_id, 0.0)
        if not request.reduce_only and quantity is not None and quantity > asked:
            more = float(quantity - asked) * request.side.sign
            closes, values, interval = loop.recent(request.instrument_id)
            owner = (request.strategy_id, request.instrument_id)
            checks = loop.core.weigh(*owner, more, price, closes, values, interval)
            free = loop.core.exposure.free(BY_HAND, request.instrument_id, None)
            costs = loop.core.costs.of(loop.instruments[request.instrument_id])
            cost = abs(more) * price * (1 + costs.highest_rate) + abs(more) * costs.fee_per_unit
            if denied := [check.text for check in checks if not check.allowed]:
                raise Denied(f"quantity: denied by risk: {'; '.join(denied)}", "quantity")
            if cost > free:
                raise Denied(
                    f"quantity: {cost:,.2f} more is needed, {free:,.2f} is free", "quantity"
                )
        words = [
            f"{name} {number(Decimal(repr(value)) if isinstance(value, float) else value)}"
            for name, value in (
                ("quantity", quantity),
                ("limit", limit_price),
                ("stop", stop_price),
            )
            if value is not None
        ]
        return ", ".join(words)

    async def _cancel(self, command_id: UUID, command: CancelOrder, *, claimed: bool) -> None:
        loop, order_id = await self._of_order(command.order_id)
        async with loop.turn_lock:
            if not claimed and not await answered(self._claim, command_id):
                return
            order = loop.core.orders.get(order_id)
            link = f"/books/orders/{order_id}"
            if order is None:
                result = {"text": "The order has ended already", "link": link}
                await answered(settling.settled, self._db, command_id, "denied", result)
                return
            settlement = Settlement(command_id, "Order cancelled", link, claimed=True)
            await loop.obey(settlement, [Cancel(order_id)], loop.market_time())

    async def _cancel_all(self, command_id: UUID, command: CancelOrders, *, claimed: bool) -> None:
        loop = self._loop(command.account_id)
        async with loop.turn_lock:
            if not claimed and not await answered(self._claim, command_id):
                return
            orders = [
                order
                for order in loop.core.orders.values()
                if command.instrument_id in (None, order.request.instrument_id)
                and (command.protection or not order.request.leg.is_protective)
                and not order.is_done
            ]
            cancels: list[Action] = [Cancel(order.request.client_order_id) for order in orders]
            text = f"{len(cancels)} working orders cancelled" if cancels else "No order was working"
            settlement = Settlement(command_id, text, "/books/orders", claimed=True)
            await loop.obey(settlement, cancels, loop.market_time())

    async def _of_order(self, text: str) -> tuple[AccountLoop, UUID]:
        """The account an order is of, and its id."""
        try:
            order_id = UUID(text)
        except ValueError:
            raise Denied(f"order_id: {text[:40]!r} is no order's id", "order_id") from None

        def account_of() -> int | None:
            with self._db.connect() as connection:
                query = sa.select(OrderRow.account_id).where(OrderRow.client_order_id == order_id)
                return connection.scalar(query)

        account_id = await answered(account_of)
        if account_id is None:
            raise Denied("there is no such order", "order_id")
        return self._loop(account_id), order_id

    # Settings ---------------------------------------------------------------------------

    async def take_settings(self, account_id: int) -> None:
        """A running account trades by its new costs, matching and margin from now on."""

        def settings() -> Any:
            with self._db.connect() as connection:
                query = sa.select(AccountRow.costs, AccountRow.matching, AccountRow.margin)
                return connection.execute(query.where(AccountRow.id == account_id)).one()

        row = await answered(settings)
        loop = self._loops[account_id]
        async with loop.turn_lock:
            loop.reconfigure(
                Costs.from_json(row.costs),
                Matching.from_json(row.matching),
                Margin.from_json(row.margin),
            )


# What is said ------------------------------------------------------------------------------


def _part(name: str, ticket: Mapping[str, Any]) -> Asked:
    try:
        return tickets.read(ticket)
    except BadTicket as bad:
        raise bad.inside(name) from bad


def _target(text: str) -> float:
    try:
        target = float(text)
    except ValueError:
        raise Denied(f"target: {text[:40]!r} is not a number", "target") from None
    if not 0 < abs(target) <= 1:
        raise Denied(f"target: {text} must be from -1 to 1, and not 0", "target")
    return target


def _working(loop: AccountLoop, order_id: UUID) -> Order:
    order = loop.core.orders.get(order_id)
    if order is None:
        raise Denied("the order has ended already", "order_id")
    if not order.can_amend:
        raise Denied(f"the order is {order.state}: only a working one can be amended", "order_id")
    return order


def _terms(
    command: AmendOrder, order: Order, loop: AccountLoop
) -> tuple[Decimal | None, float | None, float | None]:
    """(quantity, limit price, stop price) as they are to be; None stays as it is."""
    request = order.request
    instrument = loop.instruments[request.instrument_id]
    given = {
        "quantity": command.quantity,
        "limit_price": command.limit_price,
        "stop_price": command.stop_price,
    }
    read = {name: tickets.optional_amount(given, name) for name in given}
    if not any(read.values()):
        raise Denied("say what to change", "quantity")
    _has_such(request, read)
    quantity = read["quantity"]
    if quantity is not None:
        if quantity <= order.filled:
            raise Denied(
                f"quantity: {number(order.filled)} of it has traded already: give more, or cancel it",
                "quantity",
            )
        if instrument.lot_size is not None and quantity % instrument.lot_size:
            raise Denied(
                f"quantity: {quantity} is no multiple of the lot {instrument.lot_size}", "quantity"
            )
    for name in ("limit_price", "stop_price"):
        price = read[name]
        if price is not None and instrument.tick_size and price % instrument.tick_size:
            raise Denied(f"{name}: {price} is off the tick of {instrument.tick_size}", name)
    limit_price, stop_price = read["limit_price"], read["stop_price"]
    return (
        quantity,
        float(limit_price) if limit_price is not None else None,
        float(stop_price) if stop_price is not None else None,
    )


def _has_such(request: OrderRequest, read: Mapping[str, Decimal | None]) -> None:
    """A market order has no prices to amend, a limit order no stop."""
    has_limit = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    has_stop = request.type not in (OrderType.MARKET, OrderType.LIMIT)
    kind = request.type.replace("_", " ")
    if read["limit_price"] is not None and not has_limit:
        raise Denied(f"limit_price: a {kind} order has none", "limit_price")
    if read["stop_price"] is not None and not has_stop:
        raise Denied(f"stop_price: a {kind} order has none", "stop_price")
    if read["quantity"] is not None and request.leg.is_protective:
        raise Denied("quantity: protection covers all that is held", "quantity")


def _said(decision: Decision, loop: AccountLoop) -> str:
    """The order in a line."""
    request = decision.requests[0]
    symbol = loop.instruments[request.instrument_id].symbol
    price = request.limit_price or request.stop_price
    at = f" at {number(Decimal(repr(price)))}" if price is not None else ""
    kind = request.type.replace("_", " ")
    if request.leg.is_protective:
        return f"{symbol}: {len(decision.requests)} protective orders set"
    return f"{request.side.capitalize()} {number(request.quantity)} {symbol}, {kind}{at}: sent"
