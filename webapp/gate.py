"""What the look-ahead gate found in a run, as its page and the lists show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, Response, abort

from shared.db.backtests import RunRow
from webapp import auth
from webapp.charts import json_answer
from webapp.db import db
from webapp.formats import NOTHING, percent, plural, quantity

bp = Blueprint("gate", __name__, url_prefix="/research/runs")

WIDTH: Final = 600
HEIGHT: Final = 120
EDGE: Final = 6
"""Room above and below the lines of a picture, in its own units."""

ANSWERS: Final = {
    "clean": ("no look-ahead", "good"),
    "leaks": ("looks ahead", "bad"),
    "unproven": ("look-ahead not proven", "warning"),
}
NOT_EXAMINED: Final = ("not examined", "")

KINDS: Final = {
    "future": "later bars",
    "slower": "slower input too early",
    "state": "kept between runs",
    "clock": "wall clock",
    "outside": "outside the bars",
    "ends": "where the bars end",
    "chance": "chance",
    "fails": "raises",
    "unseen": "cannot be watched",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A column with all bars and with the future cut off, as lines in a box of WIDTH by HEIGHT."""

    whole: list[str]
    cut: list[str]
    cut_x: float
    cut_at: datetime
    first: datetime
    last: datetime
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, in words and numbers."""

    kind: str
    is_leak: bool
    text: str
    what: str
    at: datetime | None
    whole: str
    cut: str
    ahead: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Seen:
    """The gate's answer about one run. `facts` are (name, number, remark)."""

    word: str
    tone: str
    text: str
    leaks: bool
    facts: list[tuple[str, str, str]]
    findings: list[Finding]
    warmups: list[Mapping[str, Any]]

    @property
    def shown(self) -> Finding | None:
        """The finding whose picture is shown."""
        return next((f for f in self.findings if f.picture is not None), None)

    @property
    def short_of_history(self) -> list[Mapping[str, Any]]:
        return [warmup for warmup in self.warmups if not warmup["enough"]]


@bp.get("/<int:run_id>/look-ahead.json")
@auth.viewer
def as_json(run_id: int) -> Response:
    """The verdict as it was stored; 404 where the run was not examined."""
    run = db.session.get(RunRow, run_id)
    if run is None or run.gate is None:
        abort(404)
    return json_answer(run.gate)


def badge(run: RunRow) -> tuple[str, str]:
    """(words, tone) of a run's verdict."""
    return ANSWERS[run.gate["verdict"]] if run.gate else NOT_EXAMINED


def seen(run: RunRow) -> Seen:
    """Everything the page tells of the gate."""
    word, tone = badge(run)
    gate = run.gate
    if gate is None:
        text = (
            "Whether this run looks ahead was not examined: it was asked for without the look-ahead gate, "
            "or there was none yet."
        )
        return Seen(word, tone, text, leaks=False, facts=[], findings=[], warmups=[])
    return Seen(
        word,
        tone,
        _sentence(gate["text"]),
        leaks=gate["verdict"] == "leaks",
        facts=_facts(gate),
        findings=[_finding(found) for found in gate["findings"]],
        warmups=gate["warmups"],
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _facts(gate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    deciding, examined = gate["deciding"], gate["examined"]
    share = percent(examined / deciding, 0) if deciding else "none decided"
    of_all = f"of {quantity(deciding)} · {share}"
    if examined < deciding and any(f["leak"] and f["kind"] != "outside" for f in gate["findings"]):
        of_all = f"of {quantity(deciding)} · ended at the first leak"
    looked = "all bars" if gate["rows"] >= gate["of_rows"] else f"{quantity(gate['rows'])} bars"
    return [
        ("Deciding bars examined", quantity(examined), of_all),
        ("Future cut off", quantity(gate["cuts"]), "exactly, one by one"),
        ("Future hidden", quantity(gate["hidden"]), "many bars at once"),
        ("Future shuffled", quantity(gate["shuffles"]), "other bars in its place"),
        (
            "Time used",
            f"{gate['seconds']:.2f} s",
            f"of {gate['budget_seconds']:.2f} s · {looked}",
        ),
    ]


def _finding(found: Mapping[str, Any]) -> Finding:
    ahead = found["ahead"]
    at = found["at"]
    return Finding(
        kind=KINDS[found["kind"]],
        is_leak=found["leak"],
        text=_sentence(found["text"]),
        what=found["what"],
        at=None if at is None else _moment(at),
        whole=found["whole"],
        cut=found["cut"],
        ahead=NOTHING if ahead is None else f"{plural(ahead, 'bar')} or more",
        picture=_picture(found["picture"]) if found["picture"] else None,
    )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _picture(given: Mapping[str, Any]) -> Picture | None:
    """Lines for a picture; None where there is nothing to draw."""
    values = [v for v in (*given["whole"], *given["cut"]) if v is not None]
    times = given["times"]
    if len(times) < 2 or not values:
        return None
    low, high = min(values), max(values)
    step = WIDTH / (len(times) - 1)
    return Picture(
        _lines(given["whole"], low, high, step),
        _lines(given["cut"], low, high, step),
        step * times.index(given["cut_at"]) if given["cut_at"] in times else WIDTH,
        _moment(given["cut_at"]),
        _moment(times[0]),
        _moment(times[-1]),
        low,
        high,
    )


def _lines(values: Sequence[float | None], low: float, high: float, step: float) -> list[str]:
    """Polylines through the values; a missing one ends a line. A value alone becomes a short dash."""
    span = (high - low) or 1.0
    lines: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            y = HEIGHT - EDGE - (value - low) / span * (HEIGHT - 2 * EDGE)
            lines[-1].append((place * step, y))
    return [_points(line, step) for line in lines if line]


def _points(line: list[tuple[float, float]], step: float) -> str:
    if len(line) == 1:
        x, y = line[0]
        line = [(x - step / 3, y), (x + step / 3, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in line)


bp.add_app_template_global(seen, "gate_of")
bp.add_app_template_global(badge, "gate_badge")
