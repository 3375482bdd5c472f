"""Who may do what over the Admin API: every operation by every role, and every one on what is another account's."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from arkway.core.audit import SERVER
from arkway.core.caller import Role
from arkway.core.roles import PERMISSIONS
from arkway.http.admin.openapi import queries
from arkway.http.admin.operations import Operation
from arkway.http.admin.shapes import Within, WithinAccount
from arkway.http.admin.table import OPERATIONS
from arkway.knowledge.holdings import Holdings
from arkway.testing import CHAT_CARD
from tests.tools.administered import BY_ID, HOST, OTHER, ROLES, SECOND, Administered, Client, administered
from tests.tools.client import Connection, Reply

BODIES: dict[str, Any] = {
    "accounts.create": {"id": "fresh"},
    "projects.create": {"id": "fresh"},
    "accounts.rename": {"name": "taken over"},
    "projects.rename": {"name": "taken over"},
    "keys.create": {"name": "fresh"},
    "keys.update": {"role": "viewer", "expires_at": None},
    "access_keys.update": {"role": "viewer", "expires_at": None},
    "access_keys.create": {"name": "fresh"},
    "endpoints.create": {"name": "fresh", "model_name": CHAT_CARD.name},
    "endpoints.update": {"description": "taken over"},
    "bots.create": {"name": "fresh", "endpoint_id": "ep-20250101000000-abcde"},
    "bots.update": {"prompt": "taken over"},
    "collections.create": {"name": "fresh"},
    "collections.update": {"description": "taken over"},
    "collections.search": {"query": "who knows"},
    "documents.upload": b"# Taken over",
    "limits.set": {"scope": "project", "amounts": {"rpm": 1}},
    "aliases.set": {"name": "fresh", "model_name": CHAT_CARD.name},
    "prices.set": {"model": "fresh", "prompt": 1, "completion": 1},
    "upstreams.create": {"name": "fresh", "base_url": "http://127.0.0.1:9/v1"},
    "upstreams.update": {"connect_s": 1},
    "groups.set": {"model": "fresh", "members": [{"upstream": f"of-{HOST}", "model": "m"}]},
}
QUERIES = {
    "limits.remove": "scope=project",
    "documents.upload": "file_name=first.md",
    "aliases.remove": "name=none",
    "prices.remove": "model=none",
    "groups.remove": "model=none",
}
NOWHERE = "nowhere"
OPEN_ORIGIN = "access-control-allow-origin"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    with administered(tmp_path_factory.mktemp("admin"), settings={"server": {"access_log": True}}) as made:
        yield made


def do(client: Client, operation: Operation, query: str = "", **options: Any) -> Reply:
    whole = "&".join(filter(None, (QUERIES.get(operation.id, ""), query)))
    return client.do(operation.id, BODIES.get(operation.id), query=whole, **options)


def shape_of(reply: Reply) -> tuple[int, str, str]:
    """An answer without what differs from request to request, names that the caller has sent among it."""
    error = reply.json()["error"]
    return reply.status, error["code"], error["field"]


def state(place: Administered) -> bytes:
    """All that there is of the other account, but for when keys were last used."""
    commands = place.commands
    kept: list[Any] = [commands.accounts(SERVER).show(OTHER), commands.projects(OTHER, SERVER).list()]
    for project in ("default", SECOND):
        kept += [commands.endpoints(OTHER, project, SERVER).list(), commands.limits(OTHER, project, SERVER).list()]
        kept += [commands.bots(OTHER, project, SERVER).list(), _knowledge(commands.holdings(OTHER, project, SERVER))]
        for keys in (commands.keys(OTHER, project, SERVER), commands.access_keys(OTHER, project, SERVER)):
            kept += [[(key.id, key.role, key.expires_at, key.revoked_at) for key in keys.list()]]
    return repr(kept).encode()


def _knowledge(holdings: Holdings) -> list[Any]:
    return [
        (each, list(holdings.every_document(each.id)), [(job.id, job.state) for job in holdings.jobs(each.id)])
        for each in holdings.list()
    ]


def reached(operation: Operation) -> list[str]:
    """By which query a caller may try to come to another account."""
    shapes = queries(operation)
    if Within in shapes:
        return [f"account={OTHER}", f"account={OTHER}&project={SECOND}", "account=*", "account=*&project=*"]
    return [f"account={OTHER}", "account=*"] if WithinAccount in shapes else []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_what_is_another_accounts_is_not_there(place: Administered, operation: Operation) -> None:
    """An owner gets one and the same answer for what is another's and for what nobody has, and nothing changes."""
    before = state(place)
    with place.client("owner") as client:
        for query in reached(operation):
            foreign = do(client, operation, query, of=OTHER)
            nobody = do(client, operation, query.replace(OTHER, NOWHERE), of=OTHER)
            assert foreign.status == 404, foreign.body
            assert shape_of(foreign) == shape_of(nobody)
            assert _words(foreign, OTHER) == _words(nobody, NOWHERE)
        if "{" in operation.path:
            # By its id alone, in the caller's own place.
            foreign, nobody = do(client, operation, of=OTHER), do(client, operation, name=NOWHERE)
            expected = 404 if "owner" in PERMISSIONS[operation.permission].roles else 403
            assert foreign.status == nobody.status == expected
            assert _words(foreign, _asked(place, operation)) == _words(nobody, NOWHERE)
    assert state(place) == before


