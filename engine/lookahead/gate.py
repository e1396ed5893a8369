"""The examination of one run: cut, shuffle, hide, ask again, and say what changed.

Cheap looks at many bars come first, exact cuts at fewer; nobody is accused before an exact cut says so
twice. What it costs is bounded: above the budget fewer bars are looked at, and the verdict tells how many.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from engine.backtest.results import Fills
from engine.backtest.specification import Specification
from engine.lookahead import cutting, wording
from engine.lookahead.asking import Asking, Class, Fails, Reply
from engine.lookahead.clocks import Clock
from engine.lookahead.cutting import Rows
from engine.lookahead.holding import Holding, holdings
from engine.lookahead.outside import only_writes
from engine.lookahead.saying import Difference, differences, unlike
from engine.lookahead.span import Span, spans, spread_rows
from engine.lookahead.verdict import Coverage, Finding, Kind, Verdict, Warmup, concluded
from engine.lookahead.walking import rows_unlike
from engine.lookahead.warmup import measured

LEAST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 10.0
SHARE: Final = 0.2
"""Of the run's own time."""

PROBES: Final = (2_000, 20_000)
"""Bars of first evaluations that tell what a bar costs."""
LOOKS: Final = 5
SCALAR_LOOKS: Final = 9
"""Evaluations of everything that the budget has to be enough for; bar by bar one more way is gone."""
LOADING: Final = 0.05
"""Of the budget; code that takes longer over few bars is not loaded anew each time."""
FIRST_CUTS: Final = 3
"""Made whatever they cost: after the middle one, the first and the last of the bars that decided."""
FOR_WARMUPS: Final = 0.1
"""Of the budget."""
SHUFFLES: Final = 3
SHUFFLED_EVERY: Final = 50
SUSPECTS: Final = 6


def budget(run_seconds: float) -> float:
    """Seconds an examination may take: a fifth of the run's own, half a second at least, ten at most."""
    return min(max(SHARE * run_seconds, LEAST_SECONDS), MOST_SECONDS)


def examine(
    specification: Specification,
    decided_at: Any,
    budget_seconds: float = LEAST_SECONDS,
    fills: Fills | None = None,
) -> Verdict:
    """Whether what the run's strategy says depends on bars it could not know.

    `decided_at` are the closing instants (int64 nanoseconds) of the bars that decided an order. `fills`
    tell a scalar strategy what it held; without them it holds nothing.
    """
    return Examination(specification, decided_at, budget_seconds, fills).verdict()


@dataclass(slots=True)
class Tally:
    """What has been looked at so far."""

    examined: set[int] = field(default_factory=set)
    """Closing instants of deciding bars."""
    cuts: int = 0
    hidden: int = 0
    shuffles: int = 0
    rows: int = 0


