"""Identity assertions as the SDKs' own clients show them, and the commands of the documents about assertions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from interop.world import node_program
from support import REQUEST_SECONDS_MAX, ROOT, Authority, connected, example_server

pytestmark = pytest.mark.anyio

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE: Final = "tools/call:notes_read tools/list"
NODE_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True)
class Signer:
    """A company's identity provider, or a platform: it has keys, and signs."""

    issuer: str
    key: ec.EllipticCurvePrivateKey

    def sign(self, audience: str, kind: str = "JWT", **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": self.issuer, "aud": audience, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4()), **claims}
        return jwt.encode(whole, self.key, algorithm="ES256", headers={"kid": "k1", "typ": kind})


@contextmanager
def signer() -> Iterator[Signer]:
    """One that answers on this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    pages: dict[str, Mapping[str, Any]] = {"/keys": {"keys": [{**public, "kid": "k1"}]}}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(page).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    issuer = f"http://localhost:{server.server_address[1]}"
    pages["/.well-known/openid-configuration"] = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Signer(issuer, key)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def asserting() -> Iterator[Authority]:
    """An authority that may ask this machine for keys."""
    running = Authority({"MCPA_OUTBOUND_LOOPBACK": "true"})
    try:
        yield running
    finally:
        running.close()


class Memory:
    """The application's storage: in memory, and never asked for a registration."""

    def __init__(self) -> None:
        self.held: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.held

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.held = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError(f"nothing is registered: {client_info}")


@dataclass(frozen=True)
class Company:
    """A company whose people have notes, and a client that it lets in."""

    signer: Signer
    client_id: str
    client_secret: str


@contextmanager
def company(authority: Authority, server: str, method: str) -> Iterator[Company]:
    with signer() as idp:
        grants = [{"server_id": server, "permissions": ["tools/list", "tools/call:notes_read"]}]
        role = authority.call("POST", "/v1/roles", {"name": f"all-{uuid.uuid4()}", "grants": grants})["id"]
        provider = {
            "name": f"c{uuid.uuid4().hex[:20]}",
            "kind": "openid",
            "settings": {"issuer": idp.issuer, "client_id": "authority"},
            "rules": [{"claim": "sub", "role_id": role}],
            "enterprise_managed": True,
        }
        authority.call("POST", "/v1/providers", provider)
        client = {
            "client_name": "Assistant",
            "redirect_uris": ["https://assistant.example/callback"],
            "grant_types": ["authorization_code", GRANT],
            "token_endpoint_auth_method": method,
        }
        made = authority.call("POST", "/v1/clients", client)
        yield Company(idp, made["client_id"], made["client_secret"])


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_the_python_sdks_provider_gets_in_without_a_page(asserting: Authority, method: str) -> None:
    with example_server(asserting, f"notes-{method}") as example, company(asserting, example.registered.id, method) as us:
        asked: list[tuple[str, str]] = []

        async def assertion(audience: str, resource: str) -> str:
            asked.append((audience, resource))
            claims = {"sub": "ada", "client_id": us.client_id, "resource": resource, "scope": SCOPE}
            return us.signer.sign(audience, "oauth-id-jag+jwt", **claims)

        storage = Memory()
        auth = IdentityAssertionOAuthProvider(
            server_url=example.url,
            storage=storage,
            client_id=us.client_id,
            client_secret=us.client_secret,
            issuer=asserting.issuer,
            assertion_provider=assertion,
            token_endpoint_auth_method=method,  # type: ignore[arg-type]
        )
        async with connected(example.url, None, auth=auth) as connection:
            assert [tool.name for tool in (await connection.mcp.list_tools()).tools] == ["notes_read"]
        assert asked == [(asserting.issuer, example.registered.resource)]
        assert storage.held is not None
        assert storage.held.refresh_token is None
        assert storage.held.scope == SCOPE


async def test_the_typescript_sdk_sends_nothing_but_the_assertion_and_that_is_enough(asserting: Authority) -> None:
    with (
        example_server(asserting, "notes-ts") as example,
        company(asserting, example.registered.id, "client_secret_basic") as us,
    ):
        claims = {"client_id": us.client_id, "resource": example.registered.resource, "scope": "tools/call:notes_read"}
        told = {
            "tokenEndpoint": f"{asserting.issuer}/token",
            "jwtAuthGrant": us.signer.sign(asserting.issuer, "oauth-id-jag+jwt", sub="ada", **claims),
            "clientId": us.client_id,
            "clientSecret": us.client_secret,
        }
        command = [*node_program("jwt-bearer.mjs"), json.dumps(told)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=NODE_SECONDS_MAX, check=False)
        assert done.returncode == 0, done.stderr
        tokens = json.loads(done.stdout)
        assert "refresh_token" not in tokens
        answer = asserting.introspect(example.registered, tokens["access_token"])
        assert (answer["active"], answer["client_id"], answer["scope"]) == (True, us.client_id, "tools/call:notes_read")


def blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def run(command: str, variables: Mapping[str, str]) -> Any:
    """The reply of a document's command, run as it stands there."""
    shell = ["bash", "-euo", "pipefail", "-c", command]
    environment = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **variables}
    done = subprocess.run(
        shell, env=environment, cwd=Path("/"), capture_output=True, text=True, timeout=REQUEST_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_commands_of_the_page_about_workloads_do_what_they_say(asserting: Authority) -> None:
    with signer() as platform:
        server = asserting.server("notes", "https://workloads.example/mcp")
        shell = {"URL": asserting.url, "OPERATOR_KEY": asserting.operator_key, "SERVER": server.id}
        a_client, an_issuer, a_token = blocks("workloads.md")
        shell["CLIENT"] = run(a_client, shell)["id"]
        trusted = run(an_issuer, shell)
        # The platform of the page is not asked from here: another has its keys.
        asserting.call("PATCH", f"/v1/issuers/{trusted['id']}", {"jwks_uri": f"{platform.issuer}/keys"})
        names = {"iss": trusted["issuer"], "sub": "repo:acme/notes:ref:refs/heads/main"}
        shell |= {"TOKEN": platform.sign(asserting.issuer, **names), "RESOURCE": server.resource}
        got = run(a_token, shell)
        assert got["scope"] == "tools/call:read_* tools/list"
        assert asserting.introspect(server, got["access_token"])["client_id"] == shell["CLIENT"]
        again = asserting.call("GET", "/v1/audit?action=assertion.accepted")["items"][0]
        assert names["sub"] in json.dumps(again)


def test_the_command_of_the_page_about_people_shows_an_assertion(asserting: Authority) -> None:
    server = asserting.server("notes", "https://people.example/mcp")
    with company(asserting, server.id, "client_secret_basic") as us:
        (command,) = [block for block in blocks("people.md") if "$ASSERTION" in block]
        claims = {"sub": "ada", "client_id": us.client_id, "resource": server.resource}
        shell = {
            "URL": asserting.url,
            "CLIENT_ID": us.client_id,
            "CLIENT_SECRET": us.client_secret,
            "ASSERTION": us.signer.sign(asserting.issuer, "oauth-id-jag+jwt", **claims),
        }
        got = run(command, shell)
        assert asserting.introspect(server, got["access_token"])["active"] is True
        assert run(command, shell)["error"] == "invalid_grant", "shown again"
