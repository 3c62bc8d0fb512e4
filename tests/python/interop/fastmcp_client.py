"""The client of the package `fastmcp`, told what to do line by line; it listens itself for the redirect back."""

from __future__ import annotations

import webbrowser
from typing import Any
from urllib.parse import urlsplit

from driven import drive, say, text_of
from fastmcp import Client
from fastmcp.client.auth import OAuth
from key_value.aio.stores.memory import MemoryStore


class Asking(webbrowser.BaseBrowser):
    """What the package takes for the system's browser: whoever drives has one."""

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:  # noqa: ARG002 - as the base class has it
        say(open=url)
        return True


class Session:
    """One client that speaks with one server."""

    def __init__(self, url: str, redirect_uri: str, registered: dict[str, str] | None, document: str | None) -> None:
        self._url = url
        known = registered or {}
        self._auth = OAuth(
            url,
            client_name="fastmcp client",
            token_storage=MemoryStore(),
            callback_port=urlsplit(redirect_uri).port,
            client_metadata_url=document,
            client_id=known.get("client_id"),
            client_secret=known.get("client_secret"),
        )

    async def call(self) -> str:
        """Calls the tool, signing in first if that is needed."""
        async with Client(self._url, auth=self._auth) as client:
            return text_of(await client.call_tool("whoami", {}))

    def tokens(self) -> dict[str, Any]:
        """What it holds."""
        tokens = self._auth.context.current_tokens
        return tokens.model_dump(exclude_none=True) if tokens else {}

    def expire(self) -> None:
        """Its clock says that the access token is over."""
        self._auth.context.token_expiry_time = 1.0


if __name__ == "__main__":
    webbrowser.register("driven", None, Asking(), preferred=True)
    drive(Session)
