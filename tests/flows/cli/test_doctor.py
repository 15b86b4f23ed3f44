"""`stepfold doctor`: one finding for everything a run depends on."""

from pathlib import Path

from flows.cli.doctor import examine


def test_the_doctor_looks_at_everything_a_run_depends_on(tmp_path: Path) -> None:
    findings = {finding.topic: finding for finding in examine(tmp_path, {"a page": 0})}
    assert set(findings) >= {
        *("python", "packages", "cores", "memory", "disk", "/dev/shm"),
        *("a page", "torch", "gpu", "prefect"),
    }
    assert "build" in findings["torch"].text
    assert findings["prefect"].verdict == "good"
    assert findings["python"].verdict == "good"
