"""Against vLLM itself, on processors, with generated weights.

In a folder of its own: its environment takes gigabytes, and each of its four servers a minute or more to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing

import msgspec
import pytest

from arkway.backends.upstream.upstream import UpstreamModel
from arkway.core.chat import ChatRequest, Message, ResponseFormat, Sampling, Tool
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import BackendUnavailable, BadRequest, ContextTooLong, InvalidField
from arkway.core.events import Delta, Quoted
from tests.contract.upstream.conftest import KEY, MakeServer, run
from tests.contract.upstream.conftest import upstream as upstream
from tests.tools.client import Connection
from tests.tools.pulled import pulled
from tests.tools.pushing import CALL, DEPLOYMENT
from tests.tools.random_checkpoint import write_random_checkpoint
from tests.tools.served_by import vllm
from tests.tools.waiting import soon

pytestmark = pytest.mark.long

THOUGHT, SCRIPT = "hm", ("Hello", " wide", " 世界", "!")
SAID = "".join(SCRIPT)
CALLING = ("<tool_call>", '\n{"name": "f", "arguments": {"a": true}}\n', "</tool_call>")
GREEDY = ChatRequest("m", (Message("user", "hi"),), Sampling(temperature=0.0), max_tokens=16)
BOTH = pytest.mark.parametrize("stream", [False, True])
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM with a model that thinks `THOUGHT` and says `SCRIPT`."""
    script = ("<think>", THOUGHT, "</think>", *SCRIPT)
    model = write_random_checkpoint(tmp_path_factory.mktemp("vllm") / "thinks", script=script)
    with vllm(model, KEY, "--reasoning-parser", "qwen3") as url:
        yield url


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM with a model that calls the function ``f``."""
    model = write_random_checkpoint(tmp_path_factory.mktemp("vllm") / "calls", script=CALLING)
    with vllm(model, KEY, *TOOLS) as url:
        yield url


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM with a model that writes noise and never stops."""
    with vllm(write_random_checkpoint(tmp_path_factory.mktemp("vllm") / "noise"), KEY) as url:
        yield url


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM, embedding."""
    model = write_random_checkpoint(tmp_path_factory.mktemp("vllm") / "vectors")
    with vllm(model, KEY, "--runner", "pooling", "--convert", "embed") as url:
        yield url


@pytest.fixture
def model(upstream: MakeServer, thinking: str) -> UpstreamModel:
    return upstream(f"{thinking}/v1", KEY).model("generated")


async def test_a_whole_answer(model: UpstreamModel) -> None:
    reply, _ = await run(model, GREEDY)
    (choice,) = reply.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == (THOUGHT, SAID, "stop")
    assert reply.usage.prompt_tokens > 0
    assert (reply.usage.completion_tokens, reply.usage.provenance) == (len(SCRIPT) + 4, "reported")


async def test_a_stream_says_the_same_piece_by_piece(model: UpstreamModel) -> None:
    whole, _ = await run(model, GREEDY)
    reply, events = await run(model, msgspec.structs.replace(GREEDY, stream=True))
    (choice,) = reply.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == (THOUGHT, SAID, "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert len([event for event in events if isinstance(event, Delta | Quoted)]) > 1


@BOTH
async def test_a_limit_ends_it(model: UpstreamModel, stream: bool) -> None:
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=5, stream=stream))
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Hello wide", "length")
    assert reply.usage.completion_tokens == 5


@BOTH
async def test_several_answers(model: UpstreamModel, stream: bool) -> None:
    several = msgspec.structs.replace(GREEDY, n=2, stream=stream)
    reply, _ = await run(model, msgspec.structs.replace(several, sampling=Sampling(temperature=0.05)))
    assert [(choice.text, choice.finish_reason) for choice in reply.choices] == [(SAID, "stop")] * 2
    with pytest.raises(BadRequest, match="greedy"):
        await run(model, several)


@BOTH
async def test_a_stop_word_ends_it(model: UpstreamModel, stream: bool) -> None:
    sampling = Sampling(temperature=0.0, stop=("wide",))
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, sampling=sampling, stream=stream))
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Hello ", "stop")


@BOTH
async def test_logprobs(upstream: MakeServer, calling: str, stream: bool) -> None:
    model = upstream(f"{calling}/v1", KEY).model("generated")
    scored = msgspec.structs.replace(GREEDY, logprobs=True, top_logprobs=2, max_tokens=2, stream=stream)
    reply, _ = await run(model, scored)
    (choice,) = reply.choices
    assert choice.logprobs is not None
    assert [entry.chosen.octets.decode() for entry in choice.logprobs] == list(CALLING[:2])
    assert choice.text == "".join(CALLING[:2])
    assert all(len(entry.top) == 2 and entry.chosen.logprob <= 0 for entry in choice.logprobs)


@BOTH
async def test_an_answer_of_a_form(upstream: MakeServer, noise: str, stream: bool) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    request = msgspec.structs.replace(
        GREEDY, response_format=ResponseFormat("json_schema", schema), max_tokens=200, stream=stream
    )
    reply, _ = await run(upstream(f"{noise}/v1", KEY).model("generated"), request)
    assert isinstance(msgspec.json.decode(reply.choices[0].text)["ok"], bool)


@BOTH
async def test_a_tool_is_called(upstream: MakeServer, calling: str, stream: bool) -> None:
    model = upstream(f"{calling}/v1", KEY).model("generated")
    tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    request = msgspec.structs.replace(GREEDY, tools=(tool,), stream=stream)
    reply, _ = await run(model, request)
    (choice,) = reply.choices
    (call,) = choice.tool_calls
    assert (call.name, msgspec.json.decode(call.arguments), choice.finish_reason) == ("f", {"a": True}, "tool_calls")
    assert call.id
    result = (Message("assistant", None, tool_calls=(call,)), Message("tool", "7", tool_call_id=call.id))
    again, _ = await run(model, msgspec.structs.replace(request, messages=(*request.messages, *result)))
    assert again.usage.prompt_tokens > reply.usage.prompt_tokens


@BOTH
async def test_a_prompt_that_is_too_long(model: UpstreamModel, stream: bool) -> None:
    with pytest.raises(ContextTooLong) as raised:
        await run(model, ChatRequest("m", (Message("user", "hi " * 3000),), max_tokens=16, stream=stream))
    assert raised.value.prompt_tokens > raised.value.context_tokens == 1024


@pytest.mark.parametrize("value", [7, "much"])
async def test_what_the_server_does_not_take_is_told_the_caller(model: UpstreamModel, value: float | str) -> None:
    with pytest.raises(BadRequest) as raised:
        await run(model, msgspec.structs.replace(GREEDY, extras={"min_p": value}))
    named = raised.value.field if isinstance(raised.value, InvalidField) else raised.value.message.partition(" ")[0]
    assert named == "min_p"


async def test_its_health_and_its_models(upstream: MakeServer, thinking: str) -> None:
    server = upstream(f"{thinking}/v1", KEY)
    await server.check("generated")
    assert await server.models() == ("generated",)
    with pytest.raises(BackendUnavailable):
        await server.check("another")
    with pytest.raises(BackendUnavailable) as raised:
        await upstream(f"{thinking}/v1", "wrong").check("generated")
    assert "wrong" not in raised.value.message


async def test_tokens(model: UpstreamModel) -> None:
    texts = ("hello 你😀", "hello")
    first, word = await model.tokenize(DEPLOYMENT, TokenizeRequest("m", texts), CALL)
    assert first.offsets[0][0] == 0
    assert {place for begin, end in first.offsets for place in range(begin, end)} == {*range(len(texts[0]))}
    assert word.offsets == ((0, 5),)


async def test_a_call_that_is_left_stops_there(upstream: MakeServer, noise: str) -> None:
    model = upstream(f"{noise}/v1", KEY).model("generated")
    endless = msgspec.structs.replace(GREEDY, stream=True, max_tokens=900)
    for _ in range(6):  # the server has four places
        async with aclosing(pulled(model, DEPLOYMENT, endless, CALL)) as events:
            assert await anext(events) is not None
    await soon(lambda: running_calls(noise) == 0)
    reply, _ = await run(model, msgspec.structs.replace(GREEDY, max_tokens=1))
    assert reply.choices[0].finish_reason == "length"


def running_calls(url: str) -> float:
    """By the server's own count."""
    with Connection(url, KEY) as client:
        lines = client.get("/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:num_requests_running{"))


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(upstream: MakeServer, vectors: str, encoding: str) -> None:
    server = upstream(f"{vectors}/v1", KEY)
    request = msgspec.convert({"asked": "m", "texts": ["hello", "world"], "encoding": encoding}, EmbedRequest)
    reply = await server.model("generated").embed(DEPLOYMENT, request, CALL)
    assert [len(octets) for octets in reply.vectors] == [4 * 128] * 2
    assert reply.usage.prompt_tokens > 0
    await server.check_embedding("generated")