def _asked(place: Administered, operation: Operation) -> str:
    return place.things[OTHER][operation.path.partition("{")[2].partition("}")[0]]


def _words(reply: Reply, named: str) -> str:
    message: str = reply.json()["error"]["message"]
    return message.replace(named, "NAME")


@pytest.mark.parametrize("role", ROLES)
def test_every_operation_is_for_its_roles_alone(tmp_path: Path, role: Role) -> None:
    """In the caller's own project; what is not allowed changes nothing and is 403, whatever else is wrong with it."""
    with administered(tmp_path) as place, place.client(role) as client:
        for operation in OPERATIONS:
            allowed = role in PERMISSIONS[operation.permission].roles
            reply = do(client, operation)
            assert (reply.status == 403) is not allowed, (operation.id, reply.body)
            assert reply.status < 500
            if not allowed:
                assert client.do(operation.id, [], query="nonsense=1").status == 403
                assert shape_of(reply) == (403, "AccessDenied", "")


def test_a_key_that_calls_models_does_nothing_here(place: Administered) -> None:
    with place.client("inference") as client:
        assert {client.do(operation.id).status for operation in OPERATIONS} == {403}


def test_nobody_comes_in_without_credentials(place: Administered) -> None:
    for operation in OPERATIONS:
        for key in ("", "ark-wrong"):
            with place.client() as client:
                client.connection.key = key
                reply = do(client, operation)
            assert shape_of(reply) == (401, "AuthenticationError", "")
            assert reply.headers["www-authenticate"].startswith("Bearer")


def test_an_operator_acts_anywhere_and_the_log_of_that_account_says_so(place: Administered) -> None:
    with place.client() as client:
        made = client.do("endpoints.create", BODIES["endpoints.create"], query=f"account={OTHER}&project={SECOND}")
        assert (made.status, made.json()["account"], made.json()["project"]) == (201, OTHER, SECOND)
        entry = client.do("audit.list", query=f"account={OTHER}&limit=1").json()["items"][0]
        assert (entry["action"], entry["target"], entry["account"]) == ("endpoints.create", made.json()["id"], OTHER)
    with place.client("owner", OTHER) as theirs:
        assert theirs.do("endpoints.show", name=made.json()["id"]).status == 404
        shown = theirs.do("endpoints.show", name=made.json()["id"], query=f"project={SECOND}")
        assert shown.json() == made.json()
        assert theirs.do("audit.list", query="limit=1").json()["items"][0]["id"] == entry["id"]


def test_below_owners_nobody_leaves_his_project(place: Administered) -> None:
    for role in ("viewer", "developer"):
        with place.client(role, OTHER) as client:
            assert client.do("endpoints.list").status == 200
            assert client.do("endpoints.list", query=f"project={SECOND}").status == 404
            assert client.do("usage.sums", query="project=*").status == 404