class Examination:
    """One run under examination. Findings gather; a confirmed leak ends the search for more of its kind."""

    def __init__(
        self,
        specification: Specification,
        decided_at: Any,
        budget_seconds: float,
        fills: Fills | None,
    ) -> None:
        self._started = time.perf_counter()
        self._budget = budget_seconds
        self._deadline = self._started + budget_seconds
        self._bars = specification.bars
        self._inputs = specification.inputs
        self._clock = next(bound.key for bound in specification.inputs if bound.trades)
        self._decided_at = np.unique(np.asarray(decided_at, np.int64))
        self._fills = fills
        self._asking = Asking(
            specification.strategy,
            specification.inputs,
            specification.parameters,
            Clock(time.time_ns()),
        )
        self._tally = Tally()
        self._findings: list[Finding] = []
        self._warmups: tuple[Warmup, ...] = ()
        self._second_a_row = 0.0

    def verdict(self) -> Verdict:
        try:
            self._look()
        except Fails as error:
            text = f"it could not be asked anew: {error}"
            self._findings.append(Finding(Kind.FAILS, text))
        self._tell_outside()
        whole = self._bars[self._clock].closed_at
        if len(whole) and int(whole[-1]) in self._decided_at:
            self._tally.examined.add(int(whole[-1]))  # nothing follows it
        coverage = Coverage(
            deciding=len(self._decided_at),
            examined=len(self._tally.examined),
            cuts=self._tally.cuts,
            hidden=self._tally.hidden,
            shuffles=self._tally.shuffles,
            rows=self._tally.rows,
            of_rows=len(whole),
        )
        return concluded(
            self._findings,
            self._warmups,
            coverage,
            budget_seconds=self._budget,
            seconds=time.perf_counter() - self._started,
        )

    # The order of looks -------------------------------------------------------------------------

    def _look(self) -> None:
        rows = self._affordable()
        found = spans(self._bars, self._clock, self._decided_at, rows)
        end = self._deadline
        for number, span in enumerate(found):
            left = len(found) - number
            now = time.perf_counter()
            self._deadline = now + max(0.0, end - now) / left
            self._look_at(span, is_last=left == 1)
            if self._leaks:
                return

    @property
    def _leaks(self) -> bool:
        return any(finding.kind.is_leak for finding in self._findings)

    def _affordable(self) -> int:
        """Rows of which one evaluation fits the budget."""
        rows = len(self._bars[self._clock])
        few, more = PROBES
        if rows <= few:
            return rows
        self._probe(few, self._asking.anew())  # what is loaded once is not what a bar costs
        cls = self._asking.anew()
        seconds = self._probe(few, cls)
        if seconds > LOADING * self._budget:
            self._asking.is_frugal = True
            seconds = self._probe(few, cls)
        wanted = self._budget / (SCALAR_LOOKS if self._asking.is_scalar else LOOKS)
        if rows > more and seconds * more / few < wanted:
            seconds, few = self._probe(more, cls) - seconds, more - few
        return min(rows, int(wanted * few / max(seconds, 1e-9)))

    def _probe(self, rows: int, cls: Class) -> float:
        """Seconds an evaluation of the first rows takes."""
        last = int(self._bars[self._clock].closed_at[rows - 1])
        span = Span(cutting.cut(self._bars, last), self._clock, _NONE)
        held = self._held(span)
        started = time.perf_counter()
        self._asking.ask(cls, span.bars, held, rows)
        return time.perf_counter() - started

    def _held(self, span: Span) -> Holding:
        if not self._asking.is_scalar:
            return Holding()
        return holdings(self._fills, self._inputs, span.bars[span.clock].closed_at)

    def _look_at(self, span: Span, *, is_last: bool) -> None:
        """Everything there is to do with one stretch, the least costly and most telling first."""
        held = self._held(span)
        used = self._asking.anew()
        started = time.perf_counter()
        whole = self._asking.ask(used, span.bars, held, len(span))
        self._second_a_row = (time.perf_counter() - started) / max(1, len(span))
        self._tally.rows += len(span)
        look = Look(self._asking, span, held, whole, self._tally, self._findings)
        look.under_another_clock()
        points = span.points()
        for row in points[:FIRST_CUTS]:
            reply = look.cut_after(row)
            if reply is not None and row == points[0]:
                look.after_an_earlier_one(used, reply, row)
            if self._leaks:
                return
        if points:
            self._look_wider(look, points)
        if is_last and not self._leaks and len(span) > 2:
            rows = sorted({len(span) - 1, len(span) // 2})
            until = max(self._deadline, time.perf_counter() + FOR_WARMUPS * self._budget)
            self._warmups = measured(self._asking, span, whole.said, rows, until)

    def _look_wider(self, look: Look, points: Sequence[int]) -> None:
        """As many bars as the time is enough for."""
        suspects = look.walked_blind() if look.whole.answers is not None else []
        if not suspects:
            suspects = self._hidden(look)
        for row in suspects[:SUSPECTS]:
            if not self._leaks:
                look.cut_after(row)
        for row in points[:SHUFFLES]:
            if not self._leaks and self._has_time(row):
                look.shuffle_after(row)
        done = 0 < len(self._decided_at) <= len(self._tally.examined)
        for number, row in enumerate([] if done else filter(look.is_new, points)):
            if self._leaks or not self._has_time(row):
                return
            look.cut_after(row)
            if number % SHUFFLED_EVERY == SHUFFLED_EVERY - 1:
                look.shuffle_after(row)

    def _hidden(self, look: Look) -> list[int]:
        """Deciding bars before other futures, many at once; some of those at which it says something else."""
        span = look.span
        if not len(span.deciding) or not cutting.share_a_clock(span.bars):
            return []
        length = self._asking.memories()[1] + 2
        odd: list[int] = []
        groups = itertools.chain(
            cutting.apart(span.deciding, length), cutting.apart(span.deciding, 3 * length)
        )  # twice, with other bars after them: a yes or no is the same by chance half the time
        for group in groups:
            most = int(0.5 * self._left() / look.whole.seconds * len(span) / length)
            if most < 1:
                break
            taken = group[np.linspace(0, len(group) - 1, min(most, len(group))).astype(np.intp)]
            found = look.hide_after(taken, length)
            odd += found
            if 2 * len(found) > len(taken) or len(taken) < len(group):
                break  # it remembers more than a window, or there is no time for more
        middle = len(odd) // 2
        return list(dict.fromkeys([*odd[:1], *odd[-1:], *odd[middle : middle + 4]]))

    def _left(self) -> float:
        return self._deadline - time.perf_counter()

    def _has_time(self, row: int) -> bool:
        """Whether a cut after the row can be asked for and be done in time for what comes last."""
        return self._left() > self._second_a_row * row + FOR_WARMUPS * self._budget

    def _tell_outside(self) -> None:
        kind = Kind.UNSEEN if only_writes(self._asking.heard) else Kind.OUTSIDE
        for said in self._asking.heard:
            text = f"it {said}: what it says may come from there, and not from the bars"
            if kind is Kind.UNSEEN:
                text = f"it {said}: who reads that later cannot be seen from here"
            self._findings.append(Finding(kind, text, said))
        for name in sorted(self._asking.fresh.opaque):
            text = f"it uses {name}, and what goes on behind that cannot be seen from here"
            self._findings.append(Finding(Kind.UNSEEN, text, name))


_NONE: Final = np.zeros(0, np.intp)


@dataclass(frozen=True, slots=True)
class Look:
    """One stretch, what was said over the whole of it, and the ways to ask again."""

    asking: Asking
    span: Span
    held: Holding
    whole: Reply
    tally: Tally
    findings: list[Finding]

    def is_new(self, row: int) -> bool:
        return self.span.now(row) not in self.tally.examined

    def _seen(self, row: int) -> None:
        if row in self._deciding:
            self.tally.examined.add(self.span.now(row))

    @property
    def _deciding(self) -> Rows:
        return self.span.deciding

    # Exact ------------------------------------------------------------------------------------

    def cut_after(self, row: int) -> Reply | None:
        """Nothing is there after the row. What is said then, None if nothing can be.

        For what hangs on where the bars end, other bars are there instead.
        """
        if self._has(Kind.ENDS):
            self.shuffle_after(row)
            self._seen(row)
            return None
        self.tally.cuts += 1
        bars = cutting.cut(self.span.bars, self.span.now(row))
        try:
            reply = self.asking.ask_anew(bars, self.held, row + 1)
        except Fails as error:
            self._failed(row, error)
            return None
        if self._changed(reply, row):
            self._accuse("cut", bars, row)
        self._seen(row)
        return reply

    def shuffle_after(self, row: int) -> None:
        """Other bars are there after the row."""
        self.tally.shuffles += 1
        bars = cutting.shuffled(self.span.bars, self.span.now(row), seed=row)
        try:
            reply = self.asking.ask_anew(bars, self.held, row + 1)
        except Fails as error:
            self._failed(row, error)
            return
        if self._changed(reply, row):
            self._accuse("shuffled", bars, row)

    def _failed(self, row: int, error: Fails) -> None:
        if self._has(Kind.FAILS):
            return
        now = self.span.now(row)
        text = f"it raises when the bars after {wording.when(now)} are cut off or others: {error}"
        at = now // wording.SECOND
        self.findings.append(Finding(Kind.FAILS, text, "", at, at))
        try:
            bars = cutting.shuffled(self.span.bars, now, seed=row)
            reply = self.asking.ask_anew(bars, self.held, row + 1)
        except Fails:
            return
        if self._changed(reply, row):
            self._accuse("shuffled", bars, row)

    def _changed(self, reply: Reply, row: int) -> bool:
        if differences(self.whole.said, reply.said, row + 1):
            return True
        return bool(self._answers_unlike(self.whole, reply, row))

    @staticmethod
    def _answers_unlike(one: Reply, other: Reply, row: int) -> list[int]:
        if one.answers is None or other.answers is None:
            return []
        return rows_unlike(one.answers, other.answers, row + 1)

    def _accuse(self, how: str, bars: Any, row: int) -> None:
        """Ask both again before anybody is accused; who says two things to one question goes by chance."""
        whole = self.asking.ask_anew(self.span.bars, self.held, row + 1)
        again = self.asking.ask_anew(bars, self.held, row + 1)
        if self._changed(whole, row):
            self._by_chance(row)
            return
        if how == "cut" and not self._changes_with_others(row):
            self._by_the_end(row)
            return
        found = differences(whole.said, again.said, row + 1)
        slower = self._from_slower(found, row)
        for one in found:
            kind = Kind.SLOWER if one.name in slower else Kind.FUTURE
            self._add(wording.columns_changed(kind, how, whole.said, again.said, row, [one]))
        rows = self._answers_unlike(whole, again, row)
        if rows and whole.answers is not None and again.answers is not None:
            answers = (whole.answers, again.answers)
            kind = Kind.SLOWER if slower and len(slower) == len(found) else Kind.FUTURE
            told = wording.answers_changed(kind, how, whole.said, answers, rows[0], row)
            self._add([told])

    def _changes_with_others(self, row: int) -> bool:
        """Whether other bars after the row, lower or higher ones, change what is said before."""
        return any(
            self._is_changed_by(cutting.shuffled(self.span.bars, self.span.now(row), seed), row)
            for seed in (0, 1)
        )

    def _is_changed_by(self, bars: Any, row: int) -> bool:
        try:
            return self._changed(self.asking.ask_anew(bars, self.held, row + 1), row)
        except Fails:
            return False

    def _by_the_end(self, row: int) -> None:
        text = (
            f"it says something else when the bars end at {wording.when(self.span.now(row))}, and the same "
            "when other bars follow: it hangs on where they end, not on what they hold"
        )
        at = self.span.now(row) // wording.SECOND
        self.findings.append(Finding(Kind.ENDS, text, "", at, at))

    def _has(self, kind: Kind) -> bool:
        return any(finding.kind is kind for finding in self.findings)

    def _add(self, found: Sequence[Finding]) -> None:
        told = {finding.what for finding in self.findings if finding.kind.is_leak}
        room = wording.MOST - len(self.findings)
        self.findings.extend([one for one in found if one.what not in told][: max(0, room)])

    def _by_chance(self, row: int) -> None:
        if self._has(Kind.CHANCE):
            return
        text = (
            "asked twice over the same bars it says two things: it draws random numbers without a seed, "
            "and nothing can be proven about it"
        )
        self.findings.append(Finding(Kind.CHANCE, text))

    def _from_slower(self, found: Sequence[Difference], row: int) -> set[str]:
        """The columns that change already when only the inputs beside the clock end there."""
        others = [key for key in self.span.bars if key != self.span.clock]
        if not others or not found or cutting.share_a_clock(self.span.bars):
            return set()
        bars = cutting.cut(self.span.bars, self.span.now(row), only=others)
        try:
            reply = self.asking.ask_anew(bars, self.held, row + 1)
        except Fails:
            return set()
        return {one.name for one in differences(self.whole.said, reply.said, row + 1)}

    # Other circumstances ----------------------------------------------------------------------

    def after_an_earlier_one(self, used: Class, new: Reply, row: int) -> None:
        """A class that has seen all bars must say over fewer what a new one, `new`, says."""
        bars = cutting.cut(self.span.bars, self.span.now(row))
        try:
            old = self.asking.ask(used, bars, self.held, row + 1)
        except Fails as error:
            self._failed(row, error)
            return
        found = differences(new.said, old.said, row + 1)
        rows = self._answers_unlike(new, old, row)
        if (found or rows) and not self._changed(new, row):
            self._add([_kept_between(found[0].name if found else "signal")])

    def under_another_clock(self) -> None:
        """Asked at another time of day it must say the same."""
        clock = self.asking.clock
        if not clock.readings:
            return
        before = clock.at
        clock.at = self.span.now(len(self.span) // 2)
        try:
            other = self.asking.ask_anew(self.span.bars, self.held, len(self.span))
        finally:
            clock.at = before
        if self._changed(other, len(self.span) - 1):
            self._add([_BY_THE_CLOCK])

    # Many at once -----------------------------------------------------------------------------

    def walked_blind(self) -> list[int]:
        """A scalar strategy goes through all bars with the future hidden; the first rows it answers otherwise."""
        assert self.whole.answers is not None
        rows = len(self.whole.answers)
        try:
            answers = self.asking.ask_blind(self.span.bars, self.whole.said, self.held, rows)
        except Fails:
            return [int(row) for row in spread_rows(rows, 3)]
        odd = rows_unlike(self.whole.answers, answers, rows)
        if not odd:
            self.tally.hidden += rows
        return [row for row in (odd[:1] + odd[len(odd) // 2 :][:1] + odd[-1:]) if row < rows - 1]

    def hide_after(self, rows: Rows, length: int) -> list[int]:
        """Each row with the `length` bars up to it, and others after it; the rows that say otherwise."""
        parts = cutting.spliced(self.span.bars, rows, length)
        try:
            reply = self.asking.ask_anew(parts.bars, Holding())
        except Fails:
            return [int(row) for row in rows]
        odd: set[int] = set()
        for name, column in self.whole.said.columns.items():
            seen = reply.said.columns.get(name)
            if seen is None:
                return [int(row) for row in rows]
            odd.update(unlike(column[rows], seen[parts.rows]).tolist())
        good = np.ones(len(rows), bool)
        good[list(odd)] = False
        self.tally.hidden += int(good.sum())
        self.tally.examined.update(self.span.bars[self.span.clock].closed_at[rows[good]].tolist())
        return [int(row) for row in rows[~good]]


def _kept_between(what: str) -> Finding:
    text = (
        f"{what!r} is something else once the same code has seen all bars before: it keeps data between runs, "
        "in its module, its class or a default argument"
    )
    return Finding(Kind.STATE, text, what)


_BY_THE_CLOCK: Final = Finding(
    Kind.CLOCK,
    "it says something else when the wall clock shows another time: a run cannot be repeated, and live it is "
    "not what was tested",
)
