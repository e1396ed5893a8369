"""What trading costs, as forms ask it and as pages tell it. `engine.costs.Costs` says what each cost is.

Fractions are entered in per cent, amounts in the quote asset, fee tiers as lines: 50 000: 0.24.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from webapp.formats import decimal, money, percent, plain, quantity

MOST_PERCENT: Final = Decimal(20)
MOST_AMOUNT: Final = Decimal(10) ** 9 - 1
MOST_TRADED: Final = Decimal(10) ** 15 - 1
TIERS: Final = "fee_tiers"
UNSAID_FEE: Final = "0.001"
"""What the engine takes where costs do not say."""
USUAL: Final = ("fee_rate", "slippage")
"""What every form shows; the others are folded away."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One cost of the fold. `unit` is "%" for what is entered in per cent."""

    name: str
    title: str
    help: str
    unit: str = ""


MORE: Final = (
    Cost("fee_per_unit", "Fee per unit", "For each share or coin traded, on top of the fee in per cent."),
    Cost("fee_minimum", "Least fee of an order", "Paid once per order, however many fills it takes."),
    Cost("spread", "Spread", "The whole spread; a market order pays half of it each way.", "%"),
    Cost("slippage_fixed", "Fixed slippage", "A distance in price, on top of the slippage in per cent."),
    Cost(
        "slippage_impact",
        "Impact",
        "At the whole volume of a bar; it grows with the square of the share an order takes.",
        "%",
    ),
)  # fmt: skip
_PERCENT: Final = (*USUAL, *(cost.name for cost in MORE if cost.unit == "%"))

Keys = Mapping[str, str]
"""The name of the form's field, for each cost."""

FIELDS: Final[Keys] = {
    "fee_rate": "fee",
    "slippage": "slippage",
    **{cost.name: cost.name for cost in MORE},
    TIERS: TIERS,
}
"""As backtests, sweeps and replays name them."""

EMPTY: Final = {FIELDS[name]: "" for name in FIELDS if name not in USUAL}
"""The fold with nothing in it."""


# Forms ------------------------------------------------------------------------------------------


def shown(costs: Mapping[str, Any], keys: Keys = FIELDS) -> dict[str, str]:
    """The fields of given costs as text; what costs nothing is empty, where it is not usual."""
    entered = {}
    for name, key in keys.items():
        if name == TIERS:
            entered[key] = _tier_lines(costs.get(name) or ())
            continue
        number = decimal(costs.get(name))
        if number is None or not (number or name in USUAL):
            continue
        entered[key] = plain(number * 100 if name in _PERCENT else number)
    return entered


def read(
    entered: Mapping[str, str], problems: dict[str, str], keys: Keys = FIELDS
) -> dict[str, Any]:
    """The costs as the engine takes them: fractions and amounts as text; none that is nothing."""
    costs: dict[str, Any] = {}
    for name, key in keys.items():
        try:
            value = _tiers(entered[key]) if name == TIERS else _number(name, entered[key])
        except ValueError as error:
            problems[key] = str(error)
            continue
        if name in USUAL or value not in ("0", []):
            costs[name] = value
    return costs


def is_folded(entered: Mapping[str, str], problems: Mapping[str, str], keys: Keys = FIELDS) -> bool:
    """Whether nothing is in the fold, and nothing in it is wrong."""
    more = [key for name, key in keys.items() if name not in USUAL]
    return not any(entered.get(key) or problems.get(key) for key in more)


def _number(name: str, text: str) -> str:
    is_percent = name in _PERCENT
    number = _plain(text or "0")
    most = MOST_PERCENT if is_percent else MOST_AMOUNT
    if number is None or not 0 <= number <= most:
        unit = " %" if is_percent else ""
        raise ValueError(f"{text} is not a cost: from 0 up to {quantity(most)}{unit}")
    return plain(number / 100 if is_percent else number)


def _plain(text: str) -> Decimal | None:
    """A number as people type it: blanks between thousands, a comma or a point before decimals."""
    return decimal("".join(text.split()).replace(",", "."))


