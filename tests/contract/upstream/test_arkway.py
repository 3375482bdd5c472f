"""Against Arkway itself: as real Ark (``/api/v3``, by key and by access key pair), and as any server (``/v1``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from time import time

import msgspec
import pytest

from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core.chat import ChatRequest, Message, Sampling, Usage
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import BackendFailed, BackendUnavailable, InvalidField, RateLimited, UnsupportedModel
from arkway.core.events import Delta, Finished, ToolDelta, UsageReport
from arkway.testing import Gate, RunningServer, Script, Step, running_server, says
from tests.contract.upstream.conftest import MakeServer, run
from tests.tools.pulled import pulled
from tests.tools.pushing import CALL, DEPLOYMENT, Clock
from tests.tools.waiting import soon

REQUEST = ChatRequest("m", (Message("user", "hi"),))
STREAM = msgspec.structs.replace(REQUEST, stream=True)


@contextmanager
def scripted(script: Script) -> Iterator[RunningServer]:
    with running_server(script) as server:
        yield server


def surfaces(make: MakeServer, server: RunningServer) -> Iterable[UpstreamServer]:
    """The server by each of its ways in."""
    pair = (server.access_key_id, server.secret_access_key)
    yield make(f"{server.url}/v1", server.api_key)
    yield make(f"{server.url}/api/v3", server.api_key, kind="ark")
    yield make(f"{server.url}/api/v3", pair=pair, kind="ark")


async def test_text_comes_through_every_way(upstream: MakeServer) -> None:
    with scripted(says("你好", ", ", '"wor\\ld"', "\n", reason="length")) as server:
        for one in surfaces(upstream, server):
            for request in (REQUEST, STREAM):
                reply, _ = await run(one.model(server.endpoint_id), request)
                assert (reply.choices[0].text, reply.choices[0].finish_reason) == ('你好, "wor\\ld"\n', "length")
                assert reply.usage == Usage(7, 4)


async def test_the_request_arrives_as_it_was(upstream: MakeServer) -> None:
    wanted = msgspec.structs.replace(
        STREAM, sampling=Sampling(0.5, 0.25, stop=("x",), seed=3, logit_bias={5: 1.0}), max_tokens=9, user="u", n=1
    )
    with scripted(says("a")) as server:
        for one in surfaces(upstream, server):
            await run(one.model(server.endpoint_id), wanted)
            got = server.backend.requests[-1]
            assert (got.messages, got.sampling, got.max_tokens, got.user) == (
                wanted.messages, wanted.sampling, wanted.max_tokens, wanted.user,
            )  # fmt: skip


async def test_thoughts_and_calls_come_through(upstream: MakeServer) -> None:
    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("", reasoning="hm", completion_tokens=1)
        yield ToolDelta(0, '{"a":', id="call_1", name="f", completion_tokens=2)
        yield ToolDelta(0, "1}", completion_tokens=3)
        yield ToolDelta(1, "{}", id="call_2", name="g", completion_tokens=4)
        yield Finished("tool_calls")
        yield UsageReport(Usage(3, 4, 2, 1))

    with scripted(script) as server:
        for one in surfaces(upstream, server):
            for request in (REQUEST, STREAM):
                reply, _ = await run(one.model(server.endpoint_id), request)
                (choice,) = reply.choices
                calls = [(call.id, call.name, call.arguments) for call in choice.tool_calls]
                assert calls == [("call_1", "f", '{"a":1}'), ("call_2", "g", "{}")]
                assert (choice.reasoning, choice.finish_reason, reply.usage) == ("hm", "tool_calls", Usage(3, 4, 2, 1))


async def test_a_running_usage_of_ark(upstream: MakeServer) -> None:
    with scripted(says("a", "b")) as server:
        one = upstream(f"{server.url}/api/v3", server.api_key, kind="ark")
        request = msgspec.structs.replace(STREAM, wants_running_usage=True)
        _, events = await run(one.model(server.endpoint_id), request)
        assert [event.completion_tokens for event in events if isinstance(event, Delta)] == [1, 2]


async def test_errors_come_through_as_what_they_are(upstream: MakeServer) -> None:
    errors = (RateLimited("slow down", 7.0), InvalidField("too hot", "temperature"), BackendFailed("oh"))
    for error in errors:

        def script(_: ChatRequest, error: Exception = error) -> Iterable[Step]:
            yield error

        with scripted(script) as server:
            for one in surfaces(upstream, server):
                for request in (REQUEST, STREAM):
                    with pytest.raises(type(error)) as raised:
                        await run(one.model(server.endpoint_id), request)
                    assert getattr(raised.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)


async def test_an_answer_that_breaks_off_is_a_failure(upstream: MakeServer) -> None:
    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("half", completion_tokens=1)
        yield BackendFailed("oh")

    with scripted(script) as server:
        for one in surfaces(upstream, server):
            async with aclosing(pulled(one.model(server.endpoint_id), DEPLOYMENT, STREAM, CALL)) as events:
                first = await anext(events)
                assert isinstance(first, Delta)
                assert first.text == "half"
                with pytest.raises(BackendFailed):
                    await anext(events)


async def test_a_call_that_is_left_stops_upstream(upstream: MakeServer) -> None:
    gate = Gate()

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Delta("a", completion_tokens=1)
        yield gate

    with scripted(script) as server:
        one = upstream(f"{server.url}/v1", server.api_key)
        async with aclosing(pulled(one.model(server.endpoint_id), DEPLOYMENT, STREAM, CALL)) as events:
            await anext(events)
            assert server.backend.open_streams == 1
        await soon(lambda: server.backend.open_streams == 0)
        gate.open()


async def test_embeddings_and_tokens(upstream: MakeServer) -> None:
    with running_server() as server:
        one = upstream(f"{server.url}/api/v3", server.api_key, kind="ark")
        model = one.model(server.embedding_endpoint_id)
        numbers = await model.embed(DEPLOYMENT, EmbedRequest("m", ("a", "b")), CALL)
        letters = await model.embed(DEPLOYMENT, EmbedRequest("m", ("a", "b"), "base64"), CALL)
        assert numbers.vectors == letters.vectors
        assert len(numbers.vectors) == 2
        first, second = await model.tokenize(DEPLOYMENT, TokenizeRequest("m", ("ab", "c")), CALL)
        assert (first.offsets[0][0], len(first.ids) > 0, len(second.ids) > 0) == (0, True, True)
        other = upstream(f"{server.url}/v1", server.api_key)
        with pytest.raises(UnsupportedModel):
            await other.model(server.embedding_endpoint_id).tokenize(DEPLOYMENT, TokenizeRequest("m", ("a",)), CALL)


async def test_health_and_models(upstream: MakeServer) -> None:
    with running_server() as server:
        one = upstream(f"{server.url}/v1", server.api_key)
        assert server.endpoint_id in await one.models()
        await one.check(server.endpoint_id)
        with pytest.raises(BackendUnavailable):
            await one.check("ep-that-is-not-there")


async def test_a_pair_is_exchanged_once_for_many_calls(upstream: MakeServer) -> None:
    with running_server() as server:
        one = upstream(f"{server.url}/api/v3", pair=(server.access_key_id, server.secret_access_key), kind="ark")
        for _ in range(3):
            await run(one.model(server.endpoint_id), STREAM)
        assert len(server.audit) == 1


async def test_a_pair_that_is_wrong_is_the_operators_business(upstream: MakeServer) -> None:
    with running_server() as server:
        one = upstream(f"{server.url}/api/v3", pair=(server.access_key_id, "wrong"), kind="ark")
        with pytest.raises(BackendUnavailable) as raised:
            await run(one.model(server.endpoint_id), STREAM)
        assert server.access_key_id not in raised.value.message
        with pytest.raises(BackendUnavailable):
            await one.check(server.endpoint_id)


async def test_a_key_that_is_over_is_exchanged_anew(upstream: MakeServer) -> None:
    with running_server() as server:
        clock = Clock(time())
        pair = (server.access_key_id, server.secret_access_key)
        one = upstream(f"{server.url}/api/v3", pair=pair, kind="ark", clock=clock)
        await run(one.model(server.endpoint_id), STREAM)
        clock.now_s += 604_800
        with pytest.raises(BackendUnavailable):  # signed a week from now: the server does not believe it
            await run(one.model(server.endpoint_id), STREAM)
        clock.now_s = time()
        await run(one.model(server.endpoint_id), STREAM)
