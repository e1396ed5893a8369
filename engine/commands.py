"""Commands as they come: woken by the stream, found in the rows, each done once and settled."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import redis
import sqlalchemy as sa
import structlog

from engine import catalogue, instruments, settling, trading_state
from engine.core import FAILURES
from engine.desk import Answer, Denied, Desk
from engine.live import AccountLoop
from engine.narrator import stopped_at_error
from engine.risk.rules import policy_from
from engine.stopping import StopProcedure
from engine.trading import ORDERS, Trading
from engine.treasury import MONEY, Treasury
from engine.waiting import LOOK_SECONDS, answered, unless_away
from shared import bus
from shared.db.console import CommandRow
from shared.db.trading import AccountRow
from shared.messages import (
    CreateStrategy,
    DeleteStrategy,
    EditAccount,
    EditInstrument,
    EditRiskPolicy,
    EditStrategy,
    OpenReplay,
    ReloadStrategies,
    ResumeTrading,
    StartReplay,
    StartStrategy,
    StopStrategy,
    StopTrading,
    UnknownMessage,
    decode,
)
from shared.settings import Settings

log = structlog.get_logger()


class Commands:
    """Takes and settles what the console and the command line ask of this engine's group.

    `converge` brings what runs in line with the rows that a command changed.
    """

    def __init__(
        self,
        db: sa.Engine,
        redis_client: redis.Redis,
        settings: Settings,
        desk: Desk,
        loops: dict[int, AccountLoop],
        stops: StopProcedure,
        converge: Callable[[], Awaitable[None]],
    ) -> None:
        self._db = db
        self._redis = redis_client
        self._settings = settings
        self._group = settings.engine_group
        self._desk = desk
        self._loops = loops
        self._stops = stops
        self._converge = converge
        self._trading = Trading(db, loops)
        self._treasury = Treasury(db, loops)

    async def take(self) -> None:
        """Wake by the stream, look at the rows; a flushed stream costs at most a second."""
        await self._again()
        await self._treasury.arrivals()
        while True:
            await answered(self._expire)
            await self._stops.resume()
            for row in await answered(self._rows, "asked"):
                await self._execute(row)
                if row.kind == StopStrategy.__name__:  # before a start that may come right after
                    await self._converge()
            await self._converge()
            await unless_away(self._wait_for_command)

    async def _again(self) -> None:
        """Do once more what was accepted when the engine before this one ended: each of them may be repeated."""
        for row in await answered(self._rows, "accepted"):
            with contextlib.suppress(UnknownMessage):
                command = decode(row.kind, row.arguments)
                if isinstance(command, ORDERS):
                    await self._trading.do(row.id, command, row.actor, claimed=True)

    def _wait_for_command(self) -> None:
        try:
            found = self._redis.xreadgroup(
                bus.COMMAND_READERS,
                self._group,
                {bus.COMMANDS: ">"},
                count=100,
                block=int(LOOK_SECONDS * 1000),
            )
        except redis.ResponseError:  # the stream is new, or was flushed
            with contextlib.suppress(redis.ResponseError):
                self._redis.xgroup_create(bus.COMMANDS, bus.COMMAND_READERS, id="0", mkstream=True)
            return
        for _, messages in cast("list[tuple[str, list[tuple[str, Any]]]]", found or []):
            self._redis.xack(bus.COMMANDS, bus.COMMAND_READERS, *[id_ for id_, _ in messages])

    def _expire(self) -> None:
        with self._db.begin() as connection:
            connection.execute(
                sa.update(CommandRow)
                .where(
                    CommandRow.engine_group == self._group,
                    CommandRow.state == "asked",
                    CommandRow.expires_at <= sa.func.clock_timestamp(),
                )
                .values(
                    state="expired",
                    settled_at=sa.func.clock_timestamp(),
                    result={"text": "no engine took it in time: it was not done, and will not be"},
                )
            )

    def _rows(self, state: str) -> list[Any]:
        query = (
            sa.select(CommandRow.__table__)
            .where(CommandRow.engine_group == self._group, CommandRow.state == state)
            .order_by(CommandRow.created_at)
        )
        with self._db.connect() as connection:
            return list(connection.execute(query))

    async def _execute(self, row: Any) -> None:
        try:
            command = decode(row.kind, row.arguments)
        except UnknownMessage as error:
            await answered(settling.settled, self._db, row.id, "denied", {"text": str(error)})
            return
        if isinstance(command, StopTrading):
            await self._stops.start(row.id, command, row.actor)
        elif isinstance(command, ORDERS):
            await self._trading.do(row.id, command, row.actor)
        elif isinstance(command, MONEY):
            await self._treasury.do(row.id, command, row.actor)
        else:
            await answered(self._carry_out, row.id, command, row.actor)
            await self._bring_in_line(command)
        await unless_away(bus.publish, self._redis, "command", id=str(row.id))

    async def _bring_in_line(self, command: Any) -> None:
        """Running accounts hear of settings at once."""
        if isinstance(command, EditRiskPolicy) and command.account_id in self._loops:
            await self._take_policy(command.account_id)
        if isinstance(command, EditAccount) and command.account_id in self._loops:
            await self._trading.take_settings(command.account_id)
        if isinstance(command, ResumeTrading):
            await self._ask_exits_again(command.account_id)

    async def _ask_exits_again(self, account_id: int | None) -> None:
        for id_, loop in list(self._loops.items()):
            if account_id in (None, id_):
                async with loop.turn_lock:
                    loop.core.ask_exits_again()

    def _carry_out(self, command_id: UUID, command: Any, actor: str) -> None:
        """The command's effect and its settlement, in one transaction."""
        with self._db.begin() as connection:
            if not settling.claim(connection, command_id):
                return
            try:
                with connection.begin_nested():
                    answer = self._effect(connection, command, actor)
            except Denied as denied:
                result = {"text": str(denied), "field": denied.field}
                settling.settle(connection, command_id, "denied", result)
                return
            except sa.exc.OperationalError:
                raise
            except FAILURES as error:  # one command nobody foresaw must not stop trading
                log.exception(
                    "command.failed", command=str(command_id), kind=type(command).__name__
                )
                text = f"it could not be done: {stopped_at_error(error)}"
                settling.settle(connection, command_id, "denied", {"text": text})
                return
            result = {"text": answer.text, "link": answer.link}
            settling.settle(connection, command_id, "done", result)

    def _effect(self, connection: sa.Connection, command: Any, actor: str) -> Answer:
        desk = self._desk
        match command:
            case CreateStrategy():
                return desk.create_strategy(connection, command, actor)
            case EditStrategy():
                return desk.edit_strategy(connection, command, actor)
            case StartStrategy():
                return desk.start_strategy(connection, command, actor)
            case StopStrategy():
                return desk.stop_strategy(
                    connection, command.strategy_id, flatten=command.flatten, actor=actor
                )
            case DeleteStrategy():
                return desk.delete_strategy(connection, command, actor)
            case ResumeTrading():
                return self._resume(connection, command, actor)
            case EditRiskPolicy():
                return desk.edit_risk_policy(connection, command, actor)
            case EditAccount():
                return desk.edit_account(connection, command, actor)
            case EditInstrument():
                return instruments.edit(connection, command, actor)
            case OpenReplay():
                return desk.open_replay(connection, command, actor)
            case StartReplay():
                return desk.start_replay(connection, command, actor)
            case ReloadStrategies():
                changed = catalogue.sync(connection, self._settings.strategies_folder)
                names = ", ".join(sorted(changed)) or "nothing"
                return Answer(f"Strategy files read again: {names} changed", "/strategies")
            case _:
                raise Denied(f"{type(command).__name__} is not done here")

    async def _take_policy(self, account_id: int) -> None:
        def policy() -> Any:
            with self._db.connect() as connection:
                query = sa.select(AccountRow.risk_policy).where(AccountRow.id == account_id)
                return policy_from(connection.scalar(query) or {})

        self._loops[account_id].core.policy = await answered(policy)

    def _resume(self, connection: sa.Connection, command: ResumeTrading, actor: str) -> Answer:
        scopes = [("account", str(command.account_id))] if command.account_id is not None else []
        every = trading_state.rulings(connection)
        ours = every if command.account_id is None else trading_state.covering(every, scopes)
        if not ours:
            raise Denied("nothing is halted")
        trading_state.lift(connection, [r.id for r in ours], actor, command.reason or "resumed")
        self._desk.tell(connection, command.account_id, "Trading resumed", "/risk", actor)
        return Answer("Trading resumed", "/risk")
