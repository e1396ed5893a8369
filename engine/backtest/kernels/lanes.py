"""Several rows at once, by the processor's wide registers, where the compiler would not see that it may.

Each gives what the same operations give row by row, to the last bit. On a processor without such registers
they are the same instructions, in halves or one by one.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from engine.backtest.kernels.columns import inserted, number, put
from engine.compiled import compiled

LANES: Final = 8
LOOKED_AT: Final = 64
"""Rows of a target that are looked at together: one bit each."""

_VECTOR: Final = ir.VectorType(ir.DoubleType(), LANES)
_ALIGNED: Final = 8  # a column begins anywhere


@compiled
def news(target: int, step: int, first: int, last: int, before: float, again: bool) -> int:
    """A bit for each of up to 64 rows of a target from `first` to `last`, set where it may say something new.

    New is a number that differs from the row before (`before`, for the first), or any number when `again`.
    """
    if step == 1 and first > 0 and first + LOOKED_AT <= last + 1:
        found = _news(target + 8 * first, again)
        # Not always the row before: a run that begins after history has heard nothing yet.
        asked = number(target, first)
        is_new = (again or asked != before) and asked == asked
        return (found & ~1) | is_new
    found = 0
    for k in range(min(LOOKED_AT, last + 1 - first)):
        asked = number(target, (first + k) * step)
        is_new = (again or asked != before) and asked == asked
        found |= is_new << k
        before = asked
    return found


@compiled
def call_in(column: int, row: int, bits: int) -> None:
    """Have numbers fetched that are needed soon: `row` on from where a bit is set. They are far apart."""
    while bits != 0:
        fetched(column + 8 * (row + first_bit(bits)))
        bits &= bits - 1


@compiled
def call_in_rows(column: int, first: int, end: int) -> None:
    """Have the first of the rows from `first` to before `end` fetched; the processor foresees the rest."""
    for row in range(first, min(end, first + 4 * LANES), LANES):
        fetched(column + 8 * row)


@compiled
def curve(cash: float, quantity: float, closes: int, equities: int, exposures: int,
          count: int, room: int) -> None:  # fmt: skip
    """Equity, and the part of it that is held, at `count` prices; all three by address.

    Whole blocks are written where there is `room` (moments): what goes beyond `count` is written anew when
    its time comes.
    """
    done = 0
    while done < count and done + LANES <= room:
        if quantity != 0:
            _marked(cash, quantity, closes + 8 * done, equities + 8 * done, exposures + 8 * done)
        else:
            _spread(equities + 8 * done, cash)
            _spread(exposures + 8 * done, 0.0)
        done += LANES
    while done < count:
        worth = cash + quantity * number(closes, done) if quantity != 0 else cash
        put(equities, done, worth)
        put(exposures, done, 0.0 if worth == cash else (worth - cash) / worth)
        done += 1


@compiled
def least_and_most(low: Any, high: Any, first: int, end: int) -> tuple[float, float]:
    """(lowest of `low`, highest of `high`) in the rows from `first` to before `end`; inf and -inf without any."""
    return least_and_most_at(low.ctypes.data, high.ctypes.data, first, end, len(low))


@compiled
def least_and_most_at(low: int, high: int, first: int, end: int, rows: int) -> tuple[float, float]:
    """The same of columns of `rows` by their addresses."""
    blocks = (end - first + LANES - 1) // LANES
    if first + blocks * LANES <= rows:
        return _extremes(low + 8 * first, high + 8 * first, end - first)
    lowest, highest = np.inf, -np.inf
    for row in range(first, end):
        lowest, highest = min(lowest, number(low, row)), max(highest, number(high, row))
    return lowest, highest


@inserted
def first_bit(_context: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set. There is one."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@inserted
def _news(_context: Any, address: Any, again: Any) -> Any:
    """Bits of the 64 rows at an address that differ from the row before each (or `again`), and are numbers."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        at, always = arguments
        every = builder.zext(always, ir.IntType(LANES))
        every = builder.sub(ir.Constant(ir.IntType(LANES), 0), every)  # all bits, or none
        found: Any = ir.Constant(ir.IntType(LOOKED_AT), 0)
        for row in range(0, LOOKED_AT, LANES):
            here, before = _load(builder, at, row), _load(builder, at, row - 1)
            other = builder.bitcast(builder.fcmp_unordered("!=", here, before), every.type)
            known = builder.bitcast(builder.fcmp_ordered("ord", here, here), every.type)
            bits = builder.zext(builder.and_(builder.or_(other, every), known), found.type)
            found = builder.or_(found, builder.shl(bits, ir.Constant(found.type, row)))
        return found

    return types.int64(types.int64, types.boolean), generate


