"""Users from the command line."""

import io
from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from sqlalchemy.orm import Session

from deploy.accounts import ACTOR, first_admin, users
from deploy.cli import main
from deploy.exits import Exit
from shared.db.console import AuditRow, UserRow
from shared.db.sessions import make_engine
from shared.settings import VARIABLES


@pytest.fixture
def session(database_url):
    engine = make_engine(database_url)
    with Session(engine) as open_session:
        yield open_session
    engine.dispose()


@pytest.fixture
def seraphim(settings, monkeypatch, tmp_path) -> Callable[..., int]:
    """Run a command, with a password on standard input."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SERAPHIM_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, password: str = "correct horse") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        return main(arguments)

    return run


def test_an_added_user_has_the_password_the_role_and_the_zone(seraphim, session):
    assert seraphim("user", "add", "ann", "--role", "trader", "--timezone", "Asia/Tokyo") == Exit.OK
    [user] = users(session)
    assert (user.username, user.role, user.timezone) == ("ann", "trader", "Asia/Tokyo")
    assert PasswordHasher().verify(user.password_hash, "correct horse")
    [record] = session.query(AuditRow)
    assert (record.actor, record.action, record.subject) == (ACTOR, "user.added", "ann")


def test_two_users_of_one_name_there_cannot_be(seraphim, session, capsys):
    seraphim("user", "add", "ann")
    assert seraphim("user", "add", "ann") == Exit.FAILED
    assert "there is a user 'ann' already" in capsys.readouterr().err
    assert len(users(session)) == 1


def test_a_short_password_is_refused(seraphim, session, capsys):
    assert seraphim("user", "add", "ann", password="short") == Exit.USAGE
    assert "at least 10 characters" in capsys.readouterr().err
    assert users(session) == []


def test_a_new_password_ends_sessions_and_lifts_a_lock_out(seraphim, session):
    seraphim("user", "add", "ann")
    [user] = users(session)
    user.failed_logins = 9
    session.commit()
    assert seraphim("user", "passwd", "ann", password="another horse") == Exit.OK
    session.refresh(user)
    assert PasswordHasher().verify(user.password_hash, "another horse")
    assert (user.session_version, user.failed_logins, user.locked_until) == (2, 0, None)


def test_a_password_for_nobody_is_refused(seraphim, capsys):
    assert seraphim("user", "passwd", "bob") == Exit.FAILED
    assert "no user 'bob'" in capsys.readouterr().err


def test_a_generated_password_is_printed_and_works(seraphim, session, capsys):
    seraphim("user", "add", "ann", "--generate")
    printed = capsys.readouterr().out.split("Password: ")[1].split()[0]
    [user] = users(session)
    assert PasswordHasher().verify(user.password_hash, printed)


def test_the_list_names_everyone(seraphim, capsys):
    seraphim("user", "add", "zoe", "--role", "admin")
    seraphim("user", "add", "ann")
    capsys.readouterr()
    seraphim("user", "list")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["ann", "viewer"],
        ["zoe", "admin"],
    ]


def test_the_first_administrator_is_made_once_and_only_where_there_is_no_user(session):
    password = first_admin(session, "UTC")
    assert password is not None
    [admin] = users(session)
    assert admin.role == "admin"
    assert PasswordHasher().verify(admin.password_hash, password)
    assert first_admin(session, "UTC") is None


def test_where_there_is_a_user_no_administrator_appears(session):
    session.add(UserRow(username="ann", password_hash="x", role="viewer"))
    session.commit()
    assert first_admin(session, "UTC") is None
