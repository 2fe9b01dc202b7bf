// A service that verifies Signet's tokens with oauth4webapi, which checks every rule of RFC 9068.

import { createServer } from "node:http";
import * as oauth from "oauth4webapi";

const issuer = new URL("https://id.example.com");
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));

const server = createServer(async ({ headers, url }, response) => {
  const request = new Request(new URL(url, "https://orders.example.com"), { headers });
  try {
    const claims = await oauth.validateJwtAccessToken(as, request, "https://orders.example.com");
    response.end(claims.sub);
  } catch {
    response.writeHead(401).end();
  }
});

server.listen(9000, "127.0.0.1");