def test_below_owners_nobody_learns_of_other_projects(place: Administered) -> None:
    for role in ("viewer", "developer"):
        with place.client(role, OTHER) as client:
            assert [each["id"] for each in client.do("projects.list").json()["items"]] == ["default"]
            assert client.do("projects.show", name="default").status == 200
            foreign, nobody = client.do("projects.show", name=SECOND), client.do("projects.show", name=NOWHERE)
            assert foreign.status == nobody.status == 404
            assert _words(foreign, SECOND) == _words(nobody, NOWHERE)
    with place.client("owner", OTHER) as client:
        assert {SECOND, "default"} <= {each["id"] for each in client.do("projects.list").json()["items"]}
        assert client.do("projects.show", name=SECOND).status == 200


def test_nobody_gives_more_than_he_has(place: Administered) -> None:
    for operation_id in ("keys.create", "access_keys.create"):
        with place.client("owner") as owner:
            assert shape_of(owner.do(operation_id, {"role": "operator"})) == (403, "AccessDenied", "")
            assert owner.do(operation_id, {"role": "owner"}).status == 201
        with place.client() as operator:
            assert operator.do(operation_id, {"role": "operator"}).status == 201
            elsewhere = operator.do(operation_id, {"role": "operator"}, query=f"account={OTHER}")
            assert shape_of(elsewhere) == (400, "InvalidParameter", "role")


def test_a_key_above_ones_own_is_not_changed(place: Administered) -> None:
    now_s = int(time.time())
    key, _ = place.commands.keys(HOST, "default", SERVER).create("expiring", now_s, (), now_s + 60, role="operator")
    pair = place.commands.access_keys(HOST, "default", SERVER).create("expiring", now_s, role="operator").info
    for operation_id, name in (("keys.update", key.id), ("access_keys.update", pair.id)):
        with place.client("owner") as owner:
            for body in ({"expires_at": None}, {"role": "viewer"}, {}):
                assert shape_of(owner.do(operation_id, body, name=name)) == (403, "AccessDenied", "")
        with place.client() as operator:
            assert operator.do(operation_id, {"role": "owner"}, name=name).json()["role"] == "owner"
        with place.client("owner") as owner:
            assert shape_of(owner.do(operation_id, {"role": "operator"}, name=name)) == (403, "AccessDenied", "")
            assert owner.do(operation_id, {"role": "viewer"}, name=name).status == 200
        with place.client() as operator:
            elsewhere = operator.do(operation_id, {"role": "operator"}, query=f"account={OTHER}", of=OTHER)
            assert shape_of(elsewhere) == (400, "InvalidParameter", "role")


def test_a_key_for_one_endpoint_sees_that_alone(place: Administered) -> None:
    keys = place.commands.keys(HOST, "default", SERVER)
    endpoints = place.commands.endpoints(HOST, "default", SERVER)
    other = endpoints.create("another", CHAT_CARD.name, int(time.time()))
    mine = place.things[HOST]["endpoint"]
    _, secret = keys.create("narrow", int(time.time()), [mine], role="operator")
    with Connection(place.server.url, secret) as connection:
        client = Client(connection, place)
        assert [endpoint["id"] for endpoint in client.do("endpoints.list").json()["items"]] == [mine]
        foreign, nobody = client.do("endpoints.stop", name=other.id), client.do("endpoints.stop", name=NOWHERE)
        assert _words(foreign, other.id) == _words(nobody, NOWHERE)
        assert client.do("endpoints.stop", name=mine).status == 200
        assert client.do("endpoints.start", name=mine).status == 200
        assert client.do("endpoints.list", query=f"account={OTHER}").status == 404
        narrow = {client.do(each.id).status for each in OPERATIONS if not PERMISSIONS[each.permission].scoped}
        assert narrow == {403}
    endpoints.delete(other.id, int(time.time()))


def test_a_suspended_account_is_out_at_once(place: Administered) -> None:
    with place.client() as operator, place.client("owner", OTHER) as owner:
        assert owner.do("keys.list").status == 200
        operator.do("accounts.suspend", name=OTHER)
        assert owner.do("keys.list").status == 401
        operator.do("accounts.resume", name=OTHER)
        assert owner.do("keys.list").status == 200


# The edge


