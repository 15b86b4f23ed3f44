"""What a killed driver leaves behind on its machine: its Prefect server, and Ray's folder.

A driver that ends takes both with it. One that is killed (-9) cannot, and its server goes on until
somebody ends it. What a driver starts carries its name from the first moment, so that it is
recognised surely, however early the driver was killed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from infra.ray_cluster import clear_dead_session
from pipeline.identity import from_tag, identify

VARIABLE = "STEPFOLD_DRIVER"

_WORD = "prefect.server.api.server:create_app"  # of its command line
_PATIENCE_S = 10.0


def sign_children() -> None:
    """Let whatever this process starts from here on say whose it is."""
    os.environ[VARIABLE] = identify().tag


def bury(run_dir: Path) -> list[str]:
    """End and remove what killed drivers left; what that was.

    Args:
        run_dir: the run directory whose last driver left a folder of Ray; nobody else is at work in
            it. Servers are ended if their driver is dead, of whatever run it was.
    """
    done = []
    ended = _end_servers()
    if ended:
        done.append(f"{ended} Prefect server{'s' if ended > 1 else ''} ended")
    if clear_dead_session(run_dir / "logs"):
        done.append("1 folder of Ray removed")
    return done


def _end_servers() -> int:
    orphans = list(servers_of_the_dead())
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(orphans, timeout=_PATIENCE_S)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(orphans)


def servers_of_the_dead() -> Iterator[psutil.Process]:
    """Prefect servers on this machine whose drivers are gone."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is another user's
            if _WORD not in process.cmdline():
                continue
            driver = from_tag(process.environ().get(VARIABLE, ""))
            if driver is not None and driver.is_alive is False:
                yield process
