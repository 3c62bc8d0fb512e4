"""The example server, the real authority and the unmodified MCP client: who gets in, and who no longer does."""

from __future__ import annotations

import signal
from collections.abc import Callable

import httpx2
import pytest
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from mcp.shared.exceptions import MCPError

from support import Authority, Connection, Example, Key, Server, connected, example_server, post

pytestmark = pytest.mark.anyio

ALL_TOOLS = ["notes_delete", "notes_read", "notes_wait", "notes_write"]
REVISIONS = [("2026-07-28", "2026-07-28"), ("auto", "2026-07-28"), ("legacy", "2025-11-25")]
REVOCATIONS = 10
"""How often each way of revoking is tried; each time the very next request must be refused."""


async def tools(connection: Connection) -> list[str]:
    return sorted(tool.name for tool in (await connection.mcp.list_tools()).tools)


async def call(connection: Connection, tool: str, **arguments: str) -> str:
    result = await connection.mcp.call_tool(tool, arguments)
    assert not result.is_error, result
    return "".join(getattr(part, "text", "") for part in result.content)


async def refused(connection: Connection, tool: str, **arguments: str) -> httpx2.Response:
    with pytest.raises(MCPError):
        await connection.mcp.call_tool(tool, arguments)
    return connection.last


def assert_unauthorized(response: httpx2.Response, url: str) -> None:
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    metadata = url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    assert challenge.startswith("Bearer ")
    assert f'resource_metadata="{metadata}"' in challenge


def assert_insufficient(response: httpx2.Response, permission: str) -> None:
    assert response.status_code == 403
    assert response.headers["www-authenticate"].startswith(
        f'Bearer error="insufficient_scope", scope="{permission}", resource_metadata="http'
    )


def assert_away(response: httpx2.Response) -> None:
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("mode", "revision"), REVISIONS)
async def test_an_api_key_works(authority: Authority, example: Example, mode: str, revision: str) -> None:
    key = authority.key({example.registered.id: ["*"]})
    async with connected(example.url, key.secret, mode) as connection:
        assert connection.mcp.protocol_version == revision
        assert await tools(connection) == ALL_TOOLS
        assert await call(connection, "notes_write", note="plan", text="water the plants") == "notes:///plan"
        assert await call(connection, "notes_read", note="plan") == "water the plants"
        assert "notes:///plan" in [entry.uri for entry in (await connection.mcp.list_resources()).resources]
        (content,) = (await connection.mcp.read_resource("notes:///plan")).contents
        assert getattr(content, "text", None) == "water the plants"
        assert [prompt.name for prompt in (await connection.mcp.list_prompts()).prompts] == ["summarise_note"]
        assert (await connection.mcp.get_prompt("summarise_note", {"note": "plan"})).messages
        assert await call(connection, "notes_delete", note="plan")
        assert {response.status_code for response in connection.responses} <= {200, 202}


@pytest.mark.parametrize(("mode", "revision"), REVISIONS)
async def test_a_session_token_works(authority: Authority, example: Example, mode: str, revision: str) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call"]})
    async with connected(example.url, authority.session(key, example.registered), mode) as connection:
        assert connection.mcp.protocol_version == revision
        assert await tools(connection) == ALL_TOOLS
        assert await call(connection, "notes_write", note="token", text="x") == "notes:///token"


@pytest.mark.parametrize("subject", ["session token", "API key"])
async def test_an_exchanged_token_can_do_less(authority: Authority, example: Example, subject: str) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call:notes_*", "resources/read"]})
    wanted = "tools/list tools/call:notes_read"
    if subject == "API key":
        answer = authority.exchange(key.secret, wanted, resource=example.registered.resource)
    else:
        answer = authority.exchange(authority.session(key, example.registered), wanted)
    assert answer["token_type"] == "Bearer"
    assert answer["issued_token_type"] in (
        "urn:ietf:params:oauth:token-type:access_token",
        "urn:ietf:params:oauth:token-type:jwt",
    )
    async with connected(example.url, answer["access_token"]) as connection:
        assert await tools(connection) == ["notes_read"]
        assert_insufficient(await refused(connection, "notes_write", note="a", text="b"), "tools/call:notes_write")
        with pytest.raises(MCPError):
            await connection.mcp.read_resource("notes:///a b")
        assert_insufficient(connection.last, "resources/read:notes:///a%20b")
        with pytest.raises(MCPError):
            await connection.mcp.get_prompt("summarise_note", {"note": "a"})
        assert_insufficient(connection.last, "prompts/get:summarise_note")


