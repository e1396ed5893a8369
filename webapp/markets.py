"""Markets: every instrument with its newest price, and candles of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from flask import Blueprint, Response, abort, render_template, request

from shared.db.market import InstrumentRow, SeriesRow
from shared.db.trading import AccountRow, StrategyRow
from shared.domain.market import interval_text
from webapp import accounts, auth, charts, live
from webapp.db import db
from webapp.partials import is_current, partial, stamp, unchanged

bp = Blueprint("markets", __name__, url_prefix="/markets")

DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Listed:
    """One instrument in the list. `price` is the quote's when there is one, else the last close."""

    instrument: InstrumentRow
    series: SeriesRow | None
    quote: live.Quote | None
    closes: list[float]
    closed_at: datetime | None

    @property
    def price(self) -> float | None:
        if self.quote and self.quote.mark is not None:
            return self.quote.mark
        return self.closes[-1] if self.closes else None

    @property
    def is_live(self) -> bool:
        return self.quote is not None

    @property
    def change(self) -> float | None:
        """Against the first close of the sparkline."""
        if self.price is None or len(self.closes) < 2:
            return None
        return self.price / self.closes[0] - 1

    @property
    def spark(self) -> list[float]:
        return [*self.closes, self.price] if self.is_live and self.price else self.closes

    @property
    def spread(self) -> float | None:
        """Of the quote, as a fraction of its middle."""
        quote = self.quote
        if quote is None or not quote.bid or not quote.ask:
            return None
        return (quote.ask - quote.bid) * 2 / (quote.ask + quote.bid)


@dataclass(frozen=True, slots=True)
class Market:
    """The instruments of one venue."""

    venue: str
    rows: list[Listed]
    version: str

    @property
    def is_quoted(self) -> bool:
        return any(row.is_live for row in self.rows)


@bp.get("/")
@auth.viewer
def page() -> str:
    return render_template("markets/page.html", markets=markets())


def markets() -> list[Market]:
    """By venue, the chosen account's first; instruments by symbol."""
    instruments = list(
        db.session.scalars(
            sa.select(InstrumentRow).order_by(InstrumentRow.venue, InstrumentRow.symbol)
        )
    )
    account = accounts.chosen()
    venues = sorted(
        {i.venue for i in instruments}, key=lambda v: (v != (account.venue if account else ""), v)
    )
    return [_market(venue, [i for i in instruments if i.venue == venue]) for venue in venues]


def _market(venue: str, instruments: list[InstrumentRow]) -> Market:
    quoted = live.quotes(instruments)
    rows = []
    for instrument in instruments:
        series = charts.finest_series(instrument.id)
        shown = charts.candles(series, series.interval, limit=60) if series else []
        rows.append(
            Listed(
                instrument=instrument,
                series=series,
                quote=quoted.get(instrument.id),
                closes=[float(c.close) for c in shown],
                closed_at=series.last_closed_at if series else None,
            )
        )
    seen = [(r.instrument.id, r.price, r.closed_at) for r in rows]
    return Market(venue, rows, stamp(seen))


@bp.get("/venue/<venue>")
@auth.viewer
def venue_part(venue: str) -> Response:
    """One venue's table."""
    query = sa.select(InstrumentRow).where(InstrumentRow.venue == venue)
    instruments = list(db.session.scalars(query.order_by(InstrumentRow.symbol)))
    if not instruments:
        abort(404)
    now = _market(venue, instruments)
    if is_current(now.version):
        return unchanged()
    return partial(render_template("markets/_venue.html", market=now))


@dataclass(frozen=True, slots=True)
class Ticker:
    """The numbers above an instrument's candles."""

    instrument: InstrumentRow
    quote: live.Quote | None
    series: SeriesRow | None
    last_close: float | None
    holdings: list[accounts.Holding]
    account: AccountRow | None
    version: str


@bp.get("/<int:instrument_id>")
@auth.viewer
def instrument(instrument_id: int) -> str:
    """Candles with own trades and order lines, and what is held."""
    row = _instrument(instrument_id)
    intervals = charts.intervals_of(row.id)
    asked = request.args.get("interval", type=int)
    interval = asked if asked in intervals else (intervals[0] if intervals else 60)
    return render_template(
        "markets/instrument.html",
        instrument=row,
        interval=interval,
        intervals=[(i, interval_text(i)) for i in intervals],
        ticker=ticker(row),
        strategies=_strategies_on(row),
        all_series=_series_of(row),
        interval_text=interval_text,
    )


def _instrument(instrument_id: int) -> InstrumentRow:
    row = db.session.get(InstrumentRow, instrument_id)
    if row is None:
        abort(404)
    return row


def ticker(instrument: InstrumentRow) -> Ticker:
    account = accounts.chosen()
    held = [
        h
        for h in (accounts.holdings(account.id) if account else [])
        if h.instrument.id == instrument.id
    ]
    quote = live.quotes([instrument]).get(instrument.id)
    series = charts.finest_series(instrument.id)
    last = charts.candles(series, series.interval, limit=1) if series else []
    close = float(last[-1].close) if last else None
    seen = [(h.position.id, h.position.quantity) for h in held]
    return Ticker(
        instrument=instrument,
        quote=quote,
        series=series,
        last_close=close,
        holdings=held,
        account=account,
        version=stamp(quote, close, seen),
    )


@bp.get("/<int:instrument_id>/ticker")
@auth.viewer
def ticker_part(instrument_id: int) -> Response:
    now = ticker(_instrument(instrument_id))
    if is_current(now.version):
        return unchanged()
    return partial(render_template("markets/_ticker.html", ticker=now, interval_text=interval_text))


def _series_of(instrument: InstrumentRow) -> list[SeriesRow]:
    query = sa.select(SeriesRow).where(SeriesRow.instrument_id == instrument.id, SeriesRow.bars > 0)
    return list(db.session.scalars(query.order_by(SeriesRow.interval)))


def _strategies_on(instrument: InstrumentRow) -> list[StrategyRow]:
    """Strategies that read this instrument."""
    query = (
        sa.select(StrategyRow).where(StrategyRow.deleted_at.is_(None)).order_by(StrategyRow.name)
    )
    return [s for s in db.session.scalars(query) if _reads(s.inputs, instrument.id)]


def _reads(inputs: dict[str, Any], instrument_id: int) -> bool:
    return any(chosen.get("instrument_id") == instrument_id for chosen in inputs.values())
