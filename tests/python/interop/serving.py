"""What the servers of the interop tests have in common: several of them in one process, each on a port of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.types import ASGIApp


@dataclass(frozen=True)
class Wanted:
    """One server: where it is, and how it checks tokens (`introspection` or `jwt`)."""

    issuer: str
    resource: str
    verifier: str
    token_alg: str
    client_id: str
    client_secret: str


def serve(application: Callable[[Wanted], ASGIApp]) -> None:
    """Serves what the variable SERVERS lists until the process is told to stop."""
    anyio.run(_serve, [(wanted, application(wanted)) for wanted in _wanted()])


def _wanted() -> list[Wanted]:
    return [Wanted(**one) for one in json.loads(os.environ["SERVERS"])]


async def _serve(all_of_them: list[tuple[Wanted, ASGIApp]]) -> None:
    async with anyio.create_task_group() as tasks:
        for wanted, app in all_of_them:
            port = urlsplit(wanted.resource).port
            config = uvicorn.Config(
                app, host="127.0.0.1", port=port or 0, log_level="info", timeout_graceful_shutdown=1
            )
            tasks.start_soon(uvicorn.Server(config).serve)
