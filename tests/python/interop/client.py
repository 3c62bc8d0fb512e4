"""Drives a client program: it is told what to do by lines of JSON, and asks for a browser by one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2

from interop.browser import Browser

ANSWER_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
LISTENING_SECONDS_MAX: Final = 10.0
LOG_LINES_SHOWN: Final = 60


class ClientError(Exception):
    """What the package raised."""


class Client:
    """A running client program of one package."""

    def __init__(self, command: Sequence[str], log: Path, *, listens: bool) -> None:
        """``listens``: the package has a server of its own for the redirect back; else the address is handed over."""
        self._listens = listens
        self._log = log
        self._errors = log.open("ab")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._process = subprocess.Popen(
            command, env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )
        self._buffer = b""
        self.signed_in = 0
        """How often it asked for a browser."""

    def open(self, url: str, redirect_uri: str, registered: dict[str, str] | None, document: str | None) -> None:
        """A new client, that knows nothing yet but what is given here."""
        self.signed_in = 0
        told = {"url": url, "redirect_uri": redirect_uri, "registered": registered, "document": document}
        self._do(None, do="open", **told)

    def call(self, browser: Browser, decision: str = "approve") -> str:
        """Calls the tool and gives its text; if it asks for a browser, the person there decides so."""
        return str(self._do(lambda url: browser.visit(url, decision), do="call"))

    def tokens(self) -> dict[str, Any]:
        """What it holds."""
        return dict(self._do(None, do="tokens"))

    def expire(self) -> None:
        """From here on its access token is over, as it sees it."""
        self._do(None, do="expire")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the client did not stop:\n{self._tail()}") from None
        finally:
            self._errors.close()

    def _do(self, visit: Callable[[str], str] | None, **told: Any) -> Any:
        self._tell(told)
        while True:
            said = self._hear()
            if "done" in said:
                return said["done"]
            if "failed" in said:
                raise ClientError(said["failed"])
            assert visit is not None, "it asked for a browser where none is needed"
            self.signed_in += 1
            target = visit(said["open"])
            if self._listens:
                _come_back(target)
            else:
                self._tell({"arrived": target})

    def _tell(self, told: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the client did not answer in {ANSWER_SECONDS_MAX:.0f} s:\n{self._tail()}"
            part = os.read(self._process.stdout.fileno(), 65_536)
            assert part, f"the client ended:\n{self._tail()}"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        return dict(json.loads(line))

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _come_back(target: str) -> None:
    """Follows the redirect back. A client may open its browser a moment before it listens; people are slower."""
    deadline = time.monotonic() + LISTENING_SECONDS_MAX
    while True:
        try:
            response = httpx2.get(target, timeout=ANSWER_SECONDS_MAX, trust_env=False)
        except httpx2.ConnectError:
            assert time.monotonic() < deadline, f"nobody listens at {target}"
            time.sleep(0.05)
            continue
        assert response.status_code in (200, 400), f"{response.status_code} {response.text}"
        return
