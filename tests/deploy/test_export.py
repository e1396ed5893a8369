"""Exported files: exact, re-importable, and refused when they are not what they say."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from deploy.cli import main
from shared.db.market import InstrumentRow
from shared.db.sessions import make_engine
from shared.db.trading import AccountRow, LedgerEntryRow
from shared.domain.ledger import entries_of
from shared.domain.ledger_file import NotALedger, read, totals
from shared.domain.orders import Fill, Side
from tests.builders import an_instrument

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def installed(settings, monkeypatch):
    """The command line's settings, and an account that bought twice and sold once."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SERAPHIM_HOME", str(settings.home))
    engine = make_engine(settings.database_url, poolclass=sa.NullPool)
    with Session(engine) as session:
        account = AccountRow(
            name="paper", kind="internal", venue="v", base_asset="USD", clock="real", feed={}, costs={},
            risk_policy={},
        )  # fmt: skip
        instrument = InstrumentRow(
            venue="v", symbol="X1/USD", base_asset="X1", quote_asset="USD", calendar="24/7"
        )
        session.add_all([account, instrument])
        session.flush()
        for day, side, quantity, price in ((0, "buy", "0.1", "100.123456789"), (1, "buy", "1", "300"), (400, "sell", "0.5", "400")):  # fmt: skip
            fill = Fill(
                uuid4(), f"f{day}", account.id, 0, instrument.id, Side(side), Decimal(quantity),
                Decimal(price), Decimal("0.01"), "USD", START + timedelta(days=day),
            )  # fmt: skip
            for e in entries_of(fill, an_instrument(instrument.id)):
                given = {name: getattr(e, name) for name in e.__struct_fields__}
                session.add(LedgerEntryRow(**{**given, "note": "=1+1"}))
        session.commit()
    return settings


def test_an_exported_ledger_checks_against_the_books(installed, tmp_path, capsys):
    file = tmp_path / "ledger.csv"
    assert main(["export", "ledger", "-o", str(file)]) == 0
    assert "9 rows of paper" in capsys.readouterr().out
    assert main(["books", "check", str(file)]) == 0
    assert (
        "9 entries: every book and every gain is what the database has" in capsys.readouterr().out
    )
    entries = read(file.read_text().splitlines(keepends=True))
    assert entries[0].amount == Decimal("0.1")
    assert entries[1].amount == Decimal("10.0123456789")
    assert entries[0].note == "=1+1"
    assert totals(entries).out_of_balance == {}


def test_a_changed_file_is_told_apart(installed, tmp_path, capsys):
    file = tmp_path / "ledger.csv"
    main(["export", "ledger", "-o", str(file)])
    file.write_text(file.read_text().replace("10.0123456789", "10.0123456788"))
    assert main(["books", "check", str(file)]) == 1
    assert "the file says" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "line 1: the column id is missing"),
        ("{head}1,1,2026-01-01T00:00:00+00:00,fill,USD,lots,a,b,r,l,,,,\n", "line 2, amount: 'lots'"),
        ("{head}1,1,2026-01-01T00:00:00+00:00,fill,USD,-1,a,b,r,l,,,,\n", "must be above 0"),
        ("{head}1,1,yesterday,fill,USD,1,a,b,r,l,,,,\n", "line 2, at: 'yesterday'"),
        ("{head}x,1,2026-01-01T00:00:00+00:00,fill,USD,1,a,b,r,l,,,,\n", "line 2, id: 'x'"),
    ],
)  # fmt: skip
def test_what_is_no_ledger_is_refused_with_line_column_and_value(text, why):
    head = (
        "id,account_id,at,kind,asset,amount,debit,credit,reference,leg,strategy_id,instrument_id,"
        "worth,note\n"
    )
    with pytest.raises(NotALedger, match=why):
        read(text.replace("{head}", head).splitlines(keepends=True))


def test_lots_are_exported_by_method_and_year(installed, capsys):
    assert main(["export", "lots", "--method", "lifo", "--year", "2027"]) == 0
    [lot] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (lot["quantity"], lot["cost"], lot["term"]) == ("0.5", "150.0", "long")
    main(["export", "lots", "--year", "2026"])
    assert list(csv.DictReader(io.StringIO(capsys.readouterr().out))) == []


@pytest.mark.parametrize("what", ["fills", "orders", "positions"])
def test_every_list_has_its_head_even_when_empty(installed, capsys, what):
    assert main(["export", what]) == 0
    assert "account_id" in capsys.readouterr().out


def test_an_account_nobody_has_is_named_with_those_there_are(installed, capsys):
    assert main(["export", "fills", "--account", "mine"]) == 2
    assert "there is no account 'mine' (known: paper)" in capsys.readouterr().err
