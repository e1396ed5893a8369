"""One backtest from a specification to a record: the core, a paper broker and stored bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine.backtest.replay import Progress, Record, replay
from engine.bars import Bars
from engine.core import TradingCore
from engine.costs import Costs
from engine.execution.paper import PaperBroker
from engine.margin import NO_MARGIN, Margin
from engine.matching import Matching
from engine.portfolio import Portfolio, float_number
from engine.risk.rules import RiskPolicy
from engine.sizing import Sizing
from engine.standing import StrategyRun
from engine.strategies.base import BaseStrategy, Input
from engine.strategies.evaluation import BoundInput
from shared.domain.decisions import Check
from shared.domain.identity import RESEARCH_ACCOUNT, RESEARCH_STRATEGY
from shared.domain.instruments import Instrument
from shared.domain.market import interval_text


@dataclass(frozen=True, slots=True)
class Specification:
    """Everything that decides a run's outcome.

    `bars` by input key; `capital` in the quote asset, all of it the strategy's allocation. Bars that
    closed at or before `starts_at` warm the strategy up and are not traded. `finer` are bars of shorter
    intervals that orders trade against where an instrument has them. `admits` answers whether an
    instrument may be entered at a moment.
    """

    strategy: type[BaseStrategy]
    inputs: tuple[BoundInput, ...]
    bars: Mapping[str, Bars]
    instruments: Mapping[int, Instrument]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    capital: float = 100_000.0
    costs: Costs = field(default_factory=Costs)
    sizing: Sizing = field(default_factory=Sizing)
    policy: RiskPolicy = field(default_factory=RiskPolicy)
    matching: Matching = field(default_factory=Matching)
    margin: Margin = NO_MARGIN
    finer: tuple[Bars, ...] = ()
    admits: Callable[[int, datetime], Check] | None = None
    starts_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, and the books it ended with."""

    record: Record
    core: TradingCore
    ambiguous: int = 0
    """Bars in which the intrabar rule decided between a stop and a target."""


def run(specification: Specification, progress: Progress | None = None) -> Outcome:
    """Replay the core over the bars. Float books: research needs speed, not the last digit."""
    core, broker = assemble(specification)
    series = {
        (bound.instrument_id, bound.interval): specification.bars[bound.key]
        for bound in specification.inputs
    }
    series |= {(bars.instrument_id, bars.interval): bars for bars in specification.finer}
    record = replay(core, broker, series, starts_at=specification.starts_at, progress=progress)
    return Outcome(record, core, broker.ambiguous)


def assemble(specification: Specification) -> tuple[TradingCore, PaperBroker]:
    """The core with its one strategy, and the broker it trades with."""
    asset = quote_asset(specification)
    portfolio = Portfolio(
        asset,
        specification.instruments,
        float_number,
        float(specification.capital),
        margin=specification.margin,
    )
    core = TradingCore(
        RESEARCH_ACCOUNT,
        specification.instruments,
        portfolio,
        specification.policy,
        specification.costs,
    )
    core.admits = specification.admits
    broker = PaperBroker(
        specification.instruments,
        specification.costs,
        float_number,
        portfolio,
        specification.matching,
    )
    core.start(
        StrategyRun(
            id=RESEARCH_STRATEGY,
            name="backtest",
            strategy=strategy_of(specification),
            inputs=specification.inputs,
            allocation=float(specification.capital),
            sizing=specification.sizing,
        )
    )
    return core, broker


def strategy_of(specification: Specification) -> BaseStrategy:
    """A new instance with its parameters and inputs."""
    named = {
        bound.key: Input(bound.symbol, interval_text(bound.interval), bound.trades)
        for bound in specification.inputs
    }
    return specification.strategy(specification.parameters, named)


def quote_asset(specification: Specification) -> str:
    """What the run's money is: the quote asset of the first instrument it trades."""
    first = next(bound for bound in specification.inputs if bound.trades)
    return specification.instruments[first.instrument_id].quote_asset
