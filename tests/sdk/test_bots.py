"""What the official SDKs make of bots: ``bot_chat`` of Python, Go and Java, of now and of 2024. They are unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arkway.core.bot import Asker
from arkway.core.errors import BackendFailed
from arkway.core.events import Cited, Delta
from arkway.testing import CHAT_CARD, RunningServer, endpoint
from tests.sdk import foreign
from tests.sdk.conftest import Client, only
from tests.sdk.foreign import ForeignClient
from tests.sdk.scenes import BOT_ID, looks_up, play
from tests.wire.scripts import PAGE

pytestmark = pytest.mark.sdk

ASIDE = {"user_info": '{"city":"北京","district":"海淀区"}', "emit_intention_signal_extra": "true"}
USAGE = {"stream_options": {"include_usage": True}}
PYTHON = only("ark", "ark-2024")
WAYS = pytest.mark.parametrize("way", ["", "async_"], ids=["blocking", "asynchronous"])


@pytest.fixture
def bots(server: RunningServer) -> Iterator[RunningServer]:
    """The server, with a bot that has found something; other tests find it without one."""
    server.directory.show([endpoint(BOT_ID, CHAT_CARD.name)])
    play(server, looks_up)
    yield server
    server.directory.hide(BOT_ID)


@pytest.fixture(scope="module", params=["go-ark v3", "go-ark-2024 v3", "java-ark v3", "java-ark-2024 v3"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignClient]:
    """Every version of the SDKs of other languages in turn."""
    yield from foreign.clients(request, tmp_path_factory)


def titles(holder: dict[str, Any]) -> list[str]:
    """The sources that an answer or a chunk names; SDKs leave out what is empty, or have a null there."""
    return [entry.get("title") or entry["chunk_title"] for entry in holder.get("references") or []]


def text(chunks: list[dict[str, Any]]) -> str:
    """What the chunks say; Java's have a message."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join((choice.get("delta") or choice["message"]).get("content") or "" for choice in choices)


@PYTHON
@WAYS
def test_whole(client: Client, bots: RunningServer, way: str) -> None:
    answer = client.result(bots, f"{way}bot_chat", model=BOT_ID, metadata=ASIDE)

    assert answer["choices"][0]["message"]["content"] == "晴[1]。"
    assert answer["model"] == CHAT_CARD.served_name
    assert answer["references"][0]["publish_time"] == PAGE.publish_time
    assert answer["references"][0]["cover_image"] == {
        "url": "https://weather.example/cover.png",
        "width": 30,
        "height": 20,
    }
    assert titles(answer) == ["北京天气"]
    usage = answer["bot_usage"]
    assert [(use["name"], use["total_tokens"]) for use in usage["model_usage"]] == [("ep-1", 9), ("ep-intent", 6)]
    assert [(use["name"], use["search_count"]) for use in usage["action_usage"]] == [
        ("search_engine", 1),
        ("knowledge_base", 2),
    ]
    # As callers index it: the SDK has no type for it, and hands it on.
    assert usage["action_details"][0]["tool_details"][0]["output"]["data"]["data"]["results"][0]["url"] == PAGE.url
    assert bots.backend.requests[0].asker == Asker("北京", "海淀区")


@PYTHON
@WAYS
def test_stream(client: Client, bots: RunningServer, way: str) -> None:
    chunks = client.result(bots, f"{way}bot_stream", model=BOT_ID, metadata=ASIDE, **USAGE)

    assert text(chunks) == "晴[1]。"
    assert chunks[0]["metadata"] == {"intention": "正在搜索"}
    assert [titles(chunk) for chunk in chunks] == [[], ["北京天气", "天气"], [], ["北京天气"], []]
    assert [chunk["bot_usage"] is not None for chunk in chunks] == [False, False, False, False, True]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 15


@PYTHON
def test_unknown_bot(client: Client, bots: RunningServer) -> None:
    for operation in ("bot_chat", "bot_stream"):
        for asked in ("bot-20240701000000-nobdy", bots.endpoint_id):
            error = client.error(bots, operation, model=asked)
            assert (error["class"], error["status"]) == (client.error_class("NotFoundError"), 404)
    assert bots.backend.requests == []


@PYTHON
def test_a_stream_that_breaks_is_an_error(client: Client, bots: RunningServer) -> None:
    play(bots, lambda _: [Cited((PAGE,)), Delta("晴"), BackendFailed("the engine stopped while it was answering")])

    answer = client.ask(bots, "bot_stream", model=BOT_ID)

    assert text(answer["chunks"]) == "晴"
    assert answer["error"]["code"] == "InternalServiceError"


def test_a_bot_is_a_model_to_every_client(client: Client, bots: RunningServer) -> None:
    answer = client.result(bots, "chat", model=BOT_ID)
    chunks = client.result(bots, "stream", model=BOT_ID, **USAGE)

    assert answer["choices"][0]["message"]["content"] == text(chunks) == "晴[1]。"
    assert titles(answer) == ["北京天气"]
    assert [use["name"] for use in chunks[-1]["bot_usage"]["model_usage"]] == ["ep-1", "ep-intent"]


def test_whole_elsewhere(other: ForeignClient, bots: RunningServer) -> None:
    answer = other.result(bots, "bot_chat", endpoint_id=BOT_ID, metadata=ASIDE)

    assert other.text(answer) == "晴[1]。"
    assert titles(answer) == ["北京天气"]
    assert answer["references"][0]["url"] == PAGE.url
    usage = answer["bot_usage"]
    assert [(use["name"], use["total_tokens"]) for use in usage["model_usage"]] == [("ep-1", 9), ("ep-intent", 6)]
    assert [use["name"] for use in usage["action_usage"]] == ["search_engine", "knowledge_base"]
    assert bots.backend.requests[0].asker == Asker("北京", "海淀区")


def test_stream_elsewhere(other: ForeignClient, bots: RunningServer) -> None:
    chunks = other.result(bots, "bot_stream", endpoint_id=BOT_ID, stream=True, metadata=ASIDE, **USAGE)

    assert text(chunks) == "晴[1]。"
    assert chunks[0]["metadata"] == {"intention": "正在搜索"}
    assert [titles(chunk) for chunk in chunks] == [[], ["北京天气", "天气"], [], ["北京天气"], []]
    assert [use["name"] for use in chunks[-1]["bot_usage"]["model_usage"]] == ["ep-1", "ep-intent"]


def test_errors_elsewhere(other: ForeignClient, bots: RunningServer) -> None:
    error = other.error(bots, "bot_chat", endpoint_id="bot-20240701000000-nobdy")
    assert (error["status"], error["code"]) == (404, "InvalidEndpointOrModel.NotFound")

    play(bots, lambda _: [Cited((PAGE,)), Delta("晴"), BackendFailed("the engine stopped while it was answering")])
    answer = other.ask(bots, "bot_stream", endpoint_id=BOT_ID, stream=True)
    assert text(answer["chunks"]) == "晴"
    assert answer["error"]["code"] == "InternalServiceError"
