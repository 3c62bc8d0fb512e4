"""Servers on the package `fastmcp`, one for each line that it is given: the way that docs/protect-python.md shows."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, RemoteAuthProvider, TokenVerifier
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import CurrentAccessToken
from pydantic import AnyHttpUrl
from serving import Wanted, serve
from starlette.types import ASGIApp


# docs: introspection
def introspection(issuer: str, client_id: str, client_secret: str) -> TokenVerifier:
    """Asks the authority about each token (RFC 7662). `cache_ttl_seconds` stays unset: nothing may be kept."""
    return IntrospectionTokenVerifier(
        introspection_url=f"{issuer}/introspect",
        client_id=client_id,
        client_secret=client_secret,
        required_scopes=["notes:read"],
    )


# docs: jwt
def signature(issuer: str, resource: str, algorithm: str) -> TokenVerifier:
    """Checks the token's signature against the authority's keys. It cannot see that a token was revoked."""
    return JWTVerifier(
        jwks_uri=f"{issuer}/jwks",
        issuer=issuer,
        audience=resource,
        algorithm=algorithm,
        required_scopes=["notes:read"],
    )


# docs: server
def application(issuer: str, resource: str, verifier: TokenVerifier) -> ASGIApp:
    """A server that only those may use to whom the authority gave its scope."""
    there = urlsplit(resource)
    auth = RemoteAuthProvider(
        token_verifier=verifier,
        authorization_servers=[AnyHttpUrl(issuer)],
        base_url=f"{there.scheme}://{there.netloc}",
    )
    server = FastMCP("notes", auth=auth)

    @server.tool
    def whoami(token: AccessToken = CurrentAccessToken()) -> str:  # noqa: B008 - how the package hands it over
        """Says who is calling."""
        return f"{token.claims['sub']} by {token.client_id}"

    return server.http_app(
        path=there.path or "/", stateless_http=True, json_response=True, allowed_hosts=[there.netloc]
    )


# docs: end
def _application(wanted: Wanted) -> ASGIApp:
    verifier = (
        introspection(wanted.issuer, wanted.client_id, wanted.client_secret)
        if wanted.verifier == "introspection"
        else signature(wanted.issuer, wanted.resource, wanted.token_alg)
    )
    return application(wanted.issuer, wanted.resource, verifier)


if __name__ == "__main__":
    serve(_application)
