"""`seraphim up`, on real processes: order, lost children, refusals, and nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.embedded import services, wait_until_stopped
from deploy.exits import Exit
from deploy.keeper import Place
from deploy.processes import wait_until
from deploy.schema import migrate
from shared.db.sessions import plain_url
from shared.settings import ROOT, VARIABLES, Settings

pytestmark = pytest.mark.slow

CHILD = """
import os, signal, socket, sys, time
name, diary, port = sys.argv[1:4]
def note(word):
    with open(diary, "a") as file: file.write(f"{word} {name} {os.getpid()}\\n")
def end(*_):
    note("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else end)
note("started")
print("hello from", name, flush=True)
if "doomed" in sys.argv:
    print("last words of", name, flush=True)
    sys.exit(3)
if name == "web":
    door = socket.create_server(("127.0.0.1", int(port)))
while True:
    time.sleep(0.05)
"""

MIGRATE = f"{sys.executable} -m deploy migrate"


@dataclass
class Installation:
    """A home, a Procfile of small programs, and the `up` processes started on them."""

    home: Path
    port: int
    nature: dict[str, str] = field(default_factory=dict)
    release: str = MIGRATE
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, **changes: str) -> dict[str, str]:
        bare = {k: v for k, v in os.environ.items() if k not in VARIABLES.values()}
        return bare | {
            "SERAPHIM_HOME": str(self.home),
            "PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
            **changes,
        }

    def up(self, **changes: str) -> subprocess.Popen[str]:
        folder = self.home.parent
        (folder / "child.py").write_text(textwrap.dedent(CHILD))
        lines = [
            f"{name}: {sys.executable} {folder}/child.py {name} {folder}/diary {self.port} "
            f"{self.nature.get(name, '')}"
            for name in ("web", "engine", "worker", "clock")
        ]
        (folder / "Procfile").write_text("\n".join([*lines, f"release: {self.release}"]))
        program = (
            "import sys; from pathlib import Path; from deploy import cli, up; import deploy.up\n"
            "original = up.up\n"
            f"deploy.up.up = lambda settings: original(settings, Path({str(folder)!r}) / 'Procfile')\n"
            "sys.exit(cli.main(['up']))"
        )
        output = (folder / f"output-{len(self.started)}").open("w")
        with output:
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", program],
                cwd=folder,
                env=self.environment(**changes),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        self.started.append(process)
        return process

    def said(self, number: int = -1) -> str:
        index = len(self.started) - 1 if number < 0 else number
        return (self.home.parent / f"output-{index}").read_text()

    def waits_for(self, words: str, seconds: float = 30) -> None:
        found = wait_until(
            lambda: words in self.said() or self.started[-1].poll() is not None, seconds
        )
        assert found, self.said()
        assert words in self.said(), self.said()

    def is_ready(self) -> None:
        """The console answers, and all four have begun (as often as `up` was started)."""
        self.waits_for("Ctrl-C stops everything")
        everyone = 4 * len(self.started)
        assert wait_until(lambda: len(self.wrote("started")) >= everyone, 10), self.said()

    def diary(self) -> list[str]:
        file = self.home.parent / "diary"
        return file.read_text().splitlines() if file.exists() else []

    def wrote(self, word: str) -> list[str]:
        return [line.split()[1] for line in self.diary() if line.startswith(word)]

    def pid(self, name: str) -> int:
        """Of the newest one."""
        return int([line.split()[2] for line in self.diary() if f"started {name}" in line][-1])

    def processes(self) -> list[psutil.Process]:
        """Everything that lives and belongs to this installation."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if str(self.home.parent) in " ".join(process.info["cmdline"] or [])
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and process.pid != os.getpid()
        ]

    def database_url(self) -> str:
        return json.loads(Place(self.home, "postgres").state.read_text())["url"]


