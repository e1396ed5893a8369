"""Whether the rows of an installation agree with each other: every way they could not is named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from engine.books import holdings, instruments_of
from engine.bootstrap import simulated_market
from engine.live import BASE_INTERVAL
from shared.db.market import BarRow
from shared.db.trading import (
    AccountRow,
    DecisionRow,
    EventRow,
    FillRow,
    LedgerEntryRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyRow,
)
from shared.domain import orders
from shared.domain.ledger import HOLDING, entries_of
from shared.domain.orders import DONE
from shared.domain.positions import Position
from shared.domain.story import differences, fill_of, recorded_of, request_of, tell

_ZERO = Decimal(0)
_LAST_DIGITS = Decimal("1e-18")


def disagreements(engine: sa.Engine) -> list[str]:
    """One line for everything that is not as promised; none when all is well."""
    with engine.connect() as connection:
        books = _Books(connection)
        return [
            *books.orders_without_intent_or_intents_without_order(),
            *books.orders_that_are_not_their_events(),
            *books.orders_never_sent(),
            *books.decisions_without_their_orders(),
            *books.fills_twice_or_not_in_their_order(),
            *books.ledger_against_fills(),
            *books.positions_against_fills(),
            *books.holdings_against_positions(),
            *books.standings_against_positions(),
            *books.breaks(),
        ]


class _Books:
    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.accounts = {row.id: row for row in self._all(AccountRow)}
        self.intents = {row.client_order_id: row for row in self._all(OrderIntentRow)}
        self.orders = {row.client_order_id: row for row in self._all(OrderRow)}
        self.decisions = {row.id: row for row in self._all(DecisionRow)}
        self.fills = self._all(FillRow, FillRow.id)
        self.events = defaultdict(list)
        for row in self._all(OrderEventRow, OrderEventRow.id):
            self.events[row.client_order_id].append(row)
        self.fill_of = {(row.client_order_id, row.venue_fill_id): row for row in self.fills}
        self.instruments = {
            id_: instrument
            for venue in {row.venue for row in self.accounts.values()}
            for id_, instrument in instruments_of(connection, venue).items()
        }

    def _all(self, row: Any, order: Any = None) -> list[Any]:
        query = sa.select(row.__table__)
        return list(self.connection.execute(query if order is None else query.order_by(order)))

    def orders_without_intent_or_intents_without_order(self) -> Iterator[str]:
        for id_ in self.intents.keys() ^ self.orders.keys():
            yield f"order {id_} has an intent or an order row, but not both"

    def orders_that_are_not_their_events(self) -> Iterator[str]:
        fills = defaultdict(list)
        for row in self.fills:
            fills[row.client_order_id].append(fill_of(row))
        for id_, row in self.orders.items():
            events = [recorded_of(event) for event in self.events[id_]]
            story = tell(request_of(self.intents[id_]), events, fills[id_])
            yield from (f"order {id_}: {problem}" for problem in story.problems)
            for found in differences(story, row):
                yield f"order {id_}: {found.name} is {found.row}, its events say {found.events}"

    def orders_never_sent(self) -> Iterator[str]:
        """Released, and not with the broker although its moment is over."""
        for id_, row in self.orders.items():
            account = self.accounts[row.account_id]
            if row.state == "new" and row.decided_at < account.market_time:
                yield f"order {id_} of {row.decided_at} was never sent by {account.market_time}"
            if row.state != "new" and not self.events[id_]:
                yield f"order {id_} is {row.state} and heard nothing"

    def decisions_without_their_orders(self) -> Iterator[str]:
        legs = Counter(
            (i.decision_id, i.leg, i.attempt) for i in self.intents.values() if i.oco is None
        )
        for key, count in legs.items():
            if count > 1:
                yield f"decision {key[0]} has {count} orders for {key[1]}"
        ordered = {id_ for id_, row in self.decisions.items() if row.outcome == "ordered"}
        for id_ in ordered ^ {intent.decision_id for intent in self.intents.values()}:
            yield f"decision {id_} is {self.decisions[id_].outcome}: its intents do not say so"

    def fills_twice_or_not_in_their_order(self) -> Iterator[str]:
        seen = Counter((row.venue, row.account_id, row.venue_fill_id) for row in self.fills)
        yield from (
            f"fill {key} is there {count} times" for key, count in seen.items() if count > 1
        )
        by_order: dict[Any, Decimal] = defaultdict(lambda: _ZERO)
        for row in self.fills:
            by_order[row.client_order_id] += row.quantity
        for id_, row in self.orders.items():
            if by_order[id_] != row.filled_quantity:
                yield f"order {id_} filled {row.filled_quantity}, its fills sum to {by_order[id_]}"
        told = {
            (e.client_order_id, e.key)
            for es in self.events.values()
            for e in es
            if e.kind == "fill"
        }
        yield from (
            f"fill {key} and its order event do not agree" for key in told ^ set(self.fill_of)
        )

    def ledger_against_fills(self) -> Iterator[str]:
        """Every fill has exactly its entries, and no entry of a fill is there without one."""
        expected: Counter[Any] = Counter()
        for row in self.fills:
            for entry in entries_of(fill_of(row), self.instruments[row.instrument_id]):
                expected[_key(entry)] += 1
        found = Counter(
            _key(row) for row in self._all(LedgerEntryRow) if row.kind in ("fill", "fee")
        )
        for key in (expected - found) + (found - expected):
            yield f"ledger entry {key}: {expected[key]} expected, {found[key]} there"

    def positions_against_fills(self) -> Iterator[str]:
        summed: dict[Any, Position] = defaultdict(Position)
        for row in self.fills:
            key = (row.account_id, row.strategy_id, row.instrument_id)
            summed[key] = summed[key].after(fill_of(row))
        found = {(r.account_id, r.strategy_id, r.instrument_id): r for r in self._all(PositionRow)}
        for key in summed.keys() - found.keys():
            yield f"position {key} has fills or a row, but not both"
        handed = {
            (row.account_id, row.instrument_id)
            for row in self._all(LedgerEntryRow)
            if row.kind not in ("fill", "fee", "deposit")
        }
        for key in summed.keys() & found.keys():
            if (key[0], key[2]) in handed:
                continue  # not by fills alone: what is held in all is compared below
            for name in ("quantity", "cost", "realised", "fees", "opened_at"):
                is_, should = getattr(found[key], name), getattr(summed[key], name)
                if is_ != should:
                    yield f"position {key}: {name} is {is_}, its fills say {should}"

    def holdings_against_positions(self) -> Iterator[str]:
        """The ledger's holding of each asset is what positions, deposits and fills say."""
        for account in self.accounts.values():
            held: dict[str, Decimal] = defaultdict(lambda: _ZERO)
            for row in self._all(LedgerEntryRow):
                of_fills_or_within = row.kind in ("fill", "fee", "adopt")
                if row.account_id != account.id or of_fills_or_within:
                    continue
                held[row.asset] += row.amount * (row.debit == HOLDING)
                held[row.asset] -= row.amount * (row.credit == HOLDING)
            for row in self.fills:
                if row.account_id == account.id:
                    instrument = self.instruments[row.instrument_id]
                    sign = 1 if row.side == "buy" else -1
                    held[instrument.quote_asset] -= sign * row.quantity * row.price
                    held[row.fee_asset] -= row.fee
            for row in self._all(PositionRow):
                if row.account_id == account.id:
                    held[self.instruments[row.instrument_id].base_asset] += row.quantity
            for asset, quantity in held.items():
                # Unrounded quantities make values of more than a Decimal's 28 digits.
                found = holdings(self.connection, account.id).get(asset, 0)
                if abs(found - quantity) > _LAST_DIGITS:
                    yield f"{account.name} holds {found} {asset}, not {quantity}"
                if quantity < 0 and not account.margin.get("enabled"):
                    yield f"{account.name} holds {quantity} {asset}"

    def standings_against_positions(self) -> Iterator[str]:
        """A strategy with nothing under way wants what it has."""
        busy = {
            (row.strategy_id, row.instrument_id)
            for id_, row in self.orders.items()
            if row.state not in DONE and not orders.Leg(self.intents[id_].leg).is_protective
        }
        held = {(r.strategy_id, r.instrument_id): r.quantity for r in self._all(PositionRow)}
        for strategy in self._all(StrategyRow):
            for instrument, standing in strategy.state.get("standings", {}).items():
                key = (strategy.id, int(instrument))
                quantity = held.get(key, _ZERO)
                if key not in busy and (standing["target"] == 0) != (quantity == 0):
                    yield f"{strategy.name} stands at {standing} and holds {quantity} of {key[1]}"

    def breaks(self) -> Iterator[str]:
        yield from (row.text for row in self._all(EventRow) if row.kind == "break")


