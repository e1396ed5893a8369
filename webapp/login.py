"""Logging in and out."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from webapp import auth
from webapp.paths import next_page

bp = Blueprint("login", __name__)


@bp.get("/login")
@auth.anyone
def page() -> AnyResponse | str:
    if current_user.is_authenticated:
        return redirect(next_page("/"))
    return render_template("login/page.html", username="", problem="")


@bp.post("/login")
@auth.anyone
def log_in() -> AnyResponse | tuple[str, int]:
    username = request.form.get("username", "")
    going = next_page("/")
    session.clear()  # a session from before the log-in must not survive it
    answer = auth.enter(username, request.form.get("password", ""))
    if isinstance(answer, auth.TurnedAway):
        return render_template("login/page.html", username=username, problem=answer.why), 401
    session.permanent = True
    return redirect(going, code=303)


@bp.post("/logout")
@auth.viewer
def log_out() -> AnyResponse:
    auth.leave()
    session.clear()
    return redirect(url_for("login.page"), code=303)
