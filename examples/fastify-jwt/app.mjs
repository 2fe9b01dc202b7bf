// A Fastify service that verifies Signet's tokens with @fastify/jwt, and finds their keys with get-jwks.

import jwt from "@fastify/jwt";
import Fastify from "fastify";
import buildGetJwks from "get-jwks";

const fastify = Fastify();
const getJwks = buildGetJwks({ issuersWhitelist: ["https://id.example.com"] });

fastify.register(jwt, {
  decode: { complete: true },
  secret: (request, { header: { kid, alg }, payload: { iss } }) => getJwks.getPublicKey({ kid, alg, domain: iss }),
  verify: {
    algorithms: ["ES256"],
    allowedIss: "https://id.example.com",
    allowedAud: "https://orders.example.com",
  },
});

fastify.addHook("onRequest", async (request, reply) => {
  try {
    await request.jwtVerify();
  } catch {
    return reply.code(401).send(); // without this an unknown key is answered with 500
  }
});

fastify.get("/", (request) => request.user.sub);

fastify.listen({ host: "127.0.0.1", port: 9000 });
