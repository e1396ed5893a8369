"""Strategies in scalar form over stored bars: a loop in Python around compiled steps.

While no order works, or none could trade before the next touch of its level, the strategy is asked row by
row and nothing else runs; the compiled steps catch up when a target is new.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from engine.backtest.kernel import Machine, NotCovered, Progress
from engine.backtest.kernels import layout, steps
from engine.backtest.kernels.columns import ENTRY_PRICE, WANTS
from engine.backtest.results import LEGS
from engine.backtest.specification import Specification
from engine.bars import instant
from engine.intents import said as said_in_words
from engine.standing import StrategyRun
from engine.strategies.base import BaseStrategy, Moment
from engine.strategies.evaluation import Evaluation
from shared.domain.decided import KINDS
from shared.domain.identity import RESEARCH_ACCOUNT, RESEARCH_STRATEGY, client_order_id
from shared.domain.orders import Fill, Side
from shared.domain.signals import Limit, Market, Signal, Stop, TimeExit

_NAN: Final = math.nan
_PROGRESS_ROWS: Final = 100_000


class Now(Moment):
    """A moment that works out of plain lists, and only what is looked at."""

    __slots__ = ("_run",)

    def __init__(self, row: int, run: Asking, *, holdings: bool = True) -> None:
        self.row = row
        self._run = run
        if not holdings:
            self.held = self.entry_price = {}

    def __getitem__(self, name: str) -> float:
        value: float = self._run.lists[name][self.row]
        return value

    def __getattr__(self, name: str) -> Any:
        """The fields of a moment that nobody has looked at yet."""
        if name == "closed_at":
            value: Any = self._run.closed_at(self.row)
        elif name == "held":
            value = self._run.held()
        elif name == "entry_price":
            value = self._run.entry_prices()
        elif name == "_columns":
            value = self._run.evaluation.columns
        elif name == "_bars":
            value = self._run.evaluation.moment(self.row)._bars
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value


class Asking(Machine):
    """One run of a strategy that is asked bar by bar."""

    name = "loop"

    def __init__(
        self, specification: Specification, evaluation: Evaluation, *, decisions: bool
    ) -> None:
        self.strategy: BaseStrategy = evaluation.strategy
        self.hears_fills = type(self.strategy).on_fill is not BaseStrategy.on_fill
        super().__init__(specification, evaluation, decisions=decisions or self.hears_fills)
        self.lists = {name: column.tolist() for name, column in evaluation.columns.items()}
        self.symbols = {bound.symbol: i for i, bound in enumerate(evaluation.traded)}
        self._said = np.full((len(self.symbols), WANTS), np.nan)
        self._told = 0
        self._shape: Any = None
        self._records = len(self.decisions) > 1
        self._because: list[tuple[int, str]] = []
        self._parts: dict[int, int] = {}
        for i in range(len(self.symbols)):
            self.wants[i]["address"][ENTRY_PRICE] = self._said[i : i + 1, ENTRY_PRICE].ctypes.data
        self._chart()

    def _set_signals(self) -> None:
        """There are none yet."""
        self.settings[0]["counts_age"] = 1

    # What the strategy sees -----------------------------------------------------------------

    def closed_at(self, row: int) -> datetime:
        return datetime.fromtimestamp(int(self.clock[row]) // 1_000_000_000, UTC)

    def held(self) -> dict[str, float]:
        return {symbol: float(self.books[i]["quantity"]) for symbol, i in self.symbols.items()}

    def entry_prices(self) -> dict[str, float]:
        books = {symbol: self.books[i] for symbol, i in self.symbols.items()}
        return {
            symbol: float(book["cost"] / book["quantity"])
            for symbol, book in books.items()
            if book["quantity"] != 0
        }

    # The loop -------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None) -> None:
        first_row = int(self.account[0]["clock_row"]) + 1
        if len(self.symbols) == 1 and len(self.times) == len(self.clock) - first_row:
            self._ask_one(first_row, progress)
        else:
            self._ask_many(progress)
        self.strategy_state_is_json()

    def strategy_state_is_json(self) -> None:
        """As `StrategyRun.check_state` looks at every moment: a state that cannot be stored is no state."""
        StrategyRun.check_state(self)  # type: ignore[arg-type]

    def _ask_one(self, first_row: int, progress: Progress | None) -> None:
        """One instrument whose clock closes at every moment."""
        generate, book = self.strategy.generate_signal, self.books[0]
        (symbol,) = self.symbols
        moments, has_band = len(self.times), bool(self.settings[0]["has_band"])
        asked, stands = _NAN, 0.0
        calm = moments if self.settings[0]["one"] else 0
        told = _PROGRESS_ROWS
        for moment in range(moments):
            opened = moment >= calm
            if opened:
                self._enter(moment)
                stands = float(book["target"])
            said = generate(Now(first_row + moment, self))
            before, asked = asked, _NAN
            if said is not None:
                if type(said) is not Signal:
                    said = self._only(said)
                if said is not None and said.target is not None:
                    asked = said.target
                    new = asked != stands and (said.again or asked != before)
                    if new or (has_band and steps.drifted(self._world, 0, asked)):
                        self._check(said)
                        if not opened:
                            self._enter(moment)
                            opened = True
                        self._act(0, said)
                if said is not None and said.instrument != symbol:
                    self._check(said)
            if opened:
                calm = steps.leave(self._world, moments)
                stands = float(book["target"])
            if progress is not None and moment == told:
                told += _PROGRESS_ROWS
                progress(moment / moments)
        self._finish(moments)

    def _ask_many(self, progress: Progress | None) -> None:
        """Several instruments, or moments between the clock's: every moment is looked at."""
        asked = dict.fromkeys(self.symbols, _NAN)
        moments = len(self.times)
        for moment in range(moments):
            if self._enter(moment):
                row = int(self.account[0]["clock_row"])
                self._hear(self.strategy.generate_signal(Now(row, self)), asked)
            steps.leave(self._world, moments)
            if progress is not None and moment % _PROGRESS_ROWS == 0:
                progress(moment / moments)

    def _hear(self, said: Any, asked: dict[str, float]) -> None:
        signals = [] if said is None else [said] if isinstance(said, Signal) else list(said)
        for signal in signals:
            self._check(signal)
        by_symbol = {signal.instrument: signal for signal in signals}
        for symbol, i in self.symbols.items():
            signal = by_symbol.get(symbol)
            target = _NAN if signal is None or signal.target is None else signal.target
            before, asked[symbol] = asked[symbol], target
            if signal is None or target != target:
                continue
            stands = float(self.books[i]["target"])
            known = target == stands or (target == before and not signal.again)
            if known and not steps.drifted(self._world, i, target):
                continue
            self._act(i, signal)

    # Signals --------------------------------------------------------------------------------

    def _only(self, said: Any) -> Signal | None:
        """The last signal of several for the one instrument."""
        if isinstance(said, Signal):
            return said
        signals = list(said)
        for signal in signals:
            self._check(signal)
        return signals[-1] if signals else None

    def _check(self, signal: Any) -> None:
        """As `Evaluation.scalar_signals` does; it also says what is wrong."""
        known = isinstance(signal, Signal) and signal.instrument in self.symbols
        if known and (signal.target is None or math.isfinite(signal.target)):
            return
        raise NotCovered("a signal that cannot be")

    def _act(self, i: int, signal: Signal) -> None:
        shape = (i, signal.entry, signal.exits)
        if shape != self._shape:
            self._set_shape(i, signal)
            self._shape = shape
        tag = 0
        if signal.tag:
            tag = self.tags.setdefault(said_in_words(signal.tag), len(self.tags))
        if self._records:
            self._because.append((int(self.account[0]["decisions"]), self._words()))
        if steps.act(self._world, i, float(signal.target or 0.0), tag) != layout.DONE:
            raise NotCovered("a signal that cannot be")

    def _words(self) -> str:
        """The reason, asked now: a later moment may find another state."""
        return said_in_words(self.strategy.because(Now(int(self.account[0]["clock_row"]), self)))

    def _reasons(self) -> tuple[str, ...]:
        words = [""] * int(self.account[0]["records"])
        for number, text in self._because:
            words[number] = text
        return tuple(words)

    def _set_shape(self, i: int, signal: Signal) -> None:
        """How it wants to get in and out."""
        settings, said = self.settings[0], self._said[i]
        said[:] = np.nan
        settings["entry_type"] = layout.MARKET
        if isinstance(signal.entry, Limit | Stop):
            settings["entry_type"] = (
                layout.LIMIT if isinstance(signal.entry, Limit) else layout.STOP
            )
            said[ENTRY_PRICE] = float(signal.entry.price)
        elif not isinstance(signal.entry, Market):
            raise NotCovered(f"an entry by {type(signal.entry).__name__}")
        self._exits(i, signal)

    def _exits(self, i: int, signal: Signal) -> None:
        settings, want = self.settings[0], self.wants[i]["address"]
        settings["time_exit"], settings["legs"] = 0, 0
        want[ENTRY_PRICE + 1 :] = 0
        slots: list[int] = []
        for exit_ in signal.exits:
            if isinstance(exit_, TimeExit):
                if type(exit_.bars) is not int:
                    raise NotCovered("a time exit that is no whole number of bars")
                settings["time_exit"] = settings["time_exit"] or exit_.bars
                continue
            slot = self._slot(exit_)
            slots.append(slot)
            first = ENTRY_PRICE + 1 + 2 * (slot - layout.STOP_LOSS)
            for place, value in ((first, exit_.fraction), (first + 1, exit_.distance)):
                if value is not None:
                    self._said[i, place] = float(value)
                    want[place] = self._said[i : i + 1, place].ctypes.data
        if len(set(slots)) < len(slots):
            raise NotCovered("several exits of one kind")
        settings["legs"][: len(slots)] = slots

    # Steps ----------------------------------------------------------------------------------

    def _make_room(self) -> None:
        super()._make_room()
        self._chart()

    def _chart(self) -> None:
        """Where everything lies, for the compiled steps."""
        self._world_table = np.array([getattr(self, n).ctypes.data for n in steps.WORLD])
        self._world = int(self._world_table.ctypes.data)

    def _enter(self, moment: int) -> bool:
        """Open a moment; whether the strategy is asked in it."""
        while (said := steps.enter(self._world, moment)) == layout.FULL:
            self._make_room()
        if self.hears_fills:
            self._tell_fills()
        return bool(said == 1)

    def _finish(self, moments: int) -> None:
        while steps.finish(self._world, moments) == layout.FULL:
            self._make_room()

    def _tell_fills(self) -> None:
        """`on_fill` of what traded in this moment, seen from the row before."""
        filled = int(self.account[0]["fills"])
        for told in self.fills[self._told : filled]:
            row = int(self.account[0]["clock_row"]) - 1
            now = Now(row, self, holdings=False) if row >= 0 else None
            self.strategy.on_fill(self._fill(told), now)
        self._told = filled

    def _fill(self, told: Any) -> Fill:
        number = int(told["decision"])
        decision, bound = self.decisions[number - 1], self.evaluation.traded[told["book"]]
        kind, leg = KINDS[decision["kind"]], LEGS[told["leg"]]
        leg = "exit" if leg in ("time_exit", "liquidation") else leg
        name = leg if kind == "signal" else f"{kind}.{leg}"
        asset = self.specification.instruments[bound.instrument_id].quote_asset
        decided_at = instant(int(decision["at"]))
        order = client_order_id(
            RESEARCH_ACCOUNT, RESEARCH_STRATEGY, bound.instrument_id, decided_at, name
        )
        return Fill(
            client_order_id=order,
            venue_fill_id=f"{order}:{self._part(order)}",
            account_id=RESEARCH_ACCOUNT,
            strategy_id=RESEARCH_STRATEGY,
            instrument_id=bound.instrument_id,
            side=Side.BUY if told["side"] > 0 else Side.SELL,
            quantity=float(told["quantity"]),
            price=float(told["price"]),
            fee=float(told["fee"]),
            fee_asset=asset,
            at=instant(int(told["at"])),
            liquidity="maker" if told["maker"] else "taker",
            last=bool(told["last"]),
            raw=float(told["raw"]),
        )

    def _part(self, order: UUID) -> int:
        part = self._parts.get(order.int, 0)
        self._parts[order.int] = part + 1
        return part

    @property
    def state(self) -> Any:
        return self.strategy.state
