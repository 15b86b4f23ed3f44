"""`stepfold play`: a local page that samples a student beside its teacher."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flows.cli.console import open_console
from flows.orchestration import settings
from pipeline.errors import ConfigError, StepfoldError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from stages.inference.playground import Playground

_HOST = "127.0.0.1"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def play(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE",
            help="Directory of a student; or a run directory, for all its students.",
        ),
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher", metavar="DIR", help="Directory of the teacher. Default: that of the run."
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port of the page, on 127.0.0.1 only; 0 for any free port."
        ),
    ] = 7860,
) -> None:
    """Serve a local page that samples a student beside its teacher, until Ctrl-C.

    Example: stepfold play runs/digits
    """
    settings.set_defaults()
    import uvicorn

    from stages.inference.playground import Playground, find_networks

    playground = Playground(find_networks(bundle, teacher))
    console = open_console()
    with _listen(port) as listening:
        with console.status("Loading the student ..."):
            playground.open_first()
        address = f"http://{_HOST}:{listening.getsockname()[1]}"
        console.print(Text(address, style="name"), soft_wrap=True)
        console.print(Text("Ctrl-C stops it.", style="quiet"))
        config = uvicorn.Config(app_of(playground), log_level="warning", access_log=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
        console.print("Stopped.")


def app_of(playground: "Playground") -> "FastAPI":
    """Return the web application: the page at `/`, images at `/draw`; for loopback hosts only."""
    from dataclasses import asdict

    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from pipeline.page.play_page import render_play
    from stages.inference.playground import SampleRequest

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # against DNS rebinding: a foreign page cannot reach the server under a name of its own
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(render_play(playground.offer), headers=headers)

    @app.post("/draw")
    def draw(question: SampleRequest) -> dict[str, Any]:
        return asdict(playground.draw(question))

    @app.exception_handler(StepfoldError)
    def refuse(request: Request, error: StepfoldError) -> JSONResponse:  # noqa: ARG001 (its signature)
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(RequestValidationError)
    def correct(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        first = error.errors()[0]
        message = f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}"
        return JSONResponse({"error": message}, status_code=422)

    return app


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except OSError:
        listening.close()
        raise ConfigError(
            f"port {port} is in use by another program; choose another with --port"
        ) from None
    listening.listen()
    return listening
