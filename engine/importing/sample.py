"""Sample data: real daily prices of five US stocks, from a package that comes with the installation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from engine.history import Added, Adding
from engine.importing.job import Target, series_for
from engine.importing.layout import Layout
from engine.importing.problems import BadFile
from engine.importing.reading import Series, rows
from engine.importing.sources import Source
from engine.work import JobRefused, Work
from shared.jobs import SampleDataRequest

SYMBOLS: Final = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
SOURCE: Final = "sample"
DAY_SECONDS: Final = 86_400
LAYOUT: Final = Layout(
    time="Date",
    open="Open",
    high="High",
    low="Low",
    close="Close",
    volume="Volume",
    adjusted_close="Adj Close",
    symbol="Ticker",
    date_style="year-first",
)


def run(request: SampleDataRequest, work: Work) -> dict[str, Any]:
    """Load the five stocks, all of them or none. Loading them again adds nothing."""
    return load(stocks_file(), work)


def stocks_file() -> Path:
    """Where the package keeps the file; the package itself is not imported, since it pulls in pandas."""
    package = find_spec("bokeh_sampledata")
    if package is None or package.origin is None:
        raise JobRefused("The package bokeh_sampledata is not installed: run `make run` again.")
    return Path(package.origin).parent / "_data" / "stocks.csv.gz"


def load(path: Path, work: Work) -> dict[str, Any]:
    """The stocks of a file laid out as `LAYOUT` says."""
    source = Source(path, path.name)
    with work.sessions() as session:
        loaded = {}
        for number, symbol in enumerate(SYMBOLS):
            work.progress(number / len(SYMBOLS), f"Loading {symbol}")
            target = Target(symbol, "USD", "stock", "XNYS", tick_size="0.01")
            series_id = series_for(session, target, SOURCE, DAY_SECONDS)
            adding = Adding(session.connection(), series_id, work.job_id)
            series = Series(DAY_SECONDS, target.calendar)
            try:
                read = rows(source, LAYOUT, series, keys=(symbol,))
                adding.take(row.copy_line() for row in read)
            except BadFile as bad:
                raise JobRefused(str(bad)) from bad
            for _ in adding.store():
                pass
            loaded[symbol] = (series_id, adding.added)
        result = _result(loaded)
        work.finish(session, result)
        session.commit()
    return result


def _result(loaded: dict[str, tuple[int, Added]]) -> dict[str, Any]:
    added = sum(one.added for _, one in loaded.values())
    there = sum(one.unchanged for _, one in loaded.values())
    text = f"{added:,} daily bars of {', '.join(loaded)}"
    if not added:
        text = f"{', '.join(loaded)}: all {there:,} daily bars were there already"
    return {
        "text": text,
        "link": "/data",
        "series": {symbol: series_id for symbol, (series_id, _) in loaded.items()},
        "rows_added": added,
        "rows_unchanged": there,
    }
