"""The engine process: holds the lease, runs every account of its group, does what commands ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import redis
import sqlalchemy as sa
import structlog

from engine import catalogue, lease, trading_state
from engine.bootstrap import REPLAY, Assembly, prepare, unsent
from engine.core import FAILURES
from engine.desk import Answer, Denied, Desk
from engine.journal import LEASE_SECONDS, Journal, LeaseLost, is_away
from engine.live import AccountLoop
from engine.narrator import stopped_at_error
from engine.risk.rules import policy_from
from engine.standing import StrategyRun
from engine.watchdog import STALL_SECONDS, Watchdog
from shared import bus
from shared.db.console import CommandRow
from shared.db.sessions import make_engine
from shared.db.trading import AccountRow, EngineLeaseRow, EventRow, StrategyRow
from shared.logs import configure
from shared.messages import (
    CreateStrategy,
    DeleteStrategy,
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
T = TypeVar("T")

LOOK_SECONDS: Final = 1.0
FLAT_WITHIN_SECONDS: Final = 10.0
EXIT_LEASE_LOST: Final = 75
EXIT_FAILED: Final = 1


class Engine:
    """One engine process. `run` returns its exit code."""

    def __init__(self, settings: Settings, stall_seconds: float = STALL_SECONDS) -> None:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        self.settings = settings
        self.stall_seconds = stall_seconds
        self.group = settings.engine_group
        self.db = make_engine(settings.database_url, pool_size=4)
        self.redis = bus.connect(settings.redis_url)
        self.desk = Desk(self.group)
        self.loops: dict[int, AccountLoop] = {}
        self.ended: set[int] = set()
        self.token: UUID | None = None
        self.assembly: Assembly
        self._tasks: asyncio.TaskGroup
        self._journal: Journal | None = None
        self._journal_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._failing: set[int] = set()
        """Strategies that failed, and whose rows do not say so yet."""
        self._failures: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._stopping: set[UUID] = set()
        self._loop_ms = 0.0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        standby = asyncio.create_task(self._trade())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({standby, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        try:
            if not standby.done():
                standby.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await standby
                return 0
            return await standby
        finally:
            if self._journal is not None:
                self._journal.give_up()
            self._journal_thread.shutdown(wait=True)
            await self._give_lease_back()

    async def _trade(self) -> int:
        await self._acquire()
        assert self.token is not None
        await self._db(prepare, self.db, self.settings)
        journal = Journal(self.db, self.group, self.token)
        self.assembly = Assembly(self.db, journal, self._journal_thread, self._failed)
        self._journal = journal
        watchdog = Watchdog(self._in_hand, self._opening, self._quarantine, self.stall_seconds)
        code = EXIT_FAILED
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                # First of all: an account trades as soon as it is open, before the others are.
                watchdog.start()
                tasks.create_task(watchdog.pat())
                await self._converge()
                tasks.create_task(self._keep_lease())
                tasks.create_task(self._beat())
                tasks.create_task(self._watch_strategies())
                tasks.create_task(self._record_failures())
                tasks.create_task(self._take_commands())
        except* LeaseLost as lost:
            log.critical("engine.lease_lost", error=str(lost.exceptions[0]))
            self.token = None
            code = EXIT_LEASE_LOST
        finally:
            watchdog.end()
        return code

    # The lease --------------------------------------------------------------------------

    async def _acquire(self) -> None:
        said = False
        while self.token is None:
            self.token = await self._db(lease.try_acquire, self.db, self.group)
            if self.token is None:
                if not said:
                    log.info("engine.standing_by", group=self.group)
                    said = True
                await self._redis(
                    bus.beat,
                    self.redis,
                    f"engine:{self.group}:standby:{os.getpid()}",
                    state="standby",
                )
                await asyncio.sleep(LOOK_SECONDS)
        log.info("engine.trading", group=self.group)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            if not await self._db(self._renew):
                raise LeaseLost(f"engine group {self.group!r} belongs to another engine")

    def _renew(self) -> bool:
        expiry = sa.func.clock_timestamp() + sa.text(f"interval '{LEASE_SECONDS} seconds'")
        with self.db.begin() as connection:
            connection.execute(sa.select(trading_state.frozen_lets_go()))
            held = connection.execute(
                sa.update(EngineLeaseRow)
                .where(
                    EngineLeaseRow.engine_group == self.group, EngineLeaseRow.token == self.token
                )
                .values(expires_at=expiry)
            )
        return held.rowcount == 1

    async def _give_lease_back(self) -> None:
        if self.token is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                await asyncio.to_thread(lease.release, self.db, self.group, self.token)
        self.db.dispose()
        self.redis.close()

    # Bringing loops in line with rows ----------------------------------------------------

    async def _converge(self) -> None:
        """Open accounts, start and stop strategies until what runs is what the rows want."""
        wanted = await self._db(self._wanted_accounts)
        for account_id in wanted:
            if account_id not in self.loops and account_id not in self.ended:
                await self._open(account_id)
        for row in await self._db(self._strategy_rows):
            loop = self.loops.get(row.account_id)
            if loop is None:
                continue
            running = row.id in loop.live and not loop.live[row.id].run.stopping
            if row.desired == "running" and not running and row.id not in self._failing:
                await self._start(loop, row.id)
            elif row.desired == "stopped" and row.id in loop.live:
                async with loop.turn_lock:
                    await loop.stop(row.id)
                await self._db(self._set_stopped, row.id)
            if row.desired == "stopped" and row.state.get("flatten"):
                await self._flatten_stopped(loop, row.id, row.state["flatten"])
            if row.desired == "stopped" and row.status == "running" and row.id not in loop.live:
                await self._db(self._set_stopped, row.id)

    def _wanted_accounts(self) -> list[int]:
        query = sa.select(AccountRow.id, AccountRow.clock, AccountRow.feed).where(
            AccountRow.engine_group == self.group, AccountRow.state == "open"
        )
        with self.db.connect() as connection:
            return [
                row.id
                for row in connection.execute(query.order_by(AccountRow.id))
                if row.clock != REPLAY or row.feed.get("state") == "playing"
            ]

    def _strategy_rows(self) -> list[Any]:
        query = (
            sa.select(
                StrategyRow.id,
                StrategyRow.account_id,
                StrategyRow.desired,
                StrategyRow.status,
                StrategyRow.state,
            )
            .join(AccountRow, AccountRow.id == StrategyRow.account_id)
            .where(AccountRow.engine_group == self.group, StrategyRow.deleted_at.is_(None))
            .order_by(StrategyRow.id)
        )
        with self.db.connect() as connection:
            return list(connection.execute(query))

    async def _open(self, account_id: int) -> None:
        loop = await self._db(self.assembly.account, account_id)
        self.loops[account_id] = loop
        async with loop.turn_lock:
            await loop.turn(unsent(loop), loop.moment_at)
        for strategy_id in loop.live:
            await self._db(self._set_running, strategy_id)
        self._tasks.create_task(self._play(loop))
        log.info("account.open", account=account_id, moment=loop.moment_at.isoformat())

    async def _play(self, loop: AccountLoop) -> None:
        await loop.run()
        await self._db(self._finish_replay, loop.account_id)
        self.ended.add(loop.account_id)
        del self.loops[loop.account_id]
        log.info("account.finished", account=loop.account_id)

    def _finish_replay(self, account_id: int) -> None:
        with self.db.begin() as connection:
            row = connection.execute(
                sa.select(AccountRow.name, AccountRow.feed).where(AccountRow.id == account_id)
            ).one()
            feed = {**row.feed, "state": "finished"}
            connection.execute(
                sa.update(AccountRow).where(AccountRow.id == account_id).values(feed=feed)
            )
            connection.execute(
                sa.update(StrategyRow)
                .where(StrategyRow.account_id == account_id)
                .values(status="stopped", desired="stopped")
            )
            self.desk.tell(
                connection,
                account_id,
                f"Replay {row.name} finished",
                f"/replays/{account_id}",
                "engine",
            )

    async def _start(self, loop: AccountLoop, strategy_id: int) -> None:
        async with loop.turn_lock:
            # Before it can decide: it may fail at its first moment, and that word must be the last.
            if not await self._db(self._set_running, strategy_id):
                return
            try:
                run = await self._db(self._load_run, strategy_id)
                loop.start(run)
            except sa.exc.OperationalError:
                raise
            except FAILURES as error:  # a strategy that cannot start must not stop the others
                self._failed(strategy_id, stopped_at_error(error))
                return

    def _load_run(self, strategy_id: int) -> StrategyRun:
        with self.db.connect() as connection:
            return self.assembly.run(connection, strategy_id)

    def _set_running(self, strategy_id: int) -> bool:
        """False when it is not wanted any more: it failed, or was stopped, since somebody looked."""
        with self.db.begin() as connection:
            wanted = connection.execute(
                sa.update(StrategyRow)
                .where(StrategyRow.id == strategy_id, StrategyRow.desired == "running")
                .values(status="running")
            )
        return wanted.rowcount == 1

    def _set_stopped(self, strategy_id: int) -> None:
        """A strategy that failed or is quarantined stays that: somebody has to look at it."""
        with self.db.begin() as connection:
            connection.execute(
                sa.update(StrategyRow)
                .where(StrategyRow.id == strategy_id, StrategyRow.status == "running")
                .values(status="stopped")
            )

    def _holder(self, strategy_id: int) -> StrategyRun:
        with self.db.connect() as connection:
            return self.assembly.holder(connection, strategy_id)

    async def _flatten_stopped(self, loop: AccountLoop, strategy_id: int, actor: str) -> None:
        run = await self._db(self._holder, strategy_id)
        async with loop.turn_lock:
            await loop.flatten(run, f"stopped and flattened by {actor}")
        await self._db(self._flattened, strategy_id)

    def _flattened(self, strategy_id: int) -> None:
        without = StrategyRow.state.op("-")("flatten")
        with self.db.begin() as connection:
            connection.execute(
                sa.update(StrategyRow).where(StrategyRow.id == strategy_id).values(state=without)
            )

    # Strategies that fail ----------------------------------------------------------------

    def _failed(self, strategy_id: int, text: str) -> None:
        self._failing.add(strategy_id)
        self._failures.put_nowait((strategy_id, text))

    async def _record_failures(self) -> None:
        while True:
            strategy_id, text = await self._failures.get()
            await self._db(self._record_failure, strategy_id, "failed", text)
            self._failing.discard(strategy_id)

    def _record_failure(self, strategy_id: int, status: str, text: str) -> None:
        with self.db.begin() as connection:
            row = connection.execute(
                sa.update(StrategyRow)
                .where(StrategyRow.id == strategy_id)
                .values(status=status, desired="stopped", status_text=text)
                .returning(StrategyRow.name, StrategyRow.account_id)
            ).one()
            connection.execute(
                sa.insert(EventRow).values(
                    account_id=row.account_id,
                    kind="strategy.failed",
                    severity="bad",
                    text=f"Strategy {row.name} {status}: {text}",
                    link=f"/strategies/{strategy_id}",
                    happened_at=datetime.now(UTC),
                )
            )

    def _in_hand(self) -> int | None:
        return next((o.core.deciding for o in list(self.loops.values()) if o.core.deciding), None)

    def _opening(self) -> int | None:
        return self.assembly.opening.core.deciding if self.assembly.opening else None

    def _quarantine(self, strategy_id: int) -> None:
        text = "its code did not return within 10 s and stalled the engine"
        self._record_failure(strategy_id, "quarantined", text)

    async def _watch_strategies(self) -> None:
        folder = self.settings.strategies_folder
        seen = catalogue.fingerprint(folder)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await asyncio.to_thread(catalogue.fingerprint, folder)
            if now != seen:
                seen = now
                await self._db(self._sync_catalogue)

    def _sync_catalogue(self) -> list[str]:
        with self.db.begin() as connection:
            changed = catalogue.sync(connection, self.settings.strategies_folder)
            if changed:
                names = ", ".join(sorted(changed))
                self.desk.tell(
                    connection, None, f"Strategy files changed: {names}", "/strategies", "engine"
                )
        return changed

    # Commands ---------------------------------------------------------------------------

    async def _take_commands(self) -> None:
        """Wake by the stream, look at the rows; a flushed stream costs at most a second."""
        while True:
            await self._db(self._expire)
            await self._resume_stops()
            for row in await self._db(self._asked):
                await self._execute(row)
                if row.kind == StopStrategy.__name__:  # before a start that may come right after
                    await self._converge()
            await self._converge()
            await self._redis(self._wait_for_command)

    def _wait_for_command(self) -> None:
        try:
            found = self.redis.xreadgroup(
                bus.COMMAND_READERS,
                self.group,
                {bus.COMMANDS: ">"},
                count=100,
                block=int(LOOK_SECONDS * 1000),
            )
        except redis.ResponseError:  # the stream is new, or was flushed
            with contextlib.suppress(redis.ResponseError):
                self.redis.xgroup_create(bus.COMMANDS, bus.COMMAND_READERS, id="0", mkstream=True)
            return
        for _, messages in cast("list[tuple[str, list[tuple[str, Any]]]]", found or []):
            self.redis.xack(bus.COMMANDS, bus.COMMAND_READERS, *[id_ for id_, _ in messages])

    def _expire(self) -> None:
        with self.db.begin() as connection:
            connection.execute(
                sa.update(CommandRow)
                .where(
                    CommandRow.engine_group == self.group,
                    CommandRow.state == "asked",
                    CommandRow.expires_at <= sa.func.clock_timestamp(),
                )
                .values(
                    state="expired",
                    settled_at=sa.func.clock_timestamp(),
                    result={"text": "no engine took it in time: it was not done, and will not be"},
                )
            )

    def _asked(self) -> list[Any]:
        query = (
            sa.select(CommandRow.__table__)
            .where(CommandRow.engine_group == self.group, CommandRow.state == "asked")
            .order_by(CommandRow.created_at)
        )
        with self.db.connect() as connection:
            return list(connection.execute(query))

    async def _execute(self, row: Any) -> None:
        try:
            command = decode(row.kind, row.arguments)
        except UnknownMessage as error:
            await self._db(self._settle, row.id, "denied", {"text": str(error)})
            return
        if isinstance(command, StopTrading):
            await self._stop_trading(row.id, command, row.actor)
        else:
            await self._db(self._carry_out, row.id, command, row.actor)
            if isinstance(command, EditRiskPolicy) and command.account_id in self.loops:
                await self._take_policy(command.account_id)
            if isinstance(command, ResumeTrading):
                await self._ask_exits_again(command.account_id)
        await self._redis(bus.publish, self.redis, "command", id=str(row.id))

    async def _ask_exits_again(self, account_id: int | None) -> None:
        for id_, loop in list(self.loops.items()):
            if account_id in (None, id_):
                async with loop.turn_lock:
                    loop.core.ask_exits_again()

    def _carry_out(self, command_id: UUID, command: Any, actor: str) -> None:
        """The command's effect and its settlement, in one transaction."""
        with self.db.begin() as connection:
            if not self._claim(connection, command_id):
                return
            try:
                with connection.begin_nested():
                    answer = self._effect(connection, command, actor)
            except Denied as denied:
                result = {"text": str(denied), "field": denied.field}
                self._settle_in(connection, command_id, "denied", result)
                return
            except sa.exc.OperationalError:
                raise
            except FAILURES as error:  # one command nobody foresaw must not stop trading
                log.exception(
                    "command.failed", command=str(command_id), kind=type(command).__name__
                )
                text = f"it could not be done: {stopped_at_error(error)}"
                self._settle_in(connection, command_id, "denied", {"text": text})
                return
            result = {"text": answer.text, "link": answer.link}
            self._settle_in(connection, command_id, "done", result)

    def _claim(self, connection: sa.Connection, command_id: UUID) -> bool:
        claimed = connection.execute(
            sa.update(CommandRow)
            .where(
                CommandRow.id == command_id,
                CommandRow.state == "asked",
                CommandRow.expires_at > sa.func.clock_timestamp(),
            )
            .values(state="accepted")
        )
        return claimed.rowcount == 1

    def _effect(self, connection: sa.Connection, command: Any, actor: str) -> Answer:
        desk = self.desk
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
            case OpenReplay():
                return desk.open_replay(connection, command, actor)
            case StartReplay():
                return desk.start_replay(connection, command, actor)
            case ReloadStrategies():
                changed = catalogue.sync(connection, self.settings.strategies_folder)
                names = ", ".join(sorted(changed)) or "nothing"
                return Answer(f"Strategy files read again: {names} changed", "/strategies")
            case _:
                raise Denied(f"{type(command).__name__} is not done here")

    async def _take_policy(self, account_id: int) -> None:
        def policy() -> Any:
            with self.db.connect() as connection:
                query = sa.select(AccountRow.risk_policy).where(AccountRow.id == account_id)
                return policy_from(connection.scalar(query) or {})

        self.loops[account_id].core.policy = await self._db(policy)

    def _settle(self, command_id: UUID, state: str, result: dict[str, Any]) -> None:
        with self.db.begin() as connection:
            self._settle_in(connection, command_id, state, result)

    @staticmethod
    def _settle_in(
        connection: sa.Connection, command_id: UUID, state: str, result: dict[str, Any]
    ) -> None:
        values: dict[str, Any] = {"state": state, "result": result}
        if state != "accepted":
            values["settled_at"] = sa.func.clock_timestamp()
        connection.execute(sa.update(CommandRow).where(CommandRow.id == command_id).values(values))

    # Stop and resume --------------------------------------------------------------------

    async def _resume_stops(self) -> None:
        """A stop that a crash interrupted, or that `seraphim kill` began, goes on."""

        def interrupted() -> list[Any]:
            query = sa.select(CommandRow.__table__).where(
                CommandRow.engine_group == self.group,
                CommandRow.state == "accepted",
                CommandRow.kind == "StopTrading",
            )
            with self.db.connect() as connection:
                return list(connection.execute(query))

        for row in await self._db(interrupted):
            command = decode(row.kind, row.arguments)
            assert isinstance(command, StopTrading)
            if row.id not in self._stopping:
                self._begin_steps(row.id, command, row.actor, [])

    async def _stop_trading(self, command_id: UUID, command: StopTrading, actor: str) -> None:
        if await self._db(self._block, command_id, command, actor):
            steps = [{"name": "block", "ok": True, "text": "no order is released any more"}]
            self._begin_steps(command_id, command, actor, steps)

    def _begin_steps(
        self, command_id: UUID, command: StopTrading, actor: str, steps: list[dict[str, Any]]
    ) -> None:
        self._stopping.add(command_id)
        self._tasks.create_task(self._stop_steps(command_id, command, actor, steps))

    def _block(self, command_id: UUID, command: StopTrading, actor: str) -> bool:
        with self.db.begin() as connection:
            if not self._claim(connection, command_id):
                return False
            scope = (
                ("all", "") if command.account_id is None else ("account", str(command.account_id))
            )
            reason = command.reason or "stopped in the console"
            trading_state.request(connection, *scope, "halted", actor, reason)
            text = "Trading halted" + (", positions are being closed" if command.flatten else "")
            self.desk.tell(connection, command.account_id, text, "/risk", actor)
        return True

    async def _stop_steps(
        self, command_id: UUID, command: StopTrading, actor: str, steps: list[dict[str, Any]]
    ) -> None:
        """Cancel, verify none open, flatten, verify flat: each step with what it found."""
        loops = [
            loop
            for account_id, loop in self.loops.items()
            if command.account_id in (None, account_id)
        ]
        cancelled = 0
        for loop in loops:
            async with loop.turn_lock:
                cancelled += await loop.cancel_entries()
        steps.append(
            {"name": "cancel", "ok": True, "text": f"{cancelled} working orders cancelled"}
        )
        if command.flatten:
            for loop in loops:
                await self._flatten_all(loop, actor)
            left = await self._until_flat(loops)
            text = "every position is closed" if not left else f"{left} positions are still open"
            steps.append({"name": "flatten", "ok": not left, "text": text})
        entries = 0
        for loop in loops:
            async with loop.turn_lock:  # a turn under way may hold decisions still to be refused
                entries += len(loop.working_entries())
        text = "no working entry is left" if not entries else f"{entries} orders still work"
        steps.append({"name": "verify", "ok": not entries, "text": text})
        done = all(step["ok"] for step in steps)
        summary = "Trading is halted" if done else "Trading is halted, but not everything is done"
        result = {"text": f"{summary}: {steps[-1]['text']}", "steps": steps, "link": "/stop"}
        await self._db(self._settle, command_id, "done", result)

    async def _flatten_all(self, loop: AccountLoop, actor: str) -> None:
        holders = {
            strategy_id
            for (strategy_id, _), position in loop.core.portfolio.positions.items()
            if not position.is_flat
        }
        for strategy_id in sorted(holders):
            run = loop.core.runs.get(strategy_id)
            if run is None:
                run = await self._db(self._holder, strategy_id)
            async with loop.turn_lock:
                await loop.flatten(run, f"trading stopped by {actor}")

    async def _until_flat(self, loops: list[AccountLoop]) -> int:
        """How many positions are left after they had time to close."""
        deadline = time.monotonic() + FLAT_WITHIN_SECONDS
        while True:
            left = sum(
                not position.is_flat
                for loop in loops
                for position in loop.core.portfolio.positions.values()
            )
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.1)

    def _resume(self, connection: sa.Connection, command: ResumeTrading, actor: str) -> Answer:
        scopes = [("account", str(command.account_id))] if command.account_id is not None else []
        every = trading_state.rulings(connection)
        ours = every if command.account_id is None else trading_state.covering(every, scopes)
        if not ours:
            raise Denied("nothing is halted")
        trading_state.lift(connection, [r.id for r in ours], actor, command.reason or "resumed")
        self.desk.tell(connection, command.account_id, "Trading resumed", "/risk", actor)
        return Answer("Trading resumed", "/risk")

    # Telling others ---------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
            self._loop_ms = (time.monotonic() - before - LOOK_SECONDS) * 1000
            await self._redis(self._tell_redis)

    def _tell_redis(self) -> None:
        accounts = {}
        pipe = self.redis.pipeline(transaction=False)
        for account_id, loop in list(self.loops.items()):
            pulse = loop.pulse
            heard = (
                datetime.fromtimestamp(pulse.heard_at, UTC).isoformat() if pulse.heard_at else None
            )
            accounts[str(account_id)] = {
                "market_time": pulse.market_time.isoformat() if pulse.market_time else None,
                "feed_at": heard,
                "strategies": len(loop.live),
            }
            for instrument_id, quote in list(pulse.quotes.items()):
                instrument = loop.instruments[instrument_id]
                bus.remember_quote(pipe, instrument.venue, instrument.symbol, quote)
        bus.beat(
            pipe,
            f"engine:{self.group}",
            at=datetime.now(UTC).isoformat(),
            state="trading",
            host=socket.gethostname(),
            pid=os.getpid(),
            accounts=accounts,
            loop_ms=round(self._loop_ms, 1),
        )
        pipe.publish(bus.EVENTS, '{"kind": "changed"}')
        pipe.execute()

    # Waiting for others -----------------------------------------------------------------

    async def _db(self, work: Callable[..., T], *args: Any) -> T:
        """Blocking database work in a thread, again and again while the database is away."""
        while True:
            try:
                return await asyncio.to_thread(work, *args)
            except sa.exc.DBAPIError as error:
                if not is_away(error):
                    raise
                log.warning("engine.database_away", error=str(error.orig)[:200])
                await asyncio.sleep(0.5)

    async def _redis(self, work: Callable[..., Any], *args: Any, **named: Any) -> None:
        """Redis may be away: nothing depends on it."""
        try:
            await asyncio.to_thread(work, *args, **named)
        except redis.RedisError as error:
            log.warning("engine.redis_away", error=str(error)[:200])
            await asyncio.sleep(LOOK_SECONDS)


def main(settings: Settings) -> int:
    """Trade until told to stop; the exit code."""
    configure(settings.log_level, settings.log_format)
    return asyncio.run(Engine(settings).run())


if __name__ == "__main__":
    raise SystemExit(main(Settings.load()))
