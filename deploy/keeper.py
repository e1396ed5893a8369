"""One process per embedded server: starts it, restarts it, stops it when nobody uses it any more.

Users of a server hold a shared lock; the keeper stops the server when it can take that lock alone.
So the first user starts it, the last one's end stops it, and kill -9 of anyone leaves nothing
behind. The keeper stands in a session of its own: Ctrl-C reaches only the users.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from deploy.exits import Stop
from deploy.processes import FileLock, alive, wait_until
from deploy.servers import Server, server, write_private

SOMEONE_ELSE: Final = 75
"""Exit code of a keeper that found another one at work."""

_START_SECONDS: Final = 120  # recovery after a crash can take a while
_ATTEMPTS: Final = 6  # after kill -9, PostgreSQL's orphans hold its memory for a moment
_STOP_SECONDS: Final = 30
_LOG_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one kept server."""

    home: Path
    kind: str

    @property
    def folder(self) -> Path:
        return self.home / self.kind

    @property
    def keeper_lock(self) -> Path:
        """Held alone by the keeper for as long as it lives."""
        return self.folder / "keeper.lock"

    @property
    def users_lock(self) -> Path:
        """Held together by everyone who uses the server; alone by a keeper that is stopping."""
        return self.folder / "users.lock"

    @property
    def state(self) -> Path:
        """{"url", "keeper", "starts"} while the server is ready."""
        return self.folder / "state.json"

    @property
    def failure(self) -> Path:
        """Why the last keeper could not start its server."""
        return self.folder / "failure.txt"

    @property
    def server(self) -> Path:
        """{"pid", "created"} of the server last started, to end it if its keeper was killed."""
        return self.folder / "server.json"

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.kind}.log"


class Keeper:
    """Keeps one server while someone uses it."""

    def __init__(self, place: Place, server: Server, log: IO[bytes]) -> None:
        self._place = place
        self._server = server
        self._log = log
        self._users = FileLock(place.users_lock)
        self._asked_to_stop = False
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def stop_soon(self, *_: object) -> None:
        """Someone stops the whole machine: let the users end first."""
        self._asked_to_stop = True

    def run(self) -> None:
        self._end_leftover()
        self._server.prepare()
        self._start()
        try:
            while not self._asked_to_stop:
                if self._users.try_exclusive():
                    return
                if self._ended():
                    self._say("ended by itself; starting it again")
                    self._start()
                time.sleep(0.1)
            wait_until(self._users.try_exclusive, _STOP_SECONDS)
        finally:
            self._stop()

    def _start(self) -> None:
        self._place.state.unlink(missing_ok=True)
        for attempt in range(_ATTEMPTS):
            if self._attempt():
                break
            time.sleep(0.25 * 2**attempt)
        else:
            raise Stop.servers(
                f"{self._place.kind} did not start. The end of {self._place.log}:\n{self._tail()}"
            )
        self._starts += 1
        state = {"url": self._server.url, "keeper": os.getpid(), "starts": self._starts}
        write_private(self._place.state, json.dumps(state))

    def _attempt(self) -> bool:
        self._process = process = self._server.start(self._log)
        created = _created(process.pid)
        write_private(self._place.server, json.dumps({"pid": process.pid, "created": created}))
        wait_until(lambda: self._ended() or self._server.is_ready(process.pid), _START_SECONDS)
        return not self._ended()

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _stop(self) -> None:
        self._place.state.unlink(missing_ok=True)
        if self._process is None or self._ended():
            return
        self._process.send_signal(self._server.stop_with)
        if not wait_until(self._ended, _STOP_SECONDS):
            self._say("does not stop; ending it hard")
            self._process.send_signal(self._server.kill_with)
            if not wait_until(self._ended, 10):
                self._process.kill()
                self._process.wait(10)

    def _end_leftover(self) -> None:
        """A server whose keeper was killed was told so by the kernel; wait until it has gone."""
        try:
            known = json.loads(self._place.server.read_text())
        except (FileNotFoundError, ValueError):
            return
        process = alive(known["pid"], known["created"])
        if process is None:
            return
        self._say(f"process {process.pid} outlived its keeper; stopping it")
        process.send_signal(self._server.stop_with)
        if not wait_until(lambda: alive(process.pid, known["created"]) is None, _STOP_SECONDS):
            process.send_signal(self._server.kill_with)
            wait_until(lambda: alive(process.pid, known["created"]) is None, 10)

    def _say(self, what: str) -> None:
        line = f"{datetime.now(UTC).isoformat()} keeper: {self._place.kind} {what}\n"
        self._log.write(line.encode())
        self._log.flush()

    def _tail(self) -> str:
        lines = self._place.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-12:])


def _created(pid: int) -> float:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def main(arguments: Sequence[str]) -> int:
    """`KIND HOME [scratch]`: become the keeper, unless there is one; returns once we are."""
    kind, home, *rest = arguments
    place = Place(Path(home), kind)
    lock = FileLock(place.keeper_lock)
    if not wait_until(lock.try_exclusive, 1):  # others look at the lock for an instant
        return SOMEONE_ELSE
    place.state.unlink(missing_ok=True)
    place.failure.unlink(missing_ok=True)
    log = _open_log(place.log)
    if os.fork():
        os._exit(0)  # the lock lives on in the child
    os.setsid()
    os.chdir("/")
    _redirect(log)
    return _keep(place, log, scratch=bool(rest))


def _keep(place: Place, log: IO[bytes], *, scratch: bool) -> int:
    # The last line of this process: whatever went wrong, the waiting user must hear it.
    try:
        keeper = Keeper(place, server(place.kind, place.folder, scratch=scratch), log)
        signal.signal(signal.SIGTERM, keeper.stop_soon)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        keeper.run()
    except Stop as stop:
        write_private(place.failure, str(stop))
        return int(stop.code)
    except Exception:
        write_private(place.failure, traceback.format_exc())
        traceback.print_exc()
        return 1
    return 0


def _open_log(file: Path) -> IO[bytes]:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > _LOG_BYTES:
        file.replace(file.with_suffix(".log.1"))
    return file.open("ab")


def _redirect(log: IO[bytes]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
