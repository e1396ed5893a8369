"""An installation whose engine is a process of its own, to be killed, frozen and cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa

from engine.bootstrap import PAPER_COSTS, SIMULATED, open_account, prepare
from engine.desk import Desk
from engine.risk.rules import RiskPolicy
from shared import bus
from shared.db.console import CommandRow
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine, plain_url
from shared.db.trading import AccountRow, EngineLeaseRow, StrategyRow
from shared.messages import CreateStrategy, encode
from shared.settings import ROOT, Settings

SEED = int(os.environ.get("SERAPHIM_PROVE_SEED", "20260117"))


def seeded(name: str) -> Random:
    """A proof's own dice: the same for the same SERAPHIM_PROVE_SEED."""
    return Random(f"{SEED}:{name}")


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, every: float = 0.02) -> Any:
    """What `condition` gives once it is true; AssertionError when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(every)
    return found


class EngineProcess:
    """One `python -m engine`. `stall` starts it with a watchdog that waits that many seconds."""

    def __init__(self, settings: Settings, log: Path, speed: float, stall: float | None) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SERAPHIM_HOME": str(settings.home),
            "SERAPHIM_STRATEGIES_FOLDER": str(settings.strategies_folder),
            "SERAPHIM_SIMULATED_SPEED": str(speed),
            "DATABASE_URL": settings.database_url or "",
            "REDIS_URL": settings.redis_url or "",
        }
        command = [sys.executable, "-m", "engine"]
        if stall is not None:
            command = [sys.executable, str(Path(__file__).with_name("impatient.py")), str(stall)]
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=environment, cwd=settings.home, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, as Ctrl-C and every process manager sends; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Installation:
    """Rows, Redis and engine processes of one installation; all processes end with it."""

    def __init__(self, settings: Settings, speed: float = 3600) -> None:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        self.settings = settings
        self.speed = speed
        self.db = make_engine(settings.database_url, pool_size=2)
        self.redis = bus.connect(settings.redis_url)
        self.desk = Desk(settings.engine_group)
        self.engines: list[EngineProcess] = []

    def prepare(self) -> None:
        """First rows, as the first start of an engine makes them."""
        prepare(self.db, self.settings)
        with self.db.begin() as connection:
            connection.execute(sa.update(AccountRow).values(clock_speed=self.speed))

    def open_second_account(self, name: str) -> int:
        """Another paper account on the same simulated market."""
        with self.db.begin() as connection:
            first = connection.execute(sa.select(AccountRow.__table__)).first()
            assert first is not None
            return open_account(
                connection, name=name, venue=SIMULATED, clock=SIMULATED, speed=self.speed,
                group=first.engine_group, started_at=first.market_started_at,
                market_time=first.market_time, capital=first.peak_equity, feed=first.feed,
                costs=PAPER_COSTS, policy=RiskPolicy(),
            )  # fmt: skip

    def instruments(self) -> dict[str, int]:
        with self.db.connect() as connection:
            query = sa.select(InstrumentRow.symbol, InstrumentRow.id)
            return {row.symbol: row.id for row in connection.execute(query)}

    def account(self, name: str = "paper") -> Any:
        with self.db.connect() as connection:
            query = sa.select(AccountRow.__table__).where(AccountRow.name == name)
            return connection.execute(query).one()

    def create(self, strategy: CreateStrategy) -> int:
        """A strategy, before any engine runs; its id."""
        with self.db.begin() as connection:
            self.desk.create_strategy(connection, strategy, "prover")
            query = sa.select(StrategyRow.id).where(StrategyRow.name == strategy.name)
            return int(connection.scalars(query).one())

    def strategy(self, name: str) -> Any:
        with self.db.connect() as connection:
            query = sa.select(StrategyRow.__table__).where(StrategyRow.name == name)
            return connection.execute(query).one()

    # Engines ----------------------------------------------------------------------------

    def start(self, *, stall: float | None = None) -> EngineProcess:
        log = self.settings.home / f"engine-{len(self.engines)}.log"
        engine = EngineProcess(self.settings, log, self.speed, stall)
        self.engines.append(engine)
        return engine

    def lease(self) -> Any:
        with self.db.connect() as connection:
            return connection.execute(sa.select(EngineLeaseRow.__table__)).one_or_none()

    def market_time(self, name: str = "paper") -> Any:
        return self.account(name).market_time

    def wait_until_trading(self, engine: EngineProcess, seconds: float = 30) -> None:
        """Until a moment closed under this engine."""
        before = self.market_time()

        def moved() -> bool:
            assert engine.is_alive, engine.said()[-3000:]
            lease = self.lease()
            return lease is not None and lease.pid == engine.pid and self.market_time() > before

        wait_for(moved, seconds)

    def wait_for_moments(self, minutes: float, seconds: float = 30) -> None:
        """Until that much market time has passed."""
        before = self.market_time()
        wait_for(lambda: (self.market_time() - before).total_seconds() >= minutes * 60, seconds)

    # Commands ---------------------------------------------------------------------------

    def ask(self, command: Any, *, expires_in: float = 60, announce: bool = True) -> UUID:
        """What the console does: a row, then a word in Redis."""
        kind, arguments = encode(command)
        return self.ask_raw(kind, arguments, expires_in=expires_in, announce=announce)

    def ask_raw(
        self, kind: str, arguments: Any, *, expires_in: float = 60, announce: bool = True
    ) -> UUID:
        command_id = uuid4()
        with self.db.begin() as connection:
            connection.execute(
                sa.insert(CommandRow).values(
                    id=command_id, kind=kind, arguments=arguments, actor="prover",
                    expires_at=sa.func.clock_timestamp()
                    + sa.text(f"interval '{expires_in} seconds'"),
                )
            )  # fmt: skip
        if announce:
            with suppress(Exception):  # Redis may be what the proof took away
                bus.announce_command(self.redis, str(command_id))
        return command_id

    def command(self, command_id: UUID) -> Any:
        with self.db.connect() as connection:
            query = sa.select(CommandRow.__table__).where(CommandRow.id == command_id)
            return connection.execute(query).one()

    def settled(self, command_id: UUID, seconds: float = 20) -> Any:
        """The command's row once it is done, denied or expired."""
        wait_for(lambda: self.command(command_id).settled_at, seconds)
        return self.command(command_id)

    def rows(self, query: Any) -> list[Any]:
        with self.db.connect() as connection:
            return list(connection.execute(query))

    def end(self) -> None:
        for engine in self.engines:
            if engine.is_alive:
                with suppress(ProcessLookupError):
                    os.kill(engine.pid, signal.SIGCONT)
                engine.kill()
        self.redis.close()
        self.db.dispose()


@contextmanager
def cloned(installation: Installation, name: str) -> Iterator[Installation]:
    """A second installation that begins with the rows of the first."""
    url = installation.settings.database_url or ""
    source = url.rpartition("/")[2]
    server = plain_url(url).rpartition("/")[0] + "/postgres"
    installation.db.dispose()
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
    home = installation.settings.home / name
    home.mkdir()
    settings = Settings.from_env(
        {
            "SERAPHIM_HOME": str(home),
            "SERAPHIM_STRATEGIES_FOLDER": str(installation.settings.strategies_folder),
        }
    )
    redis_url = (installation.settings.redis_url or "").removesuffix("/0") + "/2"
    made = Installation(
        settings.with_urls(f"{url.rpartition('/')[0]}/{name}", redis_url), installation.speed
    )
    try:
        yield made
    finally:
        made.end()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
