"""Verifies access tokens of Signet offline, and refuses them after a sign-out.

To read the sign-outs it needs a client: `signet client create orders` prints its id and its secret. app.py is a service
that uses it.
"""

import base64
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime, timezone

import jwt  # pip install 'pyjwt[crypto]'

ISSUER, AUDIENCE, ALGORITHM, TYPE = "https://id.example.com", "https://orders.example.com", "ES256", "at+jwt"
# In seconds: how long Signet waits for a revocation before it answers; how long tokens are accepted without a reply of
# the feed; how old the key set gets; how old it must be before an unknown key is a reason to fetch it again.
WAIT, MAX_STALENESS, KEYS_MAX_AGE, KEYS_MIN_AGE = 10, 60, 60, 5


class Unavailable(Exception):
    """The verifier cannot tell whether the token is valid: answer 503, not 401."""


class Feed:
    """What the verifier has read of one feed: each revoked id, with the time at which its last token has expired."""

    def __init__(self, revoked=()):
        self.id, self.next, self.revoked, self.read_at = None, 0, dict(revoked), float("-inf")

    def is_stale(self):
        return time.monotonic() - self.read_at > MAX_STALENESS


class Verifier:
    def __init__(self, client_id, client_secret):
        credentials = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self.authorization = {"Authorization": f"Basic {credentials}"}
        self.feed, self.keys, self.keys_asked_at, self.fetching = Feed(), {}, float("-inf"), threading.Lock()
        threading.Thread(target=repeat, args=(self.fetch_keys, KEYS_MAX_AGE), daemon=True).start()
        threading.Thread(target=repeat, args=(self.read_page, 0), daemon=True).start()

    def verify(self, token):
        """Returns the claims of a valid token. Raises jwt.PyJWTError for any other token, or Unavailable."""
        header = jwt.get_unverified_header(token)
        options = {"require": ["exp", "iat", "iss", "aud", "sub", "jti"]}
        key = self.key(header.get("kid"))
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=options)
        if header.get("typ") != TYPE or claims.get("token_type") != "access_token":
            raise jwt.InvalidTokenError("not an access token")
        feed = self.feed  # read once: after a reset the other thread replaces it
        if feed.is_stale():
            raise Unavailable("cannot read the sign-outs")
        if ("sid", claims.get("sid")) in feed.revoked or ("jti", claims["jti"]) in feed.revoked:
            raise jwt.InvalidTokenError("signed out")
        return claims

    def key(self, kid):
        if kid not in self.keys:
            with self.fetching:
                if kid not in self.keys and time.monotonic() - self.keys_asked_at > KEYS_MIN_AGE:
                    succeeds(self.fetch_keys)
        if not self.keys:
            raise Unavailable("cannot fetch the key set")
        if kid not in self.keys:
            raise jwt.InvalidTokenError("unknown key")
        return self.keys[kid]

    def fetch_keys(self):
        self.keys_asked_at = time.monotonic()
        key_set = jwt.PyJWKSet.from_dict(get("/.well-known/jwks.json", {}, timeout=5))
        self.keys = {key.key_id: key for key in key_set}  # after a failure the last ones stay

    def read_page(self):
        feed, asked_at, wait = self.feed, time.monotonic(), 0 if self.feed.is_stale() else WAIT
        query = {"after": feed.next, "wait": wait} | ({"feed": feed.id} if feed.id else {})
        try:
            page = get("/auth/revocations?" + urllib.parse.urlencode(query), self.authorization, timeout=wait + 5)
        except urllib.error.HTTPError as error:
            if error.code != 410 or not feed.id:
                raise
            self.feed = Feed(feed.revoked)  # a reset: read from the start, and keep what a restored database may lack
            return
        rows = page["revocations"]
        feed.revoked |= {(row["claim"], row["value"]): datetime.fromisoformat(row["expires_at"]) for row in rows}
        feed.id, feed.next = page["feed"], page["next"]
        if not rows or not feed.is_stale():  # a verifier that catches up has read everything at an empty page
            now = datetime.now(timezone.utc)
            feed.revoked = {id: expires_at for id, expires_at in feed.revoked.items() if expires_at > now}
            feed.read_at = asked_at
        if wait and not rows:
            time.sleep(max(0, 1 - (time.monotonic() - asked_at)))  # Signet may answer before WAIT is over


def get(path, headers, timeout):
    with urllib.request.urlopen(urllib.request.Request(ISSUER + path, headers=headers), timeout=timeout) as reply:
        return json.load(reply)


def succeeds(step):
    try:
        step()
        return True
    except Exception as error:  # no reply, or an unexpected one: the threads go on
        print(f"{step.__name__}: {error}", flush=True)
        return False


def repeat(step, pause):
    while True:
        time.sleep(pause if succeeds(step) else 1)
