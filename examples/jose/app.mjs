// A service that verifies Signet's tokens with jose.

import express from "express";
import { createRemoteJWKSet, jwtVerify } from "jose"; // npm install jose

const keys = createRemoteJWKSet(new URL("https://id.example.com/.well-known/jwks.json"));

export async function verify(token) {
  const { payload } = await jwtVerify(token, keys, {
    algorithms: ["ES256"],
    issuer: "https://id.example.com",
    audience: "https://orders.example.com",
    typ: "at+jwt",
  });
  return payload;
}

const app = express();

app.get("/", async (request, response) => {
  const [, token] = (request.get("authorization") ?? "").split(" ");
  try {
    response.type("text").send((await verify(token)).sub);
  } catch {
    response.sendStatus(401);
  }
});

app.listen(9000, "127.0.0.1");
