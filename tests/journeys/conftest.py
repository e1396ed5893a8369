"""One installation for all journeys, and browsers that are logged in to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.console import Console
from tests.journeys.installation import Installation

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WAIT_MS = 20_000


@pytest.fixture(scope="module")
def installation(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Started once. `browser` comes first, so that nothing is started where there is none."""
    made = Installation(tmp_path_factory.mktemp("journeys"))
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def password(installation: Installation) -> str:
    """What the first start printed for `admin`."""
    printed = installation.first_password()
    assert printed is not None, installation.said()
    return printed


@pytest.fixture
def open_console(browser: Browser, installation: Installation) -> Iterator[Callable[..., Console]]:
    """A function that opens a browser window of its own; its arguments are Playwright's.

    No script may fail in it, nothing may break the content policy, and the server may not break.
    """
    faults: list[str] = []

    @contextmanager
    def window(**options: Any) -> Iterator[Console]:
        shape = {"viewport": {"width": 1440, "height": 900}, **options}
        context = browser.new_context(base_url=installation.url, **shape)
        context.set_default_timeout(WAIT_MS)
        context.on("weberror", lambda error: faults.append(f"script: {error.error}"))
        context.on("console", lambda said: faults.append(said.text) if refused(said) else None)
        context.on("response", lambda answer: faults.append(spoken(answer)) if broke(answer) else 0)
        yield Console(context.new_page())
        context.close()

    windows: list[Any] = []

    def open_one(**options: Any) -> Console:
        windows.append(window(**options))
        return windows[-1].__enter__()

    yield open_one
    for one in reversed(windows):
        one.__exit__(None, None, None)
    assert faults == [], "the console broke on the way"


def refused(said: Any) -> bool:
    return "Content Security Policy" in said.text


def broke(answer: Any) -> bool:
    return answer.status >= 500


def spoken(answer: Any) -> str:
    return f"{answer.status} {answer.request.method} {answer.url}"


@pytest.fixture(scope="module")
def admin_session(browser: Browser, installation: Installation, password: str) -> Any:
    """The cookies of `admin`, logged in once for all journeys that are not about logging in."""
    context = browser.new_context(base_url=installation.url)
    Console(context.new_page()).log_in("admin", password)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def console(open_console: Callable[..., Console], admin_session: Any) -> Console:
    """A window in which `admin` is logged in."""
    return open_console(storage_state=admin_session)
