"""Every page and fragment, as HTML: sound, labelled, and every address on it leads somewhere."""

from urllib.parse import urlsplit

import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound

from tests.webapp.markup import read

PAGES = (
    "/", "/?range=all", "/events", "/events?severity=warning", "/markets/", "/markets/{btc}",
    "/markets/{btc}?interval=300", "/markets/{eth}", "/strategies/", "/strategies/new",
    "/strategies/new?type=rsi_reversion", "/strategies/{strategy}", "/strategies/{strategy}/edit",
    "/strategies/types/rsi_reversion/source", "/books/orders", "/books/orders?state=working",
    "/books/orders/{order}", "/books/orders/{stop_order}", "/books/fills", "/books/positions",
    "/books/ledger", "/books/decisions", "/books/account", "/books/lots", "/books/ledger/1", "/books/fills/1",
    "/books/fills?side=buy&sort=realised&dir=asc&from=2026-09-12", "/decisions/{decision}", "/decisions/{denied}", "/risk/",
    "/stop/", "/system/", "/users/", "/trade/", "/trade/?instrument={eth}", "/trade/1/settings", "/profile/", "/components",
)  # fmt: skip
FRAGMENTS = (
    "/frame", "/toasts?after=-1", "/overview/numbers", "/overview/positions", "/overview/bars",
    "/overview/events", "/overview/first-steps", "/markets/venue/simulated", "/markets/{btc}/ticker",
    "/strategies/list", "/strategies/{strategy}/numbers", "/strategies/{strategy}/decisions",
    "/strategies/preview?allocation=50", "/risk/usage", "/trade/quote", "/trade/ticket",
    "/trade/positions", "/trade/orders", "/trade/asked", "/stop/situation", "/stop/plan",
    "/stop/orders", "/system/state", "/charts/equity/table", "/charts/candles/{btc}/table?interval=60",
)  # fmt: skip


def filled(path, world):
    return path.format(
        btc=world.btc.id, eth=world.eth.id, strategy=world.strategy.id, order=world.order,
        stop_order=world.stop_order, decision=world.decision, denied=world.denied,
    )  # fmt: skip


def test_every_page_is_sound_html_and_its_addresses_lead_somewhere(app, admin, world, rows):
    from tests.webapp.world import a_type

    a_type(rows, "broken_idea", error="Traceback ...\nNameError: name 'x' is not defined")
    rows.commit()
    wrong = {}
    for path in PAGES:
        answer = admin.get(filled(path, world))
        assert answer.status_code == 200, path
        page = read(answer.text)
        problems = page.wrong + lost_addresses(app, page)
        if page.tags.count("html") != 1 or page.tags.count("h1") != 1 or "main" not in page.tags:
            problems.append("not one html, one main and one h1")
        if problems:
            wrong[path] = problems
    assert wrong == {}


def test_every_fragment_is_sound_html_and_never_a_page(app, admin, world):
    wrong = {}
    for path in FRAGMENTS:
        answer = admin.get(filled(path, world), headers={"HX-Request": "true"})
        if path.startswith("/toasts") and answer.status_code == 204:
            continue
        assert answer.status_code == 200, path
        assert answer.headers["Cache-Control"] == "no-store", path
        fragment = read(answer.text)
        fragment.wrong = [w for w in fragment.wrong if "refers to ids" not in w]
        problems = fragment.wrong + lost_addresses(app, fragment)
        problems += [f"<{tag}>" for tag in ("html", "head", "body", "main") if tag in fragment.tags]
        if problems:
            wrong[path] = problems
    assert wrong == {}


def test_pages_are_sound_before_there_is_anything_to_show(app, admin):
    for path in ("/", "/events", "/markets/", "/strategies/", "/strategies/new", "/books/orders",
                 "/books/ledger", "/risk/", "/stop/", "/system/", "/users/", "/profile/"):  # fmt: skip
        answer = admin.get(path)
        assert answer.status_code == 200, path
        assert read(answer.text).wrong == [], path


@pytest.mark.parametrize("path", ["/nowhere", "/decisions/not-a-uuid", "/strategies/99999"])
def test_what_is_not_there_is_said_on_a_sound_page(admin, path):
    answer = admin.get(path)
    assert answer.status_code == 404
    assert read(answer.text).wrong == []
    assert "There is nothing here" in answer.text


def test_a_missing_fragment_is_answered_with_a_fragment(admin):
    answer = admin.get("/strategies/99999/numbers", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert "html" not in read(answer.text).tags


def test_the_log_in_page_is_sound(app):
    page = read(app.test_client().get("/login").text)
    assert page.wrong == []


def lost_addresses(app, page):
    """Addresses on this site that no route answers, or not with that method."""
    adapter = app.url_map.bind("localhost")
    lost = []
    for name, url in page.urls:
        parts = urlsplit(url)
        if parts.netloc or not parts.path:
            continue
        method = "POST" if name in ("action", "hx-post") else "GET"
        try:
            adapter.match(parts.path, method=method)
        except MethodNotAllowed:
            if name == "action":  # a form with method=get
                adapter.match(parts.path, method="GET")
            else:
                lost.append(f"{name}={url}: not with {method}")
        except NotFound:
            lost.append(f"{name}={url}")
    return lost
