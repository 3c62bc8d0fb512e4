// Servers on the packages `@modelcontextprotocol/server` and `/express` that check whose token it is: with each request comes a
// proof of the key that the token is bound to.

import {
  createMcpExpressApp,
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
  requireBearerAuth,
} from "@modelcontextprotocol/express";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer, OAuthError, OAuthErrorCode } from "@modelcontextprotocol/server";

import { proofs } from "./proofs.mjs";
import { serve } from "./serving.mjs";
import { authInfo } from "./verifiers.mjs";

// docs: server
/** A server that only those may use to whom the authority gave its scope, with the key that they asked for it with. */
async function application(issuer, resource, claimsOf) {
  const { origin, pathname } = new URL(issuer);
  const oauthMetadata = await (await fetch(`${origin}/.well-known/oauth-authorization-server${pathname}`)).json();
  const verifyAccessToken = async (token) => {
    const claims = await claimsOf(token);
    if (!claims) throw new OAuthError(OAuthErrorCode.InvalidToken, "the token is not good here");
    return authInfo(token, claims);
  };

  const app = createMcpExpressApp({ allowedHosts: [resource.hostname] });
  app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: ["notes:read"] }));
  const handler = toNodeHandler(createMcpHandler(notes));
  const resourceMetadataUrl = getOAuthProtectedResourceMetadataUrl(resource);
  const { proven, own } = proofs(resource, resourceMetadataUrl);
  app.all(
    resource.pathname,
    proven,
    requireBearerAuth({
      verifier: { verifyAccessToken },
      requiredScopes: ["notes:read"],
      resourceMetadataUrl,
      expectedResource: resource,
    }),
    own,
    (request, response) => handler(request, response, request.body),
  );
  return app;
}

// docs: end

function notes() {
  const server = new McpServer({ name: "notes", version: "1.0.0" });
  server.registerTool("whoami", { description: "Says who is calling." }, ({ http }) => ({
    content: [{ type: "text", text: `${http.authInfo.extra.subject} by ${http.authInfo.clientId}` }],
  }));
  return server;
}

await serve(application);
