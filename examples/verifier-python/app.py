"""A service that answers `GET /` with the subject of the access token.

It needs SIGNET_CLIENT_ID, and SIGNET_CLIENT_SECRET or SIGNET_CLIENT_SECRET_FILE.
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from verifier import Unavailable, Verifier


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            status, text = 200, verifier.verify(token if scheme.lower() == "bearer" else "")["sub"]
        except jwt.PyJWTError as error:
            status, text = 401, str(error)
        except Unavailable as error:
            status, text = 503, str(error)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(text.encode())


if "SIGNET_CLIENT_ID" not in os.environ:
    raise SystemExit("SIGNET_CLIENT_ID and SIGNET_CLIENT_SECRET are not set")
file = os.environ.get("SIGNET_CLIENT_SECRET_FILE")
secret = Path(file).read_text().strip() if file else os.environ["SIGNET_CLIENT_SECRET"]
verifier = Verifier(os.environ["SIGNET_CLIENT_ID"], secret)
ThreadingHTTPServer(("127.0.0.1", 9000), Service).serve_forever()
