"""One's own settings: time zone, theme, password."""

from __future__ import annotations

from functools import cache
from typing import Final
from zoneinfo import available_timezones

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_user
from werkzeug.wrappers import Response as AnyResponse

from shared.db.console import UserRow
from webapp import auth
from webapp.db import db

bp = Blueprint("profile", __name__, url_prefix="/profile")

THEMES: Final = (("auto", "As the system"), ("light", "Light"), ("dark", "Dark"))


@cache
def zones() -> list[str]:
    """Every time zone there is, by name."""
    named = sorted(z for z in available_timezones() if "/" in z and not z.startswith("Etc/"))
    return [*named, "UTC"]


@bp.get("/")
@auth.viewer
def page() -> str:
    return _page({})


def _page(problems: dict[str, str]) -> str:
    return render_template("profile/page.html", themes=THEMES, zones=zones(), problems=problems)


def _me() -> UserRow:
    return db.session.get_one(UserRow, current_user.id)


@bp.post("/settings")
@auth.viewer
def save_settings() -> AnyResponse | tuple[str, int]:
    """Time zone and theme."""
    timezone, theme = request.form.get("timezone", ""), request.form.get("theme", "")
    problems = {}
    if timezone not in zones():
        problems["timezone"] = (
            f"{timezone or 'nothing'} is no time zone: choose one such as Europe/Berlin"
        )
    if theme not in dict(THEMES):
        problems["theme"] = f"{theme or 'nothing'} is no theme"
    if problems:
        return _page(problems), 400
    me = _me()
    me.timezone, me.theme = timezone, theme
    db.session.commit()
    flash("Saved.")
    return redirect(url_for("profile.page"), code=303)


@bp.post("/password")
@auth.viewer
def change_password() -> AnyResponse | tuple[str, int]:
    """A new password. Other sessions of the user end; this one goes on."""
    me = _me()
    new = request.form.get("new", "")
    problems = {}
    if not auth.password_is(me.username, request.form.get("old", "")):
        problems["old"] = "That is not your password now."
    if problem := auth.password_problem(new, me.username):
        problems["new"] = problem
    elif new != request.form.get("again", ""):
        problems["again"] = "The two do not match."
    if problems:
        return _page(problems), 400
    auth.set_password(me, new)
    auth.audit("password.changed", me.username)
    db.session.commit()
    login_user(auth.User(me))
    flash("Your password is changed. Other sessions of yours have ended.")
    return redirect(url_for("profile.page"), code=303)
