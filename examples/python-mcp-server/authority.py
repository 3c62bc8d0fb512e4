"""Asks the authority about each token shown, by OAuth introspection (RFC 7662)."""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from typing import Any, Final

import anyio
import httpx2
from mcp.server.auth.provider import AccessToken

logger = logging.getLogger(__name__)

ANSWER_SECONDS_MAX: Final = 5.0
"""How long the authority may take for one answer; past it the request is refused with 503."""

ANSWER_BYTES_MAX: Final = 65_536
"""The longest answer that is read."""

CONNECTIONS_MAX: Final = 64
"""Introspections at a time; more wait their turn within ``ANSWER_SECONDS_MAX``."""

RETRY_SECONDS: Final = 1
"""What callers are told when the authority itself named no time."""

RETRY_SECONDS_MAX: Final = 60
"""The longest wait that is passed on."""

TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]{1,8192}={0,2}")
"""RFC 6750 §2.1. What does not look like this cannot be a credential and is not sent anywhere."""

caller_address: ContextVar[str | None] = ContextVar("caller_address", default=None)
"""Where the request being served came from; keys with an address list are good only from there."""


class AuthorityAwayError(Exception):
    """Nobody can say now whether the token is good; the request must be refused, and may be repeated."""

    def __init__(self, reason: str, retry_seconds: int = RETRY_SECONDS) -> None:
        super().__init__(reason)
        self.retry_seconds = retry_seconds


class IntrospectionVerifier:
    """A ``TokenVerifier`` of the SDK that accepts API keys and session tokens alike.

    Nothing is remembered: each request asks anew, so that a revoked credential is refused by the next one.
    """

    def __init__(self, issuer: str, resource: str, client: httpx2.AsyncClient) -> None:
        """``client`` authenticates this server at the authority, follows no redirects and has time-outs."""
        self._issuer = issuer
        self._resource = resource
        self._client = client

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the token may do here; ``None`` if it is not good here. Raises ``AuthorityAwayError``."""
        if not TOKEN.fullmatch(token):
            return None
        form = {"token": token}
        if address := caller_address.get():
            form["client_ip"] = address
        answer = await self._ask(form)
        if answer.get("active") is not True:
            return None
        # The authority answers only for this server's own tokens. Looked at again here, so that a wrong
        # setting cannot make this server accept what was issued for another one.
        if answer.get("aud") != self._resource or answer.get("iss") != self._issuer:
            logger.warning("an active token of another audience or issuer was refused")
            return None
        return _access_token(token, answer)

    async def _ask(self, form: dict[str, str]) -> dict[str, Any]:
        try:
            with anyio.fail_after(ANSWER_SECONDS_MAX):
                async with self._client.stream("POST", f"{self._issuer}/introspect", data=form) as response:
                    if response.status_code != 200:
                        raise _refused(response)
                    answer = json.loads(await _body(response))
        except (httpx2.HTTPError, httpx2.StreamError, OSError, TimeoutError) as cause:
            raise AuthorityAwayError(f"the authority cannot be reached ({type(cause).__name__})") from cause
        except (ValueError, RecursionError) as cause:
            raise AuthorityAwayError("the authority's answer is not JSON") from cause
        if not isinstance(answer, dict):
            raise AuthorityAwayError("the authority's answer is not an object")
        return answer


async def _body(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise AuthorityAwayError("the authority's answer is too long")
    return bytes(body)


def _refused(response: httpx2.Response) -> AuthorityAwayError:
    # 401 means that this server's own credential is wrong: that says nothing about the token either.
    retry = response.headers.get("retry-after", "")
    seconds = int(retry) if re.fullmatch(r"[0-9]{1,9}", retry) else RETRY_SECONDS
    return AuthorityAwayError(f"the authority answered {response.status_code}", min(seconds, RETRY_SECONDS_MAX))


def _access_token(token: str, answer: dict[str, Any]) -> AccessToken:
    scope, permissions = answer.get("scope"), answer.get("permissions")
    client_id, expires_at = answer.get("client_id"), answer.get("exp")
    if (
        not isinstance(scope, str)
        or not isinstance(client_id, str)
        or type(expires_at) is not int
        or not isinstance(permissions, list)
        or not all(isinstance(permission, str) for permission in permissions)
    ):
        raise AuthorityAwayError("the authority's answer lacks a member")
    return AccessToken(
        token=token,
        client_id=client_id,
        scopes=scope.split(),
        expires_at=expires_at,
        resource=answer["aud"],
        subject=answer.get("sub"),
        claims=answer,
    )
