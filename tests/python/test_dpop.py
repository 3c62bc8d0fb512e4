"""The real client of the package ``@modelcontextprotocol/client`` with a key of its own, unmodified.

Its tokens are bound to that key, with the authority asking for nonces and without; a server checks its proofs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from interop.browser import Browser
from interop.client import Client
from interop.world import CLIENT_METADATA, SCOPE, VERIFIERS, claims, metadata_url, node
from support import Authority, Program, Server, free_port

LIST: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@dataclass(frozen=True)
class Scene:
    """The authority, a server for each verifier, and the client's program."""

    authority: Authority
    servers: dict[str, Server]
    client: Client
    known: dict[str, str]
    """A public client: what binds its tokens to it is its key alone."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="mcpa-dpop-") as home, ExitStack() as running:
        authority = Authority()
        running.callback(authority.close)
        servers = {
            verifier: authority.server(verifier, f"http://127.0.0.1:{free_port()}/mcp", [SCOPE])
            for verifier in VERIFIERS
        }
        grants = [{"server_id": server.id, "permissions": SCOPE["permissions"]} for server in servers.values()]
        role = authority.call("POST", "/v1/roles", {"name": "everybody", "grants": grants})["id"]
        rules = [{"claim": "sub", "role_id": role}]
        authority.call("POST", "/v1/providers", {"name": "demo", "title": "Demo", "kind": "demo", "rules": rules})
        wanted = [
            {
                "issuer": authority.issuer,
                "resource": server.resource,
                "verifier": verifier,
                "token_alg": "EdDSA",
                "client_id": server.client_id,
                "client_secret": server.client_secret,
            }
            for verifier, server in servers.items()
        ]
        program = Program(node("dpop-server.mjs"), {"SERVERS": json.dumps(wanted)}, Path(home) / "server.log")
        running.callback(program.stop)
        for server in servers.values():
            program.wait_until(metadata_url(server.resource))
        client = Client(node("dpop-client.mjs"), Path(home) / "client.log", listens=False)
        running.callback(client.close)
        body = {**CLIENT_METADATA, "client_name": "With a key", "token_endpoint_auth_method": "none"}
        body.pop("response_types")
        known = {"client_id": authority.call("POST", "/v1/clients", body)["client_id"]}
        yield Scene(authority, servers, client, known)


def _shown(server: Server, scheme: str, token: str, **headers: str) -> int:
    """The status for a request with this token and whatever else."""
    sent = {"Authorization": f"{scheme} {token}", "Accept": "application/json, text/event-stream", **headers}
    return httpx2.post(server.resource, json=LIST, headers=sent, timeout=15.0, trust_env=False).status_code


@pytest.mark.parametrize("nonces", [False, True], ids=["without-nonces", "with-nonces"])
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_the_client_signs_in_calls_and_renews_with_its_key_and_a_thief_does_nothing(
    scene: Scene, verifier: str, nonces: bool
) -> None:
    scene.authority.call("PATCH", "/v1/settings", {"dpop_nonce_required": nonces})
    server, calling = scene.servers[verifier], scene.client
    calling.open(server.resource, f"http://127.0.0.1:{free_port()}/callback", scene.known, None)
    with Browser(scene.authority.url) as browser:
        said = calling.call(browser)
        first = calling.tokens()
        assert first["token_type"] == "DPoP"
        told = claims(scene.authority, server, first["access_token"])
        assert said == f"{told['sub']} by {told['client_id']}"
        assert told["token_type"] == "DPoP"
        assert set(told["cnf"]) == {"jkt"}

        # Whoever has the token and not the key.
        assert _shown(server, "Bearer", first["access_token"]) == 401
        assert _shown(server, "DPoP", first["access_token"]) == 401
        assert _shown(server, "DPoP", first["access_token"], DPoP="x") == 401
        form = {
            "grant_type": "refresh_token",
            "client_id": told["client_id"],
            "refresh_token": first["refresh_token"],
        }
        stolen = httpx2.post(f"{scene.authority.issuer}/token", data=form, timeout=15.0, trust_env=False)
        assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_dpop_proof")

        calling.expire()
        assert calling.call(browser) == said
        assert calling.signed_in == 1, "it was renewed, and nobody had to sign in"
        second = calling.tokens()
        assert second["token_type"] == "DPoP"
        assert second["refresh_token"] != first["refresh_token"]
        assert claims(scene.authority, server, second["access_token"])["cnf"] == told["cnf"]
