"""What the pages of the books share."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, abort, make_response, render_template, request

from shared.db.trading import AccountRow
from webapp import accounts
from webapp.accounts import ORDER_TONES

bp = Blueprint("books", __name__)

OUTCOME_TONES: Final = {"ordered": "good", "denied": "warning", "refused": "bad", "nothing": ""}
OUTCOME_TEXTS: Final = {
    "ordered": "ordered",
    "denied": "denied by risk",
    "refused": "refused: trading was stopped",
    "nothing": "nothing to do",
}
TABS: Final = (
    ("Account", "books.account"),
    ("Orders", "books.orders"),
    ("Fills", "books.fills"),
    ("Positions", "books.positions"),
    ("Lots", "books.lots"),
    ("Ledger", "books.ledger"),
    ("Decisions", "books.decisions"),
)
BELONGS: Final = {
    "books.book_money": "books.account",
    "books.fill": "books.fills",
    "books.lot": "books.lots",
    "books.entry": "books.ledger",
}
"""Pages without a tab of their own, and whose they are."""


def account_looked_at() -> AccountRow:
    """The account looked at; without one, the books say that they have not begun."""
    account = accounts.chosen()
    if account is None:
        abort(make_response(render_template("books/none.html")))
    return account


def shown(template: str, **given: Any) -> str:
    """A page of the books, with its tabs."""
    return render_template(
        template,
        tabs=TABS,
        tab=BELONGS.get(request.endpoint or "", request.endpoint),
        account=accounts.chosen(),
        order_tones=ORDER_TONES,
        outcome_tones=OUTCOME_TONES,
        outcome_texts=OUTCOME_TEXTS,
        **given,
    )
