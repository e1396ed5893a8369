"""What happened, in a sentence a trader would say."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.actions import Booked
from engine.journal import Told
from shared.domain.decisions import Decision, Outcome
from shared.domain.instruments import Instrument
from shared.domain.orders import Leg

_VERB = {
    Leg.STOP_LOSS: "Stop hit",
    Leg.TAKE_PROFIT: "Target hit",
    Leg.TRAILING_STOP: "Trailing stop hit",
}


def decided(decision: Decision, name: str, instruments: Mapping[int, Instrument]) -> Told | None:
    """A line for a decision that wanted something and did not get it, or gave an order."""
    symbol = instruments[decision.instrument_id].symbol
    link = f"/decisions/{decision.id}"
    if decision.outcome is Outcome.DENIED:
        failed = [check for check in decision.checks if not check.allowed]
        why = "; ".join(check.text for check in failed)
        text = f"Denied {symbol} {_owner(name)}: {why}"
        return Told("decision.denied", "warning", text, link, decision.decided_at)
    if decision.outcome is Outcome.ORDERED:
        target = f"{decision.target:+.0%}" if decision.target else "flat"
        said = f"Signal {symbol} {target} by {name}" if name else f"Order in {symbol} by hand"
        text = f"{said}: {decision.because}"
        return Told("decision.ordered", "info", text, link, decision.decided_at)
    return None


def filled(booked: Booked, name: str, instruments: Mapping[int, Instrument]) -> Told:
    fill = booked.fill
    symbol = instruments[fill.instrument_id].symbol
    what = _VERB.get(booked.leg, "Filled")
    amount = f"{number(fill.quantity)} {symbol} at {number(fill.price)}"
    text = f"{what}: {fill.side} {amount} {_owner(name)}"
    severity = "good"
    if booked.leg is not Leg.ENTRY:
        gain = booked.realised - fill.fee
        text += f", {gain:+,.2f} {fill.fee_asset}"
        severity = "good" if gain >= 0 else "bad"
    return Told("fill", severity, text, f"/books/orders/{fill.client_order_id}", fill.at)


def _owner(name: str) -> str:
    """Whose it is: a strategy's, or what people trade themselves."""
    return f"for {name}" if name else "by hand"


def number(value: Any) -> str:
    """9.0900 as 9.09 and 1000 as 1000, never 1E+3."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def stopped_at_error(error: BaseException) -> str:
    """The line of the user's file that failed, and what it said, as a row can hold it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" ({last.filename.rsplit('/', 1)[-1]}, line {last.lineno})" if last else ""
    try:
        said = str(error)
    except Exception:  # the user's own exception may fail to say what it is
        said = "its message cannot be shown"
    text = f"{type(error).__name__}: {said[:1000]}{where}"
    return text.replace("\0", "").encode("utf-8", "replace").decode()
