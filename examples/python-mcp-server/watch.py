"""Ends requests that are still being served when their credential dies.

A request is checked when it begins. One that goes on – a tool that takes its time, a stream – would outlive that check,
so each is held here while it runs, and the authority's stream of revocations says which of them must end.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
from mcp.server.auth.provider import AccessToken

from authority import AuthorityAwayError, IntrospectionVerifier, caller_address

logger = logging.getLogger(__name__)

SILENCE_SECONDS_MAX: Final = 2.0
"""A request goes on for this long without a word that the authority is current; it says so each second."""

RECONNECT_SECONDS: Final = 0.2
"""The pause before the stream is opened again."""

EVENT_BYTES_MAX: Final = 65_536
"""The longest event that is read."""

NEWS: Final = frozenset({"revoked", "changed"})


@dataclass(eq=False)
class Held:
    """One request that is being served."""

    token: AccessToken
    address: str | None
    still_allowed: Callable[[AccessToken], bool]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    dead: bool = False
    """Its credential no longer allows it; otherwise an ended request was ended because nobody could say so."""

    def end(self, *, dead: bool) -> None:
        self.dead = self.dead or dead
        self.scope.cancel()


class Watch:
    """Follows the stream, and ends what it names. When the stream is silent, everything ends."""

    def __init__(self, issuer: str, verifier: IntrospectionVerifier, client: httpx2.AsyncClient) -> None:
        """``client`` authenticates this server at the authority, as for introspection."""
        self._url = f"{issuer.removesuffix('/oauth')}/v1/revocations/stream"
        self._verifier = verifier
        self._client = client
        self._held: set[Held] = set()
        self._last_id: str | None = None
        self.heard = 0
        """How much was told so far. Look at it before a credential is checked, and give it to ``holding``."""

    @contextmanager
    def holding(
        self, token: AccessToken, heard: int, tasks: anyio.abc.TaskGroup, still_allowed: Callable[[AccessToken], bool]
    ) -> Iterator[Held]:
        """Serves a request inside; leaves early when it must end. ``tasks`` runs as long as the request does."""
        held = Held(token, caller_address.get(), still_allowed)
        held.scope.deadline = anyio.current_time() + SILENCE_SECONDS_MAX
        self._held.add(held)
        if heard != self.heard:
            # Something was told between the check and now; it was not held then, so it is checked again.
            tasks.start_soon(self._ask_again, held)
        try:
            with held.scope:
                yield held
        finally:
            self._held.discard(held)

    async def run(self) -> None:
        """Follows the stream for ever."""
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    await self._follow(tasks)
                except (httpx2.HTTPError, httpx2.StreamError, OSError, TimeoutError, ValueError) as cause:
                    logger.warning("the authority's stream broke off (%s)", type(cause).__name__)
                await anyio.sleep(RECONNECT_SECONDS)

    async def _follow(self, tasks: anyio.abc.TaskGroup) -> None:
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != 200:
                raise ValueError(f"the authority answered {response.status_code}")
            events = read_events(response.aiter_bytes())
            while True:
                with anyio.fail_after(SILENCE_SECONDS_MAX):
                    event = await anext(events, None)
                if event is None:
                    return
                self._take(event, tasks)

    def _take(self, event: dict[str, str], tasks: anyio.abc.TaskGroup) -> None:
        name = event.get("event")
        if name == "alive":
            deadline = anyio.current_time() + SILENCE_SECONDS_MAX
            for held in self._held:
                held.scope.deadline = deadline
        elif name in NEWS or name == "reset":
            self.heard += 1
            about = json.loads(event["data"]) if name in NEWS else {"kind": "all"}
            for held in list(self._held):
                reach = reaches(about, held.token.claims or {})
                if reach == "itself" and name == "revoked" and "issued_before" not in about:
                    held.end(dead=True)
                elif reach:
                    tasks.start_soon(self._ask_again, held)
        # Only now: what was read and not done would be lost if this was its last word.
        self._last_id = event.get("id", self._last_id)

    async def _ask_again(self, held: Held) -> None:
        reset = caller_address.set(held.address)
        try:
            token = await self._verifier.verify_token(held.token.token)
        except AuthorityAwayError:
            held.end(dead=False)
            return
        finally:
            caller_address.reset(reset)
        if token is None or not held.still_allowed(token):
            held.end(dead=True)


def reaches(about: dict[str, Any], claims: dict[str, Any]) -> str | None:
    """Whether an event is about a credential ``itself``, about something it may hang on (``above``), or not at all.

    ``claims`` are what introspection said of the credential. It names neither the token that it was exchanged from nor
    the keys of those who act, so these are found by the key that both share, and by the agents in ``act``.
    """
    kind, target = about.get("kind"), about.get("id")
    named = {
        "token": (claims.get("jti"),),
        "key": (claims.get("key_id"), claims.get("client_id")),
        "agent": (claims.get("agent_id"), claims.get("sub")),
    }
    if not isinstance(kind, str) or kind not in named or target in named[kind]:
        # A kind that is not known may be about anything.
        return "itself"
    if kind == "token" and about.get("key_id") == claims.get("key_id"):
        return "above"
    agent = target if kind == "agent" else about.get("agent_id")
    actor = claims.get("act")
    while isinstance(actor, dict):
        if actor.get("sub") == agent:
            return "above"
        actor = actor.get("act")
    return None


async def read_events(parts: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """Server-sent events (WHATWG HTML, 9.2), as far as the authority uses them: each field on one line."""
    buffer = b""
    async for part in parts:
        buffer += part
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            fields: dict[str, str] = {}
            for line in block.decode().splitlines():
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            yield fields
        if len(buffer) > EVENT_BYTES_MAX:
            raise ValueError("an event is too long")
