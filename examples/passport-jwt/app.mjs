// An Express service that verifies Signet's tokens with passport-jwt, and finds their keys with jwks-rsa.

import express from "express";
import { passportJwtSecret } from "jwks-rsa";
import passport from "passport";
import { ExtractJwt, Strategy } from "passport-jwt";

passport.use(
  new Strategy(
    {
      jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
      secretOrKeyProvider: passportJwtSecret({ jwksUri: "https://id.example.com/.well-known/jwks.json", cache: true }),
      algorithms: ["ES256"],
      issuer: "https://id.example.com",
      audience: "https://orders.example.com",
    },
    (claims, done) => done(null, { id: claims.sub }),
  ),
);

const app = express();

app.get("/", passport.authenticate("jwt", { session: false }), (request, response) => {
  response.type("text").send(request.user.id);
});

app.listen(9000, "127.0.0.1");
