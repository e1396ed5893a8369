"""One run through the compiled kernels: what they cover, how a specification becomes records, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest.kernels import layout, loop
from engine.backtest.kernels.columns import ENTRY_PRICE, TARGET
from engine.backtest.kernels.unpacking import unpack
from engine.backtest.results import FILL_TYPES, Counts, Fills, Paid, Simulated
from engine.backtest.specification import Specification
from engine.bars import Bars, nanoseconds
from engine.intents import said as said_in_words
from engine.sizing import METHODS
from engine.strategies.evaluation import Evaluation
from shared.domain.instruments import Instrument
from shared.domain.signals import (
    Exit,
    Limit,
    Market,
    Signals,
    Stop,
    StopLoss,
    TakeProfit,
    TimeExit,
    TrailingStop,
)

FIRST_ROOM: Final = 1024
"""Fills and decisions there is room for at least. Memory that nobody writes to costs nothing."""

MOMENTS_AT_ONCE: Final = 1 << 20
"""Between two looks at whether somebody called the run off."""

_LEGS: Final = {
    StopLoss: layout.STOP_LOSS,
    TakeProfit: layout.TAKE_PROFIT,
    TrailingStop: layout.TRAILING_STOP,
}

Progress = Callable[[float], None]
Holdings = tuple[dict[str, float], dict[str, float]]


class NotCovered(Exception):
    """The kernels do not do this; the core does. Says what it is."""


class Machine:
    """The records of one run, and the arrays they point into."""

    name = "kernel"

    def __init__(
        self, specification: Specification, evaluation: Evaluation, *, decisions: bool
    ) -> None:
        self.specification = specification
        self.evaluation = evaluation
        self.tags: dict[str, int] = {"": 0}
        self._kept: list[Any] = []
        """Arrays whose addresses the kernels hold; those of the signals apart."""
        self._kept_signals: list[Any] = []
        traded = evaluation.traded
        count = len(traded)
        self.account = np.zeros(1, layout.ACCOUNT)
        self.settings = np.zeros(1, layout.SETTINGS)
        self.books = np.zeros(count, layout.BOOK)
        self.orders = np.zeros(count * layout.SLOTS, layout.ORDER)
        self.ready = np.zeros(count * layout.SLOTS, layout.READY)
        self.places = np.zeros(count, layout.PLACE)
        self.wants = np.zeros(count, layout.WANT)
        self._refuse_what_is_not_covered()
        asked = [specification.bars[bound.key] for bound in traded]
        traded_on = [self._finest(bound.instrument_id, bars) for bound, bars in zip(traded, asked, strict=True)]  # fmt: skip
        self.clock = specification.bars[evaluation.clock].closed_at
        self.times = self._moments(traded_on)
        room = FIRST_ROOM + len(self.times) * count // 8
        self.fills = np.empty(room, layout.FILL)
        self.decisions = np.empty(room if decisions else 1, layout.DECISION)
        self._set_account()
        self._set_settings(decisions=decisions)
        for i, bound in enumerate(traded):
            self._set_book(i, specification.instruments[bound.instrument_id], bound.interval)
            self._set_places(i, traded_on[i], asked[i])
        self._asked = asked
        self._set_signals()
        self._set_shortcuts(traded_on, asked)
        self.equity = np.empty(len(self.times))
        self.exposure = np.empty(len(self.times))
        account = self.account[0]
        account["count"] = count
        account["times"], account["clock"] = self._address(self.times), self._address(self.clock)
        account["clock_rows"] = len(self.clock)
        account["equities"] = self.equity.ctypes.data
        account["exposures"] = self.exposure.ctypes.data
        self._tell_room()

    # What is covered ------------------------------------------------------------------------

    def _refuse_what_is_not_covered(self) -> None:
        given = self.specification
        if given.admits is not None:
            raise NotCovered("a pair list decides who may be entered")
        if len(given.costs.fee_tiers) > layout.TIERS:
            raise NotCovered(f"more than {layout.TIERS} fee tiers")
        bases = [instrument.base_asset for instrument in given.instruments.values()]
        quotes = {instrument.quote_asset for instrument in given.instruments.values()}
        if len(set(bases)) < len(bases) or quotes & set(bases) or len(quotes) > 1:
            raise NotCovered("instruments that share an asset, or that are priced in several")

    def _finest(self, instrument_id: int, asked: Bars) -> Bars:
        """The bars that fills and marks are taken from, as `engine.backtest.replay` finds them."""
        every = [
            (bound.interval, self.specification.bars[bound.key])
            for bound in self.specification.inputs
            if bound.instrument_id == instrument_id
        ]
        every += [
            (bars.interval, bars)
            for bars in self.specification.finer
            if bars.instrument_id == instrument_id
        ]
        interval, finest = min(every, key=lambda entry: entry[0])
        return asked if interval == asked.interval else finest

    def _moments(self, traded_on: Sequence[Bars]) -> npt.NDArray[np.int64]:
        given = self.specification
        series = [bars.closed_at for bars in (*given.bars.values(), *given.finer)]
        first = series[0]
        self.one_clock = all(_same(other, first) for other in series[1:])
        times = first if self.one_clock else np.unique(np.concatenate(series))
        if given.starts_at is None:
            return times
        return times[np.searchsorted(times, nanoseconds(given.starts_at), side="right") :]

    # Records --------------------------------------------------------------------------------

    def _set_account(self) -> None:
        account = self.account[0]
        capital = float(self.specification.capital)
        for name in ("cash", "capital", "peak", "equity"):
            account[name] = capital
        account["traded_day"] = -(10**9)
        account["clock_row"] = self._before(self.clock)

    def _before(self, closed_at: npt.NDArray[np.int64]) -> int:
        """The row of the newest bar that is history when the run begins."""
        if self.specification.starts_at is None:
            return -1
        start = nanoseconds(self.specification.starts_at)
        return int(np.searchsorted(closed_at, start, side="right")) - 1

    def _set_settings(self, *, decisions: bool) -> None:
        given, settings = self.specification, self.settings[0]
        costs, sizing, policy = given.costs, given.sizing, given.policy
        values: dict[str, Any] = {
            "slippage_rate": costs.slippage,
            "slippage_fixed": costs.slippage_fixed,
            "impact": costs.slippage_impact,
            "half_spread": costs.spread / 2,
            "fee_per_unit": costs.fee_per_unit,
            "fee_minimum": costs.fee_minimum,
            "tiers": len(costs.fee_tiers),
            "top_rate": costs.highest_rate,
            "method": METHODS.index(sizing.method),
            "fraction": sizing.fraction,
            "units": sizing.quantity,
            "amount": sizing.value,
            "annual_volatility": sizing.annual_volatility,
            "volatility_window": sizing.window,
            "band": sizing.band or 0.0,
            "has_band": sizing.band is not None,
            "path": given.matching.intrabar == "ohlc_path",
            "volume_share": _or_nan(given.matching.volume_share),
            "margin": given.margin.enabled,
            "leverage": given.margin.leverage,
            "borrow_rate": given.margin.borrow_rate,
            "call_level": given.margin.call_level,
            "liquidation_level": given.margin.liquidation_level,
            "max_order": _limit(policy.position_size, "max_fraction"),
            "max_drawdown": _limit(policy.max_drawdown, "max_fraction"),
            "max_share": _limit(policy.concentration, "max_fraction"),
            "max_volatility": _limit(policy.volatility, "max_annual"),
            "rule_volatility_window": policy.volatility.window,
            "max_of_volume": _limit(policy.liquidity, "max_fraction"),
            "rule_liquidity_window": policy.liquidity.window,
            "max_positions": _limit(policy.max_positions, "most"),
            "records_decisions": decisions,
        }
        for name, value in values.items():
            settings[name] = value
        for k, (least, rate) in enumerate(costs.fee_tiers):
            settings["tier_least"][k], settings["tier_rate"][k] = least, rate

    def _set_book(self, i: int, instrument: Instrument, interval: int) -> None:
        book, costs = self.books[i], self.specification.costs
        taker, maker = costs.of(instrument), costs.of(instrument, "maker")
        values: dict[str, Any] = {
            "asked": np.nan,
            "id": instrument.id,
            "min_quantity": float(instrument.min_quantity or 0),
            "min_value": float(instrument.min_value or 0),
            "taker_rate": taker.fee_rate,
            "maker_rate": maker.fee_rate,
            "taker_tiers": bool(taker.fee_tiers),
            "maker_tiers": bool(maker.fee_tiers),
            "top_rate": taker.highest_rate,
            "bars_per_year": instrument.bars_per_year(interval),
        }
        for name, step in (("lot", instrument.lot_size), ("tick", instrument.tick_size)):
            if step is not None:
                over, under = Decimal(step).as_integer_ratio()
                if under > 2**53 or over > 2**53:
                    raise NotCovered(f"a {name} size of {step}")
                values |= {f"has_{name}": 1, name: float(step)}
                values |= {f"{name}_over": float(over), f"{name}_under": float(under)}
        for key, value in values.items():
            book[key] = value

    def _set_places(self, i: int, traded_on: Bars, asked: Bars) -> None:
        columns = [
            *(getattr(traded_on, name) for name in ("open", "high", "low", "close", "volume")),
            traded_on.filled,
            traded_on.opened_at,
            traded_on.closed_at,
            asked.close,
            asked.volume,
            asked.closed_at,
        ]
        self.places[i] = (*map(self._address, columns), len(asked))
        book = self.books[i]
        book["rows"] = len(traded_on)
        book["row"] = row = self._before(traded_on.closed_at)
        if row >= 0:
            book["mark"], book["has_mark"] = traded_on.close[row], 1
        book["asked_row"] = self._before(asked.closed_at)

    def _address(self, column: npt.NDArray[Any]) -> int:
        column = np.ascontiguousarray(column)
        self._kept.append(column)
        return int(column.ctypes.data)

    # Signals --------------------------------------------------------------------------------

    def _set_signals(self) -> None:
        said = self.evaluation.signals
        if said is None:
            return
        target = self.evaluation.target
        settings = self.settings[0]
        settings["again"] = said.again
        settings["tag"] = self.tags.setdefault(said_in_words(said.tag), len(self.tags))
        self._want(TARGET, target)
        if isinstance(said.entry, Limit | Stop):
            settings["entry_type"] = layout.LIMIT if isinstance(said.entry, Limit) else layout.STOP
            self._want(ENTRY_PRICE, said.entry.price)
        elif not isinstance(said.entry, Market):
            raise NotCovered(f"an entry by {type(said.entry).__name__}")
        self._set_exits(said)

    def _set_exits(self, said: Signals) -> None:
        settings, order = self.settings[0], []
        for exit_ in said.exits:
            if isinstance(exit_, TimeExit):
                if type(exit_.bars) is not int:
                    raise NotCovered("a time exit that differs from bar to bar")
                settings["time_exit"] = settings["time_exit"] or exit_.bars
                continue
            order.append(self._exit(exit_))
        if len(set(order)) < len(order):
            raise NotCovered("several exits of one kind")
        settings["legs"][: len(order)] = order

    def _slot(self, exit_: Exit) -> int:
        """Where an exit's order is kept; NotCovered for one the core has to look at."""
        slot = _LEGS.get(type(exit_))
        if slot is None:
            raise NotCovered(f"an exit by {type(exit_).__name__}")
        assert isinstance(exit_, StopLoss | TakeProfit | TrailingStop)
        if exit_.fraction is None and exit_.distance is None:
            raise NotCovered("an exit without fraction or distance")  # the core says it better
        return slot

    def _exit(self, exit_: StopLoss | TakeProfit | TrailingStop) -> int:
        slot = self._slot(exit_)
        first = ENTRY_PRICE + 1 + 2 * (slot - layout.STOP_LOSS)
        for place, value in ((first, exit_.fraction), (first + 1, exit_.distance)):
            if value is not None:
                self._want(place, value)
        return slot

    def _want(self, place: int, value: Any) -> None:
        """Where each instrument's numbers of one kind are: a column each, one for all, or one for ever."""
        rows, count = self.evaluation.target.shape
        array = np.asarray(value, np.float64)
        if array.ndim == 0:
            array = np.array([float(array)])
            steps, starts = 0, [0] * count
        elif array.shape == (rows,):
            array = np.ascontiguousarray(array)
            steps, starts = 1, [0] * count
        elif array.shape == (rows, count):
            if array.strides[1] != 8 or array.strides[0] % 8:
                array = np.ascontiguousarray(array)
            steps, starts = array.strides[0] // 8, list(range(count))
        else:
            raise NotCovered(f"levels of the shape {array.shape}")
        self._kept_signals.append(array)
        for i in range(count):
            self.wants[i]["address"][place] = array.ctypes.data + 8 * starts[i]
            self.wants[i]["step"][place] = steps

    def _set_shortcuts(self, traded_on: Sequence[Bars], asked: Sequence[Bars]) -> None:
        settings = self.settings[0]
        aligned = all(x is y for x, y in zip(traded_on, asked, strict=True))
        one_series = len(self.specification.bars) == 1 and not self.specification.finer
        plain = not settings["margin"] and not settings["has_band"]
        settings["aligned"] = aligned
        settings["quiet_bars"] = any(bars.filled.any() for bars in traded_on)
        costs, matching = self.specification.costs, self.specification.matching
        settings["needs_volume"] = matching.volume_share is not None or costs.slippage_impact != 0
        self._share_opens(traded_on)
        settings["one"] = aligned and one_series and plain
        every = [*(bars.closed_at for bars in traded_on), self.clock]
        settings["grid"] = (
            aligned
            and self.specification.starts_at is None
            and (self.one_clock or all(_same(closed_at, self.times) for closed_at in every))
        )
        if settings["grid"]:
            self.books["closes_now"] = 1
        settings["side_by_side"] = (
            settings["grid"]
            and not (settings["again"] or settings["has_band"])
            and self.evaluation.signals is not None
            and self._side_by_side()
        )
        settings["plain"] = settings["one"] and self._only_market_orders(traded_on[0])

    def _share_opens(self, traded_on: Sequence[Bars]) -> None:
        """Series that open together need one column of times between them: one that is in the cache."""
        first = traded_on[0].opened_at
        for i, bars in enumerate(traded_on[1:], 1):
            if _same(bars.opened_at, first):
                self.places[i]["opened_at"] = self.places[0]["opened_at"]

    def _side_by_side(self) -> bool:
        """Whether the targets of a moment lie beside each other, instrument by instrument."""
        addresses, steps = self.wants["address"][:, TARGET], self.wants["step"][:, TARGET]
        return bool((steps == len(steps)).all() and (np.diff(addresses) == 8).all())

    def _only_market_orders(self, bars: Bars) -> bool:
        """Whether orders can do nothing but fill at the next open, and nothing else can happen."""
        given, settings, book = self.specification, self.settings[0], self.books[0]
        costs = given.costs
        return bool(
            self.evaluation.signals is not None
            and settings["entry_type"] == layout.MARKET
            and not settings["legs"].any()
            and not settings["time_exit"]
            and not settings["records_decisions"]
            and settings["method"] in (layout.FRACTION, layout.CASH)
            and given.matching.volume_share is None
            and not (costs.fee_tiers or costs.fee_minimum or costs.slippage_impact)
            and not given.policy.rules()
            and not (book["has_lot"] or book["has_tick"])
            and not (book["min_quantity"] or book["min_value"])
            and not settings["quiet_bars"]
        )

    # Running --------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None) -> None:
        """All moments, a stretch at a time."""
        moments = len(self.times)
        while (done := int(self.account[0]["moment"])) < moments:
            if progress is not None:
                progress(done / moments)
            self.advance(min(done + MOMENTS_AT_ONCE, moments))

    def advance(self, until: int) -> None:
        """Moments up to `until`."""
        while True:
            said = loop.run(
                self.account[0], self.settings[0], self.books[0], self.orders[0], self.fills[0],
                self.decisions[0], self.places[0], self.wants[0], self.ready[0], until,
            )  # fmt: skip
            if said == layout.DONE:
                return
            if said == layout.BAD_SIGNAL:
                raise NotCovered("a signal that cannot be")  # the core says which, and why
            self._make_room()

    def _make_room(self) -> None:
        self.fills = np.concatenate([self.fills, np.empty_like(self.fills)])
        if len(self.decisions) > 1:
            self.decisions = np.concatenate([self.decisions, np.empty_like(self.decisions)])
        self._tell_room()

    def _tell_room(self) -> None:
        self.account[0]["fills_room"] = len(self.fills)
        self.account[0]["records_room"] = len(self.decisions)

    def result(self) -> Simulated:
        account = self.account[0]
        told = self.fills[: account["fills"]]
        columns: dict[str, Any] = {
            name: np.empty(len(told), type_) for name, type_ in FILL_TYPES.items()
        }
        if len(told):
            unpack(told[0], len(told), self.books[0], *columns.values())
        return Simulated(
            engine=self.name,
            times=self.times,
            equity=self.equity,
            exposure=self.exposure,
            fills=Fills(**columns, tags=tuple(self.tags)),
            decisions=self.decisions[: account["records"]],
            because=self._reasons(),
            paid=Paid(
                float(account["slippage"]), float(account["spread"]), float(account["borrowing"])
            ),
            counts=Counts(
                orders=int(account["orders"]),
                rejected=int(account["rejected"]),
                partly_filled=int(account["partly_filled"]),
                denied=int(account["denied"]),
                ambiguous_bars=int(account["ambiguous"]),
            ),
        )

    def _reasons(self) -> tuple[str, ...]:
        """The strategy's own words for each decision on record."""
        records = self.decisions[: self.account[0]["records"]]
        because, moment_at = self.evaluation.strategy.because, self.evaluation.moment
        symbols = [bound.symbol for bound in self.evaluation.traded]
        words = []
        for kind, row, book, held in zip(
            *(records[name].tolist() for name in ("kind", "row", "book", "held")), strict=True
        ):
            if kind != layout.SIGNAL:
                words.append("")
                continue
            moment = moment_at(row, partial(_holding, symbols[book], held))
            words.append(said_in_words(because(moment)))
        return tuple(words)


def _same(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    return one is other or np.array_equal(one, other)


def _holding(symbol: str, held: float) -> Holdings:
    return {symbol: held}, {}


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _limit(rule: Any, name: str) -> float:
    return float(getattr(rule, name)) if rule.enabled else np.nan