def _tiers(text: str) -> list[list[str]]:
    """[[value traded, rate as a fraction], ...] of the lines that are not empty."""
    tiers: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        tier = _tier(number, line.strip())
        if tiers and Decimal(tier[0]) <= Decimal(tiers[-1][0]):
            raise ValueError(
                f"line {number}: {quantity(tier[0])} is not more than the {quantity(tiers[-1][0])}"
                " of the line before: put the lowest value first"
            )
        tiers.append(tier)
    return tiers


def _tier(number: int, line: str) -> list[str]:
    value, colon, rate = line.partition(":")
    traded, asked = _plain(value), _plain(rate.strip().removesuffix("%"))
    if not colon or traded is None or asked is None:
        raise ValueError(
            f"line {number}: {line} is no tier: write a value and its fee, 50 000: 0.24"
        )
    if not 0 <= traded <= MOST_TRADED:
        raise ValueError(f"line {number}: {value.strip()} is not a value traded: 0 or more")
    if not 0 <= asked <= MOST_PERCENT:
        raise ValueError(
            f"line {number}: {rate.strip()} is not a fee: from 0 up to {MOST_PERCENT} %"
        )
    return [plain(traded), plain(asked / 100)]


def _tier_lines(tiers: Sequence[Sequence[Any]]) -> str:
    lines = []
    for value, rate in tiers:
        traded, fraction = decimal(value), decimal(rate)
        if traded is not None and fraction is not None:
            lines.append(f"{plain(traded)}: {plain(fraction * 100)}")
    return "\n".join(lines)


# Words ------------------------------------------------------------------------------------------


def text(costs: Mapping[str, Any], asset: str = "") -> str:
    """fee 0.10 %, slippage 0.05 %: every cost there is."""
    said = [_fee_text(costs, asset), *_more_fee(costs, asset), *_price_text(costs, asset)]
    return ", ".join(said)


def short_text(costs: Mapping[str, Any], asset: str = "") -> str:
    """The same in few words: tiers by their ends."""
    steps = _steps(costs)
    fee = f"fee {rate_text(steps[0][1])}"
    if len(steps) > 1:
        fee += f" to {rate_text(steps[-1][1])} by what was traded"
    return ", ".join([fee, *_more_fee(costs, asset), *_price_text(costs, asset)])


def rate_text(fraction: Any) -> str:
    """0.001 as 0.10 %, 0.00005 as 0.005 %: no digit is lost, and there are two at least."""
    number = decimal(fraction) or Decimal(0)
    digits = len(plain(number * 100).partition(".")[2])
    return percent(number, max(2, min(digits, 8)))


def _fee_text(costs: Mapping[str, Any], asset: str) -> str:
    (_, first), *rest = _steps(costs)
    said = [rate_text(first)]
    said += [f"{rate_text(rate)} from {_amount(least, asset)}" for least, rate in rest]
    return f"fee {' / '.join(said)}" + (" traded in 30 days" if rest else "")


def _steps(costs: Mapping[str, Any]) -> list[tuple[Decimal, Any]]:
    """(value traded, fee from there on), the first from nothing on."""
    tiers = [(decimal(least) or Decimal(0), rate) for least, rate in costs.get(TIERS) or ()]
    if tiers and not tiers[0][0]:
        return tiers
    return [(Decimal(0), costs.get("fee_rate", UNSAID_FEE)), *tiers]


def _more_fee(costs: Mapping[str, Any], asset: str) -> list[str]:
    said = []
    if decimal(costs.get("fee_per_unit")):
        said.append(f"{_amount(costs['fee_per_unit'], asset)} a unit")
    if decimal(costs.get("fee_minimum")):
        least = costs["fee_minimum"]
        said.append(f"at least {money(least)} {asset}".rstrip() + " an order")
    return said


def _price_text(costs: Mapping[str, Any], asset: str) -> list[str]:
    slipped = f"slippage {rate_text(costs.get('slippage') or 0)}"
    if decimal(costs.get("slippage_fixed")):
        slipped += f" and {_amount(costs['slippage_fixed'], asset)}"
    rest = {"spread": "spread", "impact": "slippage_impact"}
    return [slipped] + [
        f"{word} {rate_text(costs[name])}"
        for word, name in rest.items()
        if decimal(costs.get(name))
    ]


def _amount(value: Any, asset: str) -> str:
    return f"{quantity(value)} {asset}".rstrip()
