// A service that answers `GET /` with the subject of the access token.
//
// It needs SIGNET_CLIENT_ID, and SIGNET_CLIENT_SECRET or SIGNET_CLIENT_SECRET_FILE.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { errors } from "jose";
import { Unavailable, Verifier } from "./verifier.mjs";

const { SIGNET_CLIENT_ID: id, SIGNET_CLIENT_SECRET: secret, SIGNET_CLIENT_SECRET_FILE: file } = process.env;
if (!id || !(secret || file)) throw new Error("SIGNET_CLIENT_ID and SIGNET_CLIENT_SECRET are not set");
const verifier = new Verifier(id, file ? readFileSync(file, "utf8").trim() : secret);

createServer(async (request, response) => {
  const [, token = ""] = /^bearer +(.*)$/i.exec(request.headers.authorization ?? "") ?? [];
  try {
    response.end((await verifier.verify(token)).sub);
  } catch (error) {
    if (error instanceof errors.JOSEError) {
      response.writeHead(401, { "WWW-Authenticate": "Bearer" }).end(error.message);
    } else if (error instanceof Unavailable) {
      response.writeHead(503).end(error.message);
    } else {
      console.log(error);
      response.writeHead(500).end();
    }
  }
}).listen(9000, "127.0.0.1");
