"""The records compiled code works on. One `BOOK` an instrument, its orders in fixed slots."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]

# Slots of one instrument's orders. The new ones wait for the end of the moment that decided them.
EXIT: Final = 0
ENTRY: Final = 1
STOP_LOSS: Final = 2
TAKE_PROFIT: Final = 3
TRAILING_STOP: Final = 4
NEW_EXIT: Final = 5
NEW_ENTRY: Final = 6
SLOTS: Final = 7

# Types of orders a strategy can make.
MARKET: Final = 0
LIMIT: Final = 1
STOP: Final = 2
TRAILING: Final = 3

# Kinds of decisions, their outcomes, and why nothing was traded, as `shared.domain.decided` names them.
SIGNAL: Final = 0
TIME_EXIT: Final = 1
LIQUIDATION: Final = 2

ORDERED: Final = 0
DENIED: Final = 1
NOTHING: Final = 2

NO_PRICE: Final = 1
NOTHING_HELD: Final = 2
NO_CASH: Final = 3
TOO_SMALL: Final = 4
NO_VOLATILITY: Final = 5
AS_WANTED: Final = 6
NO_LOT: Final = 7
NOT_YET_KNOWN: Final = 8

# Legs as `engine.backtest.results.LEGS` counts them.
LEG_EXIT: Final = 1
LEG_TIME_EXIT: Final = 5
LEG_LIQUIDATION: Final = 6

# How sizes are worked out: the order of `engine.sizing.METHODS`.
FRACTION: Final = 0
CASH: Final = 1
QUANTITY: Final = 2
VALUE: Final = 3
VOLATILITY: Final = 4

# Why the loop gave control back.
DONE: Final = 0
FULL: Final = 4  # no room for more fills or decisions: make some, go on
BAD_SIGNAL: Final = 3  # the core says what is wrong with it

DUST: Final = 1e-9
"""Of equity: `engine.sizing`."""

TIERS: Final = 12
"""Fee tiers a kernel has room for."""

TIER_DAYS: Final = 30

ORDER: Final = np.dtype(
    [
        ("works", "i8"),
        ("type", "i8"),
        ("side", "i8"),
        ("leg", "i8"),
        ("by_value", "i8"),
        ("reduce_only", "i8"),
        ("resting", "i8"),
        ("over", "i8"),  # it traded in this bar; what is left of it waits for the next
        ("has_legs", "i8"),  # legs wait for its first fill
        ("legs", "i8", (3,)),  # their slots, in the order the strategy names them; 0 for none
        ("quantity", "f8"),  # left to trade
        ("value", "f8"),  # left to trade
        ("asked", "f8"),  # quantity or value, as it was asked for
        ("limit", "f8"),
        ("stop", "f8"),
        ("trail", "f8"),
        ("trail_fraction", "f8"),
        ("best", "f8"),
        ("active_from", "i8"),
        ("sequence", "i8"),
        ("filled", "f8"),
        ("filled_value", "f8"),
        ("fees", "f8"),
        ("owed", "f8"),
        ("decision", "i8"),
        ("tag", "i8"),
        # Of the legs an entry brings along: fraction or distance, NaN where it is the other one.
        ("stop_loss_fraction", "f8"),
        ("stop_loss_distance", "f8"),
        ("take_profit_fraction", "f8"),
        ("take_profit_distance", "f8"),
        ("trailing_fraction", "f8"),
        ("trailing_distance", "f8"),
    ],
    align=True,
)

BOOK: Final = np.dtype(
    [
        # what is held
        ("quantity", "f8"),
        ("cost", "f8"),
        ("realised", "f8"),
        ("fees", "f8"),
        ("opened_at", "i8"),
        ("mark", "f8"),
        ("has_mark", "i8"),
        ("first", "i8"),  # it was traded once
        # where the strategy stands
        ("target", "f8"),
        ("before", "f8"),
        ("asked", "f8"),
        ("age", "i8"),
        ("time_exit", "i8"),
        # the instrument
        ("id", "i8"),
        ("booked", "i8"),  # of all books together: see kernels/books.py
        ("has_lot", "i8"),
        ("lot", "f8"),
        ("lot_over", "f8"),  # lot = lot_over / lot_under, both whole
        ("lot_under", "f8"),
        ("has_tick", "i8"),
        ("tick", "f8"),
        ("tick_over", "f8"),
        ("tick_under", "f8"),
        ("min_quantity", "f8"),
        ("min_value", "f8"),
        ("taker_rate", "f8"),
        ("maker_rate", "f8"),
        ("taker_tiers", "i8"),
        ("maker_tiers", "i8"),
        ("top_rate", "f8"),
        ("bars_per_year", "f8"),
        # its bars
        ("rows", "i8"),
        ("ahead", "f8"),  # the next open, read early so that it is near when an order fills at it
        ("row", "i8"),  # the newest that closed; -1 before the first
        ("asked_row", "i8"),  # the same in the bars decisions are made on
        ("closes_now", "i8"),
        # this bar's volume: what orders may still take, and all of it
        ("limited", "i8"),
        ("budget", "f8"),
        ("volume", "f8"),
        ("cancels", "i8"),  # what works is cancelled at the end of the moment
        ("works", "i8"),  # orders at work
        ("pending", "i8"),  # it was decided about in this moment
        ("decided", "i8"),  # of all books together: the number of the k-th that was
    ],
    align=True,
)

ACCOUNT: Final = np.dtype(
    [
        ("cash", "f8"),
        ("capital", "f8"),
        ("peak", "f8"),
        ("equity", "f8"),
        ("sequence", "i8"),
        ("decisions", "i8"),  # decided so far; recorded ones may be fewer
        ("booked", "i8"),  # instruments that were traded
        ("fills", "i8"),
        ("entered", "i8"),  # how often something was bought from flat, in a plain run
        ("records", "i8"),
        ("called", "i8"),
        ("moment_at", "i8"),  # the newest closed moment; 0 before the first
        ("moment", "i8"),  # the next to close
        ("clock_row", "i8"),
        ("works", "i8"),  # orders at work, all instruments together
        ("pending", "i8"),  # instruments this moment decided about
        ("count", "i8"),  # instruments
        # what waits for the next open in a plain run: units to sell, units to buy, money to spend
        ("leaving", "f8"),
        ("entering", "f8"),
        ("spending", "f8"),
        ("fills_room", "i8"),
        ("records_room", "i8"),
        # addresses
        ("times", "i8"),
        ("clock", "i8"),
        ("clock_rows", "i8"),
        ("equities", "i8"),
        ("exposures", "i8"),
        # counts
        ("orders", "i8"),
        ("rejected", "i8"),
        ("partly_filled", "i8"),
        ("denied", "i8"),
        ("ambiguous", "i8"),
        ("slippage", "f8"),
        ("spread", "f8"),
        ("borrowing", "f8"),
        ("fees", "f8"),
        ("traded_day", "i8", (TIER_DAYS,)),
        ("traded_value", "f8", (TIER_DAYS,)),
    ],
    align=True,
)

SETTINGS: Final = np.dtype(
    [
        # costs
        ("slippage_rate", "f8"),
        ("slippage_fixed", "f8"),
        ("impact", "f8"),
        ("half_spread", "f8"),
        ("fee_per_unit", "f8"),
        ("fee_minimum", "f8"),
        ("tiers", "i8"),
        ("tier_least", "f8", (TIERS,)),
        ("tier_rate", "f8", (TIERS,)),
        ("top_rate", "f8"),
        # sizing
        ("method", "i8"),
        ("fraction", "f8"),
        ("units", "f8"),
        ("amount", "f8"),
        ("annual_volatility", "f8"),
        ("volatility_window", "i8"),
        ("band", "f8"),
        ("has_band", "i8"),
        # matching
        ("path", "i8"),
        ("volume_share", "f8"),  # NaN: volume is no limit
        # margin
        ("margin", "i8"),
        ("leverage", "f8"),
        ("borrow_rate", "f8"),
        ("call_level", "f8"),
        ("liquidation_level", "f8"),
        # rules: NaN where one is off
        ("max_order", "f8"),
        ("max_drawdown", "f8"),
        ("max_share", "f8"),
        ("max_volatility", "f8"),
        ("rule_volatility_window", "i8"),
        ("max_of_volume", "f8"),
        ("rule_liquidity_window", "i8"),
        ("max_positions", "f8"),
        # what the strategy asks for
        ("legs", "i8", (3,)),  # slots of the exits, in the order the strategy names them
        ("time_exit", "i8"),
        ("counts_age", "i8"),  # a time exit may still come
        ("entry_type", "i8"),
        ("tag", "i8"),
        ("again", "i8"),  # a target acts though it repeats the one before
        # how the bars lie
        ("aligned", "i8"),  # fills are taken from the bars that decisions are made on
        ("one", "i8"),  # and they are one series, and the clock
        ("grid", "i8"),  # and all series and the clock close together
        ("quiet_bars", "i8"),  # some bars were put in where nothing traded
        ("needs_volume", "i8"),
        ("side_by_side", "i8"),  # and so do the targets of a moment; see loop.hear
        ("plain", "i8"),  # see kernels/plain.py
        ("records_decisions", "i8"),
        ("only_counts", "i8"),  # fills leave no record
    ],
    align=True,
)

PLACE: Final = np.dtype(
    [
        # addresses of what fills and marks are taken from
        ("open", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("close", "i8"),
        ("volume", "i8"),
        ("filled", "i8"),
        ("opened_at", "i8"),
        ("closed_at", "i8"),
        # and of the bars that decisions are made on
        ("asked_close", "i8"),
        ("asked_volume", "i8"),
        ("asked_closed_at", "i8"),
        ("asked_rows", "i8"),
    ],
    align=True,
)

WANT: Final = np.dtype(
    # A step of 0 is one number for all rows; an address of 0 is nothing said.
    [("address", "i8", (8,)), ("step", "i8", (8,))],
    align=True,
)

READY: Final = np.dtype(
    [("book", "i8"), ("slot", "i8"), ("maker", "i8"), ("sequence", "i8")], align=True
)
"""An order that acts at the open of its bar."""

FILL: Final = np.dtype(
    [
        ("book", "i4"),
        ("tag", "i4"),
        ("side", "i1"),
        ("leg", "i1"),
        # what a strategy that hears of its fills is told
        ("maker", "i1"),
        ("last", "i1"),
        ("decision", "i8"),
        # and of all
        ("at", "i8"),
        ("quantity", "f8"),
        ("price", "f8"),
        ("raw", "f8"),
        ("fee", "f8"),
    ],
    align=True,
)
"""A fill: 64 bytes, one line of a processor's cache."""

