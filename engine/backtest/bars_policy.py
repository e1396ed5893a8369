"""What a run makes of its bars before it begins: findings kept with it, or a refusal; and its pair list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final

from sqlalchemy.orm import Session

from engine import quality, series_content, universe
from engine.bars import DAY, SECOND, Bars
from engine.work import JobRefused
from shared.domain.decisions import Check
from shared.jobs import DATA_POLICIES, FINDINGS, BacktestRequest

KEPT: Final = 20
"""Findings of one kind that are kept with a run; all of them are counted."""

Used = tuple[str, Bars, str, str, Decimal | None]
"""An input's key, its bars, their source, and the calendar and tick of its instrument."""


Looked = Callable[[], dict[str, Any]]
"""{"policy", "counted", "inputs": {key: {"counts", "findings"}}} of the bars, when it is asked for."""


def looked_over(
    session: Session, request: BacktestRequest, inputs: Iterable[Used], starts_at: datetime | None
) -> Looked:
    """A look at the bars, which needs no session. JobRefused at once if the policy refuses them."""
    kinds = _kinds(request)
    looks = {one[0]: _look(session, *one[1:], starts_at) for one in inputs}

    def looked() -> dict[str, Any]:
        found = {key: _kept(look()) for key, look in looks.items()}
        return {"policy": request.data_policy, "counted": list(kinds), "inputs": found}

    if request.data_policy != "refuse":
        return looked
    for key, look in looks.items():
        if why := quality.refused(look(), kinds):
            raise JobRefused(
                f"{key}: these bars are refused: {why}. Choose other bars or another range, or let the run warn"
            )
    return looked


def _look(
    session: Session,
    bars: Bars,
    source: str,
    calendar: str,
    tick: Decimal | None,
    starts_at: datetime | None,
) -> Callable[[], quality.Report]:
    """What is found in the stored ones among the bars that a run trades on; looked for once."""
    stored = bars[~bars.filled].between(starts_at, None)
    is_daily = bars.interval * SECOND >= DAY
    adjusted = series_content.adjusted_closes(session, stored, source) if is_daily else None
    return cache(partial(quality.look, stored, calendar, tick=tick, adjusted=adjusted))


def _kinds(request: BacktestRequest) -> tuple[str, ...]:
    if request.data_policy not in DATA_POLICIES:
        raise JobRefused(
            f"data_policy: {request.data_policy!r} must be one of {', '.join(DATA_POLICIES)}"
        )
    if extra := set(request.data_findings) - set(FINDINGS):
        raise JobRefused(
            f"data_findings: {sorted(extra)[0]!r} is no kind of finding ({', '.join(FINDINGS)})"
        )
    return tuple(kind for kind in FINDINGS if kind in request.data_findings)


def _kept(report: quality.Report) -> dict[str, Any]:
    said = report.as_json()
    kept: Mapping[str, list[Any]] = {
        kind: said["findings"][kind][:KEPT] for kind in FINDINGS if said["counts"][kind]
    }
    return {"counts": said["counts"], "filled": said["filled"], "findings": kept}


def admits(session: Session, list_id: int) -> Callable[[int, datetime], Check] | None:
    """Who may be entered at a moment: members of the pair list that day. None without a list."""
    if not list_id:
        return None
    found = universe.membership(session, list_id)
    if found is None:
        raise JobRefused(f"universe_id: there is no pair list {list_id}; choose one under Lists")
    if not found.days:
        raise JobRefused(
            f"universe_id: nothing is recorded of {found.name} yet; record it for the days of the run"
        )
    return found.check
