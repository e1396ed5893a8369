"""A million ledger events of every kind against a bookkeeper who knows nothing of this program.

`Clerk` is that bookkeeper: it imports nothing of ours, keeps its books in exact fractions, and follows
the rules of docs/books.md. Both are told the same seeded events.
"""

from __future__ import annotations

import io
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from uuid import UUID

import pytest

from engine import accounting, adopting
from engine.accounting import Slip
from engine.portfolio import Portfolio, decimal_number
from shared.domain.instruments import Instrument
from shared.domain.ledger import LedgerEntry, books
from shared.domain.ledger_file import COLUMNS, read, totals
from shared.domain.lots import LotBook, Method, events_of
from shared.domain.orders import Fill, Side
from shared.domain.returns import Flow, Point, time_weighted
from tests.prove.installation import seeded

START = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = (0, 1, 2)
TWINS = {1: 2, 2: 1}
ASSETS = {1: "ONE", 2: "TWO", 3: "EUR"}
KINDS = (
    ("trade", 60), ("reprice", 14), ("funding", 4), ("interest", 2), ("borrow", 2), ("dividend", 3),
    ("rebate", 2), ("staking", 2), ("deposit", 2), ("withdrawal", 2), ("transfer", 1), ("in kind", 1),
    ("split", 1), ("symbol", 1), ("adjust", 1), ("adopt", 1), ("dust", 1),
)  # fmt: skip


class Clerk:
    """Sums, average costs and growth, from what was told alone."""

    def __init__(self):
        self.balance = defaultdict(Fraction)
        self.held = defaultdict(Fraction)
        self.cost = defaultdict(Fraction)
        self.result = defaultdict(Fraction)  # realised less fees, by (owner, instrument)
        self.price = {1: Fraction(100), 2: Fraction(100), 3: Fraction(5, 4)}
        self.other = Fraction(0)  # results that belong to no position
        self.paid_in = Fraction(0)
        self.growth = 1.0
        self.since = None

    def equity(self):
        worth = {"USD": Fraction(1), **{ASSETS[i]: p for i, p in self.price.items()}}
        return sum(amount * worth[asset] for asset, amount in self.balance.items())

    def flow(self, amount):
        """Called before the flow is in the balance: growth up to here is the trader's."""
        if self.since is None:
            self.since = self.equity() + amount
            self.paid_in += amount
            return
        self.growth *= float(self.equity() / self.since)
        self.since = self.equity() + amount
        self.paid_in += amount

    def exchange(self, owner, instrument, quantity, price):
        """A signed quantity at a price, by average cost."""
        key = owner, instrument
        held, cost = self.held[key], self.cost[key]
        if held * quantity >= 0:
            self.cost[key] += quantity * price
        else:
            closed = min(abs(quantity), abs(held)) * (1 if quantity > 0 else -1)
            released = -closed * cost / held
            self.result[key] += -closed * price - released
            self.cost[key] = cost - released + (quantity - closed) * price
        self.held[key] += quantity


