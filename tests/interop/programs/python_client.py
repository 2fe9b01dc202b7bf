"""Uses a service through the client that openapi-python-client makes of its OpenAPI document."""

import compileall
import json
import os
import subprocess
import sys
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

URL, EMAIL, PASSWORD = sys.argv[1], "ann@example.com", "correct horse battery"


def generate(folder):
    """Generates the client, and returns the number of its operations.

    The generator fails if it would leave out an operation, a schema or a reply.
    """
    config = Path(folder) / "config.json"
    # The generator does not know the type of /metrics.
    config.write_text(json.dumps({"content_type_overrides": {"application/openmetrics-text": "text/plain"}}))
    programs = Path(sys.executable).parent
    arguments = ["--url", f"{URL}/openapi.json", "--config", config, "--meta", "none", "--fail-on-warning"]
    arguments += ["--output-path", Path(folder) / "signet_client"]
    subprocess.run(
        [programs / "openapi-python-client", "generate", *arguments],
        check=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    )
    # Each operation is a module. This program does not use all of them, so it compiles and imports them.
    assert compileall.compile_dir(folder, quiet=1)
    sys.path.insert(0, folder)
    modules = [path.relative_to(folder) for path in Path(folder).glob("signet_client/api/*/*.py")]
    for module in modules:
        import_module(".".join(module.with_suffix("").parts))
    return len([module for module in modules if module.name != "__init__.py"])


def use():
    from signet_client import AuthenticatedClient, Client, models
    from signet_client.api.user_and_access import create, me, refresh_access, sessions, signin, signout, users

    def ok(operation, model, **arguments):
        reply = operation.sync_detailed(**arguments)
        assert reply.status_code < 300, reply
        assert model is None or isinstance(reply.parsed, model), reply
        return reply.parsed

    anyone = Client(URL)
    created = ok(create, models.User, client=anyone, body=models.CreateRequest(EMAIL, PASSWORD))
    assert (created.email, created.last_login) == (EMAIL, None), created
    pair = ok(signin, models.TokenPair, client=anyone, body=models.EmailSignInRequest(EMAIL, PASSWORD))
    assert (pair.expires_in, pair.refresh_expires_in) == (300, 86400), pair
    ok(signin, models.TokenPair, client=anyone, body=models.UsernameSignInRequest(password=PASSWORD, username=EMAIL))
    ann = ok(me, models.User, client=AuthenticatedClient(URL, pair.access_token))
    assert ann.id == created.id and ann.last_login >= created.created_at, ann

    body = models.TokenRefreshRequest(refresh_token=pair.refresh_token)
    renewed = ok(refresh_access, models.AccessToken, client=anyone, body=body)
    client = AuthenticatedClient(URL, renewed.access_token)
    assert ann in ok(users, list, client=client, limit=200)
    assert sorted(session.current for session in ok(sessions, list, client=client)) == [False, True]

    ok(signout, None, client=anyone, body=models.SignOutRequest(pair.refresh_token))
    refused = users.sync_detailed(client=client)
    assert refused.status_code == HTTPStatus.UNAUTHORIZED, refused
    assert refused.headers["content-type"] == "application/problem+json", refused.headers
    assert refused.parsed.code is models.ErrorCode.INVALID_TOKEN, refused.parsed

    # `errors` names the members at fault.
    invalid = create.sync(client=anyone, body=models.CreateRequest("ann", PASSWORD))
    assert invalid.code is models.ErrorCode.INVALID_REQUEST and invalid.errors[0].pointer == "/email", invalid
    return ann.id


with TemporaryDirectory() as folder:
    operations = generate(folder)
    print(f"python client: {operations} operations, and the whole flow as user {use()}")
