// Shows an identity assertion by the package `@modelcontextprotocol/client`, as its argument says, and writes what came of it.

import { exchangeJwtAuthGrant } from "@modelcontextprotocol/client";

const told = JSON.parse(process.argv[2]);
process.stdout.write(JSON.stringify(await exchangeJwtAuthGrant(told)));
