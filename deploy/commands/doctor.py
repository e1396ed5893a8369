"""`seraphim doctor`: what is well, what is not, and what to do about it. Changes nothing."""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from deploy.embedded import embedded_kinds, services
from deploy.exits import Exit, Stop
from deploy.processes import is_locked
from shared.settings import ROOT, Settings

_LEAST_FREE_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    well: bool
    what: str
    remedy: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 0 if all is well, 1 if something is not."


def run(_args: argparse.Namespace, settings: Settings) -> int:
    well = True
    for finding in findings(settings):
        well &= finding.well
        print(f"{'ok  ' if finding.well else 'BAD '} {finding.what}")
        if finding.remedy:
            print(f"     -> {finding.remedy}")
    return Exit.OK if well else Exit.FAILED


def findings(settings: Settings) -> Iterator[Finding]:
    """Every check in turn; the later ones need the servers."""
    yield _python()
    yield _packages()
    yield _front_end()
    yield _disk(settings)
    yield _port(settings)
    yield from _servers(settings)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    well = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding(well, f"Python {found}", "" if well else "Install Python 3.11 or 3.12.")


def _packages() -> Finding:
    """Are the installed packages those of the lock file?"""
    lock = ROOT / "requirements.lock"
    if not lock.exists():
        return Finding(well=True, what="packages (no lock file here to compare with)")
    wrong = []
    locked = _locked(lock.read_text())
    for name, versions in locked.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            if not versions.optional:
                wrong.append(f"{name} is missing")
            continue
        if found not in versions.allowed:
            wrong.append(f"{name} {found} instead of {' or '.join(sorted(versions.allowed))}")
    if wrong:
        return Finding(
            well=False,
            what=f"packages differ from requirements.lock: {', '.join(wrong)}",
            remedy="rm -r .venv && make run",
        )
    return Finding(well=True, what=f"packages: {len(locked)} as locked")


@dataclass(slots=True)
class _Locked:
    """What the lock says of one package; optional if only some machines need it."""

    allowed: set[str]
    optional: bool


def _locked(text: str) -> dict[str, _Locked]:
    found: dict[str, _Locked] = {}
    for name, number, marker in re.findall(r"^([\w.-]+)==(\S+)( ;)?", text, re.MULTILINE):
        entry = found.setdefault(name, _Locked(set(), optional=bool(marker)))
        entry.allowed.add(number)
    return found


def _front_end() -> Finding:
    from deploy.frontend import FILES, VENDOR

    missing = [file for file in FILES if not (VENDOR / file.rpartition("/")[2]).exists()]
    if missing:
        return Finding(
            well=False,
            what=f"front-end packages are missing: {', '.join(missing)}",
            remedy="make frontend",
        )
    return Finding(well=True, what=f"front end: {len(FILES)} files")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.home).free
    what = f"data folder {settings.home}: {free / 1e9:,.1f} GB free"
    if free < _LEAST_FREE_BYTES:
        return Finding(well=False, what=what, remedy="Make room, or move SERAPHIM_HOME.")
    return Finding(well=True, what=what)


def _port(settings: Settings) -> Finding:
    where = f"port {settings.port} on {settings.host}"
    if is_locked(settings.home / "up.lock"):
        return Finding(well=True, what=f"{where}: `seraphim up` runs with this data folder")
    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return Finding(
                well=False,
                what=f"{where}: {error.strerror}",
                remedy="Stop the program that has it, or choose another: PORT=...",
            )
    return Finding(well=True, what=f"{where} is free")


def _servers(settings: Settings) -> Iterator[Finding]:
    try:
        with services(settings) as ready:
            ours = embedded_kinds(settings)
            yield _try("PostgreSQL", "postgres" in ours, lambda: _postgres(ready))
            yield _try("Redis", "redis" in ours, lambda: _redis(ready))
            yield _schema(ready)
    except Stop as stop:
        yield Finding(well=False, what="servers", remedy=str(stop))


def _try(name: str, embedded: bool, version_of: Callable[[], str]) -> Finding:  # noqa: FBT001
    whose = "embedded" if embedded else "yours"
    try:
        return Finding(well=True, what=f"{name} {version_of()} ({whose})")
    except Exception as error:  # whatever a driver raises is what the report is for
        return Finding(
            well=False,
            what=f"{name} ({whose}) does not answer: {error}",
            remedy="Is its URL right?",
        )


def _postgres(settings: Settings) -> str:
    import psycopg

    from shared.db.sessions import plain_url

    with psycopg.connect(plain_url(settings.database_url or ""), connect_timeout=5) as connection:
        [found] = connection.execute("SHOW server_version").fetchone() or ["?"]
        return str(found)


def _redis(settings: Settings) -> str:
    from shared import bus

    with bus.connect(settings.redis_url or "") as client:
        return str(client.info("server")["redis_version"])


def _schema(settings: Settings) -> Finding:
    from deploy.schema import schema_of

    schema = schema_of(settings.database_url or "")
    if problem := schema.problem():
        return Finding(well=False, what="schema", remedy=problem)
    return Finding(well=True, what=f"schema {schema.found}")
