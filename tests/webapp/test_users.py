"""Users, as an administrator sees them, and one's own settings."""

import pytest
import sqlalchemy as sa

from shared.db.console import AuditRow, UserRow


def user(rows, name):
    rows.rollback()
    return rows.scalars(sa.select(UserRow).where(UserRow.username == name)).one_or_none()


def test_an_administrator_adds_someone_who_can_then_log_in(admin, app, rows):
    answer = admin.post(
        "/users/", data={"username": "tina", "role": "trader", "password": "a long password"}
    )
    assert answer.status_code == 303
    assert user(rows, "tina").role == "trader"
    entered = app.test_client().post(
        "/login", data={"username": "tina", "password": "a long password"}
    )
    assert entered.status_code == 303
    assert "user.added" in list(rows.scalars(sa.select(AuditRow.action)))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"username": "!"}, "! is not a name"),
        ({"username": "VIEWER"}, "VIEWER exists already"),
        ({"role": "king"}, "king is no role"),
        ({"password": "short"}, "Use at least 10 characters"),
    ],
)
def test_a_user_that_cannot_be_is_refused_beside_the_field(admin, rows, changed, sentence):
    form = {"username": "tina", "role": "trader", "password": "a long password", **changed}
    answer = admin.post("/users/", data=form)
    assert answer.status_code == 400
    assert sentence in answer.text
    assert user(rows, "tina") is None


def test_a_changed_role_holds_from_the_next_request_on(admin, viewer, users, rows):
    assert viewer.get("/strategies/new").status_code == 403
    admin.post(f"/users/{users['viewer'].id}/role", data={"role": "trader"})
    assert viewer.get("/strategies/new").status_code == 200


def test_nobody_takes_their_own_key_away(admin, users, rows):
    for path, form in (("role", {"role": "viewer"}), ("active", {"active": "no"})):
        answer = admin.post(f"/users/{users['admin'].id}/{path}", data=form)
        assert answer.status_code == 400
    assert user(rows, "admin").role == "admin"
    assert user(rows, "admin").is_active


def test_locking_someone_out_ends_their_session(admin, viewer, users):
    admin.post(f"/users/{users['viewer'].id}/active", data={"active": "no"})
    assert viewer.get("/").status_code == 302


def test_a_reset_password_ends_sessions_and_lifts_a_lock(admin, viewer, app, users, rows):
    client = app.test_client()
    for _ in range(5):
        client.post("/login", data={"username": "viewer", "password": "wrong"})
    admin.post(f"/users/{users['viewer'].id}/password", data={"password": "a brand new one"})
    assert viewer.get("/").status_code == 302
    answer = client.post("/login", data={"username": "viewer", "password": "a brand new one"})
    assert answer.status_code == 303


def test_a_time_zone_changes_how_times_read(viewer, world, rows):
    assert "14:00:00" in viewer.get("/books/fills").text  # Berlin
    viewer.post("/profile/settings", data={"timezone": "UTC", "theme": "dark"})
    page = viewer.get("/books/fills").text
    assert "12:00:00" in page
    assert '<html lang="en" data-theme="dark">' in page


def test_a_zone_or_theme_that_is_none_is_refused(viewer, users, rows):
    answer = viewer.post("/profile/settings", data={"timezone": "Mars/Base", "theme": "pink"})
    assert answer.status_code == 400
    assert "Mars/Base is no time zone" in answer.text
    assert user(rows, "viewer").timezone == "Europe/Berlin"
