"""Imports of a run: own packages first, and none from the working directory.

The packages have common names (`pipeline`, `stages`), which a user's directory may have too.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

OWN = ("flows", "stages", "infra", "pipeline")
HOME = Path(__file__).resolve().parents[1]


class _OwnPackages:
    """Finder of the own packages, which looks beside this one only."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004 (the protocol of finders)
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if name not in OWN:
            return None
        return PathFinder.find_spec(name, [str(HOME)], target)


def start_file() -> str:
    """Return the path of `stepfold_start`, for `python PATH`.

    Raises:
        InfraError: it is not installed.
    """
    spec = find_spec("stepfold_start")
    if spec is None or spec.origin is None:
        from pipeline.errors import InfraError  # not before the own packages are preferred

        raise InfraError("stepfold_start is not installed; install Stepfold again")
    return spec.origin


def prefer_own_packages() -> None:
    """Import the own packages from this installation, whatever precedes it on the import path."""
    if _OwnPackages not in sys.meta_path:
        # before the import path only: the hooks of debuggers and type checkers come first
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
        sys.meta_path.insert(place, _OwnPackages)


def leave_working_directory() -> None:
    """Import nothing from the working directory, here and in child processes.

    Python adds it for `python -m`, `python -c` and a relative entry of PYTHONPATH, and Alembic as
    "." when a server opens its database. Kept are absolute entries of PYTHONPATH, and what is
    installed in site-packages or linked from there.
    """
    here = Path.cwd()
    if here == HOME:  # development: the tests are beside the packages
        return
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    kept = [str(Path(entry).absolute()) for entry in given if not _is_here(entry)]
    os.environ["PYTHONSAFEPATH"] = "1"
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(HOME), *kept]))
    else:
        os.environ.pop("PYTHONPATH", None)
    if str(here) not in kept:
        library = str(Path(os.__file__).parent)  # site-packages and links from it come after
        end = sys.path.index(library) if library in sys.path else len(sys.path)
        sys.path[:end] = [entry for entry in sys.path[:end] if Path(entry).absolute() != here]
    if _empty_here not in sys.path_hooks:
        sys.path_hooks.insert(0, _empty_here)
        sys.path_importer_cache.pop(".", None)


class _Nothing:
    """Finder of a place in which there is nothing to import."""

    def find_spec(self, name: str, target: ModuleType | None = None) -> None:
        """Find nothing."""


def _empty_here(entry: str) -> _Nothing:
    """Take a relative entry of the import path that is the working directory as empty."""
    if _is_here(entry):
        return _Nothing()
    raise ImportError(f"{entry} is left to the other hooks")


def _is_here(entry: str) -> bool:
    return not Path(entry).is_absolute() and Path(entry).resolve() == Path.cwd().resolve()