async def test_lists_show_only_what_may_be_used(authority: Authority, example: Example) -> None:
    writer = authority.key({example.registered.id: ["*"]})
    reader = authority.key(
        {
            example.registered.id: [
                "tools/list",
                "tools/call:notes_d*",
                "resources/list",
                "resources/templates/list",
                "resources/read:notes:///shown-*",
                "prompts/list",
            ]
        }
    )
    async with connected(example.url, writer.secret) as connection:
        for note in ("shown-1", "hidden-1"):
            await call(connection, "notes_write", note=note, text=note)
        assert len((await connection.mcp.list_resource_templates()).resource_templates) == 1
    async with connected(example.url, reader.secret) as connection:
        assert await tools(connection) == ["notes_delete"]
        assert [entry.uri for entry in (await connection.mcp.list_resources()).resources] == ["notes:///shown-1"]
        assert (await connection.mcp.list_resource_templates()).resource_templates == []
        assert (await connection.mcp.list_prompts()).prompts == []
        with pytest.raises(MCPError):
            await connection.mcp.read_resource("notes:///shown-1/../hidden-1")
        assert_insufficient(connection.last, "resources/read:notes:///shown-1/../hidden-1")


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("ping", {}, 200),
        ("tools/list", {}, 200),
        ("prompts/list", {}, 403),
        ("logging/setLevel", {"level": "debug"}, 403),
        ("tools/call", {}, 403),
        ("resources/subscribe", {"uri": "notes:///a"}, 403),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "summarise_note"}}, 403),
        ("sampling/createMessage", {}, 403),
    ],
)
async def test_each_method_needs_its_permission(
    authority: Authority, example: Example, method: str, params: dict[str, object], status: int
) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call:notes_read"]})
    assert post(example.url, key.secret, method, params).status_code == status


async def test_a_method_in_no_list_needs_everything(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["tools/call", "resources/read", "prompts/get"]})
    assert_insufficient(post(example.url, key.secret, "notes/shred"), "*")


async def test_without_an_active_credential_nobody_gets_in(authority: Authority, example: Example) -> None:
    for token in (None, "mcp_prod_" + "0" * 61, "not a token", "eyJhbGciOiJub25lIn0.e30."):
        assert_unauthorized(post(example.url, token, "ping"), example.url)
    metadata = httpx2.get(
        example.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"), trust_env=False
    ).json()
    assert metadata["resource"] == example.url
    assert metadata["authorization_servers"] == [authority.issuer]


async def test_a_token_of_another_server_is_refused(authority: Authority, example: Example, scoped: Example) -> None:
    both = authority.key({example.registered.id: ["*"], scoped.registered.id: ["*"]}, direct=True)
    assert post(example.url, authority.session(both, example.registered), "ping").status_code == 200
    assert_unauthorized(post(example.url, authority.session(both, scoped.registered), "ping"), example.url)
    elsewhere = authority.key({scoped.registered.id: ["*"]})
    assert_unauthorized(post(example.url, elsewhere.secret, "ping"), example.url)


async def test_a_key_for_several_servers_must_be_exchanged(
    authority: Authority, example: Example, scoped: Example
) -> None:
    key = authority.key({example.registered.id: ["*"], scoped.registered.id: ["*"]})
    assert_unauthorized(post(example.url, key.secret, "ping"), example.url)
    assert post(example.url, authority.session(key, example.registered), "ping").status_code == 200


