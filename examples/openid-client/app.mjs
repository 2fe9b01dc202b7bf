// A service that asks Signet about each token with openid-client (RFC 7662), so that it also refuses signed-out ones.
// `signet client create orders` prints the client's id and secret.

import express from "express";
import * as client from "openid-client";

const { SIGNET_CLIENT_ID, SIGNET_CLIENT_SECRET } = process.env;
const config = await client.discovery(new URL("https://id.example.com"), SIGNET_CLIENT_ID, SIGNET_CLIENT_SECRET);

const app = express();

app.get("/", async (request, response) => {
  const [, token] = (request.get("authorization") ?? "").split(" ");
  if (!token) return response.sendStatus(401);
  const { active, aud, sub } = await client.tokenIntrospection(config, token);
  if (!active || aud !== "https://orders.example.com") return response.sendStatus(401);
  response.type("text").send(sub);
});

app.listen(9000, "127.0.0.1");
