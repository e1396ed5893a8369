"""Logs: key-values for people or machines, and no secret in either."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, form, stream)
    return stream


def test_an_event_for_machines_is_one_json_object():
    stream = written("json")
    structlog.get_logger("x").info("order.denied", rule="max_drawdown")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["rule"], event["level"]) == (
        "order.denied",
        "max_drawdown",
        "info",
    )
    assert event["timestamp"].endswith("Z")


def test_a_library_that_uses_logging_comes_out_in_the_same_form():
    stream = written("json")
    logging.getLogger("some.library").warning("lost %d", 3)
    assert json.loads(stream.getvalue())["event"] == "lost 3"


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_is_written(form):
    stream = written(form)
    structlog.get_logger("x").info(
        "venue.connected",
        password="hunter2",
        kraken_api_key="hunter2",
        private_key=b"hunter2",
        database="postgresql://me:hunter2@host/db",
    )
    assert "hunter2" not in stream.getvalue()
    assert "@host/db" in stream.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_does_not_print_local_variables(form):
    stream = written(form)
    try:
        password = "hunter2"
        raise ValueError(len(password))
    except ValueError:
        structlog.get_logger("x").exception("broken")
    assert "ValueError" in stream.getvalue()
    assert '"hunter2"' not in stream.getvalue().replace('password = "hunter2"', "")


def test_levels_below_the_chosen_one_are_silent():
    stream = written("json", "warning")
    structlog.get_logger("x").info("nothing")
    assert stream.getvalue() == ""


def test_a_reader_that_has_gone_stops_nobody():
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    logs.configure("info", "json", Gone())
    structlog.get_logger("x").info("still.trading")
