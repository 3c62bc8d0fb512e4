// What the servers of the interop tests have in common: several of them in one process, each on a port of its own.

import { introspection, signature } from "./verifiers.mjs";

/** Serves what the variable SERVERS lists until the process is told to stop. */
export async function serve(application) {
  for (const wanted of JSON.parse(process.env.SERVERS)) {
    const { issuer, resource, verifier, token_alg, client_id, client_secret } = wanted;
    const claimsOf =
      verifier === "introspection"
        ? introspection(issuer, client_id, client_secret)
        : signature(issuer, resource, token_alg);
    const app = await application(issuer, new URL(resource), claimsOf);
    app.listen(Number(new URL(resource).port), "127.0.0.1");
  }
}

for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
