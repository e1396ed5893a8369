"""What is plugged in where: first rows of a new installation, and an account's loop from its rows."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from engine import books, catalogue
from engine.actions import Action
from engine.bars import Bars
from engine.core import FAILURES, TradingCore
from engine.costs import Costs
from engine.execution.paper import PaperBroker
from engine.feeds.clock import MarketClock
from engine.feeds.history import HistoryFeed
from engine.feeds.simulated import SPECS, SimulatedFeed, SimulatedMarket
from engine.history import series_bars, store_live_bars
from engine.journal import Journal
from engine.live import BASE_INTERVAL, AccountLoop
from engine.margin import Margin
from engine.matching import Matching
from engine.narrator import stopped_at_error
from engine.ports import Feed
from engine.risk.rules import RiskPolicy, policy_from
from engine.sizing import Sizing
from engine.standing import StrategyRun
from engine.strategies.base import BaseStrategy, Input
from engine.strategies.evaluation import BoundInput
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import AccountRow, LedgerEntryRow, StrategyRow
from shared.domain.instruments import Instrument
from shared.domain.ledger import CAPITAL, HOLDING
from shared.domain.market import Closed, MarketEvent, Tick, interval_text
from shared.domain.orders import OrderState
from shared.settings import Settings

log = structlog.get_logger()

SIMULATED: Final = "simulated"
REPLAY: Final = "replay"
PAST_DAYS: Final = 7
"""Days of simulated past a new installation begins with, for warm-up and for backtests."""

PAPER_CAPITAL: Final = Decimal(100_000)
PAPER_COSTS: Final = {"fee_rate": "0.001", "slippage": "0"}
ENDED_REMEMBERED: Final = 1000


# First rows ----------------------------------------------------------------------------------


def prepare(engine: sa.Engine, settings: Settings) -> None:
    """Make what a new installation lacks: catalogue, simulated market, paper account. Safe to repeat."""
    with engine.begin() as connection:
        catalogue.sync(connection, settings.strategies_folder)
    with engine.begin() as connection:
        query = sa.select(AccountRow.id).where(AccountRow.clock == SIMULATED)
        if connection.scalar(query) is not None:
            return
        log.info("engine.first_start", seed=settings.simulated_seed)
        instruments = _simulated_instruments(connection)
        today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
        genesis = today - timedelta(days=PAST_DAYS)
        market = SimulatedMarket(settings.simulated_seed, genesis, _by_symbol(instruments))
        for symbol in SPECS:
            store_live_bars(connection, market.bars(symbol, BASE_INTERVAL, genesis, today))
        open_account(
            connection,
            name="paper",
            venue=SIMULATED,
            clock=SIMULATED,
            speed=settings.simulated_speed,
            group=settings.engine_group,
            started_at=genesis,
            market_time=today,
            capital=PAPER_CAPITAL,
            feed={"seed": settings.simulated_seed},
            costs=PAPER_COSTS,
            policy=RiskPolicy(),
        )


def _simulated_instruments(connection: sa.Connection) -> dict[int, Instrument]:
    for symbol, spec in SPECS.items():
        base, quote = symbol.split("/")
        statement = insert(InstrumentRow).values(
            venue=SIMULATED,
            symbol=symbol,
            name=f"Simulated {base}",
            asset_class="crypto",
            base_asset=base,
            quote_asset=quote,
            tick_size=spec.tick_size,
            lot_size=spec.lot_size,
            min_quantity=spec.lot_size,
            min_value=Decimal(5),
            calendar="24/7",
        )
        connection.execute(statement.on_conflict_do_nothing())
    return books.instruments_of(connection, SIMULATED)


def _by_symbol(instruments: Mapping[int, Instrument]) -> dict[str, Instrument]:
    return {instrument.symbol: instrument for instrument in instruments.values()}


def open_account(
    connection: sa.Connection,
    *,
    name: str,
    venue: str,
    clock: str,
    speed: float,
    group: str,
    started_at: datetime,
    market_time: datetime,
    capital: Decimal,
    feed: Mapping[str, Any],
    costs: Mapping[str, Any],
    policy: RiskPolicy,
) -> int:
    """An internal account with its opening deposit in the ledger; its id."""
    account_id = connection.execute(
        sa.insert(AccountRow)
        .values(
            name=name,
            kind="internal",
            venue=venue,
            base_asset="USD",
            engine_group=group,
            clock=clock,
            clock_speed=speed,
            market_started_at=started_at,
            market_time=market_time,
            feed=dict(feed),
            costs=dict(costs),
            risk_policy=policy.as_json(),
            peak_equity=capital,
        )
        .returning(AccountRow.id)
    ).scalar_one()
    connection.execute(
        sa.insert(LedgerEntryRow).values(
            account_id=account_id,
            at=market_time,
            kind="deposit",
            asset="USD",
            amount=capital,
            debit=HOLDING,
            credit=CAPITAL,
            reference="opening",
            leg="deposit",
        )
    )
    return account_id


# Feeds ---------------------------------------------------------------------------------------


class SimulatedSource:
    """The seeded market as an account's feed, from the account's last moment on."""

    matching: Literal["quotes", "bars"] = "quotes"

    def __init__(
        self,
        market: SimulatedMarket,
        clock: MarketClock,
        instruments: Mapping[int, Instrument],
        intervals: Callable[[], set[int]],
        starts_at: datetime,
        genesis: datetime,
    ) -> None:
        self._market = market
        self._clock = clock
        self._symbols = {id_: instrument.symbol for id_, instrument in instruments.items()}
        # A tick at the very moment belongs after it: the feed's "after" must not skip it.
        self._feed = SimulatedFeed(market, clock, intervals, starts_at - timedelta(microseconds=1))
        self._genesis = genesis

    def events(self) -> AsyncIterator[list[MarketEvent]]:
        return self._feed.events()

    def now(self) -> datetime:
        return self._clock.now()

    def history(self, instrument_id: int, interval: int, until: datetime, count: int) -> Bars:
        span = timedelta(seconds=interval * count)
        seconds = until.timestamp()
        last = datetime.fromtimestamp(seconds - seconds % interval, UTC)
        first = max(last - span, self._genesis)
        if first >= last:
            return Bars.empty(instrument_id, interval)
        return self._market.bars(self._symbols[instrument_id], interval, first, last)

    def finest(self, instrument_id: int) -> int | None:
        return BASE_INTERVAL if instrument_id in self._symbols else None

    def marks(self, until: datetime) -> Mapping[int, float]:
        return self._market.middles(until)

    def backlog(self, instrument_id: int, since: datetime, until: datetime) -> Iterable[Tick]:
        if since >= until:
            return
        just_before = since - timedelta(microseconds=1)
        for event in self._market.events(just_before):
            at = event.traded_at if isinstance(event, Tick) else event.quoted_at
            if at >= until:
                return
            if isinstance(event, Tick) and event.instrument_id == instrument_id:
                yield event


class ReplaySource:
    """Stored bars as an account's feed."""

    matching: Literal["quotes", "bars"] = "bars"

    def __init__(
        self, series: Mapping[tuple[int, int], Bars], speed: float, after: datetime
    ) -> None:
        self._series = series
        self._feed = HistoryFeed(series, speed, after)
        self._now = after

    async def events(self) -> AsyncIterator[list[MarketEvent]]:
        async for batch in self._feed.events():
            last = batch[-1]
            self._now = last.at if isinstance(last, Closed) else self._now
            yield batch

    def now(self) -> datetime:
        return self._now

    def history(self, instrument_id: int, interval: int, until: datetime, count: int) -> Bars:
        bars = self._series.get((instrument_id, interval), Bars.empty(instrument_id, interval))
        return bars.between(None, until)[-count:]

    def finest(self, instrument_id: int) -> int | None:
        known = [interval for id_, interval in self._series if id_ == instrument_id]
        return min(known, default=None)

    def marks(self, until: datetime) -> Mapping[int, float]:
        """The newest close of each instrument; of series that closed together, the finest's."""
        newest: dict[int, tuple[int, int, float]] = {}
        for (instrument_id, interval), series in self._series.items():
            bars = series.between(None, until)
            if len(bars):
                found = (int(bars.closed_at[-1]), -interval, float(bars.close[-1]))
                newest[instrument_id] = max(found, newest.get(instrument_id, found))
        return {instrument_id: close for instrument_id, (_, _, close) in newest.items()}

    def backlog(self, instrument_id: int, since: datetime, until: datetime) -> Iterable[Tick]:
        return ()


