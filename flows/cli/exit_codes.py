"""Exit codes of every command, and the context manager that turns errors into them.

0    done
1    failed: a run, a check or a service
2    refused: the command, the recipe, the profile or the data are wrong
130  interrupted by Ctrl-C or SIGTERM
"""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pipeline.errors import BundleError, BusyError, ConfigError, DataError, StepfoldError

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130

REFUSALS = (ConfigError, DataError, BundleError, BusyError)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a command that ended with this error."""
    return REFUSED if isinstance(error, REFUSALS) else FAILED


@contextmanager
def refusals(*, creates: bool = False) -> Iterator[None]:
    """Print a deliberate error as one paragraph and exit with its code.

    Args:
        creates: add to a refusal that nothing was created.
    """
    try:
        yield
    except StepfoldError as error:
        from flows.cli.console import open_console, refusal

        code = exit_code_of(error)
        text = refusal(str(error), created_nothing=creates and code == REFUSED)
        open_console(stderr=True).print(text, soft_wrap=True)
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
