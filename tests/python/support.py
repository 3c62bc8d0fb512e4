"""Starts the real programs for the tests, and speaks to them: the authority, the example server, an MCP client."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLE: Final = ROOT / "examples" / "python-mcp-server"
BINARY: Final = Path(os.environ.get("MCPA_BIN") or ROOT / "target" / "debug" / "mcp-authority")

READY_SECONDS_MAX: Final = 120.0
"""The first start makes a private database; on a machine under load that takes its time."""

STOP_SECONDS_MAX: Final = 45.0
REQUEST_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.05
LOG_LINES_SHOWN: Final = 60

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A program that was started here, and is stopped here."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._name = Path(command[0]).name if len(command) == 1 else command[1]
        self._log = log
        self._output: IO[bytes] = log.open("ab")
        # Only what is named: a setting of the surrounding shell must not change what is tested.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._process = subprocess.Popen(
            command, env={**kept, **environment}, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )

    def wait_until(self, url: str) -> None:
        """Returns when the URL answers 200; fails with the end of the log if the program ends or never does."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"{self._name} ended with {self._process.returncode}:\n{self._tail()}")
            try:
                if httpx2.get(url, timeout=REQUEST_SECONDS_MAX, trust_env=False).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{self._name} was not ready in {READY_SECONDS_MAX:.0f} s:\n{self._tail()}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """Asks it to stop and gives its exit status; one that does not stop is killed, and that is a failure."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self._name} did not stop in {STOP_SECONDS_MAX:.0f} s:\n{self._tail()}") from None
        finally:
            self._output.close()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


@dataclass(frozen=True)
class Server:
    """An MCP server as the authority knows it."""

    id: str
    resource: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Key:
    """An API key and its owner."""

    id: str
    agent_id: str
    secret: str = field(repr=False)


class Authority:
    """A running authority with a database of its own, and the calls that the tests need."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """``settings`` stand beside those that it needs to run here."""
        self._settings = dict(settings or {})
        # Short on purpose: a Unix socket's path has at most 107 bytes.
        self._home = Path(tempfile.mkdtemp(prefix="mcpa-"))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.issuer = f"{self.url}/oauth"
        self.program = self._start()
        self.operator_key = (self._home / "data" / "operator.key").read_text().strip()
        self._http = httpx2.Client(base_url=self.url, timeout=REQUEST_SECONDS_MAX, trust_env=False)

    def _start(self) -> Program:
        data = self._home / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        environment = {
            "MCPA_LISTEN": f"127.0.0.1:{self._port}",
            "MCPA_METRICS_LISTEN": "off",
            "MCPA_PUBLIC_URL": self.url,
            "MCPA_DATA_DIR": str(data),
            **self._settings,
        }
        program = Program([str(BINARY), "serve"], environment, self._home / "authority.log")
        program.wait_until(f"{self.url}/health/ready")
        return program

    def restart(self) -> None:
        """Starts it again on the same data; it must have been stopped."""
        self.program = self._start()

    def close(self) -> None:
        """Stops it and removes its data."""
        self._http.close()
        try:
            status = self.program.stop()
            assert status == 0, f"the authority ended with {status}"
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """An administrative call that must succeed; a change that takes something away must be enforced already."""
        headers = {"Authorization": f"Bearer {self.operator_key}"}
        response = self._http.request(method, path, json=body, headers=headers)
        assert response.status_code in (200, 201), f"{method} {path}: {response.status_code} {response.text}"
        answer = response.json()
        if "enforced" in answer:
            assert answer["enforced"]["complete"] is True
        return answer

    def server(
        self, name: str, resource: str, scopes: Sequence[Mapping[str, Any]] = (), token_alg: str = "EdDSA"
    ) -> Server:
        body: dict[str, Any] = {"name": name, "resource": resource, "token_alg": token_alg}
        if scopes:
            body["scopes"] = list(scopes)
        made = self.call("POST", "/v1/servers", body)
        return Server(made["id"], made["resource"], made["client_id"], made["client_secret"])

    def key(self, grants: Mapping[str, Sequence[str]], **more: Any) -> Key:
        """A key of a new agent; ``grants`` are permissions by server id."""
        agent = self.call("POST", "/v1/agents", {"name": f"agent-{time.monotonic_ns()}"})["id"]
        listed = [{"server_id": server, "permissions": list(held)} for server, held in grants.items()]
        made = self.call("POST", "/v1/keys", {"agent_id": agent, "environment": "prod", "grants": listed, **more})
        return Key(made["id"], agent, made["key"])

    def token(self, form: Mapping[str, str], auth: tuple[str, str] | None = None) -> Any:
        """A token request that must succeed."""
        response = self._http.post("/oauth/token", data=dict(form), auth=auth or httpx2.USE_CLIENT_DEFAULT)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        assert response.headers["cache-control"] == "no-store"
        return response.json()

    def session(self, key: Key, server: Server, scope: str | None = None) -> str:
        """A session token by client credentials."""
        form = {"grant_type": "client_credentials", "resource": server.resource}
        if scope is not None:
            form["scope"] = scope
        return str(self.token(form, (key.id, key.secret))["access_token"])

    def exchange(self, subject: str, scope: str, **more: str) -> Any:
        """RFC 8693: a smaller token for a token or a key."""
        form = {"grant_type": EXCHANGE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN, "scope": scope}
        return self.token({**form, **more})

    def introspect(self, server: Server, token: str) -> Any:
        """What the authority tells a server about a token."""
        auth = (server.client_id, server.client_secret)
        response = self._http.post("/oauth/introspect", data={"token": token}, auth=auth)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return response.json()

    def revoke_as(self, server: Server, token: str) -> None:
        """RFC 7009: a server revokes a session token that was issued for it."""
        auth = (server.client_id, server.client_secret)
        response = self._http.post("/oauth/revoke", data={"token": token}, auth=auth)
        assert response.status_code == 200, f"{response.status_code} {response.text}"


@dataclass(frozen=True)
class Example:
    """A running example server."""

    url: str
    registered: Server


@contextmanager
def example_server(
    authority: Authority, name: str, scopes: Sequence[Mapping[str, Any]] = (), required: str = ""
) -> Iterator[Example]:
    """Registers an example server at the authority and serves it."""
    port = free_port()
    resource = f"http://127.0.0.1:{port}/mcp"
    registered = authority.server(name, resource, scopes)
    with tempfile.TemporaryDirectory(prefix="mcpa-example-") as home:
        secret = Path(home) / "client_secret"
        secret.touch(mode=0o600)
        secret.write_text(registered.client_secret + "\n")
        environment = {
            "AUTHORITY_ISSUER": authority.issuer,
            "RESOURCE": resource,
            "CLIENT_ID": registered.client_id,
            "CLIENT_SECRET_FILE": str(secret),
            "LISTEN": f"127.0.0.1:{port}",
            "REQUIRED_SCOPES": required,
        }
        program = Program([sys.executable, str(EXAMPLE / "server.py")], environment, Path(home) / "example.log")
        try:
            program.wait_until(f"http://127.0.0.1:{port}/health")
            yield Example(resource, registered)
        finally:
            program.stop()


@dataclass
class Connection:
    """An MCP client, and every HTTP response that it was given, in order."""

    mcp: Client
    responses: list[httpx2.Response]

    @property
    def last(self) -> httpx2.Response:
        return self.responses[-1]


@asynccontextmanager
async def connected(
    url: str, token: str | None, mode: str = "2026-07-28", auth: httpx2.Auth | None = None
) -> AsyncIterator[Connection]:
    """The SDK's own client over the SDK's own transport; the HTTP responses are only looked at."""
    responses: list[httpx2.Response] = []

    async def look(response: httpx2.Response) -> None:
        responses.append(response)

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    hooks: dict[str, list[Callable[..., Any]]] = {"response": [look]}
    async with (
        httpx2.AsyncClient(
            headers=headers, auth=auth, event_hooks=hooks, timeout=REQUEST_SECONDS_MAX, trust_env=False
        ) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield Connection(client, responses)


def post(
    url: str, token: str | None, method: str, params: Mapping[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """One message sent by hand, for what no client of the SDK would send."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    headers["Accept"] = "application/json, text/event-stream"
    headers["MCP-Protocol-Version"] = "2025-11-25"
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})}
    return httpx2.post(url, json=message, headers=headers, timeout=REQUEST_SECONDS_MAX, trust_env=False)
