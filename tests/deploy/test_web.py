"""`seraphim web` as a process: it serves, it ends when asked, it says when its port is taken."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.exits import Exit
from deploy.processes import wait_until
from shared.settings import ROOT, VARIABLES

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def web(settings, port, tmp_path) -> Callable[[], subprocess.Popen[str]]:
    bare = {k: v for k, v in os.environ.items() if k not in VARIABLES.values()}
    environment = bare | {
        "SERAPHIM_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }

    @contextmanager
    def start() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "deploy", "web"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            yield process
            process.kill()

    return start


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_it_serves_until_it_is_asked_to_end(web, port):
    with web() as process:
        assert wait_until(lambda: answers(port) or process.poll() is not None, 30)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert page.status == 200
            assert "Server" not in page.headers, "no version for strangers to look up"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == Exit.OK


def test_a_taken_port_is_named_with_another_to_choose(web, port):
    with socket.create_server(("127.0.0.1", port)), web() as process:
        assert process.wait(30) == Exit.PORT_BUSY
        said = process.stdout.read()
    assert f"port {port} on 127.0.0.1 is in use" in said
    assert f"PORT={port + 1}" in said
