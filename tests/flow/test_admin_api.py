"""The Admin API over a real database: every operation, every answer held against its own description."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from arkway.admin.limits import WHATS
from arkway.app.installation import Installation
from arkway.cli import group
from arkway.config import load
from arkway.core.audit import SERVER
from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.core.limit import Scope
from arkway.core.roles import PERMISSIONS
from arkway.http.admin import AdminForm
from arkway.http.admin.openapi import build, queries
from arkway.http.admin.shapes import Amounts, Rename
from arkway.http.admin.table import OPERATIONS, ROUTES
from arkway.http.surface import ROUTES as OTHER_ROUTES
from arkway.signing import KeyPair
from arkway.stores.schema import audit
from arkway.testing import CHAT_CARD, running_server
from tests.tools import signed
from tests.tools.administered import BY_ID, HOST, OTHER, SECOND, Administered, Client, administered
from tests.tools.client import Connection, Reply
from tests.tools.schemas import check

MODEL = CHAT_CARD.served_name
DOCUMENT = build()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Administered]:
    with administered(tmp_path) as made:
        yield made


@pytest.fixture
def client(place: Administered) -> Iterator[Client]:
    with place.client() as made:
        yield made


def answer(reply: Reply, operation_id: str) -> Any:
    """The JSON of a success, which is what the OpenAPI document says it is."""
    operation = BY_ID[operation_id]
    described = DOCUMENT["paths"][operation.full_path][operation.method.lower()]["responses"][str(reply.status)]
    assert reply.status == operation.status, reply.body
    document = reply.json()
    check(document, described["content"]["application/json"]["schema"], DOCUMENT["components"]["schemas"])
    return document


def failure(reply: Reply, status: int, code: str, field: str = "") -> str:
    """The message of a failure."""
    error = reply.json()["error"]
    assert (reply.status, error["code"], error["field"]) == (status, code, field), reply.body
    assert set(error) == {"code", "message", "field", "request_id"}
    assert error["request_id"] == reply.headers["x-request-id"]
    message: str = error["message"]
    return message


# Each once, well


def _account(client: Client) -> None:
    made = answer(client.do("accounts.create", {"id": "new", "name": "New"}), "accounts.create")
    assert made == {"id": "new", "name": "New", "status": "active", "created_at": made["created_at"]}
    assert answer(client.do("accounts.show", name="new"), "accounts.show") == made
    assert made in answer(client.do("accounts.list"), "accounts.list")["items"]
    assert answer(client.do("accounts.suspend", name="new"), "accounts.suspend")["status"] == "suspended"
    assert answer(client.do("accounts.resume", name="new"), "accounts.resume") == made
    renamed = answer(client.do("accounts.rename", {"name": "Newer"}, name="new"), "accounts.rename")
    assert renamed == {**made, "name": "Newer"} == client.do("accounts.show", name="new").json()
    assert answer(client.do("accounts.create", {}), "accounts.create")["id"].startswith("acc-")


def _project(client: Client) -> None:
    made = answer(client.do("projects.create", {"id": "third"}), "projects.create")
    assert (made["account"], made["id"], made["name"]) == (HOST, "third", "third")
    assert answer(client.do("projects.show", name="third"), "projects.show") == made
    assert made in answer(client.do("projects.list"), "projects.list")["items"]
    renamed = answer(client.do("projects.rename", {"name": "Third"}, name="third"), "projects.rename")
    assert renamed == {**made, "name": "Third"} == client.do("projects.show", name="third").json()
    assert answer(client.do("projects.delete", name="third"), "projects.delete") == {"removed": 1}
    assert client.do("projects.show", name="third").status == 404


def _key(client: Client) -> None:
    expires_at = int(time.time()) + 3600
    body = {"name": "console", "role": "viewer", "expires_at": expires_at}
    made = answer(client.do("keys.create", body), "keys.create")
    assert (made["role"], made["expires_at"], made["secret"][-4:]) == ("viewer", expires_at, made["last4"])
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert answer(client.do("keys.show", name=made["id"]), "keys.show") == shown
    assert shown in answer(client.do("keys.list"), "keys.list")["items"]
    assert client.connection.call("GET", "/admin/v1/keys", key=made["secret"]).status == 200
    raised = answer(client.do("keys.update", {"role": "developer"}, name=made["id"]), "keys.update")
    assert raised == {**shown, "role": "developer", "last_used_at": raised["last_used_at"]}
    endless = answer(client.do("keys.update", {"expires_at": None}, name=made["id"]), "keys.update")
    assert endless == {**raised, "expires_at": None, "last_used_at": endless["last_used_at"]}
    assert answer(client.do("keys.update", {}, name=made["id"]), "keys.update")["role"] == "developer"
    revoked = answer(client.do("keys.revoke", name=made["id"]), "keys.revoke")
    assert revoked["status"] == "revoked"
    assert answer(client.do("keys.revoke", name=made["id"]), "keys.revoke")["revoked_at"] == revoked["revoked_at"]
    assert client.connection.call("GET", "/admin/v1/keys", key=made["secret"]).status == 401


def _access_key(client: Client) -> None:
    made = answer(client.do("access_keys.create", {"name": "go"}), "access_keys.create")
    assert made["session_token"] is None
    shown = {name: value for name, value in made.items() if name not in ("secret", "session_token")}
    assert answer(client.do("access_keys.show", name=made["id"]), "access_keys.show") == shown
    assert shown in answer(client.do("access_keys.list"), "access_keys.list")["items"]
    change = {"role": "developer", "expires_at": int(time.time()) + 60}
    changed = answer(client.do("access_keys.update", change, name=made["id"]), "access_keys.update")
    assert changed == {**shown, **change}
    assert answer(client.do("access_keys.revoke", name=made["id"]), "access_keys.revoke")["status"] == "revoked"
    body = {"temporary": True, "expires_at": int(time.time()) + 60}
    brief = answer(client.do("access_keys.create", body), "access_keys.create")
    assert brief["session_token"].startswith("STS2")
    failure(
        client.do("access_keys.update", {"expires_at": None}, name=brief["id"]), 400, "InvalidParameter", "expires_at"
    )


def _endpoint(client: Client) -> None:
    body = {"name": "blue", "model_name": CHAT_CARD.name, "tags": [{"key": "team", "value": "a"}]}
    made = answer(client.do("endpoints.create", body), "endpoints.create")
    assert (made["status"], made["tags"], made["model_version"]) == ("running", body["tags"], "")
    ours = {"name": made["id"]}
    assert answer(client.do("endpoints.show", **ours), "endpoints.show") == made
    assert made in answer(client.do("endpoints.list"), "endpoints.list")["items"]
    changed = answer(client.do("endpoints.update", {"description": "blau", "tags": []}, **ours), "endpoints.update")
    assert {**changed, "updated_at": 0} == {**made, "description": "blau", "tags": [], "updated_at": 0}
    pinned = answer(client.do("endpoints.update", {"model_version": "1"}, **ours), "endpoints.update")
    assert (pinned["model_name"], pinned["model_version"]) == (CHAT_CARD.name, "1")
    assert answer(client.do("endpoints.stop", **ours), "endpoints.stop")["status"] == "stopped"
    assert answer(client.do("endpoints.start", **ours), "endpoints.start")["status"] == "running"
    assert answer(client.do("endpoints.delete", **ours), "endpoints.delete") == {"removed": 1}
    assert client.do("endpoints.show", **ours).status == 404


def _bot(client: Client) -> None:
    endpoint = client.do("endpoints.create", {"name": "behind", "model_name": CHAT_CARD.name}).json()["id"]
    actions = [{"kind": "knowledge", "collections": [f"of-{HOST}"], "limit": 8}, {"kind": "web_search"}]
    body = {"name": "小助", "endpoint_id": endpoint, "prompt": "Answer.", "actions": actions, "citation": "cited"}
    made = answer(client.do("bots.create", body), "bots.create")
    assert {name: made[name] for name in body if name != "actions"} == {n: v for n, v in body.items() if n != "actions"}
    assert [each["limit"] for each in made["actions"]] == [8, 5]
    assert (made["status"], made["intent"], made["context_share"]) == ("running", "auto", 0.4)
    ours = {"name": made["id"]}
    assert answer(client.do("bots.show", **ours), "bots.show") == made
    assert made in answer(client.do("bots.list"), "bots.list")["items"]
    changed = answer(client.do("bots.update", {"actions": [], "lexicon": ["股价"]}, **ours), "bots.update")
    assert {**changed, "updated_at": 0} == {**made, "actions": [], "lexicon": ["股价"], "updated_at": 0}
    assert answer(client.do("bots.update", {}, **ours), "bots.update") == changed
    assert answer(client.do("bots.stop", **ours), "bots.stop")["status"] == "stopped"
    assert answer(client.do("bots.start", **ours), "bots.start")["status"] == "running"
    assert answer(client.do("bots.delete", **ours), "bots.delete") == {"removed": 1}
    assert client.do("bots.show", **ours).status == 404


def _limit(client: Client) -> None:
    body = {"scope": "project", "amounts": {"rpm": 60, "tokens-per-day": 1000}, "shadow": True}
    made = answer(client.do("limits.set", body), "limits.set")["items"]
    assert {(limit["kind"], limit["period"], limit["amount"]) for limit in made} == {
        ("rpm", "", 60),
        ("tokens", "day", 1000),
    }
    listed = answer(client.do("limits.list"), "limits.list")["items"]
    assert all(limit in listed for limit in made)
    removed = client.do("limits.remove", query="scope=project&name=rpm")
    assert answer(removed, "limits.remove") == {"removed": 1}
    assert answer(client.do("limits.remove", query="scope=project"), "limits.remove") == {"removed": 1}


def _catalogue(client: Client) -> None:
    names = [model["served_name"] for model in answer(client.do("models.list"), "models.list")["items"]]
    assert names == [MODEL, "scripted-embeddings-1"]
    made = answer(client.do("aliases.set", {"name": "Doubao/Pro", "model_name": CHAT_CARD.name}), "aliases.set")
    assert made["name"] == "doubao/pro"
    assert answer(client.do("aliases.list"), "aliases.list")["items"] == [made]
    assert answer(client.do("aliases.remove", query="name=doubao/pro"), "aliases.remove") == {"removed": 1}
    price = {"model": MODEL, "prompt": 0.8, "completion": 2, "effective_at": 60, "currency": "USD"}
    kept = answer(client.do("prices.set", price), "prices.set")
    assert kept == {**price, "cached": None, "reasoning": None}
    soon = answer(client.do("prices.set", {"model": MODEL, "prompt": 1, "completion": 2}), "prices.set")
    assert 0 <= soon["effective_at"] - time.time() + 60 <= 121
    assert answer(client.do("prices.list", query=f"model={MODEL}"), "prices.list")["items"] == [kept, soon]
    assert answer(client.do("prices.list", query="model=other"), "prices.list")["items"] == []
    removed = client.do("prices.remove", query=f"model={MODEL}&effective_at=60")
    assert answer(removed, "prices.remove") == {"removed": 1}
    assert answer(client.do("prices.remove", query=f"model={MODEL}"), "prices.remove") == {"removed": 1}


def _records(client: Client) -> None:
    calls = answer(client.do("usage.calls"), "usage.calls")["items"]
    assert [call["attempt_id"] for call in calls] == [f"default-attempt-{number}" for number in (5, 4, 3, 2, 1, 0)]
    client.do("prices.set", {"model": MODEL, "prompt": 10, "completion": 100, "effective_at": 0})
    query = "by=model&by=caller&cost=true"
    (total,) = answer(client.do("usage.sums", query=query), "usage.sums")["items"]
    assert total["group"] == {"model": MODEL, "caller": "anna"}
    assert (total["calls"], total["total_tokens"], total["unpriced_tokens"]) == (6, 660, 0)
    assert [(cost["currency"], float(cost["amount"])) for cost in total["cost"]] == [("CNY", 0.012)]
    newest = answer(client.do("audit.list", query="limit=1"), "audit.list")["items"][0]
    assert (newest["action"], newest["target"], newest["detail"]["prompt"]) == ("prices.set", MODEL, 10)
    assert answer(client.do("status.show"), "status.show")["gauges"] == {"ledger_lag_bytes": 0}
    assert answer(client.do("openapi.show"), "openapi.show") == msgspec.json.decode(msgspec.json.encode(DOCUMENT))


def _upstream(client: Client) -> None:
    made = answer(
        client.do("upstreams.create", {"name": "vllm", "base_url": "http://127.0.0.1:9/v1"}), "upstreams.create"
    )
    assert (made["name"], made["auth"], made["kind"]) == ("vllm", "none", "openai")
    changed = answer(client.do("upstreams.update", {"idle_s": 5}, name="vllm"), "upstreams.update")
    assert answer(client.do("upstreams.show", name="vllm"), "upstreams.show") == changed
    assert changed in answer(client.do("upstreams.list"), "upstreams.list")["items"]
    body = {"model": "of-others", "members": [{"upstream": "vllm", "model": "m"}]}
    group = answer(client.do("groups.set", body), "groups.set")
    assert group in answer(client.do("groups.list"), "groups.list")["items"]
    assert answer(client.do("groups.remove", query="model=of-others"), "groups.remove") == {"removed": 1}
    assert answer(client.do("upstreams.remove", name="vllm"), "upstreams.remove") == {"removed": 1}


def _knowledge(client: Client) -> None:
    made = answer(client.do("collections.create", {"name": "手册", "description": "of pumps"}), "collections.create")
    ours = {"name": made["id"]}
    assert (made["name"], made["kind"], made["documents"], made["vector_weight"]) == ("手册", "documents", 0, 0.0)
    failure(client.do("collections.create", {"name": "手册"}), 409, "Conflict")
    assert answer(client.do("collections.show", **ours), "collections.show") == made
    assert answer(client.do("collections.show", name="%E6%89%8B%E5%86%8C"), "collections.show") == made
    assert made in answer(client.do("collections.list"), "collections.list")["items"]
    changed = answer(client.do("collections.update", {"description": "of valves"}, **ours), "collections.update")
    assert {**changed, "updated_at": 0} == {**made, "description": "of valves", "updated_at": 0}
    assert answer(client.do("collections.update", {}, **ours), "collections.update") == changed
    named = {"X-File-Name": "%E6%8C%87%E5%8D%97.md", "Content-Type": "text/markdown"}
    job = answer(client.do("documents.upload", b"# A\n", headers=named, **ours), "documents.upload")
    assert (job["file_name"], job["source"], job["state"], job["size_bytes"]) == ("指南.md", "指南.md", "waiting", 4)
    assert answer(client.do("jobs.show", name=job["id"]), "jobs.show") == job
    assert answer(client.do("jobs.list", **ours), "jobs.list")["items"] == [job]
    over = answer(client.do("jobs.cancel", name=job["id"]), "jobs.cancel")
    assert (over["state"], over["error"]) == ("failed", "it was called off")
    assert answer(client.do("collections.delete", **ours), "collections.delete") == {"removed": 1}
    assert client.do("collections.show", **ours).status == 404


def _document(client: Client) -> None:
    """The one that is there."""
    (document,) = answer(client.do("documents.list"), "documents.list")["items"]
    assert answer(client.do("documents.show"), "documents.show") == document
    (chunk,) = answer(client.do("documents.chunks"), "documents.chunks")["items"]
    assert answer(client.do("chunks.show"), "chunks.show") == chunk
    (found,) = answer(client.do("collections.search", {"query": "Who knows?"}), "collections.search")["items"]
    assert (found["chunk"], found["document"]) == (chunk, document)
    assert answer(client.do("collections.reindex"), "collections.reindex") == {"chunks": 1}
    assert answer(client.do("documents.delete"), "documents.delete") == {"removed": 1}
    assert answer(client.do("collections.search", {"query": "Who knows?"}), "collections.search")["items"] == []
    assert client.do("documents.show").status == 404


STORIES: dict[str, Callable[[Client], None]] = {
    "accounts": _account,
    "projects": _project,
    "keys": _key,
    "access_keys": _access_key,
    "endpoints": _endpoint,
    "bots": _bot,
    "knowledge": _knowledge,
    "documents": _document,
    "limits": _limit,
    "models": _catalogue,
    "usage": _records,
    "upstreams": _upstream,
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_everything_once(client: Client, story: Callable[[Client], None]) -> None:
    story(client)
    assert client.do("status.show").status == 200


def test_everything_once_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    with administered(tmp_path, postgres_url) as place, place.client() as client:
        for story in STORIES.values():
            story(client)
        odd = {"scope": "key", "subject": "a\u0000b", "amounts": {"rpm": 1}}
        failure(client.do("limits.set", odd), 400, "InvalidParameter", "subject")


def test_every_operation_is_in_a_story() -> None:
    told = {name for story in STORIES.values() for name in story.__code__.co_consts if isinstance(name, str)}
    assert {operation.id for operation in OPERATIONS} <= told


def test_a_signature_for_the_control_planes_service_is_as_good_as_a_key(place: Administered) -> None:
    for service, status in (("ark", 200), ("ml_maas", 401)):
        with Connection(place.server.url) as connection:
            pair = KeyPair(place.pair.info.id, place.pair.secret, service=service)
            fields = signed.headers(connection, "/admin/v1/keys", b"", pair=pair, method="GET")
            connection.send_raw("GET", "/admin/v1/keys", fields)
            reply = connection.reply()
        assert reply.status == status, reply.body
    with Connection(place.server.url) as connection:
        pair = KeyPair(place.pair.info.id, place.pair.secret, service="ark")
        made = signed.post(connection, "/admin/v1/keys", {"name": "by signature"}, pair=pair)
        assert (made.status, made.json()["account"]) == (201, OTHER)


# Each kind of failure


def test_what_is_wrong_with_a_body_is_said_of_its_field(client: Client) -> None:
    def told(body: Any) -> tuple[str, str]:
        reply = client.do("keys.create", body)
        error = reply.json()["error"]
        assert reply.status == 400
        return error["field"], error["message"]

    assert told({"nam": "x"}) == ("nam", "There is no field `nam`; did you mean `name`?")
    assert told({"name": 1}) == ("name", "`name`: expected `str`, got `int`.")
    assert told({"name": None})[0] == "name"
    assert told({"name": "a\u0007"})[0] == "name"
    assert told({"role": "king"}) == (
        "role",
        "`role`: has to be one of developer, inference, operator, owner, viewer.",
    )
    assert told({"endpoints": ["ep-1"]}) == ("endpoints[0]", "The project has no endpoint or bot `ep-1`.")
    assert told({"expires_at": 1})[0] == "expires_at"
    assert told([]) == ("", "The body must be a JSON object.")
    assert told(b'{"name":')[1].startswith("The body is not valid JSON")
    assert told(b'{"name": NaN}')[1].startswith("The body is not valid JSON")
    assert told(b"[" * 100)[1].startswith("The JSON text is nested deeper")
    nested = client.do("endpoints.create", {"name": "x", "model_name": CHAT_CARD.name, "tags": [{"kee": "a"}]})
    assert failure(nested, 400, "InvalidParameter", "tags[0].kee").endswith("did you mean `key`?")
    missing = client.do("endpoints.create", {"name": "x"})
    assert failure(missing, 400, "MissingParameter", "model_name") == "The field `model_name` is required."


def test_what_is_wrong_with_a_query_is_said_of_its_field(client: Client) -> None:
    listed = {
        "acount=acme": ("acount", "The query has no field `acount`; did you mean `account`?"),
        "limit=0": ("limit", "`limit`: expected `int` >= 1."),
        "limit=many": ("limit", "`limit`: expected `int`, got `str`."),
        "limit=1&limit=2": ("limit", "`limit` is given 2 times; give it once."),
        "cursor=AAAA": ("cursor", "The cursor is not one that this list has given; begin without one."),
        "cursor=%FF": ("", "The query is not of at most 200 fields in UTF-8."),
        "account=%00": ("account", "A query has printable characters only."),
    }
    for query, (field, message) in listed.items():
        assert failure(client.do("keys.list", query=query), 400, "InvalidParameter", field) == message
    assert failure(client.do("prices.remove"), 400, "MissingParameter", "model") == "The field `model` is required."
    wrong = client.do("usage.sums", query="by=week")
    assert "has to be one of" in failure(wrong, 400, "InvalidParameter", "by[0]")
    both = client.do("usage.sums", query="by=day&by=hour")
    assert "one of hour, day and month" in failure(both, 400, "InvalidParameter", "by")


def test_what_is_there_already_is_a_conflict(client: Client) -> None:
    failure(client.do("accounts.create", {"id": OTHER}), 409, "Conflict")
    failure(client.do("projects.create", {"id": SECOND}), 409, "Conflict")
    failure(client.do("projects.create", {"id": "x", "name": SECOND}), 409, "Conflict")
    failure(client.do("projects.rename", {"name": f"of-{HOST}"}, name=SECOND), 409, "Conflict")
    assert client.do("projects.rename", {"name": SECOND}, name=SECOND).status == 200
    failure(client.do("projects.rename", {"name": "\n"}, name=SECOND), 400, "InvalidParameter", "name")
    for kind in ("keys", "access_keys"):
        client.do(f"{kind}.revoke")
        assert "in use" in failure(client.do(f"{kind}.update", {"role": "viewer"}), 409, "Conflict")
    assert "is not empty" in _filled(client)
    assert "keeps its project" in failure(client.do("projects.delete", name="default"), 409, "Conflict")
    assert "cannot be suspended" in failure(client.do("accounts.suspend", name=HOST), 409, "Conflict")


def _filled(client: Client) -> str:
    answer(client.do("keys.create", {}, query=f"project={SECOND}"), "keys.create")
    return failure(client.do("projects.delete", name=SECOND), 409, "Conflict")


def test_what_is_not_there_is_not_found(client: Client) -> None:
    for operation in OPERATIONS:
        if "{" in operation.path:
            message = failure(client.do(operation.id, _smallest(operation.id), name="none"), 404, "NotFound")
            assert message.endswith("`none` does not exist or you do not have access to it.")
    failure(client.do("aliases.remove", query="name=none"), 404, "NotFound")
    failure(client.do("prices.remove", query="model=none"), 404, "NotFound")
    failure(client.do("limits.remove", query="scope=project"), 404, "NotFound")
    failure(client.connection.get("/admin/v1/none"), 404, "RouteNotFound")


def _smallest(operation_id: str) -> Any:
    body = BY_ID[operation_id].body
    if operation_id == "collections.search":
        return {"query": "anything"}
    return None if body is None else {"name": "new"} if body is Rename else {}


def test_a_limit_is_of_something_that_the_project_has(client: Client) -> None:
    wrong: list[tuple[Scope, str]] = [("endpoint", "ep-none"), ("endpoint", ""), ("project", "default"), ("key", "")]
    for scope, subject in wrong:
        body = {"scope": scope, "subject": subject, "amounts": {"rpm": 1}}
        failure(client.do("limits.set", body), 400, "InvalidParameter", "subject")
    fraction = {"scope": "project", "amounts": {"concurrency": 1.5}}
    failure(client.do("limits.set", fraction), 400, "InvalidParameter", "concurrency")
    failure(client.do("limits.set", {"scope": "project", "amounts": {}}), 400, "InvalidParameter", "amounts")


def test_an_endpoint_needs_a_model_that_is_installed(client: Client) -> None:
    body = {"name": "x", "model_name": "gpt"}
    failure(client.do("endpoints.create", body), 400, "InvalidParameter", "model_name")
    failure(client.do("endpoints.update", {"model_version": "9"}), 400, "InvalidParameter", "model_name")


def test_other_methods_are_told_which_there_are(client: Client) -> None:
    reply = client.connection.call("DELETE", "/admin/v1/keys")
    failure(reply, 405, "MethodNotAllowed")
    assert set(reply.headers["allow"].split(", ")) == {"GET", "POST"}


def test_an_action_takes_no_fields(client: Client) -> None:
    failure(client.do("endpoints.stop", {"force": True}), 400, "InvalidParameter")
    assert client.do("endpoints.stop", {}).status == 200


class _Away:
    """Commands whose database is away, or whose key ring is lost."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: object) -> Any:
        raise self._error


