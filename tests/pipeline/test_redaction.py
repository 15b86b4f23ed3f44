"""Errors and logs contain no secrets, only the names of their variables."""

import io
import logging
import traceback

import pytest

from pipeline.config.profile import Profile
from pipeline.documents import build
from pipeline.errors import ConfigError, InfraError, SampleError
from pipeline.redaction import has_password, redact, redact_logs

CANARY = "canary-7f3a9c51"


@pytest.mark.parametrize(
    "name",
    [
        *("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"),
        *("CLIENT_SECRET", "PREFECT_API_KEY", "my_password"),
    ],
)
def test_a_secret_of_the_environment_is_in_no_error(monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    for kind in (ConfigError, InfraError, SampleError):
        assert str(kind(f"the server said {CANARY}!")) == "the server said ***!"
    assert str(SampleError("x", f" holds {CANARY}")) == "x holds ***"


def test_the_password_of_an_address_is_hidden_everywhere():
    said = f"postgresql+psycopg2://me:{CANARY}@db/x and s3://{CANARY}@bucket and org/model@abc"
    assert redact(said) == "postgresql+psycopg2://***@db/x and s3://***@bucket and org/model@abc"


def test_short_values_and_other_variables_are_no_secrets(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "run")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/token")
    assert redact("run /home/me/token") == "run /home/me/token"


def test_what_is_a_password():
    assert has_password("http://me:x@host")
    for url in ("http://me@host", "sqlite:////a/b.db", "http://host:5000/a@b"):
        assert not has_password(url)


def test_logs_and_their_tracebacks_are_redacted_once(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", CANARY)
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    log = logging.getLogger("tests.redaction")
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    try:
        redact_logs()
        once = logging.getLogRecordFactory()
        redact_logs()
        assert logging.getLogRecordFactory() is once
        log.warning("connecting with %s to %d", CANARY, 5)
        spoiled = once("tests", logging.WARNING, "f.py", 1, "a %d of no number", ("x",), None)
        assert spoiled.args == ("x",)  # the handler reports the wrong argument
        try:
            raise KeyError(CANARY)
        except KeyError:
            log.exception("it failed")
    finally:
        logging.setLogRecordFactory(before)
        log.removeHandler(handler)
    said = stream.getvalue()
    assert CANARY not in said
    assert "connecting with *** to 5" in said
    assert "KeyError: '***'" in said


def test_a_profile_takes_no_password_and_does_not_repeat_it():
    tree = {"tracking": {"uri": f"postgresql://me:{CANARY}@db/mlflow"}}
    with pytest.raises(ConfigError, match="env:NAME") as caught:
        build(Profile, tree, "profile.yaml")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_address_is_looked_up_in_the_environment_if_the_profile_names_a_variable(monkeypatch):
    address = f"postgresql://me:{CANARY}@db/mlflow"
    monkeypatch.setenv("TRACKING", address)
    profile = build(Profile, {"tracking": {"uri": "env:TRACKING"}}, "profile.yaml")
    assert profile.tracking.address == address
    assert CANARY not in profile.model_dump_json() + repr(profile)
    monkeypatch.delenv("TRACKING")
    with pytest.raises(ConfigError, match="TRACKING is not set"):
        assert profile.tracking.address
    assert Profile().tracking.address is None
