"""Homes of Prefect with a database, so that servers of tests need not create its tables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

VARIABLE = "STEPFOLD_TESTS_PREFECT_HOME"
"""The home that others are copied from; shared by all processes of pytest."""

CREATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def new_home(folder: Path) -> str:
    """Make `folder`/prefect, unless it exists; return it, the value for PREFECT_HOME."""
    home = folder / "prefect"
    if not home.exists():
        shutil.copytree(_original(), home)
    return str(home)


def _original() -> Path:
    original = Path(os.environ[VARIABLE])
    with FileLock(f"{original}.lock"):
        if not original.exists():
            making = original.with_suffix(".making")
            making.mkdir(mode=0o700)
            variables = {"PREFECT_HOME": str(making), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
            subprocess.run(
                [sys.executable, "-c", CREATE],
                env={**os.environ, **variables},
                umask=0o077,
                check=True,
            )
            making.rename(original)
    return original
