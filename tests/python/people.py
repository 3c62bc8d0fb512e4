"""What people meet: the pages in a real Chromium, and the applications and sites around them, served on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import trustme
from playwright.sync_api import Browser, Page, sync_playwright

from support import REQUEST_SECONDS_MAX, ROOT, Authority, Server

NODE_MODULES: Final = ROOT / "tests" / "node" / "node_modules"
AXE: Final = NODE_MODULES / "axe-core" / "axe.min.js"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
PAGE_MILLISECONDS_MAX: Final = 30_000
"""How long the browser may take for one step, on a machine under load."""

WEB: Final = "app.example"
LOGIN: Final = "login.example"
ELSEWHERE: Final = (LOGIN, WEB)
"""Sites that the browser finds on this machine, over TLS; it finds no other."""

DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
SCHEME_URI: Final = "com.example.notes:/callback"
NOTES: Final = "https://notes.example/mcp"
READ: Final = {
    "name": "notes:read",
    "description": "Read your notes",
    "permissions": ["tools/list", "tools/call:notes_read", "resources/read:notes:///*"],
}
WRITE: Final = {
    "name": "notes:write",
    "description": "Write and change your notes",
    "permissions": ["tools/call:notes_write"],
}


@dataclass(frozen=True)
class Arrival:
    """A request that somebody's site was sent."""

    host: str
    path: str
    query: Mapping[str, list[str]]
    referrer: str | None

    def one(self, name: str) -> str:
        """The parameter's one value."""
        (value,) = self.query[name]
        return value


class Site:
    """Somebody else's web server, over TLS if it has hosts: it answers everything, and remembers who came with what."""

    def __init__(self, *hosts: str) -> None:
        self.arrivals: list[Arrival] = []
        self.pages: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/favicon.ico":
                    self.send_error(404)
                    return
                host = (self.headers["Host"] or "").split(":")[0]
                query = parse_qs(parts.query, keep_blank_values=True)
                site.arrivals.append(Arrival(host, parts.path, query, self.headers["Referer"]))
                page = site.pages.get(parts.path, "<!doctype html><html lang=en><title>Arrived</title><h1>Arrived</h1>")
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Says nothing: what arrived is looked at by the tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        if hosts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert(*hosts).configure_cert(context)
            # The handshake waits for its own thread: connections that a browser opens in advance would hold up the others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True)
class Asked:
    """A request that an application sends a browser with, and what it keeps of it."""

    url: str
    client_id: str
    redirect_uri: str
    state: str
    verifier: str = field(repr=False)


@dataclass
class People:
    """An authority where people can sign in, a server, and the applications of others."""

    authority: Authority
    local: Site
    elsewhere: Site
    server: Server
    demo: str
    other: str
    clients: dict[str, str]

    @property
    def callback(self) -> str:
        """Where the application on this machine waits."""
        return f"{self.local.url}/callback"

    @property
    def web_callback(self) -> str:
        return f"https://{WEB}/callback"

    def ask(self, client: str = "local", scope: str | None = "notes:read", **more: str) -> Asked:
        """An authorization request of one of the applications."""
        uris = {"local": self.callback, "web": self.web_callback, "scheme": SCHEME_URI}
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        named = {
            "response_type": "code",
            "client_id": self.clients.get(client, client),
            "redirect_uri": uris.get(client, self.callback),
            "state": secrets.token_urlsafe(12),
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "resource": self.server.resource,
            **({} if scope is None else {"scope": scope}),
            **more,
        }
        url = f"{self.authority.issuer}/authorize?{urlencode(named)}"
        return Asked(url, named["client_id"], named["redirect_uri"], named["state"], verifier)

    def device(self, scope: str = "notes:read") -> dict[str, Any]:
        """What a television is told that begins without a browser (RFC 8628)."""
        form = {"client_id": self.clients["device"], "resource": self.server.resource, "scope": scope}
        url = f"{self.authority.issuer}/device_authorization"
        response = httpx2.post(url, data=form, timeout=REQUEST_SECONDS_MAX, trust_env=False)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return dict(response.json())

    def of_device(self, begun: Mapping[str, Any]) -> dict[str, Any]:
        """The tokens of a device whose person has agreed."""
        return self.authority.token(
            {"grant_type": DEVICE, "client_id": self.clients["device"], "device_code": begun["device_code"]}
        )

    def redeem(self, asked: Asked, code: str) -> dict[str, Any]:
        """The tokens for a code."""
        return self.authority.token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": asked.redirect_uri,
                "client_id": asked.client_id,
                "code_verifier": asked.verifier,
                "resource": self.server.resource,
            }
        )

    def offer(self, provider: str, *, offered: bool) -> None:
        """Switches a way to sign in on or off."""
        self.authority.call("PATCH", f"/v1/providers/{provider}", {"disabled": not offered})

    @contextmanager
    def only(self, *offered: str) -> Iterator[None]:
        """People can sign in with these alone."""
        off = [provider for provider in (self.demo, self.other) if provider not in offered]
        for provider in off:
            self.offer(provider, offered=False)
        try:
            yield
        finally:
            for provider in off:
                self.offer(provider, offered=True)


