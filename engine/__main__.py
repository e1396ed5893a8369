"""The engine process: holds the lease, runs every account of its group, does what commands ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import structlog

from engine import catalogue, lease, trading_state
from engine.bootstrap import REPLAY, Assembly, prepare, unsent
from engine.commands import Commands
from engine.core import FAILURES
from engine.desk import Desk
from engine.journal import LEASE_SECONDS, Journal, LeaseLost
from engine.live import AccountLoop
from engine.narrator import stopped_at_error
from engine.standing import StrategyRun
from engine.stopping import StopProcedure
from engine.waiting import LOOK_SECONDS, answered, unless_away
from engine.watchdog import STALL_SECONDS, Watchdog
from shared import bus
from shared.db.sessions import make_engine
from shared.db.trading import AccountRow, EngineLeaseRow, EventRow, StrategyRow
from shared.logs import configure
from shared.settings import Settings

log = structlog.get_logger()

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
        await answered(prepare, self.db, self.settings)
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
                tasks.create_task(self._commands(tasks).take())
        except* LeaseLost as lost:
            log.critical("engine.lease_lost", error=str(lost.exceptions[0]))
            self.token = None
            code = EXIT_LEASE_LOST
        finally:
            watchdog.end()
        return code

    def _commands(self, tasks: asyncio.TaskGroup) -> Commands:
        stops = StopProcedure(self.db, self.group, self.desk, self.loops, self._holder, tasks)
        return Commands(
            self.db, self.redis, self.settings, self.desk, self.loops, stops, self._converge
        )

    # The lease --------------------------------------------------------------------------

    async def _acquire(self) -> None:
        said = False
        while self.token is None:
            self.token = await answered(lease.try_acquire, self.db, self.group)
            if self.token is None:
                if not said:
                    log.info("engine.standing_by", group=self.group)
                    said = True
                await unless_away(
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
            if not await answered(self._renew):
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
        wanted = await answered(self._wanted_accounts)
        for account_id in wanted:
            if account_id not in self.loops and account_id not in self.ended:
                await self._open(account_id)
        for row in await answered(self._strategy_rows):
            loop = self.loops.get(row.account_id)
            if loop is None:
                continue
            running = row.id in loop.live and not loop.live[row.id].run.stopping
            if row.desired == "running" and not running and row.id not in self._failing:
                await self._start(loop, row.id)
            elif row.desired == "stopped" and row.id in loop.live:
                async with loop.turn_lock:
                    await loop.stop(row.id)
                await answered(self._set_stopped, row.id)
            if row.desired == "stopped" and row.state.get("flatten"):
                await self._flatten_stopped(loop, row.id, row.state["flatten"])
            if row.desired == "stopped" and row.status == "running" and row.id not in loop.live:
                await answered(self._set_stopped, row.id)

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
        loop = await answered(self.assembly.account, account_id)
        self.loops[account_id] = loop
        async with loop.turn_lock:
            await loop.turn(unsent(loop), loop.moment_at)
        for strategy_id in loop.live:
            await answered(self._set_running, strategy_id)
        self._tasks.create_task(self._play(loop))
        log.info("account.open", account=account_id, moment=loop.moment_at.isoformat())

    async def _play(self, loop: AccountLoop) -> None:
        await loop.run()
        await answered(self._finish_replay, loop.account_id)
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
            if not await answered(self._set_running, strategy_id):
                return
            try:
                run = await answered(self._load_run, strategy_id)
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
        run = await answered(self._holder, strategy_id)
        async with loop.turn_lock:
            await loop.flatten(run, f"stopped and flattened by {actor}")
        await answered(self._flattened, strategy_id)

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
            await answered(self._record_failure, strategy_id, "failed", text)
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
                await answered(self._sync_catalogue)

    def _sync_catalogue(self) -> list[str]:
        with self.db.begin() as connection:
            changed = catalogue.sync(connection, self.settings.strategies_folder)
            if changed:
                names = ", ".join(sorted(changed))
                self.desk.tell(
                    connection, None, f"Strategy files changed: {names}", "/strategies", "engine"
                )
        return changed

    # Telling others ---------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
            self._loop_ms = (time.monotonic() - before - LOOK_SECONDS) * 1000
            await unless_away(self._tell_redis)

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


def main(settings: Settings) -> int:
    """Trade until told to stop; the exit code."""
    configure(settings.log_level, settings.log_format)
    return asyncio.run(Engine(settings).run())


if __name__ == "__main__":
    raise SystemExit(main(Settings.load()))
