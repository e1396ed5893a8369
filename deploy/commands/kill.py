"""`seraphim kill`: halt trading in the database itself, then have the engine cancel and flatten.

The halt is a committed row before anything else happens: from then on no engine, running or started
later, releases an order. The steps after it are the engine's; without one they wait for its next start.
"""

from __future__ import annotations

import argparse
import getpass
import time
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from redis.exceptions import RedisError

from deploy.embedded import services
from deploy.exits import Exit
from deploy.schema import require_current
from shared import bus
from shared.db.console import CommandRow
from shared.db.sessions import make_engine
from shared.messages import StopTrading, encode
from shared.settings import Settings

WAIT_SECONDS = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flatten", action="store_true", help="also close every position")
    parser.add_argument("--reason", default="seraphim kill", help="kept with the halt")
    parser.add_argument(
        "--wait", type=float, default=WAIT_SECONDS, help="seconds for the engine's report"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    with services(settings) as ready:
        require_current(ready.database_url or "")
        engine = make_engine(ready.database_url or "")
        try:
            command_id = _halt(engine, settings.engine_group, args)
            print("1. block: no order is released any more, by any engine")
            _wake(ready.redis_url or "", command_id)
            return _follow(engine, command_id, args.wait)
        finally:
            engine.dispose()


def _halt(engine: sa.Engine, group: str, args: argparse.Namespace) -> UUID:
    """The halt and the command for the steps after it, in one transaction."""
    from engine import trading_state

    actor = f"{getpass.getuser()} (command line)"
    kind, arguments = encode(StopTrading(flatten=args.flatten, reason=args.reason))
    command_id = uuid4()
    with engine.begin() as connection:
        trading_state.request(connection, "all", "", "halted", actor, args.reason)
        connection.execute(
            sa.insert(CommandRow).values(
                id=command_id,
                kind=kind,
                arguments=arguments,
                actor=actor,
                engine_group=group,
                state="accepted",
                expires_at=sa.func.clock_timestamp() + sa.text("interval '1 day'"),
            )
        )
    return command_id


def _wake(redis_url: str, command_id: UUID) -> None:
    try:
        with bus.connect(redis_url) as client:
            bus.announce_command(client, str(command_id))
    except RedisError:
        pass  # the engine looks at the rows every second


def _follow(engine: sa.Engine, command_id: UUID, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            row = connection.execute(
                sa.select(CommandRow.state, CommandRow.result).where(CommandRow.id == command_id)
            ).one()
        if row.state == "done":
            return _report(row.result)
        time.sleep(0.2)
    print(
        "No engine answered. Trading is halted; the next engine to start cancels working orders first."
    )
    return Exit.FAILED


def _report(result: dict[str, Any]) -> int:
    steps = result.get("steps", [])
    for number, step in enumerate(steps, 2):
        print(f"{number}. {step['name']}: {step['text']}{'' if step['ok'] else '  <- NOT DONE'}")
    print(result["text"])
    return Exit.OK if all(step["ok"] for step in steps) else Exit.FAILED
