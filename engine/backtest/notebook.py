"""Backtests from Python: `from engine.backtest import run`. docs/research.md shows how.

A run here is the one that a job does, with the same engines and the same gate; nothing is stored.
"""

from __future__ import annotations

import html as markup
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from engine.backtest import exports, given
from engine.backtest.given import BadBars, Given
from engine.backtest.job import Chosen, Result, conclude, decided_at
from engine.backtest.metrics import Metric, as_json
from engine.backtest.provenance import start_chance
from engine.backtest.results import Simulated
from engine.backtest.simulation import simulate
from engine.backtest.specification import Specification, quote_asset, strategy_of
from engine.bars import Bars
from engine.costs import Costs
from engine.lookahead.gate import budget, examine
from engine.lookahead.verdict import Verdict
from engine.margin import Margin
from engine.matching import Matching
from engine.risk.rules import OFF, RiskPolicy, policy_from
from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy
from engine.strategies.registry import BadStrategy, built_in_files, user_files
from shared.report.files import Table
from shared.report.numbers import TITLES, text
from shared.settings import Settings

LEADING: Final = (
    "total_return",
    "cagr",
    "sharpe",
    "max_drawdown",
    "trades",
    "win_rate",
    "exposure",
)
"""What a run shows of itself, as far as it has it."""


def run(
    strategy: type[BaseStrategy] | str,
    bars: Given | Mapping[str, Given],
    *,
    parameters: Mapping[str, Any] | None = None,
    capital: float = 100_000.0,
    costs: Costs | Mapping[str, Any] | float | None = None,
    sizing: Sizing | Mapping[str, Any] | None = None,
    risk: RiskPolicy | Mapping[str, Any] | None = None,
    matching: Matching | Mapping[str, Any] | None = None,
    margin: Margin | Mapping[str, Any] | None = None,
    starts_at: datetime | str | None = None,
    gate: bool = True,
    seed: int = 0,
    trials: int = 1,
    trials_variance: float | None = None,
    symbols: Mapping[str, str] | None = None,
    calendar: str | None = None,
    currency: str = "USD",
    database: str | None = None,
) -> Run:
    """One backtest.

    strategy   a class, or the name of one that comes along or lies in the strategies folder
    bars       a frame with a DatetimeIndex and open, high, low, close, volume; `Bars`; "SYMBOL@INTERVAL" as it is
               stored in `database` (DATABASE_URL otherwise); or several of those by input
    costs      a number is the fee as a fraction of the traded value; 0.1 % where nothing is said
    risk       the account's rules; none where nothing is said
    starts_at  bars that closed at or before it warm the strategy up and are not traded
    gate       look whether the strategy looks ahead
    trials     out of how many runs this one was chosen, which `dsr` is deflated by; `trials_variance` is the variance
               of their Sharpe ratios: `len(found)` and `found["sharpe"].var()` of a sweep

    ValueError names the field, the value and what to give instead.
    """
    chosen = Chosen(trials, trials_variance)
    specification = specified(
        strategy, bars, parameters=parameters, capital=capital, costs=costs, sizing=sizing, risk=risk,
        matching=matching, margin=margin, starts_at=starts_at, symbols=symbols, calendar=calendar,
        currency=currency, database=database,
    )  # fmt: skip
    started = time.perf_counter()
    start_chance(seed)
    simulated = simulate(specification)
    result = conclude(specification, simulated, chosen)
    seconds = time.perf_counter() - started
    verdict = None
    if gate:
        at, allowed = decided_at(simulated), budget(seconds)
        verdict = examine(specification, at, allowed, simulated.fills)
    return Run(specification, simulated, result, verdict, seconds)


