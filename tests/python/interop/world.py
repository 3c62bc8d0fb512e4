"""The authority with people, and every server of the matrix, registered and running."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from interop.browser import Browser
from interop.client import Client
from interop.documents import Documents
from support import ROOT, Authority, Program, Server, free_port

HERE: Final = Path(__file__).parent
NODE: Final = ROOT / "tests" / "node"

SCOPE: Final = {"name": "notes:read", "description": "Read notes", "permissions": ["tools/list", "tools/call:whoami"]}
"""What each server asks of its callers."""

CLIENT_METADATA: Final = {
    "client_name": "The client of a test",
    "redirect_uris": ["http://127.0.0.1/callback", "http://localhost/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
}
"""As the documents in the field have it: without ports, because nobody knows before which one will be free."""


@dataclass(frozen=True)
class Stack:
    """A package that serves or calls, and the program that uses it."""

    name: str
    server: Sequence[str]
    client: Sequence[str]
    listens: bool = False
    secret_method: str = "client_secret_basic"
    """How the client sends a secret that it was given."""

    algs: tuple[str, str] = ("RS256", "EdDSA")
    """What its tokens are signed with, at the root and at a path."""


def _python(name: str) -> list[str]:
    return [sys.executable, str(HERE / name)]


def node(name: str) -> list[str]:
    # A Node.js of this folder's own stands before the system's, which may be too old.
    own = NODE / "node_modules" / "node" / "bin" / "node"
    return [str(own) if own.exists() else "node", str(NODE / "interop" / name)]


def _rust(name: str) -> list[str]:
    return [str(Path(os.environ["RMCP_PROGRAMS"]) / name)]


STACKS: Final = {
    stack.name: stack
    for stack in (
        Stack("mcp", _python("mcp_server.py"), _python("mcp_client.py")),
        Stack(
            "fastmcp",
            _python("fastmcp_server.py"),
            _python("fastmcp_client.py"),
            listens=True,
            secret_method="client_secret_post",
        ),
        Stack("sdk", node("sdk-server.mjs"), node("sdk-client.mjs")),
        Stack(
            "v2",
            node("v2-server.mjs"),
            node("v2-client.mjs"),
            secret_method="client_secret_post",
            algs=("ES256", "EdDSA"),
        ),
        Stack("rmcp", _rust("rmcp-server"), _rust("rmcp-client")),
    )
}
VERIFIERS: Final = ("introspection", "jwt")
PLACES: Final = ("root", "path")
REGISTRATIONS: Final = ("registered", "document", "dynamic")


class World:
    """One authority, one person, all servers, all clients."""

    def __init__(self, home: Path, running: ExitStack) -> None:
        self._home, self._running = home, running
        self.documents = Documents(home)
        running.callback(self.documents.close)
        self.authority = Authority(
            {"MCPA_OUTBOUND_LOOPBACK": "true", "MCPA_OUTBOUND_CA": str(self.documents.ca), "MCPA_LOG": "info"}
        )
        running.callback(self.authority.close)
        self._servers = {
            (stack, verifier, place): self._register(STACKS[stack], verifier, place)
            for stack in STACKS
            for verifier in VERIFIERS
            for place in PLACES
        }
        self._let_everybody_in()
        self._programs = {name: self._serve(stack) for name, stack in STACKS.items()}
        self._clients: dict[str, Client] = {}
        self._registered: dict[str, dict[str, str]] = {}

    def server(self, stack: str, verifier: str, place: str) -> Server:
        """A server of the matrix; it runs."""
        server, _ = self._servers[stack, verifier, place]
        self._programs[stack].wait_until(metadata_url(server.resource))
        return server

    def client(self, stack: str, registration: str, server: Server) -> Client:
        """A client that has not spoken with this server yet."""
        if stack not in self._clients:
            chosen = STACKS[stack]
            client = Client(chosen.client, self._home / f"{stack}-client.log", listens=chosen.listens)
            self._running.callback(client.close)
            self._clients[stack] = client
        known = self.registered(stack) if registration == "registered" else None
        document = self.documents.publish("/oauth/client.json", CLIENT_METADATA) if registration == "document" else None
        host = "localhost" if STACKS[stack].listens else "127.0.0.1"
        self._clients[stack].open(server.resource, f"http://{host}:{free_port()}/callback", known, document)
        return self._clients[stack]

    def browser(self) -> Browser:
        return Browser(self.authority.url)

    def registered(self, stack: str) -> dict[str, str]:
        """What an operator hands to somebody who has a client of this package."""
        if stack not in self._registered:
            method = STACKS[stack].secret_method
            body = {**CLIENT_METADATA, "client_name": stack, "token_endpoint_auth_method": method}
            body.pop("response_types")
            made = self.authority.call("POST", "/v1/clients", body)
            self._registered[stack] = {
                "client_id": made["client_id"],
                "client_secret": made["client_secret"],
                "token_endpoint_auth_method": method,
            }
        return self._registered[stack]

    def _register(self, stack: Stack, verifier: str, place: str) -> tuple[Server, dict[str, str]]:
        alg = stack.algs[PLACES.index(place)] if verifier == "jwt" else "EdDSA"
        origin = f"http://127.0.0.1:{free_port()}"
        resource = f"{origin}/notes/mcp" if place == "path" else origin
        name = f"{stack.name}-{verifier}-{place}"
        server = self.authority.server(name, resource, [SCOPE], token_alg=alg)
        return server, {
            "issuer": self.authority.issuer,
            "resource": server.resource,
            "verifier": verifier,
            "token_alg": alg,
            "client_id": server.client_id,
            "client_secret": server.client_secret,
        }

    def _let_everybody_in(self) -> None:
        """Whoever signs in may use every server; the sign-in is the one for trying things out."""
        grants = [{"server_id": server.id, "permissions": SCOPE["permissions"]} for server, _ in self._servers.values()]
        role = self.authority.call("POST", "/v1/roles", {"name": "everybody", "grants": grants})["id"]
        rules = [{"claim": "sub", "role_id": role}]
        body = {"name": "demo", "title": "Demo", "kind": "demo", "rules": rules}
        self.authority.call("POST", "/v1/providers", body)

    def _serve(self, stack: Stack) -> Program:
        mine = [settings for (name, _, _), (_, settings) in self._servers.items() if name == stack.name]
        program = Program(stack.server, {"SERVERS": json.dumps(mine)}, self._home / f"{stack.name}-server.log")
        self._running.callback(program.stop)
        return program


def metadata_url(resource: str) -> str:
    """Where a server says who its authorization server is (RFC 9728 §3.1)."""
    origin, slash, path = resource.removeprefix("http://").partition("/")
    return f"http://{origin}/.well-known/oauth-protected-resource{slash}{path}".rstrip("/")


@contextmanager
def started() -> Iterator[World]:
    """Everything, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="mcpa-interop-") as home, ExitStack() as running:
        yield World(Path(home), running)


def consent(token: str) -> str:
    """What the person allowed this client there, by its id. The token says on what it hangs; introspection does not."""
    payload = token.split(".")[1]
    ancestors = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["anc"]
    [found] = [ancestor for ancestor in ancestors if ancestor.startswith("grt_")]
    return str(found)


def claims(authority: Authority, server: Server, token: str) -> dict[str, Any]:
    """What the authority says of a token that must be good."""
    said = dict(authority.introspect(server, token))
    assert said["active"] is True, said
    return said
