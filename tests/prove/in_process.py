"""An account's loop without a process around it, and journals that fail at the moments one chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from random import Random
from typing import Any

import psycopg
import sqlalchemy as sa

from engine import lease
from engine.bootstrap import Assembly, unsent
from engine.journal import Batch, Journal
from engine.live import AccountLoop
from shared.db.sessions import plain_url
from shared.db.trading import AccountRow, EngineLeaseRow


class Crash(BaseException):
    """The process is gone. Nothing catches this."""


class CrashingJournal:
    """Ends the process before or after a commit, now and then: the only moments that leave a trace."""

    def __init__(self, journal: Journal, dice: Random, chance: float) -> None:
        self.journal = journal
        self.dice = dice
        self.chance = chance

    def commit(self, batch: Batch) -> Any:
        if self.dice.random() < self.chance:
            raise Crash
        refused = self.journal.commit(batch)
        if self.dice.random() < self.chance:
            raise Crash
        return refused


def play(
    engine: sa.Engine,
    account_id: int,
    until: datetime | None,
    journal_of: Callable[[Journal], Any] = lambda journal: journal,
) -> AccountLoop:
    """Trade an account from where its rows stand until its market ends, or `until` has passed."""
    with engine.begin() as connection:  # whoever held it before is no process of its own
        connection.execute(sa.delete(EngineLeaseRow))
    token = None
    while token is None:
        with suppress(sa.exc.OperationalError):  # the connection may be one that is cut
            token = lease.try_acquire(engine, "main")
    failures: list[Any] = []

    async def live() -> AccountLoop:
        with ThreadPoolExecutor(1) as thread:
            journal = journal_of(Journal(engine, "main", token))
            assembly = Assembly(engine, journal, thread, lambda *failed: failures.append(failed))
            loop = assembly.account(account_id)
            async with loop.turn_lock:
                await loop.turn(unsent(loop), loop.moment_at)
            running = asyncio.create_task(loop.run())
            while not running.done() and (until is None or loop.moment_at < until):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            if not running.done():
                async with loop.turn_lock:
                    running.cancel()
                return loop
            await running
            return loop

    loop = asyncio.run(live())
    assert failures == []
    return loop


def play_through_crashes(
    engine: sa.Engine, account_id: int, until: datetime | None, dice: Random, chance: float
) -> int:
    """The same, starting again after each crash; how many there were."""
    crashes = 0
    while True:
        try:
            play(engine, account_id, until, lambda j: CrashingJournal(j, dice, chance))
        except Crash:
            crashes += 1
            continue
        return crashes


def market_time(engine: sa.Engine, account_id: int) -> datetime:
    with engine.connect() as connection:
        found = connection.scalar(
            sa.select(AccountRow.market_time).where(AccountRow.id == account_id)
        )
    assert found is not None
    return found


class Cut(psycopg.Connection[Any]):
    """A connection that dies at COMMIT: before the server heard it, or before we heard the answer."""

    dice: Random
    chance = 0.0
    cuts = 0

    def commit(self) -> None:
        cls = type(self)
        if cls.dice.random() < cls.chance / 2:
            cls.cuts += 1
            self.close()
            raise psycopg.OperationalError("cut before COMMIT arrived")
        super().commit()
        if cls.dice.random() < cls.chance / 2:
            cls.cuts += 1
            self.close()
            raise psycopg.OperationalError("cut before the answer to COMMIT")


def an_engine_with_cuts(url: str, dice: Random, chance: float) -> tuple[sa.Engine, type[Cut]]:
    """As `make_engine`, over connections that are cut now and then; and their class, which counts."""
    connection = type("CutNowAndThen", (Cut,), {"dice": dice, "chance": chance})
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connection.connect(plain_url(url), prepare_threshold=None),
        pool_pre_ping=True,
    )
    return engine, connection
