"""Client ID metadata documents over TLS on this machine, with a certificate authority of their own."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


class Documents:
    """Serves JSON documents; their addresses are the ids of clients."""

    def __init__(self, home: Path) -> None:
        self._documents: dict[str, bytes] = {}
        documents = self._documents

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = documents.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        trusted = trustme.CA()
        self.ca = home / "ca.pem"
        trusted.cert_pem.write_to_path(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trusted.issue_cert("localhost").configure_cert(context)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def publish(self, path: str, document: Mapping[str, Any]) -> str:
        """Serves a client's document, with the client id that its address is, and gives that."""
        client_id = f"https://localhost:{self._server.server_port}{path}"
        self._documents[path] = json.dumps({"client_id": client_id, **document}).encode()
        return client_id

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
