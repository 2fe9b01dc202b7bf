"""Verifies tokens with PyJWT and joserfc as a service does, with the address of the key set, the issuer and the audience.

Reads a case as JSON from standard input and prints, for each library, the names of the tokens that it accepts.
"""

import json
import sys
import urllib.request

import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey


def with_pyjwt(case, keys, token):
    key = case["secret"] or keys.get_signing_key_from_jwt(token).key
    options = {"require": ["exp", "iat", "iss", "aud", "sub"]}
    jwt.decode(token, key, algorithms=[case["algorithm"]], issuer=case["issuer"], audience=case["audience"], options=options)


def with_joserfc(case, keys, token):
    claims = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": case["issuer"]},
        aud={"essential": True, "value": case["audience"]},
        exp={"essential": True},
    )
    claims.validate(joserfc_jwt.decode(token, keys, algorithms=[case["algorithm"]]).claims)


def accepted(verify, refusals, case, keys):
    names = []
    for token in case["tokens"]:
        try:
            verify(case, keys, token["token"])
            names.append(token["name"])
        except refusals:
            pass
    return names


case = json.load(sys.stdin)
if case["secret"]:
    pyjwt_keys, joserfc_keys = None, OctKey.import_key(case["secret"])
else:
    pyjwt_keys = jwt.PyJWKClient(case["jwks"])
    with urllib.request.urlopen(case["jwks"]) as reply:
        joserfc_keys = KeySet.import_key_set(json.load(reply))
print(
    json.dumps(
        {
            "PyJWT": accepted(with_pyjwt, (jwt.PyJWTError,), case, pyjwt_keys),
            "joserfc": accepted(with_joserfc, (JoseError, ValueError), case, joserfc_keys),
        }
    )
)
