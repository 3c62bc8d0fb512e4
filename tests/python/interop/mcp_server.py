"""Servers on the package `mcp`, one for each line that it is given: the way that docs/protect-python.md shows."""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from serving import Wanted, serve
from starlette.applications import Starlette
from verifiers import Introspection, Signature


# docs: server
def application(issuer: str, resource: str, verifier: TokenVerifier) -> Starlette:
    """A server that only those may use to whom the authority gave its scope."""
    auth = AuthSettings(
        issuer_url=issuer,
        resource_server_url=resource,
        required_scopes=["notes:read"],
        validate_token_resource=True,
    )
    server = MCPServer("notes", auth=auth, token_verifier=verifier)

    @server.tool()
    def whoami() -> str:
        """Says who is calling."""
        token = get_access_token()
        return f"{token.subject} by {token.client_id}"

    there = urlsplit(resource)
    # Only requests that name this server, and no web page of another origin.
    named = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[there.netloc],
        allowed_origins=[f"{there.scheme}://{there.netloc}"],
    )
    return server.streamable_http_app(
        streamable_http_path=there.path or "/", stateless_http=True, json_response=True, transport_security=named
    )


# docs: end
def _application(wanted: Wanted) -> Starlette:
    verifier = (
        Introspection(wanted.issuer, wanted.client_id, wanted.client_secret)
        if wanted.verifier == "introspection"
        else Signature(wanted.issuer, wanted.resource, wanted.token_alg)
    )
    return application(wanted.issuer, wanted.resource, verifier)


if __name__ == "__main__":
    serve(_application)
