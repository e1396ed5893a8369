"""Processes and locks as the kernel knows them: both vanish with their owner, even after kill -9."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


def ended_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For Popen(preexec_fn=...): the child gets `number` when its parent dies, however it dies."""
    parent = os.getpid()

    def ask() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
            if os.getppid() != parent:  # died before we asked
                os._exit(1)

    return ask


def alive(pid: int, created: float) -> psutil.Process | None:
    """The process of that pid and birth, unless it has ended: pids come round again."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 1.0
        if same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.NoSuchProcess:
        pass
    return None


def wait_until(true: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether it became true within that time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL to it and everything it started: a worker's job runs in a group of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


class FileLock:
    """An flock on a file. The kernel releases it with the process, so no stale one exists."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def _try(self, how: int) -> bool:
        try:
            fcntl.flock(self._file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, text: str) -> None:
        """Leave a word for whoever finds the lock taken."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def read(self) -> str:
        return os.pread(self._file, 4096, 0).decode(errors="replace")

    def close(self) -> None:
        os.close(self._file)


@contextlib.contextmanager
def shared_lock(path: Path, seconds: float) -> Iterator[None]:
    """Held together with others; waits while someone holds it alone."""
    lock = FileLock(path)
    try:
        if not wait_until(lock.try_shared, seconds):
            raise TimeoutError(f"{path} stayed locked for {seconds:.0f} s")
        yield
    finally:
        lock.close()


def is_locked(path: Path) -> bool:
    """Whether someone holds it alone at this moment."""
    lock = FileLock(path)
    try:
        return not lock.try_shared()
    finally:
        lock.close()
