"""Trading by hand against a running engine: what is asked happens once, or is denied with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa

from shared.db.console import CommandRow
from shared.db.trading import (
    DecisionRow,
    FillRow,
    LedgerEntryRow,
    OrderEventRow,
    OrderIntentRow,
    OrderRow,
    PositionRow,
    StrategyRow,
)
from shared.messages import (
    AdoptPosition,
    AmendOrder,
    CancelOrder,
    CancelOrders,
    ClosePosition,
    CreateStrategy,
    EditAccount,
    EditRiskPolicy,
    ForceEntry,
    ForceExit,
    PlaceOrder,
    ProtectPosition,
    ResumeTrading,
    StopTrading,
)
from tests.prove.agreement import disagreements
from tests.prove.installation import Installation, wait_for

COSTS = {"fee_rate": "0.001", "slippage": "0"}


class Floor:
    """An installation with an engine at work, and how a person trades there."""

    def __init__(self, installation):
        self.installation = installation
        self.account_id = installation.account().id
        self.btc = installation.instruments()["BTC/USD"]
        self.eth = installation.instruments()["ETH/USD"]

    def ask(self, command, seconds=10):
        return self.installation.settled(self.installation.ask(command), seconds)

    def place(self, instrument_id=None, other=None, then=None, preview=False, **ticket):
        given = {"side": "buy", "type": "market", "size": "0.01", **ticket}
        return self.ask(
            PlaceOrder(
                self.account_id, instrument_id or self.btc, given, other or {}, then or {},
                preview=preview,
            )
        )  # fmt: skip

    def price(self, instrument_id=None):
        """The market's price now, as a preview tells it."""
        shown = self.place(instrument_id, size="0.1", preview=True).result["preview"]
        return Decimal(shown["price"])

    def order(self, order_id):
        query = sa.select(OrderRow.__table__).where(OrderRow.client_order_id == UUID(order_id))
        [row] = self.installation.rows(query)
        return row

    def state(self, order_id, state, seconds=15):
        wait_for(lambda: self.order(order_id).state == state, seconds)
        return self.order(order_id)

    def held(self, instrument_id=None, strategy_id=None):
        query = sa.select(PositionRow.quantity).where(
            PositionRow.account_id == self.account_id,
            PositionRow.instrument_id == (instrument_id or self.btc),
            PositionRow.strategy_id.is_(None)
            if strategy_id is None
            else PositionRow.strategy_id == strategy_id,
        )
        return next(iter(row.quantity for row in self.installation.rows(query)), Decimal(0))

    def flat(self):
        self.ask(CancelOrders(self.account_id, protection=True))
        for instrument_id in (self.btc, self.eth):
            if self.held(instrument_id):
                self.ask(ClosePosition(self.account_id, instrument_id))
                wait_for(lambda held=instrument_id: self.held(held) == 0)


@pytest.fixture(scope="module")
def floor(module_settings):
    made = Installation(module_settings, speed=600)
    made.prepare()
    engine = made.start()
    made.wait_until_trading(engine)
    # The invented market may be wilder or thinner than the rules allow: that is not what is tried here.
    calm = {"volatility": {"max_annual": 100}, "liquidity": {"max_fraction": 100}}
    made.settled(made.ask(EditRiskPolicy(made.account().id, calm)))
    yield Floor(made)
    try:
        assert engine.is_alive, "no command may end the engine"
        assert disagreements(made.db) == []
    finally:
        made.end()


@pytest.fixture(autouse=True)
def flat_again(floor):
    yield
    floor.flat()


def test_a_limit_order_is_placed_amended_and_cancelled(floor):
    low = floor.price().quantize(Decimal(1)) * Decimal("0.8")
    placed = floor.place(type="limit", limit_price=str(low.quantize(Decimal("0.1"))))
    assert placed.state == "done"
    [order_id] = placed.result["orders"]
    assert floor.state(order_id, "working").limit_price == low.quantize(Decimal("0.1"))
    lower = (low - 10).quantize(Decimal("0.1"))
    amended = floor.ask(AmendOrder(order_id, quantity="0.02", limit_price=str(lower)))
    assert amended.state == "done"
    row = floor.order(order_id)
    assert (row.quantity, row.limit_price, row.revision) == (Decimal("0.02"), lower, 1)
    assert floor.ask(CancelOrder(order_id)).state == "done"
    assert floor.order(order_id).state == "cancelled"
    again = floor.ask(CancelOrder(order_id))
    assert (again.state, again.result["text"]) == ("denied", "The order has ended already")