def specified(
    strategy: type[BaseStrategy] | str,
    bars: Given | Mapping[str, Given],
    *,
    parameters: Mapping[str, Any] | None = None,
    capital: float = 100_000.0,
    costs: Costs | Mapping[str, Any] | float | None = None,
    sizing: Sizing | Mapping[str, Any] | None = None,
    risk: RiskPolicy | Mapping[str, Any] | None = None,
    matching: Matching | Mapping[str, Any] | None = None,
    margin: Margin | Mapping[str, Any] | None = None,
    starts_at: datetime | str | None = None,
    **sources: Any,
) -> Specification:
    """What `run` is asked, checked."""
    cls = strategy_class(strategy)
    found = given.sources(cls, bars, **sources)
    if isinstance(costs, int | float):
        costs = {"fee_rate": costs}
    specification = Specification(
        strategy=cls,
        inputs=found.inputs,
        bars=found.bars,
        instruments=found.instruments,
        parameters=dict(parameters or {}),
        capital=_capital(capital),
        costs=costs if isinstance(costs, Costs) else Costs.from_json(costs or {}),
        sizing=sizing if isinstance(sizing, Sizing) else Sizing.from_json(sizing or {}),
        policy=_policy(risk),
        matching=matching if isinstance(matching, Matching) else Matching.from_json(matching or {}),
        margin=margin if isinstance(margin, Margin) else Margin.from_json(margin or {}),
        starts_at=_instant(starts_at),
    )
    strategy_of(specification)  # says now what is wrong with its parameters
    _check_start(specification)
    return specification


def strategy_class(strategy: type[BaseStrategy] | str) -> type[BaseStrategy]:
    """The class itself, or the one of that name; BadStrategy says what there is."""
    if isinstance(strategy, str):
        return _named(strategy)
    if not (isinstance(strategy, type) and issubclass(strategy, BaseStrategy)):
        raise BadStrategy(f"strategy: {strategy!r} is no class that subclasses BaseStrategy")
    if strategy.is_array() == strategy.is_scalar():
        raise BadStrategy(
            f"strategy: {strategy.__name__} must define exactly one of generate_signals (arrays) and"
            " generate_signal (scalars)"
        )
    return strategy


def _named(name: str) -> type[BaseStrategy]:
    files = [*built_in_files(), *user_files(Settings.load().strategies_folder)]
    types = {known: cls for file in files for known, cls in file.types.items()}
    if name not in types:
        raise BadStrategy(
            f"strategy: {name!r} is no strategy here (known: {', '.join(sorted(types))})"
        )
    return types[name]


def _capital(capital: float) -> float:
    if not isinstance(capital, int | float) or not 0 < capital <= 1e12:
        raise ValueError(f"capital: {capital!r} must be above 0 and at most 1,000,000,000,000")
    return float(capital)


def _policy(risk: RiskPolicy | Mapping[str, Any] | None) -> RiskPolicy:
    if risk is None:
        return OFF
    return risk if isinstance(risk, RiskPolicy) else policy_from(risk)


def _instant(at: datetime | str | None) -> datetime | None:
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"starts_at: {at!r} is no date; write 2024-01-31") from None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _check_start(specification: Specification) -> None:
    clock = next(bound.key for bound in specification.inputs if bound.trades)
    start = specification.starts_at
    left = len(specification.bars[clock] if start is None else _after(specification, clock))
    if left < 2:
        raise BadBars(
            f"starts_at: {left} bars of {clock} close after {start}; at least 2 are needed"
        )


def _after(specification: Specification, key: str) -> Bars:
    return specification.bars[key].between(specification.starts_at, None)