def register(authority: Authority, name: str, redirect_uri: str, grants: Sequence[str] = ("authorization_code",)) -> str:
    """An application that an operator has entered; it has no secret."""
    body = {
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "grant_types": list(grants),
        "token_endpoint_auth_method": "none",
    }
    return str(authority.call("POST", "/v1/clients", body)["id"])


def register_itself(authority: Authority, name: str, redirect_uri: str) -> str:
    """An application that nobody has checked (RFC 7591)."""
    body = {"client_name": name, "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none"}
    response = httpx2.post(f"{authority.issuer}/register", json=body, timeout=REQUEST_SECONDS_MAX, trust_env=False)
    assert response.status_code == 201, f"{response.status_code} {response.text}"
    return str(response.json()["client_id"])


@contextmanager
def served(authority: Authority) -> Iterator[People]:
    """Sets up an authority for people, and serves the sites around it."""
    with closing(Site()) as local, closing(Site(*ELSEWHERE)) as elsewhere:
        server = authority.server("Notes", NOTES, [READ, WRITE])
        grants = [{"server_id": server.id, "permissions": [*READ["permissions"], *WRITE["permissions"]]}]
        role = authority.call("POST", "/v1/roles", {"name": "Everybody", "grants": grants})["id"]
        rules = [{"claim": "sub", "role_id": role}]
        settings = {
            "authorization_endpoint": f"https://{LOGIN}/authorize",
            "token_endpoint": f"https://{LOGIN}/token",
            "userinfo_endpoint": f"https://{LOGIN}/user",
            "client_id": "authority",
        }
        demo = {"name": "demo", "title": "Demo", "kind": "demo", "rules": rules}
        other = {"name": "company", "title": "Example Company", "kind": "oauth2", "settings": settings, "rules": rules}
        made = [authority.call("POST", "/v1/providers", body)["id"] for body in (demo, other)]
        clients = {
            "local": register_itself(authority, "Notes on the desk", f"{local.url}/callback"),
            "web": register(authority, "Example Chat", f"https://{WEB}/callback"),
            "scheme": register(authority, "Notes for phones", SCHEME_URI),
            "device": register(authority, "Television", SCHEME_URI, ["authorization_code", DEVICE]),
        }
        yield People(authority, local, elsewhere, server, made[0], made[1], clients)


@contextmanager
def chromium(elsewhere: Site) -> Iterator[Browser]:
    """A headless Chromium of this machine that reaches this machine alone."""
    named = os.environ.get("CHROMIUM")
    program = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "Chromium is missing: run `scripts/setup test`, or name one with CHROMIUM"
    known = ",".join(f"MAP {host} 127.0.0.1:{elsewhere.port}" for host in ELSEWHERE)
    rules = f"{known},MAP * ~NOTFOUND,EXCLUDE 127.0.0.1"
    # Text in shades of one colour: pictures become half as large.
    arguments = ["--disable-quic", "--disable-gpu", "--disable-lcd-text", f"--host-resolver-rules={rules}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page, with contrast of 7:1 and large enough targets among its rules."""
    assert AXE.is_file(), "axe-core is missing: run `scripts/setup test`"
    page.evaluate(AXE.read_text())
    rules = {"color-contrast-enhanced": {"enabled": True}, "target-size": {"enabled": True}}
    found = page.evaluate("rules => axe.run(document, {rules, resultTypes: ['violations', 'incomplete']})", rules)
    assert len(found["passes"]) > 10, "axe-core has looked at nothing"
    wrong = found["violations"] + found["incomplete"]
    return [f"{rule['id']}: {json.dumps([node['target'] for node in rule['nodes']])}" for rule in wrong]