def test_a_preview_says_what_would_happen_and_does_nothing(floor):
    before = len(floor.installation.rows(sa.select(OrderIntentRow.client_order_id)))
    shown = floor.place(size="1000", size_in="value", preview=True).result["preview"]
    assert shown["outcome"] == "ordered"
    assert Decimal(shown["fee"]) == pytest.approx(Decimal(shown["value"]) * Decimal("0.001"))
    assert Decimal(shown["position_after"]) == Decimal(shown["quantity"])
    spent = Decimal(shown["cash_before"]) - Decimal(shown["cash_after"])
    assert spent == pytest.approx(Decimal(shown["cost"]))
    rules = {"funds", "position_size", "max_drawdown", "concentration", "volatility", "liquidity"}
    assert {check["rule"] for check in shown["checks"]} == rules
    assert len(floor.installation.rows(sa.select(OrderIntentRow.client_order_id))) == before


def test_one_press_twice_is_one_order(floor):
    command_id = floor.installation.ask(PlaceOrder(floor.account_id, floor.btc, TICKET))
    floor.installation.settled(command_id, 10)
    with floor.installation.db.begin() as connection:  # a second engine would take it again
        connection.execute(
            sa.update(CommandRow)
            .where(CommandRow.id == command_id)
            .values(state="asked", settled_at=None)
        )
    again = floor.installation.settled(command_id, 10)
    assert again.state == "denied"
    intents = sa.select(OrderIntentRow.client_order_id).where(
        OrderIntentRow.client_order_id == command_id
    )
    assert len(floor.installation.rows(intents)) == 1
    wait_for(lambda: floor.held() == Decimal("0.01"))


TICKET = {"side": "buy", "type": "market", "size": "0.01"}


def test_a_bracket_s_target_ends_its_stop(floor):
    price = floor.price()
    target = (price * Decimal("1.0005")).quantize(Decimal("0.1"))
    stop = (price * Decimal("0.9")).quantize(Decimal("0.1"))
    placed = floor.place(stop_loss=str(stop), take_profit=str(target))
    entry, stop_id, target_id = placed.result["orders"]
    floor.state(entry, "filled")
    floor.state(target_id, "filled", 30)
    gone = floor.state(stop_id, "cancelled")
    assert "take_profit filled" in gone.reason
    assert floor.held() == 0


def test_of_two_orders_that_cancel_each_other_one_trades(floor):
    price = floor.price()
    near = (price * Decimal("0.9998")).quantize(Decimal("0.1"))
    far = (price * Decimal("1.2")).quantize(Decimal("0.1"))
    placed = floor.place(
        type="limit", limit_price=str(near),
        other={"side": "buy", "type": "stop", "size": "0.01", "stop_price": str(far)},
    )  # fmt: skip
    first, second = placed.result["orders"]
    floor.state(first, "filled", 30)
    assert floor.state(second, "cancelled").reason == "the other of its pair traded"


def test_an_order_waits_until_the_one_before_it_has_traded(floor):
    high = (floor.price() * Decimal("1.2")).quantize(Decimal("0.1"))
    then = {"side": "sell", "type": "limit", "size": "0.01", "limit_price": str(high)}
    first, second = floor.place(then=then).result["orders"]
    floor.state(first, "filled")
    row = floor.state(second, "working")
    assert row.limit_price == high
    floor.ask(ClosePosition(floor.account_id, floor.btc))
    wait_for(lambda: floor.held() == 0)


def test_a_position_gets_a_stop_and_a_target_in_place_of_the_old_ones(floor):
    price = floor.price()
    floor.place()
    wait_for(lambda: floor.held() == Decimal("0.01"))
    low, lower = (str((price * Decimal(f)).quantize(Decimal("0.1"))) for f in ("0.9", "0.8"))
    [first] = floor.ask(ProtectPosition(floor.account_id, floor.btc, stop_loss=low)).result[
        "orders"
    ]
    floor.state(first, "working")
    second = floor.ask(
        ProtectPosition(floor.account_id, floor.btc, stop_loss=lower, take_profit=str(price * 2))
    )
    assert second.state == "done"
    floor.state(first, "cancelled")
    assert [floor.order(order_id).state for order_id in second.result["orders"]] == ["working"] * 2
    floor.ask(ClosePosition(floor.account_id, floor.btc, percent="50"))
    wait_for(lambda: floor.held() == Decimal("0.005"))
    floor.ask(ClosePosition(floor.account_id, floor.btc))
    for order_id in second.result["orders"]:
        floor.state(order_id, "cancelled")


