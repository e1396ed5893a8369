"""Who may log in: for administrators."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa
from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import AuditRow, UserRow
from webapp import auth
from webapp.db import db

bp = Blueprint("users", __name__, url_prefix="/users")

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,39}", re.IGNORECASE)


@bp.get("/")
@auth.admin
def page() -> str:
    return _page({})


def _page(problems: dict[str, str]) -> str:
    users = list(db.session.scalars(sa.select(UserRow).order_by(UserRow.username)))
    trail = list(db.session.scalars(sa.select(AuditRow).order_by(AuditRow.id.desc()).limit(40)))
    return render_template(
        "users/page.html", users=users, trail=trail, roles=auth.ROLES, problems=problems
    )


@bp.post("/")
@auth.admin
def add() -> AnyResponse | tuple[str, int]:
    """A new user with a first password, which they change in their profile."""
    username = request.form.get("username", "").strip()
    password = request.form.get("password", "")
    role = request.form.get("role", "")
    problems = {}
    if not NAME.fullmatch(username):
        problems["username"] = (
            f"{username or 'nothing'} is not a name: 2 to 40 letters, digits, dots, dashes"
        )
    elif _by_name(username):
        problems["username"] = f"{username} exists already"
    if role not in auth.ROLES:
        problems["role"] = f"{role or 'nothing'} is no role"
    if problem := auth.password_problem(password, username):
        problems["password"] = problem
    if problems:
        return _page(problems), 400
    row = UserRow(
        username=username,
        password_hash=auth.hash_password(password),
        role=role,
        timezone=current_user.timezone,
    )
    db.session.add(row)
    auth.audit("user.added", username, role=role)
    db.session.commit()
    flash(f"{username} may log in as {role}.")
    return redirect(url_for("users.page"), code=303)


@bp.post("/<int:user_id>/role")
@auth.admin
def set_role(user_id: int) -> AnyResponse:
    """What they may do from their next request on."""
    row, role = _someone_else(user_id), request.form.get("role", "")
    if role not in auth.ROLES:
        abort(400, f"role: {role or 'nothing'} is no role")
    row.role = role
    auth.audit("user.role", row.username, role=role)
    return _saved(f"{row.username} is {role} now.")


@bp.post("/<int:user_id>/active")
@auth.admin
def set_active(user_id: int) -> AnyResponse:
    """Let them in, or end their sessions and keep them out. What they did stays on record."""
    row = _someone_else(user_id)
    row.is_active = request.form.get("active") == "yes"
    row.session_version += 1
    auth.audit("user.activated" if row.is_active else "user.deactivated", row.username)
    return _saved(f"{row.username} {'may log in again' if row.is_active else 'is locked out'}.")


@bp.post("/<int:user_id>/password")
@auth.admin
def reset_password(user_id: int) -> AnyResponse:
    """A new password; their sessions end and any lock is lifted."""
    row = _someone_else(user_id)
    password = request.form.get("password", "")
    if problem := auth.password_problem(password, row.username):
        flash(f"Not changed. {problem}")
        return redirect(url_for("users.page"), code=303)
    auth.set_password(row, password)
    auth.audit("user.password_reset", row.username)
    return _saved(f"{row.username} has a new password.")


def _someone_else(user_id: int) -> UserRow:
    """Nobody locks themselves out: one's own row is changed in the profile."""
    row = db.session.get(UserRow, user_id)
    if row is None:
        abort(404)
    if row.id == current_user.id:
        abort(400, "This is you. Another administrator has to do it, so that one always remains.")
    return row


def _by_name(username: str) -> UserRow | None:
    return db.session.scalar(
        sa.select(UserRow).where(sa.func.lower(UserRow.username) == username.lower())
    )


def _saved(text: str) -> AnyResponse:
    db.session.commit()
    flash(text)
    return redirect(url_for("users.page"), code=303)
