// How servers in TypeScript find out what a token is worth: by asking the authority, or by its signature alone.

import { createRemoteJWKSet, errors, jwtVerify } from "jose";

// docs: introspection
/** Asks the authority about each token (RFC 7662). Nothing is kept, so what is revoked is refused by the next request. */
export function introspection(issuer, clientId, clientSecret) {
  const authorization = `Basic ${btoa(`${clientId}:${clientSecret}`)}`;
  return async (token) => {
    const answer = await fetch(`${issuer}/introspect`, {
      method: "POST",
      headers: { authorization },
      body: new URLSearchParams({ token }),
      redirect: "error",
      signal: AbortSignal.timeout(5_000),
    });
    // An authority that cannot answer is an error here, and the request fails; it is never a yes.
    if (!answer.ok) throw new Error(`the authority answered ${answer.status}`);
    const said = await answer.json();
    return said.active === true ? said : undefined;
  };
}

// docs: jwt
/** Checks the token's signature against the authority's keys. It cannot see that a token was revoked. */
export function signature(issuer, resource, algorithm) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience: resource,
        algorithms: [algorithm],
        requiredClaims: ["exp", "sub", "client_id"],
      });
      return payload;
    } catch (error) {
      // Keys that cannot be had say nothing about the token: the request fails.
      const isAboutKeys = error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError);
      if (isAboutKeys) throw error;
      return undefined;
    }
  };
}

// docs: both
/** What the SDK wants to know. Introspection and the token itself use the same names. */
export function authInfo(token, claims) {
  return {
    token,
    clientId: claims.client_id,
    scopes: claims.scope.split(" "),
    expiresAt: claims.exp,
    resource: new URL(claims.aud),
    extra: { subject: claims.sub, key: claims.cnf?.jkt },
  };
}
// docs: end
