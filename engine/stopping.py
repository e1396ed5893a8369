"""The stop procedure: block, cancel, flatten, verify, each step with what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from engine import settling, trading_state
from engine.desk import Desk
from engine.live import AccountLoop
from engine.standing import StrategyRun
from engine.waiting import answered
from shared.db.console import CommandRow
from shared.domain.identity import BY_HAND
from shared.messages import StopTrading, decode

FLAT_WITHIN_SECONDS: Final = 10.0


class StopProcedure:
    """Carries out StopTrading. One that a crash cut short, or that `seraphim kill` began, goes on."""

    def __init__(
        self,
        db: sa.Engine,
        group: str,
        desk: Desk,
        loops: dict[int, AccountLoop],
        holder: Callable[[int], StrategyRun],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._db = db
        self._group = group
        self._desk = desk
        self._loops = loops
        self._holder = holder
        self._tasks = tasks
        self._under_way: set[UUID] = set()

    async def resume(self) -> None:
        """Go on with what is accepted and not done."""
        for row in await answered(self._interrupted):
            command = decode(row.kind, row.arguments)
            assert isinstance(command, StopTrading)
            if row.id not in self._under_way:
                self._begin(row.id, command, row.actor, [])

    def _interrupted(self) -> list[Any]:
        query = sa.select(CommandRow.__table__).where(
            CommandRow.engine_group == self._group,
            CommandRow.state == "accepted",
            CommandRow.kind == StopTrading.__name__,
        )
        with self._db.connect() as connection:
            return list(connection.execute(query))

    async def start(self, command_id: UUID, command: StopTrading, actor: str) -> None:
        """Block every release at once; the other steps follow beside the market."""
        if await answered(self._block, command_id, command, actor):
            steps = [{"name": "block", "ok": True, "text": "no order is released any more"}]
            self._begin(command_id, command, actor, steps)

    def _begin(
        self, command_id: UUID, command: StopTrading, actor: str, steps: list[dict[str, Any]]
    ) -> None:
        self._under_way.add(command_id)
        self._tasks.create_task(self._steps(command_id, command, actor, steps))

    def _block(self, command_id: UUID, command: StopTrading, actor: str) -> bool:
        with self._db.begin() as connection:
            if not settling.claim(connection, command_id):
                return False
            scope = (
                ("all", "") if command.account_id is None else ("account", str(command.account_id))
            )
            reason = command.reason or "stopped in the console"
            trading_state.request(connection, *scope, "halted", actor, reason)
            text = "Trading halted" + (", positions are being closed" if command.flatten else "")
            self._desk.tell(connection, command.account_id, text, "/risk", actor)
        return True

    async def _steps(
        self, command_id: UUID, command: StopTrading, actor: str, steps: list[dict[str, Any]]
    ) -> None:
        """Cancel, verify none open, flatten, verify flat."""
        loops = [
            loop
            for account_id, loop in self._loops.items()
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
        await answered(settling.settled, self._db, command_id, "done", result)

    async def _flatten_all(self, loop: AccountLoop, actor: str) -> None:
        because = f"trading stopped by {actor}"
        holders = {
            strategy_id
            for (strategy_id, _), position in loop.core.portfolio.positions.items()
            if not position.is_flat
        }
        for strategy_id in sorted(holders):
            if strategy_id == BY_HAND:
                async with loop.turn_lock:
                    await loop.flatten_by_hand(because)
                continue
            run = loop.core.runs.get(strategy_id)
            if run is None:
                run = await answered(self._holder, strategy_id)
            async with loop.turn_lock:
                await loop.flatten(run, because)

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