def _key(entry: Any) -> tuple[Any, ...]:
    names = ("account_id", "strategy_id", "at", "kind", "asset", "amount", "debit", "credit",
             "reference", "leg")  # fmt: skip
    return tuple(getattr(entry, name) for name in names)


def bars_that_are_not_the_market(engine: sa.Engine) -> Iterator[str]:
    """Stored bars of the simulated market that differ from what the market, asked directly, says."""
    with engine.connect() as connection:
        account = connection.execute(sa.select(AccountRow.__table__)).first()
        assert account is not None
        instruments = instruments_of(connection, "simulated")
        market = simulated_market(
            int(account.feed["seed"]), account.market_started_at, tuple(instruments.values())
        )
        stored = defaultdict(list)
        for row in connection.execute(
            sa.select(BarRow.__table__).where(BarRow.source == "simulated")
        ):
            stored[row.instrument_id, row.interval].append(row)
    for (instrument_id, interval), rows in stored.items():
        bars = market.bars(
            instruments[instrument_id].symbol, interval,
            min(row.opened_at for row in rows), max(row.closed_at for row in rows),
        )  # fmt: skip
        wanted = {b.opened_at: b for i in range(len(bars)) if not (b := bars.bar(i)).filled}
        # Other intervals are stored while a strategy reads them.
        if interval == BASE_INTERVAL and wanted.keys() != {row.opened_at for row in rows}:
            yield f"instrument {instrument_id} at {interval} s has {len(rows)} bars, not {len(wanted)}"
        for row in rows:
            bar = wanted.get(row.opened_at)
            names = ("open", "high", "low", "close", "volume")
            if bar is None or any(float(getattr(row, n)) != getattr(bar, n) for n in names):
                yield f"instrument {instrument_id}: bar {interval} s of {row.opened_at} differs"


