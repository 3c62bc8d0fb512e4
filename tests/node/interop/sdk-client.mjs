// The client of the package `@modelcontextprotocol/sdk`, told what to do line by line.

import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { drive, Session } from "./driven.mjs";

const connect = (url, authProvider) => ({
  client: new Client({ name: "sdk client", version: "1.0.0" }),
  transport: new StreamableHTTPClientTransport(url, { authProvider }),
});
const isUnauthorized = (error) => error instanceof UnauthorizedError;
const finish = (transport, query) => transport.finishAuth(query.get("code"));

await drive((told) => new Session(told, connect, isUnauthorized, finish));
