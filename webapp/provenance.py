"""Where a run's numbers come from: what was recorded, what has changed since, and the same run once more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort
from werkzeug.wrappers import Response as AnyResponse

from shared import installation
from shared.db.backtests import InstallationDiffRow, RunRow
from shared.db.market import SeriesRow
from shared.db.trading import StrategyTypeRow
from shared.domain.market import interval_text
from shared.domain.repeats import differences, other_versions, outcome
from shared.jobs import repeated
from webapp import auth, charts, workers
from webapp.db import db

bp = Blueprint("provenance", __name__, url_prefix="/research/runs")

SAME: Final = "same"
GROWN: Final = "grown"
UNSURE: Final = "unsure"
CHANGED: Final = "changed"
UNKNOWN: Final = "unknown"

TONES: Final = {SAME: "good", GROWN: "info", UNSURE: "warning", CHANGED: "warning", UNKNOWN: ""}
WORDS: Final = {
    SAME: "unchanged",
    GROWN: "has grown",
    UNSURE: "being looked over",
    CHANGED: "changed since",
    UNKNOWN: "not recorded",
}
DATA: Final = "data"
CODE: Final = "code"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing a run was made of: `shown` of it, its whole `hash`, and how it stands now."""

    kind: str
    name: str
    shown: str
    hash: str
    state: str
    told: str = ""
    """What has changed, or why it is not known; "" where nothing is to be said."""

    @property
    def tone(self) -> str:
        return TONES[self.state]

    @property
    def word(self) -> str:
        return WORDS[self.state]


# What has changed -------------------------------------------------------------------------------


def parts(run: RunRow) -> list[Part]:
    """Everything a run was made of: its bars, its strategy's code, ours, and the packages."""
    bars = [_bars(chosen) for chosen in run.inputs.values()]
    return [*dict.fromkeys(bars), _strategy(run), _sources(run), _packages(run)]


def _bars(chosen: Mapping[str, Any]) -> Part:
    name = f"{chosen['symbol']} {interval_text(int(chosen['interval']))}"
    known = str(chosen.get("data_hash") or "")
    series = db.session.get(SeriesRow, int(chosen["series_id"]))
    state, told = _series_now(series, chosen, known, name)
    return Part(DATA, name, known[:12], known, state, told)


def _series_now(
    series: SeriesRow | None, chosen: Mapping[str, Any], known: str, name: str
) -> tuple[str, str]:
    if series is None:
        return CHANGED, f"{name} is not stored any more"
    if str(series.content) == chosen.get("content"):
        if series.appended == chosen.get("appended"):
            return SAME, ""
        return GROWN, f"{name} has new bars; those that the run read are the same"
    if series.content_hash is None or series.hashed_change != series.changes:
        return UNSURE, f"{name} was written to since; a worker has not looked it over yet"
    if series.content_hash == known:
        return SAME, ""
    return CHANGED, f"bars of {name} have changed"


def _strategy(run: RunRow) -> Part:
    type_ = db.session.get(StrategyTypeRow, run.strategy_type)
    file = type_.file_name if type_ else f"{run.strategy_type}.py"
    if type_ is None:
        state, told = CHANGED, f"{run.strategy_type} is not in the catalogue any more"
    elif type_.code_hash == run.code_hash:
        state, told = SAME, ""
    else:
        state, told = CHANGED, f"{file} has changed"
    return Part(CODE, file, run.code_hash[:12], run.code_hash, state, told)


def _sources(run: RunRow) -> Part:
    then = str(run.provenance.get("sources") or "")
    if not then:
        return Part(CODE, "Seraphim", "", "", UNKNOWN)
    version = (run.provenance.get("versions") or {}).get("seraphim", "")
    is_same = then == installation.sources_hash()
    return Part(
        CODE,
        f"Seraphim {version}".strip(),
        then[:12],
        then,
        SAME if is_same else CHANGED,
        "" if is_same else "Seraphim's own code has changed",
    )


def _packages(run: RunRow) -> Part:
    then = run.provenance.get("versions")
    if not then:
        return Part(CODE, "Packages", "", "", UNKNOWN)
    lock = str(run.provenance.get("lock") or "")
    others = list(other_versions(then, installation.versions()))
    if not others and lock != installation.lock_hash():
        others = [f"{installation.LOCK} has changed"]
    return Part(CODE, "Packages", lock[:12], lock, CHANGED if others else SAME, ", ".join(others))


