"""What those who ask for jobs and those who do them promise each other."""

import inspect
from dataclasses import fields

import pytest
from rq.utils import import_attribute

from engine import jobs as running
from shared import jobs as asking


def test_the_function_rq_is_given_takes_what_rq_is_given():
    run = import_attribute(asking.RUN_JOB)
    assert run is running.run_attempt
    assert list(inspect.signature(run).parameters) == ["job_id", "attempt"]


def test_every_kind_of_job_has_a_body_and_every_body_a_kind():
    assert set(running.BODIES) == set(asking.KINDS)


@pytest.mark.parametrize("kind", running.BODIES)
def test_a_body_takes_a_request_and_its_work(kind):
    assert list(inspect.signature(running.body(kind)).parameters) == ["request", "work"]


@pytest.mark.parametrize("kind", asking.KINDS)
def test_a_request_survives_its_row(kind):
    example = {
        "str": "text",
        "dict[str, Any]": {"a": 1},
        "int": 3,
        "float | None": 0.1,
        "bool": False,
        "list[str]": ["b"],
        "list[int]": [4],
        "list[dict[str, Any]]": [{"c": 2}],
    }
    type_ = asking.KINDS[kind]
    request = type_(**{field.name: example[field.type] for field in fields(type_)})
    assert asking.kind_of(request) == kind
    assert asking.decode(kind, asking.encode(request)) == request


def test_a_field_nobody_knows_is_named():
    with pytest.raises(TypeError, match="colour"):
        asking.decode("import", {"colour": "red"})
