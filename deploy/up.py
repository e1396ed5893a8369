"""`seraphim up`: the servers, the schema, then every process of the Procfile, until Ctrl-C.

One thread, one loop. Children that end are started again; one that keeps ending stops everything.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from deploy.children import DEATHS, WITHIN_SECONDS, Child, ending, procfile
from deploy.embedded import Running, embedded_kinds, ensure, services, wait_until_stopped
from deploy.exits import Exit, Stop
from deploy.keeper import Place
from deploy.processes import FileLock
from shared.settings import ROOT, Settings

START_ORDER: Final = ("engine", "worker", "clock", "web")
STOP_ORDER: Final = ("web", "worker", "clock", "engine")
"""Those who ask first, then who is asked; others of the Procfile before them."""

STOP_SECONDS: Final = {"web": 5.0, "worker": 15.0, "clock": 5.0, "engine": 20.0}
"""How long each may take to end in good order."""

_EVERY: Final = 0.2
_SAME_REQUEST_SECONDS: Final = 0.5
_LOOK_AFTER_SERVERS_EVERY: Final = 1.0
_COLOURS: Final = ("36", "33", "32", "35", "34", "31")


def up(settings: Settings, file: Path = ROOT / "Procfile") -> int:
    """Run the installation until told to stop; no process is left behind."""
    commands = procfile(file)
    release = commands.pop("release", None)
    screen = Screen([*commands, "release", "seraphim"])
    with _alone(settings), _asked_to_stop() as stop:
        _check_port(settings)
        screen.say(f"starting; data in {settings.home}")
        try:
            with services(settings) as ready:
                if release:
                    _release(release, screen, stop)
                children = [Child(name, commands[name]) for name in _in_order(commands)]
                Supervisor(ready, embedded_kinds(settings), children, screen, stop).run()
        finally:
            wait_until_stopped(settings)
        screen.say("stopped.")
    return Exit.OK


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    lock = FileLock(settings.home / "up.lock")
    try:
        if not lock.try_exclusive():
            raise Stop(
                Exit.HOME_IN_USE,
                f"{settings.home} is in use by another `seraphim up` ({lock.read()}). Stop that "
                "one, or choose another folder: SERAPHIM_HOME=...",
            )
        lock.write(f"pid {os.getpid()}, {settings.console_url}")
        yield
    finally:
        lock.close()


class StopRequest:
    """What Ctrl-C, SIGTERM and a closed terminal set. Another one, a while later, means: now."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0.0

    def __call__(self, *_: object) -> None:
        # A service manager tells make and us, and make tells us again: that is one request.
        now = time.monotonic()
        if now - self._last > _SAME_REQUEST_SECONDS:
            self.count += 1
        self._last = now


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[StopRequest]:
    stop = StopRequest()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [(number, signal.signal(number, stop)) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in former:
            signal.signal(number, handler)


def _check_port(settings: Settings) -> None:
    from deploy.commands.web import busy

    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise busy(settings.host, settings.port) from error


def _release(command: list[str], screen: Screen, stop: StopRequest) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        screen.line("release", line)
    if done.returncode and not stop.count:  # Ctrl-C reaches it too
        known = done.returncode in list(Exit)
        raise Stop(
            Exit(done.returncode) if known else Exit.SCHEMA,
            f"the release step {ending(done.returncode)}; nothing was started.",
        )


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: START_ORDER.index(name) if name in START_ORDER else -1)


