"""The JSON that the documentation shows is the JSON that a server sends."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from arkway.testing import CHAT_CARD, RunningServer, running_server
from arkway.wire import json
from scripts.generate_docs import ROOT
from tests.docs.markdown import blocks_of

REQUEST_ID = re.compile(r"\b02[0-9a-f…]*")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as running:
        yield running


def examples(page: str) -> list[dict[str, Any]]:
    """Every JSON block of a page, read."""
    return [json.load_object(b.text.encode()) for b in blocks_of(ROOT / "docs" / page) if b.language == "json"]


def answer(server: RunningServer, path: str, **fields: Any) -> dict[str, Any]:
    """What the server says to a chat request, whatever the status."""
    names = {"/v1": CHAT_CARD.name, "/api/v3": server.endpoint_id}
    body = {"model": names[path], "messages": [{"role": "user", "content": "你好"}], **fields}
    request = urllib.request.Request(
        f"{server.url}{path}/chat/completions",
        data=json.dumps(body),
        headers={"Authorization": f"Bearer {server.api_key}"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load_object(response.read())
    except urllib.error.HTTPError as error:
        return json.load_object(error.read())


def shape_of(value: Any) -> Any:
    """A value with its keys and types only."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape_of(item) for item in value[:1]]
    return type(value)


@pytest.mark.parametrize(("place", "path"), [(0, "/api/v3"), (1, "/v1")])
def test_the_errors_page_shows_real_errors(place: int, path: str, server: RunningServer) -> None:
    shown = json.dumps(examples("errors.md")[place]).decode()
    sent = json.dumps(answer(server, path, temperature=3)).decode()
    assert REQUEST_ID.sub("<id>", shown) == REQUEST_ID.sub("<id>", sent)


@pytest.mark.parametrize("path", ["/api/v3", "/v1"])
def test_the_api_page_shows_a_real_answer(path: str, server: RunningServer) -> None:
    assert [shape_of(shown) for shown in examples("api.md")] == [shape_of(answer(server, path))]
