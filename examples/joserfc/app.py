"""A service that verifies Signet's tokens with joserfc."""

from cachetools.func import ttl_cache
from flask import Flask, abort, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
import requests


@ttl_cache(maxsize=1, ttl=60)
def keys():
    return KeySet.import_key_set(requests.get("https://id.example.com/.well-known/jwks.json", timeout=5).json())


claims_requests = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": "https://id.example.com"},
    aud={"essential": True, "value": "https://orders.example.com"},
    exp={"essential": True},
    token_type={"essential": True, "value": "access_token"},
)


def verify(token):
    claims = jwt.decode(token, keys(), algorithms=["ES256"]).claims
    claims_requests.validate(claims)
    return claims


app = Flask(__name__)


@app.get("/")
def subject():
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        return verify(token)["sub"]
    except (JoseError, ValueError):
        abort(401)


app.run("127.0.0.1", 9000)
