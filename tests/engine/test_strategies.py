"""Strategy types: parameters, files that load and files that do not, the catalogue, the template."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from engine import catalogue
from engine.strategies.base import BadParameter, BaseStrategy, Input, param
from engine.strategies.evaluation import Evaluation, Window, needed_rows
from engine.strategies.registry import (
    BUILT_IN,
    BadStrategy,
    NoSuchStrategy,
    load_source,
    template,
    user_files,
)
from shared.db.sessions import make_engine
from shared.db.trading import StrategyTypeRow
from tests.builders import a_bound_input, a_market, strategy_type


class Typed(BaseStrategy):
    whole = param(10, ge=1, le=20, help="a whole number")
    real = param(0.5, gt=0, lt=1)
    yes = param(default=True)
    word = param("a", choices=("a", "b"))

    def generate_signal(self, now):
        return None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"whole": 0}, "whole: 0 must be at least 1"),
        ({"whole": 21}, "whole: 21 must be at most 20"),
        ({"whole": "x"}, "whole: 'x' is not a whole number"),
        ({"whole": 1.5}, "whole: 1.5 is not a whole number"),
        ({"whole": True}, "whole: True is not a whole number"),
        ({"real": 0}, "real: 0.0 must be more than 0"),
        ({"real": 1}, "real: 1.0 must be less than 1"),
        ({"real": "nan"}, "real: 'nan' is not a finite number"),
        ({"yes": "perhaps"}, "yes: 'perhaps' is not yes or no"),
        ({"word": "c"}, "word: 'c' is not one of a, b"),
        ({"other": 1}, "other: 1 is no parameter here"),
    ],
)
def test_a_wrong_parameter_names_itself_its_value_and_the_remedy(given, message):
    with pytest.raises(BadParameter) as raised:
        Typed(given, {})
    assert message in str(raised.value)
    assert raised.value.name == next(iter(given))


def test_text_from_a_form_becomes_the_declared_type():
    strategy = Typed({"whole": "7", "real": "0.25", "yes": "off", "word": "b"}, {})
    assert (strategy.whole, strategy.real, strategy.yes, strategy.word) == (7, 0.25, False, "b")


def test_the_schema_is_what_a_form_needs():
    rows = {row["name"]: row for row in Typed.schema()}
    assert rows["whole"] == {
        "name": "whole", "type": "int", "default": 10, "ge": 1, "le": 20, "gt": None, "lt": None,
        "choices": None, "help": "a whole number",
    }  # fmt: skip
    assert rows["word"]["choices"] == ["a", "b"]
    assert rows["main"]["type"] == "input"


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_strategy_trades_a_market_and_says_why(name):
    bars = a_market(600, 9, sigma=0.02)
    strategy = strategy_type(name)({}, {"main": Input("X1", "1m")})
    evaluation = Evaluation(strategy, [a_bound_input()], {"main": bars})
    said = evaluation.target[:, 0]
    assert {0.0, 1.0} <= set(said[~np.isnan(said)])
    for row in (0, 40, 599):
        assert strategy.because(evaluation.moment(row))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_window_of_the_newest_bars_says_what_the_whole_series_says(name):
    bars = a_market(1500, 9, sigma=0.02)
    strategy = strategy_type(name)({}, {"main": Input("X1", "1m")})
    whole = Evaluation(strategy, [a_bound_input()], {"main": bars})
    rows = needed_rows(strategy)
    for last in range(1200, 1500, 7):
        tail = Evaluation(strategy, [a_bound_input()], {"main": bars[last + 1 - rows : last + 1]})
        np.testing.assert_array_equal(tail.target[-1, 0], whole.target[last, 0])


def test_a_live_window_takes_each_bar_once_and_keeps_what_is_needed():
    bars = a_market(400, 2)
    strategy = strategy_type("moving_average_cross")({}, {"main": Input("X1", "1m")})
    window = Window(strategy, [a_bound_input()], {"main": bars[:390]}, needed_rows(strategy))
    assert window.add(bars.bar(390))
    assert not window.add(bars.bar(390))
    assert not window.add(bars.bar(200))
    assert len(window.bars["main"]) == needed_rows(strategy)
    assert window.bars["main"].closed_at[-1] == bars.closed_at[390]


def test_a_file_that_raises_is_told_with_its_own_traceback():
    loaded = load_source("mine.py", "x = 1\n\ny = x / 0\n")
    assert loaded.types == {}
    assert 'mine.py", line 3' in loaded.error
    assert "ZeroDivisionError" in loaded.error
    assert "registry.py" not in loaded.error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (", "SyntaxError"),
        ("import nowhere_at_all", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "registers no strategy"),
        (
            "from engine.strategies.registry import register_strategy\n"
            "@register_strategy('a')\nclass A: pass",
            "class A must subclass BaseStrategy",
        ),
        (
            "from engine.strategies.registry import register_strategy\n"
            "from engine.strategies.base import BaseStrategy\n"
            "@register_strategy('a')\nclass A(BaseStrategy): pass",
            "define exactly one of generate_signals",
        ),
        (
            "from engine.strategies.registry import register_strategy\n"
            "from engine.strategies.base import BaseStrategy, param\n"
            "@register_strategy('a')\nclass A(BaseStrategy):\n"
            "    x = param(5, ge=9)\n"
            "    def generate_signal(self, now): return None",
            "x: 5 must be at least 9",
        ),
    ],
)
def test_what_cannot_be_a_strategy_says_why(source, message):
    assert message in load_source("mine.py", source).error


def test_the_template_loads_and_trades(tmp_path):
    (tmp_path / "my_idea.py").write_text(template("my_idea"))
    [loaded] = user_files(tmp_path)
    assert loaded.error is None
    strategy = loaded.types["my_idea"]({}, {"main": Input("X1", "1m")})
    evaluation = Evaluation(strategy, [a_bound_input()], {"main": a_market(300, 3)})
    assert 1.0 in evaluation.target[:, 0]
    assert strategy.because(evaluation.moment(299)).startswith("close ")


@pytest.mark.parametrize("name", ["My Idea", "1st", "a-b", ""])
def test_a_template_needs_a_name_that_python_takes(name):
    with pytest.raises(BadStrategy, match="use lower-case letters"):
        template(name)


@pytest.fixture
def connection(database_url):
    engine = make_engine(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def names(connection):
    return dict(connection.execute(sa.select(StrategyTypeRow.name, StrategyTypeRow.error)).all())


def test_the_catalogue_follows_the_folder(connection, tmp_path):
    assert set(catalogue.sync(connection, tmp_path)) == set(BUILT_IN)
    assert catalogue.sync(connection, tmp_path) == []

    path = tmp_path / "mine.py"
    path.write_text(template("mine"))
    assert catalogue.sync(connection, tmp_path) == ["mine"]
    first = catalogue.newest_hash(connection, "mine")

    path.write_text(template("mine").replace("param(50", "param(60"))
    assert catalogue.sync(connection, tmp_path) == ["mine"]
    assert catalogue.strategy_class(connection, "mine", first).params()["window"].default == 50
    newest = catalogue.newest_hash(connection, "mine")
    assert catalogue.strategy_class(connection, "mine", newest).params()["window"].default == 60

    path.write_text("boom")
    assert catalogue.sync(connection, tmp_path) == ["mine"]
    assert "NameError" in names(connection)["mine"]
    with pytest.raises(NoSuchStrategy, match="mine is broken: NameError"):
        catalogue.newest_hash(connection, "mine")

    path.unlink()
    assert catalogue.sync(connection, tmp_path) == ["mine"]
    assert "mine" not in names(connection)


def test_a_name_that_is_taken_is_told_and_takes_nothing_away(connection, tmp_path):
    (tmp_path / "copy.py").write_text(template("moving_average_cross"))
    catalogue.sync(connection, tmp_path)
    found = names(connection)
    assert found["moving_average_cross"] is None
    assert "choose another name" in found["moving_average_cross (copy.py)"]


def test_an_unknown_type_lists_the_known_ones(connection, tmp_path):
    catalogue.sync(connection, tmp_path)
    with pytest.raises(
        NoSuchStrategy, match="'guess' is not one of bollinger_reversion, donchian_breakout"
    ):
        catalogue.newest_hash(connection, "guess")
