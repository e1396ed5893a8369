"""What a person does with the console, in their words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from playwright.sync_api import TimeoutError as NotYet

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Response

WAIT_SECONDS = 20.0
SEVERAL_COLOURS = 20


class Console:
    """One browser window."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, path: str) -> None:
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"

    def log_in(self, user: str, password: str) -> None:
        self.page.goto("/login")
        self.page.get_by_label("User name").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def press(self, name: str, within: str = "main") -> None:
        self.button(name, within).click()

    def button(self, name: str, within: str = "main") -> Locator:
        return self.page.locator(within).get_by_role("button", name=name, exact=True)

    def fill(self, **values: str) -> None:
        """Fields by name, `__` for the dot: `p__short_window="20"`."""
        for name, value in values.items():
            field = self.page.locator(f'[name="{name.replace("__", ".")}"]')
            if field.evaluate("e => e.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)

    def sees(self, text: str | re.Pattern[str], within: str = "main") -> None:
        """Wait until it can be read, without a reload."""
        self.page.locator(within).get_by_text(text).first.wait_for()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def panel(self, name: str) -> Locator:
        return self.page.get_by_role("region", name=name, exact=True)

    def trading_state(self) -> str:
        return self.text("#status .state")

    def reload_until(self, holds: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """For what a page shows only when it is loaded: load again until it does."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, f"waited {seconds} s on {self.page.url}"
            self.page.wait_for_timeout(150)
            self.page.reload()
        return found

    def lose_session(self) -> None:
        """Until the open page has noticed; an answer under way may bring the cookie back once."""
        deadline = time.monotonic() + WAIT_SECONDS
        while "/login" not in self.page.url:
            assert time.monotonic() < deadline, f"still on {self.page.url}"
            self.page.context.clear_cookies()
            # Long enough for the page to notice: clearing again while the log-in page arrives would
            # take the cookie that its form needs.
            with suppress(NotYet):
                self.page.wait_for_url("**/login**", timeout=8000)

    def create_strategy(self, type_: str, name: str) -> None:
        """With the form's own values, started at once."""
        self.open(f"/strategies/new?type={type_}")
        self.fill(name=name)
        self.press("Create strategy")
        self.page.wait_for_url(re.compile(r"/strategies/\d+$"))

    def form_of(self, action: str) -> dict[str, str]:
        """The fields of a form as the browser would send them."""
        entries = self.page.locator(f'form[action="{action}"]').first.evaluate(
            "form => [...new FormData(form)]"
        )
        return dict(entries)

    def send(self, action: str, fields: dict[str, str]) -> Response | Any:
        """The same request a form makes, answered without following where it leads."""
        return self.page.request.post(action, form=fields, max_redirects=0)

    def token(self) -> str:
        """Against cross-site requests; every page carries one."""
        return str(self.page.locator("input[name=csrf_token]").first.get_attribute("value"))


def wait_until_painted(canvases: Locator) -> None:
    """Until one of a picture's layers shows something: a blank one has a single colour."""
    canvases.first.wait_for()
    deadline = time.monotonic() + WAIT_SECONDS
    while max(map(_colours, canvases.all())) < SEVERAL_COLOURS:
        assert time.monotonic() < deadline, "the picture stays blank"
        canvases.page.wait_for_timeout(100)


def _colours(canvas: Locator) -> int:
    return int(
        canvas.evaluate(
            """canvas => {
                const { width, height } = canvas;
                if (!width || !height) return 0;
                const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
                return new Set(new Uint32Array(pixels.buffer)).size;
            }"""
        )
    )
