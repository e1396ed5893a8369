"""A busy market floor: every built-in type and a strategy with everything an order can have."""

from __future__ import annotations

from typing import Any

from shared.messages import CreateStrategy
from tests.prove.installation import Installation

EVERYTHING = '''
from engine.indicators import sma
from engine.strategies.base import BaseStrategy, param, series
from engine.strategies.registry import register_strategy
from shared.domain.signals import Limit, Market, Signal, Stop, StopLoss, TakeProfit, TimeExit, TrailingStop

ENTRIES = (Limit, Market, Stop)


@register_strategy("everything")
class Everything(BaseStrategy):
    """Two instruments, every entry, every exit, and a state that decides."""

    second = series()
    window = param(4, ge=2)

    def features(self, bars):
        return {
            "average": sma(bars["main"].close, self.window),
            "other": sma(bars["second"].close, self.window).on("second"),
        }

    def generate_signal(self, now):
        turn = self.state["turn"] = self.state.get("turn", 0) + 1
        said = []
        for key, feature, symbol in (
            ("main", "average", self.inputs()["main"].instrument),
            ("second", "other", self.inputs()["second"].instrument),
        ):
            close = float(now.bars[key].close[-1])
            entry = ENTRIES[(turn // 7) % 3]
            price = {Limit: close * 0.9995, Stop: close * 1.0003}.get(entry)
            exits = (
                (TrailingStop(fraction=0.001), TakeProfit(fraction=0.004)),
                (StopLoss(fraction=0.0015), TakeProfit(fraction=0.001), TimeExit(5)),
                (TrailingStop(distance=close * 0.0011), TimeExit(3)),
            )[(turn // 5) % 3]
            target = 1.0 if close > now[feature] and self.state.get("fills", 0) % 9 != 8 else 0.0
            if turn % 11 == 0:
                target = 0.5
            said.append(Signal(symbol, target, entry() if price is None else entry(price), exits, f"t{turn}"))
            self.state["fills"] = self.state.get("fills", 0) if turn % 4 else 0
        return said

    def on_fill(self, fill, now):
        self.state["fills"] = self.state.get("fills", 0) + 1
'''


def fill_the_floor(installation: Installation, *, busy_account: bool = True) -> list[int]:
    """Strategies that trade all the time on account `paper`; the ids of those on a second one."""
    installation.settings.strategies_folder.mkdir(parents=True, exist_ok=True)
    (installation.settings.strategies_folder / "everything.py").write_text(EVERYTHING)
    installation.prepare()
    paper = installation.account().id
    for strategy in _strategies(installation, paper, "quiet", start=True):
        installation.create(strategy)
    if not busy_account:
        return []
    second = installation.open_second_account("busy")
    return [installation.create(s) for s in _strategies(installation, second, "busy", start=False)]


def _strategies(
    installation: Installation, account: int, prefix: str, *, start: bool
) -> list[CreateStrategy]:
    ids = installation.instruments()
    fraction = {"method": "fraction", "fraction": 0.4}

    def on(symbol: str, interval: int = 60) -> dict[str, Any]:
        return {"instrument_id": ids[symbol], "interval": interval}

    table: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ("moving_average_cross", {"short_window": 2, "long_window": 5}, {"main": on("BTC/USD")}, fraction),
        ("rsi_reversion", {"window": 3, "buy_below": 45, "sell_above": 55, "stop": 0.001}, {"main": on("ETH/USD")},
         {"method": "cash", "fraction": 0.45}),
        ("bollinger_reversion", {"window": 5, "deviations": 1.0, "stop": 0.0012, "patience": 4},
         {"main": on("SOL/USD")}, {"method": "volatility", "annual_volatility": 0.2, "window": 10}),
        ("donchian_breakout", {"entry_window": 3, "exit_window": 2, "atr_window": 3, "stop_atr": 1.0},
         {"main": on("XRP/USD")}, {**fraction, "band": 0.05}),
        ("moving_average_cross", {"short_window": 1, "long_window": 2}, {"main": on("ETH/USD", 300)},
         {"method": "value", "value": "1500"}),
        ("bollinger_reversion", {"window": 6, "deviations": 0.8, "stop": 0.001, "patience": 3},
         {"main": on("BTC/USD", 30)}, fraction),
        ("everything", {}, {"main": on("SOL/USD"), "second": on("XRP/USD", 120)}, fraction),
    ]  # fmt: skip
    return [
        CreateStrategy(
            f"{prefix} {place} {type_}", type_, account, parameters, inputs, "10000", sizing, start
        )
        for place, (type_, parameters, inputs, sizing) in enumerate(table)
    ]
