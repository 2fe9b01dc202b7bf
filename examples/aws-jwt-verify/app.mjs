// A service that verifies Signet's tokens with the verifier of aws-jwt-verify for any issuer.

import { JwtVerifier } from "aws-jwt-verify";
import express from "express";

const verifier = JwtVerifier.create({
  issuer: "https://id.example.com",
  audience: "https://orders.example.com",
  jwksUri: "https://id.example.com/.well-known/jwks.json",
});

const app = express();

app.get("/", async (request, response) => {
  const [, token] = (request.get("authorization") ?? "").split(" ");
  try {
    response.type("text").send((await verifier.verify(token)).sub);
  } catch {
    response.sendStatus(401);
  }
});

app.listen(9000, "127.0.0.1");
