"""Archives, folders, files of several symbols, trades and saved mappings, from the command line into the history."""

import json
import zipfile
from decimal import Decimal

import pytest
import sqlalchemy as sa

from deploy.cli import main
from engine.history import coverage
from shared.db.market import BarRow, ImportMappingRow, ImportRow, InstrumentRow, SeriesRow
from shared.db.sessions import make_sessions
from shared.domain.market import interval_text

DAY = 86_400
KRAKEN = "".join(f"{1577836800 + 60 * n},7{n}.5,80,70.25,71,{n}.125,3\n" for n in range(5))
TRADES = "1577836800,100.5,1\n1577836830,101,0.5\n1577836930,99.25,2\n1577840400,98,1\n"
LONG = "date,ticker,open,high,low,close,volume\n" + "".join(
    f"2020-01-{day:02},{name},{day},{day + 2},{day - 1},{day},5\n"
    for day in (6, 7, 8)
    for name in ("AAA", "BBB", "CCC")
)
ODD = "Wann,Auf,Hoch,Tief,Zu,Menge\n2020-01-06,1,3,1,2,5\n2020-01-07,1,3,1,2,5\n"
ODD_COLUMNS = "time=Wann,open=Auf,high=Hoch,low=Tief,close=Zu,volume=Menge"


@pytest.fixture
def sessions(settings):
    made = make_sessions(settings.database_url)
    yield made
    made.kw["bind"].dispose()


