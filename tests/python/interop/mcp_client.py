"""The client of the package `mcp`, told what to do line by line; the browser and the redirect back are the caller's."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import httpx2
from driven import arrived, drive, opened, parameters, text_of
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken


class Storage:
    """Tokens and registrations in memory."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self.client = client
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Session:
    """One client that speaks with one server."""

    def __init__(self, url: str, redirect_uri: str, registered: dict[str, str] | None, document: str | None) -> None:
        self._url = url
        metadata = OAuthClientMetadata.model_validate({"client_name": "mcp client", "redirect_uris": [redirect_uri]})
        known = None
        if registered is not None:
            known = OAuthClientInformationFull.model_validate({**metadata.model_dump(exclude_none=True), **registered})
        self._storage = Storage(known)
        self._auth = OAuthClientProvider(url, metadata, self._storage, opened, _callback, client_metadata_url=document)

    async def call(self) -> str:
        """Calls the tool, signing in first if that is needed."""
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(auth=self._auth, timeout=30, trust_env=False))
            client = await stack.enter_async_context(Client(streamable_http_client(self._url, http_client=http)))
            return text_of(await client.call_tool("whoami", {}))

    def tokens(self) -> dict[str, Any]:
        """What it holds."""
        return self._storage.tokens.model_dump(exclude_none=True) if self._storage.tokens else {}

    def expire(self) -> None:
        """Its clock says that the access token is over."""
        self._auth.context.token_expiry_time = 1.0


async def _callback() -> AuthorizationCodeResult:
    said = parameters(await arrived())
    return AuthorizationCodeResult(code=said["code"], state=said["state"], iss=said["iss"])


if __name__ == "__main__":
    drive(Session)
