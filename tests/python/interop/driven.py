"""What the client programs of the interop tests have in common: they are told what to do by lines of JSON."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.to_thread


class Session(Protocol):
    """A client, as the tests see it."""

    async def call(self) -> str: ...

    def tokens(self) -> dict[str, Any]: ...

    def expire(self) -> None: ...


class Opens(Protocol):
    """Makes a client."""

    def __call__(
        self, url: str, redirect_uri: str, registered: dict[str, str] | None, document: str | None
    ) -> Session: ...


def say(**said: Any) -> None:
    """One line to whoever drives."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def heard() -> Any:
    """The next line of whoever drives; `None` when there are no more."""
    line = await anyio.to_thread.run_sync(sys.stdin.readline)
    return json.loads(line) if line else None


async def opened(url: str) -> None:
    """Asks for a browser."""
    say(open=url)


async def arrived() -> str:
    """Where the browser was sent in the end."""
    return str((await heard())["arrived"])


def parameters(url: str) -> dict[str, str]:
    """The query of an address; a parameter that stands twice is an error."""
    return {name: value for name, [value] in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def text_of(result: Any) -> str:
    """The text of a tool's result."""
    assert not result.is_error, result
    return "".join(part.text for part in result.content)


def drive(opens: Opens) -> None:
    """Does what the lines on standard input say until there are no more."""
    anyio.run(_drive, opens)


async def _drive(opens: Opens) -> None:
    session: Session | None = None
    while (told := await heard()) is not None:
        do = told.pop("do")
        try:
            if do == "open":
                session = opens(**told)
                say(done=None)
                continue
            assert session is not None, "open comes first"
            if do == "call":
                say(done=await session.call())
            elif do == "tokens":
                say(done=session.tokens())
            else:
                say(done=session.expire())
        except Exception as cause:
            say(failed="".join(traceback.format_exception(cause)))
