"""How servers on the package `mcp` find out what a token is worth: by asking the authority, or by its signature."""

from __future__ import annotations

import anyio.to_thread
import httpx2
import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier


# docs: introspection
class Introspection(TokenVerifier):
    """Asks the authority about each token (RFC 7662). Nothing is kept: what is revoked is refused at once."""

    def __init__(self, issuer: str, client_id: str, client_secret: str) -> None:
        self._url = f"{issuer}/introspect"
        self._http = httpx2.AsyncClient(auth=(client_id, client_secret), timeout=5.0, trust_env=False)

    async def verify_token(self, token: str) -> AccessToken | None:
        answer = await self._http.post(self._url, data={"token": token})
        # An authority that cannot answer is an error here, and the request fails; it is never a yes.
        said = answer.raise_for_status().json()
        return access_token(token, said) if said["active"] is True else None


# docs: jwt
class Signature(TokenVerifier):
    """Checks the token's signature against the authority's keys. It cannot see that a token was revoked."""

    def __init__(self, issuer: str, resource: str, algorithm: str) -> None:
        self._issuer, self._resource, self._algorithm = issuer, resource, algorithm
        self._keys = jwt.PyJWKClient(f"{issuer}/jwks", timeout=5)

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            key = await anyio.to_thread.run_sync(self._keys.get_signing_key_from_jwt, token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._resource,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise
        except jwt.PyJWTError:
            return None
        return access_token(token, claims)


# docs: both
def access_token(token: str, claims: dict[str, object]) -> AccessToken:
    """What the SDK wants to know. Introspection and the token itself use the same names."""
    return AccessToken.model_validate(
        {
            "token": token,
            "client_id": claims["client_id"],
            "scopes": str(claims["scope"]).split(),
            "expires_at": claims["exp"],
            "resource": claims["aud"],
            "subject": claims["sub"],
            "claims": claims,
        }
    )


# docs: end
