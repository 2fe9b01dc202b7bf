"""A FastAPI service that verifies Signet's tokens with PyJWT."""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
import jwt
import uvicorn

keys = jwt.PyJWKClient("https://id.example.com/.well-known/jwks.json", lifespan=60)


def user(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]):
    try:
        return jwt.decode(
            bearer.credentials,
            keys.get_signing_key_from_jwt(bearer.credentials),
            algorithms=["ES256"],
            issuer="https://id.example.com",
            audience="https://orders.example.com",
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except jwt.PyJWTError:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


app = FastAPI()


@app.get("/")
def subject(claims: Annotated[dict, Depends(user)]) -> str:
    return PlainTextResponse(claims["sub"])


uvicorn.run(app, host="127.0.0.1", port=9000)
