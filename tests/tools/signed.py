"""Signed requests for the raw client: what the official SDKs send, and every way to spoil it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from arkway.signing import KeyPair, signed_headers
from arkway.testing import ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_ACCESS_KEY_ID, SESSION_SECRET, SESSION_TOKEN
from arkway.wire import json
from tests.tools.client import Connection, Reply

PAIR = KeyPair(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
SESSION_PAIR = KeyPair(SESSION_ACCESS_KEY_ID, SESSION_SECRET, session_token=SESSION_TOKEN)


def stamp(offset_s: int = 0) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + offset_s))


def headers(
    client: Connection,
    path: str,
    data: bytes,
    *,
    pair: KeyPair = PAIR,
    method: str = "POST",
    x_date: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Every header of a signed call but Content-Length."""
    return signed_headers(pair, method, f"http://{client.host}{path}", data, x_date or stamp(), extra)


def post(client: Connection, path: str, body: Any, **options: Any) -> Reply:
    """One signed call and its answer."""
    data = body if isinstance(body, bytes) else json.dumps(body)
    fields = headers(client, path, data, **options)
    client.send_raw("POST", path, {**fields, "Content-Length": str(len(data))}, data)
    return client.reply()


def error(reply: Reply) -> dict[str, Any]:
    """The error object of v1 and v2."""
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"code", "code_n", "message"}
    assert type(found["code_n"]) is int
    assert found["code_n"] != 0
    return found