def test_pages_of_other_sites_get_nothing(place: Administered) -> None:
    with place.client() as client:
        own = f"http://{client.connection.host}"
        for origin in ("https://evil.example", "null", f"{own}.evil.example", own.replace("127.", "128.")):
            for operation_id in ("keys.list", "keys.create"):
                reply = do(client, BY_ID[operation_id], headers={"Origin": origin})
                assert shape_of(reply) == (403, "AccessDenied", "")
                assert OPEN_ORIGIN not in reply.headers
        assert do(client, BY_ID["keys.list"], headers={"Origin": own}).status == 200
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        preflight = client.connection.call("OPTIONS", "/admin/v1/keys", headers=asked)
        assert preflight.status == 405
        assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_every_answer_is_for_its_asker_alone(place: Administered) -> None:
    with place.client() as client:
        replies = [client.do("keys.list"), client.do("keys.list", query="x=1"), client.do("keys.show", name=NOWHERE)]
        replies += [client.connection.get("/admin/v1/none"), client.connection.get("/admin/v1/keys", key="")]
    for reply in replies:
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-type"].startswith("application/json")
        assert "set-cookie" not in reply.headers


def test_a_cookie_proves_nothing(place: Administered) -> None:
    with place.client() as client:
        secret = client.connection.key
        reply = client.connection.get("/admin/v1/keys", {"Cookie": f"key={secret}; Authorization=Bearer {secret}"}, "")
        assert reply.status == 401


def test_only_json_is_read(place: Administered) -> None:
    with place.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""):
            reply = client.do("keys.create", b'{"name":"x"}', headers={"Content-Type": kind})
            assert shape_of(reply) == (415, "UnsupportedMediaType", "")
        packed = client.do("keys.create", {}, headers={"Content-Encoding": "gzip"})
        assert shape_of(packed) == (415, "UnsupportedMediaType", "")
        spelt = client.do("keys.create", {}, headers={"Content-Type": "Application/JSON; charset=utf-8"})
        assert spelt.status == 201


def test_a_body_has_an_end(place: Administered) -> None:
    with place.client() as client:
        big = client.do("keys.create", {"name": "x" * 70_000})
        assert shape_of(big) == (413, "RequestTooLarge", "")
        action = client.do("endpoints.stop", b" " * 2000)
        assert shape_of(action) == (413, "RequestTooLarge", "")


@pytest.mark.parametrize(
    "name", ["%00", "%0d%0aX-Evil:%201", "'%20OR%201=1--", "..", "%2e%2e%2fkeys", "%F0%9F%92%A9", "*"]
)
def test_what_is_no_id_is_not_found(place: Administered, name: str) -> None:
    with place.client() as client:
        for operation in OPERATIONS:
            if "{" in operation.path:
                reply = do(client, operation, name=name)
                assert reply.status == 404, (operation.id, reply.body)
                assert "x-evil" not in reply.headers


def test_secrets_are_shown_once_and_kept_nowhere(tmp_path: Path, log: io.StringIO) -> None:
    with administered(tmp_path, settings={"server": {"access_log": True}}) as place:
        with place.client() as client:
            secrets = [client.do("keys.create", {}).json()["secret"]]
            pair = client.do("access_keys.create", {"temporary": True, "expires_at": int(time.time()) + 60}).json()
            secrets += [pair["secret"], pair["session_token"]]
            later = [client.do(each.id).body for each in OPERATIONS if each.method == "GET"]
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in log.getvalue()
        assert secret.encode() not in kept
        assert not any(secret.encode() in body for body in later)
    assert orjson.loads(later[0])["items"]


def test_what_a_whole_account_may_use_is_its_hosts_to_say(place: Administered) -> None:
    body = {"scope": "account", "amounts": {"rpm": 5}}
    with place.client("owner") as client:
        assert client.do("limits.set", body).status == 403
        assert client.do("limits.remove", query="scope=account").status == 403
        assert client.do("limits.set", {**body, "scope": "project"}).status == 200
        assert client.do("limits.remove", query="scope=project").status == 200
    with place.client("operator") as client:
        assert client.do("limits.set", body).status == 200
        assert client.do("limits.remove", query="scope=account").status == 200


@pytest.mark.parametrize("operation_id", ["usage.calls", "audit.list"])
@pytest.mark.parametrize("key", [["abc", "x"], ["x"], [None], [1.5, "x"]])
def test_a_forged_cursor_is_told(place: Administered, operation_id: str, key: list[Any]) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps([operation_id, key])).decode().rstrip("=")
    with place.client("owner") as client:
        reply = client.do(operation_id, query=f"cursor={cursor}")
    assert reply.status == 400
    assert reply.json()["error"]["field"] == "cursor"
