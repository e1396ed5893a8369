"""Everything an installation may set, from the environment and `.env`; the only reader of either.

Each setting is one row of `VARIABLES`. All problems are reported together, each with its remedy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

ROOT: Final = Path(__file__).resolve().parent.parent
"""Where the code lives: the checkout, or the folder it was installed into."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

VARIABLES: Final[Mapping[str, str]] = {
    "home": "SERAPHIM_HOME",
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "host": "SERAPHIM_HOST",
    "port": "PORT",
    "secret_key": "SERAPHIM_SECRET_KEY",
    "engine_group": "SERAPHIM_ENGINE_GROUP",
    "live_trading": "SERAPHIM_LIVE_TRADING",
    "timezone": "SERAPHIM_TIMEZONE",
    "strategies_folder": "SERAPHIM_STRATEGIES_FOLDER",
    "simulated_speed": "SERAPHIM_SIMULATED_SPEED",
    "simulated_seed": "SERAPHIM_SIMULATED_SEED",
    "workers": "SERAPHIM_WORKERS",
    "log_level": "SERAPHIM_LOG_LEVEL",
    "log_format": "SERAPHIM_LOG_FORMAT",
    "cookie_secure": "SERAPHIM_COOKIE_SECURE",
    "cache_folder": "SERAPHIM_CACHE",
    "cache_megabytes": "SERAPHIM_CACHE_MEGABYTES",
}
"""Field of `Settings` -> the variable that sets it. `.env.example` explains each."""


class SettingsError(ValueError):
    """The settings cannot be used. `problems` holds every reason, each a sentence with a remedy."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class _Refused(ValueError):
    """One value is wrong; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation. `database_url` and `redis_url` are None until embedded servers have one."""

    home: Path
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    secret_key: str = field(default="", repr=False)
    engine_group: str = "main"
    live_trading: bool = False
    timezone: str = "UTC"
    strategies_folder: Path = Path("strategies")
    simulated_speed: float = 60.0
    simulated_seed: int = 7
    workers: int = 1
    log_level: str = "info"
    log_format: str = "console"
    cookie_secure: bool = False
    cache_folder: Path = Path("cache")
    cache_megabytes: int = 2000

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """From this process's environment over the `.env` of `folder` (default: where we stand)."""
        return cls.from_env({**read_env_file((folder or Path.cwd()) / ".env"), **os.environ})

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Every variable checked. Makes the home folder and, once, its secret key."""
        given, problems = _read(env)
        home: Path = given.setdefault("home", default_home())
        given.setdefault("strategies_folder", home / "strategies")
        given.setdefault("cache_folder", home / "cache")
        given.setdefault("cookie_secure", given.get("host", "127.0.0.1") not in LOOPBACK)
        if not problems and "secret_key" not in given:
            try:
                given["secret_key"] = secret_of(home)
            except OSError as error:
                problems.append(
                    f"SERAPHIM_HOME={home}: cannot be written ({error.strerror}). "
                    "Name a folder this user may write to."
                )
        if problems:
            raise SettingsError(problems)
        return cls(**given)

    def with_urls(self, database_url: str, redis_url: str) -> Self:
        """The same installation with both servers known."""
        return replace(
            self, database_url=normalised_database_url(database_url), redis_url=redis_url
        )

    @property
    def console_url(self) -> str:
        """Where a person on this machine opens the console."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def _read(env: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Fields whose variable is set to something (an empty one counts as unset), and what is wrong."""
    given: dict[str, Any] = {}
    problems: list[str] = []
    for name, variable in VARIABLES.items():
        value = env.get(variable, "").strip()
        if not value:
            continue
        try:
            given[name] = _READERS[name](value)
        except _Refused as refusal:
            shown = "(hidden)" if name in _HIDDEN else value
            problems.append(f"{variable}={shown}: {refusal}")
    return given, problems


def default_home() -> Path:
    """`var` in a checkout; the user's data folder for an installed package."""
    if (ROOT / "pyproject.toml").is_file():
        return ROOT / "var"
    return Path.home() / ".local" / "share" / "seraphim"


def secret_of(home: Path) -> str:
    """The installation's own secret, made on first use. Two first starts at once agree on one."""
    file = home / "secret_key"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".secret_key.{os.getpid()}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # fails, whole, where another start was first
        draft.unlink()
    return file.read_text().strip()


def read_env_file(file: Path) -> dict[str, str]:
    """NAME=value lines; `#` comments, `export` and quotes are understood. No file: nothing."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingsError([f"{file} line {number}: {raw!r} is not NAME=value."])
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value.split(" #", 1)[0].rstrip()


def normalised_database_url(url: str) -> str:
    """The spelling SQLAlchemy takes, whichever of the three a platform hands out."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _database_url(value: str) -> str:
    url = normalised_database_url(value)
    if not url.startswith("postgresql+psycopg://"):
        raise _Refused("give a postgresql:// URL, or leave it empty for the embedded PostgreSQL.")
    if not urlsplit(url).path.strip("/"):
        raise _Refused("the URL names no database: postgresql://user:password@host:5432/NAME.")
    return url


def _redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise _Refused("give a redis:// URL, or leave it empty for the embedded Redis.")
    return value


def _folder(value: str) -> Path:
    folder = Path(value).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise _Refused("is a file; name a folder.")
    return folder


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise _Refused(f"give a whole number from {least} to {most}.") from None
        if not least <= number <= most:
            raise _Refused(f"give a whole number from {least} to {most}.")
        return number

    return read


def _speed(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 3600:  # also false for nan
        raise _Refused(
            "give a number above 0 and up to 3600: market seconds per second of ours (1 is life)."
        )
    return number


def _yes_or_no(value: str) -> bool:
    answers = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    try:
        return answers[value.lower()]
    except KeyError:
        raise _Refused("give yes or no.") from None


def _live_trading(value: str) -> bool:
    # Only the word itself: nobody sends real orders by a stray 1.
    if value not in ("yes", "no"):
        raise _Refused("give yes or no, spelt out. Without yes, no live order is ever sent.")
    return value == "yes"


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _Refused("give a time zone's name, such as UTC or Europe/Berlin.") from None
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() not in choices:
            raise _Refused(f"give one of {', '.join(choices)}.")
        return value.lower()

    return read


def _secret(value: str) -> str:
    if len(value) < 32:
        raise _Refused("give at least 32 characters, or leave it empty to have one generated.")
    return value


def _group(value: str) -> str:
    if not value.replace("-", "").replace("_", "").isalnum():
        raise _Refused("give a name of letters, digits, - and _.")
    return value


def _host(value: str) -> str:
    if "/" in value or " " in value:
        raise _Refused("give an address to listen on, such as 127.0.0.1.")
    return value


_HIDDEN: Final = frozenset({"secret_key", "database_url", "redis_url"})
"""Fields whose value may hold a password and is never shown."""

_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "home": _folder,
    "database_url": _database_url,
    "redis_url": _redis_url,
    "host": _host,
    "port": _whole(1, 65535),
    "secret_key": _secret,
    "engine_group": _group,
    "live_trading": _live_trading,
    "timezone": _zone,
    "strategies_folder": _folder,
    "simulated_speed": _speed,
    "simulated_seed": _whole(0, 2**31 - 1),
    "workers": _whole(1, 64),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "log_format": _one_of("console", "json"),
    "cookie_secure": _yes_or_no,
    "cache_folder": _folder,
    "cache_megabytes": _whole(0, 10_000_000),
}

assert tuple(VARIABLES) == tuple(f.name for f in fields(Settings)) == tuple(_READERS)