def test_what_is_ours_to_mend_is_503_and_a_defect_is_500(place: Administered) -> None:
    cases = (
        (StoreUnavailable("the database does not answer"), 503, "ServiceUnavailable"),
        (Misconfigured("the key ring is lost"), 503, "Misconfigured"),
        (RuntimeError("a secret detail"), 500, "InternalError"),
    )
    for error, status, code in cases:
        commands = msgspec.structs.replace(place.commands, aliases=_Away(error))
        keys = {"operator-key": place.server_caller()}
        with running_server(admin=commands, keys=keys) as server, Connection(server.url, "operator-key") as connection:
            assert "secret detail" not in failure(connection.get("/admin/v1/aliases"), status, code)


# Pages


def test_pages_neither_repeat_nor_leave_out(client: Client) -> None:
    for number in range(7):
        answer(client.do("keys.create", {"name": f"key {number}"}), "keys.create")
    whole = [key["id"] for key in client.do("keys.list").json()["items"]]
    paged, cursor, turns = list[str](), "", 0
    while True:
        page = answer(client.do("keys.list", query=f"limit=3&cursor={cursor}"), "keys.list")
        paged += [key["id"] for key in page["items"]]
        turns += 1
        if turns == 1:
            answer(client.do("keys.create", {"name": "between"}), "keys.create")
        cursor = page["next_cursor"] or ""
        if not cursor:
            break
    assert [key for key in paged if key in whole] == whole
    # The one that was made meanwhile may be on a page that was shown already.
    assert len(whole) <= len(paged) == len(set(paged)) <= len(whole) + 1


