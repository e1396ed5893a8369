"""A run's rows: trades and fills by COPY, columns and decisions as bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy.orm import Session

from engine.backtest.results import LEGS, NEVER, REASONS, Fills, Simulated, Trades
from engine.bars import Instants, nanoseconds
from shared.db.backtests import RunSeriesRow
from shared.domain import decided, told

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


def store_columns(session: Session, run_id: int, columns: dict[str, npt.NDArray[Any]]) -> None:
    """Little-endian columns, a row each."""
    for name, column in columns.items():
        keep(session, run_id, name, squeezed(column.tobytes(), len(column)))


def squeezed(data: bytes, count: int) -> bytes:
    """zlib's format in any case, so that there is one way to read it."""
    return zlib.compress(data, 1 if count <= SQUEEZED_UP_TO else 0)


def keep(session: Session, run_id: int, name: str, data: bytes) -> None:
    session.add(RunSeriesRow(run_id=run_id, name=name, data=data))


def store_trades(session: Session, run_id: int, trades: Trades) -> None:
    _copy(session, "run_trades", _TRADE_COLUMNS, _trade_lines(run_id, trades))


def store_fills(session: Session, run_id: int, fills: Fills) -> None:
    _copy(session, "run_fills", _FILL_COLUMNS, _fill_lines(run_id, fills))


def store_decisions(
    session: Session, run_id: int, simulated: Simulated, instruments: Sequence[int]
) -> None:
    """The core's as it told them; of a kernel's the numbers, which `shared.domain.decided` puts in words.

    `instruments` are the ids of what was traded, in the order of the kernel's books.
    """
    if simulated.told:
        lines = [told.line_of(decision) for decision in simulated.told]
        at = [nanoseconds(decision.decided_at) for decision in simulated.told]
        keep(session, run_id, "told", told.pack(lines, at))
    if len(simulated.decisions):
        records = simulated.decisions
        columns = {name: records[name] for name in decided.COLUMNS if name != "instrument"}
        columns["instrument"] = np.array(instruments, np.int64)[records["book"]]
        keep(session, run_id, "decisions", decided.pack(columns, simulated.because))


def store_ledger(session: Session, run_id: int, simulated: Simulated) -> None:
    """The core's entries, a line of JSON each. A kernel keeps none: its fills say all that moved."""
    if simulated.ledger:
        lines = _ENCODER.encode_lines(simulated.ledger)
        keep(session, run_id, "ledger", zlib.compress(lines, 1))


# Lines ------------------------------------------------------------------------------------------


def _copy(session: Session, table: str, columns: str, lines: Iterable[str]) -> None:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    rows = list(lines)
    with driver.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for first in range(0, len(rows), LINES_AT_ONCE):
            copy.write("".join(rows[first : first + LINES_AT_ONCE]))


def _trade_lines(run_id: int, trades: Trades) -> Iterator[str]:
    entered, left = _times(trades.entry_at), _times(trades.exit_at)
    tags = [_escaped(tag) for tag in trades.tags]
    for n, (row, entry_at, exit_at) in enumerate(zip(trades.rows(), entered, left, strict=True), 1):
        (
            instrument, side, quantity, _, entry_price, _, exit_price, fees, pnl, fraction, held, _,
            _, reason, tag,
        ) = row  # fmt: skip
        exit_text = _NULL if exit_at == _NULL else repr(exit_price)
        yield (
            f"{run_id}\t{n}\t{instrument}\t{'long' if side > 0 else 'short'}\t{quantity!r}\t{entry_at}"
            f"\t{entry_price!r}\t{exit_at}\t{exit_text}\t{fees!r}\t{pnl!r}\t{fraction!r}\t{held}"
            f"\t{REASONS[reason]}\t{tags[tag]}\n"
        )


def _fill_lines(run_id: int, fills: Fills) -> Iterator[str]:
    columns = (
        fills.instrument, fills.side, fills.leg, fills.quantity, fills.price, fills.fee,
    )  # fmt: skip
    lists = (column.tolist() for column in columns)
    for n, (instrument, side, leg, quantity, price, fee, at) in enumerate(
        zip(*lists, _times(fills.at), strict=True), 1
    ):
        yield (
            f"{run_id}\t{n}\t{instrument}\t{'buy' if side > 0 else 'sell'}\t{LEGS[leg]}\t{quantity!r}"
            f"\t{price!r}\t{fee!r}\t{at}\n"
        )


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
