"""What the parts promise each other: commands survive the wire, names resolve, docs name what exists."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

import orjson
import pytest

from engine import trading, treasury
from engine.commands import Commands
from shared import messages
from shared.messages import COMMANDS, UnknownMessage, decode, encode
from shared.settings import ROOT

EXAMPLES = {
    "CreateStrategy": {
        "name": "a", "type": "t", "account_id": 1, "parameters": {}, "inputs": {}, "allocation": "1",
        "sizing": {},
    },
    "EditStrategy": {"strategy_id": 1, "parameters": {}, "allocation": "1", "sizing": {}},
    "StartStrategy": {"strategy_id": 1},
    "StopStrategy": {"strategy_id": 1, "flatten": True},
    "DeleteStrategy": {"strategy_id": 1},
    "StopTrading": {"account_id": None},
    "ResumeTrading": {"account_id": 3},
    "EditRiskPolicy": {"account_id": 1, "policy": {}},
    "OpenReplay": {"name": "r", "series_ids": [1], "speed": 5.0, "capital": "1"},
    "StartReplay": {"account_id": 1},
    "ReloadStrategies": {},
    "PlaceOrder": {"account_id": 1, "instrument_id": 2, "ticket": {"side": "buy"}, "preview": True},
    "AmendOrder": {"order_id": "x", "quantity": "1"},
    "CancelOrder": {"order_id": "x"},
    "CancelOrders": {"account_id": 1, "instrument_id": None},
    "ClosePosition": {"account_id": 1, "instrument_id": 2, "strategy_id": None},
    "ProtectPosition": {"account_id": 1, "instrument_id": 2, "strategy_id": 3, "stop_loss": "1"},
    "ForceEntry": {"strategy_id": 1, "instrument_id": 2},
    "ForceExit": {"strategy_id": 1, "instrument_id": None},
    "AdoptPosition": {
        "account_id": 1, "instrument_id": 2, "from_strategy_id": None, "to_strategy_id": 3,
    },
    "EditAccount": {"account_id": 1, "costs": {}},
    "EditInstrument": {
        "instrument_id": 1, "version": 0, "name": "n", "asset_class": "crypto", "calendar": "24/7",
    },
    "Deposit": {"account_id": 1, "asset": "USD", "amount": "1"},
    "Withdraw": {"account_id": 1, "asset": "USD", "amount": "1", "note": "rent"},
    "Transfer": {"account_id": 1, "to_account_id": 2, "asset": "USD", "amount": "1"},
    "Adjust": {"account_id": 1, "asset": "USD", "amount": "-1", "reason": "counted again"},
    "BookIncome": {"account_id": 1, "kind": "dividend", "asset": "USD", "amount": "1", "tax": "0.1"},
    "Split": {"account_id": 1, "instrument_id": 2, "numerator": 4, "denominator": 1},
    "ChangeSymbol": {"account_id": 1, "instrument_id": 2, "to_instrument_id": 3},
    "WriteOffDust": {"account_id": 1, "instrument_id": 2, "strategy_id": None},
    "TopUpPaper": {"account_id": 1, "amount": "1"},
    "ResetPaper": {"account_id": 1, "capital": "1"},
    "EditBooks": {"account_id": 1, "lot_method": "hifo"},
}  # fmt: skip


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_survives_json(kind):
    command = COMMANDS[kind](**EXAMPLES[kind])
    said, arguments = encode(command)
    assert decode(said, orjson.loads(orjson.dumps(arguments))) == command


def test_the_union_and_the_table_of_commands_are_one():
    assert {kind.__name__ for kind in get_args(messages.Command)} == set(COMMANDS)


def test_the_engine_does_every_command():
    import inspect

    source = inspect.getsource(Commands) + inspect.getsource(trading.Trading)
    source += inspect.getsource(treasury.Treasury)
    for kind in COMMANDS:
        assert kind in source, kind


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Sing", {}, "command 'Sing' is not one this engine knows"),
        ("StartStrategy", {}, "StartStrategy: .*strategy_id"),
        (
            "StartStrategy",
            {"strategy_id": 1, "loud": True},
            "fields this engine does not know: loud",
        ),
        ("StartStrategy", {"strategy_id": "1"}, "StartStrategy.strategy_id: '1' is not"),
        ("StartStrategy", {"strategy_id": True}, "StartStrategy.strategy_id: True is not"),
        (
            "OpenReplay",
            {**EXAMPLES["OpenReplay"], "series_ids": 7},
            "OpenReplay.series_ids: 7 is not",
        ),
    ],
)
def test_a_message_nobody_knows_says_what_is_wrong_with_it(kind, arguments, message):
    with pytest.raises(UnknownMessage, match=message):
        decode(kind, arguments)


def test_a_whole_number_is_taken_where_a_float_is_meant():
    assert decode("OpenReplay", {**EXAMPLES["OpenReplay"], "speed": 5}).speed == 5


def test_every_field_of_every_command_has_a_plain_json_type():
    for kind in COMMANDS.values():
        for field in fields(kind):
            assert re.fullmatch(r"[\w\[\], |]+", str(field.type)), (kind, field.name)


def test_the_guide_to_the_path_names_files_that_exist():
    text = (ROOT / "docs" / "path.md").read_text()
    named = set(
        re.findall(r"`((?:engine|shared|webapp|deploy|migrations|tests)/[\w/]+\.py)`", text)
    )
    assert len(named) > 15
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_words_are_classes_or_columns():
    text = (ROOT / "docs" / "words.md").read_text()
    named = set(re.findall(r"`([A-Z]\w+)`", text))
    sources = "\n".join(
        path.read_text()
        for folder in ("shared", "engine")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert len(named) > 15
    for word in named:
        assert re.search(rf"class {word}\b|^{word}\b", sources, re.MULTILINE), word
