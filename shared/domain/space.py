"""The values that parameters may take together: axes, constraints between them, and numbered combinations.

The console counts with this, the engine searches with it. Nothing here evaluates code: a constraint is
read into a tree of comparisons and arithmetic, and whatever else it holds is refused.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

METHODS: Final = ("grid", "random", "bayes")
MOST_POINTS: Final = 100_000
"""Combinations a sweep may have."""

MOST_TRIALS: Final = {"random": 20_000, "bayes": 5_000}
MOST_RAW: Final = 4_000_000
"""Combinations that are looked at one by one before constraints take some away."""

MOST_VALUES: Final = 10_000
LONGEST_CONSTRAINT: Final = 200
DIGITS: Final = 6
"""Significant digits of a value drawn from a range without a step."""

Column = npt.NDArray[Any]
Combination = dict[str, Any]
Keep = Callable[[Combination], bool]


class BadSpace(ValueError):
    """A space that cannot be searched: names the field, the value, and what to give instead."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


# --- axes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter and the values it may take: some `values`, or with none, anything in [low, high]."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def is_continuous(self) -> bool:
        return not self.values

    @property
    def is_fixed(self) -> bool:
        return len(self.values) == 1

    @property
    def is_ordered(self) -> bool:
        """Whether its values are numbers, so that one lies beside another."""
        return self.is_continuous or all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in self.values
        )

    def as_json(self) -> dict[str, Any]:
        if self.is_continuous:
            return {"name": self.name, "low": self.low, "high": self.high}
        return {"name": self.name, "values": list(self.values)}


def axis_from(given: Mapping[str, Any]) -> Axis:
    """An axis from {"name", "values"} or {"name", "low", "high"[, "step"]}.

    Numbers that are all whole make whole values, a step of 1 unless one is given.
    """
    name = str(given.get("name", ""))
    if "values" in given:
        return _listed(name, given["values"])
    low, high = (_number(name, given.get(key)) for key in ("low", "high"))
    step = None if given.get("step") in (None, "") else _number(name, given["step"])
    if low > high:
        raise BadSpace(name, f"{_told(low)} is above {_told(high)}: give the lower end first")
    if step is None and isinstance(low, int) and isinstance(high, int):
        step = 1
    if low == high:
        return Axis(name, (low,))
    if step is None:
        return Axis(name, (), float(low), float(high))
    return Axis(name, _stepped(name, low, high, step))


def parse_axis(name: str, text: str) -> Axis:
    """`5:24`, `30:129:5`, `0.1:0.5:0.1`, `a,b,c` or one value."""
    if ":" not in text:
        return _listed(name, [_scalar(part.strip()) for part in text.split(",")])
    parts = [part.strip() for part in text.split(":")]
    if not 2 <= len(parts) <= 3:
        raise BadSpace(name, f"{text!r} is no range: write LOW:HIGH or LOW:HIGH:STEP")
    keys = ("low", "high", "step")
    return axis_from({"name": name, **dict(zip(keys, map(_scalar, parts), strict=False))})


def _listed(name: str, values: Any) -> Axis:
    if not isinstance(values, list | tuple) or not values or "" in values:
        raise BadSpace(name, "there is no value to try: give at least one")
    distinct = tuple(dict.fromkeys((type(value), value) for value in values))
    if len(distinct) > MOST_VALUES:
        raise BadSpace(name, f"{len(distinct):,} values are too many: at most {MOST_VALUES:,}")
    return Axis(name, tuple(value for _, value in distinct))


def _stepped(name: str, low: float, high: float, step: float) -> tuple[Any, ...]:
    if step <= 0:
        raise BadSpace(name, f"a step of {_told(step)} leads nowhere: give one above 0")
    count = math.floor((high - low) / step + 1e-9) + 1
    if count > MOST_VALUES:
        raise BadSpace(name, f"{count:,} values are too many: give a larger step")
    if all(isinstance(part, int) for part in (low, high, step)):
        return tuple(range(int(low), int(high) + 1, int(step)))
    return tuple(round(low + number * step, 12) for number in range(count))