async def test_a_key_with_an_address_list_works_only_from_there(authority: Authority, example: Example) -> None:
    here = authority.key({example.registered.id: ["*"]}, allowed_cidrs=["127.0.0.0/8"])
    assert post(example.url, here.secret, "ping").status_code == 200
    elsewhere = authority.key({example.registered.id: ["*"]}, allowed_cidrs=["192.0.2.0/24"])
    assert_unauthorized(post(example.url, elsewhere.secret, "ping"), example.url)


async def test_a_revoked_key_is_refused_by_the_next_request(authority: Authority, example: Example) -> None:
    for _ in range(REVOCATIONS):
        key = authority.key({example.registered.id: ["*"]})
        session = authority.session(key, example.registered)
        async with connected(example.url, key.secret) as connection:
            await tools(connection)
            assert post(example.url, session, "ping").status_code == 200
            authority.call("POST", f"/v1/keys/{key.id}/revoke", {"reason": "test"})
            assert_unauthorized(await refused(connection, "notes_read", note="a"), example.url)
            assert_unauthorized(post(example.url, session, "ping"), example.url)


def _at_the_session(authority: Authority, server: Server, token: str) -> None:
    authority.call("POST", f"/v1/sessions/{authority.introspect(server, token)['jti']}/revoke", {})


def _in_the_list(authority: Authority, server: Server, token: str) -> None:
    body = {"kind": "token", "id": authority.introspect(server, token)["jti"]}
    authority.call("POST", "/v1/revocations", body)


def _by_the_server(authority: Authority, server: Server, token: str) -> None:
    authority.revoke_as(server, token)


@pytest.mark.parametrize("revoke", [_at_the_session, _in_the_list, _by_the_server])
async def test_a_revoked_session_token_is_refused_by_the_next_request(
    authority: Authority, example: Example, revoke: Callable[[Authority, Server, str], None]
) -> None:
    key = authority.key({example.registered.id: ["*"]})
    for _ in range(REVOCATIONS):
        token = authority.session(key, example.registered)
        async with connected(example.url, token) as connection:
            await tools(connection)
            revoke(authority, example.registered, token)
            assert_unauthorized(await refused(connection, "notes_read", note="a"), example.url)
    assert post(example.url, key.secret, "ping").status_code == 200


async def test_a_revoked_token_takes_what_was_exchanged_from_it_along(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["*"]})
    parent = authority.session(key, example.registered)
    child = authority.exchange(parent, "tools/list")["access_token"]
    assert post(example.url, child, "tools/list").status_code == 200
    _at_the_session(authority, example.registered, parent)
    assert_unauthorized(post(example.url, child, "tools/list"), example.url)


async def test_a_disabled_agent_is_refused_by_the_next_request(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["*"]})
    session = authority.session(key, example.registered)
    assert post(example.url, session, "ping").status_code == 200
    authority.call("PATCH", f"/v1/agents/{key.agent_id}", {"disabled": True})
    for token in (key.secret, session):
        assert_unauthorized(post(example.url, token, "ping"), example.url)


async def test_a_narrowed_key_narrows_its_session_tokens(authority: Authority, example: Example) -> None:
    server = example.registered.id
    key = authority.key({server: ["tools/list", "tools/call"]})
    session = authority.session(key, example.registered)
    async with connected(example.url, session) as connection:
        assert await tools(connection) == ALL_TOOLS
        grants = [{"server_id": server, "permissions": ["tools/list", "tools/call:notes_read"]}]
        authority.call("PATCH", f"/v1/keys/{key.id}", {"grants": grants})
        assert await tools(connection) == ["notes_read"]
        assert_insufficient(await refused(connection, "notes_delete", note="a"), "tools/call:notes_delete")


async def test_what_could_be_read_in_two_ways_is_not_read_at_all(authority: Authority, example: Example) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call:notes_read"]})
    headers = {"Authorization": f"Bearer {key.secret}", "Accept": "application/json, text/event-stream"}
    twice = '{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list","params":{"name":"notes_delete"}}'
    batch = '[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]'
    for body in (twice, batch, "", "nonsense", '"tools/list"'.encode("utf-16")):
        answer = httpx2.post(
            example.url, content=body, headers={**headers, "Content-Type": "application/json"}, trust_env=False
        )
        assert answer.status_code == 400
    assert httpx2.get(example.url, headers=headers, trust_env=False).status_code == 405
    doubled = [("Authorization", f"Bearer {key.secret}"), ("Authorization", "Bearer x")]
    assert httpx2.post(example.url, json={}, headers=doubled, trust_env=False).status_code == 400