def record(engine: sa.Engine, account: int, until: Any) -> dict[str, list[Any]]:
    """What an account decided and traded up to a market time, in values two runs can be compared by."""
    with engine.connect() as connection:
        fills = connection.execute(
            sa.select(FillRow.__table__).where(
                FillRow.account_id == account, FillRow.filled_at < until
            )
        )
        decisions = connection.execute(
            sa.select(DecisionRow.__table__).where(
                DecisionRow.account_id == account, DecisionRow.decided_at < until
            )
        )
        return {
            "fills": sorted(
                (f.filled_at, f.client_order_id, f.venue_fill_id, f.side, f.quantity, f.price,
                 f.fee, f.liquidity, f.realised)
                for f in fills
            ),
            "decisions": sorted(
                (d.decided_at, d.id, d.kind, d.outcome, d.target, d.price, d.because, d.reason,
                 str(d.steps), str(d.checks))
                for d in decisions
            ),
        }  # fmt: skip


def first_difference(one: Iterable[Any], other: Iterable[Any]) -> str:
    """The first thing one run has and the other has not."""
    ours, theirs = set(one), set(other)
    different = sorted(ours ^ theirs, key=lambda d: (d[0], str(d[1])))
    if not different:
        return ""
    lines = [f"{'only first ' if d in ours else 'only second'} {d}" for d in different[:4]]
    return f"{len(different)} differ: " + "\n".join(lines)
