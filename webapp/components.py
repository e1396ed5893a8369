"""A page that shows every piece of the console in every state: what new pages are made of."""

from __future__ import annotations

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from flask import Blueprint, render_template

from webapp import auth, risk_policy
from webapp.live import now
from webapp.paging import Slice

bp = Blueprint("components", __name__)


@bp.get("/components")
@auth.viewer
def page() -> str:
    return render_template("components/page.html", **_samples())


def _samples() -> dict[str, Any]:
    """Invented rows, said to be invented on the page."""
    at = now()
    rising = [math.sin(i / 4) + i / 12 for i in range(40)]
    events = [
        SimpleNamespace(
            id=-i,
            severity=severity,
            text=text,
            link="",
            actor="",
            kind="",
            recorded_at=at - timedelta(minutes=i),
            happened_at=at - timedelta(minutes=i),
        )
        for i, (severity, text) in enumerate(
            (
                ("good", "Filled buy 0.0512 BTC/USD at 95 398.20"),
                ("info", "Signal BTC/USD +25 %: short 95 388.10 above long 95 201.70"),
                ("warning", "Denied buy 40 SOL/USD: concentration 20.8 % > 20 %"),
                ("bad", "Stop hit: sell 2.4 ETH/USD at 3 212.70"),
            ),
            start=1,
        )
    ]
    return {
        "rising": rising,
        "falling": [-value for value in rising],
        "happenings": events,
        "moment": at - timedelta(seconds=3),
        "old": at - timedelta(days=9),
        "policy": risk_policy.shown({}),
        "middle_page": Slice([], is_later=True, newest_url="#pager", older_url="#pager"),
    }
