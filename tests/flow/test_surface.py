"""The one table of routes: who may come in, by which method, and what every answer carries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import pytest

from arkway.core.errors import MethodNotAllowed, NoCredentials, RouteNotFound, UnknownCredentials
from arkway.http.surface import ROUTES, Auth, Route
from arkway.testing import API_KEY, ENDPOINT_ID, RunningServer, running_server
from tests.tools.client import Connection, Reply
from tests.tools.wires import CLIENTS, LEGACY, STREAM_TYPE, WIRES, Wire

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND")
UNKNOWN = (
    "/api",
    "/api/v3",
    "/api/v3/",
    "/api/v3/chat",
    "/api/v3/chat/completions/",
    "//api/v3/chat/completions",
    "/api/v3/../v3/models",
    "/api/v3/%2e%2e/v3/models",
    "/api/v3/bots/bot-1/chat/completions",
    "/api/v3/bots/embeddings",
    "/API/V3/models",
    "/favicon.ico",
    "/api/v3/models%00",
    "/api/v3/models%0d%0aX-Evil:1",
    "/api/v3/models/ep-1",
    "/%ff%fe",
    "/*",
)
OPEN = {"/livez", "/readyz", "/metrics"}
UNKNOWN_LEGACY = (
    "/api/v1/",
    "/api/v1/chat/",
    "/api/v1//chat",
    "/api/v1/Chat",
    "/api/v1/images/quick-gen",
    "/api/v1/endpoint/ep-1/chat",
    "/api/v2/",
    "/api/v2/chat",
    "/api/v2/endpoint/chat",
    "/api/v2/endpoint//chat",
    "/api/v2/endpoint/ep-1/",
    "/api/v2/endpoint/ep-1/chat/completions",
    "/api/v2/endpoint/ep-1/images/quick-gen",
    "/api/v2/endpoint/ep-1/images/flex-gen",
    "/api/v2/endpoint/ep-1/audio/speech",
    "/api/v2/endpoint/ep-1%2F../chat",
    "/api/v2/bots/chat",
    "/api/v2/bots//chat",
    "/api/v2/bots/bot-1/embeddings",
    "/api/v2/endpoint/ep-1/chat%0d%0aX-Evil:1",
)
BY_NAME = {wire.name: wire for wire in WIRES}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def path_of(route: Route) -> str:
    return route.path.replace("{}", ENDPOINT_ID)


def is_v3(reply: Reply) -> bool:
    """v3 ends its messages with the request id and writes an empty ``param``; OpenAI writes null."""
    return f"Request id: {reply.headers['x-request-id']}" in reply.error()["message"]


def test_every_route_says_who_may_come_in() -> None:
    assert {route.path for route in ROUTES if route.auth == "none"} == OPEN
    assert all(route.auth in get_args(Auth) for route in ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert all(route.body_max_bytes > 0 for route in ROUTES if route.method == "POST")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_without_credentials_only_open_routes_answer(client: Connection, route: Route) -> None:
    reply = client.call(route.method, path_of(route), b"{" if route.method == "POST" else None, key="")
    if route.auth == "none":
        assert reply.status == 200
        return
    assert reply.status == 401
    if route.auth == "signature":
        assert reply.json()["ResponseMetadata"]["Error"]["Code"] == "MissingAuthenticationToken"
        return
    wire = BY_NAME[route.dialect]
    error = wire.error(reply)
    assert (reply.status, error["code"], error.get("code_n", 0)) == wire.told[NoCredentials]
    assert "Authorization: Bearer" in error["message"]
    assert ("HMAC-SHA256" in error["message"]) == (route.auth == "any")


@pytest.mark.parametrize("route", [r for r in ROUTES if r.auth in ("bearer", "any")], ids=lambda route: route.path)
def test_wrong_credentials_get_one_answer(client: Connection, route: Route) -> None:
    wire = BY_NAME[route.dialect]

    def refused(secret: str) -> tuple[int, str]:
        body = b"{}" if route.method == "POST" else None
        reply = client.call(route.method, path_of(route), body, {"Authorization": f"Bearer {secret}"})
        assert wire.error(reply)["code"] == wire.told[UnknownCredentials].code
        return reply.status, wire.error(reply)["message"].replace(reply.headers["x-request-id"], "<id>")

    answers = {refused(secret) for secret in (API_KEY[:-1], API_KEY + "x", API_KEY.upper(), "x", "é", "x" * 4000)}
    assert {status for status, _ in answers} == {401}
    assert len(answers) == 1


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("scheme", ["Basic", "bearerx", "HMAC-SHA256", "AWS4-HMAC-SHA256"])
def test_a_key_is_one_under_the_scheme_bearer_alone(client: Connection, scheme: str, wire: Wire) -> None:
    for stream in (True, False):
        path, body, headers = wire.chat(stream=stream)
        reply = client.post(path, body, {**headers, "Authorization": f"{scheme} {API_KEY}"})
        assert reply.status == 401
        assert API_KEY not in wire.error(reply, stream=stream)["message"]


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_a_key_without_a_scheme_is_not_repeated(client: Connection, wire: Wire) -> None:
    path, body, headers = wire.chat()
    reply = client.post(path, body, {**headers, "Authorization": API_KEY})
    assert reply.status == 401
    assert API_KEY not in reply.body.decode()


@pytest.mark.parametrize("wire", WIRES, ids=repr)
@pytest.mark.parametrize("value", [f"bearer {API_KEY}", f"BEARER {API_KEY}", f"Bearer   {API_KEY}  "])
def test_the_schemes_case_and_spaces_do_not_matter(client: Connection, value: str, wire: Wire) -> None:
    path, body, _ = wire.chat()
    assert client.post(path, body, {"Authorization": value}).status == 200


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_other_methods_are_405_and_say_which_would_do(client: Connection, path: str) -> None:
    allowed = {route.method for route in ROUTES if route.path == path}
    for method in METHODS:
        if method in allowed or (method == "HEAD" and "GET" in allowed):
            continue
        reply = client.call(method, path.replace("{}", "x"), key="")
        assert reply.status == 405
        assert set(reply.headers["allow"].split(", ")) == allowed
        if method != "HEAD" and path == "/":
            assert reply.json()["ResponseMetadata"]["Error"]["Code"] == "MethodNotAllowed"
        elif method != "HEAD":
            wire = BY_NAME[next(route.dialect for route in ROUTES if route.path == path)]
            assert wire.error(reply)["code"] == wire.told[MethodNotAllowed].code


def test_head_answers_as_get_without_a_body(client: Connection) -> None:
    reply = client.call("HEAD", "/livez", key="")
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("path", UNKNOWN)
def test_unknown_paths_are_404_in_json(client: Connection, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        reply = client.call(method, path, {} if method == "POST" else None)
        assert reply.status == 404
        assert reply.error()["code"] == "NotFound"
        assert is_v3(reply)
        assert "x-evil" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/", "/v1/completions", "/v1/models/", "/v1/models/a/b", "/v1//models"])
def test_unknown_paths_under_v1_are_404_in_openais_form(client: Connection, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 404
    assert reply.error()["code"] == "unknown_url"
    assert reply.error()["param"] is None


@pytest.mark.parametrize("path", UNKNOWN_LEGACY)
def test_unknown_operations_of_the_older_generations_say_so(client: Connection, path: str) -> None:
    wire = next(wire for wire in LEGACY if path.startswith(f"/api/{wire.name}/"))
    for method in ("GET", "POST", "DELETE"):
        for key in (API_KEY, ""):
            reply = client.call(method, path, {} if method == "POST" else None, key=key)
            error = wire.error(reply)
            assert (reply.status, error["code"], error["code_n"]) == wire.told[RouteNotFound]
            assert "x-evil" not in reply.headers


@pytest.mark.parametrize("wire", [wire for wire in CLIENTS if wire.route in ("v1", "v2")], ids=repr)
def test_a_certificate_is_an_operation_only_where_messages_are_encrypted(client: Connection, wire: Wire) -> None:
    reply = client.post(*wire.call("cert"))
    error = wire.error(reply)
    assert (reply.status, error["code"], error["code_n"]) == wire.told[RouteNotFound]
    with (
        running_server(settings={"surface": {"message_encryption": True}}) as server,
        Connection(server.url) as other,
    ):
        assert other.post(*wire.call("cert")).json()["cert"].startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_any_query_is_taken_and_says_nothing(client: Connection, wire: Wire) -> None:
    path, body, headers = wire.chat("天")
    for query in ("?", "?Action=chat&Version=2023-06-01", "?a=%ff&b&&=", "?stream=true"):
        assert wire.text_of(client.post(path + query, body, headers)) == "天"


def test_an_escaped_path_is_the_path(client: Connection) -> None:
    assert client.get("/api/v3/model%73").status == 200
    assert client.get("/api/v3/models?anything=%ff&x").status == 200


@pytest.mark.parametrize("host", ["x/public?", "x#", "a@b", "livez", "127.0.0.1/livez", "[::1", "\\", "xn--", "a, b"])
def test_the_host_header_opens_no_door(client: Connection, host: str) -> None:
    assert client.call("GET", "/api/v3/models", None, {"Host": host}, key="").status in (400, 401)
    assert client.call("GET", "/api/v3/models", None, {"Host": host}).status in (200, 400)


@pytest.mark.parametrize(
    "path",
    ["/api/v3/models", "/v1/models", "/livez", "/metrics", "/nowhere", "/api/v1/chat", "/api/v2/endpoint/ep-1/chat"],
)
def test_every_answer_carries_its_ids(client: Connection, path: str) -> None:
    reply = client.get(path, {"X-Client-Request-Id": "20240701080000abcdef"})
    assert re.fullmatch(r"02\d{13}[0-9a-f]{38}", reply.headers["x-request-id"])
    assert reply.headers["x-tt-logid"] == reply.headers["x-request-id"]
    assert reply.headers["x-client-request-id"] == "20240701080000abcdef"
    assert "server" not in reply.headers


@pytest.mark.parametrize("value", ["é", "a\tb", "x" * 257, ""])
def test_a_client_id_that_is_no_id_is_not_echoed(client: Connection, value: str) -> None:
    reply = client.get("/api/v3/models", {"X-Client-Request-Id": value})
    assert reply.status == 200
    assert "x-client-request-id" not in reply.headers


def test_request_ids_are_never_the_same(client: Connection) -> None:
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(200)}) == 200


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_streams_are_chunked_and_never_cached(client: Connection, wire: Wire) -> None:
    reply = client.post(*wire.chat(stream=True))
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.headers["content-type"] == STREAM_TYPE
    assert "no-store" in reply.headers["cache-control"]
    assert reply.headers["x-accel-buffering"] == "no"
    assert "content-length" not in reply.headers


def test_health_and_metrics_tell_the_truth(client: Connection) -> None:
    assert client.get("/livez").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ok", "troubles": []}
    for wire in CLIENTS:
        client.post(*wire.chat())
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    for wire in WIRES:
        labels = f'dialect="{wire.name}",model="scripted-chat-1",operation="chat",status="200"'
        assert f"arkway_requests_total{{{labels}}}".encode() in metrics.body
    assert API_KEY.encode() not in metrics.body
