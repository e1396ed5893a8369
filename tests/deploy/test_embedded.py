"""The embedded servers, on real processes: started by the first user, stopped after the last."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from deploy.embedded import ensure, services, using, wait_until_stopped
from deploy.exits import Exit, Stop
from deploy.keeper import Place
from deploy.processes import is_locked, wait_until
from shared.db.sessions import plain_url
from shared.settings import ROOT, Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for kind in ("postgres", "redis"):
        place = Place(tmp_path, kind)
        assert wait_until(lambda: not is_locked(place.keeper_lock), 30), f"{kind} outlived its test"  # noqa: B023


def server_pid(home: Path, kind: str) -> int:
    return int(json.loads(Place(home, kind).server.read_text())["pid"])


def keeper_pid(home: Path, kind: str) -> int:
    return int(json.loads(Place(home, kind).state.read_text())["keeper"])


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def count(url: str, statement: str = "SELECT count(*) FROM t") -> int:
    with psycopg.connect(plain_url(url), autocommit=True, connect_timeout=2) as connection:
        return connection.execute(statement).fetchone()[0]


def run(url: str, statement: str) -> None:
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        connection.execute(statement)


def test_the_last_user_stops_the_server_and_the_data_stays(home):
    with using("postgres", home, scratch=True) as url:
        run(url, "CREATE TABLE t AS SELECT 1")
        with using("postgres", home, scratch=True) as same:
            assert same == url
        assert count(url) == 1, "somebody still uses it"
        pid = server_pid(home, "postgres")
    assert wait_until(lambda: gone(pid), 10)
    with using("postgres", home, scratch=True) as again:
        assert again == url
        assert count(again) == 1


def test_a_user_killed_hard_is_no_user_any_more(home):
    program = (
        "import sys, time; from pathlib import Path; from deploy.embedded import using\n"
        "with using('redis', Path(sys.argv[1])) as url: print(url, flush=True); time.sleep(60)"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with user, user.stdout as said:
        assert said.readline().startswith("redis://")
        pid = server_pid(home, "redis")
        user.kill()
    assert wait_until(lambda: gone(pid), 10)


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_server_killed_hard_runs_again_at_the_same_url_within_ten_seconds(home, kind):
    with using(kind, home, scratch=True) as url:
        first = server_pid(home, kind)
        before = ensure(Place(home, kind))
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: answers(url), 10)
        assert server_pid(home, kind) != first
        after = ensure(Place(home, kind))
        assert (after.url, after.starts) == (url, before.starts + 1)


def test_a_killed_keeper_takes_its_server_along_and_is_replaced(home):
    with using("postgres", home, scratch=True) as url:
        run(url, "CREATE TABLE t AS SELECT 1")
        first = server_pid(home, "postgres")
        os.kill(keeper_pid(home, "postgres"), signal.SIGKILL)
        assert wait_until(lambda: gone(first), 10)
        assert ensure(Place(home, "postgres"), scratch=True).url == url
        assert count(url) == 1


def test_what_was_committed_survives_a_crash_of_the_server(home):
    with using("postgres", home) as url:
        run(url, "CREATE TABLE t AS SELECT generate_series(1, 100)")
        os.kill(server_pid(home, "postgres"), signal.SIGKILL)
        assert wait_until(lambda: answers(url), 10)
        assert count(url) == 100


def test_the_server_keeps_its_promises_to_the_disk(home):
    with using("postgres", home) as url, psycopg.connect(plain_url(url)) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",)


def test_a_port_that_someone_took_meanwhile_is_changed(home):
    with using("redis", home) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
    wait_until_stopped(Settings(home, database_url="postgresql://h/d"))
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        with using("redis", home) as moved:
            assert moved != url
            assert answers(moved)


def test_without_the_password_nobody_gets_in(home):
    with using("redis", home) as cache, using("postgres", home, scratch=True) as database:
        bare = cache.partition("://")[2].partition("@")[2]
        with (
            redis.Redis.from_url(f"redis://{bare}") as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        secret = database.partition("seraphim:")[2].partition("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(plain_url(database.replace(secret, "guess")))
        for pid in (server_pid(home, "redis"), server_pid(home, "postgres")):
            assert secret not in " ".join(psutil.Process(pid).cmdline())
        for kind in ("redis", "postgres"):
            for name in ("access.json", "state.json"):
                assert stat.S_IMODE((home / kind / name).stat().st_mode) == 0o600


def test_data_of_another_major_version_is_refused_with_a_remedy(home):
    with using("postgres", home, scratch=True):
        pass
    wait_until_stopped(Settings(home, redis_url="redis://h"))
    (home / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with (
        pytest.raises(Stop, match=r"was made by PostgreSQL 12.*Dump it") as caught,
        using("postgres", home, scratch=True),
    ):
        pass
    assert caught.value.code is Exit.SERVERS


def test_urls_that_are_set_start_nothing(home):
    settings = Settings(home, database_url="postgres://u:p@h/d", redis_url="redis://r")
    with services(settings) as ready:
        assert ready.database_url == "postgresql+psycopg://u:p@h/d"
        assert ready.redis_url == "redis://r"
    assert list(home.iterdir()) == []


def test_many_first_users_at_once_share_one_server(home):
    program = (
        "import sys; from pathlib import Path; from deploy.embedded import using\n"
        "with using('postgres', Path(sys.argv[1]), scratch=True) as url: print(url); input()"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(home)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    urls = set()
    for user in users:
        user.stdin.write("\n")
        said, _ = user.communicate(timeout=60)
        urls.add(said.strip())
        assert user.returncode == 0
    assert len(urls) == 1


def answers(url: str) -> bool:
    time.sleep(0.05)
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(url, socket_timeout=1) as client:
                return bool(client.ping())
        return count(url, "SELECT 1") == 1
    except (redis.RedisError, psycopg.OperationalError, OSError):
        return False
