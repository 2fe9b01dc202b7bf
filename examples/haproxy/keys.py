"""Writes the key set of Signet to key1.pem, key2.pem and key3.pem. Exits with 0 if they changed, otherwise with 1."""
import base64, json, pathlib, sys, urllib.request

with urllib.request.urlopen("http://127.0.0.1:8000/.well-known/jwks.json", timeout=10) as reply:
    keys = json.load(reply)["keys"]
P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")  # RFC 5480, before x and y
points = [P256 + b"".join(base64.urlsafe_b64decode(key[name] + "=") for name in "xy") for key in keys if key["alg"] == "ES256"]
if not 1 <= len(points) <= 3:
    sys.exit(f"the key set has {len(points)} keys of ES256, not 1 to 3")
changed = False
for number in range(3):
    file = pathlib.Path(f"key{number + 1}.pem")
    text = f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(points[min(number, len(points) - 1)]).decode()}-----END PUBLIC KEY-----\n"
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
        changed = True
sys.exit(not changed)
