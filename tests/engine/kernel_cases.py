"""Random runs of every shape the kernels cover: market, strategy, costs, sizing, rules, margin, matching."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from engine.backtest.specification import Specification
from engine.bars import Bars, instant
from engine.costs import Costs
from engine.margin import NO_MARGIN, Margin
from engine.matching import Intrabar, Matching
from engine.risk.rules import OFF, RiskPolicy, policy_from
from engine.sizing import Sizing
from engine.strategies.base import BaseStrategy, Moment
from engine.strategies.evaluation import BoundInput
from shared.domain.instruments import Instrument
from shared.domain.orders import Fill
from shared.domain.signals import (
    Limit,
    Market,
    Signal,
    Signals,
    Stop,
    StopLoss,
    TakeProfit,
    TimeExit,
    TrailingStop,
)
from tests.builders import an_instrument, ohlc

MINUTE = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One run, and what it was made to try."""

    seed: int
    specification: Specification
    is_portfolio: bool


def a_case(seed: int) -> Case:
    """The run of a seed."""
    random = np.random.Generator(np.random.PCG64(seed))
    count = 1 if random.random() < 0.8 else int(random.integers(2, 6))
    rows = int(random.integers(60, 260))
    margin = a_margin(random)
    instruments = {i: some_instrument(random, i) for i in range(1, count + 1)}
    bars = {i: some_bars(random, i, rows, instruments[i]) for i in instruments}
    finer: tuple[Bars, ...] = ()
    matching = some_matching(random)
    if matching.intrabar is Intrabar.LOWER_INTERVAL:
        finer = tuple(bars.values())
        bars = {i: coarser(b, 5) for i, b in bars.items()}
    specification = Specification(
        strategy=a_strategy(random, [len(bars[i]) for i in bars], bars, shorts=margin.enabled),
        inputs=tuple(
            BoundInput(f"in{i}", i, f"X{i}", bars[i].interval, trades=True) for i in instruments
        ),
        bars={f"in{i}": bars[i] for i in instruments},
        instruments=instruments,
        capital=float(random.choice([1_000.0, 100_000.0])),
        costs=some_costs(random),
        sizing=a_sizing(random),
        policy=a_policy(random),
        matching=matching,
        margin=margin,
        finer=finer,
        starts_at=a_start(random, bars[1]),
    )
    return Case(seed, specification, count > 1)


def some_instrument(random: Any, number: int) -> Instrument:
    changed: dict[str, Any] = {}
    if random.random() < 0.4:
        changed["lot_size"] = Decimal(str(random.choice(["1", "0.1", "0.001", "0.25", "3"])))
    if random.random() < 0.4:
        changed["tick_size"] = Decimal(str(random.choice(["0.01", "0.05", "0.25"])))
    if random.random() < 0.15:
        changed["min_quantity"] = Decimal(2)
    if random.random() < 0.15:
        changed["min_value"] = Decimal(200)
    if random.random() < 0.3:
        changed |= {"maker_fee": Decimal("0.0005"), "taker_fee": Decimal("0.002")}
    return an_instrument(number, **changed)


def some_bars(random: Any, number: int, rows: int, instrument: Instrument) -> Bars:
    """A walk with gaps; one time in four with quiet bars and missing ones."""
    sigma = float(random.choice([0.002, 0.01, 0.03]))
    gap = random.standard_normal(rows) * sigma * float(random.choice([0.1, 0.5, 2.0]))
    body = random.standard_normal(rows) * sigma
    up, down = np.abs(random.standard_normal((2, rows))) * sigma / 2
    close = np.exp(np.cumsum(gap + body)) * 100
    open_ = close * np.exp(-body)
    high, low = np.maximum(open_, close) * (1 + up), np.minimum(open_, close) * (1 - down)
    places = 2 if instrument.tick_size is not None or random.random() < 0.5 else 6
    open_, high, low, close = (np.round(c, places) for c in (open_, high, low, close))
    high = np.maximum(high, np.maximum(open_, close))
    low = np.minimum(low, np.minimum(open_, close))
    bars = ohlc(open_, high, low, close, instrument_id=number)
    volume = np.round(np.exp(random.standard_normal(rows)) * 200, 1)
    filled = np.zeros(rows, bool)
    if random.random() < 0.25:
        quiet = np.flatnonzero(random.random(rows) < 0.15)
        for row in quiet[quiet > 0]:
            for column in (open_, high, low, close):
                column[row] = close[row - 1]
            volume[row], filled[row] = 0.0, True
        bars = ohlc(open_, high, low, close, instrument_id=number)
    bars = Bars(
        bars.instrument_id, bars.interval, bars.opened_at, bars.closed_at, open_, high, low, close,
        volume, filled,
    )  # fmt: skip
    if random.random() < 0.25:
        bars = bars[np.flatnonzero(random.random(rows) > 0.1)]
    return bars