def test_selling_short_needs_margin_and_is_turned_around_by_one_press(floor):
    denied = floor.place(floor.eth, side="sell", size="0.1")
    assert denied.state == "denied"
    assert "this account does not sell short" in denied.result["text"]
    margin = {"enabled": True, "leverage": "2", "borrow_rate": "0.1"}
    assert floor.ask(EditAccount(floor.account_id, COSTS, {}, margin)).state == "done"
    assert floor.place(floor.eth, side="sell", size="0.1").state == "done"
    wait_for(lambda: floor.held(floor.eth) == Decimal("-0.1"))
    refused = floor.ask(EditAccount(floor.account_id, COSTS, {}, {"enabled": False}))
    assert "close the short positions" in refused.result["text"]
    assert floor.ask(ClosePosition(floor.account_id, floor.eth, reverse=True)).state == "done"
    wait_for(lambda: floor.held(floor.eth) == Decimal("0.1"))
    floor.flat()
    assert floor.ask(EditAccount(floor.account_id, COSTS, {}, {"enabled": False})).state == "done"


def test_while_trading_is_halted_an_order_is_refused_and_can_be_sent_after(floor):
    floor.ask(StopTrading(floor.account_id, reason="lunch"))
    refused = floor.place()
    assert refused.state == "denied"
    assert "lunch" in refused.result["text"]
    floor.ask(ResumeTrading(floor.account_id))
    assert floor.place().state == "done"


def test_a_strategy_is_forced_in_and_out_and_its_position_is_handed_over(floor):
    inputs = {"main": {"instrument_id": floor.btc, "interval": 60, "trades": True}}
    floor.ask(
        CreateStrategy(
            "quiet", "rsi_reversion", floor.account_id, {"buy_below": 1}, inputs, "1000",
            {"method": "fraction"}, start=True,
        )
    )  # fmt: skip
    [row] = floor.installation.rows(sa.select(StrategyRow.id).where(StrategyRow.name == "quiet"))
    wait_for(lambda: floor.ask(ForceEntry(row.id, floor.btc)).state == "done")
    wait_for(lambda: floor.held(strategy_id=row.id) > 0)
    held = floor.held(strategy_id=row.id)
    handed = floor.ask(AdoptPosition(floor.account_id, floor.btc, row.id, None))
    assert handed.state == "done"
    assert (floor.held(strategy_id=row.id), floor.held()) == (0, held)
    back = floor.ask(AdoptPosition(floor.account_id, floor.btc, None, row.id))
    assert back.state == "done"
    query = sa.select(LedgerEntryRow.id).where(LedgerEntryRow.kind == "adopt")
    assert len(floor.installation.rows(query)) == 8
    assert floor.ask(ForceExit(row.id)).state == "done"
    wait_for(lambda: floor.held(strategy_id=row.id) == 0)
    nothing = floor.ask(ForceExit(row.id))
    assert nothing.result["text"] == "strategy quiet holds nothing there"


YESTERDAY = (datetime.now(UTC) - timedelta(days=400)).isoformat()

BAD = [
    ({"side": "hold"}, "ticket.side", "'hold' is not one of buy, sell"),
    ({"side": ""}, "ticket.side", "choose one of buy, sell"),
    ({"type": "iceberg"}, "ticket.type", "is not one of market, limit"),
    ({"size": ""}, "ticket.size", "say how much"),
    ({"size": "lots"}, "ticket.size", "'lots' is not a number"),
    ({"size": "-1"}, "ticket.size", "must be above 0"),
    ({"size": "0"}, "ticket.size", "must be above 0"),
    ({"size": "NaN"}, "ticket.size", "is not a number one can trade"),
    ({"size": "1e400"}, "ticket.size", "is beyond what can be traded"),
    ({"size": "0.0000001"}, "ticket.size", "is less than one lot"),
    ({"size": "1", "size_in": "value"}, "ticket.size", "is under the venue's minimum value"),
    ({"size": "101", "size_in": "percent"}, "ticket.size", "101 % is more than all there is"),
    ({"size_in": "lots"}, "ticket.size_in", "is not one of quantity, value, percent"),
    ({"type": "limit"}, "ticket.limit_price", "a limit order needs a limit price"),
    ({"limit_price": "1"}, "ticket.limit_price", "a market order has no limit price"),
    ({"type": "limit", "limit_price": "1000.037"}, "ticket.limit_price", "is off the tick of"),
    ({"type": "stop"}, "ticket.stop_price", "a stop order needs a stop price"),
    ({"type": "stop", "stop_price": "1"}, "ticket.stop_price", "1 must be above the market"),
    ({"type": "take_profit", "side": "sell", "stop_price": "1"}, "ticket.stop_price", "must be above"),
    ({"type": "trailing_stop"}, "ticket.trail", "a trailing stop order needs a trail"),
    ({"type": "trailing_stop", "trail": "100", "trail_in": "percent"}, "ticket.trail", "whole price"),
    ({"time_in_force": "soon"}, "ticket.time_in_force", "is not one of gtc"),
    ({"time_in_force": "gtd"}, "ticket.expires_at", "needs the time at which it ends"),
    ({"time_in_force": "gtd", "expires_at": "soon"}, "ticket.expires_at", "'soon' is no time"),
    ({"time_in_force": "gtd", "expires_at": YESTERDAY}, "ticket.expires_at", "is over already"),
    ({"expires_at": YESTERDAY}, "ticket.expires_at", "only a GTD order has one"),
    ({"post_only": True}, "ticket.post_only", "only a limit order can wait in the book"),
    ({"type": "limit", "limit_price": "1", "post_only": True, "time_in_force": "ioc"},
     "ticket.post_only", "IOC trades at once"),
    ({"type": "stop", "stop_price": "1000000", "time_in_force": "fok"},
     "ticket.time_in_force", "FOK wants a market or limit order"),
    ({"reduce_only": True}, "ticket.reduce_only", "nothing is held that a buy would reduce"),
    ({"reduce_only": True, "stop_loss": "1"}, "ticket.reduce_only", "opens nothing to protect"),
    ({"stop_loss": "1000000"}, "ticket.stop_loss", "must be below the market"),
    ({"take_profit": "1"}, "ticket.take_profit", "must be above the market"),
    ({"stop_loss": "1", "stop_trail": "1"}, "ticket.stop_trail", "not both"),
    ({"colour": "red"}, "ticket.colour", "is no field of an order"),
    ({"size": "1000"}, "", "funds: costs"),
    ({"size": "0.2"}, "", "position_size: order value of equity"),
    ({"side": "sell"}, "", "this account does not sell short"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "field", "text"), BAD)
