"""What the console asks of the engine, typed, and how it crosses as JSON.

A command is a row (`commands`); only its id rides the Redis stream, so a flushed Redis loses none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, get_type_hints

DEFAULT_EXPIRY_SECONDS: Final = 60


class UnknownMessage(ValueError):
    """A kind or a field nobody here knows: two releases running side by side, most likely."""


@dataclass(frozen=True, slots=True)
class CreateStrategy:
    """`inputs`: {key: {"instrument_id": int, "interval": seconds, "trades": bool}}; `allocation` in the
    account's base asset, as a decimal string; `sizing` as `engine.sizing.Sizing` takes it."""

    name: str
    type: str
    account_id: int
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    allocation: str
    sizing: dict[str, Any]
    start: bool = False


@dataclass(frozen=True, slots=True)
class EditStrategy:
    """Changes take effect at the strategy's next start; `reload` takes the newest code of its type too."""

    strategy_id: int
    parameters: dict[str, Any]
    allocation: str
    sizing: dict[str, Any]
    reload: bool = False


@dataclass(frozen=True, slots=True)
class StartStrategy:
    strategy_id: int


@dataclass(frozen=True, slots=True)
class StopStrategy:
    """Stops deciding and cancels its working entries; `flatten` also sells what it holds."""

    strategy_id: int
    flatten: bool = False


@dataclass(frozen=True, slots=True)
class DeleteStrategy:
    """Only a stopped, flat strategy can go. Its history stays."""

    strategy_id: int


@dataclass(frozen=True, slots=True)
class StopTrading:
    """Halt an account (or all, with None): cancel every working order, flatten if asked."""

    account_id: int | None = None
    flatten: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeTrading:
    """Lift every halt and reduce-only request on the account (or on all, with None)."""

    account_id: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EditRiskPolicy:
    account_id: int
    policy: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenReplay:
    """A paper account that plays stored bars through the live engine.

    `series_ids` of bars to play; `speed` in market seconds per second, 0 for as fast as it goes;
    `starts_at`/`ends_at` ISO 8601 or "" for all there is.
    """

    name: str
    series_ids: list[int]
    speed: float
    capital: str
    starts_at: str = ""
    ends_at: str = ""
    costs: dict[str, Any] = field(default_factory=dict)
    risk_policy: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartReplay:
    """Let an opened replay play; strategies are added before it starts."""

    account_id: int


