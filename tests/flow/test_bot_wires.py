"""Bots over real sockets, on their three wires: a backend that pushes what bots push, and what each caller reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from arkway.core.bot import Asker
from arkway.core.caller import Call, Caller
from arkway.core.chat import ChatRequest
from arkway.core.errors import ArkwayError, BackendFailed
from arkway.core.events import Cited, Delta, Event, Intention, Quoted
from arkway.core.model import Deployment
from arkway.ports import Running, Sink
from arkway.testing import CHAT_CARD, ENDPOINT_ID, MemoryLedger, RunningServer, endpoint, running_server
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.wires import BOT_ID, BOTS, OF_BOTS, OPENAI, V3, V3_BOTS, Wire
from tests.wire.scripts import BOT_END, DOCUMENT, PAGE

FOREIGN_BOT_ID = "bot-20240701000000-other"
STOPPED_BOT_ID = "bot-20240701000000-still"
BOT_KEY = "key-of-a-bot-0000000000000000000000000000"
EVERY = pytest.mark.parametrize("wire", [*OF_BOTS, V3, OPENAI], ids=repr)
BY_ROUTE = pytest.mark.parametrize("wire", OF_BOTS, ids=repr)
ASIDE = {"user_info": '{"city":"北京","district":"海淀区"}', "emit_intention_signal_extra": "true"}


class Bot:
    """A pushing backend that looks up and cites, a batch in each turn of the loop; ``requests`` as they came."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self.fails: ArkwayError | None = None

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        self.requests.append(request)
        led: list[Event] = [Intention("正在搜索")] if request.wants_intention else []
        said: list[Event] = [Quoted('"看[2]"'.encode()), Delta("。")]
        return Looking([[*led, Cited((PAGE, DOCUMENT))], said, [Cited((DOCUMENT,)), *BOT_END]], self.fails, sink)


class Looking:
    """One call of a `Bot`; it fails, if it is to, after the first text."""

    def __init__(self, batches: list[Sequence[Event]], fails: ArkwayError | None, sink: Sink) -> None:
        self._batches, self._fails, self._sink, self._over = batches, fails, sink, False
        asyncio.get_running_loop().call_soon(self._go_on)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None:
        self._over = True

    def _go_on(self) -> None:
        if self._over:
            return
        if self._fails is not None and len(self._batches) == 1:
            self._sink.failed(self._fails)
        elif self._batches:
            self._sink.events(self._batches.pop(0))
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._sink.ended()


@pytest.fixture(scope="module")
def bot() -> Bot:
    return Bot()


@pytest.fixture(scope="module")
def server(bot: Bot) -> Iterator[RunningServer]:
    bots = (
        endpoint(BOT_ID, CHAT_CARD.name),
        endpoint(FOREIGN_BOT_ID, CHAT_CARD.name, account="other"),
        endpoint(STOPPED_BOT_ID, CHAT_CARD.name, status="stopped"),
    )
    scoped = {BOT_KEY: Caller("default", "default", "key-bot", (BOT_ID,))}
    with running_server(backends={"scripted": bot}, endpoints=bots, keys=scoped, ledger=MemoryLedger()) as running:
        yield running


@pytest.fixture
def client(server: RunningServer, bot: Bot) -> Iterator[Connection]:
    bot.requests.clear()
    bot.fails = None
    with Connection(server.url) as connection:
        yield connection


def aside(wire: Wire, values: Any) -> dict[str, Any]:
    return {"extra" if wire is BOTS else "metadata": values}


def asks(client: Connection, wire: Wire, asked: str = BOT_ID, **options: Any) -> Reply:
    return client.post(*wire.chat("北京天气", asked=asked, **options))


def sources(wire: Wire, frame: Any) -> list[str] | None:
    """The titles of the sources that an answer or a frame names; None where it names none at all."""
    holder = frame if wire is not BOTS else frame["choices"][0]["message"]
    if "references" not in holder:
        return None
    return [entry.get("title") or entry["chunk_title"] for entry in holder["references"]]


@EVERY
def test_a_whole_answer_names_its_sources_and_what_it_used(client: Connection, wire: Wire) -> None:
    reply = asks(client, wire)

    answer = reply.json()
    used = answer["usage"] if wire is BOTS else answer["bot_usage"]
    assert reply.status == 200
    assert wire.text_of(reply) == "看[2]。"
    assert sources(wire, answer) == ["天气"]
    assert [use["name"] for use in used["model_usage"]] == ["ep-1", "ep-intent"]
    assert [use["search_count"] for use in used["action_usage"]] == [1, 2]
    results = used["action_details"][0]["tool_details"][0]["output"]["data"]["data"]["results"]
    assert results[0]["url"] == PAGE.url


@EVERY
def test_a_stream_names_them_first_and_last(client: Connection, wire: Wire) -> None:
    reply = asks(client, wire, stream=True)

    *frames, done = wire.frames(reply.body)
    assert done == "[DONE]"
    assert reply.body.endswith(wire.end)
    assert wire.text(reply.body) == "看[2]。"
    assert [sources(wire, frame) for frame in frames] == [["北京天气", "天气"], None, ["天气"]]
    told = [frame.get("usage" if wire is BOTS else "bot_usage") for frame in frames]
    assert told[:-1] == [None, None]
    assert [use["total_tokens"] for use in told[-1]["model_usage"]] == [9, 6]
    assert wire.finish_reasons(reply.body) == ["stop"]


