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