def replay_series(session: Session, feed: Mapping[str, Any]) -> dict[tuple[int, int], Bars]:
    """The bars a replay plays, {(instrument, interval): bars}, up to its end."""
    ends_at = _instant(feed.get("ends_at"))
    found = {}
    for series_id in feed["series_ids"]:
        row = session.get_one(SeriesRow, series_id)
        bars = series_bars(session, series_id, None, ends_at)
        found[row.instrument_id, row.interval] = bars
    return found


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _rests(kept: books.OpenOrder, moment_at: datetime) -> bool:
    """Whether bars have passed an order since it began to work, or a fill left it or woke it."""
    order = kept.order
    return kept.at < moment_at or bool(order.filled) or order.request.leg.is_protective


# An account's loop ---------------------------------------------------------------------------


class Assembly:
    """Builds account loops and strategy runs from rows."""

    def __init__(
        self,
        engine: sa.Engine,
        journal: Journal,
        thread: ThreadPoolExecutor,
        on_failure: Callable[[int, str], None],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._thread = thread
        self._on_failure = on_failure
        self.opening: AccountLoop | None = None
        """The account whose strategies start again now, in a thread the loop does not wait for."""

    def account(self, account_id: int) -> AccountLoop:
        """The account as its rows say it stands. Its working orders are with the broker again."""
        with self._engine.connect() as connection, Session(connection) as session:
            row = session.get_one(AccountRow, account_id)
            instruments = books.instruments_of(connection, row.venue)
            portfolio = books.portfolio_of(
                connection, row.id, row.base_asset, instruments, row.peak_equity
            )
            portfolio.margin = Margin.from_json(row.margin)
            costs = Costs.from_json(row.costs)
            core = TradingCore(row.id, instruments, portfolio, policy_from(row.risk_policy), costs)
            core.moment_at = row.market_time
            broker = PaperBroker(
                instruments,
                costs,
                portfolio.number,
                portfolio,
                Matching.from_json(row.matching),
            )
            assert row.market_time is not None
            for day, value in books.traded_by_day(connection, row.id, row.market_time):
                broker.traded.add(day, value)  # tiers may come with the next settings
            intervals: set[int] = {BASE_INTERVAL}
            feed = self._feed(session, row, instruments, lambda: loop.intervals or intervals)
            loop = AccountLoop(
                row.id,
                row.venue,
                core,
                broker,
                feed,
                self._journal,
                self._thread,
                instruments,
                moment_at=row.market_time,
                base_interval=None if row.clock == REPLAY else BASE_INTERVAL,
                on_failure=self._on_failure,
            )
            self._restore(connection, loop)
            query = sa.select(StrategyRow.id).where(
                StrategyRow.account_id == row.id,
                StrategyRow.desired == "running",
                StrategyRow.deleted_at.is_(None),
            )
            self.opening = loop
            for strategy_id in connection.scalars(query.order_by(StrategyRow.id)).all():
                self._start_again(connection, loop, strategy_id)
            self.opening = None
        return loop

    def _feed(
        self,
        session: Session,
        row: AccountRow,
        instruments: Mapping[int, Instrument],
        intervals: Callable[[], set[int]],
    ) -> Feed:
        assert row.market_time is not None
        assert row.market_started_at is not None
        if row.clock == REPLAY:
            series = replay_series(session, row.feed)
            return ReplaySource(series, float(row.feed.get("speed", 0)), row.market_time)
        market = simulated_market(
            int(row.feed["seed"]), row.market_started_at, tuple(instruments.values())
        )
        clock = MarketClock(row.clock_speed, row.market_time)
        return SimulatedSource(
            market, clock, instruments, intervals, row.market_time, row.market_started_at
        )

    def _restore(self, connection: sa.Connection, loop: AccountLoop) -> None:
        for kept in books.newest_ended(connection, loop.account_id, ENDED_REMEMBERED):
            loop.core.remember_ended(kept.order)
        for kept in books.open_orders(connection, loop.account_id):
            loop.core.orders[kept.order.request.client_order_id] = kept.order
            if kept.order.state is OrderState.NEW:
                continue  # released, but the broker never had it: sent when the loop begins
            if loop.feed.matching == "quotes":  # they come again from the last moment on
                after = kept.at + timedelta(microseconds=1)
                loop.broker.restore(kept.order, after, resting=kept.at < loop.moment_at)
            else:
                loop.broker.restore(kept.order, kept.at, resting=_rests(kept, loop.moment_at))
        for instrument_id, price in loop.feed.marks(loop.moment_at).items():
            loop.core.on_mark(instrument_id, price)
        self._remember_holders(connection, loop)

    def _remember_holders(self, connection: sa.Connection, loop: AccountLoop) -> None:
        """Whoever has something in the market stands in the core, running or not: fills find it."""
        core = loop.core
        holders = {order.request.strategy_id for order in core.orders.values()}
        holders |= {id_ for (id_, _), p in core.portfolio.positions.items() if not p.is_flat}
        for strategy_id in sorted(holders - {0}):
            holder = self.holder(connection, strategy_id)
            core.start(holder)
            core.agree(holder)

    def _start_again(self, connection: sa.Connection, loop: AccountLoop, strategy_id: int) -> None:
        try:
            loop.start(self.run(connection, strategy_id))
        except sa.exc.OperationalError:  # the database, not the strategy
            raise
        except FAILURES as error:  # one strategy that cannot start must not keep the others down
            text = stopped_at_error(error)
            log.error("strategy.not_started", strategy=strategy_id, error=text)
            self._on_failure(strategy_id, text)

    def run(self, connection: sa.Connection, strategy_id: int) -> StrategyRun:
        """A strategy from its row, standing where it stood."""
        row = _strategy_row(connection, strategy_id)
        cls = catalogue.strategy_class(connection, row.type, row.code_hash)
        inputs = bind(connection, row.inputs, cls.series())
        named = {
            bound.key: Input(bound.symbol, interval_text(bound.interval), bound.trades)
            for bound in inputs
        }
        return _standing_run(row, inputs, cls(row.parameters, named))

    def holder(self, connection: sa.Connection, strategy_id: int) -> StrategyRun:
        """A strategy that decides nothing: what it holds can be closed without any of its code."""
        row = _strategy_row(connection, strategy_id)
        run = _standing_run(row, bind(connection, row.inputs), BaseStrategy({}, {}))
        run.stopping = True
        return run


def _strategy_row(connection: sa.Connection, strategy_id: int) -> Any:
    query = sa.select(StrategyRow.__table__).where(StrategyRow.id == strategy_id)
    return connection.execute(query).one()


def _standing_run(row: Any, inputs: tuple[BoundInput, ...], strategy: BaseStrategy) -> StrategyRun:
    run = StrategyRun(
        id=row.id,
        name=row.name,
        strategy=strategy,
        inputs=inputs,
        allocation=row.allocation,
        sizing=Sizing.from_json(row.sizing),
    )
    run.restore(row.state)
    return run


def bind(
    connection: sa.Connection, inputs: Mapping[str, Any], order: Iterable[str] = ("main",)
) -> tuple[BoundInput, ...]:
    """{key: {"instrument_id", "interval", "trades"}} with the symbols looked up.

    In the order the strategy declares them: JSONB keeps none, and the first that trades is the clock.
    """
    bound = []
    for key in sorted(inputs, key=[*order, *inputs].index):
        given = inputs[key]
        symbol = connection.scalar(
            sa.select(InstrumentRow.symbol).where(InstrumentRow.id == given["instrument_id"])
        )
        if symbol is None:
            raise LookupError(f"input {key}: there is no instrument {given['instrument_id']}")
        bound.append(
            BoundInput(
                key, given["instrument_id"], symbol, given["interval"], given.get("trades", True)
            )
        )
    return tuple(bound)


def unsent(loop: AccountLoop) -> list[Action]:
    """Actions that send what was released before a crash and never reached the broker."""
    by_decision: dict[Any, list[Any]] = {}
    for order in loop.core.orders.values():
        if order.state is OrderState.NEW:
            by_decision.setdefault(order.request.decision_id, []).append(order.request)
    return [
        action
        for requests in by_decision.values()
        for action in loop.core.send(sorted(requests, key=lambda r: r.parent_id is not None))
    ]


@functools.lru_cache(maxsize=4)
def simulated_market(
    seed: int, genesis: datetime, instruments: tuple[Instrument, ...]
) -> SimulatedMarket:
    return SimulatedMarket(seed, genesis, {i.symbol: i for i in instruments if i.symbol in SPECS})
