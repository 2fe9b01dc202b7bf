"""Writes the key set of Signet to key1.pem, key2.pem and key3.pem. Exits with 0 if they changed, otherwise with 1."""

import base64
import json
import pathlib
import sys
import urllib.request

P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")  # RFC 5480: what stands before x and y


def pem(key):
    point = b"".join(base64.urlsafe_b64decode(key[name] + "=") for name in "xy")
    text = base64.encodebytes(P256 + point).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n"


with urllib.request.urlopen("http://127.0.0.1:8000/.well-known/jwks.json", timeout=10) as reply:
    keys = [pem(key) for key in json.load(reply)["keys"] if key["alg"] == "ES256"]
if not 1 <= len(keys) <= 3:
    sys.exit(f"the key set has {len(keys)} keys of ES256, not 1 to 3")
changed = False
for number in range(3):  # HAProxy needs all three files: the last key fills the rest
    file, text = pathlib.Path(f"key{number + 1}.pem"), keys[min(number, len(keys) - 1)]
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
        changed = True
sys.exit(not changed)
