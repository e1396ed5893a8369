"""Long work, asked for by dotted name: the console imports no engine to have it done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

QUEUE: Final = "jobs"
BULK_QUEUE: Final = "bulk"
"""Work in many small pieces, taken when nothing waits in QUEUE: it keeps nobody who pressed a button waiting."""

HEARTBEAT_SECONDS: Final = 2
SILENT_AFTER_SECONDS: Final = 15
"""An attempt without a heartbeat for this long is dead: the job is tried again, or failed."""

RUN_JOB: Final = "engine.jobs.run_attempt"
"""The one function RQ is given: run_attempt(job_id: str, attempt: int)."""


FINDINGS: Final = ("gaps", "duplicates", "outliers", "splits")
"""What bars may have that a run can be refused for."""

DATA_POLICIES: Final = ("warn", "refuse")


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """One run. Amounts as decimal strings, times as ISO 8601 in UTC ("" for all there is).

    `inputs`: {key: {"series_id": int, "trades": bool}}, and "interval" in seconds for longer bars made of
    the stored ones
    `costs`: as `engine.costs.Costs.from_json` takes them, such as {"fee_rate": "0.001", "slippage": "0.0005"}
    `sizing`: as `engine.sizing.Sizing` takes it; `risk_policy`: as `engine.risk.rules.policy_from` takes it
    `matching`, `margin`: as `engine.matching.Matching` and `engine.margin.Margin` take them
    `data_policy`: "warn" keeps what is wrong with the bars with the run, "refuse" does not run on bars with
    one of the `data_findings`. `universe_id`: the pair list whose members of the day may be entered; 0 for all
    `gate`: look whether the strategy sees bars before they are there
    `seed`: where chance begins, for strategies that throw dice. `repeats`: the run this one is to be equal to
    `trials`: out of how many runs this one was chosen, `trials_variance` how far their yearly Sharpe ratios
    scatter (None where that is not known), `sweep_id` the sweep that tried them (0 for none)
    """

    strategy_type: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    capital: str = "100000"
    starts_at: str = ""
    ends_at: str = ""
    costs: dict[str, Any] = field(default_factory=dict)
    sizing: dict[str, Any] = field(default_factory=dict)
    risk_policy: dict[str, Any] = field(default_factory=dict)
    code_hash: str = ""
    matching: dict[str, Any] = field(default_factory=dict)
    margin: dict[str, Any] = field(default_factory=dict)
    data_policy: str = "warn"
    data_findings: list[str] = field(default_factory=lambda: list(FINDINGS))
    universe_id: int = 0
    gate: bool = True
    seed: int = 0
    repeats: int = 0
    trials: int = 1
    trials_variance: float | None = None
    sweep_id: int = 0


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """One uploaded or local file into its series. `path` is relative to the data folder's uploads.

    `mapping`: the columns and date style the user has seen and confirmed ({} for what was detected).
    `series`: of an archive, or a file of several symbols, what goes in: each with `member` (of the archive),
    `key` (the file's own symbol) and whatever differs from the request's own `symbol`, `interval`, `calendar`,
    `quote_asset`, `asset_class` and `mapping`. `trades_to`: the intervals that trades are made into, such as
    "1m,1h". `save_mapping`: the name to keep the mapping under.
    """

    path: str
    file_name: str
    symbol: str = ""
    interval: str = ""
    calendar: str = "24/7"
    quote_asset: str = "USD"
    asset_class: str = "stock"
    timezone: str = "UTC"
    mapping: dict[str, Any] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    trades_to: str = ""
    save_mapping: str = ""


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """What is in an uploaded file: columns, date style, interval, shown before it is imported.

    The result is `engine.importing.detection.Detection` as JSON. `path` as in ImportRequest.
    """

    path: str
    file_name: str
    mapping: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleDataRequest:
    """The daily stock history that ships with the installation."""


@dataclass(frozen=True, slots=True)
class WhyRequest:
    """Why a strategy (or a finished run) did or did not trade an instrument at a time.

    `at` as ISO 8601; the sentence tells times in `timezone`. The result's "why" is `engine.why.Why` as JSON.
    """

    instrument_id: int
    at: str
    strategy_id: int = 0
    run_id: int = 0
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class QualityRequest:
    """Look over one series, or with 0 every one whose bars changed since the last time.

    `limits` as `engine.findings.finding.Limits` takes it.
    """

    series_id: int = 0
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairListRequest:
    """Record who is in a pair list on each day from `first_day` to `last_day`, ISO days, both included.

    "" for the first day there are bars before, and for the newest.
    """

    list_id: int
    first_day: str = ""
    last_day: str = ""


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """Many runs: every combination of parameters on every one of some series. Its job plans it; chunks run it.

    `base`: a BacktestRequest as JSON. Its `parameters` are those that stay as they are, its `inputs` those
    beside `main`, which is each of `series_ids` in turn (with an `interval`, if `main` stands there with one). `space`: axes as `shared.domain.space.axis_from`
    takes them; the last one changes fastest. `constraints` as text. `objectives`: {"metric", "direction"}, the
    first one ranks. `trials`: how many combinations random and Bayesian search may try. `aggregate`: what
    several series make of a metric.
    """

    base: dict[str, Any]
    space: list[dict[str, Any]]
    series_ids: list[int]
    objectives: list[dict[str, Any]]
    constraints: list[str] = field(default_factory=list)
    method: str = "grid"
    trials: int = 0
    seed: int = 1
    aggregate: str = "mean"


@dataclass(frozen=True, slots=True)
class SweepChunkRequest:
    """Some combinations of a sweep, by the number of the chunk; the one without any ranks what was found."""

    sweep_id: int
    number: int


JobRequest = (
    BacktestRequest
    | ImportRequest
    | InspectRequest
    | SampleDataRequest
    | WhyRequest
    | QualityRequest
    | PairListRequest
    | SweepRequest
    | SweepChunkRequest
)

KINDS: Final[dict[str, type]] = {
    "backtest": BacktestRequest,
    "import": ImportRequest,
    "inspect": InspectRequest,
    "sample_data": SampleDataRequest,
    "why": WhyRequest,
    "quality": QualityRequest,
    "pair_list": PairListRequest,
    "sweep": SweepRequest,
    "sweep_chunk": SweepChunkRequest,
}


def repeated(
    request: Mapping[str, Any], run_id: int, code_hash: str, ends_at: datetime
) -> BacktestRequest:
    """What a run was asked with, once more: the same code, and no bars that came after its own.

    ValueError for a run that does not say what it was asked with.
    """
    known = {each.name for each in fields(BacktestRequest)}
    given = {name: value for name, value in request.items() if name in known}
    if not given.get("strategy_type"):
        raise ValueError(f"run {run_id} was made before requests were kept: ask for a new one")
    end = given.get("ends_at") or ends_at.isoformat()
    return BacktestRequest(**{**given, "code_hash": code_hash, "ends_at": end, "repeats": run_id})


def kind_of(request: JobRequest) -> str:
    return next(kind for kind, type_ in KINDS.items() if type(request) is type_)


def encode(request: JobRequest) -> dict[str, Any]:
    return asdict(request)


def decode(kind: str, arguments: dict[str, Any]) -> JobRequest:
    """The request again; TypeError names a field nobody knows."""
    return KINDS[kind](**arguments)  # type: ignore[no-any-return]
