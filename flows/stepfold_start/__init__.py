"""Ways into Stepfold, under a name that no directory of a user is likely to have.

`flows` and `pipeline` are common names. With `PYTHONPATH=.`, in `python -m`, and in servers that
add the working directory themselves, a directory of such a name would be imported instead. Each
function here imports the packages that are installed with this one, which is `stepfold_start`
wherever it is installed.

    python PATH_OF_THIS_FILE ARGUMENTS            the command `stepfold`
    python PATH_OF_THIS_FILE -m MODULE ARGUMENTS  another program, with the packages found here
"""

import importlib
import runpy
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

_OTHERS = {
    "notifications": "flows.orchestration.notifications",  # Prefect loads it in its server
    "full_distillation": "flows.full_distillation:full_distillation",
    "scheduled_distillation": "flows.scheduled_distillation:scheduled_distillation",
}


def main() -> None:
    """Run the command line, or with `-m` another module as a program."""
    _import_flows()
    from flows.isolation import leave_working_directory

    leave_working_directory()
    if sys.argv[1:2] == ["-m"]:
        del sys.argv[:2]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    from flows.cli.app import main as command

    command()


def __getattr__(name: str) -> Any:
    """Return what Prefect loads by name: the flows of deployments, and the notification blocks."""
    if name not in _OTHERS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    _import_flows()
    module, _, attribute = _OTHERS[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def _import_flows() -> None:
    """Import `flows` of this installation, which then finds the other packages beside itself."""
    if "flows" in sys.modules:
        return
    spec = PathFinder.find_spec("flows", [str(_home())])
    if spec is None or spec.loader is None:
        raise ImportError(f"no package `flows` above {__file__}; install Stepfold again")
    flows = module_from_spec(spec)
    sys.modules["flows"] = flows
    spec.loader.exec_module(flows)


def _home() -> Path:
    """Return the directory of the packages: site-packages, or the repository."""
    here = Path(__file__).resolve()
    return next((at for at in here.parents if (at / "flows/isolation.py").is_file()), here.parent)


if __name__ == "__main__":
    main()
