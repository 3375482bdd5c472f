"""Against llama.cpp's own server."""

from __future__ import annotations

from contextlib import aclosing

import msgspec
import pytest

from arkway.backends.upstream.upstream import UpstreamModel
from arkway.core.chat import ChatRequest, Message, ResponseFormat, Sampling, Tool
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import BackendUnavailable, BadRequest, ContextTooLong, UnsupportedModel
from arkway.core.events import Delta, Quoted
from tests.contract.upstream.conftest import KEY, SCRIPT, MakeServer, run
from tests.tools.pulled import pulled
from tests.tools.pushing import CALL, DEPLOYMENT

pytestmark = pytest.mark.engine

GREEDY = ChatRequest("m", (Message("user", "hi"),), Sampling(temperature=0.0), max_tokens=16)
SAID = "".join(SCRIPT)


@pytest.fixture
def model(upstream: MakeServer, llama: str) -> UpstreamModel:
    return upstream(f"{llama}/v1", KEY).model("generated")


async def test_a_whole_answer(model: UpstreamModel) -> None:
    reply, _ = await run(model, GREEDY)
    (choice,) = reply.choices
    assert (choice.text, choice.finish_reason) == (SAID, "stop")
    assert reply.usage.prompt_tokens > 0
    assert (reply.usage.completion_tokens, reply.usage.provenance) == (len(SCRIPT) + 1, "reported")


async def test_a_stream_says_the_same_piece_by_piece(model: UpstreamModel) -> None:
    reply, events = await run(model, msgspec.structs.replace(GREEDY, stream=True))
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == (SAID, "stop")
    assert reply.usage.completion_tokens == len(SCRIPT) + 1
    assert len([event for event in events if isinstance(event, Delta | Quoted)]) == len(SCRIPT)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_ends_it(model: UpstreamModel, stream: bool) -> None:
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=2, stream=stream))
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Hello wide", "length")
    assert reply.usage.completion_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs(model: UpstreamModel, stream: bool) -> None:
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, logprobs=True, top_logprobs=2, stream=stream))
    entries = reply.choices[0].logprobs
    assert entries is not None
    assert b"".join(entry.chosen.octets for entry in entries).decode() == SAID
    assert all(len(entry.top) == 2 and entry.chosen.logprob <= 0 for entry in entries)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_a_form(upstream: MakeServer, noise: str, stream: bool) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    request = msgspec.structs.replace(
        GREEDY, response_format=ResponseFormat("json_schema", schema), max_tokens=200, stream=stream
    )
    reply, _ = await run(upstream(f"{noise}/v1", KEY).model("generated"), request)
    assert isinstance(msgspec.json.decode(reply.choices[0].text)["ok"], bool)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called(upstream: MakeServer, calling: str, stream: bool) -> None:
    tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    request = msgspec.structs.replace(GREEDY, tools=(tool,), stream=stream)
    reply, _ = await run(upstream(f"{calling}/v1", KEY).model("generated"), request)
    (choice,) = reply.choices
    (call,) = choice.tool_calls
    assert (call.name, msgspec.json.decode(call.arguments), choice.finish_reason) == ("f", {"a": True}, "tool_calls")
    assert call.id
    result = (Message("assistant", None, tool_calls=(call,)), Message("tool", "7", tool_call_id=call.id))
    longer = msgspec.structs.replace(request, messages=(*request.messages, *result))
    again, _ = await run(upstream(f"{calling}/v1", KEY).model("generated"), longer)
    assert again.usage.prompt_tokens > reply.usage.prompt_tokens


async def test_a_prompt_that_is_too_long(model: UpstreamModel) -> None:
    with pytest.raises(ContextTooLong) as raised:
        await run(model, ChatRequest("m", (Message("user", "hi " * 3000),), stream=True))
    assert raised.value.prompt_tokens > raised.value.context_tokens == 1024


async def test_what_the_server_does_not_take_is_told_the_caller(model: UpstreamModel) -> None:
    with pytest.raises(BadRequest):
        await run(model, msgspec.structs.replace(GREEDY, extras={"min_p": "much"}))


async def test_a_wrong_key_is_the_operators_business(upstream: MakeServer, llama: str) -> None:
    server = upstream(f"{llama}/v1", "wrong")
    with pytest.raises(BackendUnavailable) as raised:
        await run(server.model("generated"), GREEDY)
    assert "wrong" not in raised.value.message
    with pytest.raises(BackendUnavailable):
        await server.check("generated")


async def test_its_health_and_its_models(upstream: MakeServer, llama: str) -> None:
    server = upstream(f"{llama}/v1", KEY)
    await server.check("generated")
    assert len(await server.models()) == 1


async def test_tokens(model: UpstreamModel) -> None:
    texts = ("hello 你😀", "", "hello")
    first, empty, word = await model.tokenize(DEPLOYMENT, TokenizeRequest("m", texts), CALL)
    assert first.offsets[0][0] == 0
    assert {place for begin, end in first.offsets for place in range(begin, end)} == {*range(len(texts[0]))}
    assert (empty.ids, empty.offsets) == ((), ())
    assert word.offsets == ((0, 5),)


async def test_a_call_that_is_left_stops_and_the_next_one_runs(upstream: MakeServer, noise: str) -> None:
    model = upstream(f"{noise}/v1", KEY).model("generated")
    endless = msgspec.structs.replace(GREEDY, stream=True, max_tokens=900)
    for _ in range(4):  # the server has two places
        async with aclosing(pulled(model, DEPLOYMENT, endless, CALL)) as events:
            assert await anext(events) is not None
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=1))
    assert reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(upstream: MakeServer, vectors: str, encoding: str) -> None:
    model = upstream(f"{vectors}/v1", KEY).model("generated")
    request = msgspec.convert({"asked": "m", "texts": ["hello", "world"], "encoding": encoding}, EmbedRequest)
    reply = await model.embed(DEPLOYMENT, request, CALL)
    assert [len(octets) for octets in reply.vectors] == [4 * 128] * 2
    assert reply.usage.prompt_tokens > 0


async def test_what_it_has_not_is_said(upstream: MakeServer, llama: str) -> None:
    elsewhere = upstream(f"{llama}/v1/nowhere/v1", KEY).model("generated")
    with pytest.raises(UnsupportedModel):
        await elsewhere.tokenize(DEPLOYMENT, TokenizeRequest("m", ("a",)), CALL)
