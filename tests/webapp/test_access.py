"""Who may do what, and how they get in."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import Flask

from shared.db.console import AuditRow, UserRow
from tests.webapp.conftest import PASSWORD
from webapp import auth, create_app

ORDER = ("anyone", *auth.ROLES)
ANY_UUID = str(uuid4())


def routes(app):
    """(rule, method, endpoint's role) of every route but static files."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        for method in sorted(rule.methods & {"GET", "POST", "DELETE"}):
            yield rule, method, auth.required_role(app.view_functions[rule.endpoint])


def address(rule):
    """A URL of the rule with something in every blank."""
    path = re.sub(r"<uuid:\w+>", ANY_UUID, rule.rule)
    path = path.replace("<int:user_id>", "999")  # nobody: or users would lock each other out
    path = re.sub(r"<int:\w+>", "1", path)
    path = re.sub(r"<any\((\w+)[^>]*>", r"\1", path)
    return re.sub(r"<(?:\w+:)?\w+>", "simulated", path)


def test_a_route_that_declares_no_role_stops_the_start():
    app = Flask(__name__)
    app.view_functions["static"] = auth.anyone(app.view_functions["static"])
    app.add_url_rule("/secret", "secret", lambda: "")
    with pytest.raises(auth.UndeclaredRole, match="/secret"):
        auth.check_every_route_declares(app)


def test_the_console_does_not_start_without_the_urls_of_its_servers(settings):
    from dataclasses import replace

    with pytest.raises(ValueError, match="with_urls"):
        create_app(replace(settings, database_url=None))


def test_every_route_lets_in_its_role_and_those_above_and_nobody_else(app, log_in, world):
    clients = {role: log_in(role) for role in auth.ROLES}
    wrong = []
    for rule, method, role in routes(app):
        if role == auth.ANYONE or rule.endpoint == "login.log_out":
            continue
        for who in auth.ROLES:
            status = clients[who].open(address(rule), method=method).status_code
            is_let_in = status not in (401, 403)
            if is_let_in != (ORDER.index(who) >= ORDER.index(role)) or status == 500:
                wrong.append((method, rule.rule, role, who, status))
    assert wrong == []


def test_nobody_gets_anywhere_without_logging_in(app, world):
    client = app.test_client()
    for rule, method, role in routes(app):
        if role == auth.ANYONE:
            continue
        answer = client.open(address(rule), method=method)
        assert answer.status_code == 302, rule.rule
        assert answer.location.startswith("/login"), rule.rule


def test_a_fragment_asked_for_after_the_session_ended_sends_the_page_to_log_in(app):
    answer = app.test_client().get("/frame", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login"


def test_after_logging_in_one_is_where_one_wanted_to_be(app, users):
    client = app.test_client()
    assert client.get("/books/fills?side=buy").location == "/login?next=/books/fills?side%3Dbuy"
    answer = client.post(
        "/login",
        data={"username": "viewer", "password": PASSWORD, "next": "/books/fills?side=buy"},
    )
    assert answer.location == "/books/fills?side=buy"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"],
)
def test_nobody_is_sent_off_this_site_after_logging_in(app, users, elsewhere):
    answer = app.test_client().post(
        "/login", data={"username": "viewer", "password": PASSWORD, "next": elsewhere}
    )
    assert answer.location == "/"


def test_user_names_do_not_care_about_case(app, users):
    answer = app.test_client().post("/login", data={"username": "Viewer", "password": PASSWORD})
    assert answer.status_code == 303


def test_a_wrong_password_and_an_unknown_name_sound_the_same(app, users):
    client = app.test_client()
    wrong = client.post("/login", data={"username": "viewer", "password": "wrong"})
    unknown = client.post("/login", data={"username": "nobody", "password": "wrong"})
    assert wrong.status_code == unknown.status_code == 401
    sentence = "That name and password do not go together."
    assert sentence in wrong.text
    assert sentence in unknown.text


def test_five_wrong_passwords_lock_the_name_and_say_for_how_long(app, users, rows):
    client = app.test_client()
    for _ in range(4):
        client.post("/login", data={"username": "viewer", "password": "wrong"})
    fifth = client.post("/login", data={"username": "viewer", "password": "wrong"})
    assert "locked for 5 min" in fifth.text
    right = client.post("/login", data={"username": "viewer", "password": PASSWORD})
    assert right.status_code == 401
    assert "locked for" in right.text
    actions = list(rows.scalars(sa.select(AuditRow.action).order_by(AuditRow.id)))
    assert actions.count("login.failed") == 5
    assert "login.locked" in actions


def test_a_lock_ends_by_itself_and_a_log_in_clears_the_count(app, users, rows):
    row = rows.get(UserRow, users["viewer"].id)
    row.locked_until = datetime.now(UTC) - timedelta(seconds=1)
    row.failed_logins = 4
    rows.commit()
    answer = app.test_client().post("/login", data={"username": "viewer", "password": PASSWORD})
    assert answer.status_code == 303
    rows.refresh(row)
    assert (row.failed_logins, row.locked_until) == (0, None)


def test_someone_deactivated_is_out_at_once_and_cannot_come_back(viewer, app, users, rows):
    rows.get(UserRow, users["viewer"].id).is_active = False
    rows.commit()
    assert viewer.get("/").status_code == 302
    answer = app.test_client().post("/login", data={"username": "viewer", "password": PASSWORD})
    assert answer.status_code == 401


def test_a_new_password_ends_the_other_sessions_but_not_this_one(viewer, log_in, rows):
    other = log_in("viewer")
    answer = viewer.post(
        "/profile/password",
        data={"old": PASSWORD, "new": "battery staple", "again": "battery staple"},
    )
    assert answer.status_code == 303
    assert viewer.get("/").status_code == 200
    assert other.get("/").status_code == 302
    assert "password.changed" in list(rows.scalars(sa.select(AuditRow.action)))


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"old": "nope", "new": "battery staple", "again": "battery staple"}, "not your password"),
        ({"old": PASSWORD, "new": "short", "again": "short"}, "Use at least 10 characters"),
        ({"old": PASSWORD, "new": "battery staple", "again": "other"}, "do not match"),
        ({"old": PASSWORD, "new": "the viewer himself", "again": "x"}, "user name out"),
    ],
)
def test_a_password_that_cannot_be_is_refused_beside_its_field(viewer, form, sentence):
    answer = viewer.post("/profile/password", data=form)
    assert answer.status_code == 400
    assert sentence in answer.text


