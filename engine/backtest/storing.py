"""A run's rows: trades and fills by COPY, columns and decisions as bytes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy.orm import Session

from engine.backtest.results import LEGS, NEVER, REASONS, Fills, Simulated, Trades
from engine.bars import Instants, nanoseconds
from shared.db.backtests import RunSeriesRow
from shared.domain import clock, decided, told

LINES_AT_ONCE: Final = 5_000
SQUEEZED_UP_TO: Final = 20_000
"""Columns longer than this are kept as they are: floats hardly shrink, and squeezing them takes its time."""

_NULL: Final = r"\N"

_TRADE_COLUMNS: Final = (
    "run_id, number, instrument_id, side, quantity, entry_at, entry_price, exit_at, exit_price, fees, pnl,"
    " return_fraction, bars_held, exit_reason, tag"
)
_FILL_COLUMNS: Final = "run_id, number, instrument_id, side, leg, quantity, price, fee, filled_at"
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def keep(session: Session, run_id: int, parts: Mapping[str, bytes]) -> None:
    """Parts of a run by name, a row each, on their way when this returns."""
    session.add_all(
        [RunSeriesRow(run_id=run_id, name=name, data=data) for name, data in parts.items()]
    )
    session.flush()


def columns(found: Mapping[str, npt.NDArray[Any]]) -> dict[str, bytes]:
    """Little-endian columns as parts."""
    return {name: squeezed(column.tobytes(), len(column)) for name, column in found.items()}


def times(instants: Instants) -> dict[str, bytes]:
    return {"times": zlib.compress(clock.pack(instants), 1)}


def squeezed(data: bytes, count: int) -> bytes:
    """zlib's format in any case, so that there is one way to read it."""
    return zlib.compress(data, 1 if count <= SQUEEZED_UP_TO else 0)


def decisions(simulated: Simulated, instruments: Sequence[int]) -> dict[str, bytes]:
    """The core's decisions as it told them; of a kernel's the numbers, which `shared.domain.decided` puts in words.

    `instruments` are the ids of what was traded, in the order of the kernel's books.
    """
    found = {}
    if simulated.told:
        lines = [told.line_of(decision) for decision in simulated.told]
        at = [nanoseconds(decision.decided_at) for decision in simulated.told]
        found["told"] = told.pack(lines, at)
    if len(simulated.decisions):
        records = simulated.decisions
        numbers = {name: records[name] for name in decided.COLUMNS if name != "instrument"}
        numbers["instrument"] = np.array(instruments, np.int64)[records["book"]]
        found["decisions"] = decided.pack(numbers, simulated.because)
    return found


def ledger(simulated: Simulated) -> dict[str, bytes]:
    """The core's entries, a line of JSON each. A kernel keeps none: its fills say all that moved."""
    if not simulated.ledger:
        return {}
    return {"ledger": zlib.compress(_ENCODER.encode_lines(simulated.ledger), 1)}


def copy_trades(session: Session, lines: Sequence[str]) -> None:
    _copy(session, "run_trades", _TRADE_COLUMNS, lines)


def copy_fills(session: Session, lines: Sequence[str]) -> None:
    _copy(session, "run_fills", _FILL_COLUMNS, lines)


# Lines ------------------------------------------------------------------------------------------


def _copy(session: Session, table: str, names: str, lines: Sequence[str]) -> None:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for first in range(0, len(lines), LINES_AT_ONCE):
            copy.write("".join(lines[first : first + LINES_AT_ONCE]))


def trade_lines(run_id: int, trades: Trades) -> list[str]:
    """What COPY takes."""
    entered, left = _times(trades.entry_at), _times(trades.exit_at)
    tags = [_escaped(tag) for tag in trades.tags]
    lines = []
    for n, (row, entry_at, exit_at) in enumerate(zip(trades.rows(), entered, left, strict=True), 1):
        (
            instrument, side, quantity, _, entry_price, _, exit_price, fees, pnl, fraction, held, _,
            _, reason, tag,
        ) = row  # fmt: skip
        exit_text = _NULL if exit_at == _NULL else repr(exit_price)
        lines.append(
            f"{run_id}\t{n}\t{instrument}\t{'long' if side > 0 else 'short'}\t{quantity!r}\t{entry_at}"
            f"\t{entry_price!r}\t{exit_at}\t{exit_text}\t{fees!r}\t{pnl!r}\t{fraction!r}\t{held}"
            f"\t{REASONS[reason]}\t{tags[tag]}\n"
        )
    return lines


def fill_lines(run_id: int, fills: Fills) -> list[str]:
    """What COPY takes."""
    named = (
        fills.instrument, fills.side, fills.leg, fills.quantity, fills.price, fills.fee,
    )  # fmt: skip
    lists = (column.tolist() for column in named)
    return [
        f"{run_id}\t{n}\t{instrument}\t{'buy' if side > 0 else 'sell'}\t{LEGS[leg]}\t{quantity!r}"
        f"\t{price!r}\t{fee!r}\t{at}\n"
        for n, (instrument, side, leg, quantity, price, fee, at) in enumerate(
            zip(*lists, _times(fills.at), strict=True), 1
        )
    ]


def _escaped(text: str) -> str:
    for plain_one, written in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        if plain_one in text:
            text = text.replace(plain_one, written)
    return text


def _times(instants: Instants) -> list[str]:
    """As PostgreSQL reads them, in UTC; NULL for never."""
    texts: list[str] = np.datetime_as_string(
        (instants // 1000).view("datetime64[us]"), unit="us", timezone="UTC"
    ).tolist()
    never = np.flatnonzero(instants == NEVER)
    for row in never.tolist():
        texts[row] = _NULL
    return texts