@pytest.mark.parametrize("wire", [V3_BOTS, V3, OPENAI], ids=repr)
def test_beside_the_usage_where_that_was_asked_for(client: Connection, wire: Wire) -> None:
    *frames, _ = wire.frames(asks(client, wire, stream=True, usage=True).body)

    assert [frame for frame in frames if "bot_usage" in frame] == frames[-1:]
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"]["total_tokens"] == 15


@EVERY
def test_that_something_is_looked_up_is_said_to_who_asks(client: Connection, wire: Wire) -> None:
    told = asks(client, wire, stream=True, values=aside(wire, ASIDE))
    untold = asks(client, wire, stream=True)

    first = wire.frames(told.body)[0]
    assert first["extra" if wire is BOTS else "metadata"] == {"intention": "正在搜索"}
    assert "正在搜索" not in untold.body.decode()
    assert wire.text(told.body) == wire.text(untold.body) == "看[2]。"


@EVERY
def test_where_the_user_is_gets_to_the_bot(client: Connection, wire: Wire, bot: Bot) -> None:
    reply = asks(client, wire, values=aside(wire, ASIDE))

    assert (bot.requests[0].asker, bot.requests[0].wants_intention) == (Asker("北京", "海淀区"), True)
    assert "x-arkway-ignored" not in reply.headers


@EVERY
def test_what_cannot_be_read_aside_is_told_and_does_no_harm(client: Connection, wire: Wire, bot: Bot) -> None:
    reply = asks(client, wire, values=aside(wire, {"user_info": "{", "group_chat_config": {}}))

    assert reply.status == 200
    assert bot.requests[0].asker == Asker()
    name = "extra" if wire is BOTS else "metadata"
    told = set(reply.headers["x-arkway-ignored"].split(", "))
    assert told == {f"{name}.user_info", f"{name}.group_chat_config"}


@BY_ROUTE
@pytest.mark.parametrize("stream", [True, False])
def test_every_bot_that_one_cannot_have_gets_the_same_answer(client: Connection, wire: Wire, stream: bool) -> None:
    answers = set()
    for asked in ("bot-20240701000000-nobdy", FOREIGN_BOT_ID, ENDPOINT_ID, "bot-", "chat", "bot-" + "x" * 100):
        reply = asks(client, wire, asked, stream=stream)
        error = wire.error(reply)
        mended = error["message"].replace(f"`{asked}`", "<bot>").replace(reply.headers["x-request-id"], "<id>")
        answers.add((reply.status, error["code"], error.get("code_n"), mended))
    assert len(answers) == 1
    assert answers.pop()[:2] == ((400, "InvalidBot") if wire is BOTS else (404, "InvalidEndpointOrModel.NotFound"))


@BY_ROUTE
def test_a_bot_that_is_stopped_says_so(client: Connection, wire: Wire) -> None:
    reply = asks(client, wire, STOPPED_BOT_ID)

    wanted = (503, "EndpointIsNotEnable") if wire is BOTS else (400, "InvalidEndpoint.ClosedEndpoint")
    assert (reply.status, wire.error(reply)["code"]) == wanted


@EVERY
def test_a_key_for_the_bot_alone_opens_it_and_nothing_else(client: Connection, wire: Wire, bot: Bot) -> None:
    path, body, headers = wire.chat("问", asked=BOT_ID)
    assert client.post(path, body, headers, key=BOT_KEY).status == 200
    path, body, headers = V3.chat("问")
    assert client.post(path, body, headers, key=BOT_KEY).status == 403
    assert [request.asked for request in bot.requests] == [BOT_ID]


@EVERY
def test_an_error_after_the_first_word_is_a_frame(client: Connection, wire: Wire, bot: Bot) -> None:
    bot.fails = BackendFailed("the engine stopped while it was answering")

    reply = asks(client, wire, stream=True)

    *_, failed, done = wire.frames(reply.body)
    assert (reply.status, done) == (200, "[DONE]")
    assert "engine stopped" in wire.failure(failed)["message"].lower()
    assert b"stop" not in reply.body.partition(b'"error"')[0]


@EVERY
def test_what_a_bot_used_is_on_record_once(client: Connection, wire: Wire, server: RunningServer) -> None:
    request_id = asks(client, wire).headers["x-request-id"]

    ledger = server.ledger
    assert isinstance(ledger, MemoryLedger)
    assert ledger.attempts[request_id].endpoint_id == BOT_ID
    assert ledger.settlements[request_id].usage.total_tokens == 15
    assert ledger.settlements[request_id].outcome == "done"


def test_bot_id_may_stand_for_the_model(client: Connection, bot: Bot) -> None:
    path, body, headers = V3_BOTS.chat("问")
    without = {name: value for name, value in body.items() if name != "model"}
    for sent in ({**without, "bot_id": BOT_ID}, {**without, "model": ENDPOINT_ID, "bot_id": BOT_ID}):
        assert client.post(path, sent, headers).status == 200
    assert [request.asked for request in bot.requests] == [BOT_ID, BOT_ID]


def test_bot_api_v2_takes_signatures_as_the_other_routes_of_its_generation(client: Connection) -> None:
    path, body, _ = BOTS.chat("问")

    reply = signed.post(client, path, body)
    spoilt = signed.post(client, path, body, x_date=signed.stamp(-2000))

    assert reply.status == 200
    assert BOTS.text_of(reply) == "看[2]。"
    assert (spoilt.status, signed.error(spoilt)["code"]) == (401, "AuthenticationExpire")
