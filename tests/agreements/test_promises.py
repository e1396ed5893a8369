"""The page of promises names tests that exist."""

import ast
import re

import pytest

from shared.settings import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_what_is_said_to_hold_a_promise_exists(file, test):
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in functions, f"{file} has no {test}"


def test_every_promise_has_its_row():
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == [str(n) for n in range(1, 13)]
