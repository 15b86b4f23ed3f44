"""How every command of the command line ends when it cannot go on."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def refusals(*, creates: bool = False) -> Iterator[None]:
    """Turn deliberate errors into one clear message and an exit code.

    Args:
        creates: the command makes something, unless it refuses; then it says that it made nothing.
    """
    from pipeline.errors import StepfoldError

    try:
        yield
    except StepfoldError as error:
        from flows.cli.console import open_console, refusal
        from flows.cli.run import FAILED, REFUSALS, REFUSED

        is_refused = isinstance(error, REFUSALS)
        text = refusal(str(error), created_nothing=creates and is_refused)
        open_console(stderr=True).print(text, soft_wrap=True)
        raise typer.Exit(REFUSED if is_refused else FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