def test_what_is_wrong_with_an_order_is_said(floor, wrong, field, text):
    denied = floor.place(**wrong)
    assert denied.state == "denied"
    assert text in denied.result["text"]
    assert denied.result.get("field", "") == field


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (lambda f: PlaceOrder(f.account_id, 10**6, TICKET), "trades no such instrument"),
        (lambda f: PlaceOrder(10**6, f.btc, TICKET), "is not trading now"),
        (lambda _: AmendOrder("nonsense", quantity="1"), "is no order's id"),
        (lambda _: CancelOrder(str(UUID(int=5))), "there is no such order"),
        (lambda f: ClosePosition(f.account_id, f.btc), "nothing is held there any more"),
        (lambda f: ProtectPosition(f.account_id, f.btc, stop_loss="1"), "nothing is held there"),
        (lambda f: AdoptPosition(f.account_id, f.btc, None, 10**6), "is not running"),
        (lambda _: ForceEntry(10**6, 1), "the strategy is not running"),
        (lambda f: EditAccount(f.account_id, COSTS, {"intrabar": "best"}), "intrabar: 'best' is not one of"),
        (lambda f: EditAccount(f.account_id, COSTS, {"volume_share": "2"}), "volume_share: '2' must be"),
        (lambda f: EditAccount(f.account_id, COSTS, {}, {"enabled": True, "leverage": "0"}), "leverage: '0'"),
        (lambda f: EditAccount(f.account_id, {"fee_rate": "x"}), "fee_rate: 'x' is not a number"),
    ],
)  # fmt: skip
def test_a_command_about_what_is_not_there_is_denied(floor, command, text):
    denied = floor.ask(command(floor))
    assert denied.state == "denied"
    assert text in denied.result["text"]


def test_a_part_that_is_wrong_is_named(floor):
    denied = floor.place(
        type="limit", limit_price="1000", other={"side": "buy", "type": "stop", "size": "0.01"}
    )
    assert denied.result["field"] == "other.stop_price"


def test_what_was_denied_by_risk_is_on_record_with_its_checks(floor):
    denied = floor.place(size="0.2")
    decision_id = denied.result["link"].rsplit("/", 1)[-1]
    [row] = floor.installation.rows(
        sa.select(DecisionRow.__table__).where(DecisionRow.id == UUID(decision_id))
    )
    assert (row.kind, row.outcome, row.strategy_id) == ("manual", "denied", None)
    assert row.because == "by prover"
    assert not all(check["allowed"] for check in row.checks)


def test_every_order_event_is_kept(floor):
    [order_id] = floor.place().result["orders"]
    floor.state(order_id, "filled")
    query = sa.select(OrderEventRow.kind).where(OrderEventRow.client_order_id == UUID(order_id))
    kinds = {row.kind for row in floor.installation.rows(query)}
    assert kinds == {"submitted", "acknowledged", "fill"}
    fills = sa.select(FillRow.id).where(FillRow.client_order_id == UUID(order_id))
    assert len(floor.installation.rows(fills)) == 1