def _scalar(text: str) -> Any:
    """A value as it is typed at a command line."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(name: str, value: Any) -> int | float:
    number = _scalar(value) if isinstance(value, str) else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not math.isfinite(number):
        raise BadSpace(name, f"{value!r} is not a number")
    assert isinstance(number, int | float)
    return number


def _told(number: float) -> str:
    return f"{number:.12g}"


# --- constraints ------------------------------------------------------------------------------------

_COMPARE: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_COUNT: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_GRAMMAR: Final = "compare parameters and numbers with < <= > >= == != + - * / // % and or not"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on parameters, such as `short_window < long_window`."""

    text: str
    tree: ast.expr

    def holds(self, columns: Mapping[str, Column]) -> npt.NDArray[np.bool_]:
        """bool[rows]: where it is true. What cannot be compared (a division by zero) is not."""
        with np.errstate(all="ignore"):
            try:
                return np.asarray(_found(self.tree, columns), dtype=bool)
            except TypeError as error:
                raise BadSpace(self.text, "this compares a word with a number") from error


def parse_constraint(text: str, names: Iterable[str]) -> Constraint:
    """A constraint over parameters of these names; BadSpace says what it may hold."""
    if len(text) > LONGEST_CONSTRAINT:
        raise BadSpace(
            f"{text[:40]}…", f"longer than {LONGEST_CONSTRAINT} characters: give it in parts"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadSpace(text, f"not understood: {_GRAMMAR}") from None
    _check(tree, frozenset(names), text)
    if not _is_condition(tree):
        raise BadSpace(text, f"this is no condition: {_GRAMMAR}")
    return Constraint(text.strip(), tree)


def _is_condition(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Compare | ast.BoolOp) or (
        isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    )


def _check(node: ast.expr, names: frozenset[str], text: str) -> None:
    """Every part is one of the few that are allowed, and every name a parameter."""
    match node:
        case ast.Name(id=name):
            if name not in names:
                known = ", ".join(sorted(names)) or "none"
                raise BadSpace(text, f"{name} is no parameter here (known: {known})")
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.BoolOp(values=parts):
            for part in parts:
                _check(part, names, text)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=inner):
            _check(inner, names, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COUNT:
            _check(left, names, text)
            _check(right, names, text)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARE for op in ops
        ):
            for part in (left, *others):
                _check(part, names, text)
        case _:
            raise BadSpace(text, f"{ast.unparse(node)} is not allowed: {_GRAMMAR}")


def _found(node: ast.expr, columns: Mapping[str, Column]) -> Any:
    match node:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=value):
            return float(value) if isinstance(value, int | float) else value
        case ast.BoolOp(op=op, values=parts):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            found = [_found(part, columns) for part in parts]
            return join.reduce(np.broadcast_arrays(*found))
        case ast.UnaryOp(op=op, operand=inner):
            value = _found(inner, columns)
            if isinstance(op, ast.Not):
                return np.logical_not(value)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            divisor = np.asarray(_found(right, columns))
            if isinstance(op, ast.Div | ast.FloorDiv | ast.Mod):
                divisor = np.where(divisor == 0, np.nan, divisor)
            return _COUNT[type(op)](np.asarray(_found(left, columns)), divisor)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_found(part, columns) for part in (left, *others)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            held = [_COMPARE[type(op)](one, other) for op, one, other in pairs]
            return np.logical_and.reduce(np.broadcast_arrays(*held))
    raise AssertionError(node)  # pragma: no cover  (`_check` let nothing else through)


# --- combinations -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched: axes in the order they were given, and conditions on them."""

    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def raw(self) -> float:
        """Combinations before constraints; infinite with a range that has no step."""
        if any(axis.is_continuous for axis in self.axes):
            return math.inf
        return math.prod(len(axis.values) for axis in self.axes)

    def allowed(self, columns: Mapping[str, Column]) -> npt.NDArray[np.bool_]:
        """bool[rows]: where every constraint holds."""
        rows = len(next(iter(columns.values()))) if columns else 1
        allowed = np.ones(rows, dtype=bool)
        if not self.constraints:
            return allowed
        comparable = {name: _comparable(column) for name, column in columns.items()}
        for constraint in self.constraints:
            allowed &= np.broadcast_to(constraint.holds(comparable), rows)
        return allowed