class Screen:
    """Lines of all processes, each behind its process's name."""

    def __init__(self, names: list[str]) -> None:
        self._width = max(map(len, names))
        self._colours = (
            dict(zip(names, _COLOURS * len(names), strict=False)) if sys.stdout.isatty() else {}
        )

    def say(self, text: str) -> None:
        for line in text.splitlines():
            self.line("seraphim", line)

    def line(self, name: str, text: str) -> None:
        label = f"{name:<{self._width}} |"
        if name in self._colours:
            label = f"\x1b[{self._colours[name]}m{label}\x1b[0m"
        self.bare(f"{label} {text}")

    def bare(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may have gone; we go on
            print(text, flush=True)


class Supervisor:
    """Starts, watches and stops the children."""

    def __init__(
        self,
        settings: Settings,
        servers: list[str],
        children: list[Child],
        screen: Screen,
        stop: StopRequest,
    ) -> None:
        self._settings = settings
        self._places = [Place(settings.home, kind) for kind in servers]
        self._servers: dict[str, Running] = {}
        self._children = children
        self._screen = screen
        self._stop = stop
        self._selector = selectors.DefaultSelector()
        self._look_after_servers_at = 0.0
        self._announced = False
        self._patience_ends_at = 1

    def run(self) -> None:
        """Until asked to stop; raises `Stop` if a child has to be given up."""
        try:
            while not self._stop.count:
                self._start_due()
                self._pump()
                self._bury_ended()
                self._look_after_servers()
                self._announce()
        finally:
            self._end_all()
            self._selector.close()

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._selector.register(child.start(), selectors.EVENT_READ, child)

    def _pump(self) -> None:
        """Show what the children say, for a moment."""
        for key, _ in self._selector.select(_EVERY):
            self._show(key.data)

    def _show(self, child: Child) -> None:
        for line in child.lines():
            self._screen.line(child.name, line)

    def _bury_ended(self) -> None:
        for child in self._children:
            if child.has_ended:
                self._lose(child)

    def _lose(self, child: Child) -> None:
        self._show(child)
        self._unregister(child)
        how, deaths = child.bury(time.monotonic())
        if deaths >= DEATHS:
            last = "\n".join(f"    {line}" for line in child.last_lines)
            raise Stop(
                Exit.CHILD_LOST,
                f"{child.name} {how}, {deaths} times within {WITHIN_SECONDS} s, and is given up. "
                f"Everything was stopped. Its last lines:\n{last}",
            )
        self._screen.say(f"{child.name} {how}; starting it again ({deaths} of {DEATHS} deaths)")

    def _unregister(self, child: Child) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is child:
                self._selector.unregister(key.fd)

    def _look_after_servers(self) -> None:
        """A keeper restarts its server; we see to it that there is a keeper."""
        if time.monotonic() < self._look_after_servers_at:
            return
        self._look_after_servers_at = time.monotonic() + _LOOK_AFTER_SERVERS_EVERY
        for place in self._places:
            running = ensure(place)
            if self._servers.setdefault(place.kind, running) != running:
                self._servers[place.kind] = running
                self._screen.say(f"{place.kind} had ended by itself and runs again")

    def _announce(self) -> None:
        """Where the console is, once it answers; on the first start with the password."""
        if self._announced or not self._console_answers():
            return
        self._announced = True
        self._screen.bare(banner(self._settings.console_url, self._first_password()))

    def _console_answers(self) -> bool:
        host = self._settings.console_url.split("://")[1].rpartition(":")[0].strip("[]")
        if not any(child.name == "web" and child.is_running for child in self._children):
            return False
        try:
            with socket.create_connection((host, self._settings.port), timeout=0.2):
                return True
        except OSError:
            return False

    def _first_password(self) -> str | None:
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.orm import Session

        from deploy.accounts import first_admin
        from shared.db.sessions import make_engine

        engine = make_engine(self._settings.database_url or "")
        try:
            with Session(engine) as session:
                return first_admin(session, self._settings.timezone)
        except SQLAlchemyError as error:
            self._screen.say(f"could not look for users: {error}")
            return None
        finally:
            engine.dispose()

    def _end_all(self) -> None:
        """In order, each with its time. A second Ctrl-C takes the time away."""
        self._screen.bare("")
        self._screen.say("stopping")
        self._patience_ends_at = self._stop.count + 1
        order = {name: place for place, name in enumerate(STOP_ORDER)}
        for child in sorted(self._children, key=lambda one: order.get(one.name, -1)):
            self._end(child)

    def _end(self, child: Child) -> None:
        child.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS.get(child.name, 10.0)
        while child.is_running and time.monotonic() < deadline and not self._is_hurried():
            self._pump()
        if child.is_running:
            self._screen.say(f"{child.name} does not end; killing it")
            child.kill()
        self._show(child)
        self._unregister(child)
        child.close()

    def _is_hurried(self) -> bool:
        return self._stop.count >= self._patience_ends_at


def banner(url: str, password: str | None) -> str:
    """What a person needs now."""
    lines = ["", f"  Seraphim is ready:  {url}"]
    if password is not None:
        lines += [
            "",
            "  First log-in        user admin",
            f"                      password {password}",
            "                      (shown only this once; change it under your name, top right)",
        ]
    return "\n".join([*lines, "", "  Ctrl-C stops everything.", ""])