class Pair:
    """The program's books and the clerk's, told the same."""

    def __init__(self, name):
        self.dice = seeded(f"ledger:{name}")
        self.clerk = Clerk()
        instruments = {i: Instrument(i, "v", f"{a}/USD", a, "USD") for i, a in ASSETS.items()}
        self.portfolio = Portfolio("USD", instruments, decimal_number, Decimal(0))
        self.lots = LotBook(Method.FIFO)
        self.closed = defaultdict(Decimal)
        self.sums = defaultdict(Decimal)
        self.kept = []
        self.points, self.flows = [], []
        self.number = self.entries = 0
        self.split_back = {1: False, 2: False}
        for instrument, price in self.clerk.price.items():
            self.portfolio.mark(instrument, float(price))
        self.deposit(Decimal(1_000_000))

    def slip(self):
        self.number += 1
        return Slip(1, START + timedelta(seconds=self.number), f"event:{self.number}", "told")

    def post(self, posted):
        self.portfolio.post(posted)
        self.keep(posted.entries)

    def keep(self, entries):
        for (book, asset), amount in books(entries).items():
            self.sums[book, asset] += amount
        for event in events_of(entries):
            for lot in self.lots.apply(event):
                self.closed[lot.key] += lot.gain
        self.entries += len(entries)
        self.kept.extend(entries)

    def point(self):
        self.number += 1
        at = START + timedelta(seconds=self.number)
        self.points.append(Point(at, self.portfolio.equity()))

    def amount(self, low, high, places):
        return Decimal(self.dice.randint(low, high)).scaleb(-places)

    def mark(self, instrument):
        return decimal_number(self.portfolio.marks[instrument])

    def step(self):
        [kind] = self.dice.choices([k for k, _ in KINDS], [w for _, w in KINDS])
        getattr(self, kind.replace(" ", "_"))()

    # Each event: told to the program, told to the clerk ------------------------------------------

    def trade(self):
        owner, instrument = self.dice.choice(OWNERS), self.dice.choice((1, 2, 3))
        side = self.dice.choice(tuple(Side))
        quantity, price = self.amount(1, 5000, 3), self.mark(instrument)
        if self.dice.random() < 0.2:  # close what is held, to the last bit
            held = self.portfolio.position(owner, instrument).quantity
            if held:
                side, quantity = (Side.SELL if held > 0 else Side.BUY), abs(held)
        fee_asset = self.dice.choice(("USD", "USD", ASSETS[instrument], "EUR"))
        fee = self.amount(-20, 100, 4)
        fill = Fill(
            UUID(int=self.number), f"f{self.number}", 1, owner, instrument, side, quantity, price, fee,
            fee_asset, self.slip().at,
        )  # fmt: skip
        self.keep(self.portfolio.book(fill)[0])
        clerk, signed = self.clerk, Fraction(quantity) * side.sign
        clerk.exchange(owner, instrument, signed, Fraction(price))
        clerk.balance[ASSETS[instrument]] += signed
        clerk.balance["USD"] -= signed * Fraction(price)
        clerk.balance[fee_asset] -= Fraction(fee)
        rate = {"USD": Fraction(1), "EUR": clerk.price[3], ASSETS[instrument]: Fraction(price)}
        clerk.result[owner, instrument] -= Fraction(fee) * rate[fee_asset]
        if fee and fee_asset == ASSETS[instrument]:
            clerk.exchange(owner, instrument, -Fraction(fee), Fraction(price))

    def reprice(self):
        instrument = self.dice.choice((1, 2, 3))
        new = max(
            Decimal("0.5"),
            (self.mark(instrument) * self.amount(97, 103, 2)).quantize(Decimal("0.01")),
        )
        new = min(new, Decimal(5000))
        self.portfolio.mark(instrument, float(new))
        self.clerk.price[instrument] = Fraction(new)

    def _result(self, kind, amount, tax=Decimal(0)):
        owner, instrument = self.dice.choice(OWNERS), self.dice.choice((1, 2))
        if self.portfolio.cash < abs(amount) and amount < 0:
            return
        before = self._profit()
        posted = accounting.income(
            self.portfolio, self.slip(), kind, "USD", amount, instrument_id=instrument, owner=owner,
            tax=tax,
        )  # fmt: skip
        self.post(posted)
        if kind == "rebate":
            gained = self._profit() - before
            assert abs(gained - amount) < Decimal("1e-15"), "a rebate raises P&L once"
        self.clerk.balance["USD"] += Fraction(amount - tax)
        self.clerk.result[owner, instrument] += Fraction(amount - tax)

    def funding(self):
        self._result("funding", self.amount(1, 900, 2) * self.dice.choice((1, -1)))

    def interest(self):
        amount = self.amount(1, 900, 2)
        self.post(accounting.income(self.portfolio, self.slip(), "interest", "USD", amount))
        self.clerk.balance["USD"] += Fraction(amount)
        self.clerk.other += Fraction(amount)

    def borrow(self):
        self._result("borrow", -self.amount(1, 900, 2))

    def dividend(self):
        amount = self.amount(100, 900, 2)
        self._result("dividend", amount, (amount * Decimal("0.15")).quantize(Decimal("0.01")))

    def rebate(self):
        self._result("rebate", self.amount(1, 90, 2))

    def staking(self):
        instrument, amount = self.dice.choice((1, 2)), self.amount(1, 900, 3)
        price = Fraction(self.mark(instrument))
        self.post(
            accounting.income(self.portfolio, self.slip(), "staking", ASSETS[instrument], amount)
        )
        self.clerk.balance[ASSETS[instrument]] += Fraction(amount)
        self.clerk.exchange(0, instrument, Fraction(amount), price)
        self.clerk.result[0, instrument] += Fraction(amount) * price

    def deposit(self, amount=None):
        self._money(accounting.deposit, amount or self.amount(1, 9_000_000, 2), 1)

    def withdrawal(self):
        amount = self.amount(1, 3_000_000, 2)
        if self.portfolio.cash > amount and self.clerk.equity() > 2 * amount:
            self._money(accounting.withdrawal, amount, -1)

    def _money(self, book, amount, sign):
        self.point()
        before = time_weighted(self.points[-2:], []).value if len(self.points) > 1 else None
        self.clerk.flow(sign * Fraction(amount))
        slip = self.slip()
        self.post(book(self.portfolio, slip, "USD", amount))
        self.clerk.balance["USD"] += sign * Fraction(amount)
        self.flows.append(Flow(slip.at, sign * amount))
        self.point()
        if before is not None:
            after = time_weighted(self.points[-3:], self.flows[-1:]).value
            assert after == pytest.approx(before, abs=1e-12), "a deposit is no return"

    def transfer(self):
        amount = self.amount(1, 100_000, 2)
        arrives = self.dice.random() < 0.5
        if not arrives and self.portfolio.cash < amount * 2:
            return

        def half(portfolio, slip, asset, amount):
            return accounting.transfer(portfolio, slip, asset, amount, arrives=arrives)

        self._money(half, amount, 1 if arrives else -1)

    def in_kind(self):
        instrument, amount = self.dice.choice((1, 2, 3)), self.amount(1, 900, 3)
        value = Fraction(amount) * Fraction(self.mark(instrument))
        self.point()
        self.clerk.flow(value)
        slip = self.slip()
        posted = accounting.deposit(self.portfolio, slip, ASSETS[instrument], amount)
        flow = accounting.external_flow(self.portfolio, posted)
        assert Fraction(flow) == value
        self.post(posted)
        self.flows.append(Flow(slip.at, flow))
        self.point()
        self.clerk.balance[ASSETS[instrument]] += Fraction(amount)
        self.clerk.exchange(0, instrument, Fraction(amount), Fraction(self.mark(instrument)))

    def split(self):
        """4 for 1, and later back, so that numbers stay of a size."""
        instrument = self.dice.choice((1, 2))
        owners = [o for o in OWNERS if self.portfolio.position(o, instrument).quantity]
        if not owners or self._strays(instrument):
            return
        ratio = (1, 4) if self.split_back[instrument] else (4, 1)
        if ratio == (1, 4) and any(
            abs(self.portfolio.position(o, instrument).quantity) < Decimal("1e-6") for o in owners
        ):
            return
        self.split_back[instrument] = not self.split_back[instrument]
        before, worth = self._profit(), self.portfolio.equity()
        self.post(accounting.split(self.portfolio, self.slip(), instrument, *ratio))
        price = self.mark(instrument) * ratio[1] / ratio[0]
        self.portfolio.mark(instrument, float(price))
        self.clerk.price[instrument] = Fraction(decimal_number(float(price)))
        for owner in owners:
            was = self.clerk.held[owner, instrument]
            told = Decimal(was.numerator) * ratio[0] / (was.denominator * ratio[1])
            now = Fraction(told.quantize(Decimal("1e-12"), ROUND_HALF_EVEN))
            self.clerk.held[owner, instrument] = now
            self.clerk.balance[ASSETS[instrument]] += now - was
        assert self._profit() == pytest.approx(before, abs=Decimal("1e-6")), "a split is no gain"
        assert self.portfolio.equity() == pytest.approx(worth, abs=Decimal("1e-6"))

    def _strays(self, instrument):
        """Of this asset the account holds what no position has: fees were paid in it elsewhere."""
        held = sum(self.portfolio.position(o, instrument).quantity for o in OWNERS)
        return held != self.portfolio.balance(ASSETS[instrument])

    def symbol(self):
        old = self.dice.choice((1, 2))
        new = TWINS[old]
        for owner in OWNERS:
            if (
                self.portfolio.position(owner, old).quantity
                * self.portfolio.position(owner, new).quantity
                < 0
            ):
                return
        owners = [o for o in OWNERS if self.portfolio.position(o, old).quantity]
        if not owners:
            return
        self.portfolio.mark(new, self.portfolio.marks[old])
        self.clerk.price[new] = self.clerk.price[old]
        self.post(accounting.symbol_change(self.portfolio, self.slip(), old, new))
        for owner in owners:
            quantity = self.clerk.held.pop((owner, old))
            self.clerk.held[owner, new] += quantity
            self.clerk.cost[owner, new] += self.clerk.cost.pop((owner, old))
            self.clerk.balance[ASSETS[old]] -= quantity
            self.clerk.balance[ASSETS[new]] += quantity

    def adjust(self):
        amount = self.amount(1, 900, 2) * self.dice.choice((1, -1))
        if self.portfolio.cash < -amount:
            return
        self.post(accounting.adjustment(self.portfolio, self.slip(), "USD", amount))
        self.clerk.balance["USD"] += Fraction(amount)
        self.clerk.other += Fraction(amount)

    def adopt(self):
        giver, taker = self.dice.sample(OWNERS, 2)
        instrument = self.dice.choice((1, 2, 3))
        given = self.portfolio.position(giver, instrument).quantity
        if not given or self.portfolio.position(taker, instrument).quantity * given < 0:
            return
        slip = self.slip()
        self.post(
            adopting.handed_over(
                self.portfolio,
                1,
                instrument,
                giver,
                taker,
                abs(given),
                slip.at,
                UUID(int=self.number),
            )
        )
        self.clerk.held[taker, instrument] += self.clerk.held.pop((giver, instrument))
        self.clerk.cost[taker, instrument] += self.clerk.cost.pop((giver, instrument))

    def dust(self):
        owner, instrument = self.dice.choice(OWNERS), self.dice.choice((1, 2, 3))
        held = self.portfolio.position(owner, instrument).quantity
        if not held or abs(held) * self.mark(instrument) > 500:
            return
        self.post(accounting.write_off(self.portfolio, self.slip(), instrument, owner))
        quantity, cost = (
            self.clerk.held.pop((owner, instrument)),
            self.clerk.cost.pop((owner, instrument)),
        )
        self.clerk.balance[ASSETS[instrument]] -= quantity
        self.clerk.result[owner, instrument] -= cost

    # What must hold -----------------------------------------------------------------------------

    def _profit(self):
        return sum(
            (p.realised + p.unrealised(self.mark(i)) - p.fees
             for (_, i), p in self.portfolio.positions.items()), Decimal(0),
        )  # fmt: skip

    def check(self):
        clerk, portfolio = self.clerk, self.portfolio
        zero = defaultdict(Decimal)
        for (_, asset), amount in self.sums.items():
            zero[asset] += amount
        assert not any(zero.values()), "postings sum to zero for every asset"
        for asset, amount in clerk.balance.items():
            assert Fraction(portfolio.balance(asset)) == amount, asset
            assert Fraction(self.sums["holding", asset]) == amount, asset
        for key, position in portfolio.positions.items():
            assert Fraction(position.quantity) == clerk.held[key], key
            near = pytest.approx(float(clerk.result[key]), rel=1e-9, abs=1e-6)
            assert float(position.realised - position.fees) == near, key
            assert float(position.cost) == pytest.approx(float(clerk.cost[key]), rel=1e-9, abs=1e-6)
            lots = self.lots.lots_of(key)
            assert sum((lot.quantity for lot in lots), Decimal(0)) == position.quantity, key
        assert float(portfolio.equity()) == pytest.approx(float(clerk.equity()), rel=1e-12)

    def check_returns(self):
        self.point()
        growth = self.clerk.growth * float(self.clerk.equity() / self.clerk.since) - 1
        first = next(n for n, flow in enumerate(self.flows) if flow.at > self.points[0].at)
        # The first deposit is where the account begins.
        points = [p for p in self.points if p.equity and p.equity > 0]
        assert time_weighted(points, self.flows[first:]).value == pytest.approx(growth, rel=1e-6)

    def check_export(self):
        """What is written as CSV and read back comes to the same totals."""
        from webapp.books.listing import csv_lines

        names = list(LedgerEntry.__struct_fields__)
        head = [*names, "id"]
        rows = ([*(getattr(e, n) for n in names), i] for i, e in enumerate(self.kept))
        text = "".join(csv_lines(head, rows))
        assert set(COLUMNS) <= set(head)
        told, known = totals(read(io.StringIO(text, newline=""))), totals(self.kept)
        assert told == known
        assert told.out_of_balance == {}
        assert told.gains == dict(self.closed)
        for asset, amount in self.clerk.balance.items():
            assert Fraction(told.books["holding", asset]) == amount


def proved(name, events, every):
    pair = Pair(name)
    for n in range(events):
        pair.step()
        if n % every == 0:
            pair.check()
    pair.check()
    pair.check_returns()
    pair.check_export()
    return pair


def test_ledger_events_of_every_kind_balance_and_agree_with_an_independent_clerk():
    pair = proved("sample", 6_000, 200)
    kinds = {entry.kind for entry in pair.kept}
    assert kinds >= {
        "fill", "fee", "rebate", "funding", "interest", "borrow", "dividend", "tax", "staking", "deposit",
        "withdrawal", "transfer", "split", "symbol_change", "adopt", "adjustment", "dust",
    }  # fmt: skip


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_a_million_ledger_events_balance_and_agree_with_an_independent_clerk():
    """In ten accounts: a million events altogether, each account's books checked a thousand times."""
    assert sum(proved(f"account {n}", 105_000, 100).number for n in range(10)) >= 1_000_000
