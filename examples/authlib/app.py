"""A service that verifies Signet's tokens with Authlib's resource protector for Flask (RFC 9068)."""

from authlib.integrations.flask_oauth2 import ResourceProtector, current_token
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from cachetools.func import ttl_cache
from flask import Flask
from joserfc.jwk import KeySet
import requests


class TokenValidator(JWTBearerTokenValidator):
    @ttl_cache(maxsize=1, ttl=60)
    def get_jwks(self):
        metadata = requests.get(f"{self.issuer}/.well-known/oauth-authorization-server", timeout=5).json()
        return KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=5).json())


require_oauth = ResourceProtector()
require_oauth.register_token_validator(
    TokenValidator(issuer="https://id.example.com", resource_server="https://orders.example.com")
)
app = Flask(__name__)


@app.get("/")
@require_oauth()
def subject():
    return current_token["sub"]


app.run("127.0.0.1", 9000)
