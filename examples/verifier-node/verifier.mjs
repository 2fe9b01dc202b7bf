// Verifies access tokens of Signet offline, and refuses them after a sign-out.
//
// To read the sign-outs it needs a client: `signet client create orders` prints its id and its secret. app.mjs is a
// service that uses it.

import { setTimeout as sleep } from "node:timers/promises";
import { createLocalJWKSet, errors, jwtVerify } from "jose"; // npm install jose

const ISSUER = "https://id.example.com", AUDIENCE = "https://orders.example.com", ALGORITHM = "ES256", TYPE = "at+jwt";
// In seconds: how long Signet waits for a revocation before it answers; how long tokens are accepted without a reply of
// the feed; how old the key set gets; how old it must be before an unknown key is a reason to fetch it again.
const WAIT = 10, MAX_STALENESS = 60, KEYS_MAX_AGE = 60, KEYS_MIN_AGE = 5;

const now = () => performance.now() / 1000;
const get = (path, headers, timeout) =>
  fetch(ISSUER + path, { headers, signal: AbortSignal.timeout(timeout * 1000), redirect: "error" });

/** The verifier cannot tell whether the token is valid: answer 503, not 401. */
export class Unavailable extends Error {}

/** What the verifier has read of one feed: each revoked id, with the time at which its last token has expired. */
class Feed {
  id = null;
  next = 0;
  readAt = -Infinity;
  constructor(revoked = []) {
    this.revoked = new Map(revoked);
  }
  isStale = () => now() - this.readAt > MAX_STALENESS;
}

export class Verifier {
  #authorization;
  #feed = new Feed();
  #keys = null;
  #keysAskedAt = -Infinity;
  #fetching = null;

  constructor(clientId, clientSecret) {
    this.#authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}`;
    repeat(() => this.#fetchKeys(), KEYS_MAX_AGE);
    repeat(() => this.#readPage(), 0);
  }

  /** Returns the claims of a valid token. Throws an error of jose for any other token, or Unavailable. */
  async verify(token) {
    const { payload } = await jwtVerify(token, (header) => this.#key(header), {
      algorithms: [ALGORITHM],
      typ: TYPE,
      issuer: ISSUER,
      audience: AUDIENCE,
      requiredClaims: ["exp", "iat", "iss", "aud", "sub", "jti"],
    });
    if (payload.token_type !== "access_token") throw new errors.JWTInvalid("not an access token");
    const feed = this.#feed;
    if (feed.isStale()) throw new Unavailable("cannot read the sign-outs");
    if (feed.revoked.has(`sid ${payload.sid}`) || feed.revoked.has(`jti ${payload.jti}`)) {
      throw new errors.JWTInvalid("signed out");
    }
    return payload;
  }

  async #key(header) {
    const find = () => this.#keys(header);
    try {
      if (this.#keys) return await find();
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    }
    if (now() - this.#keysAskedAt > KEYS_MIN_AGE) this.#fetching = succeeds(() => this.#fetchKeys());
    await this.#fetching;
    if (!this.#keys) throw new Unavailable("cannot fetch the key set");
    return find();
  }

  async #fetchKeys() {
    this.#keysAskedAt = now();
    const reply = await get("/.well-known/jwks.json", {}, 5);
    if (!reply.ok) throw new Error(`the key set: ${reply.status}`);
    this.#keys = createLocalJWKSet(await reply.json()); // after a failure the last ones stay
  }

  async #readPage() {
    const feed = this.#feed, askedAt = now(), wait = feed.isStale() ? 0 : WAIT;
    const query = new URLSearchParams({ after: feed.next, wait, ...(feed.id && { feed: feed.id }) });
    const reply = await get(`/auth/revocations?${query}`, { authorization: this.#authorization }, wait + 5);
    if (reply.status === 410 && feed.id) {
      this.#feed = new Feed(feed.revoked); // a reset: read from the start, and keep what a restored database may lack
      return;
    }
    if (!reply.ok) throw new Error(`the feed: ${reply.status}`);
    const page = await reply.json(), rows = page.revocations;
    for (const { claim, value, expires_at } of rows) {
      const expiresAt = Date.parse(expires_at);
      if (Number.isNaN(expiresAt)) throw new Error("the feed: a row without a time");
      feed.revoked.set(`${claim} ${value}`, expiresAt);
    }
    feed.id = page.feed;
    feed.next = page.next;
    if (rows.length === 0 || !feed.isStale()) {
      // A verifier that catches up has read everything at an empty page.
      for (const [id, expiresAt] of feed.revoked) if (expiresAt <= Date.now()) feed.revoked.delete(id);
      feed.readAt = askedAt;
    }
    // Signet may answer before WAIT is over.
    if (wait && rows.length === 0) await sleep(Math.max(0, 1 - (now() - askedAt)) * 1000);
  }
}

async function succeeds(step) {
  try {
    await step();
    return true;
  } catch (error) {
    // No reply, or an unexpected one: the loops go on.
    console.log(String(error), error.cause?.code ?? "");
    return false;
  }
}

async function repeat(step, pause) {
  for (;;) await sleep(((await succeeds(step)) ? pause : 1) * 1000);
}
