// An Express service that verifies Signet's tokens with express-oauth2-jwt-bearer.

import express from "express";
import { auth } from "express-oauth2-jwt-bearer";

const app = express();

app.use(
  auth({
    issuerBaseURL: "https://id.example.com",
    audience: "https://orders.example.com",
    tokenSigningAlg: "ES256",
    strict: true, // RFC 9068: accepts `typ: at+jwt` only
  }),
);

app.get("/", (request, response) => response.type("text").send(request.auth.payload.sub));

app.listen(9000, "127.0.0.1");
