// A service that verifies Signet's tokens with jsonwebtoken, and finds their keys with jwks-rsa.

import express from "express";
import jwt from "jsonwebtoken";
import jwksClient from "jwks-rsa";

const client = jwksClient({ jwksUri: "https://id.example.com/.well-known/jwks.json" });

function getKey(header, callback) {
  client.getSigningKey(header.kid, (error, key) => callback(error, key?.getPublicKey()));
}

const options = {
  algorithms: ["ES256"],
  issuer: "https://id.example.com",
  audience: "https://orders.example.com",
};

const app = express();

app.get("/", (request, response) => {
  const [, token] = (request.get("authorization") ?? "").split(" ");
  jwt.verify(token, getKey, options, (error, claims) => {
    if (error) return response.sendStatus(401);
    response.type("text").send(claims.sub);
  });
});

app.listen(9000, "127.0.0.1");
