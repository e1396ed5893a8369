"""PostgreSQL and Redis for whoever asks: the user's own where URLs are set, else embedded ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.exits import Stop
from deploy.keeper import SOMEONE_ELSE, Place
from deploy.processes import FileLock, is_locked, shared_lock, wait_until
from shared.settings import ROOT, Settings

_SECONDS: Final = 180
"""Longest wait for a server to start (recovery after a crash) or for a stopping one to be gone."""


@dataclass(frozen=True, slots=True)
class Running:
    """A ready embedded server: by which keeper, and how often that one has started it."""

    url: str
    keeper: int
    starts: int


@contextlib.contextmanager
def services(settings: Settings) -> Iterator[Settings]:
    """The settings with both URLs known; embedded servers run at least until the block ends."""
    with contextlib.ExitStack() as used:
        urls = {
            kind: given or used.enter_context(using(kind, settings.home))
            for kind, given in _given(settings).items()
        }
        yield settings.with_urls(urls["postgres"], urls["redis"])


def embedded_kinds(settings: Settings) -> list[str]:
    """Which servers are ours to run."""
    return [kind for kind, given in _given(settings).items() if given is None]


def _given(settings: Settings) -> dict[str, str | None]:
    return {"postgres": settings.database_url, "redis": settings.redis_url}


@contextlib.contextmanager
def using(kind: str, home: Path, *, scratch: bool = False) -> Iterator[str]:
    """The URL of the embedded server, which runs at least until the block ends."""
    place = Place(home.absolute(), kind)
    with shared_lock(place.users_lock, _SECONDS):
        yield ensure(place, scratch=scratch).url


def wait_until_stopped(settings: Settings) -> None:
    """After `services`: until its servers are gone, or somebody else turns out to use them."""
    for kind in embedded_kinds(settings):
        place = Place(settings.home, kind)
        wait_until(lambda: not is_locked(place.keeper_lock) or _others_use(place), _SECONDS)  # noqa: B023


def _others_use(place: Place) -> bool:
    lock = FileLock(place.users_lock)
    try:
        return not lock.try_exclusive() and lock.try_shared()
    finally:
        lock.close()


def ensure(place: Place, *, scratch: bool = False) -> Running:
    """The server, started if it must be. For someone who holds the users' lock."""
    deadline = time.monotonic() + _SECONDS
    tried = False
    while time.monotonic() < deadline:
        if is_locked(place.keeper_lock):
            if running := look(place):
                return running
        else:
            if tried:  # a failure found before our own try may be an old one
                _fail_if_told(place)
            _start_keeper(place, scratch=scratch)
            tried = True
        time.sleep(0.03)
    raise Stop.servers(f"{place.kind} did not become ready in {_SECONDS} s; see {place.log}.")


def look(place: Place) -> Running | None:
    """The server as its keeper last left word; None while it starts."""
    try:
        return Running(**json.loads(place.state.read_text()))
    except FileNotFoundError:
        return None


def _start_keeper(place: Place, *, scratch: bool) -> None:
    started = subprocess.run(
        [
            sys.executable,
            "-m",
            "deploy.keeper",
            place.kind,
            str(place.home),
            *(["scratch"] if scratch else []),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C while it starts is not meant for it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if started.returncode not in (0, SOMEONE_ELSE):
        raise Stop.servers(f"{place.kind} cannot be kept: {started.stderr.strip()[-1500:]}")


def _fail_if_told(place: Place) -> None:
    with contextlib.suppress(FileNotFoundError):
        raise Stop.servers(place.failure.read_text())
