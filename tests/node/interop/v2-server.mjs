// Servers on the packages `@modelcontextprotocol/server` and `/express`: the way that docs/protect-typescript.md shows.

import {
  createMcpExpressApp,
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
  requireBearerAuth,
} from "@modelcontextprotocol/express";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer, OAuthError, OAuthErrorCode } from "@modelcontextprotocol/server";

import { serve } from "./serving.mjs";
import { authInfo } from "./verifiers.mjs";

// docs: server
/** A server that only those may use to whom the authority gave its scope. */
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
  app.all(
    resource.pathname,
    requireBearerAuth({
      verifier: { verifyAccessToken },
      requiredScopes: ["notes:read"],
      resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
      expectedResource: resource,
    }),
    (request, response) => handler(request, response, request.body),
  );
  return app;
}

function notes() {
  const server = new McpServer({ name: "notes", version: "1.0.0" });
  server.registerTool("whoami", { description: "Says who is calling." }, ({ http }) => ({
    content: [{ type: "text", text: `${http.authInfo.extra.subject} by ${http.authInfo.clientId}` }],
  }));
  return server;
}
// docs: end

await serve(application);
