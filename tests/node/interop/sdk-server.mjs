// Servers on the package `@modelcontextprotocol/sdk`: the way that docs/protect-typescript.md shows.

import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import {
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
} from "@modelcontextprotocol/sdk/server/auth/router.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";

import { serve } from "./serving.mjs";
import { authInfo } from "./verifiers.mjs";

// docs: server
/** A server that only those may use to whom the authority gave its scope. */
async function application(issuer, resource, claimsOf) {
  const { origin, pathname } = new URL(issuer);
  const oauthMetadata = await (await fetch(`${origin}/.well-known/oauth-authorization-server${pathname}`)).json();
  const verifyAccessToken = async (token) => {
    const claims = await claimsOf(token);
    if (!claims) throw new InvalidTokenError("the token is not good here");
    return authInfo(token, claims);
  };

  const app = express();
  app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: ["notes:read"] }));
  app.use(
    resource.pathname,
    requireBearerAuth({
      verifier: { verifyAccessToken },
      requiredScopes: ["notes:read"],
      resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
      expectedResource: resource,
    }),
  );
  app.post(resource.pathname, express.json(), async (request, response) => {
    const server = notes();
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    response.on("close", () => server.close());
    await server.connect(transport);
    await transport.handleRequest(request, response, request.body);
  });
  app.all(resource.pathname, (_request, response) => response.status(405).end());
  return app;
}

function notes() {
  const server = new McpServer({ name: "notes", version: "1.0.0" });
  server.registerTool("whoami", { description: "Says who is calling." }, ({ authInfo: caller }) => ({
    content: [{ type: "text", text: `${caller.extra.subject} by ${caller.clientId}` }],
  }));
  return server;
}
// docs: end

await serve(application);
