"""Against servers that say what a script says: every recorded stream over a real connection, and every fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import msgspec
import pytest

from arkway.backends.upstream.chat import ERROR_MAX_BYTES
from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core.chat import ChatRequest, ImagePart, Message, TextPart
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    BadRequest,
    Misconfigured,
    Overloaded,
    RateLimited,
    UnsupportedInput,
    UnsupportedModel,
)
from arkway.core.events import Delta, Event, Finished, Quoted, UsageReport
from tests.contract.upstream.conftest import MakeServer, run
from tests.tools.pulled import HIGH_WATER_EVENTS, pulled
from tests.tools.pushing import CALL, DEPLOYMENT, Clock, Kept
from tests.tools.raw_upstream import Peer, RawUpstream, Script, saying, saying_once
from tests.tools.waiting import soon
from tests.unit.wire.tails import expected, names, raw, written

REQUEST = ChatRequest("m", (Message("user", "hi"),))
STREAM = msgspec.structs.replace(REQUEST, stream=True)
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"index":0,"message":{"content":"whole"},"finish_reason":"stop"}]}'
KEY = "a-key-nobody-may-see"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST = b"0\r\n\r\n"


def answer(status: int, body: bytes, *lines: bytes, kind: bytes = b"application/json") -> bytes:
    head = [b"HTTP/1.1 %d X" % status, b"content-type: " + kind, b"content-length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def heard(server: UpstreamServer, request: ChatRequest = STREAM) -> tuple[list[Event], ArkwayError | None]:
    """All that a call gives, and how it fails."""
    sink = Kept()
    server.model("served").start(DEPLOYMENT, request, CALL, sink)
    await soon(lambda: sink.over)
    return sink.got, sink.error


@pytest.mark.parametrize("name", names())
async def test_a_recorded_stream_over_a_connection(upstream: MakeServer, name: str) -> None:
    data, wanted = raw(name), expected(name)
    request = msgspec.structs.replace(STREAM, n=wanted["choices"])
    pieces = [data[start : start + 97] for start in range(0, len(data), 97)]
    async with RawUpstream(saying(SSE, *map(chunk, pieces), LAST)) as raw_server:
        events, failure = await heard(upstream(raw_server.url()), request)
        assert [written(event) for event in events] == wanted["events"]
        assert (type(failure).__name__ if failure else "") == wanted["failure"]


async def test_what_is_sent(upstream: MakeServer) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.request())
        await peer.say(answer(200, WHOLE))

    async with RawUpstream(script) as raw_server:
        await run(upstream(raw_server.url(), KEY).model("served"), REQUEST)
    head, _, body = got[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/chat/completions http/1.1"
    assert {
        b"authorization: bearer " + KEY.encode(),
        b"x-client-request-id: req-1",
        b"content-type: application/json",
    } <= {*lines}
    said = {"model": "served", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4096}
    assert msgspec.json.decode(body) == said


BROKEN: list[tuple[str, Script, type[ArkwayError]]] = [
    ("cut in a frame", saying_once(SSE, chunk(TEXT % b"a"), chunk(b"data: {")), BackendFailed),
    ("cut between frames", saying_once(SSE, chunk(TEXT % b"a")), BackendFailed),
    ("ended without a finish", saying(SSE, chunk(TEXT % b"a"), LAST), BackendFailed),
    ("cut after the finish, before the end", saying_once(SSE, chunk(TEXT % b"a" + FINISH)), BackendFailed),
]


@pytest.mark.parametrize(("script", "kind"), [(script, kind) for _, script, kind in BROKEN], ids=[b[0] for b in BROKEN])
async def test_a_stream_that_breaks(upstream: MakeServer, script: Script, kind: type[ArkwayError]) -> None:
    async with RawUpstream(script) as raw_server:
        events, failure = await heard(upstream(raw_server.url()))
        assert events == [Delta("a")]
        assert type(failure) is kind


async def test_a_reset_in_the_stream(upstream: MakeServer) -> None:
    heard_it = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE, chunk(TEXT % b"a"))
        await heard_it.wait()
        peer.reset()

    async with RawUpstream(script) as raw_server:
        sink = Kept()
        upstream(raw_server.url()).model("served").start(DEPLOYMENT, STREAM, CALL, sink)
        await soon(lambda: sink.got)
        heard_it.set()
        await soon(lambda: sink.over)
        assert type(sink.error) is BackendFailed


async def test_after_done_nothing_counts(upstream: MakeServer) -> None:
    async with RawUpstream(saying_once(SSE, chunk(TEXT % b"a" + FINISH + DONE))) as raw_server:
        events, failure = await heard(upstream(raw_server.url()))
        assert events == [Delta("a"), Finished("stop")]
        assert failure is None


async def test_a_server_that_goes_on_after_done_is_left(upstream: MakeServer) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE, chunk(TEXT % b"a" + FINISH + DONE))
        try:
            while True:
                await peer.say(chunk(b": more\n" * 1000))
        except ConnectionError:
            left.set()

    async with RawUpstream(script) as raw_server:
        _, failure = await heard(upstream(raw_server.url()))
        assert failure is None
        await soon(left.is_set)


async def test_the_connection_is_used_again(upstream: MakeServer) -> None:
    async with RawUpstream(saying(SSE, chunk(TEXT % b"a" + FINISH + DONE), LAST)) as raw_server:
        server = upstream(raw_server.url())
        for _ in range(3):
            assert (await heard(server))[1] is None
            await soon(lambda: server.client.stats().idle == 1)
        assert len(raw_server.peers) == 1


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(400, b'{"error":{"message":"no","param":"seed"}}'), BadRequest),
        (answer(401, b'{"error":{"message":"bad key"}}'), BackendUnavailable),
        (answer(404, b'{"error":{"message":"The model served does not exist"}}'), BackendUnavailable),
        (answer(429, b"", b"retry-after: 7"), Overloaded),
        (answer(429, b'{"error":{"code":"rate_limit_exceeded","message":"x"}}', b"retry-after: 7"), RateLimited),
        (answer(500, b"oops", kind=b"text/plain"), BackendFailed),
        (answer(503, b""), BackendUnavailable),
        (answer(504, b""), BackendTimeout),
        (answer(302, b"", b"location: http://elsewhere.example/v1"), BackendUnavailable),
        (answer(200, b"<html>", kind=b"text/html"), BackendFailed),
        (answer(200, b"\x1f\x8b", b"content-encoding: gzip", kind=b"text/event-stream"), BackendFailed),
        (answer(200, b'{"error":{"code":400,"message":"no"}}'), BadRequest),
        (answer(200, b"{"), BackendFailed),
        (answer(500, b"x" * 200_000), BackendFailed),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_that_are_none(upstream: MakeServer, said: bytes, kind: type[ArkwayError], stream: bool) -> None:
    async with RawUpstream(saying_once(said)) as raw_server:
        events, failure = await heard(upstream(raw_server.url(), KEY), STREAM if stream else REQUEST)
        assert events == []
        assert isinstance(failure, kind)
        assert getattr(failure, "retry_after_s", None) == (7.0 if b"retry-after" in said else None)


async def test_an_answer_whole_where_a_stream_was_asked_for_will_do(upstream: MakeServer) -> None:
    async with RawUpstream(saying(answer(200, WHOLE))) as raw_server:
        events, failure = await heard(upstream(raw_server.url()))
        assert (events, failure) == ([Delta("whole"), Finished("stop")], None)


async def test_a_stream_where_a_whole_answer_was_asked_for_will_do(upstream: MakeServer) -> None:
    async with RawUpstream(saying(SSE, chunk(TEXT % b"a" + FINISH + DONE), LAST)) as raw_server:
        events, failure = await heard(upstream(raw_server.url()), REQUEST)
        assert (events, failure) == ([Delta("a"), Finished("stop")], None)


SECRETS = (KEY, "gpu-17.cluster.internal", "127.0.0.1", "served-as-secret", "/models/weights")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503])
@pytest.mark.parametrize("secret", SECRETS)
async def test_no_error_tells_of_the_inside(upstream: MakeServer, status: int, secret: str) -> None:
    words = f"it is {secret} that failed"
    body = msgspec.json.encode({"error": {"message": words, "code": secret, "param": secret, "type": secret}})
    async with RawUpstream(saying_once(answer(status, body, b"server: " + secret.encode()))) as raw_server:
        sink = Kept()
        upstream(raw_server.url(), KEY).model("served-as-secret").start(DEPLOYMENT, STREAM, CALL, sink)
        await soon(lambda: sink.over)
        assert sink.error is not None
        assert secret not in f"{sink.error.message} {sink.error.field}"


async def test_nothing_is_told_after_a_call_was_left(upstream: MakeServer) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE, chunk(TEXT % b"a"))
        await peer.gone()

    async with RawUpstream(script) as raw_server:
        sink = Kept()
        running = upstream(raw_server.url()).model("served").start(DEPLOYMENT, STREAM, CALL, sink)
        await soon(lambda: sink.got)
        running.cancel()
        running.cancel()
        running.pause()
        running.resume()
        await soon(lambda: raw_server.ended == 1)
        assert (sink.got, sink.ends) == ([Delta("a")], 0)


async def test_a_call_can_be_left_before_anything(upstream: MakeServer) -> None:
    async with RawUpstream(saying(answer(200, WHOLE))) as raw_server:
        sink = Kept()
        server = upstream(raw_server.url())
        server.model("served").start(DEPLOYMENT, REQUEST, CALL, sink).cancel()
        assert (await heard(server, REQUEST))[1] is None
        assert (sink.got, sink.ends) == ([], 0)


async def test_who_reads_slowly_holds_the_server_back(upstream: MakeServer) -> None:
    written_bytes = 0

    async def script(peer: Peer) -> None:
        nonlocal written_bytes
        await peer.request()
        await peer.say(SSE)
        piece = chunk((TEXT % (b"x" * 2000)) * 16)
        while True:
            await peer.say(piece)
            written_bytes += len(piece)

    async with RawUpstream(script) as raw_server:
        events = pulled(upstream(raw_server.url()).model("served"), DEPLOYMENT, STREAM, CALL)
        async with aclosing(events):
            await anext(events)
            before = -1
            while before != written_bytes:  # until the server is stuck
                before = written_bytes
                await asyncio.sleep(0.5)
                assert written_bytes < 256 << 20
            stuck_at = written_bytes
            seen = 0
            while seen < 64 * HIGH_WATER_EVENTS:
                assert isinstance(await anext(events), Delta | Quoted)
                seen += 1
            assert written_bytes > stuck_at
        await soon(lambda: raw_server.ended == 1)


async def test_a_stream_without_end_is_ended(upstream: MakeServer) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE)
        piece = chunk(TEXT % (b"x" * 1_000_000))
        while True:
            await peer.say(piece)

    small = msgspec.structs.replace(STREAM, max_tokens=1)
    async with RawUpstream(script) as raw_server:
        _, failure = await heard(upstream(raw_server.url()), small)
        assert type(failure) is BackendFailed
        await soon(lambda: raw_server.ended == 1)


PAIR = ("AKLTabc", "c2VjcmV0")
EXPIRES_S = 2_000_000_000


def granted(key: str, expires_s: int) -> bytes:
    return msgspec.json.encode({"ResponseMetadata": {}, "Result": {"ApiKey": key, "ExpiredTime": expires_s}})


class Vendor:
    """Gives out keys ``key-0``, ``key-1``, …, and takes the ``good`` ones only."""

    def __init__(self, good: Sequence[str], said: bytes = WHOLE, kind: bytes = b"application/json") -> None:
        self.good, self.said, self.kind = good, said, kind
        self.given = 0
        self.shown: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        while request := await peer.request():
            await peer.say(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        if b"GetApiKey" in request:
            self.given += 1
            return answer(200, granted(f"key-{self.given - 1}", EXPIRES_S))
        lines = request.split(b"\r\n")
        (key,) = (line.split()[-1].decode() for line in lines if line.lower().startswith(b"authorization"))
        self.shown.append(key)
        return answer(200, self.said, kind=self.kind) if key in self.good else answer(401, b"{}")


async def test_many_calls_wait_for_one_key(upstream: MakeServer) -> None:
    vendor = Vendor(["key-0"])
    async with RawUpstream(vendor) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        results = await asyncio.gather(*(heard(server, REQUEST) for _ in range(20)))
        assert [failure for _, failure in results] == [None] * 20
        assert vendor.given == 1


async def test_a_key_that_was_called_back_is_replaced(upstream: MakeServer) -> None:
    vendor = Vendor(["key-0"])
    async with RawUpstream(vendor) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        assert (await heard(server, REQUEST))[1] is None
        vendor.good = ["key-1"]
        assert (await heard(server, REQUEST))[1] is None
        assert vendor.shown == ["key-0", "key-0", "key-1"]


async def test_keys_that_are_all_refused_are_not_asked_for_for_ever(upstream: MakeServer) -> None:
    vendor = Vendor([])
    async with RawUpstream(vendor) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        assert type((await heard(server, REQUEST))[1]) is BackendUnavailable
        assert vendor.given == 2


async def test_who_leaves_while_the_key_is_coming_hears_nothing(upstream: MakeServer) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()
    vendor = Vendor(["key-0"])

    async def script(peer: Peer) -> None:
        asked.set()
        await go_on.wait()
        await vendor(peer)

    async with RawUpstream(script) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        sink = Kept()
        running = server.model("served").start(DEPLOYMENT, REQUEST, CALL, sink)
        await soon(asked.is_set)
        running.cancel()
        go_on.set()
        assert (await heard(server, REQUEST))[1] is None
        assert (sink.got, sink.ends, vendor.given, vendor.shown) == ([], 0, 1, ["key-0"])


async def test_a_key_is_renewed_before_it_ends(upstream: MakeServer) -> None:
    vendor = Vendor([f"key-{number}" for number in range(100)])
    async with RawUpstream(vendor) as raw_server:
        soon_over = Clock(EXPIRES_S - 3)
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark", clock=soon_over)
        assert (await heard(server, REQUEST))[1] is None
        await soon(lambda: vendor.given == 2)  # nobody has called meanwhile
        assert (await heard(server, REQUEST))[1] is None
        assert vendor.shown[0] == "key-0"
        await soon(lambda: vendor.given == 3)
        assert (await heard(server, REQUEST))[1] is None
        assert vendor.shown[2] != "key-0"


@pytest.mark.parametrize("said", [answer(200, b"{}"), answer(403, b"{}"), answer(200, granted("a\r\nb: c", EXPIRES_S))])
async def test_no_key_no_call(upstream: MakeServer, said: bytes) -> None:
    async with RawUpstream(saying_once(said)) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        assert type((await heard(server, REQUEST))[1]) is BackendUnavailable


async def test_what_cannot_work_is_refused_at_once(upstream: MakeServer) -> None:
    for more in ({"key": "a\nb"}, {"auth": "key"}, {"auth": "aksk"}, {"pair": ("id", "")}):
        with pytest.raises(Misconfigured):
            upstream("http://127.0.0.1:1/v1", **more)
    with pytest.raises(Misconfigured):
        upstream("ftp://127.0.0.1/v1")


async def test_embeddings_that_fail(upstream: MakeServer) -> None:
    async with RawUpstream(saying(answer(400, b'{"error":{"message":"input is too long for it"}}'))) as raw_server:
        model = upstream(raw_server.url()).model("served")
        with pytest.raises(BadRequest):
            await model.embed(DEPLOYMENT, EmbedRequest("m", ("a",)), CALL)


async def test_tokens_that_tell_no_characters_are_no_tokenization(upstream: MakeServer) -> None:
    async with RawUpstream(saying(answer(200, b'{"count":1,"tokens":[7]}'))) as raw_server:
        model = upstream(raw_server.url()).model("served")
        with pytest.raises(UnsupportedModel):
            await model.tokenize(DEPLOYMENT, TokenizeRequest("m", ("a",)), CALL)


async def test_after_a_refused_key_an_answer_may_be_as_long_as_any(upstream: MakeServer) -> None:
    text = b"a" * (2 * ERROR_MAX_BYTES)
    vendor = Vendor(["key-1"], TEXT % text + FINISH + DONE, b"text/event-stream")
    async with RawUpstream(vendor) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        events, failure = await heard(server)
        assert failure is None
        assert events == [Delta(text.decode()), Finished("stop")]
        assert vendor.shown == ["key-0", "key-1"]


async def test_embeddings_get_another_key_too(upstream: MakeServer) -> None:
    vendor = Vendor(["key-1"], b'{"data":[{"index":0,"embedding":[1.0]}]}')
    async with RawUpstream(vendor) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        assert len((await server.embed("m", EmbedRequest("m", ("a",)), CALL)).vectors) == 1
        await server.check_embedding("m")
        assert vendor.shown == ["key-0", "key-1", "key-1"]
        vendor.good = []
        with pytest.raises(BackendUnavailable):
            await server.embed("m", EmbedRequest("m", ("a",)), CALL)


async def test_who_waits_for_a_key_of_a_server_that_closes_is_told(upstream: MakeServer) -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.request()

    async with RawUpstream(script) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        waiting = asyncio.ensure_future(server.check("m"))
        await asked.wait()
        await server.aclose()
        with pytest.raises(BackendUnavailable):
            await waiting


SEES = msgspec.structs.replace(
    DEPLOYMENT, card=msgspec.structs.replace(DEPLOYMENT.card, capabilities=("chat", "images"))
)
INSIDE = "http://169.254.169.254/latest/meta-data"
INLINE = "data:image/PNG;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("url", "kind", "taken"),
    [
        (INLINE, "openai", True),
        (INSIDE, "openai", False),
        (INSIDE, "ark", False),
        ("https://example.com/a.png", "openai", False),
        ("https://example.com/a.png", "ark", True),
        ("file:///etc/passwd", "openai", False),
        ("data:text/html;base64,aGk=", "openai", False),
        ("data:image/svg+xml;base64,aGk=", "openai", False),
        (" " + INLINE, "openai", False),
        ("/etc/passwd", "ark", False),
    ],
)
async def test_no_upstream_is_sent_to_fetch_an_image(upstream: MakeServer, url: str, kind: str, taken: bool) -> None:
    parts = (TextPart("see"), ImagePart(INLINE), ImagePart(url))
    request = ChatRequest("m", (Message("system", "s"), Message("user", parts)))
    async with RawUpstream(saying(answer(200, WHOLE))) as raw_server:
        model, sink = upstream(raw_server.url(), kind=kind).model("served"), Kept()
        if taken:
            model.start(SEES, request, CALL, sink)
            await soon(lambda: sink.over)
            assert sink.error is None
            return
        with pytest.raises(UnsupportedInput) as refused:
            model.start(SEES, request, CALL, sink)
        assert refused.value.field == "messages[1].content[2].image_url.url"


@pytest.mark.parametrize(
    ("characters", "max_tokens", "said"), [(4096, None, 4096), (4097, None, None), (8000, 7, 7), (1, 7, 7)]
)
async def test_an_answer_has_the_cards_limit_where_it_has_no_other(
    upstream: MakeServer, characters: int, max_tokens: int | None, said: int | None
) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.request())
        await peer.say(answer(200, WHOLE))

    request = ChatRequest("m", (Message("user", "x" * characters),), max_tokens=max_tokens)
    async with RawUpstream(script) as raw_server:
        await run(upstream(raw_server.url()).model("served"), request)
    assert msgspec.json.decode(got[0].partition(b"\r\n\r\n")[2]).get("max_tokens") == said


@pytest.mark.parametrize(("prompt", "completion", "believed"), [(9, 9, True), (20_000, 9, False), (9, 20_000, False)])
async def test_counts_that_cannot_be_are_not_believed(
    upstream: MakeServer, prompt: int, completion: int, believed: bool
) -> None:
    usage = b',"usage":{"prompt_tokens":%d,"completion_tokens":%d}}' % (prompt, completion)
    async with RawUpstream(saying(answer(200, WHOLE[:-1] + usage))) as raw_server:
        events, failure = await heard(upstream(raw_server.url()), REQUEST)
    assert failure is None
    assert any(isinstance(event, UsageReport) for event in events) is believed


@pytest.mark.parametrize("words", ["no served here", "ask ep-2025-x", "for AKLTabc only"])
async def test_no_error_names_what_the_operator_calls_a_model(upstream: MakeServer, words: str) -> None:
    vendor = answer(400, msgspec.json.encode({"error": {"message": words}}))

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            await peer.say(answer(200, granted("key-0", EXPIRES_S)) if b"GetApiKey" in request else vendor)

    async with RawUpstream(script) as raw_server:
        server = upstream(raw_server.url("/api/v3"), pair=PAIR, kind="ark")
        _, failure = await heard(server, REQUEST)
    assert type(failure) is BadRequest
    assert words.split()[1] not in failure.message


async def test_of_texts_that_fail_the_first_error_is_told_and_the_others_are_left(upstream: MakeServer) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            if b"wrong" in request:
                await peer.say(answer(400, b'{"error":{"message":"no"}}'))

    async with RawUpstream(script) as raw_server:
        server = upstream(raw_server.url())
        with pytest.raises(BadRequest):
            await server.tokenize("m", TokenizeRequest("m", ("silent", "wrong")), CALL)
