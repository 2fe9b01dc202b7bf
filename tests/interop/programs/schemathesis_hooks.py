"""Gives Schemathesis what an OpenAPI document cannot say: accounts that can sign in, and rules that involve two members.

Loaded through SCHEMATHESIS_HOOKS; SIGNET_URL is where the service listens, SIGNET_ROOT the e-mail of a superuser,
SIGNET_MAILS the folder of mails, SIGNET_CLIENT the id and the secret of a client with a colon between them, and
SIGNET_AUDIENCE an audience of the service. schemathesis.toml has the rest.
"""

import base64
import functools
import itertools
import json
import os
import pathlib
import re
import sys
import time
import unicodedata

import requests
import schemathesis

# The account of the document's examples, so that requests made from them succeed, and the account of the caller.
ANN, CALLER, PASSWORD = "ann@example.com", "caller@example.com", "correct horse battery"

numbers = itertools.count(1)


def send(method, path, body=None, token=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    reply = requests.request(method, os.environ["SIGNET_URL"] + path, json=body, headers=headers, timeout=30)
    reply.raise_for_status()
    return reply.json()


def sign_up(email):
    return send("POST", "/auth/create", {"email": email, "password": PASSWORD})


def new_user():
    return sign_up(f"caller{next(numbers)}@example.com")


def new_superuser():
    user, root = new_user(), sign_in(os.environ["SIGNET_ROOT"])
    send("PATCH", f"/auth/users/{user['id']}", {"is_staff": True, "is_superuser": True}, root)
    return user


@functools.cache
def mail_code(kind):
    """A new user, and the code of a mail of this kind to it."""
    user = new_user()
    if kind == "reset":
        requests.post(os.environ["SIGNET_URL"] + "/auth/password/reset", json={"email": user["email"]}, timeout=30)
    subject = {"reset": "Set a new password", "verify": "Confirm your e-mail address"}[kind]
    for _ in range(200):
        for path in pathlib.Path(os.environ["SIGNET_MAILS"]).glob("*.eml"):
            text = path.read_text()
            if f"To: {user['email']}" in text and f"Subject: {subject}" in text:
                return user["email"], re.search(r"\b\w{4}-\w{4}$", text, re.MULTILINE)[0]
        time.sleep(0.05)
    raise TimeoutError("no mail")


def sign_in(email):
    return send("POST", "/auth/signin", {"email": email, "password": PASSWORD})["access_token"]


sign_up(ANN)
sign_up(CALLER)


@schemathesis.auth(refresh_interval=None).apply_to(lambda context: "security" in context.operation.definition.raw)
class AccessToken:
    """A new session for each request, because operations such as `/auth/signout-all` end the session of their caller.

    A request that may change the password or the e-mail gets a new user, too, and administration a new superuser.
    """

    def get(self, case, context):
        path, tags = context.operation.path, context.operation.definition.raw["tags"]
        if "client" in context.operation.definition.raw["security"][0]:
            return "Basic " + base64.b64encode(os.environ["SIGNET_CLIENT"].encode()).decode()
        if "Administration" in tags:
            return sign_in(new_superuser()["email"])
        if path == "/auth/verify-email/confirm":
            return sign_in(mail_code("verify")[0])
        changes_user = path in ("/auth/password", "/auth/email", "/auth/api-keys")
        return sign_in(new_user()["email"] if changes_user else CALLER)

    def set(self, case, token, context):
        case.headers["Authorization"] = token if token.startswith("Basic ") else f"Bearer {token}"


@functools.cache
def members(categories):
    """The characters of these general categories, as they stand in a class of a regular expression."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(categories)]
    starts = [code for code, before in zip(codes, [None, *codes]) if before != code - 1]
    ends = [code for code, after in zip(codes, [*codes[1:], None]) if after != code + 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Spells out `\\p{…}` in patterns: Schemathesis knows its Latin letters only, and cannot negate it."""
    spelled = re.sub(r"\\\\p\{(\w+)\}", lambda match: json.dumps(members(match[1]))[1:-1], json.dumps(raw_schema))
    raw_schema.update(json.loads(spelled))


# Letters and marks that show nothing (Default_Ignorable_Code_Point), which are in no username.
INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def usable(username, own):
    """What the pattern of usernames cannot say: an e-mail must be the account's own, and NFKC changes no character."""
    if "@" in username:
        return own
    return "".join(c for c in INVISIBLE.sub("", username) if unicodedata.is_normalized("NFKC", c)) or username


def hard_to_guess(password):
    """What no schema can say: a new password is not one character repeated."""
    return password[:-3] + "#q%" if len(password) > 7 and len(set(password)) == 1 else password


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes requests keep the rules that the document states in words only, and some succeed.

    Schemathesis judges afterwards whether a request is valid.
    """
    operation, query = case.operation.label, case.query
    body = case.body if isinstance(case.body, dict) else {}
    if operation == "POST /auth/create" and body.get("email") == ANN:
        body["email"] = f"new{next(numbers)}@example.com"
    own = body.get("email", CALLER)
    if "/auth/users/{id}" in operation and str(case.path_parameters["id"]).isdigit() and next(numbers) % 4:
        # Another user than those of this program.
        victim = new_user()
        case.path_parameters["id"], own = victim["id"], victim["email"]
    elif "/auth/users/{id}" in operation and str(case.path_parameters["id"]).isdigit():
        case.path_parameters["id"] = 10**9 + next(numbers)
    if operation in ("POST /auth/create", "PATCH /auth/users/me", "PATCH /auth/users/{id}") and isinstance(body.get("username"), str):
        body["username"] = usable(body["username"], own)
    for name in ("password", "new_password"):
        if isinstance(body.get(name), str) and operation not in ("POST /auth/signin", "POST /auth/email", "POST /auth/api-keys"):
            body[name] = hard_to_guess(body[name])
    if operation == "GET /auth/users" and isinstance(query.get("after"), str):
        # The last user of the page before: its e-mail in a search by e-mail, otherwise its id.
        query["after"] = ANN if "q" in query else "1"
    for place in (body, query):
        # The settings decide which audiences are valid.
        if place and isinstance(place.get("audience"), str):
            place["audience"] = os.environ["SIGNET_AUDIENCE"]
    if operation == "GET /auth/revocations" and "wait" in query and str(query["wait"]).isdigit():
        # No request of this program may wait.
        query["wait"] = 31 if int(query["wait"]) > 30 else 0
        if next(numbers) % 2:
            query.pop("feed", None)
            query.pop("after", None)
    if operation == "POST /oauth/token" and body.get("grant_type") == "client_credentials" and next(numbers) % 2:
        body.pop("scope", None)
        body.pop("resource", None)
    if operation == "POST /auth/api-keys" and isinstance(body.get("password"), str) and next(numbers) % 2:
        body["password"] = PASSWORD
    if operation == "DELETE /auth/api-keys/{id}" and next(numbers) % 2:
        key = {"name": "a key", "password": PASSWORD}
        case.path_parameters["id"] = send("POST", "/auth/api-keys", key, sign_in(CALLER))["id"]
    if operation == "POST /auth/email" and isinstance(body.get("password"), str) and next(numbers) % 2:
        body["password"] = PASSWORD
    if operation == "POST /auth/password/reset/confirm" and isinstance(body.get("code"), str) and "token" not in body:
        body["email"], body["code"] = mail_code("reset")
    if operation == "POST /auth/verify-email/confirm" and isinstance(body.get("code"), str) and "token" not in body:
        body["code"] = mail_code("verify")[1]
    if operation == "POST /auth/password" and isinstance(body.get("current_password"), str) and next(numbers) % 2:
        body["current_password"] = PASSWORD
    if operation == "DELETE /auth/sessions/{id}" and next(numbers) % 2:
        case.path_parameters["id"] = send("GET", "/auth/sessions", token=sign_in(CALLER))[0]["id"]
