"""`stepfold play`: a page on this machine on which a student is drawn with beside its teacher."""

import socket
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from rich.text import Text
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.cli.console import open_console
from flows.orchestration import settings
from pipeline.errors import ConfigError, StepfoldError
from pipeline.page.play_page import render_play
from stages.inference.playground import Playground, Question, find_playable

_HOST = "127.0.0.1"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def play_with(place: Path, teacher: Path | None, port: int) -> None:
    """Serve the page until Ctrl-C.

    Args:
        place: a student's bundle, or a run for all its students.
        teacher: another teacher than the run's.
        port: on loopback; 0 for any that is free.

    Raises:
        BundleError: there is nothing to play with, or it is damaged.
        ConfigError: the port is taken.
    """
    settings.settle()
    playground = Playground(find_playable(place, teacher))
    console = open_console()
    with _listen(port) as listening:
        with console.status("Opening the student ..."):
            playground.open_first()
        address = f"http://{_HOST}:{listening.getsockname()[1]}"
        console.print(Text(address, style="name"), soft_wrap=True)
        console.print(Text("Ctrl-C stops it.", style="quiet"))
        config = uvicorn.Config(app_of(playground), log_level="warning", access_log=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
        console.print("Stopped.")


def app_of(playground: Playground) -> FastAPI:
    """The page at `/`, pictures at `/draw`; it answers to this machine's own names only."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # a page elsewhere could otherwise reach it under a name that it points here
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(render_play(playground.offer), headers=headers)

    @app.post("/draw")
    def draw(question: Question) -> dict[str, Any]:
        return asdict(playground.draw(question))

    @app.exception_handler(StepfoldError)
    def refuse(request: Request, error: StepfoldError) -> JSONResponse:  # noqa: ARG001 (its signature)
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(RequestValidationError)
    def correct(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        first = error.errors()[0]
        said = f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}"
        return JSONResponse({"error": said}, status_code=422)

    return app


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except OSError:
        listening.close()
        raise ConfigError(
            f"port {port} is taken by another program; choose one with --port"
        ) from None
    listening.listen()
    return listening