def badges(run: RunRow) -> list[tuple[str, str, str]]:
    """(words, tone, what) of what has changed since, the shortest way: data, code, or neither."""
    found = []
    for kind in (DATA, CODE):
        told = [p.told for p in parts(run) if p.kind == kind and p.state in (CHANGED, UNSURE)]
        if told:
            found.append((f"{kind} changed since", "warning", "; ".join(told)))
    return found


# Once more --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repeat:
    """A run beside the one it repeats. `differs` names what was not the same; empty where all of it was."""

    run: RunRow
    first: RunRow
    same: bool
    differs: list[str]

    @property
    def text(self) -> str:
        return outcome(same=self.same, differs=self.differs)


def repeats(run: RunRow) -> list[Repeat]:
    """The runs that repeat this one, oldest first."""
    query = sa.select(RunRow).where(RunRow.repeats == run.id).order_by(RunRow.id).limit(20)
    return [compared(found, run) for found in db.session.scalars(query)]


def repeat_of(run: RunRow) -> Repeat | None:
    """This run beside the one it repeats; None for one that was asked for on its own."""
    first = None if run.repeats is None else db.session.get(RunRow, run.repeats)
    return None if first is None else compared(run, first)


def compared(run: RunRow, first: RunRow) -> Repeat:
    differs = differences(
        run.inputs, run.provenance, first.inputs, first.provenance, ways=(run.engine, first.engine)
    )
    return Repeat(run, first, run.digest == first.digest, list(differs))


@bp.post("/<int:run_id>/again")
@auth.trader
def again(run_id: int) -> AnyResponse:
    """Ask for the same run: its request, its code, its bars."""
    run = _run(run_id)
    try:
        wanted = repeated(run.request, run.id, run.code_hash, run.ends_at)
    except ValueError as error:
        abort(409, str(error))
    return workers.next_page(workers.ask_and_wait(wanted, f"Run {run.id} again"))


# What was recorded ------------------------------------------------------------------------------


@bp.get("/<int:run_id>/changes.diff")
@auth.viewer
def changes(run_id: int) -> Response:
    """What the work tree had changed since its commit when the run was made."""
    git = _run(run_id).provenance.get("git") or {}
    kept = db.session.get(InstallationDiffRow, git.get("diff_hash") or "")
    if kept is None:
        abort(404)
    text = zlib.decompress(kept.diff).decode(errors="replace")
    if git.get("cut"):
        text += f"\n... cut off: the whole of it has {git['diff_bytes']:,} bytes\n"
    return Response(text, content_type="text/plain; charset=utf-8")


@bp.get("/<int:run_id>/request.json")
@auth.viewer
def request_json(run_id: int) -> Response:
    """What the run was asked with, and what it was made with."""
    run = _run(run_id)
    return charts.json_answer(
        {
            "run": run.id,
            "digest": run.digest,
            "code_hash": run.code_hash,
            "request": run.request,
            "inputs": run.inputs,
            "provenance": run.provenance,
        }
    )


def _run(run_id: int) -> RunRow:
    run = db.session.get(RunRow, run_id)
    if run is None:
        abort(404)
    return run


def _of(run: RunRow) -> dict[str, Any]:
    """What the panel shows."""
    return {
        "parts": parts(run),
        "git": run.provenance.get("git"),
        "versions": _versions(run),
        "seed": run.provenance.get("seed"),
        "may_repeat": bool(run.request),
        "repeats": repeats(run),
        "repeat_of": repeat_of(run),
    }


def _versions(run: RunRow) -> list[str]:
    """Python 3.11.7, numpy 2.1.0: JSONB keeps no order."""
    known = run.provenance.get("versions") or {}
    names = [name for name in ("python", *installation.PACKAGES) if name in known]
    return [f"{'Python' if name == 'python' else name} {known[name]}" for name in names]


bp.add_app_template_global(_of, "provenance_of")
bp.add_app_template_global(badges, "provenance_badges")
bp.add_app_template_global(repeat_of, "repeat_of")
