"""Who someone is and what they may do: every route declares the least role that may call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from flask import Flask, Response, abort, redirect, request, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import AuditRow, UserRow
from webapp.db import db
from webapp.partials import is_partial, sent_to
from webapp.paths import open_page

ANYONE: Final = "anyone"
ROLES: Final = ("viewer", "trader", "admin")
"""Each may do all that the ones before it may."""

TRIES: Final = 5
LOCKED_FOR: Final = timedelta(minutes=5)
PASSWORD_LENGTH: Final = 10

_hasher: Final = PasswordHasher()

View = TypeVar("View", bound=Callable[..., Any])


class UndeclaredRole(RuntimeError):
    """A route says nothing about who may call it, so the console does not start."""


def _declares(role: str) -> Callable[[View], View]:
    def declare(view: View) -> View:
        view.required_role = role  # type: ignore[attr-defined]
        return view

    return declare


anyone = _declares(ANYONE)
viewer = _declares("viewer")
trader = _declares("trader")
admin = _declares("admin")


def required_role(view: Callable[..., Any]) -> str | None:
    """What a view declared, or None."""
    return cast("str | None", getattr(view, "required_role", None))


def may(role: str) -> bool:
    """Whether the current user has `role` or more."""
    if not current_user.is_authenticated:
        return False
    return ROLES.index(current_user.role) >= ROLES.index(role)


class User(UserMixin):  # type: ignore[misc]
    """A logged-in user, as Flask-Login and the templates see them."""

    def __init__(self, row: UserRow) -> None:
        self.id = row.id
        self.username = row.username
        self.role = row.role
        self.timezone = row.timezone
        self.theme = row.theme
        self.session_version = row.session_version

    def get_id(self) -> str:
        """Changes with the session version, which ends every open session of the user."""
        return f"{self.id}.{self.session_version}"


def install(app: Flask) -> None:
    """Log-in, and the check of every request against its route's role."""
    manager = LoginManager(app)
    manager.user_loader(load_user)
    app.before_request(check_role)
    _of_nobody()


def check_every_route_declares(app: Flask) -> None:
    """Raises `UndeclaredRole` naming the routes that declare none."""
    silent = sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if required_role(app.view_functions[rule.endpoint]) is None
    )
    if silent:
        raise UndeclaredRole(f"declare @viewer, @trader, @admin or @anyone: {', '.join(silent)}")


def load_user(session_id: str) -> User | None:
    """The user of a session, unless deactivated or told to log in again."""
    number, _, version = session_id.partition(".")
    if not (number.isdecimal() and version.isdecimal()):
        return None
    row = db.session.get(UserRow, int(number))
    if row is None or not row.is_active or row.session_version != int(version):
        return None
    return User(row)


def check_role() -> AnyResponse | None:
    """Lets the request through, sends it to log in, or refuses it."""
    view = None
    if request.endpoint:
        from flask import current_app

        view = current_app.view_functions.get(request.endpoint)
    if view is None:
        return None  # 404 and 405 are answered by their error pages
    role = required_role(view)
    if role == ANYONE:
        return None
    if not current_user.is_authenticated:
        return to_login()
    if role is None or not may(role):
        abort(403, f"This needs the role {role}; {current_user.username} is {current_user.role}.")
    return None


def to_login() -> AnyResponse:
    """The log-in page, and afterwards back to where they were going."""
    if is_partial():
        return sent_to(url_for("login.page", next=open_page()), status=401)
    going = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("login.page", next=going if going != "/" else None))


@cache
def _of_nobody() -> str:
    """A hash as real ones are, made when a console starts: whoever asks for a name learns nothing by the time."""
    return _hasher.hash("nobody has this password")


def hash_password(password: str) -> str:
    return _hasher.hash(password)


@dataclass(frozen=True, slots=True)
class Entered:
    """The right name and password."""

    user: User


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """`why` is shown as it stands."""

    why: str


def enter(username: str, password: str, now: datetime | None = None) -> Entered | TurnedAway:
    """Log in, or say why not. Five wrong passwords lock the name for five minutes."""
    now = now or datetime.now(UTC)
    row = db.session.scalar(
        sa.select(UserRow).where(sa.func.lower(UserRow.username) == username.strip().lower())
    )
    if row is None or not row.is_active:
        _matches(_of_nobody(), password)  # takes as long as a real one
        audit("login.failed", username.strip()[:80], actor="")
        db.session.commit()
        return TurnedAway("That name and password do not go together.")
    if row.locked_until and row.locked_until > now:
        return TurnedAway(_locked_text(row.locked_until - now))
    if not _matches(row.password_hash, password):
        return _wrong_password(row, now)
    row.failed_logins, row.locked_until, row.last_login_at = 0, None, now
    if _hasher.check_needs_rehash(row.password_hash):
        row.password_hash = hash_password(password)
    audit("login", row.username, actor=row.username)
    db.session.commit()
    user = User(row)
    login_user(user)
    return Entered(user)


def _wrong_password(row: UserRow, now: datetime) -> TurnedAway:
    row.failed_logins += 1
    audit("login.failed", row.username, actor="")
    if row.failed_logins < TRIES:
        db.session.commit()
        return TurnedAway("That name and password do not go together.")
    row.failed_logins, row.locked_until = 0, now + LOCKED_FOR
    audit("login.locked", row.username, actor="")
    db.session.commit()
    return TurnedAway(_locked_text(LOCKED_FOR))


def _locked_text(left: timedelta) -> str:
    minutes = max(1, -(-int(left.total_seconds()) // 60))
    return (
        f"{TRIES} wrong passwords: this name is locked for {minutes} min. "
        "Trading goes on meanwhile. An administrator can reset the password at once."
    )


def leave() -> None:
    """Log out, and remember that it happened."""
    audit("logout", current_user.username)
    db.session.commit()
    logout_user()


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False


def password_is(username: str, password: str) -> bool:
    """Whether this is the user's password now."""
    row = db.session.scalar(sa.select(UserRow).where(UserRow.username == username))
    return row is not None and _matches(row.password_hash, password)


def password_problem(password: str, username: str) -> str | None:
    """What is wrong with a new password, or None."""
    if len(password) < PASSWORD_LENGTH:
        return f"Use at least {PASSWORD_LENGTH} characters; this has {len(password)}."
    if username and username.lower() in password.lower():
        return "Leave your user name out of your password."
    return None


def set_password(row: UserRow, password: str) -> None:
    """A new password; every open session of the user ends, and any lock is lifted."""
    row.password_hash = hash_password(password)
    row.session_version += 1
    row.failed_logins, row.locked_until = 0, None


def audit(action: str, subject: str = "", *, actor: str | None = None, **data: Any) -> None:
    """Who did what; the caller commits it together with the deed."""
    if actor is None:
        actor = current_user.username if current_user.is_authenticated else ""
    address = request.remote_addr or ""
    db.session.add(
        AuditRow(actor=actor, action=action, subject=subject, data=data, address=address)
    )


def harden(response: Response) -> Response:
    """Headers every answer carries. No inline script or style, no framing, nothing from elsewhere."""
    headers = response.headers
    headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=()"
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if response.mimetype == "text/html":
        headers.setdefault("Cache-Control", "no-store")
    return response
