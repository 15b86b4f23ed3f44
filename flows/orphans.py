"""What a killed driver leaves behind on its machine: its Prefect server, and Ray's folder.

A driver that ends takes both with it. One that is killed (-9) cannot, and its server goes on until
somebody ends it. It is recorded while it runs, so that it is recognised surely.
"""

import json
from pathlib import Path

import psutil

from infra.ray_cluster import clear_dead_session
from pipeline.durable import write_durably
from pipeline.identity import Identity, identify

SERVER = ".server.json"

_WORD = "prefect.server.api.server:create_app"  # of its command line
_PATIENCE_S = 10.0


def note_server(run_dir: Path) -> None:
    """Record the Prefect server that this process has started, if it has."""
    servers = [child for child in psutil.Process().children() if _is_server(child)]
    if servers:
        who = {"driver": identify(), "server": identify(servers[0])}
        text = json.dumps({name: each.model_dump() for name, each in who.items()})
        write_durably(run_dir / SERVER, text)


def bury(run_dir: Path) -> list[str]:
    """End and remove what the run's last driver left, if it was killed; what that was.

    Args:
        run_dir: the run directory; nobody else is at work in it.
    """
    done = []
    if _end_server(run_dir):
        done.append("1 Prefect server ended")
    if clear_dead_session(run_dir / "logs"):
        done.append("1 folder of Ray removed")
    return done


def _end_server(run_dir: Path) -> bool:
    path = run_dir / SERVER
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        driver, server = (Identity.model_validate(tree[name]) for name in ("driver", "server"))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if driver.is_alive is not False:
        return False  # it may serve another of its runs, or is on another machine
    path.unlink()
    process = server.process()
    if process is None or not _is_server(process):
        return False
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except psutil.TimeoutExpired:
        process.kill()
    return True


def _is_server(process: psutil.Process) -> bool:
    try:
        return _WORD in process.cmdline()
    except psutil.Error:
        return False