def space_from(axes: Iterable[Mapping[str, Any]], constraints: Iterable[str]) -> Space:
    """A space from JSON; BadSpace names the field."""
    found = tuple(axis_from(given) for given in axes)
    names = [axis.name for axis in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadSpace(sorted(twice)[0], "is given twice: give each parameter once")
    read = tuple(parse_constraint(text, names) for text in constraints if text.strip())
    return Space(found, read)


def _comparable(column: Column) -> Column:
    """Numbers as float64, words as they are."""
    return column if column.dtype.kind in "OUS" else column.astype(np.float64)


def grid(space: Space, keep: Keep | None = None) -> list[Combination]:
    """Every combination that is allowed, the last parameter changing fastest; BadSpace if they are too many."""
    places = _allowed_places(space)
    if keep is None and len(places) > MOST_POINTS:
        raise _too_many(len(places))
    found = [c for c in _at(space, places) if keep is None or keep(c)]
    if len(found) > MOST_POINTS:
        raise _too_many(len(found))
    return found


def count(space: Space) -> int:
    """How many combinations a grid has, constraints applied."""
    return len(_allowed_places(space))


def _too_many(count: int) -> BadSpace:
    return BadSpace(
        "space",
        f"{count:,} combinations are more than {MOST_POINTS:,}: give larger steps or fewer parameters,"
        " or search at random",
    )


def _allowed_places(space: Space) -> npt.NDArray[np.int64]:
    """The raw numbers of the combinations that constraints allow."""
    for axis in space.axes:
        if axis.is_continuous:
            raise BadSpace(axis.name, "a grid needs a step: give one, or search at random")
    if space.raw > MOST_RAW:
        raise _too_many(int(space.raw))
    places = np.arange(int(space.raw))
    return places[space.allowed(_columns(space, places))] if space.constraints else places


def _columns(space: Space, places: npt.NDArray[np.int64]) -> dict[str, Column]:
    """The value of every axis at these raw numbers."""
    shape = [len(axis.values) for axis in space.axes]
    indices = np.unravel_index(places, shape) if shape else ()
    return {
        axis.name: _as_column(axis)[index] for axis, index in zip(space.axes, indices, strict=True)
    }


def _as_column(axis: Axis) -> Column:
    """Its values, kept as the Python values they are."""
    column = np.empty(len(axis.values), dtype=object)
    column[:] = axis.values
    return column if not axis.is_ordered else np.array(axis.values)


_AT_ONCE: Final = 4096


def _at(space: Space, places: npt.NDArray[np.int64]) -> Iterator[Combination]:
    for first in range(0, len(places), _AT_ONCE):
        yield from _rows(_columns(space, places[first : first + _AT_ONCE]))


def _rows(columns: Mapping[str, Column]) -> Iterator[Combination]:
    names = list(columns)
    if not names:
        yield {}
        return
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(names, values, strict=True))


def drawn(
    space: Space,
    wanted: int,
    seed: int | Sequence[int],
    keep: Keep | None = None,
    but: Iterable[Combination] = (),
) -> list[Combination]:
    """`wanted` different combinations at random; fewer where there are no more, or none are found.

    None of `but` is drawn again. The same space and seed give the same ones in the same order.
    """
    random = np.random.default_rng(seed)
    seen = {_key(combination) for combination in but}
    if space.raw <= MOST_RAW:
        places = _allowed_places(space)
        return _taken(_at(space, random.permutation(places)), wanted, seen, keep)
    found: list[Combination] = []
    for _ in range(_BLOCKS):
        columns = {axis.name: _draw(axis, random, _AT_ONCE) for axis in space.axes}
        allowed = space.allowed(columns)
        rows = _rows({name: column[allowed] for name, column in columns.items()})
        found += _taken(rows, wanted - len(found), seen, keep)
        if len(found) >= wanted:
            break
    return found


_BLOCKS: Final = 100


def _taken(
    rows: Iterable[Combination], wanted: int, seen: set[Any], keep: Keep | None
) -> list[Combination]:
    """The first `wanted` of rows that are new and wanted; `seen` grows by them."""
    found: list[Combination] = []
    for row in rows:
        if len(found) >= wanted:
            break
        key = _key(row)
        if key in seen or (keep is not None and not keep(row)):
            continue
        seen.add(key)
        found.append(row)
    return found


def _draw(axis: Axis, random: np.random.Generator, rows: int) -> Column:
    if not axis.is_continuous:
        return _as_column(axis)[random.integers(0, len(axis.values), rows)]
    return np.array([rounded(axis, value) for value in random.uniform(axis.low, axis.high, rows)])


def rounded(axis: Axis, value: float) -> float:
    """A value of a continuous axis with as many digits as anybody reads, still inside."""
    return min(max(float(f"{value:.{DIGITS}g}"), axis.low), axis.high)


def _key(combination: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(combination.values())
