"""A failure reaches people: a local receiver is told by the run itself, and by the server."""

import subprocess
import time
from pathlib import Path

import pytest

from flows.child import child, wait_for
from infra.profile import Profile
from pipeline.documents import build
from pipeline.errors import ConfigError
from tests.doors import free_port
from tests.flows.receiver import TOKEN, receiver
from tests.flows.terminal import GAUSSIAN, command, environment
from tests.flows.test_schedule import holders_of


def stepfold(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(PREFECT_HOME=str(folder / "prefect"), **variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_block_is_named_by_its_type_and_its_name() -> None:
    profile = build(Profile, {"notify": {"block": "slack-webhook/night-shift"}}, "p.yaml")
    assert profile.notify.block == "slack-webhook/night-shift"
    with pytest.raises(ConfigError, match=r"p.yaml.*notify.block"):
        build(Profile, {"notify": {"block": "https://hooks.example/T0/B0"}}, "p.yaml")


@pytest.mark.cluster
@pytest.mark.slow
def test_a_run_that_fails_is_told_of_by_itself_and_by_its_server(tmp_path: Path) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    serve = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    log = tmp_path / "server.log"
    profile = tmp_path / "profile.yaml"
    # a genuine failure: the MLflow server that this profile names is not there
    profile.write_text(
        "tracking: {uri: 'http://127.0.0.1:9'}\nnotify: {block: custom-webhook/us}\n"
    )
    run = ["run", str(GAUSSIAN), "--profile", str(profile), "--run-dir", str(tmp_path / "run")]
    with receiver() as (address, heard), child([command()[0], *serve], log, home) as process:
        wait_for(process, f"{api}/health", 180, log)
        made = stepfold(
            tmp_path,
            *("notify", "custom-webhook/us", "--address-from", "ALERTS"),
            PREFECT_API_URL=api,
            ALERTS=address,
        )
        assert made.returncode == 0, made.stderr
        assert "This Prefect server now tells of runs that fail" in made.stdout
        assert [each["title"] for each in heard] == ["Stepfold reaches you"]
        failed = stepfold(tmp_path, *run, PREFECT_API_URL=api, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        assert failed.returncode == 1, failed.stdout + failed.stderr
        deadline = time.monotonic() + 60
        while len(heard) < 3:
            assert time.monotonic() < deadline, heard
            time.sleep(0.2)
    texts = [each["text"] for each in heard[1:]]
    assert all("Stepfold: gaussian failed" in text for text in texts)
    assert all("MLflow at http://127.0.0.1:9 did not answer" in text for text in texts)
    assert all(f"{tmp_path}/run" in text and f":{port}/runs/flow-run/" in text for text in texts)
    assert {each["path"] for each in heard} == {f"/hooks/{TOKEN}"}
    assert holders_of(TOKEN, tmp_path) == []
    assert TOKEN not in made.stdout + made.stderr + failed.stdout + failed.stderr
