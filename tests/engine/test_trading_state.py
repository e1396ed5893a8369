"""Which trading state rules: the most restrictive request that neither expired nor was lifted."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from engine.trading_state import covering, lift, refusal, request, rulings, strictest
from shared.db.sessions import make_engine
from shared.db.trading import TradingStateRow
from shared.domain.decisions import Decision, Outcome
from tests.builders import START


@pytest.fixture
def connection(module_database_url):
    engine = make_engine(module_database_url)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def a_decision(kind="signal"):
    return Decision(
        None, 1, 7, 3, START, kind, 1.0, 0.0, "", None, 1.0, (), (), Outcome.ORDERED, "", (), ""
    )  # fmt: skip


def why(connection, *, reduces=False, kind="signal"):
    return refusal(rulings(connection), a_decision(kind), "simulated", reduces=reduces)


def test_without_a_request_everything_may_go_out(connection):
    assert why(connection) == ""


@pytest.mark.parametrize(
    ("scope", "scope_id", "concerned"),
    [
        ("all", "", True), ("account", "1", True), ("account", "2", False), ("venue", "simulated", True),
        ("venue", "kraken", False), ("strategy", "7", True), ("strategy", "8", False),
        ("instrument", "3", True), ("instrument", "4", False),
    ],
)  # fmt: skip
def test_a_halt_concerns_its_scope_and_no_other(connection, scope, scope_id, concerned):
    request(connection, scope, scope_id, "halted", "me", "enough")
    where = scope if scope == "all" else f"{scope} {scope_id}"
    assert why(connection) == (f"trading is halted for {where} by me: enough" if concerned else "")


def test_reduce_only_lets_reductions_pass_and_a_halt_does_not(connection):
    request(connection, "all", "", "reduce_only", "me", "")
    assert why(connection, reduces=True) == ""
    assert why(connection) == "trading is reduce-only for all by me"
    request(connection, "account", "1", "halted", "you", "")
    assert why(connection, reduces=True) == "trading is halted for account 1 by you"


def test_the_strictest_of_several_is_the_reason(connection):
    request(connection, "all", "", "reduce_only", "me", "")
    request(connection, "strategy", "7", "halted", "you", "")
    request(connection, "venue", "simulated", "reduce_only", "them", "")
    assert why(connection) == "trading is halted for strategy 7 by you"


def test_the_stop_procedure_may_flatten_while_halted(connection):
    request(connection, "all", "", "halted", "me", "")
    assert why(connection, kind="flatten") == ""
    assert why(connection, kind="time_exit") != ""


def test_lifting_one_request_leaves_the_others_in_force(connection):
    first = request(connection, "all", "", "halted", "me", "")
    request(connection, "account", "1", "reduce_only", "you", "")
    lift(connection, [first], "me", "well again")
    assert why(connection) == "trading is reduce-only for account 1 by you"
    assert len(connection.execute(sa.select(TradingStateRow.id)).all()) == 3, "nothing is erased"


def test_a_request_is_lifted_once(connection):
    first = request(connection, "all", "", "halted", "me", "")
    lift(connection, [first], "me", "")
    with pytest.raises(sa.exc.IntegrityError):
        lift(connection, [first], "me", "")


def test_a_request_past_its_expiry_rules_no_more(connection):
    for seconds in (-1, 3600):
        expires_at = sa.func.clock_timestamp() + sa.text(f"interval '{seconds} seconds'")
        connection.execute(
            sa.insert(TradingStateRow).values(
                scope="account", scope_id="1", state="halted", actor=f"{seconds}", reason="",
                expires_at=expires_at,
            )
        )  # fmt: skip
    assert [ruling.actor for ruling in rulings(connection)] == ["3600"]


def test_states_have_an_order_and_scopes_cover_what_they_name(connection):
    assert strictest(["running", "halted", "reduce_only"]) == "halted"
    assert strictest(["running", "reduce_only"]) == "reduce_only"
    assert strictest([]) == "running"
    request(connection, "account", "1", "halted", "me", "")
    request(connection, "all", "", "reduce_only", "me", "")
    covered = covering(rulings(connection), [("account", "2")])
    assert [ruling.scope for ruling in covered] == ["all"]
