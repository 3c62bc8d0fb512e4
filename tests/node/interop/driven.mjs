// What the client programs of the interop tests have in common: they are told what to do by lines of JSON.

import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** One line to whoever drives. */
export function say(said) {
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

/** Asks for a browser, and gives the query of the address that it was sent to in the end. */
export async function visit(url) {
  say({ open: String(url) });
  const { value } = await lines.next();
  return new URL(JSON.parse(value).arrived).searchParams;
}

/** Does what the lines on standard input say until there are no more. */
export async function drive(open) {
  let session;
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const { do: told, ...rest } = JSON.parse(line.value);
    try {
      if (told === "open") session = open(rest);
      say({ done: told === "open" ? null : ((await session[told]()) ?? null) });
    } catch (error) {
      say({ failed: String(error?.stack ?? error) });
    }
  }
}

/** What both generations of the SDK call an OAuth client provider: tokens and registrations in memory. */
export class Provider {
  constructor({ redirect_uri, registered, document }) {
    this.redirectUrl = redirect_uri;
    this.clientMetadataUrl = document ?? undefined;
    this.information = registered ?? undefined;
    this.held = undefined;
    this.sentTo = undefined;
  }

  get clientMetadata() {
    return {
      client_name: "typescript client",
      redirect_uris: [this.redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    };
  }

  state() {
    this.expectedState = crypto.randomUUID();
    return this.expectedState;
  }

  clientInformation() {
    return this.information;
  }

  saveClientInformation(information) {
    this.information = information;
  }

  tokens() {
    return this.held;
  }

  saveTokens(tokens) {
    this.held = tokens;
  }

  redirectToAuthorization(url) {
    this.sentTo = url;
  }

  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }

  codeVerifier() {
    return this.verifier;
  }

  invalidateCredentials(what) {
    if (what === "all" || what === "client") this.information = undefined;
    if (what === "all" || what === "tokens") this.held = undefined;
  }
}

/** One client that speaks with one server. `connect` makes a client and a transport of the package. */
export class Session {
  constructor(told, connect, isUnauthorized, finish) {
    this.url = new URL(told.url);
    this.provider = new Provider(told);
    this.connect = connect;
    this.isUnauthorized = isUnauthorized;
    this.finish = finish;
  }

  /** Calls the tool, signing in first if that is needed. */
  async call() {
    let { client, transport } = this.connect(this.url, this.provider);
    try {
      await client.connect(transport);
    } catch (error) {
      if (!this.isUnauthorized(error)) throw error;
      const query = await visit(this.provider.sentTo);
      if (query.get("state") !== this.provider.expectedState) throw new Error("another state came back");
      await this.finish(transport, query);
      ({ client, transport } = this.connect(this.url, this.provider));
      await client.connect(transport);
    }
    try {
      const result = await client.callTool({ name: "whoami", arguments: {} });
      if (result.isError) throw new Error(JSON.stringify(result));
      return result.content.map((part) => part.text).join("");
    } finally {
      await client.close();
    }
  }

  /** What it holds. */
  tokens() {
    return this.provider.held ?? {};
  }

  /** The package asks for new tokens when a server refuses the old one: so it gets one that is over. */
  expire() {
    this.provider.held = { ...this.provider.held, access_token: "over" };
  }
}
