"""What is told ends what it is about, and nothing else; silence ends everything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server.auth.provider import AccessToken

import watch
from authority import IntrospectionVerifier
from watch import Held, Watch, reaches, read_events

pytestmark = pytest.mark.anyio

ISSUER = "https://authority.example.com/oauth"
RESOURCE = "https://notes.example.com/mcp"
CLAIMS: dict[str, Any] = {
    "active": True,
    "iss": ISSUER,
    "aud": RESOURCE,
    "jti": "ses_1",
    "key_id": "key_1",
    "client_id": "key_1",
    "agent_id": "agt_1",
    "sub": "agt_1",
    "act": {"sub": "agt_2", "act": {"sub": "agt_3"}},
    "scope": "tools/list",
    "permissions": ["tools/list"],
    "exp": 4_102_444_800,
}
TOKEN = AccessToken(token="abc", client_id="key_1", scopes=["tools/list"], claims=CLAIMS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("about", "reach"),
    [
        ({"kind": "token", "id": "ses_1", "key_id": "key_1", "agent_id": "agt_1"}, "itself"),
        ({"kind": "token", "id": "ses_2", "key_id": "key_1", "agent_id": "agt_1"}, "above"),
        ({"kind": "token", "id": "ses_2", "key_id": "key_2", "agent_id": "agt_3"}, "above"),
        ({"kind": "token", "id": "ses_2", "key_id": "key_2", "agent_id": "agt_4"}, None),
        ({"kind": "key", "id": "key_1", "agent_id": "agt_1"}, "itself"),
        ({"kind": "key", "id": "key_2", "agent_id": "agt_2"}, "above"),
        ({"kind": "key", "id": "key_2", "agent_id": "agt_1"}, None),
        ({"kind": "agent", "id": "agt_1"}, "itself"),
        ({"kind": "agent", "id": "agt_3"}, "above"),
        ({"kind": "agent", "id": "agt_4"}, None),
        ({"kind": "all", "id": "all"}, "itself"),
        ({"kind": "of a later release", "id": "x"}, "itself"),
        ({}, "itself"),
    ],
)
def test_what_an_event_reaches(about: dict[str, str], reach: str | None) -> None:
    assert reaches(about, CLAIMS) == reach


async def test_events_are_read_however_they_are_cut() -> None:
    text = "event: open\nid: 1.2\ndata: {}\n\nevent: alive\nid: 1.2\ndata: {}\n\n".encode()
    for size in (1, 7, len(text)):

        async def parts(size: int = size) -> AsyncIterator[bytes]:
            for begin in range(0, len(text), size):
                yield text[begin : begin + size]

        found = [event async for event in read_events(parts())]
        assert [event["event"] for event in found] == ["open", "alive"]
        assert found[0]["id"] == "1.2"


async def test_an_event_without_an_end_is_not_kept() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_024

    with pytest.raises(ValueError, match="too long"):
        await anext(read_events(endless()))


class Authority:
    """Streams what it is told to, and answers introspection."""

    def __init__(self) -> None:
        self.active = True
        self.asked = 0
        self.resumed: list[str | None] = []
        self.send, self._events = anyio.create_memory_object_stream[bytes](100)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/oauth/introspect":
            self.asked += 1
            return httpx2.Response(200, json=CLAIMS if self.active else {"active": False})
        self.resumed.append(request.headers.get("last-event-id"))
        return httpx2.Response(200, content=self._stream())

    async def _stream(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            if event == b"":
                return
            yield event

    async def tell(self, name: str, data: dict[str, str] | None = None, place: str = "1.1") -> None:
        await self.send.send(f"event: {name}\nid: {place}\ndata: {json.dumps(data or {})}\n\n".encode())


async def outcome(
    tell: Callable[[Authority, Watch], Any], still_allowed: bool = True, behind: int = 0
) -> tuple[Held, Authority, bool]:
    """Holds a request while this is told; whether it ended before it was done."""
    authority = Authority()
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(authority))
    watching = Watch(ISSUER, IntrospectionVerifier(ISSUER, RESOURCE, client), client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.run)
        with watching.holding(TOKEN, watching.heard - behind, tasks, lambda _: still_allowed) as held:
            await tell(authority, watching)
            await anyio.sleep(0.3)
        tasks.cancel_scope.cancel()
    return held, authority, held.scope.cancelled_caught


async def test_what_is_revoked_ends_at_once_and_without_asking() -> None:
    held, authority, ended = await outcome(lambda to, _: to.tell("revoked", {"kind": "key", "id": "key_1"}))
    assert (ended, held.dead, authority.asked) == (True, True, 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("changed", {"kind": "key", "id": "key_1"}),
        ("changed", {"kind": "all", "id": "all"}),
        ("revoked", {"kind": "token", "id": "ses_0", "key_id": "key_1"}),
        ("revoked", {"kind": "agent", "id": "agt_1", "issued_before": "2026-01-01T00:00:00Z"}),
        ("reset", {}),
    ],
)
async def test_what_may_have_changed_is_asked_about(name: str, data: dict[str, str]) -> None:
    held, authority, ended = await outcome(lambda to, _: to.tell(name, data))
    assert (ended, authority.asked) == (False, 1)

    async def gone(to: Authority, _: Watch) -> None:
        to.active = False
        await to.tell(name, data)

    held, authority, ended = await outcome(gone)
    assert (ended, held.dead, authority.asked) == (True, True, 1)
    held, authority, ended = await outcome(lambda to, _: to.tell(name, data), still_allowed=False)
    assert (ended, held.dead) == (True, True)


async def test_what_is_another_s_ends_nothing() -> None:
    held, authority, ended = await outcome(lambda to, _: to.tell("revoked", {"kind": "key", "id": "key_2"}))
    assert (ended, authority.asked) == (False, 0)


async def test_what_was_told_between_the_check_and_the_holding_is_asked_about() -> None:
    async def nothing(to: Authority, _: Watch) -> None:
        to.active = False

    held, authority, ended = await outcome(nothing, behind=1)
    assert (ended, held.dead, authority.asked) == (True, True, 1)


async def test_silence_ends_everything_and_signs_of_life_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE_SECONDS_MAX", 0.2)

    async def lively(to: Authority, _: Watch) -> None:
        for _ in range(20):
            await to.tell("alive")
            await anyio.sleep(0.02)

    async def idle(to: Authority, _: Watch) -> None:
        # Other events are no proof that the node is current.
        for _ in range(50):
            await to.tell("open")
            await anyio.sleep(0.02)

    began = anyio.current_time()
    held, _, ended = await outcome(lively)
    assert ended and not held.dead and anyio.current_time() - began >= 0.4
    held, _, ended = await outcome(idle)
    assert ended and not held.dead


async def test_a_stream_that_breaks_off_is_taken_up_where_it_was_left() -> None:
    async def broken(to: Authority, watching: Watch) -> None:
        await to.tell("changed", {"kind": "key", "id": "key_9"}, place="1.7")
        await to.send.send(b"")
        with anyio.fail_after(5):
            while len(to.resumed) < 2:
                await anyio.sleep(0.01)

    _, authority, _ = await outcome(broken)
    assert authority.resumed[:2] == [None, "1.7"]