@inserted
def _marked(
    _context: Any, cash: Any, quantity: Any, closes: Any, equities: Any, exposures: Any
) -> Any:
    """Equity and the part of it that is held, at the prices of one block."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        money, units = (_every(builder, one) for one in arguments[:2])
        prices = _load(builder, arguments[2], 0)
        worth = builder.fadd(money, builder.fmul(units, prices))
        share = builder.fdiv(builder.fsub(worth, money), worth)
        nothing = builder.fcmp_ordered("==", worth, money)
        _store(builder, arguments[3], worth)
        _store(builder, arguments[4], builder.select(nothing, _constant(0.0), share))
        return None

    floats, whole = (types.float64,) * 2, (types.int64,) * 3
    return types.void(*floats, *whole), generate


@inserted
def _extremes(_context: Any, low: Any, high: Any, count: Any) -> Any:
    """(least, most) of the first `count` numbers at two addresses. Whole blocks are read, the rest left out."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lows, highs, count_ = arguments
        of_block = ir.Constant(ir.VectorType(count_.type, LANES), list(range(LANES)))
        rows_up = builder.add(count_, ir.Constant(count_.type, LANES - 1))
        blocks = builder.sdiv(rows_up, ir.Constant(count_.type, LANES))

        def step(row: Any, found: Any) -> Any:
            rows = builder.add(_every(builder, row), of_block)
            wanted = builder.icmp_signed("<", rows, _every(builder, count_))
            low_ = builder.select(wanted, _load_at(builder, lows, row), _constant(math.inf))
            high_ = builder.select(wanted, _load_at(builder, highs, row), _constant(-math.inf))
            return _least(builder, low_, found[0]), _most(builder, high_, found[1])

        found = _gathered(builder, blocks, (math.inf, -math.inf), step)
        results = [
            _across(builder, of, one) for of, one in zip((_least, _most), found, strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(types.float64, 2)(types.int64, types.int64, types.int64), generate


@inserted
def summed(_context: Any, worths: Any, sizes: Any, blocks: Any) -> Any:
    """What `blocks` of eight numbers at two addresses come to, each in eight parts put together at the end.

    (sum of worths, the least, the most; sum of sizes without their signs, the most, how many are not 0).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        worth_at, size_at, blocks_ = arguments

        def step(row: Any, found: Any) -> Any:
            worth = _load_at(builder, worth_at, row)
            signed = _load_at(builder, size_at, row)
            size = _most(builder, builder.fneg(signed), signed)
            is_held = builder.fcmp_unordered("!=", size, _constant(0.0))
            return (
                builder.fadd(found[0], worth),
                _least(builder, worth, found[1]),
                _most(builder, worth, found[2]),
                builder.fadd(found[3], size),
                _most(builder, size, found[4]),
                builder.fadd(found[5], builder.uitofp(is_held, _VECTOR)),
            )

        found = _gathered(builder, blocks_, (0.0, math.inf, -math.inf, 0.0, 0.0, 0.0), step)
        ways = (_sum, _least, _most, _sum, _most, _sum)
        results = [_across(builder, way, one) for way, one in zip(ways, found, strict=True)]
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(types.float64, 6)(types.int64, types.int64, types.int64), generate


def _gathered(builder: Any, blocks: Any, begin: Any, step: Any) -> Any:
    """What `step(row, found)` made of blocks one after another; every lane begins with the numbers of `begin`."""
    places = [cgutils.alloca_once_value(builder, _constant(one)) for one in begin]
    with cgutils.for_range(builder, blocks) as loop:
        row = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
        found = step(row, [builder.load(place) for place in places])
        for value, place in zip(found, places, strict=True):
            builder.store(value, place)
    return [builder.load(place) for place in places]


def _across(builder: Any, way: Any, values: Any) -> Any:
    """The lanes put together to one number."""
    for apart in (4, 2, 1):
        turned = [(lane + apart) % LANES for lane in range(LANES)]
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), turned)
        values = way(builder, builder.shuffle_vector(values, values, places), values)
    return builder.extract_element(values, ir.Constant(ir.IntType(32), 0))


def _sum(builder: Any, values: Any, known: Any) -> Any:
    return builder.fadd(known, values)


def _least(builder: Any, values: Any, known: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", values, known), values, known)


def _most(builder: Any, values: Any, known: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", values, known), values, known)


@inserted
def fetched(_context: Any, address: Any) -> Any:
    """Ask for what lies there without waiting for it. Any address will do."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        number_ = ir.IntType(32)
        how = [ir.Constant(number_, one) for one in (0, 3, 1)]  # to read, into all caches, data
        type_ = ir.FunctionType(ir.VoidType(), [place.type, number_, number_, number_])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], type_)
        builder.call(fetch, [place, *how])
        return None

    return types.void(types.int64), generate


@inserted
def _spread(_context: Any, address: Any, value: Any) -> Any:
    """One number into a whole block."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        _store(builder, arguments[0], _every(builder, arguments[1]))
        return None

    return types.void(types.int64, types.float64), generate


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _load(builder: Any, address: Any, row: int) -> Any:
    return _load_at(builder, address, ir.Constant(address.type, row))


def _load_at(builder: Any, address: Any, row: Any) -> Any:
    there = builder.add(address, builder.mul(row, ir.Constant(row.type, 8)))
    return builder.load(builder.inttoptr(there, _VECTOR.as_pointer()), align=_ALIGNED)


def _store(builder: Any, address: Any, values: Any) -> None:
    builder.store(values, builder.inttoptr(address, _VECTOR.as_pointer()), align=_ALIGNED)


def _every(builder: Any, value: Any) -> Any:
    """A block of one number."""
    place = ir.Constant(ir.IntType(32), 0)
    block = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(block, ir.Undefined), value, place)
    return builder.shuffle_vector(
        one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )
