"""What each command does. Its effect and its settlement are one transaction wherever rows suffice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from engine import catalogue
from engine.bootstrap import REPLAY, open_account, replay_series
from engine.costs import Costs
from engine.lookahead import admission
from engine.margin import Margin
from engine.matching import Matching
from engine.risk.rules import BadPolicy, policy_from
from engine.sizing import BadSizing, Sizing
from engine.strategies.base import BadParameter, BaseStrategy, Input
from engine.strategies.registry import NoSuchStrategy
from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import AccountRow, EventRow, PositionRow, StrategyRow
from shared.domain.market import interval_text
from shared.messages import (
    CreateStrategy,
    DeleteStrategy,
    EditAccount,
    EditRiskPolicy,
    EditStrategy,
    OpenReplay,
    StartReplay,
    StartStrategy,
)

SHORTEST_INTERVAL = 1
LONGEST_INTERVAL = 86_400


class Denied(Exception):
    """The command cannot be done as asked. `field` names what to change, when one field is at fault."""

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


class Answer(NamedTuple):
    """What happened, and where to look."""

    text: str
    link: str = ""


class Desk:
    """Commands whose whole effect is rows. The engine brings its loops in line with them afterwards."""

    def __init__(self, group: str) -> None:
        self._group = group

    def create_strategy(
        self, connection: sa.Connection, asked: CreateStrategy, actor: str
    ) -> Answer:
        account = self._account(connection, asked.account_id)
        name = asked.name.strip()
        if not name or len(name) > 80:
            raise Denied(f"name: {asked.name!r} must have 1 to 80 characters", "name")
        taken = sa.select(StrategyRow.id).where(
            StrategyRow.name == name, StrategyRow.deleted_at.is_(None)
        )
        if connection.scalar(taken) is not None:
            raise Denied(f"name: there is a strategy {name!r} already; choose another", "name")
        code_hash = self._newest_hash(connection, asked.type)
        cls = catalogue.strategy_class(connection, asked.type, code_hash)
        inputs = self._inputs(connection, cls, asked.inputs, account)
        parameters = self._parameters(connection, cls, asked.parameters, inputs)
        allocation = _amount("allocation", asked.allocation)
        sizing = self._sizing(asked.sizing)
        if asked.start:
            self._sees_no_future(connection, name, asked.type, code_hash, account)
        strategy_id = connection.execute(
            sa.insert(StrategyRow)
            .values(
                name=name,
                type=asked.type,
                code_hash=code_hash,
                parameters=parameters,
                account_id=account.id,
                inputs=inputs,
                allocation=allocation,
                sizing=sizing,
                desired="running" if asked.start else "stopped",
                state={},
                created_by=actor,
            )
            .returning(StrategyRow.id)
        ).scalar_one()
        words = "created and started" if asked.start else "created"
        self.tell(
            connection, account.id, f"Strategy {name} {words}", f"/strategies/{strategy_id}", actor
        )
        return Answer(f"Strategy {name} {words}", f"/strategies/{strategy_id}")

    def edit_strategy(self, connection: sa.Connection, asked: EditStrategy, actor: str) -> Answer:
        row = self._strategy(connection, asked.strategy_id)
        code_hash = self._newest_hash(connection, row.type) if asked.reload else row.code_hash
        cls = catalogue.strategy_class(connection, row.type, code_hash)
        if row.desired == "running" and code_hash != row.code_hash:
            account = self._account(connection, row.account_id)
            self._sees_no_future(connection, row.name, row.type, code_hash, account)
        values = {
            "parameters": self._parameters(connection, cls, asked.parameters, row.inputs),
            "allocation": _amount("allocation", asked.allocation),
            "sizing": self._sizing(asked.sizing),
            "code_hash": code_hash,
            "version": row.version + 1,
        }
        connection.execute(sa.update(StrategyRow).where(StrategyRow.id == row.id).values(values))
        when = "; it takes effect at the next start" if row.status == "running" else ""
        text = f"Strategy {row.name} edited, version {row.version + 1}{when}"
        self.tell(connection, row.account_id, text, f"/strategies/{row.id}", actor)
        return Answer(text, f"/strategies/{row.id}")

    def start_strategy(self, connection: sa.Connection, asked: StartStrategy, actor: str) -> Answer:
        row = self._strategy(connection, asked.strategy_id)
        if row.desired == "running" and row.status == "running":
            return Answer(f"Strategy {row.name} runs already", f"/strategies/{row.id}")
        try:
            catalogue.strategy_class(connection, row.type, row.code_hash)
        except NoSuchStrategy as error:
            raise Denied(f"strategy {row.name} cannot start: {error}") from error
        account = self._account(connection, row.account_id)
        self._sees_no_future(connection, row.name, row.type, row.code_hash, account)
        now = datetime.now(UTC)
        connection.execute(
            sa.update(StrategyRow)
            .where(StrategyRow.id == row.id)
            .values(
                desired="running", status_text="", started_at=now, state=_asking_anew(row.state)
            )
        )
        self.tell(
            connection,
            row.account_id,
            f"Strategy {row.name} started",
            f"/strategies/{row.id}",
            actor,
        )
        return Answer(f"Strategy {row.name} started", f"/strategies/{row.id}")

    def stop_strategy(
        self, connection: sa.Connection, strategy_id: int, *, flatten: bool, actor: str
    ) -> Answer:
        row = self._strategy(connection, strategy_id)
        values: dict[str, Any] = {"desired": "stopped"}
        if row.status in ("running", "stopped"):
            values["status_text"] = ""
        if flatten:  # beside what the engine keeps there meanwhile, never over it
            wish = sa.cast(sa.literal({"flatten": actor}, JSONB), JSONB)
            values["state"] = StrategyRow.state.op("||")(wish)
        connection.execute(sa.update(StrategyRow).where(StrategyRow.id == row.id).values(values))
        text = f"Strategy {row.name} stopped" + (
            ", its positions are being closed" if flatten else ""
        )
        self.tell(connection, row.account_id, text, f"/strategies/{row.id}", actor)
        return Answer(text, f"/strategies/{row.id}")

    def delete_strategy(
        self, connection: sa.Connection, asked: DeleteStrategy, actor: str
    ) -> Answer:
        row = self._strategy(connection, asked.strategy_id)
        if row.desired == "running":
            raise Denied(f"strategy {row.name} runs: stop it first")
        held = sa.select(PositionRow.id).where(
            PositionRow.strategy_id == row.id, PositionRow.quantity != 0
        )
        if connection.scalar(held) is not None:
            raise Denied(
                f"strategy {row.name} holds a position: stop it with its positions closed first"
            )
        connection.execute(
            sa.update(StrategyRow)
            .where(StrategyRow.id == row.id)
            .values(deleted_at=sa.func.clock_timestamp())
        )
        self.tell(connection, row.account_id, f"Strategy {row.name} deleted", "/strategies", actor)
        return Answer(f"Strategy {row.name} deleted; its history stays", "/strategies")

    def edit_risk_policy(
        self, connection: sa.Connection, asked: EditRiskPolicy, actor: str
    ) -> Answer:
        account = self._account(connection, asked.account_id)
        try:
            policy = policy_from(asked.policy)
        except BadPolicy as error:
            raise Denied(str(error), str(error).split(":", 1)[0]) from error
        connection.execute(
            sa.update(AccountRow)
            .where(AccountRow.id == account.id)
            .values(risk_policy=policy.as_json())
        )
        text = f"Risk policy of {account.name} changed"
        self.tell(connection, account.id, text, "/risk", actor)
        return Answer(text, "/risk")

    def edit_account(self, connection: sa.Connection, asked: EditAccount, actor: str) -> Answer:
        account = self._account(connection, asked.account_id)
        if account.kind != "internal":
            raise Denied(f"account {account.name} trades by its venue's terms, not by ours")
        try:
            Costs.from_json(asked.costs)
            matching = Matching.from_json(asked.matching)
            margin = Margin.from_json(asked.margin)
        except ValueError as error:
            raise Denied(str(error), str(error).split(":", 1)[0]) from error
        self._keeps_its_shorts(connection, account, margin)
        connection.execute(
            sa.update(AccountRow)
            .where(AccountRow.id == account.id)
            .values(costs=asked.costs, matching=matching.as_json(), margin=margin.as_json())
        )
        text = f"Trading terms of {account.name} changed"
        self.tell(connection, account.id, text, "/risk", actor)
        return Answer(text, "/risk")

    @staticmethod
    def _keeps_its_shorts(connection: sa.Connection, account: Any, margin: Margin) -> None:
        """Margin cannot end while something is owed."""
        if margin.enabled:
            return
        short = sa.select(PositionRow.id).where(
            PositionRow.account_id == account.id, PositionRow.quantity < 0
        )
        if connection.scalar(short) is not None:
            raise Denied(
                "enabled: close the short positions before margin is switched off", "enabled"
            )

    def open_replay(self, connection: sa.Connection, asked: OpenReplay, actor: str) -> Answer:
        if not asked.series_ids:
            raise Denied("series: choose at least one to play", "series_ids")
        if not 0 <= asked.speed <= 1e9:
            raise Denied(f"speed: {asked.speed!r} must be 0 (as fast as it goes) or more", "speed")
        name = asked.name.strip()
        if not name or len(name) > 80:
            raise Denied(f"name: {asked.name!r} must have 1 to 80 characters", "name")
        if connection.scalar(sa.select(AccountRow.id).where(AccountRow.name == name)) is not None:
            raise Denied(f"name: there is an account {name!r} already; choose another", "name")
        capital = _amount("capital", asked.capital)
        try:
            policy = policy_from(asked.risk_policy)
            Costs.from_json(asked.costs)
        except ValueError as error:
            raise Denied(str(error)) from error
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            for series_id in asked.series_ids:
                if session.get(SeriesRow, series_id) is None:
                    raise Denied(f"series: there is no series {series_id}", "series_ids")
            feed = {
                "series_ids": asked.series_ids,
                "speed": asked.speed,
                "starts_at": asked.starts_at,
                "ends_at": asked.ends_at,
                "state": "waiting",
            }
            series = replay_series(session, feed)
        try:
            first = min(bars.bar(0).opened_at for bars in series.values())
        except (IndexError, ValueError):
            raise Denied("series: there are no bars in that range", "starts_at") from None
        starts_at = datetime.fromisoformat(asked.starts_at) if asked.starts_at else first
        account_id = open_account(
            connection,
            name=name,
            venue=REPLAY,
            clock=REPLAY,
            speed=max(asked.speed, 1.0),
            group=self._group,
            started_at=starts_at,
            market_time=starts_at,
            capital=capital,
            feed=feed,
            costs=asked.costs,
            policy=policy,
        )
        self.tell(connection, account_id, f"Replay {name} opened", "/system", actor)
        return Answer(
            f"Replay {name} opened: add strategies, then start it", f"/replays/{account_id}"
        )

    def start_replay(self, connection: sa.Connection, asked: StartReplay, actor: str) -> Answer:
        account = self._account(connection, asked.account_id)
        if account.clock != REPLAY:
            raise Denied(f"account {account.name} is no replay")
        if account.feed.get("state") == "finished":
            raise Denied(f"replay {account.name} has finished; open another")
        feed = {**account.feed, "state": "playing"}
        connection.execute(
            sa.update(AccountRow).where(AccountRow.id == account.id).values(feed=feed)
        )
        self.tell(
            connection,
            account.id,
            f"Replay {account.name} started",
            f"/replays/{account.id}",
            actor,
        )
        return Answer(f"Replay {account.name} started", f"/replays/{account.id}")

    # Looking up and checking ----------------------------------------------------------------

    def _account(self, connection: sa.Connection, account_id: int) -> Any:
        row = connection.execute(
            sa.select(AccountRow.__table__).where(
                AccountRow.id == account_id, AccountRow.engine_group == self._group
            )
        ).one_or_none()
        if row is None:
            raise Denied(
                f"account: there is no account {account_id} in this engine's group", "account_id"
            )
        return row

    def _strategy(self, connection: sa.Connection, strategy_id: int) -> Any:
        row = connection.execute(
            sa.select(StrategyRow.__table__)
            .join(AccountRow, AccountRow.id == StrategyRow.account_id)
            .where(
                StrategyRow.id == strategy_id,
                StrategyRow.deleted_at.is_(None),
                AccountRow.engine_group == self._group,
            )
        ).one_or_none()
        if row is None:
            raise Denied(f"there is no strategy {strategy_id}")
        return row

    @staticmethod
    def _sees_no_future(
        connection: sa.Connection, name: str, type_: str, code_hash: str, account: Any
    ) -> None:
        """Code that looks ahead starts nowhere but in replays, where the future is history."""
        if account.clock == REPLAY:
            return
        found = admission.leaking_run(connection, type_, code_hash)
        if found is not None:
            raise Denied(admission.refusal(name, found))

    @staticmethod
    def _newest_hash(connection: sa.Connection, type_: str) -> str:
        try:
            return catalogue.newest_hash(connection, type_)
        except NoSuchStrategy as error:
            raise Denied(str(error), "type") from error

    @staticmethod
    def _inputs(
        connection: sa.Connection, cls: type[BaseStrategy], given: Mapping[str, Any], account: Any
    ) -> dict[str, Any]:
        wanted = cls.series()
        if missing := [key for key in wanted if key not in given]:
            raise Denied(f"{missing[0]}: choose an instrument and an interval", missing[0])
        if extra := [key for key in given if key not in wanted]:
            raise Denied(f"{extra[0]}: {cls.__name__} reads no such series", extra[0])
        inputs = {}
        for key, declared in wanted.items():
            chosen = given[key]
            instrument = connection.execute(
                sa.select(InstrumentRow.__table__).where(
                    InstrumentRow.id == chosen.get("instrument_id")
                )
            ).one_or_none()
            if instrument is None or instrument.venue != account.venue:
                raise Denied(f"{key}: choose an instrument of venue {account.venue}", key)
            interval = chosen.get("interval")
            if not isinstance(interval, int) or isinstance(interval, bool):
                raise Denied(f"{key}: interval {interval!r} is not a number of seconds", key)
            _check_interval(connection, key, instrument, interval, account)
            inputs[key] = {
                "instrument_id": instrument.id,
                "interval": interval,
                "trades": declared.trades,
            }
        return inputs

    @staticmethod
    def _parameters(
        connection: sa.Connection,
        cls: type[BaseStrategy],
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        named = {
            key: Input(
                str(chosen["instrument_id"]), interval_text(chosen["interval"]), chosen["trades"]
            )
            for key, chosen in inputs.items()
        }
        try:
            return dict(cls(given, named).parameters)
        except BadParameter as error:
            raise Denied(str(error), error.name) from error

    @staticmethod
    def _sizing(given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            Sizing.from_json(given)
        except BadSizing as error:
            raise Denied(str(error), str(error).split(":", 1)[0]) from error
        return dict(given)

    @staticmethod
    def tell(
        connection: sa.Connection, account_id: int | None, text: str, link: str, actor: str
    ) -> None:
        connection.execute(
            sa.insert(EventRow).values(
                account_id=account_id,
                kind="command",
                severity="info",
                text=f"{text} by {actor}",
                link=link,
                actor=actor,
                happened_at=datetime.now(UTC),
            )
        )


def _asking_anew(state: Mapping[str, Any]) -> dict[str, Any]:
    """A strategy started by hand acts on what it wants now, even if it wanted that before.

    A wish to be flattened that is still there came before this start, and goes with it.
    """
    standings = {
        key: {**standing, "asked": None} for key, standing in state.get("standings", {}).items()
    }
    kept = {key: value for key, value in state.items() if key != "flatten"}
    return {**kept, "standings": standings} if standings else kept


def _check_interval(
    connection: sa.Connection, key: str, instrument: Any, interval: int, account: Any
) -> None:
    if account.clock != REPLAY:
        if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL or LONGEST_INTERVAL % interval:
            raise Denied(
                f"{key}: interval {interval} s must divide a day, such as 1m, 15m or 4h", key
            )
        return
    playing = sa.select(SeriesRow.interval).where(
        SeriesRow.id.in_(account.feed["series_ids"]), SeriesRow.instrument_id == instrument.id
    )
    known = list(connection.scalars(playing))
    if interval not in known:
        have = ", ".join(interval_text(seconds) for seconds in known) or "none"
        raise Denied(f"{key}: the replay plays {instrument.symbol} at {have}", key)


def _amount(name: str, text: str) -> Decimal:
    try:
        amount = Decimal(text.replace(" ", "").replace(",", ""))
    except (InvalidOperation, AttributeError):
        raise Denied(f"{name}: {text!r} is not an amount", name) from None
    if not amount.is_finite() or amount <= 0:
        raise Denied(f"{name}: {text!r} must be above 0", name)
    if amount > Decimal(10) ** 15:
        raise Denied(f"{name}: {text!r} is more than this account can mean", name)
    return amount