@dataclass(frozen=True, slots=True)
class ReloadStrategies:
    """Look at the strategies folder now, not at the next look."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An order as a person writes it. Numbers are decimal strings, "" where there is none; times ISO 8601.

    side            buy, sell
    type            market, limit, stop, stop_limit, trailing_stop, take_profit
    size, size_in   quantity (base units), value (quote units) or percent (of the account's equity)
    limit_price     of limit and stop_limit
    stop_price      of stop and stop_limit; the price that triggers a take_profit
    trail, trail_in price (a distance) or percent, of trailing_stop
    time_in_force   gtc, ioc, fok, gtd (until `expires_at`), day
    stop_loss, take_profit, stop_trail   protection that its fill brings along (bracket): prices, and a
                    distance in percent for a trailing stop
    """

    side: str
    type: str
    size: str
    size_in: str = "quantity"
    limit_price: str = ""
    stop_price: str = ""
    trail: str = ""
    trail_in: str = "price"
    time_in_force: str = "gtc"
    expires_at: str = ""
    post_only: bool = False
    reduce_only: bool = False
    stop_loss: str = ""
    take_profit: str = ""
    stop_trail: str = ""


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Trade by hand. `ticket`, `other` (the other of one-cancels-other) and `then` (sent once all of
    `ticket` has traded) hold the fields of `Ticket`.

    `preview` asks what would happen, and does nothing: the result then holds "preview" as
    `engine.previewing.preview` tells it.
    """

    account_id: int
    instrument_id: int
    ticket: dict[str, Any]
    other: dict[str, Any] = field(default_factory=dict)
    then: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    preview: bool = False


@dataclass(frozen=True, slots=True)
class AmendOrder:
    """Change a working order; "" leaves what it is. `quantity` counts what has traded already."""

    order_id: str
    quantity: str = ""
    limit_price: str = ""
    stop_price: str = ""


@dataclass(frozen=True, slots=True)
class CancelOrder:
    order_id: str


@dataclass(frozen=True, slots=True)
class CancelOrders:
    """Cancel every working order of an account, in one instrument if asked; protection too if asked."""

    account_id: int
    instrument_id: int | None = None
    protection: bool = False


@dataclass(frozen=True, slots=True)
class ClosePosition:
    """Leave a position at the market. `strategy_id` of None is what was traded by hand.

    `percent` of it; `reverse` ends with as much on the other side.
    """

    account_id: int
    instrument_id: int
    strategy_id: int | None = None
    percent: str = "100"
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class ProtectPosition:
    """Set stop and target of a position, in place of those it has. Prices, "" for none; `stop_trail` a
    distance in percent for a trailing stop."""

    account_id: int
    instrument_id: int
    strategy_id: int | None = None
    stop_loss: str = ""
    take_profit: str = ""
    stop_trail: str = ""


@dataclass(frozen=True, slots=True)
class ForceEntry:
    """Let a running strategy enter now: `target` as its signal would say (1 is all of its allocation)."""

    strategy_id: int
    instrument_id: int
    target: str = "1"


@dataclass(frozen=True, slots=True)
class ForceExit:
    """Let a strategy leave one instrument, or all with None."""

    strategy_id: int
    instrument_id: int | None = None


@dataclass(frozen=True, slots=True)
class AdoptPosition:
    """Hand a position, at its cost, from one owner to another of the same account; None is "by hand"."""

    account_id: int
    instrument_id: int
    from_strategy_id: int | None
    to_strategy_id: int | None
    quantity: str = ""


@dataclass(frozen=True, slots=True)
class EditAccount:
    """How a paper account trades.

    matching  {"intrabar": "worst_case" | "ohlc_path", "volume_share": "0.1" | ""}
    margin    {"enabled": bool, "leverage": "2", "borrow_rate": "0.05", "call_level": "0.8",
              "liquidation_level": "0.4"}
    costs     as `engine.costs.Costs.from_json` takes them
    """

    account_id: int
    costs: dict[str, Any]
    matching: dict[str, Any] = field(default_factory=dict)
    margin: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deposit:
    """Money or a thing came from outside. `amount` above 0, a decimal string, as in all of these."""

    account_id: int
    asset: str
    amount: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Money or a thing left for outside: not more than there is."""

    account_id: int
    asset: str
    amount: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money goes from one account to another of the same base asset."""

    account_id: int
    to_account_id: int
    asset: str
    amount: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Adjust:
    """Make the books agree with what is there: found above 0, lost below, and why."""

    account_id: int
    asset: str
    amount: str
    reason: str


@dataclass(frozen=True, slots=True)
class BookIncome:
    """`kind` is interest, dividend, staking, funding, rebate, borrow or fee; below 0 it was paid.

    `tax` is the part that was withheld. With an instrument it counts for the position that earned it.
    """

    account_id: int
    kind: str
    asset: str
    amount: str
    tax: str = ""
    instrument_id: int | None = None
    strategy_id: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """`numerator` new for `denominator` old: 4 for 1, or 1 for 10 when they are put together."""

    account_id: int
    instrument_id: int
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class ChangeSymbol:
    """What is held of one instrument goes on as another."""

    account_id: int
    instrument_id: int
    to_instrument_id: int


@dataclass(frozen=True, slots=True)
class WriteOffDust:
    """Write off a remainder that is too small to sell."""

    account_id: int
    instrument_id: int
    strategy_id: int | None = None


@dataclass(frozen=True, slots=True)
class TopUpPaper:
    """More paper money."""

    account_id: int
    amount: str


@dataclass(frozen=True, slots=True)
class ResetPaper:
    """Start a paper account over: all of it goes out, `capital` comes in; its history stays."""

    account_id: int
    capital: str


@dataclass(frozen=True, slots=True)
class EditBooks:
    """How lots are chosen (fifo, lifo, hifo, average), and below which value a remainder is dust ("" for none)."""

    account_id: int
    lot_method: str
    dust_value: str = ""


@dataclass(frozen=True, slots=True)
class EditInstrument:
    """What is known of an instrument. Numbers are decimal strings, "" for none; fees are fractions of the
    traded value, in place of the account's. `version` is the row's when the form was shown.

    A running account goes by it from its next start on; imports and backtests at once.
    """

    instrument_id: int
    version: int
    name: str
    asset_class: str
    calendar: str
    tick_size: str = ""
    lot_size: str = ""
    min_quantity: str = ""
    min_value: str = ""
    maker_fee: str = ""
    taker_fee: str = ""


Command = (
    CreateStrategy
    | EditStrategy
    | StartStrategy
    | StopStrategy
    | DeleteStrategy
    | StopTrading
    | ResumeTrading
    | EditRiskPolicy
    | OpenReplay
    | StartReplay
    | ReloadStrategies
    | PlaceOrder
    | AmendOrder
    | CancelOrder
    | CancelOrders
    | ClosePosition
    | ProtectPosition
    | ForceEntry
    | ForceExit
    | AdoptPosition
    | EditAccount
    | EditInstrument
    | Deposit
    | Withdraw
    | Transfer
    | Adjust
    | BookIncome
    | Split
    | ChangeSymbol
    | WriteOffDust
    | TopUpPaper
    | ResetPaper
    | EditBooks
)

COMMANDS: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        CreateStrategy,
        EditStrategy,
        StartStrategy,
        StopStrategy,
        DeleteStrategy,
        StopTrading,
        ResumeTrading,
        EditRiskPolicy,
        OpenReplay,
        StartReplay,
        ReloadStrategies,
        PlaceOrder,
        AmendOrder,
        CancelOrder,
        CancelOrders,
        ClosePosition,
        ProtectPosition,
        ForceEntry,
        ForceExit,
        AdoptPosition,
        EditAccount,
        EditInstrument,
        Deposit,
        Withdraw,
        Transfer,
        Adjust,
        BookIncome,
        Split,
        ChangeSymbol,
        WriteOffDust,
        TopUpPaper,
        ResetPaper,
        EditBooks,
    )
}


def encode(command: Command) -> tuple[str, dict[str, Any]]:
    """(kind, arguments) as the row stores them."""
    return type(command).__name__, asdict(command)


def decode(kind: str, arguments: dict[str, Any]) -> Command:
    """The command again, or UnknownMessage naming what is wrong with it."""
    if kind not in COMMANDS:
        raise UnknownMessage(f"command {kind!r} is not one this engine knows")
    known = {f.name for f in fields(COMMANDS[kind])}
    if extra := set(arguments) - known:
        raise UnknownMessage(
            f"{kind} has fields this engine does not know: {', '.join(sorted(extra))}"
        )
    try:
        command = COMMANDS[kind](**arguments)
    except TypeError as error:
        raise UnknownMessage(f"{kind}: {error}") from error
    _check_types(command)
    return command  # type: ignore[no-any-return]


def _check_types(command: Any) -> None:
    for name, hint in get_type_hints(type(command)).items():
        value = getattr(command, name)
        plain = getattr(hint, "__origin__", hint)
        if plain is float and isinstance(value, int) and not isinstance(value, bool):
            continue
        if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
            raise UnknownMessage(f"{type(command).__name__}.{name}: {value!r} is not {hint}")
