"""Calls without any SDK: what is sent and answered, byte for byte."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from arkway.signing import Head, sign
from arkway.testing import RunningServer
from arkway.wire import json

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 30


class Reply(msgspec.Struct, frozen=True):
    """``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.load_object(self.body)

    @property
    def error(self) -> tuple[int, str, int]:
        """Status, ``code`` and ``code_n`` of an error in the form of v1 and v2."""
        error = self.document["error"]
        assert type(error["code_n"]) is int
        assert error["message"]
        return self.status, error["code"], error["code_n"]


def x_date(ahead_s: float = 0) -> str:
    """The clock as signatures carry it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + ahead_s))


def host(server: RunningServer) -> str:
    return server.url.removeprefix("http://")


def signature(
    server: RunningServer,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    signed: list[str] | None = None,
    session: bool = False,
    region: str = "cn-beijing",
    service: str = "ml_maas",
) -> dict[str, str]:
    """The headers that sign a POST with the server's permanent key pair, or with its temporary one."""
    path, _, query = target.partition("?")
    fields = tuple((name.lower().encode(), value.encode()) for name, value in {"Host": host(server), **headers}.items())
    return sign(
        Head("POST", path, query, fields),
        body,
        access_key_id=server.session_access_key_id if session else server.access_key_id,
        secret=(server.session_secret if session else server.secret_access_key).encode(),
        region=region,
        service=service,
        x_date=x_date(),
        session_token=server.session_token if session else "",
        signed=signed,
    )


def post(server: RunningServer, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """One call; with ``Transfer-Encoding: chunked`` among the headers the body goes in two pieces."""
    connection = http.client.HTTPConnection(host(server), timeout=TIMEOUT_S)
    chunked = headers.get("Transfer-Encoding") == "chunked"
    pieces: bytes | Iterable[bytes] = filter(None, (body[:7], body[7:])) if chunked else body
    try:
        # Where the answer does not depend on the body, the server may close before it has read all of it.
        with suppress(ConnectionError):
            connection.request("POST", target, pieces, dict(headers), encode_chunked=chunked)
        reply = connection.getresponse()
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def ask(server: RunningServer, target: str, request: Any, **options: Any) -> Reply:
    """One signed call (`signature` has the options)."""
    body = json.dumps(request)
    return post(server, target, {**JSON, **signature(server, target, JSON, body, **options)}, body)


def frames(reply: Reply) -> list[str]:
    """What the frames of a v1 or v2 stream carry, the end mark left out; fails where one is not framed as it has to."""
    *lines, rest = reply.body.decode().split("\n\n")
    assert rest == ""
    kept = [line for line in lines if not line.startswith(":")]
    assert kept[-1] == "data:[DONE]"
    assert all(line.startswith("data:{") and "\n" not in line for line in kept[:-1])
    return [line.removeprefix("data:") for line in kept[:-1]]