@pytest.fixture
def seraphim(sessions, settings, monkeypatch, capsys):
    """Run the command line on this test's installation: (exit code, output, errors)."""
    monkeypatch.setenv("SERAPHIM_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)

    def run(*arguments):
        capsys.readouterr()
        code = main(["import", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def stored(sessions):
    """{(symbol, interval): bars}"""
    with sessions() as session:
        rows = session.execute(
            sa.select(InstrumentRow.symbol, SeriesRow.interval, SeriesRow.bars).join(
                SeriesRow, SeriesRow.instrument_id == InstrumentRow.id
            )
        )
        return {(symbol, interval_text(interval)): bars for symbol, interval, bars in rows}


def count(sessions, row):
    with sessions() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(row))


def archive(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(f"{name}.csv", text)
    return path


def test_an_archive_of_kraken_goes_into_a_series_for_each_file(seraphim, sessions, tmp_path):
    path = archive(tmp_path / "kraken.zip", XBTUSD_1=KRAKEN, ETHEUR_1=KRAKEN, XBTEUR=TRADES)
    code, out, _ = seraphim(path, "--yes")
    assert code == 0
    assert "XBTUSD_1.csv: BTC/USD 1m, 24/7" in out
    assert "3 series: 13 bars added" in out
    assert stored(sessions) == {
        ("BTC/USD", "1m"): 5, ("ETH/EUR", "1m"): 5, ("BTC/EUR", "1m"): 3,
    }  # fmt: skip
    with sessions() as session:
        names = session.scalars(sa.select(ImportRow.file_name).order_by(ImportRow.file_name)).all()
    assert names == [f"kraken.zip/{name}.csv" for name in ("ETHEUR_1", "XBTEUR", "XBTUSD_1")]


def test_one_bad_file_refuses_its_whole_archive(seraphim, sessions, tmp_path):
    late = KRAKEN + "1577837400,1,2,0.5,oops,1,1\n"
    path = archive(tmp_path / "kraken.zip", XBTUSD_1=KRAKEN, ETHEUR_1=late)
    code, _, err = seraphim(path, "--yes")
    assert code == 1
    assert 'line 6, column 5 "oops": is no number' in err
    assert stored(sessions) == {}
    code, _, _ = seraphim(path, "--yes", "--only", "XBT*")
    assert (code, stored(sessions)) == (0, {("BTC/USD", "1m"): 5})


def test_damage_beyond_what_was_looked_at_leaves_nothing_of_the_archive(
    seraphim, sessions, tmp_path
):
    long = "".join(f"{1577836800 + 60 * n},1,2,0.5,1,1,1\n" for n in range(3_000))
    path = archive(tmp_path / "kraken.zip", ETHEUR_1=KRAKEN, XBTUSD_1=long + "1,1,1,1,1,1,1\n")
    code, _, err = seraphim(path, "--yes")
    assert code == 1
    assert "kraken.zip/XBTUSD_1.csv: line 3001" in err
    assert stored(sessions) == {}
    assert count(sessions, BarRow) == 0


def test_a_folder_is_imported_file_by_file_and_says_which_was_refused(seraphim, sessions, tmp_path):
    folder = tmp_path / "prices"
    (folder / "more").mkdir(parents=True)
    (folder / "XBTUSD_1.csv").write_text(KRAKEN)
    (folder / "more" / "ETHUSD_1.csv").write_text(KRAKEN)
    (folder / "ADAUSD_1.csv").write_text(KRAKEN.replace("80,", "1,"))
    code, out, _ = seraphim(folder, "--yes")
    assert code == 1
    assert "2 of 3 files imported." in out
    assert 'ADAUSD_1.csv: refused: ADAUSD_1.csv: line 1, column 2 "70.5": the open is above' in out
    assert set(stored(sessions)) == {("BTC/USD", "1m"), ("ETH/USD", "1m")}
    code, out, _ = seraphim(str(folder / "*.csv"), "--json")
    told = {entry["file"].rpartition("/")[2]: entry for entry in json.loads(out)}
    assert told["XBTUSD_1.csv"]["rows_unchanged"] == 5
    assert not told["ADAUSD_1.csv"]["imported"]


def test_all_symbols_of_a_long_file_go_in_at_once_or_one_that_is_named(
    seraphim, sessions, tmp_path
):
    path = tmp_path / "long.csv"
    path.write_text(LONG)
    code, out, _ = seraphim(path, "--symbol", "BBB", "--interval", "1d", "--yes")
    assert (code, stored(sessions)) == (0, {("BBB", "1d"): 3})
    code, out, _ = seraphim(path, "--yes")
    assert code == 0
    assert "3 symbols" in out
    assert "3 series: 6 bars added, 3 already there" in out
    assert stored(sessions) == {("AAA", "1d"): 3, ("BBB", "1d"): 3, ("CCC", "1d"): 3}


def test_two_files_of_one_series_are_put_together_in_one_archive(seraphim, sessions, tmp_path):
    later = KRAKEN.replace("1577837040", "1577837100")  # the last minute is another one
    path = archive(tmp_path / "k.zip", **{"2019/XBTUSD_1": KRAKEN, "2020/XBTUSD_1": later})
    code, out, _ = seraphim(path, "--yes")
    assert code == 0
    assert "6 bars added, 4 already there" in out
    assert stored(sessions) == {("BTC/USD", "1m"): 6}


def test_bars_have_a_series_and_an_instrument_with_history_cannot_go(seraphim, sessions, tmp_path):
    path = tmp_path / "XBTUSD_1.csv"
    path.write_text(KRAKEN)
    seraphim(path, "--yes")
    with sessions() as session:
        orphans = sa.select(sa.func.count()).select_from(BarRow).where(
            ~sa.exists().where(
                SeriesRow.instrument_id == BarRow.instrument_id,
                SeriesRow.source == BarRow.source,
                SeriesRow.interval == BarRow.interval,
            )
        )  # fmt: skip
        assert session.scalar(orphans) == 0
        with pytest.raises(sa.exc.IntegrityError, match="fk_series_instrument_id"):
            session.execute(sa.delete(InstrumentRow))


def test_a_second_import_revises_and_says_so(seraphim, sessions, tmp_path):
    path = tmp_path / "XBTUSD_1.csv"
    path.write_text(KRAKEN)
    seraphim(path, "--yes")
    path.write_text(KRAKEN.replace("71,3.125", "71.00,4"))
    _, out, _ = seraphim(path, "--yes")
    assert "BTC/USD 1m: 0 bars added, 1 revised, 4 already there" in out
    with sessions() as session:
        series = session.scalars(sa.select(SeriesRow)).one()
        assert (series.bars, series.revision) == (5, 1)
        assert coverage(session, series.id).revised == 1


def test_digits_are_stored_as_they_are_written(seraphim, sessions, tmp_path):
    path = tmp_path / "x.csv"
    numbers = ["0.10", "123456789.12345678", "0.00000001", "0.1000", "98765432109.5"]
    path.write_text("time,open,high,low,close,volume\n2020-01-01 00:00," + ",".join(numbers) + "\n")
    assert seraphim(path, "--symbol", "X", "--interval", "1m", "--yes")[0] == 0
    with sessions() as session:
        bar = session.scalars(sa.select(BarRow)).one()
    assert [str(n) for n in (bar.open, bar.high, bar.close, bar.volume)] == [
        "0.10", "123456789.12345678", "0.1000", "98765432109.5",
    ]  # fmt: skip
    assert bar.low == Decimal("0.00000001")


def test_trades_become_bars_of_several_intervals(seraphim, sessions, tmp_path):
    path = tmp_path / "XBTUSD.csv"
    path.write_text(TRADES)
    code, out, _ = seraphim(path, "--trades-to", "1m,1h", "--yes")
    assert code == 0
    assert "bars are made of them" in out
    assert stored(sessions) == {("BTC/USD", "1m"): 3, ("BTC/USD", "1h"): 2}
    with sessions() as session:
        hour = session.scalars(
            sa.select(BarRow).where(BarRow.interval == 3_600).order_by(BarRow.opened_at)
        ).first()
    assert (hour.open, hour.high, hour.low, hour.close, hour.volume) == (
        Decimal("100.5"), 101, Decimal("99.25"), Decimal("99.25"), Decimal("3.5"),
    )  # fmt: skip
    code, _, err = seraphim(path, "--trades-to", "7m", "--yes")
    assert (code, "whose length divides a day" in err) == (1, True)


def test_columns_are_saved_used_again_for_the_same_header_and_forgotten(
    seraphim, sessions, tmp_path
):
    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    first.write_text(ODD)
    second.write_text(ODD.replace("2020-01", "2020-02"))
    options = ["--symbol", "ODD", "--interval", "1d", "--calendar", "24/7", "--yes"]
    code, _, err = seraphim(first, *options)
    assert (code, "no column for time was found" in err) == (1, True)
    assert seraphim(first, *options, "--columns", ODD_COLUMNS, "--save-mapping", "odd")[0] == 0
    code, out, _ = seraphim(second, *options)
    assert code == 0
    assert "close = Zu" in out
    assert "(saved as odd)" in out
    assert stored(sessions) == {("ODD", "1d"): 4}
    assert "odd: time = Wann" in seraphim("--mappings")[1]
    assert seraphim(second, *options, "--mapping", "odd")[0] == 0
    code, _, err = seraphim(second, *options, "--mapping", "even")
    assert (code, "saved are: odd" in err) == (2, True)
    assert seraphim("--forget-mapping", "odd")[0] == 0
    assert count(sessions, ImportMappingRow) == 0


def test_guessed_columns_are_never_imported_unseen(seraphim, sessions, tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("2020-01-01 00:00,1,3,1,2,5\n2020-01-01 00:01,1,3,1,2,5\n")
    options = ["--symbol", "X", "--interval", "1m", "--yes"]
    code, _, err = seraphim(path, *options)
    assert code == 2
    assert "has no header" in err
    columns = err.partition('--columns "')[2].partition('"')[0]
    assert seraphim(path, *options, "--columns", columns)[0] == 0
    assert stored(sessions) == {("X", "1m"): 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which file"),
        (["/nowhere/x.csv"], "there is no such file"),
        (["/nowhere/*.csv"], "there is no such file"),
        (["--forget-mapping", "odd"], "there is none of this name"),
    ],
)
def test_what_cannot_be_done_is_said_with_an_exit_code(seraphim, arguments, said):
    code, _, err = seraphim(*arguments)
    assert code == 2
    assert said in err
