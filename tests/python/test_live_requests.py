"""A request that is still served when its credential dies ends with it: the real authority, the real MCP client."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest

from support import Authority, Example, Key, connected, example_server

pytestmark = pytest.mark.anyio

ENDED_SECONDS_MAX = 20.0
"""Far less than a call waits by itself, and more than any machine needs."""

WAIT_SECONDS = 300


@asynccontextmanager
async def waiting(url: str, token: str, note: str) -> AsyncIterator[anyio.Event]:
    """A call that waits for a note, begun inside; the event is set when it has come to an end without one."""
    ended = anyio.Event()
    begun = anyio.Event()

    async def progress(_: float, __: float | None, ___: str | None) -> None:
        begun.set()

    async def call() -> None:
        try:
            async with connected(url, token) as connection:
                arguments = {"note": note, "seconds": WAIT_SECONDS}
                result = await connection.mcp.call_tool("notes_wait", arguments, progress_callback=progress)
                assert result.is_error, result
        except Exception as cause:  # noqa: BLE001 - however the client puts it, there was no result
            assert not isinstance(cause, AssertionError), cause
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        with anyio.fail_after(ENDED_SECONDS_MAX):
            await begun.wait()
        yield ended
        tasks.cancel_scope.cancel()


def _session(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.call("POST", f"/v1/sessions/{authority.introspect(example.registered, token)['jti']}/revoke", {})


def _by_the_server(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.revoke_as(example.registered, token)


def _key(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.call("POST", f"/v1/keys/{key.id}/revoke", {})


def _rotated(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.call("POST", f"/v1/keys/{key.id}/rotate", {"grace_seconds": 0})


def _agent(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.call("PATCH", f"/v1/agents/{key.agent_id}", {"disabled": True})


def _narrowed(authority: Authority, example: Example, key: Key, token: str) -> None:
    grants = [{"server_id": example.registered.id, "permissions": ["tools/list"]}]
    authority.call("PATCH", f"/v1/keys/{key.id}", {"grants": grants})


def _withdrawn(authority: Authority, example: Example, key: Key, token: str) -> None:
    authority.call("DELETE", f"/v1/servers/{example.registered.id}/grants/{key.id}")


@pytest.mark.parametrize("kill", [_session, _by_the_server, _key, _rotated, _agent, _narrowed, _withdrawn])
async def test_a_call_ends_with_its_credential_and_no_other_does(
    authority: Authority, example: Example, kill: Callable[[Authority, Example, Key, str], None]
) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call"]})
    other = authority.key({example.registered.id: ["tools/list", "tools/call"]})
    token = authority.session(key, example.registered)
    async with waiting(example.url, other.secret, "never") as goes_on:
        async with waiting(example.url, token, "never") as ended:
            await anyio.to_thread.run_sync(kill, authority, example, key, token)
            with anyio.fail_after(ENDED_SECONDS_MAX):
                await ended.wait()
        assert not goes_on.is_set()


async def test_a_call_by_an_api_key_ends_with_the_key(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call"]})
    async with waiting(example.url, key.secret, "never") as ended:
        await anyio.to_thread.run_sync(_key, authority, example, key, "")
        with anyio.fail_after(ENDED_SECONDS_MAX):
            await ended.wait()


async def test_a_call_ends_with_the_token_that_its_own_was_exchanged_from(
    authority: Authority, example: Example
) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call"]})
    parent = authority.session(key, example.registered)
    child = authority.exchange(parent, "tools/list tools/call:notes_wait")["access_token"]
    async with waiting(example.url, child, "never") as ended:
        await anyio.to_thread.run_sync(_session, authority, example, key, parent)
        with anyio.fail_after(ENDED_SECONDS_MAX):
            await ended.wait()


async def test_a_call_ends_with_the_key_of_who_acts(authority: Authority, example: Example) -> None:
    held = {example.registered.id: ["tools/list", "tools/call"]}
    subject, actor = authority.key(held), authority.key(held)
    more = {"actor_token": actor.secret, "actor_token_type": "urn:ietf:params:oauth:token-type:access_token"}
    token = authority.session(subject, example.registered)
    delegated = authority.exchange(token, "tools/list tools/call", **more)["access_token"]
    async with waiting(example.url, delegated, "never") as ended:
        await anyio.to_thread.run_sync(_key, authority, example, actor, "")
        with anyio.fail_after(ENDED_SECONDS_MAX):
            await ended.wait()


async def test_a_call_whose_key_may_still_do_it_goes_on(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["*"]})
    async with connected(example.url, key.secret) as connection, waiting(example.url, key.secret, "later") as ended:
        grants = [{"server_id": example.registered.id, "permissions": ["tools/list", "tools/call"]}]
        await anyio.to_thread.run_sync(authority.call, "PATCH", f"/v1/keys/{key.id}", {"grants": grants})
        # It has been asked about by then: a second change is told after the first.
        other = authority.key({example.registered.id: ["*"]})
        async with waiting(example.url, other.secret, "never") as marker:
            await anyio.to_thread.run_sync(_key, authority, example, other, "")
            with anyio.fail_after(ENDED_SECONDS_MAX):
                await marker.wait()
        assert not ended.is_set()
        await connection.mcp.call_tool("notes_delete", {"note": "later"})


async def test_a_reply_that_has_begun_is_left_unfinished(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["*"]})
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "notes_wait", "arguments": {"note": "never"}, "_meta": {"progressToken": "p"}},
    }
    headers = {
        "Authorization": f"Bearer {key.secret}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
    }
    text = ""
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=ENDED_SECONDS_MAX) as http,
        http.stream("POST", example.url, json=message, headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        with pytest.raises(httpx2.RemoteProtocolError):
            async for part in response.aiter_text():
                if not text:
                    await anyio.to_thread.run_sync(_key, authority, example, key, "")
                text += part
    assert "notifications/progress" in text
    assert "result" not in text


async def test_a_silent_authority_ends_what_is_served_and_what_comes_later_works_again(
    own_authority: Authority,
) -> None:
    with example_server(own_authority, "silent") as silent:
        key = own_authority.key({silent.registered.id: ["*"]})
        async with waiting(silent.url, key.secret, "never") as ended:
            own_authority.program.signal(signal.SIGSTOP)
            try:
                with anyio.fail_after(ENDED_SECONDS_MAX):
                    await ended.wait()
            finally:
                own_authority.program.signal(signal.SIGCONT)
        async with waiting(silent.url, key.secret, "never") as ended:
            assert await anyio.to_thread.run_sync(own_authority.program.stop) == 0
            with anyio.fail_after(ENDED_SECONDS_MAX):
                await ended.wait()
        await anyio.to_thread.run_sync(own_authority.restart)
        async with waiting(silent.url, key.secret, "never") as ended:
            await anyio.to_thread.run_sync(_key, own_authority, silent, key, "")
            with anyio.fail_after(ENDED_SECONDS_MAX):
                await ended.wait()
