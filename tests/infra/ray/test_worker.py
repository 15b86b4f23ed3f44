"""Messages between driver and workers: names, JSON, and errors of the same class."""

import json

import pytest

from infra.ray.worker import JobServer, error_from_json, error_to_json, import_function
from pipeline.errors import BundleError, DivergenceError, InfraError, StepfoldError

DOUBLE = "tests.support.training_cases:double"


@pytest.mark.parametrize("kind", [BundleError, DivergenceError, InfraError, StepfoldError])
def test_a_stepfold_error_is_rebuilt_from_json(kind):
    arrived = error_from_json(json.loads(json.dumps(error_to_json(kind("what, got, do")))))
    assert type(arrived) is kind
    assert str(arrived) == "what, got, do"


def test_an_unknown_error_becomes_an_infra_error_with_its_location():
    try:
        import_function("tests.support.training_cases:nothing")
    except AttributeError as error:
        arrived = error_from_json(error_to_json(error))
    assert type(arrived) is InfraError
    assert "ray/worker.py" in str(arrived)
    assert "AttributeError" in str(arrived)


def test_the_factory_is_called_once_for_all_jobs(tmp_path):
    server = JobServer(DOUBLE, {"folder": str(tmp_path), "refuse": [2]}, threads=1)
    assert server.serve({"number": 1})["result"]["double"] == 2
    made = server._serve
    assert server.serve({"number": 2}) == {
        "failure": {"class": "DataError", "text": "2 is refused; leave it out"}
    }
    assert server.serve({"number": 3})["result"]["double"] == 6
    assert server._serve is made
    failed = JobServer("no_such_module:f", {}, threads=1).serve({})  # a result, too
    assert failed["failure"]["class"] == "InfraError"
