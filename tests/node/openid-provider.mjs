// A real OpenID Connect provider for the tests: the package oidc-provider over TLS, on a free port of this machine.
//
// The first line on standard input is what it is made of; each further line is a thing to do. Each is answered by one line of
// JSON on standard output. It ends with its standard input, so that it never outlives the test.

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const { value: first } = await lines.next();
const { cert, key, clients, accounts } = JSON.parse(first);

let provider;
const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) =>
  provider.callback()(request, response),
);
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `https://localhost:${server.address().port}`;

function signingKey(number) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, use: 'sig', alg: 'RS256' };
}

// Everything but the keys stays when they are replaced: sessions and grants lie in the package's own memory.
function make(number) {
  const made = new Provider(issuer, {
    clients,
    jwks: { keys: [signingKey(number)] },
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub', 'sid'], profile: ['preferred_username'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
    pkce: { required: () => true },
    features: {
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    findAccount: (_, id) => (id in accounts ? { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) } : undefined),
    // Its own guard refuses addresses of this machine.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    ttl: { AccessToken: 600, IdToken: 600, RefreshToken: 600, Grant: 600, Interaction: 600, Session: 600 },
  });
  made.on('backchannel.error', (_, error) => process.stderr.write(`${error.cause?.stack ?? error.stack}\n`));
  made.on('server_error', (_, error) => process.stderr.write(`${error.stack}\n`));
  return made;
}

let keys = 1;
provider = make(keys);
say({ issuer });
for await (const line of lines) {
  const { account, claims, rotate } = JSON.parse(line);
  if (rotate) {
    keys += 1;
    provider = make(keys);
  } else if (claims) {
    accounts[account] = claims;
  } else {
    delete accounts[account];
  }
  say({ done: true });
}
process.exit(0);