class InMemoryStorage:
    """Where the SDK's provider keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def provider(url: str, key: Key, storage: InMemoryStorage, issuer: str | None) -> ClientCredentialsOAuthProvider:
    return ClientCredentialsOAuthProvider(
        server_url=url, storage=storage, client_id=key.id, client_secret=key.secret, issuer=issuer
    )


@pytest.mark.filterwarnings("ignore:Omitting `issuer`")
@pytest.mark.parametrize("names_the_issuer", [True, False])
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_sdk_gets_a_session_token_by_itself(
    authority: Authority, scoped: Example, mode: str, names_the_issuer: bool
) -> None:
    held = ["tools/list", "tools/call:notes_read", "tools/call:notes_write", "resources/list", "resources/read"]
    key = authority.key({scoped.registered.id: held})
    storage = InMemoryStorage()
    auth = provider(scoped.url, key, storage, authority.issuer if names_the_issuer else None)
    async with connected(scoped.url, None, mode, auth) as connection:
        # It asked for the scope that the server requires, so that is all it may do.
        assert await tools(connection) == ["notes_read"]
        assert (await connection.mcp.call_tool("notes_read", {"note": "none"})).is_error
        # Told which permission is missing, it asks for that one too: the key has it.
        assert await call(connection, "notes_write", note="step-up", text="x") == "notes:///step-up"
        assert 403 in [response.status_code for response in connection.responses]
        assert await tools(connection) == ["notes_read", "notes_write"]
        # What the key has not, it does not get by asking.
        assert_insufficient(await refused(connection, "notes_delete", note="a"), "tools/call:notes_delete")
    assert storage.tokens is not None
    assert "notes:read" in (storage.tokens.scope or "").split()
    answer = authority.introspect(scoped.registered, storage.tokens.access_token)
    assert answer["active"] is True
    assert answer["client_id"] == answer["key_id"] == key.id


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_sdk_gets_a_session_token_where_no_scope_is_required(
    authority: Authority, example: Example, mode: str
) -> None:
    key = authority.key({example.registered.id: ["tools/list", "tools/call:notes_write"]})
    async with connected(
        example.url, None, mode, provider(example.url, key, InMemoryStorage(), authority.issuer)
    ) as connection:
        assert await tools(connection) == ["notes_write"]
        assert await call(connection, "notes_write", note="own", text="x") == "notes:///own"


async def test_a_required_scope_is_asked_for_and_named(authority: Authority, scoped: Example) -> None:
    challenge = post(scoped.url, None, "ping").headers["www-authenticate"]
    assert 'scope="notes:read"' in challenge
    key = authority.key({scoped.registered.id: ["tools/list"]})
    assert_insufficient(post(scoped.url, key.secret, "ping"), "notes:read")


async def test_an_authority_that_is_away_is_never_a_yes(own_authority: Authority) -> None:
    with example_server(own_authority, "lonely") as lonely:
        key = own_authority.key({lonely.registered.id: ["*"]})
        session = own_authority.session(key, lonely.registered)
        async with connected(lonely.url, key.secret) as connection:
            assert await tools(connection) == ALL_TOOLS
            own_authority.program.signal(signal.SIGSTOP)
            try:
                assert_away(await refused(connection, "notes_read", note="a"))
            finally:
                own_authority.program.signal(signal.SIGCONT)
            assert own_authority.program.stop() == 0
            assert_away(await refused(connection, "notes_read", note="a"))
            for token in (key.secret, session, "mcp_prod_" + "0" * 61):
                assert_away(post(lonely.url, token, "ping"))
            assert_unauthorized(post(lonely.url, None, "ping"), lonely.url)
            own_authority.restart()
            assert await tools(connection) == ALL_TOOLS
            assert post(lonely.url, session, "ping").status_code == 200
