"""Webhooks and mail, as receivers in Python take them: with the code that docs/webhooks.md shows, and a mail server of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from support import POLL_SECONDS, ROOT, Authority, free_port

PAGE: Final = ROOT / "docs" / "webhooks.md"
PATIENCE_SECONDS: Final = 30.0


class Receiver:
    """Keeps each delivery: its headers, in small letters, and its body."""

    def __init__(self) -> None:
        got: list[tuple[dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.got = got
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Mailbox:
    """Keeps each mail, and whether it came over TLS."""

    def __init__(self) -> None:
        self.got: list[tuple[Envelope, bool]] = []

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:
        self.got.append((envelope, session.ssl is not None))
        return "250 taken"


def _shown(first_import: str) -> Callable[..., Any]:
    """The function of the page's code that begins with this import."""
    pieces = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [code] = [piece for piece in pieces if piece.startswith(first_import)]
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    received: Callable[..., Any] = names["received"]
    return received


def _until(what: str, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(POLL_SECONDS)


@pytest.fixture(scope="module")
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture(scope="module")
def telling(mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """An authority that may tell this machine, and hands in mail over STARTTLS."""
    import ssl

    home: Path = tmp_path_factory.mktemp("mail")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(home / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True)
    controller.start()
    running = Authority(
        {
            "MCPA_OUTBOUND_LOOPBACK": "true",
            "MCPA_OUTBOUND_CA": str(home / "ca.pem"),
            "MCPA_SMTP_URL": f"smtp://localhost:{port}?tls=required",
            "MCPA_MAIL_FROM": "Authority <keys@example.com>",
        }
    )
    try:
        yield running
    finally:
        running.close()
        controller.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.mark.parametrize("signature", ["v1", "v1a"])
def test_a_receiver_with_the_code_of_the_page_takes_what_is_ours_alone(
    telling: Authority, receiver: Receiver, signature: str
) -> None:
    body = {"name": "w", "url": receiver.url, "events": ["key.issued"], "signature": signature}
    made = telling.call("POST", "/v1/webhooks", body)
    key = telling.key({})
    _until("a delivery", lambda: receiver.got)
    headers, delivered = receiver.got[0]
    known = made["secret"] if signature == "v1" else made["public_keys"][0]
    received = _shown("from standardwebhooks" if signature == "v1" else "import base64")
    event = received(known, headers, delivered)
    assert (event["type"], event["data"]["key_id"]) == ("key.issued", key.id)
    with pytest.raises(Exception):
        received(known, headers, delivered + b" ")
    with pytest.raises(Exception):
        received(known, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}, delivered)
    with pytest.raises(Exception):
        received(known, {**headers, "webhook-id": "evt_other"}, delivered)


def test_an_owner_is_told_by_mail_over_tls(telling: Authority, mailbox: Mailbox) -> None:
    agent = telling.call("POST", "/v1/agents", {"name": "Reporter", "owner": "ada@example.com"})["id"]
    body = {"agent_id": agent, "environment": "prod", "name": "nightly"}
    key = telling.call("POST", "/v1/keys", body)
    telling.call("POST", f"/v1/keys/{key['id']}/revoke", {"reason": "found in a log"})
    _until("a mail", lambda: mailbox.got)
    [(envelope, over_tls)] = mailbox.got
    assert (over_tls, envelope.mail_from, envelope.rcpt_tos) == (True, "keys@example.com", ["ada@example.com"])
    mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
    assert mail["Subject"].startswith("[mcp-authority] nightly")
    text = mail.get_content()
    assert key["id"] in text and "found in a log" in text and key["key"] not in text