DECISION: Final = np.dtype(
    [
        ("at", "i8"),
        ("book", "i8"),
        ("kind", "i8"),
        ("outcome", "i8"),
        ("row", "i8"),  # of the clock
        ("bar", "i8"),  # row of the instrument's own bars; -1 without one
        ("target", "f8"),
        ("previous", "f8"),
        ("price", "f8"),
        # what sizing read
        ("equity", "f8"),
        ("cash", "f8"),
        ("held", "f8"),
        ("volatility", "f8"),  # NaN: not asked for, or not known yet
        # what came of it
        ("change", "f8"),
        ("value", "f8"),
        # what the rules read; NaN where they were not asked
        ("order_value", "f8"),
        ("exposure_after", "f8"),
        ("account_equity", "f8"),
        ("peak", "f8"),
        ("positions_after", "f8"),
        ("margin_after", "f8"),
        ("rule_volatility", "f8"),
        ("mean_value", "f8"),
        ("reason", "i8"),
        ("tag", "i8"),
    ],
    align=True,
)

WORTH: Final = np.dtype(
    [
        ("bars", "i8"),
        ("before", "f8"),  # the newest marked equity
        ("total", "f8"),  # of returns from bar to bar
        ("squares", "f8"),
        ("peak", "f8"),
        ("lowest", "f8"),  # the deepest fall from a peak, as a fraction
        ("floor", "f8"),  # equity that would be as deep a fall
        # rows that end a day, and equity there
        ("day", "i8"),
        ("days", "i8"),
        ("day_rows", "i8"),
        ("day_equity", "i8"),
        # running sums of the price's returns and of their squares, side by side
        ("returns", "i8"),
    ],
    align=True,
)
"""What a run came to."""
