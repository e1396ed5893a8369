"""One day of one invented instrument: its quotes and trades as columns of whole ticks and lots.

Days can be made in any order: a cheap daily skeleton (`Climate`) fixes the price at each midnight,
and the day between two midnights is a bridge. Everything is drawn from generators keyed by
(seed, symbol, purpose, day), so the same key gives the same day on the same machine and numpy.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

DAY_MICROSECONDS: Final = 86_400_000_000

_MINUTES: Final = 1440
_STEPS_A_MINUTE: Final = 12  # the price moves, and is quoted, about every five seconds
_STEPS: Final = _MINUTES * _STEPS_A_MINUTE
_STEP_MICROSECONDS: Final = DAY_MICROSECONDS // _STEPS
_TICKS_A_MINUTE: Final = 11.5

_PULL: Final = 0.02  # of the way home in a day: the price stays within a plausible band for years
_CLUSTERING: Final = 0.5  # sd of log volatility within a day
_DAYS_CLUSTERING: Final = 0.25  # and from day to day
_DAYS_MEMORY: Final = 0.9
_JUMPS: Final = 3  # chances of a jump a day, each of one in three
_JUMP_SIZE: Final = (0.005, 0.02)
_DRY_SPELLS: Final = 1.2  # a day
_DRY_MINUTES: Final = (25, 60)


@dataclass(frozen=True, slots=True)
class Spec:
    """What an invented instrument is like. Fractions are of the price; values are in quote units.

    `minute_sigma` is the standard deviation of a calm minute's return, `minute_value` what trades
    in an ordinary one, `together` the correlation with the whole market's moves.
    """

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    price: float
    minute_sigma: float
    spread: float
    minute_value: float
    together: float = 0.6

    @property
    def ticks_per_unit(self) -> int:
        return _per_unit(self.tick_size)

    @property
    def lots_per_unit(self) -> int:
        return _per_unit(self.lot_size)


def _per_unit(grid: Decimal) -> int:
    """Grids are powers of ten, so that whole / per_unit is the float nearest to the decimal price."""
    return int(1 / grid)


@dataclass(frozen=True, slots=True)
class Day:
    """Times are microseconds since midnight UTC, never on a whole second, and never shared with
    another column of another instrument (see `_stamped`). Prices are in ticks, quantities in lots.
    """

    quoted_at: Whole
    bid: Whole
    ask: Whole
    traded_at: Whole
    price: Whole
    quantity: Whole


def generator(seed: int, symbol: str, purpose: str, day: int = 0) -> np.random.Generator:
    """The random numbers of one key. Days count from -1, the one before genesis."""
    words = [seed, zlib.crc32(f"{symbol}|{purpose}".encode()), day + 1]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@dataclass(frozen=True, slots=True)
class _Weather:
    """What the skeleton knows of one day."""

    level: float  # log distance from the ordinary price at its first midnight
    next_level: float
    calm: float  # log volatility at its first midnight
    next_calm: float
    jump_steps: Whole
    jump_sizes: Real


@dataclass(slots=True)
class Climate:
    """The daily skeleton of one instrument: levels and volatilities at every midnight.

    Grown by doubling. A longer draw begins with the shorter one, so growing changes no day.
    """

    seed: int
    spec: Spec
    _levels: list[float] = field(default_factory=list)
    _calms: list[float] = field(default_factory=list)
    _jumps: Real = field(default_factory=lambda: np.zeros((0, _JUMPS, 4)))

    def day(self, number: int) -> _Weather:
        while number + 1 >= len(self._levels):
            self._grow(max(512, 2 * len(self._levels)))
        steps, sizes = self._jumps_of(number)
        return _Weather(
            self._levels[number],
            self._levels[number + 1],
            self._calms[number],
            self._calms[number + 1],
            steps,
            sizes,
        )

    def _jumps_of(self, number: int) -> tuple[Whole, Real]:
        happens, size, sign, when = self._jumps[number].T
        least, most = _JUMP_SIZE
        sizes = (least + size * (most - least)) * np.where(sign < 0.5, -1.0, 1.0)
        happened = happens < 1 / _JUMPS
        return (when[happened] * _STEPS).astype(np.int64), sizes[happened]

    def _grow(self, days: int) -> None:
        symbol, together = self.spec.symbol, self.spec.together
        own = generator(self.seed, symbol, "levels").standard_normal(days)
        common = generator(self.seed, "market", "levels").standard_normal(days)
        shocks = (together * common + math.sqrt(1 - together**2) * own).tolist()
        calm_shocks = generator(self.seed, symbol, "calms").standard_normal(days).tolist()
        self._jumps = generator(self.seed, symbol, "jumps").random((days, _JUMPS, 4))
        sigma = self.spec.minute_sigma * math.sqrt(_MINUTES)
        surprise = _DAYS_CLUSTERING * math.sqrt(1 - _DAYS_MEMORY**2)
        level = calm = 0.0
        self._levels, self._calms = [level], [calm]
        for day in range(days - 1):
            jumped = float(self._jumps_of(day)[1].sum())
            level += -_PULL * level + sigma * math.exp(calm) * shocks[day] + jumped
            calm = _DAYS_MEMORY * calm + surprise * calm_shocks[day]
            self._levels.append(level)
            self._calms.append(calm)


def generate_day(seed: int, spec: Spec, number: int, weather: _Weather, place: int) -> Day:
    """Day `number` since genesis. `place` is the instrument's place among all specs."""
    random = generator(seed, spec.symbol, "day", number)
    gusts = _gusts(seed, spec.symbol, number)
    dry = _dry_minutes(random)
    calm = np.linspace(weather.calm, weather.next_calm, _MINUTES)
    # exp(c g - c^2) has a mean square of one: clustering moves volatility about, and adds none.
    rough = np.exp(calm + _CLUSTERING * gusts - _CLUSTERING**2) * np.where(dry, 0.3, 1.0)
    mid = _middle(seed, spec, number, weather, np.repeat(rough, _STEPS_A_MINUTE), random)
    quoted_at, bid, ask = _quotes(spec, mid, np.repeat(rough, _STEPS_A_MINUTE), random, place)
    busy = np.where(dry, 0.05, np.clip(np.sqrt(rough), 0.3, 3.0))
    traded_at = _tick_times(busy, random, place)
    quote = np.searchsorted(quoted_at, traded_at) - 1
    price = _tick_prices(bid[quote], ask[quote], random)
    size = np.where(dry, 0.2, np.clip(np.sqrt(rough), 0.3, 3.0))
    value = (spec.minute_value / _TICKS_A_MINUTE) * size[traded_at // 60_000_000]
    value *= np.exp(random.normal(-0.4, 0.9, len(traded_at)))  # a mean of one, and a fat tail
    lots = np.rint(value / (price / spec.ticks_per_unit) * spec.lots_per_unit)
    quantity = np.maximum(1, lots).astype(np.int64)
    return Day(quoted_at, bid, ask, traded_at, price, quantity)


_KERNEL: Final[Real] = np.exp(-np.arange(480) / 15) + 0.4 * np.exp(-np.arange(480) / 150)


def _gusts(seed: int, symbol: str, number: int) -> Real:
    """A standard normal for each minute, alike in neighbouring minutes, across midnight as well."""
    noise = [
        generator(seed, symbol, "gusts", day).standard_normal(_MINUTES)
        for day in (number - 1, number)
    ]
    kernel = _KERNEL / math.sqrt(float((_KERNEL**2).sum()))
    recent = np.concatenate(noise)[-(_MINUTES + len(kernel) - 1) :]
    return np.convolve(recent, kernel, mode="valid")


def _dry_minutes(random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Minutes in which hardly anybody trades."""
    dry = np.zeros(_MINUTES, dtype=np.bool_)
    for _ in range(random.poisson(_DRY_SPELLS)):
        begins, lasts = random.integers(_MINUTES), random.integers(*_DRY_MINUTES)
        dry[begins : begins + lasts] = True
    return dry


def _middle(
    seed: int,
    spec: Spec,
    number: int,
    weather: _Weather,
    rough: Real,
    random: np.random.Generator,
) -> Real:
    """The price between bid and ask at each step: a bridge from one midnight to the next, and jumps.

    The correction that makes the ends meet is spread by variance, as a Brownian bridge does, so
    the path of the day so far says nothing about the rest of it.
    """
    common = generator(seed, "market", "day", number).standard_normal(_STEPS)
    own = random.standard_normal(_STEPS)
    shocks = spec.together * common + math.sqrt(1 - spec.together**2) * own
    walked = np.cumsum(spec.minute_sigma / math.sqrt(_STEPS_A_MINUTE) * rough * shocks)
    variance = np.cumsum(rough**2)
    goes = weather.next_level - weather.level - float(weather.jump_sizes.sum())
    path = walked - variance / variance[-1] * (walked[-1] - goes)
    jumps = np.zeros(_STEPS)
    np.add.at(jumps, weather.jump_steps, weather.jump_sizes)
    path += np.cumsum(jumps)
    before = np.concatenate([[0.0], path[:-1]])  # the last step is the next day's first quote
    return spec.price * np.exp(weather.level + before)


def _quotes(
    spec: Spec, mid: Real, rough: Real, random: np.random.Generator, place: int
) -> tuple[Whole, Whole, Whole]:
    """(time, bid, ask) once a step. The first is at midnight, so that every trade has a quote."""
    later = random.integers(0, _STEP_MICROSECONDS, _STEPS)
    later[0] = 0
    quoted_at = _stamped(np.arange(_STEPS) * _STEP_MICROSECONDS + later, 2 * place + 1)
    wide = spec.spread * np.sqrt(rough) * np.exp(0.3 * random.standard_normal(_STEPS))
    ticks = mid * spec.ticks_per_unit
    spread = np.maximum(1, np.rint(ticks * wide)).astype(np.int64)
    bid = np.maximum(1, np.rint(ticks - spread / 2)).astype(np.int64)
    return quoted_at, bid, bid + spread


def _tick_times(busy: Real, random: np.random.Generator, place: int) -> Whole:
    counts = random.poisson(_TICKS_A_MINUTE * busy)
    minute = np.repeat(np.arange(_MINUTES), counts)
    times = minute * 60_000_000 + random.integers(0, 60_000_000, len(minute))
    return np.unique(_stamped(times, 2 * place + 2))


def _stamped(times: Whole, digit: int) -> Whole:
    """Times whose last digit names column and instrument, so that no two events share an instant."""
    return times - times % 10 + digit


def _tick_prices(bid: Whole, ask: Whole, random: np.random.Generator) -> Whole:
    """Buyers pay the ask, sellers get the bid; now and then an order eats its way up to 3 ticks deeper."""
    buys = random.random(len(bid)) < 0.5
    deeper = random.integers(1, 4, len(bid)) * (random.random(len(bid)) < 0.06)
    return np.maximum(1, np.where(buys, ask + deeper, bid - deeper))