@pytest.fixture(scope="module")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder after its first migration, to copy: making one takes seconds."""
    home = tmp_path_factory.mktemp("migrated") / "home"
    settings = Settings(home)
    with services(settings) as ready:
        migrate(ready.database_url)
    wait_until_stopped(settings)
    return home


@pytest.fixture
def installation(tmp_path: Path, migrated_home: Path) -> Iterator[Installation]:
    """Migrated, never started."""
    subprocess.run(["cp", "-a", migrated_home, tmp_path / "home"], check=True)
    yield from installed(tmp_path)


@pytest.fixture
def bare_installation(tmp_path: Path) -> Iterator[Installation]:
    """Nothing is there yet."""
    yield from installed(tmp_path)


def installed(tmp_path: Path) -> Iterator[Installation]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    made = Installation(tmp_path / "home", port)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)
    assert wait_until(lambda: made.processes() == [], 30), made.processes()


def test_ctrl_c_stops_everything_in_order_and_leaves_no_process(installation):
    up = installation.up()
    installation.is_ready()
    assert f"http://127.0.0.1:{installation.port}/" in installation.said()
    assert "engine   | hello from engine" in installation.said()
    os.killpg(up.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    assert up.wait(30) == Exit.OK
    assert installation.wrote("ended") == ["web", "worker", "clock", "engine"]
    assert installation.processes() == []
    log = (installation.home / "logs" / "postgres.log").read_text()
    assert "database system is shut down" in log


def test_the_password_is_printed_on_the_first_start_only_and_the_data_stays(installation):
    for number in (0, 1):
        up = installation.up()
        installation.is_ready()
        assert ("First log-in" in installation.said()) is (number == 0)
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == Exit.OK
    assert len(re.findall(r"password \S{19}\n", installation.said(0))) == 1


def test_kill_9_of_up_ends_its_children_and_the_servers(installation):
    up = installation.up()
    installation.is_ready()
    up.kill()
    assert wait_until(lambda: installation.processes() == [], 15), installation.processes()
    assert sorted(installation.wrote("ended")) == ["clock", "engine", "web", "worker"]


def test_a_lost_child_is_started_again_and_told(installation):
    installation.up()
    installation.is_ready()
    first = installation.pid("engine")
    os.kill(first, signal.SIGKILL)
    installation.waits_for("engine was killed by SIGKILL; starting it again (1 of 5 deaths)")
    assert wait_until(lambda: installation.pid("engine") != first, 10)
    assert installation.started[-1].poll() is None


def test_a_child_that_keeps_ending_is_given_up_with_its_last_words(installation):
    installation.nature["worker"] = "doomed"
    up = installation.up()
    assert up.wait(60) == Exit.CHILD_LOST
    assert "worker ended with exit code 3, 5 times within 60 s, and is given up" in (
        installation.said()
    )
    assert "    last words of worker" in installation.said()
    assert installation.wrote("started").count("worker") == 5
    assert installation.wrote("ended") == ["web", "clock", "engine"]
    assert installation.processes() == []


def test_a_child_that_ignores_the_request_is_killed_on_the_second_ctrl_c(installation):
    installation.nature["engine"] = "stubborn"
    up = installation.up()
    installation.is_ready()
    up.send_signal(signal.SIGINT)
    up.send_signal(signal.SIGTERM)  # from a service manager, say: still the same request
    assert wait_until(lambda: "clock" in installation.wrote("ended"), 10)
    time.sleep(1)
    assert up.poll() is None, "the engine has its time"
    up.send_signal(signal.SIGINT)
    assert up.wait(10) == Exit.OK
    assert "engine does not end; killing it" in installation.said()
    assert "web does not end" not in installation.said()


def test_ctrl_c_while_it_starts_is_no_failure(installation):
    installation.release = "sleep 60"
    up = installation.up()
    installation.waits_for("starting")
    assert wait_until(lambda: any("sleep" in c.name() for c in children(up.pid)), 20)
    os.killpg(up.pid, signal.SIGINT)
    assert up.wait(30) == Exit.OK
    assert installation.diary() == []
    assert installation.processes() == []


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_a_busy_port_is_refused_before_anything_starts(installation):
    with socket.create_server(("127.0.0.1", installation.port)):
        up = installation.up()
        assert up.wait(30) == Exit.PORT_BUSY
    assert f"port {installation.port} on 127.0.0.1 is in use" in installation.said()
    assert f"PORT={installation.port + 1}" in installation.said()
    assert installation.diary() == []


def test_a_data_folder_in_use_is_refused_and_says_by_whom(installation):
    first = installation.up()
    installation.is_ready()
    second = installation.up(PORT=str(installation.port + 1))
    assert second.wait(30) == Exit.HOME_IN_USE
    assert f"pid {first.pid}, http://127.0.0.1:{installation.port}/" in installation.said()
    assert first.poll() is None


def test_a_newer_schema_stops_the_start_before_any_process(installation):
    up = installation.up()
    installation.is_ready()
    with psycopg.connect(plain_url(installation.database_url())) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    up.send_signal(signal.SIGINT)
    up.wait(30)
    before = installation.diary()
    again = installation.up()
    assert again.wait(30) == Exit.SCHEMA
    assert "was made by a newer release" in installation.said()
    assert installation.diary() == before


def test_settings_problems_are_all_told(installation):
    up = installation.up(PORT="x", SERAPHIM_WORKERS="y")
    assert up.wait(30) == Exit.SETTINGS
    assert "PORT=x" in installation.said()
    assert "SERAPHIM_WORKERS=y" in installation.said()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_server_that_is_lost_runs_again_within_ten_seconds(installation, kind):
    installation.up()
    installation.is_ready()
    time.sleep(1.5)  # until the supervisor has looked at the servers once
    os.kill(json.loads(Place(installation.home, kind).server.read_text())["pid"], signal.SIGKILL)
    installation.waits_for(f"{kind} had ended by itself and runs again", 10)
    with psycopg.connect(plain_url(installation.database_url())) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_a_keeper_that_is_lost_is_replaced_within_ten_seconds(installation):
    installation.up()
    installation.is_ready()
    time.sleep(1.5)
    state = json.loads(Place(installation.home, "postgres").state.read_text())
    os.kill(state["keeper"], signal.SIGKILL)
    installation.waits_for("postgres had ended by itself and runs again", 10)
    assert installation.database_url() == state["url"]


def test_whatever_one_process_says_stands_behind_its_name(bare_installation):
    up = bare_installation.up()
    bare_installation.is_ready()
    up.send_signal(signal.SIGINT)
    up.wait(30)
    for name in ("engine", "worker", "clock", "web"):
        assert f"{name:<8} | hello from {name}\n" in bare_installation.said()
    assert "release  | The schema went from nothing to" in bare_installation.said()
