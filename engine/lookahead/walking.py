"""A scalar strategy asked bar by bar, with the same holdings each time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from engine.bars import Bars
from engine.indicators import Column
from engine.lookahead.cutting import Revealed
from engine.lookahead.holding import Holding
from engine.lookahead.saying import same
from engine.strategies.base import BaseStrategy
from engine.strategies.evaluation import BoundInput, Evaluation
from shared.domain.signals import Signal

Answers = list[tuple[Signal, ...]]


def walk(
    strategy: BaseStrategy,
    inputs: Sequence[BoundInput],
    bars: Mapping[str, Bars],
    held: Holding,
    *,
    rows: int | None = None,
    until: float = float("inf"),
) -> Answers:
    """Its signals in the first `rows` rows, or as many as it gets to before the instant `until`."""
    evaluation = Evaluation(strategy, inputs, bars)
    answers: Answers = []
    for row in range(len(evaluation) if rows is None else rows):
        answers.append(_asked(evaluation, row, held))
        if not row % 256 and time.perf_counter() > until:
            break
    return answers


def walk_blind(
    strategy: BaseStrategy,
    inputs: Sequence[BoundInput],
    bars: Mapping[str, Bars],
    columns: Mapping[str, Column],
    held: Holding,
    rows: int,
) -> Answers:
    """The same, over bars that hold other values until their time comes.

    `columns` are the features with all bars; they are shown row by row too. Whoever keeps an array and
    looks ahead in it sees what was never so.
    """
    clock = next(bound.key for bound in inputs if bound.trades)
    revealed = Revealed(bars, clock, seed=11)
    evaluation = Evaluation(strategy, inputs, revealed.bars)
    shown = {name: column[::-1] * 0.7 for name, column in columns.items()}
    evaluation.columns = shown
    pairs = [(shown[name], column) for name, column in columns.items()]
    answers: Answers = []
    for row in range(rows):
        revealed.show(row)
        for hidden, truth in pairs:
            hidden[row] = truth[row]
        answers.append(_asked(evaluation, row, held))
    return answers


def _asked(evaluation: Evaluation, row: int, held: Holding) -> tuple[Signal, ...]:
    if row in held.fills:
        before = evaluation.moment(row - 1) if row else None
        for fill in held.fills[row]:
            evaluation.strategy.on_fill(fill, before)
    said: Any = evaluation.strategy.generate_signal(evaluation.moment(row, lambda: held.at(row)))
    if said is None:
        return ()
    return (said,) if isinstance(said, Signal) else tuple(said)


def first_unlike(whole: Answers, cut: Answers, rows: int) -> int | None:
    """The first of the first `rows` rows in which the answers differ."""
    for row in range(min(rows, len(whole), len(cut))):
        if whole[row] != cut[row] and not _alike(whole[row], cut[row]):
            return row
    return None


def rows_unlike(whole: Answers, cut: Answers, rows: int) -> list[int]:
    return [
        row
        for row in range(min(rows, len(whole), len(cut)))
        if whole[row] != cut[row] and not _alike(whole[row], cut[row])
    ]


def _alike(a: tuple[Signal, ...], b: tuple[Signal, ...]) -> bool:
    return len(a) == len(b) and all(_same_signal(x, y) for x, y in zip(a, b, strict=True))


def _same_signal(a: Signal, b: Signal) -> bool:
    plain = (a.instrument, a.tag, len(a.exits)) == (b.instrument, b.tag, len(b.exits))
    return (
        plain
        and same(a.target, b.target)
        and _same_part(a.entry, b.entry)
        and all(_same_part(x, y) for x, y in zip(a.exits, b.exits, strict=True))
    )


def _same_part(a: Any, b: Any) -> bool:
    return type(a) is type(b) and all(
        same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
    )


def answer_text(answer: tuple[Signal, ...]) -> str:
    """What a scalar strategy said, in a few words."""
    if not answer:
        return "nothing"
    return "; ".join(_signal_text(signal) for signal in answer)


def _signal_text(signal: Signal) -> str:
    parts = ["leave" if signal.target is None else f"target {signal.target:.10g}"]
    for part in (signal.entry, *signal.exits):
        values = [getattr(part, f.name) for f in fields(part)]
        said = " ".join(f"{float(v):.10g}" for v in values if v is not None)
        if said:
            parts.append(f"{type(part).__name__} {said}")
    return ", ".join(parts)