# What came of it --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A backtest that was run: numbers, frames and a report. Times in frames are UTC, without a zone."""

    specification: Specification
    simulated: Simulated
    result: Result
    verdict: Verdict | None
    seconds: float
    """What simulating and measuring took."""

    @property
    def engine(self) -> str:
        """kernel, loop or core."""
        return self.simulated.engine

    @property
    def why(self) -> str:
        """Why it had to be the core; empty if it had not."""
        return self.simulated.why

    @property
    def gate(self) -> Mapping[str, Any] | None:
        """What the look-ahead gate found (`verdict` is clean, leaks or unproven); None if it was off."""
        return None if self.verdict is None else self.verdict.as_json()

    @property
    def digest(self) -> str:
        """Equal digests are equal trades and metrics."""
        return self.result.digest

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """By name; each has `value` (None where there is none: `reason` says why), `unit`, `how` and `n`."""
        return {metric.name: metric for metric in self.result.metrics}

    @cached_property
    def trades(self) -> pd.DataFrame:
        """A row a trade, by entry; an open one has no exit."""
        return _frame(exports.trades_table(self.result.trades, self._symbols))

    @cached_property
    def fills(self) -> pd.DataFrame:
        """A row a fill, as they happened."""
        return _frame(exports.fills_table(self.simulated.fills, self._symbols))

    @cached_property
    def equity(self) -> pd.DataFrame:
        """Equity, drawdown and exposure at every closing time."""
        table = dict(exports.equity_table(self.result.curve))
        return pd.DataFrame(table).set_index("at")

    @cached_property
    def returns(self) -> pd.Series:
        """Daily returns, as quantstats and pyfolio take them."""
        return exports.returns(self.result.curve, self.result.calendar)

    @cached_property
    def benchmark(self) -> pd.Series:
        """Daily returns of buying and holding what was traded."""
        curve, calendar = self.result.curve, self.result.calendar
        return exports.benchmark_returns(curve, calendar, self.result.held)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Value held of each symbol, and cash, at the end of each day, as pyfolio takes them."""
        bars = {own.instrument_id: own for own in self.result.held}
        fills, calendar = self.simulated.fills, self.result.calendar
        return exports.positions(self.result.curve, fills, calendar, bars, self._symbols)

    @cached_property
    def transactions(self) -> pd.DataFrame:
        """Every fill, as pyfolio takes them."""
        return exports.transactions(self.simulated.fills, self._symbols)

    def report(self, path: str | Path) -> Path:
        """Write the whole report as one HTML file that needs nothing else; where it is."""
        file = Path(path)
        page = exports.report_html(
            self.result.curve,
            self.result.trades,
            self.result.metrics,
            title=self._name,
            calendar=self.result.calendar,
            currency=quote_asset(self.specification),
            hold=self.result.held,
            symbols=self._symbols,
            facts=self._facts(),
        )
        file.write_text(page, encoding="utf-8")
        return file

    @property
    def _name(self) -> str:
        return self.specification.strategy.__name__

    @property
    def _symbols(self) -> dict[int, str]:
        return {number: one.symbol for number, one in self.specification.instruments.items()}

    @property
    def _parameters(self) -> dict[str, Any]:
        return self.specification.strategy.checked(self.specification.parameters)

    def _facts(self) -> list[tuple[str, str]]:
        parameters = ", ".join(f"{name} {value}" for name, value in self._parameters.items())
        facts = [("Parameters", parameters or "none"), ("Engine", self._engine_text())]
        if self.verdict is not None:
            facts.append(("Look-ahead", self.verdict.text))
        return facts

    def _engine_text(self) -> str:
        return f"{self.engine}: {self.why}" if self.why else self.engine

    def _leading(self) -> list[tuple[str, str]]:
        known = as_json(self.result.metrics)
        return [(TITLES[name], text(name, known[name])) for name in LEADING if name in known]

    def _head(self) -> str:
        count = sum(map(len, self.specification.bars.values()))
        return f"{self._name}: {count:,} bars in {self.seconds:.3f} s ({self._engine_text()})"

    def _gate_text(self) -> str:
        return "not examined" if self.verdict is None else self.verdict.answer.value

    def __repr__(self) -> str:
        rows = [*self._leading(), ("Look-ahead", self._gate_text())]
        return "\n".join([self._head(), *(f"  {title:<24}{value:>14}" for title, value in rows)])

    def _repr_html_(self) -> str:
        """What a notebook shows. It takes the notebook's own colours."""
        cells = "".join(
            f'<div><div style="opacity:.65;font-size:.8em">{markup.escape(title)}</div>'
            f'<div style="font-size:1.15em;font-variant-numeric:tabular-nums">{markup.escape(value)}</div></div>'
            for title, value in [*self._leading(), ("Look-ahead", self._gate_text())]
        )
        return (
            f'<div style="border:1px solid rgba(128,128,128,.35);border-radius:8px;padding:12px 16px;'
            f'max-width:56em"><div style="margin-bottom:10px">{markup.escape(self._head())}</div>'
            f'<div style="display:flex;flex-wrap:wrap;gap:12px 28px">{cells}</div></div>'
        )


def _frame(table: Table) -> pd.DataFrame:
    return pd.DataFrame(dict(table)).set_index("number")
