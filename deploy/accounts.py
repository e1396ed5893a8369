"""Users, as the command line and the first start make them."""

from __future__ import annotations

import secrets
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from deploy.exits import Exit, Stop
from shared.db.console import AuditRow, UserRow
from webapp.auth import PASSWORD_LENGTH, ROLES, hash_password

ACTOR: Final = "command line"
FIRST_ADMIN: Final = "admin"


def generated_password() -> str:
    """About 95 bits, without characters that look alike."""
    letters = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def add_user(session: Session, username: str, password: str, role: str, timezone: str) -> None:
    """A user who may log in at once."""
    if role not in ROLES:
        raise Stop(Exit.USAGE, f"{role!r} is no role; the roles are {', '.join(ROLES)}.")
    if _named(session, username) is not None:
        raise Stop(Exit.FAILED, f"there is a user {username!r} already.")
    _check(password)
    session.add(
        UserRow(
            username=username,
            password_hash=hash_password(password),
            role=role,
            timezone=timezone,
        )
    )
    _record(session, "user.added", username, role=role)
    session.commit()


def set_password(session: Session, username: str, password: str) -> None:
    """A new password; lifts a lock-out and ends the user's open sessions."""
    user = _named(session, username)
    if user is None:
        raise Stop(Exit.FAILED, f"there is no user {username!r}.")
    _check(password)
    user.password_hash = hash_password(password)
    user.session_version += 1
    user.failed_logins = 0
    user.locked_until = None
    _record(session, "user.password_set", username)
    session.commit()


def users(session: Session) -> list[UserRow]:
    return list(session.scalars(sa.select(UserRow).order_by(UserRow.username)))


def first_admin(session: Session, timezone: str) -> str | None:
    """The password of the administrator made because there was no user; None if there is one."""
    if session.scalar(sa.select(UserRow.id).limit(1)) is not None:
        return None
    password = generated_password()
    add_user(session, FIRST_ADMIN, password, "admin", timezone)
    return password


def _named(session: Session, username: str) -> UserRow | None:
    return session.scalar(sa.select(UserRow).where(UserRow.username == username))


def _check(password: str) -> None:
    if len(password) < PASSWORD_LENGTH:
        raise Stop(Exit.USAGE, f"a password has at least {PASSWORD_LENGTH} characters.")


def _record(session: Session, action: str, subject: str, **data: str) -> None:
    session.add(AuditRow(actor=ACTOR, action=action, subject=subject, data=data))
