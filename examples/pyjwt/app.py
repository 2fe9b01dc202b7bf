"""A service that verifies Signet's tokens with PyJWT."""

from flask import Flask, abort, request
import jwt  # pip install 'pyjwt[crypto]'

keys = jwt.PyJWKClient("https://id.example.com/.well-known/jwks.json", lifespan=60)


def verify(token):
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["ES256"],
        issuer="https://id.example.com",
        audience="https://orders.example.com",
        options={"require": ["exp", "iat", "iss", "aud", "sub"]},
    )
    if claims.get("token_type") != "access_token":
        raise jwt.InvalidTokenError("not an access token")
    return claims


app = Flask(__name__)


@app.get("/")
def subject():
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        return verify(token)["sub"]
    except jwt.PyJWTError:
        abort(401)


app.run("127.0.0.1", 9000)
