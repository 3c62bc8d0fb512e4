"""Two layers around the SDK's application: one answers when the authority is away, one enforces permissions.

What is served longer than its check is held by ``Watch``, and ends when its credential does.

The order is ``AuthorityGate`` → the SDK's authentication (``IntrospectionVerifier``) → ``PermissionGuard`` →
the SDK's routes. What is not named here as public is guarded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authority import RETRY_SECONDS, AuthorityAwayError, caller_address
from permissions import allows, needs
from watch import Held, Watch

logger = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 1_048_576
"""The longest request body."""

NAMED_NEEDS_MAX: Final = 6
"""Missing permissions named in one refusal; more would not fit into a header (512 bytes each)."""


HEARD: Final = "authority.heard"
"""Where a request keeps how much had been told when its check began."""


class AuthorityGate:
    """Outermost: tells the verifier where a request comes from, and answers 503 when nobody can verify."""

    def __init__(self, app: ASGIApp, watch: Watch) -> None:
        self._app = app
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; the authority away is 503 with ``Retry-After``, never "allowed"."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
            # Which of two credentials counts must not depend on who reads them.
            await _refusal(400, "more than one Authorization header", None)(scope, receive, send)
            return
        client = scope.get("client")
        reset = caller_address.set(client[0] if client else None)
        # Before the credential is checked: what is told from here on, the check may not know of.
        scope[HEARD] = self._watch.heard
        try:
            await self._app(scope, receive, send)
        except AuthorityAwayError as away:
            logger.warning("refused a request: %s", away)
            headers = {"Retry-After": str(away.retry_seconds)}
            await _refusal(503, "the authority is away", None, headers=headers)(scope, receive, send)
        finally:
            caller_address.reset(reset)


class PermissionGuard:
    """Innermost: lets a message pass only if the credential has each permission that it needs."""

    def __init__(
        self, app: ASGIApp, watch: Watch, public_paths: Sequence[str], required_scopes: Sequence[str], metadata_url: str
    ) -> None:
        """``required_scopes`` are this server's own scopes that every caller must hold, whatever it sends."""
        self._app = app
        self._watch = watch
        self._public_paths = frozenset(public_paths)
        self._required_scopes = tuple(required_scopes)
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it with 401, 403, 405, 413 or 400."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in self._public_paths):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} is served")
        body = await self._admitted(scope, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        await self._held(scope, body, receive, send)

    async def _held(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Serves a message that may pass, until it is done or its credential is."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        def still_allowed(token: AccessToken) -> bool:
            user, message = AuthenticatedUser(token), json.loads(body)
            scopes = all(name in user.scopes for name in self._required_scopes)
            return scopes and all(allows(permissions_of(user), need) for need in needs(message))

        async with anyio.create_task_group() as tasks:
            token = scope["user"].access_token
            with self._watch.holding(token, scope[HEARD], tasks, still_allowed) as held:
                await self._app(scope, _replayed(body, receive), noted)
            tasks.cancel_scope.cancel()
        if not held.scope.cancelled_caught:
            return
        logger.info("ended a request that outlived its %s", "credential" if held.dead else "authority's last word")
        # A reply that has begun is left unfinished, so that nobody takes it for whole: the connection is closed.
        if not begun:
            await self._ended(scope, held)(scope, receive, send)

    def _ended(self, scope: Scope, held: Held) -> Response:
        if held.dead:
            return self._unauthorized(scope)
        return _refusal(503, "the authority is away", None, headers={"Retry-After": str(RETRY_SECONDS)})

    async def _admitted(self, scope: Scope, receive: Receive) -> bytes | Response:
        """The request's body if it may pass, else the refusal."""
        user = scope.get("user")
        if not isinstance(user, AuthenticatedUser):
            return self._unauthorized(scope)
        if missing := [name for name in self._required_scopes if name not in user.scopes]:
            return self._forbidden(missing, None)
        if scope["method"] != "POST":
            # There is no stream without a request of its own; MCP allows a server to have none.
            return _refusal(405, "only POST is served", None, headers={"Allow": "POST"})
        body = await _read(receive)
        if body is None:
            return _refusal(413, f"the body is longer than {BODY_BYTES_MAX} bytes", None)
        try:
            message = json.loads(body.decode("utf-8"), object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError):
            return _refusal(400, "the body is not JSON in UTF-8 without repeated members", None, code=PARSE_ERROR)
        if not isinstance(message, dict):
            return _refusal(400, "the body is not one JSON-RPC message", None)
        return self._checked(message, body, permissions_of(user))

    def _checked(self, message: dict[str, Any], body: bytes, permissions: Sequence[str]) -> bytes | Response:
        missing = [need for need in needs(message) if not allows(permissions, need)]
        if not missing:
            return body
        try:
            return self._forbidden([str(need) for need in missing[:NAMED_NEEDS_MAX]], message.get("id"))
        except UnicodeEncodeError:
            return _refusal(400, "a name is not Unicode text", message.get("id"))

    def _unauthorized(self, scope: Scope) -> Response:
        parts = [f'resource_metadata="{self._metadata_url}"']
        if self._required_scopes:
            parts.append(f'scope="{" ".join(self._required_scopes)}"')
        if any(name == b"authorization" for name, _ in scope["headers"]):
            # RFC 6750 §3.1: no error code where no credential was shown.
            parts.insert(0, 'error="invalid_token"')
        headers = {"WWW-Authenticate": f"Bearer {', '.join(parts)}"}
        return _refusal(401, "an active credential is needed", None, headers=headers)

    def _forbidden(self, missing: Sequence[str], request_id: object) -> Response:
        scope = " ".join(dict.fromkeys(missing))
        challenge = f'Bearer error="insufficient_scope", scope="{scope}", resource_metadata="{self._metadata_url}"'
        data = {"error": "insufficient_scope", "scope": scope}
        headers = {"WWW-Authenticate": challenge}
        return _refusal(403, f"insufficient_scope: {scope}", request_id, headers=headers, data=data)


def permissions_of(user: AuthenticatedUser) -> list[str]:
    """The permissions that the authority named for the credential of this request."""
    return list((user.access_token.claims or {}).get("permissions", []))


def _refusal(
    status: int,
    message: str,
    request_id: object,
    *,
    code: int = INVALID_REQUEST,
    headers: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
) -> Response:
    """A JSON-RPC error under an HTTP status, so that clients show the message and not only the number."""
    error: dict[str, Any] = {"code": INTERNAL_ERROR if status >= 500 else code, "message": message}
    if data:
        error["data"] = dict(data)
    known_id = request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
    body = {"jsonrpc": "2.0", "id": known_id, "error": error}
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})})


async def _read(receive: Receive) -> bytes | None:
    """The whole body; ``None`` if it is too long. What a caller that hung up had sent is not JSON, or is whole."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body which was checked, and then what is still to come."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may choose differently between repeated members, and then what was checked is not what runs.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members
