"""Failure notifications, sent by the run itself and by its server to local receivers."""

import logging
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.abstract import NotificationError
from prefect.blocks.core import Block

from flows.orchestration.notifications import email_block, try_send
from flows.orchestration.server import child_process, wait_until_up
from pipeline.config.profile import Profile
from pipeline.documents import build
from pipeline.errors import ConfigError
from tests.flows.orchestration.test_deployment import holders_of
from tests.support.asking_prefect import ask
from tests.support.doors import free_port
from tests.support.mailbox import PASSWORD, mailbox
from tests.support.prefect_home import new_home
from tests.support.receiver import TOKEN, receiver
from tests.support.terminal import GAUSSIAN, command, environment, invoke


def stepfold(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    variables["PREFECT_HOME"] = new_home(folder)
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def wait_for(messages: list[Any], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(messages) < count:
        assert time.monotonic() < deadline, messages
        time.sleep(0.2)


def fail_a_flow_run(api: str) -> None:
    """Set a flow run of ours to failed on the server, without any process running it."""
    flow = ask(api, "flows/", name="full-distillation")
    run = ask(api, "flow_runs/", flow_id=flow["id"], name="night", parameters={"run_dir": "there"})
    failed = {"type": "FAILED", "name": "Failed", "message": "no"}
    ask(api, f"flow_runs/{run['id']}/set_state", state=failed)


def test_a_block_is_named_by_its_type_and_its_name() -> None:
    profile = build(Profile, {"notify": {"block": "slack-webhook/night-shift"}}, "p.yaml")
    assert profile.notify.block == "slack-webhook/night-shift"
    with pytest.raises(ConfigError, match=r"p.yaml.*notify.block"):
        build(Profile, {"notify": {"block": "https://hooks.example/T0/B0"}}, "p.yaml")


def test_an_email_is_plain_text_and_no_log_has_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1)  # of all loggers, with what Apprise only traces
    with mailbox() as box:
        block = email_block(box.address)
        with block.raise_on_failure():
            block.notify("1 < 2 & so on\n\nDirectory: /here", "Stepfold: a run failed")
            locked_out = email_block(box.address.replace(PASSWORD, "wrong"))
            with locked_out.raise_on_failure(), pytest.raises(NotificationError):
                locked_out.notify("never", "never")
    ((people, letter),) = box.letters
    assert people == ("people@example.org",)
    assert letter["subject"] == "Stepfold: a run failed"
    assert letter["from"] == "us@example.org"
    assert letter.get_content_type() == "text/plain"
    assert letter.get_content().splitlines() == ["1 < 2 & so on", "", "Directory: /here"]
    assert [secret for secret in (PASSWORD, "wrong") if secret in caplog.text] == []
    shown = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert [record for record in shown if record.name == "apprise"] == []


def test_a_rejected_email_is_not_reported_as_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mailbox() as box:
        kept = {  # in place of Prefect's database
            "smtp-email/us": email_block(box.address),
            "smtp-email/old": email_block(box.address.replace(PASSWORD, "wrong")),
        }
        monkeypatch.setattr(Block, "load", kept.__getitem__)
        assert try_send("smtp-email/us", "subject", "body")
        assert not try_send("smtp-email/old", "subject", "body")
    assert len(box.letters) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://hooks.example/T0/B0", "use mailtos://"),
        ("mailto://nowhere", "use mailtos://"),
        ("mailtos://us:pw@mail.example.org/nobody", "use mailtos://"),
        ("mailto://us:pw@mail.example.org/a@example.org", "would send its password unencrypted"),
        ("mailtos://us:pw@mail.example.org/a@example.org?mode=insecure", "password unencrypted"),
    ],
)
def test_an_invalid_or_unencrypted_address_is_refused_without_showing_it(
    address: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        email_block(address)
    assert address.partition("://")[2] not in str(refused.value)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("pigeon/us", "pigeon: --address-from supports custom-webhook"),
        ("smtp-email", "use TYPE/NAME, with lowercase letters"),
        ("smtp-email/us", "smtp-email: the address is not valid"),
        ("slack-webhook/Our_Team", "lowercase letters, numbers and dashes"),
        ("custom-webhook/a b", "lowercase letters, numbers and dashes"),
    ],
)
def test_an_invalid_block_is_refused(
    block: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERTS", "a-secret")
    code, output = invoke("notify", block, "--address-from", "ALERTS")
    assert (code, message in output, "a-secret" in output) == (2, True, False)


@pytest.mark.needs_ray
def test_a_failed_run_and_its_server_both_send_a_notification(tmp_path: Path) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    serve = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    home = {"PREFECT_HOME": new_home(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    log = tmp_path / "server.log"
    profile = tmp_path / "profile.yaml"
    # a genuine failure: the MLflow server that this profile names is not there
    profile.write_text(
        "tracking: {uri: 'http://127.0.0.1:9'}\nnotify: {block: custom-webhook/us}\n"
    )
    run = ["run", str(GAUSSIAN), "--profile", str(profile), "--run-dir", str(tmp_path / "run")]
    with (
        receiver() as (address, heard),
        child_process([command()[0], *serve], log, home) as process,
    ):
        wait_until_up(process, f"{api}/health", 180, log)
        notify = ("notify", "custom-webhook/us", "--address-from", "ALERTS")
        made = stepfold(tmp_path, *notify, PREFECT_API_URL=api, ALERTS=address)
        assert made.returncode == 0, made.stderr
        assert "This Prefect server now notifies when a run fails" in made.stdout
        assert [each["title"] for each in heard] == ["Stepfold: test message"]
        failed = stepfold(tmp_path, *run, PREFECT_API_URL=api, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        assert failed.returncode == 1, failed.stdout + failed.stderr
        wait_for(heard, 3)
        with mailbox() as box:
            notify = ("notify", "smtp-email/us", "--address-from", "MAIL")
            by_mail = stepfold(tmp_path, *notify, PREFECT_API_URL=api, MAIL=box.address)
            assert by_mail.returncode == 0, by_mail.stderr
            fail_a_flow_run(api)  # which only the server can report
            wait_for(box.letters, 2)
    assert box.letters[0][1]["subject"] == "Stepfold: test message"
    assert box.letters[1][1]["subject"] == "Stepfold: night failed"
    assert box.letters[1][1].get_content().splitlines()[:3] == ["no", "", "Directory: there"]
    assert holders_of(PASSWORD, tmp_path) == []
    assert PASSWORD not in by_mail.stdout + by_mail.stderr
    texts = [each["text"] for each in heard[1:]]
    assert all("Stepfold: gaussian failed" in text for text in texts)
    assert all("MLflow at http://127.0.0.1:9 is unreachable" in text for text in texts)
    assert all(f"{tmp_path}/run" in text and f":{port}/runs/flow-run/" in text for text in texts)
    assert {each["path"] for each in heard} == {f"/hooks/{TOKEN}"}
    assert holders_of(TOKEN, tmp_path) == []
    assert TOKEN not in made.stdout + made.stderr + failed.stdout + failed.stderr
