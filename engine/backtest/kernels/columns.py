"""Columns of many bar series by their addresses, so that none is copied and all lengths may differ."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.backtest.kernels.layout import SLOTS
from engine.compiled import compiled

# What a strategy says, in the order of `layout.WANT`.
TARGET: Final = 0
ENTRY_PRICE: Final = 1
STOP_LOSS_FRACTION: Final = 2
STOP_LOSS_DISTANCE: Final = 3
TAKE_PROFIT_FRACTION: Final = 4
TAKE_PROFIT_DISTANCE: Final = 5
TRAILING_FRACTION: Final = 6
TRAILING_DISTANCE: Final = 7
WANTS: Final = 8

_array: Any = numba.carray  # type: ignore[attr-defined]
inserted: Any = intrinsic
"""Instructions of our own in compiled code."""


@inserted
def nth(_context: Any, record: Any, number: Any) -> Any:
    """The record `number` places after this one. Records are bare pointers: nobody counts references."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        pointer, index = arguments
        offset = builder.mul(index, index.type(record.size))
        return cgutils.pointer_add(builder, pointer, offset, pointer.type)

    return record(record, types.int64), generate


@inserted
def copy(_context: Any, target: Any, source: Any) -> Any:
    """Make one record equal to another of its type."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        to, of = arguments
        cgutils.raw_memcpy(builder, to, of, cgutils.intp_t(target.size), 1)
        return cgutils.true_bit

    return types.boolean(target, source), generate


def record_at(layout: Any) -> Any:
    """A function from an address to the record of this layout that lies there."""
    type_: Any = numba.from_dtype(layout)

    @inserted
    def found(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(type_))

        return type_(types.int64), generate

    return found


@compiled
def order_of(orders: Any, i: int, slot: int) -> Any:
    """The order in a slot of the i-th instrument."""
    return nth(orders, i * SLOTS + slot)


@inserted
def _pointer(_context: Any, address: Any) -> Any:
    """An address as a pointer. Whoever gave the address keeps its array alive."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@compiled
def number(address: int, row: int) -> float:
    """float64 at `row`."""
    return _array(_pointer(address), (row + 1,), np.float64)[row]


@compiled
def whole(address: int, row: int) -> int:
    """int64 at `row`."""
    return _array(_pointer(address), (row + 1,), np.int64)[row]


@compiled
def flag(address: int, row: int) -> int:
    """bool at `row`, as 0 or 1."""
    return _array(_pointer(address), (row + 1,), np.int8)[row]


@compiled
def put(address: int, row: int, value: float) -> None:
    """Write float64 at `row`."""
    _array(_pointer(address), (row + 1,), np.float64)[row] = value
