"""Uses a service through the models that datamodel-code-generator makes of its OpenAPI document.

Sends each request as its model writes itself, so optional members are `null`, and reads each reply into a model.
"""

import json
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

from datamodel_code_generator import GenerateConfig, generate_dynamic_models
from datamodel_code_generator.format import Formatter

OLD, NEW = "correct horse battery", "a longer correct horse battery"


def call(method, path, body=None, token=None, status=200):
    headers = {"content-type": "application/json"} if body else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(sys.argv[1] + path, body and body.encode(), headers, method=method)
    try:
        reply = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        reply = error
    text = reply.read().decode()
    if reply.status != status:
        sys.exit(f"{method} {path} answers {reply.status} instead of {status}\nsent: {body}\nreceived: {text}")
    return text


document = json.loads(call("GET", "/openapi.json"))
models = SimpleNamespace(**generate_dynamic_models(document, config=GenerateConfig(formatters=[Formatter.BUILTIN])))

for email in ("ann@example.com", "अंजलि@example.com"):
    request = models.CreateRequest(email=email, password=OLD)
    created = models.User.model_validate_json(call("POST", "/auth/create", request.model_dump_json(), status=201))
    assert (created.email, created.username, created.first_name) == (email, email, ""), created

    # Written by hand: the password of the account is the one that the model was given.
    call("POST", "/auth/signin", json.dumps({"email": email, "password": OLD}))
    request = models.SignInRequest.model_validate({"email": email, "password": OLD})
    pair = models.TokenPair.model_validate_json(call("POST", "/auth/signin", request.model_dump_json()))
    request = models.RefreshRequest(refresh_token=pair.refresh_token)
    refreshed = models.AccessToken.model_validate_json(call("POST", "/auth/refresh-access", request.model_dump_json()))
    token = refreshed.access_token

    request = models.ProfileRequest(last_name="Ashe")
    changed = models.User.model_validate_json(call("PATCH", "/auth/users/me", request.model_dump_json(), token))
    assert (changed.username, changed.first_name, changed.last_name) == (email, "", "Ashe"), changed
    request = models.ProfileRequest(username=changed.username)
    changed = models.User.model_validate_json(call("PATCH", "/auth/users/me", request.model_dump_json(), token))
    assert (changed.username, changed.last_name) == (email, "Ashe"), changed
    users = [models.User.model_validate(user) for user in json.loads(call("GET", "/auth/users", token=token))]
    assert changed in users, users

    request = models.PasswordRequest(current_password=OLD, new_password=NEW)
    call("POST", "/auth/password", request.model_dump_json(), token, status=204)
    call("POST", "/auth/signin", json.dumps({"email": email, "password": NEW}))
    refused = call("POST", "/auth/signin", json.dumps({"email": email, "password": OLD}), status=401)
    assert models.Problem.model_validate_json(refused).code == models.ErrorCode("invalid-credentials"), refused
    sessions = json.loads(call("GET", "/auth/sessions", token=token))
    assert sorted(models.Session.model_validate(session).current for session in sessions) == [False, True], sessions
