"""What a person waits for: the command line from start to end, and the console from press to result."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from deploy.embedded import using
from deploy.schema import migrate
from shared.settings import ROOT, Settings
from tests.benchmarks.data import keep_bars, one_minute_bars
from tests.journeys.installation import Installation

REPEATS: Final = 5
COMMAND: Final = [
    sys.executable, "-m", "deploy", "backtest", "moving_average_cross", "X", "--fee", "0.00001", "--sizing", "cash:1",
    "--no-risk", "--json",
]  # fmt: skip
PATIENCE_SECONDS: Final = 20.0


def main() -> int:
    print("\nwhole ways, gate on, report stored; the first once, then the median of", REPEATS, "\n")
    missed = told("seraphim backtest, 1,000,000 stored bars", 3.0, command)
    missed |= told("console: press to result, 10,000 stored bars", 1.0, pressed)
    return int(missed)


def told(name: str, most: float, way: Callable[[], Iterator[tuple[float, str]]]) -> bool:
    """One line: the first, and the median of the others. Whether that is more than `most` seconds."""
    found = list(way())
    first, seconds = found[0][0], statistics.median(took for took, _ in found[1:])
    print(
        f"{name:<46} first {first:>5.2f} s   then {seconds:>5.2f} s   at most {most:g} s  {found[-1][1]}"
    )
    return seconds > most


# The command line -------------------------------------------------------------------------------


def command() -> Iterator[tuple[float, str]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with (
            using("postgres", home, scratch=False) as database,
            using("redis", home, scratch=False) as redis,
        ):
            settings = Settings.from_env({"SERAPHIM_HOME": folder}).with_urls(database, redis)
            migrate(database)
            keep_bars(settings, one_minute_bars(1_000_000))
            urls = {"SERAPHIM_HOME": folder, "DATABASE_URL": database, "REDIS_URL": redis}
            for _ in range(1 + REPEATS):
                started = time.perf_counter()
                done = subprocess.run(
                    COMMAND, cwd=ROOT, env=os.environ | urls, capture_output=True, check=True
                )
                took, answer = time.perf_counter() - started, json.loads(done.stdout)
                yield took, f"{answer['engine']}, look-ahead {answer['gate']['verdict']}"


# The console ------------------------------------------------------------------------------------


def pressed() -> Iterator[tuple[float, str]]:
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder)) as installation:
        file = Path(folder) / "x.csv"
        write_csv(file, 10_000)
        subprocess.run(
            [sys.executable, "-m", "deploy", "import", str(file), "--symbol", "X", "--interval", "1m", "--yes"],
            cwd=ROOT, env=os.environ | {"SERAPHIM_HOME": str(installation.home)}, capture_output=True, check=True,
        )  # fmt: skip
        browser = Browser(installation.url)
        entry = {"username": "admin", "password": str(installation.first_password())}
        browser.send("/login", browser.form("/login") | entry)
        for _ in range(1 + REPEATS):
            fields = browser.form("/research/new?type=moving_average_cross")
            started = time.perf_counter()
            address = browser.send("/research/new", fields)
            while "/runs/" not in (shown := browser.get(address)):
                if time.perf_counter() - started > PATIENCE_SECONDS:
                    raise TimeoutError(f"no result within {PATIENCE_SECONDS:g} s: {shown[:2000]}")
                time.sleep(0.02)
            yield time.perf_counter() - started, "asked every 20 ms"


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    installation = Installation(folder, speed=1)
    try:
        installation.start()
        yield installation
    finally:
        installation.end()


def write_csv(path: Path, count: int) -> None:
    bars = one_minute_bars(count)
    columns = [
        bars.opened_at // 1_000_000_000,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        bars.volume,
    ]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = ["time,open,high,low,close,volume", *(",".join(map(repr, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


class Browser:
    """As much of one as it takes to press a button."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=PATIENCE_SECONDS) as answer:
            return str(answer.read().decode())

    def form(self, path: str) -> dict[str, str]:
        """What the fields of a page hold."""
        fields = Fields()
        fields.feed(self.get(path))
        return fields.found

    def send(self, path: str, fields: dict[str, str]) -> str:
        """The path it leads to."""
        data = urlencode(fields).encode()
        with self._opener.open(self._url + path, data, timeout=PATIENCE_SECONDS) as answer:
            return str(answer.geturl()).removeprefix(self._url)


class Fields(HTMLParser):
    """Names and values of inputs, and of the option of a list that is chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._list = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        given = dict(attrs)
        if tag == "select":
            self._list = given.get("name", "")
        elif tag == "option" and self._list:
            if "selected" in given or self._list not in self.found:
                self.found[self._list] = given.get("value") or ""
        elif tag == "input" and given.get("name"):
            can_be_off = given.get("type") in ("checkbox", "radio")
            if not can_be_off or "checked" in given:
                self.found[given["name"]] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._list = ""


if __name__ == "__main__":
    sys.exit(main())
