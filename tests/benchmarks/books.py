"""Every list of the books at a million fills: first page, deepest page, narrowed, sorted; and its CSV.

`make bench ARGS=books`. Rows are made by the database from their number alone; nothing is read from outside.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from flask.testing import FlaskClient

from deploy.embedded import using
from deploy.schema import migrate
from shared.db.console import UserRow
from shared.db.sessions import make_engine
from shared.settings import Settings
from webapp import create_app

FILLS = 1_000_000
REPEATS = 21
PER_FILL = 5
"""Seconds of market time between two fills."""

ROWS = (
    """INSERT INTO instruments (venue, symbol, base_asset, quote_asset, calendar)
       SELECT 'simulated', 'A' || i || '/USD', 'A' || i, 'USD', '24/7' FROM generate_series(1, 20) i""",
    """INSERT INTO accounts (name, kind, venue, base_asset, clock, feed, costs, risk_policy, market_time)
       VALUES ('paper', 'internal', 'simulated', 'USD', 'simulated', '{}', '{}', '{}',
               '2024-01-01Z'::timestamptz + :n * interval '5 seconds')""",
    "INSERT INTO strategy_code (hash, file_name, source, origin) VALUES ('h', 'f', '', 'user')",
    """INSERT INTO strategies (name, type, code_hash, parameters, account_id, inputs, allocation, sizing, state)
       SELECT 's' || i, 't', 'h', '{}', 1, '{}', 1, '{}', '{}' FROM generate_series(1, 40) i""",
    """INSERT INTO positions (account_id, strategy_id, instrument_id, quantity, cost, realised, fees, updated_at)
       SELECT 1, s, 1 + s % 20, s, s * 100, s, 1, '2024-01-01Z' FROM generate_series(1, 40) s""",
    """INSERT INTO decisions (id, account_id, strategy_id, instrument_id, decided_at, kind, target, previous,
                              because, price, checks, steps, outcome, reason)
       SELECT {id}, 1, {strategy}, {instrument}, {at}, 'signal', 1, 0, 'RSI 24.1 below 30', 100, '[]', '[]',
              CASE WHEN i % 9 = 0 THEN 'denied' ELSE 'ordered' END, '' FROM {rows}""",
    """INSERT INTO order_intents (client_order_id, decision_id, account_id, strategy_id, instrument_id, leg, side,
                                  type, quantity, decided_at)
       SELECT {id}, {id}, 1, {strategy}, {instrument}, 'entry', {side}, 'market', 1 + i % 7, {at} FROM {rows}""",
    """INSERT INTO orders (client_order_id, account_id, strategy_id, instrument_id, decided_at, state, quantity,
                           filled_quantity, filled_value, fees, updated_at)
       SELECT {id}, 1, {strategy}, {instrument}, {at}, CASE WHEN i % 5000 = 0 THEN 'rejected' ELSE 'filled' END,
              1 + i % 7, 1 + i % 7, (1 + i % 7) * {price}, 0.1, {at} FROM {rows}""",
    """INSERT INTO fills (venue, account_id, venue_fill_id, client_order_id, strategy_id, instrument_id, side,
                          quantity, price, fee, fee_asset, liquidity, realised, filled_at)
       SELECT 'simulated', 1, 'f' || i, {id}, {strategy}, {instrument}, {side}, 1 + i % 7, {price},
              0.001 * (i % 1000), 'USD', 'taker', i % 4001 - 2000, {at} FROM {rows}""",
    """INSERT INTO ledger_entries (account_id, strategy_id, at, kind, asset, amount, debit, credit, reference, leg,
                                   instrument_id)
       SELECT 1, {strategy}, {at}, CASE WHEN leg = 'fee' THEN 'fee' ELSE 'fill' END,
              CASE WHEN leg = 'base' THEN 'A' || {instrument} ELSE 'USD' END, 1 + i % 9973,
              CASE WHEN leg = 'fee' THEN 'fees' WHEN leg = 'base' THEN 'holding' ELSE 'trading' END,
              CASE WHEN leg = 'base' THEN 'trading' ELSE 'holding' END, 'fill:f' || i, leg, {instrument}
       FROM {rows}, unnest(ARRAY['base', 'quote', 'fee']) leg""",
    """INSERT INTO lots (account_id, strategy_id, instrument_id, side, kind, quantity, opened_at, opened_by,
                         closed_at, closed_by, proceeds, cost, fees, gain, term)
       SELECT 1, {strategy}, {instrument}, 'long', 'fill', 1, {at}, 'fill:f' || i, {at} + interval '1 day',
              'fill:f' || (i + 1), 110, 100, 1, i % 9973, 'short' FROM {rows}""",
    """INSERT INTO lot_books (account_id, method, entry_id, books)
       SELECT 1, 'fifo', max(id), '{"holding": {"USD": "1000000", "A1": "5"}}' FROM ledger_entries""",
)  # fmt: skip
BLANKS = {
    "id": "md5(i::text)::uuid",
    "strategy": "(1 + i % 40)",
    "instrument": "(1 + i % 20)",
    "side": "CASE WHEN i % 2 = 0 THEN 'buy' ELSE 'sell' END",
    "price": "(100 + i % 37)",
    "at": "('2024-01-01Z'::timestamptz + i * interval '5 seconds')",
    "rows": "generate_series(1, :n) i",
}
LISTS = {
    "orders": ("decided", "updated", "value"),
    "fills": ("filled", "realised", "fee"),
    "ledger": ("time", "amount"),
    "lots": ("opened", "closed", "gain"),
    "decisions": ("decided",),
}
NARROWED = {
    "orders": ("strategy=7", "instrument=3&side=buy", "state=rejected", "from=2024-02-10&to=2024-02-11"),
    "fills": ("strategy=7", "instrument=3&side=buy", "id=f4711", "from=2024-02-10&to=2024-02-11"),
    "ledger": ("kind=fee&strategy=7", "asset=A3", "strategy=7&instrument=3", "id=fill:f4711"),
    "lots": ("strategy=7&state=closed", "instrument=3"),
    "decisions": ("outcome=denied", "strategy=7"),
}  # fmt: skip


def main(fills: int = FILLS) -> int:
    with tempfile.TemporaryDirectory() as home, using("postgres", Path(home), scratch=False) as url, using(
        "redis", Path(home), scratch=True
    ) as redis_url:  # fmt: skip
        migrate(url)
        started = time.perf_counter()
        seed(url, fills)
        print(f"\n{fills:,} fills, orders, decisions and lots, {3 * fills:,} ledger entries,"
              f" made in {time.perf_counter() - started:.0f} s\n")  # fmt: skip
        settings = Settings.from_env({"SERAPHIM_HOME": home}).with_urls(url, redis_url)
        report(a_browser(settings))
    return 0


def seed(url: str, fills: int) -> None:
    """The rows, and the statistics a planner would have. Indexes are made once all is there."""
    engine = make_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        indexes = connection.execute(sa.text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE 'ix%'"
        )).all()  # fmt: skip
        for index in indexes:
            connection.execute(sa.text(f"DROP INDEX {index.indexname}"))
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in ROWS:
            for blank, value in BLANKS.items():
                statement = statement.replace(f"{{{blank}}}", value)
            given = {"n": fills} if ":n" in statement else {}
            connection.execute(sa.text(statement), given)
        for index in indexes:
            connection.execute(sa.text(index.indexdef))
        connection.execute(sa.insert(UserRow).values(username="v", password_hash="x", role="viewer", timezone="UTC"))  # fmt: skip
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def a_browser(settings: Settings) -> FlaskClient:
    app = create_app(settings)
    app.testing = True
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = "1.1", True
    with app.app_context():
        from webapp.db import db

        db.session.execute(sa.text("UPDATE users SET session_version = 1"))
        db.session.commit()
    return client


def report(client: FlaskClient) -> None:
    print(f"{'page, through the whole console':<58} {'p50 ms':>8} {'p95 ms':>8}")
    worst = 0.0
    for name, sorts in LISTS.items():
        addresses = [f"/books/{name}?sort={sort}&dir={way}{end}" for sort in sorts
                     for way, end in (("desc", ""), ("desc", "&end=last"), ("asc", ""))]  # fmt: skip
        addresses += [f"/books/{name}?{narrowed}{end}" for narrowed in NARROWED[name]
                      for end in ("", "&end=last")]  # fmt: skip
        for address in addresses:
            p50, p95 = timed(client, address)
            worst = max(worst, p95)
            print(f"{address:<58} {p50:>8.0f} {p95:>8.0f}{'   over 200' if p95 > 200 else ''}")
    for address in ("/books/positions", "/books/account"):
        p50, p95 = timed(client, address)
        print(f"{address:<58} {p50:>8.0f} {p95:>8.0f}")
    print(f"\nslowest list page at p95: {worst:.0f} ms")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, size = time.perf_counter(), 0
    for piece in client.get("/books/fills.csv", buffered=False).response:
        size += len(piece)
    seconds = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(
        f"all fills as CSV: {size / 1e6:.0f} MB in {seconds:.0f} s, memory grew by {grown:.0f} MB"
    )


def timed(client: FlaskClient, address: str) -> tuple[float, float]:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        answer = client.get(address)
        times.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, (address, answer.status_code)
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]