def coarser(bars: Bars, times: int) -> Bars:
    """Every `times` bars as one, where all of them are there."""
    step = times * MINUTE
    number = (bars.opened_at // step).astype(np.int64)
    whole = [rows for n in np.unique(number) if len(rows := np.flatnonzero(number == n)) == times]
    first, last = [r[0] for r in whole], [r[-1] for r in whole]
    return Bars(
        bars.instrument_id, bars.interval * times, bars.opened_at[first], bars.closed_at[last],
        bars.open[first], np.array([bars.high[r].max() for r in whole]),
        np.array([bars.low[r].min() for r in whole]), bars.close[last],
        np.array([bars.volume[r].sum() for r in whole]), np.zeros(len(whole), bool),
    )  # fmt: skip


def a_margin(random: Any) -> Margin:
    if random.random() < 0.6:
        return NO_MARGIN
    return Margin(
        enabled=True,
        leverage=float(random.choice([1.0, 2.0, 5.0, 20.0])),
        borrow_rate=float(random.choice([0.0, 0.5])),
    )


def some_matching(random: Any) -> Matching:
    rule = random.choice(
        [Intrabar.WORST_CASE, Intrabar.OHLC_PATH, Intrabar.LOWER_INTERVAL], p=[0.5, 0.35, 0.15]
    )
    share = float(random.choice([0.01, 0.1, 1.0])) if random.random() < 0.25 else None
    return Matching(Intrabar(rule), share)


def some_costs(random: Any) -> Costs:
    given: dict[str, Any] = {"fee_rate": float(random.choice([0.0, 0.001, 0.01]))}
    for name, values in (
        ("slippage", [0.0005, 0.01]), ("fee_per_unit", [0.01, 0.1]), ("fee_minimum", [1.0, 20.0]),
        ("slippage_fixed", [0.05]), ("slippage_impact", [0.1]), ("spread", [0.001]),
    ):  # fmt: skip
        if random.random() < 0.2:
            given[name] = float(random.choice(values))
    if random.random() < 0.1:
        given["fee_tiers"] = ((0.0, 0.002), (50_000.0, 0.001), (500_000.0, 0.0))
    return Costs(**given)


def a_sizing(random: Any) -> Sizing:
    method = str(random.choice(["fraction", "cash", "quantity", "value", "volatility"]))
    band = float(random.choice([0.02, 0.2])) if random.random() < 0.2 else None
    return Sizing(
        method=method, fraction=float(random.choice([0.04, 0.3, 1.0])), quantity=7.3, value=3_000.0,
        annual_volatility=float(random.choice([0.2, 3.0])), window=int(random.integers(2, 30)),
        band=band,
    )  # fmt: skip


def a_policy(random: Any) -> RiskPolicy:
    """No rules, the usual ones, or some that deny now and then."""
    drawn = random.random()
    if drawn < 0.5:
        return OFF
    loose = drawn < 0.9
    return policy_from(
        {
            "position_size": {"max_fraction": 30.0 if loose else 0.3},
            "max_drawdown": {"max_fraction": 0.3 if loose else 0.05},
            "concentration": {"max_fraction": 30.0 if loose else 0.4},
            "volatility": {"max_annual": 99.0 if loose else 8.0, "window": 10},
            "liquidity": {"max_fraction": 99.0 if loose else 2.0, "window": 5},
            "max_positions": {"enabled": bool(random.random() < 0.3), "most": 2},
        }
    )


def a_start(random: Any, bars: Bars) -> Any:
    if random.random() < 0.7:
        return None
    return instant(int(bars.closed_at[len(bars) // 4])) + timedelta(
        seconds=int(random.choice([0, 30]))
    )


# Strategies -----------------------------------------------------------------------------------


def a_strategy(
    random: Any, lengths: list[int], bars: dict[int, Bars], *, shorts: bool
) -> type[BaseStrategy]:
    """Signals drawn at random, close enough to the market for limits and stops to be met."""
    rows, count = lengths[0], len(lengths)
    return saying(some_signals(random, rows, count, bars, shorts=shorts))


def saying(said: Signals) -> type[BaseStrategy]:
    """A strategy that says just this."""

    class Drawn(BaseStrategy):
        drawn = said

        def generate_signals(self, f: Any) -> Signals:
            return said

    return Drawn


def asked_bar_by_bar(case: Case) -> Case:
    """The same run with its strategy in scalar form, which looks at what it holds and hears of fills."""
    given = case.specification
    drawn: Signals = given.strategy.drawn  # type: ignore[attr-defined]
    targets = np.atleast_2d(np.asarray(drawn.target).T)
    symbols = [bound.symbol for bound in given.inputs]
    random = np.random.Generator(np.random.PCG64(case.seed))
    hears, patient, alone = random.random(3) < (0.3, 0.3, 0.5)

    class Scalar(BaseStrategy):
        log: ClassVar[list[Any]] = []

        def generate_signal(self, now: Moment) -> Any:
            said = []
            for symbol, column in zip(symbols, targets, strict=True):
                target = column[now.row]
                if np.isnan(target):
                    continue
                if patient and now.held[symbol] and now.closed_at.minute % 3:
                    target = 0.25 * math.copysign(1, now.held[symbol])
                said.append(
                    Signal(
                        symbol,
                        float(target),
                        at(drawn.entry, now.row),
                        tuple(at(e, now.row) for e in drawn.exits),
                        drawn.tag,
                        drawn.again,
                    )
                )
            if alone and len(said) <= 1:
                return said[0] if said else None
            return said

    if not hears:
        strategy = Scalar
    else:

        class Hearing(Scalar):
            def on_fill(self, fill: Fill, now: Moment | None) -> None:
                self.state["heard"] = self.state.get("heard", 0) + 1  # type: ignore[operator]
                self.log.append((fill, None if now is None else now.row))

        strategy = Hearing
    strategy.log = []
    return replace(case, specification=replace(given, strategy=strategy))


def at(part: Any, row: int) -> Any:
    """An entry or exit in arrays, as it is at one row."""
    changed = {
        f.name: float(value[row])
        for f in fields(part)
        if isinstance(value := getattr(part, f.name), np.ndarray)
    }
    return replace(part, **changed) if changed else part


def some_signals(
    random: Any, rows: int, count: int, bars: dict[int, Bars], *, shorts: bool
) -> Signals:
    levels = [0.0, 1.0, 0.5, -1.0, -0.4] if shorts or random.random() < 0.1 else [0.0, 1.0, 0.5]
    change = random.random((rows, count)) < float(random.choice([0.1, 0.2, 0.6]))
    drawn = random.choice(levels, size=(rows, count))
    target = np.full((rows, count), np.nan)
    target[change] = drawn[change]
    if random.random() < 0.5:  # it goes on saying what it said
        for row in range(1, rows):
            quiet = np.isnan(target[row])
            target[row, quiet] = target[row - 1, quiet]
    first = next(iter(bars.values()))
    near = np.interp(np.arange(rows), np.arange(len(first)), first.close)[:rows]
    away = float(random.choice([0.002, 0.01, 0.03]))
    entry: Any = Market()
    kind = random.random()
    if kind < 0.2:
        entry = Limit(near * (1 - away * random.choice([-1, 1])))
    elif kind < 0.4:
        entry = Stop(near * (1 + away * random.choice([-1, 1])))
    return Signals(
        target=target[:, 0] if count == 1 and random.random() < 0.5 else target,
        entry=entry,
        exits=some_exits(random, rows, near),
        tag="drawn" if random.random() < 0.3 else "",
        again=bool(random.random() < 0.3),
    )


def some_exits(random: Any, rows: int, near: Any) -> tuple[Any, ...]:
    exits: list[Any] = []
    for kind in (StopLoss, TakeProfit, TrailingStop):
        if random.random() < 0.4:
            size = float(random.choice([0.003, 0.01, 0.04]))
            form = random.random()
            if form < 0.5:
                exits.append(kind(fraction=size))
            elif form < 0.75:
                exits.append(kind(distance=size * 100))
            else:
                column = near * size * (1 + random.random(rows))
                column[: int(random.integers(0, 10))] = np.nan
                exits.append(kind(distance=column))
    if random.random() < 0.25:
        exits.append(TimeExit(int(random.integers(1, 12))))
    random.shuffle(exits)
    return tuple(exits)
