"""What every test may ask for: real PostgreSQL and Redis, thrown away afterwards.

The servers start on first use and end with this process, however it ends. `database_url` is a
migrated database of the test's own, cloned from a template.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import pytest
import redis

from deploy.embedded import using
from shared.settings import ROOT, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The first example may compile or connect; a deadline would make that a failure.
hypothesis.settings.register_profile("seraphim", deadline=None)
hypothesis.settings.load_profile("seraphim")

_numbers = itertools.count(1)

_SLOW_FIRST = ("journeys", "deploy", "prove")
"""Folders whose files are few and long: begun first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return _SLOW_FIRST.index(folder) if folder in _SLOW_FIRST else len(_SLOW_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def compiled_or_not() -> None:
    """Tests say which engine runs: none depends on whether `seraphim compile` was there before."""
    from engine.backtest import simulation

    simulation.WORTH_COMPILING = 0  # type: ignore[misc]


@pytest.fixture(scope="session")
def scratch_home() -> Iterator[Path]:
    """The data folder of the servers that all tests share."""
    with tempfile.TemporaryDirectory(prefix="seraphim-test-", ignore_cleanup_errors=True) as home:
        yield Path(home)


@pytest.fixture(scope="session")
def postgres_url(scratch_home: Path) -> Iterator[str]:
    """The server's own database. Tests want `database_url`."""
    with using("postgres", scratch_home, scratch=True) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server(scratch_home: Path) -> Iterator[str]:
    with using("redis", scratch_home, scratch=True) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated database without rows."""
    from alembic import command
    from alembic.config import Config

    name = "seraphim_template"
    with _admin(postgres_url) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("sqlalchemy.url", _named(postgres_url, name).replace("%", "%%"))
    command.upgrade(config, "head")
    return name


@pytest.fixture(scope="session")
def new_database(postgres_url: str, template_database: str) -> Callable[[], Iterator[str]]:
    """A function for fixtures of any scope: `yield from new_database()`."""
    return lambda: _database(postgres_url, f"TEMPLATE {template_database}")


@pytest.fixture(scope="session")
def empty_database(postgres_url: str) -> Callable[[], Iterator[str]]:
    """As `new_database`, without a schema: for tests of the migrations."""
    return lambda: _database(postgres_url)


def _database(postgres_url: str, made_from: str = "") -> Iterator[str]:
    """The URL of a database that is dropped afterwards."""
    name = f"seraphim_{next(_numbers)}"
    with _admin(postgres_url) as admin:
        admin.execute(f"CREATE DATABASE {name} {made_from}")
    try:
        yield _named(postgres_url, name)
    finally:
        with _admin(postgres_url) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(new_database: Callable[[], Iterator[str]]) -> Iterator[str]:
    """A migrated PostgreSQL database of this test's own."""
    yield from new_database()


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[[], Iterator[str]]) -> Iterator[str]:
    """A migrated PostgreSQL database that a module's tests share."""
    yield from new_database()


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """Redis, empty."""
    yield from _emptied(redis_server)


@pytest.fixture(scope="module")
def module_redis_url(redis_server: str) -> Iterator[str]:
    """Redis, empty at the module's start; not the database of `redis_url`."""
    yield from _emptied(redis_server.removesuffix("/0") + "/1")


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    """An installation of this test's own, migrated, without rows."""
    return installation(tmp_path, database_url, redis_url)


@pytest.fixture(scope="module")
def module_settings(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, module_redis_url: str
) -> Settings:
    """An installation that a module's tests share."""
    return installation(tmp_path_factory.mktemp("home"), module_database_url, module_redis_url)


def installation(home: Path, database_url: str, redis_url: str) -> Settings:
    return Settings.from_env({"SERAPHIM_HOME": str(home)}).with_urls(database_url, redis_url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium. Without one the test is skipped, or fails where browsers are required.

    A module's and not the session's: while it is open, asyncio.run works nowhere else.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        if os.environ.get("SERAPHIM_REQUIRE_BROWSER") == "1":
            pytest.fail("browser tests are required, and there is no Chromium on PATH")
        pytest.skip("there is no Chromium on PATH")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=quiet)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of 1440 x 900. A script that fails on it fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == [], "scripts failed on the page"


def _emptied(url: str) -> Iterator[str]:
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    yield url


def _named(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"


@contextmanager
def _admin(url: str) -> Iterator[psycopg.Connection]:
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(plain, autocommit=True) as connection:
        yield connection
