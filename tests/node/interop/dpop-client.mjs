// The client of the package `@modelcontextprotocol/client` with a key of its own: its tokens are bound to that key.

import { Client, DpopSession, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

import { drive, Session } from "./driven.mjs";

const connect = (url, authProvider) => ({
  client: new Client({ name: "client with a key", version: "1.0.0" }),
  transport: new StreamableHTTPClientTransport(url, { authProvider }),
});
const isUnauthorized = (error) => error instanceof UnauthorizedError;
const finish = (transport, query) => transport.finishAuth(query);

await drive((told) => {
  const session = new Session(told, connect, isUnauthorized, finish);
  const key = DpopSession.create();
  session.provider.dpop = () => key;
  return session;
});
