// How a server in TypeScript finds out whether whoever shows a bound token has its key (RFC 9449 §4.3 and §7).

// docs: proofs
import { createHash } from "node:crypto";

import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from "jose";

const ALGORITHMS = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];
const SECONDS_MAX = 300;
const KEPT_MAX = 100_000;

/** What stands before the SDK's own check, and what stands behind it. */
export function proofs(resource, resourceMetadataUrl) {
  const seen = new Map();
  const refuse = (response, error) =>
    response
      .status(401)
      .set("WWW-Authenticate", `DPoP error="${error}", resource_metadata="${resourceMetadataUrl}"`)
      .json({ error });

  /** Checks the proof of a request with the scheme `DPoP`, and notes whose it is. The SDK knows only the scheme `Bearer`. */
  async function proven(request, response, next) {
    const [scheme, token] = (request.headers.authorization ?? "").split(" ");
    if (scheme.toLowerCase() !== "dpop") return next();
    try {
      request.key = await check(request, token);
    } catch {
      return refuse(response, "invalid_dpop_proof");
    }
    request.headers.authorization = `Bearer ${token}`;
    next();
  }

  async function check(request, token) {
    const sent = request.headersDistinct.dpop ?? [];
    if (sent.length !== 1) throw new Error("one proof");
    const options = { typ: "dpop+jwt", algorithms: ALGORITHMS, maxTokenAge: SECONDS_MAX, clockTolerance: SECONDS_MAX };
    const { payload, protectedHeader } = await jwtVerify(sent[0], EmbeddedJWK, options);
    const address = new URL(payload.htu);
    const right =
      payload.htm === request.method &&
      address.origin === resource.origin &&
      address.pathname === resource.pathname &&
      payload.ath === createHash("sha256").update(token).digest("base64url") &&
      typeof payload.jti === "string";
    if (!right) throw new Error("made for another request");
    const key = await calculateJwkThumbprint(protectedHeader.jwk);
    once(`${key} ${payload.jti}`);
    return key;
  }

  /** Each proof is good once. Several processes need one place for this, or accept that each takes a proof once. */
  function once(id) {
    const now = Date.now();
    for (const [known, ends] of seen) {
      if (ends > now) break;
      seen.delete(known);
    }
    if (seen.has(id) || seen.size >= KEPT_MAX) throw new Error("used before");
    seen.set(id, now + 3 * SECONDS_MAX * 1_000);
  }

  /** A bound token is its key's alone; one that is not bound is not shown with a proof. */
  function own(request, response, next) {
    if (request.auth.extra.key !== request.key) return refuse(response, "invalid_token");
    next();
  }

  return { proven, own };
}
// docs: end