@pytest.mark.parametrize("operation_id", ["usage.calls", "audit.list"])
def test_what_comes_newest_first_is_paged_too(client: Client, operation_id: str) -> None:
    """Five of the calls were opened in the same millisecond."""
    name = "attempt_id" if operation_id == "usage.calls" else "id"
    whole = [item[name] for item in answer(client.do(operation_id), operation_id)["items"]]
    paged, cursor = list[str](), ""
    while True:
        page = answer(client.do(operation_id, query=f"limit=2&cursor={cursor}"), operation_id)
        assert len(page["items"]) <= 2
        paged += [item[name] for item in page["items"]]
        cursor = page["next_cursor"] or ""
        if not cursor:
            break
    assert paged == whole
    assert len(whole) >= 6


def test_the_log_is_paged_to_its_beginning(place: Administered, client: Client) -> None:
    """However many entries there are, also of one millisecond."""
    row = {"actor": "cli:anna", "action": "keys.create", "target": "key-1", "detail": {}, "request_id": ""}
    then_ms = int(time.time() * 1000) - 3_600_000
    rows = [
        {**row, "id": f"audit-{number:08d}", "at_ms": then_ms + number // 700, "account": HOST, "project": "default"}
        for number in range(10_500)
    ]
    place.store.run_sync(lambda connection: connection.execute(audit.insert(), rows))
    paged, cursor = list[str](), ""
    while True:
        page = client.do("audit.list", query=f"actor=cli:anna&limit=1000&cursor={cursor}").json()
        paged += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"] or ""
        if not cursor:
            break
    assert paged == [row["id"] for row in reversed(rows)]


def test_a_cursor_belongs_to_its_list(client: Client) -> None:
    cursor = client.do("audit.list", query="limit=1").json()["next_cursor"]
    failure(client.do("usage.calls", query=f"cursor={cursor}"), 400, "InvalidParameter", "cursor")


# On record


def test_every_change_is_on_record_with_its_request(place: Administered, client: Client) -> None:
    made = client.do("keys.create", {"name": "n"})
    newest = client.do("audit.list", query="limit=1").json()["items"][0]
    operator = next(key for key in client.do("keys.list").json()["items"] if key["name"] == "operator")
    assert (newest["action"], newest["actor"], newest["target"]) == ("keys.create", operator["id"], made.json()["id"])
    assert newest["request_id"] == made.headers["x-request-id"]
    assert made.json()["secret"] not in orjson.dumps(newest).decode()


def test_every_operation_that_changes_anything_leaves_an_entry_of_its_permission(client: Client) -> None:
    for story in STORIES.values():
        story(client)
    entries = client.do("audit.list", query="account=*&limit=1000").json()["items"]
    acted = {entry["action"] for entry in entries if entry["request_id"]}
    changing = {operation.permission for operation in OPERATIONS if operation.method != "GET"}
    changing -= {"collections.search"}  # a question is too long for a path, and changes nothing
    assert acted == changing


def test_usage_and_the_log_of_everything(client: Client) -> None:
    groups = client.do("usage.sums", query="by=account&account=*").json()["items"]
    assert [total["group"]["account"] for total in groups] == [OTHER, HOST]
    accounts = {entry["account"] for entry in client.do("audit.list", query="account=*").json()["items"]}
    assert accounts == {HOST, OTHER}
    one = client.do("usage.sums", query=f"account={OTHER}&project=*&by=project").json()["items"]
    assert [total["group"] for total in one] == [{"project": "default"}]


# The description


def test_the_table_holds_together() -> None:
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert {operation.permission for operation in OPERATIONS} <= set(PERMISSIONS)
    assert not {route.path for route in ROUTES} & {route.path for route in OTHER_ROUTES}
    assert all(route.auth == "control" and route.dialect == AdminForm.name for route in ROUTES)
    for operation in OPERATIONS:
        names = [name for shape in queries(operation) for name in shape.__struct_encode_fields__]
        assert len(names) == len(set(names)), operation.id


def test_limits_have_the_names_that_people_use() -> None:
    assert Amounts.__struct_encode_fields__ == tuple(WHATS)


def test_the_description_is_whole() -> None:
    described = {entry["operationId"] for path in DOCUMENT["paths"].values() for entry in path.values()}
    assert described == {operation.id for operation in OPERATIONS}
    text = msgspec.json.encode(DOCUMENT).decode()
    for reference in {part.partition('"')[0] for part in text.split('"$ref":"#/')[1:]}:
        place: Any = DOCUMENT
        for step in reference.split("/"):
            place = place[step]


def test_the_command_line_prints_it_too() -> None:
    for arguments in (["--json"], []):
        printed = CliRunner().invoke(group, ["admin", "openapi", *arguments])
        assert orjson.loads(printed.stdout) == orjson.loads(msgspec.json.encode(DOCUMENT))


def test_an_installation_has_it_unless_it_is_turned_off(tmp_path: Path) -> None:
    for enabled in (True, False):
        overrides = {"home": str(tmp_path), "engine": {"preload": False}, "admin": {"enabled": enabled}}
        installation = Installation(load(environ={}, overrides=overrides))
        try:
            admin = installation.parts().admin
            assert (admin is not None) is enabled
            if admin is not None:
                assert admin.status().ready
                assert {model.name for model in admin.models()} <= {"use-multilingual"}
                assert [key.name for key in admin.keys(HOST, "default", SERVER).list()] == ["first"]
        finally:
            installation.close()


def test_without_it_there_is_no_such_route() -> None:
    with running_server() as server, Connection(server.url) as connection:
        failure(connection.get("/admin/v1/keys"), 404, "RouteNotFound")


# Uploads


def test_an_upload_has_a_name_and_a_type_that_is_taken(client: Client) -> None:
    failure(client.do("documents.upload", b"text"), 400, "MissingParameter", "file_name")
    wrong = client.do("documents.upload", b"MZ", query="file_name=a.exe")
    assert ".docx" in failure(wrong, 400, "InvalidParameter", "file")
    failure(client.do("documents.upload", b"", query="file_name=a.md"), 400, "InvalidParameter", "file")
    failure(
        client.do("documents.upload", b"x", headers={"X-File-Name": "%ff.md"}), 400, "InvalidParameter", "file_name"
    )


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(client: Client, place: Administered) -> None:
    operation = BY_ID["documents.upload"]
    path = operation.full_path.replace("{collection}", place.things[HOST]["collection"])
    fields = {
        "Host": client.connection.host,
        "Authorization": f"Bearer {client.connection.key}",
        "Content-Length": str(operation.upload_max_bytes + 1),
        "Expect": "100-continue",
    }
    client.connection.send_raw("POST", f"{path}?file_name=a.md", fields)
    message = failure(client.connection.reply("POST"), 413, "RequestTooLarge")
    assert str(100 * 1024 * 1024) in message
