"""A real installation: `seraphim up` with a home, a port and a terminal of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

from deploy.processes import wait_until
from shared.settings import ROOT, VARIABLES

SPEED: Final = 600
"""Market seconds per second of ours: a one-minute bar takes a tenth of a second."""

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 45.0


class Installation:
    """What a person has after `make run`. `start` and Ctrl-C (`stop`) as often as wanted."""

    def __init__(self, folder: Path, speed: int = SPEED) -> None:
        self._speed = speed
        self.home = folder / "home"
        self.strategies = self.home / "strategies"
        self._folder = folder
        self._port = free_port()
        self._starts: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Until the console's address has been printed."""
        bare = {k: v for k, v in os.environ.items() if k not in VARIABLES.values()}
        mine = {
            "SERAPHIM_HOME": str(self.home),
            "SERAPHIM_SIMULATED_SPEED": str(self._speed),
            "PORT": str(self._port),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        with self._output(len(self._starts)).open("wb") as out:
            self._starts.append(
                subprocess.Popen(
                    [sys.executable, "-m", "deploy", "up"],
                    cwd=self._folder,
                    env={**bare, **mine},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        up = self._starts[-1]
        wait_until(lambda: "Ctrl-C stops" in self.said() or up.poll() is not None, READY_SECONDS)
        assert f"Seraphim is ready:  {self.url}/" in self.said(), self.said()

    def stop(self) -> int:
        """Ctrl-C, as a terminal sends it: to the whole foreground group. The exit code."""
        up = self._starts[-1]
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGINT)
        return up.wait(STOP_SECONDS)

    def said(self) -> str:
        """What the newest start has printed."""
        return self._output(len(self._starts) - 1).read_text(errors="replace")

    def first_password(self) -> str | None:
        found = re.search(r"^ +password (\S+)$", self.said(), re.MULTILINE)
        return found[1] if found else None

    def processes(self) -> list[psutil.Process]:
        """Everything alive that belongs to this home, servers included."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            words = [*process.cmdline(), process.environ().get("SERAPHIM_HOME", "")]
            is_dead = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return any(str(self.home) in word for word in words) and not is_dead

    def end(self) -> None:
        """However the tests went: nothing of it lives on."""
        if not self._starts:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            os.killpg(self._starts[-1].pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), 10)
        for process in self.processes():
            process.kill()

    def _output(self, number: int) -> Path:
        return self._folder / f"terminal-{number}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