def test_logging_out_ends_the_session(viewer):
    assert viewer.post("/logout").location == "/login"
    assert viewer.get("/").status_code == 302


def test_a_post_without_the_forms_token_does_nothing(app, log_in, world, rows):
    client = log_in("trader")
    app.config["WTF_CSRF_ENABLED"] = True
    answer = client.post(f"/strategies/{world.strategy.id}/stop")
    assert answer.status_code == 400
    assert "too old" in answer.text
    assert rows.execute(sa.text("SELECT count(*) FROM commands")).scalar() == 0


def test_the_pages_own_token_is_accepted_as_a_header(app, log_in, world):
    client = log_in("trader")
    app.config["WTF_CSRF_ENABLED"] = True
    token = re.search(r'"X-CSRFToken": "([^"]+)"', client.get("/").text)[1]
    answer = client.post(f"/strategies/{world.strategy.id}/stop", headers={"X-CSRFToken": token})
    assert answer.status_code == 303


def test_every_answer_carries_the_headers_that_keep_others_out(app, viewer):
    for path in ("/login", "/", "/nowhere", "/static/app.css"):
        with viewer.get(path) as answer:
            headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "Strict-Transport-Security" not in headers
    secure = viewer.get("/login", base_url="https://localhost")
    assert "max-age" in secure.headers["Strict-Transport-Security"]


def test_pages_are_never_stored_by_browsers(viewer):
    assert viewer.get("/").headers["Cache-Control"] == "no-store"


def test_the_session_cookie_is_for_this_site_and_not_for_scripts(app, users):
    answer = app.test_client().post("/login", data={"username": "viewer", "password": PASSWORD})
    cookie = next(c for c in answer.headers.getlist("Set-Cookie") if c.startswith("seraphim="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie  # loopback; settings turn it on elsewhere


def test_health_needs_nobody(app):
    client = app.test_client()
    assert client.get("/health/live").json == {"console": "up"}
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json == {"postgresql": "answers", "redis": "answers"}
