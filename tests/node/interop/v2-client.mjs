// The client of the package `@modelcontextprotocol/client`, told what to do line by line.

import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

import { drive, Session } from "./driven.mjs";

const connect = (url, authProvider) => ({
  client: new Client({ name: "v2 client", version: "1.0.0" }),
  transport: new StreamableHTTPClientTransport(url, { authProvider }),
});
const isUnauthorized = (error) => error instanceof UnauthorizedError;
// It checks `iss` itself, when it is given the whole query.
const finish = (transport, query) => transport.finishAuth(query);

await drive((told) => new Session(told, connect, isUnauthorized, finish));
