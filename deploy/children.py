"""A supervised child process: its output line by line, its deaths, its end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Final

import psutil

from deploy.exits import Exit, Stop
from deploy.processes import ended_with_parent, kill_tree

DEATHS: Final = 5
WITHIN_SECONDS: Final = 60
"""So many deaths in so short a time, and it is given up."""

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
_LINES_KEPT: Final = 15


def procfile(file: Path) -> dict[str, list[str]]:
    """Process -> command. `seraphim` means this very installation, whatever PATH says."""
    commands: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        name, colon, command = line.partition(":")
        if colon and not name.startswith("#"):
            words = shlex.split(command)
            ours = (
                [sys.executable, "-u", "-m", "deploy"] if words[:1] == ["seraphim"] else words[:1]
            )
            commands[name.strip()] = [*ours, *words[1:]]
    return commands


class Child:
    """One process of the Procfile, started again when it ends by itself."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._partial = b""
        self._deaths: deque[float] = deque()
        self.last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.start_at: float | None = 0.0
        """When to start it (monotonic); None while it runs or must not."""

    def start(self) -> int:
        """Start it; returns the descriptor its output is read from."""
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in the terminal is ours to pass on, in order
                preexec_fn=ended_with_parent(signal.SIGTERM),
            )
        except OSError as error:
            raise Stop(Exit.CHILD_LOST, f"{self.name} cannot be started: {error}") from error
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self.start_at = None
        return self._pipe

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_ended(self) -> bool:
        """It ran, and runs no more; nobody has dealt with it yet."""
        return self._process is not None and self._process.poll() is not None

    def lines(self) -> list[str]:
        """What it has said since last asked."""
        raw = self._partial
        with contextlib.suppress(BlockingIOError, OSError):
            while chunk := os.read(self._pipe, 65536):
                raw += chunk
        *whole, self._partial = raw.split(b"\n")
        said = [line.decode(errors="replace").rstrip("\r") for line in whole]
        self.last_lines.extend(said)
        return said

    def bury(self, now: float) -> tuple[str, int]:
        """Take note of its end: (how it ended, deaths of late). Sets when to start it again."""
        assert self._process is not None
        how = ending(self._process.returncode)
        if self._partial:
            self.last_lines.append(self._partial.decode(errors="replace"))
        self._forget()
        self._deaths.append(now)
        while now - self._deaths[0] > WITHIN_SECONDS:
            self._deaths.popleft()
        pause = _PAUSES[min(len(self._deaths), len(_PAUSES)) - 1]
        self.start_at = now + pause
        return how, len(self._deaths)

    def ask_to_end(self) -> None:
        self.start_at = None
        if self.is_running:
            assert self._process is not None
            self._process.terminate()

    def kill(self) -> None:
        """It and whatever it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_tree(psutil.Process(self.pid))
        if self._process is not None:
            self._process.wait(10)

    def close(self) -> None:
        """After it has ended."""
        self.start_at = None
        if self._process is not None:
            self._forget()

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        self._pipe = -1
        self._partial = b""


def ending(code: int) -> str:
    """In words: how a process with that return code ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
