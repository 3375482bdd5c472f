"""A moderator over HTTP: its three shapes, its three modes, and what its silence means."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkway.backends.moderation.asking import Judge, ModeratorSilent, Verdict
from arkway.backends.moderation.gate import TELL_TOKENS
from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.settings import ModeratorSettings
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.windows import Cutter, Window
from arkway.core.chat import ChatRequest, Usage
from arkway.core.errors import InputBlocked, Misconfigured
from arkway.core.events import Delta, Event, Finished, Fold, Quoted, ToolDelta, UsageReport
from tests.tools.pushing import CALL, DEPLOYMENT, Kept, Puppet, asks
from tests.tools.raw_upstream import Peer, RawUpstream
from tests.tools.waiting import PATIENCE_S, soon

BAD = "坏人"
SENTENCE = "这是一个很长很长的好句子，没有坏处。"
BAD_SENTENCE = f"这是一个很长很长的句子，里面有{BAD}。"
REPORT = UsageReport(Usage(3, 4))


class Moderator:
    """A webhook that knows one bad word. ``asked`` is what it was asked; it answers when ``open``."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.says: Callable[[dict[str, Any]], Any] = lambda body: {
            "allowed": BAD not in body["text"],
            "hit": "violence",
        }
        self.status = b"200 OK"

    async def serve(self, peer: Peer) -> None:
        while head := await _head(peer):
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = await peer.reader.readexactly(int(length.partition(b":")[2]))
            self.heads.append(head)
            self.asked.append(msgspec.json.decode(body))
            await self.open.wait()
            answer = msgspec.json.encode(self.says(self.asked[-1]))
            await peer.say(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (self.status, len(answer)) + answer)


async def _head(peer: Peer) -> bytes:
    """The head of the next request; empty when the client has hung up."""
    try:
        return await peer.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


class Scene:
    def __init__(self, moderator: Moderator, port: int) -> None:
        self.moderator, self.port = moderator, port
        self.backend, self.sink = Puppet(), Kept()
        self.counted: list[tuple[str, str]] = []
        self.judges: list[Judge] = []

    def judge(self, **values: Any) -> Judge:
        named = {"url": f"http://127.0.0.1:{self.port}/check", "shape": "webhook", "deadline_s": PATIENCE_S, **values}
        self.judges.append(Judge(msgspec.convert(named, ModeratorSettings), {"KEY": "k-1"}, "here"))
        return self.judges[-1]

    def begins(self, request: ChatRequest | None = None, **values: Any) -> Any:
        counted = self.counted
        strategy = Strategy(None, judge=self.judge(**{"stages": ["output"], **values}))
        moderated = Moderated(self.backend, lambda _: strategy, lambda *action: counted.append(action))
        return moderated.start(DEPLOYMENT, request or asks(), CALL, self.sink)

    def text(self) -> str:
        fold = Fold()
        fold.add_all(self.sink.got)
        choices = fold.reply(Usage()).choices
        return choices[0].text if choices else ""

    def finishes(self) -> list[Event]:
        return [event for event in self.sink.got if isinstance(event, Finished)]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    moderator = Moderator()
    async with RawUpstream(moderator.serve) as server:
        made = Scene(moderator, server.port)
        yield made
        for judge in made.judges:
            await judge.aclose()


OPENAI = [
    ({"results": [{"flagged": False, "categories": {}}]}, Verdict(True)),
    ({"results": [{"flagged": True, "categories": {"violence": True, "hate": False}}]}, Verdict(False, "violence")),
    ({"results": [{"flagged": True, "categories": {"violence": False, "hate": True}}]}, Verdict(False)),
    ({"results": []}, None),
    ({"results": [{"flagged": 1}]}, None),
    ({"error": "no"}, None),
]
GUARD = [("safe", Verdict(True)), ("\n\nunsafe\nS1", Verdict(False, "violence")), ("unsafe\nS10", Verdict(False))]
GUARD += [("Safety: Unsafe\nCategories: Violent", Verdict(False, "violence")), ("Safety: Controversial", Verdict(True))]
GUARD += [("Safety: Safe\nCategories: None", Verdict(True)), ("**Unsafe**", Verdict(False))]
GUARD += [("<think>That user is safe to me.</think>\nSafety: Unsafe\nCategories: PII", Verdict(False))]
SHAPES: list[tuple[str, Any, Verdict | None]] = [
    *(("openai", *each) for each in OPENAI),
    *(("chat", {"choices": [{"message": {"content": said}}]}, verdict) for said, verdict in GUARD),
    *(("chat", {"choices": [{"message": {"content": said}}]}, None) for said in ("I cannot help", "This is not safe")),
    ("webhook", {"allowed": True}, Verdict(True)),
    ("webhook", {"allowed": False, "hit": "violence"}, Verdict(False, "violence")),
    ("webhook", {"allowed": False, "hit": 3}, Verdict(False)),
    ("webhook", {"allowed": "yes"}, None),
    ("webhook", [], None),
]


@pytest.mark.parametrize(("shape", "answer", "verdict"), SHAPES)
async def test_every_shape_is_understood_and_what_is_none_is_silence(
    scene: Scene, shape: str, answer: Any, verdict: Verdict | None
) -> None:
    scene.moderator.says = lambda _: answer
    for on_failure, allowed in (("open", True), ("closed", False)):
        judge = scene.judge(shape=shape, model="guard", key_variable="KEY", on_failure=on_failure)
        expected = verdict or msgspec.convert({"allowed": allowed, "by": on_failure}, Verdict)
        assert await judge.verdict("output", "答", "问") == expected
    asked = scene.moderator.asked[-1]
    assert b"Bearer k-1" in scene.moderator.heads[-1]
    if shape == "webhook":
        assert asked == {"text": "答", "stage": "output"}
    elif shape == "openai":
        assert asked == {"input": "答", "model": "guard"}
    else:
        assert asked["messages"] == [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]


async def test_a_refusal_a_redirect_a_flood_and_a_lateness_are_silence(scene: Scene) -> None:
    silent = Verdict(False, by="closed")
    for status in (b"500 No", b"302 Found", b"401 Who"):
        scene.moderator.status = status
        assert await scene.judge().verdict("input", "问") == silent
    scene.moderator.status = b"200 OK"
    scene.moderator.says = lambda _: {"allowed": True, "more": "x" * 70_000}
    assert await scene.judge().verdict("input", "问") == silent
    scene.moderator.open.clear()
    assert await scene.judge(deadline_s=0.05).verdict("input", "问") == silent
    assert await scene.judge(url="http://127.0.0.1:1/").verdict("input", "问") == silent


async def test_what_cannot_be_read_however_deep_it_goes_is_silence(scene: Scene) -> None:
    scene.moderator.says = lambda _: msgspec.Raw(b"[" * 30_000)
    assert await scene.judge().verdict("input", "问") == Verdict(False, by="closed")
    assert await scene.judge(on_failure="open").verdict("input", "问") == Verdict(True, by="open")


async def test_nothing_is_announced_that_could_not_be_read_and_nothing_is_kept(scene: Scene) -> None:
    scene.moderator.status = b"200 OK\r\nset-cookie: a=b"
    judge = scene.judge()
    for _ in range(2):
        assert (await judge.verdict("input", "问")).allowed
    for head in scene.moderator.heads:
        fields = [line.lower() for line in head.split(b"\r\n")]
        assert b"accept-encoding: identity" in fields
        assert not [field for field in fields if field.startswith(b"cookie:")]


async def test_the_log_names_the_strategy_and_not_the_address(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.moderator.status = b"500 No"
    with caplog.at_level(logging.WARNING, "arkway.moderation"):
        await scene.judge(url=f"http://127.0.0.1:{scene.port}/check?key=k-3").verdict("input", "问")
    (record,) = caplog.records
    assert "here" in record.getMessage()
    assert "HTTP 500" in record.getMessage()
    assert "k-3" not in caplog.text


async def test_a_key_has_no_place_in_the_address(scene: Scene) -> None:
    with pytest.raises(Misconfigured, match="key_variable"):
        scene.judge(url="http://me:k-2@127.0.0.1/")


async def test_a_connection_that_has_gone_stale_is_no_silence(scene: Scene) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        body = b'{"allowed":true}'
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await peer.request()  # and hangs up

    async with RawUpstream(serve) as server:
        scene.port = server.port
        judge = scene.judge()
        assert [await judge.verdict("input", "问") for _ in range(4)] == [Verdict(True)] * 4
        assert len(server.peers) == 4


async def test_a_moderator_that_only_hangs_up_is_silent(scene: Scene) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()

    async with RawUpstream(serve) as server:
        scene.port = server.port
        assert await scene.judge().verdict("input", "问") == Verdict(False, by="closed")
        assert len(server.peers) == 2


async def test_what_is_missing_is_said_at_load(scene: Scene) -> None:
    with pytest.raises(Misconfigured, match="NO_SUCH"):
        scene.judge(key_variable="NO_SUCH")
    with pytest.raises(Misconfigured, match="host"):
        scene.judge(url="http:///check")
    with pytest.raises(Misconfigured, match="model"):
        scene.judge(shape="chat")


async def test_held_text_goes_out_after_its_verdict_in_order(scene: Scene) -> None:
    scene.moderator.open.clear()
    scene.begins(mode="hold")
    backend = scene.backend.last
    for char in SENTENCE + "后":
        backend.says((Quoted(f'"{char}"'.encode()),))
    await soon(lambda: len(scene.moderator.asked) == 1)
    assert scene.text() == ""
    scene.moderator.open.set()
    await soon(lambda: scene.text() == SENTENCE)
    backend.says((Delta("面"), Finished("stop"), REPORT))
    backend.ends()
    await soon(lambda: scene.sink.over)
    assert scene.text() == SENTENCE + "后面"
    assert scene.sink.got[-2:] == [Finished("stop"), REPORT]
    assert scene.moderator.asked[-1]["text"] == SENTENCE + "后面"
    assert scene.counted == [("output", "allow")]


async def test_a_thought_that_ends_nowhere_does_not_hold_back_what_is_said_after_it(scene: Scene) -> None:
    scene.begins(mode="hold")
    backend = scene.backend.last
    backend.says((Delta("", reasoning="想"), Delta("", reasoning="想")))
    backend.says((Delta(SENTENCE), ToolDelta(0, "{", id="c", name="f")))
    await soon(lambda: scene.text() == SENTENCE)
    assert [asked["text"] for asked in scene.moderator.asked] == ["想想", SENTENCE]


async def test_what_is_held_back_counts_when_its_caller_leaves(scene: Scene) -> None:
    scene.begins(mode="final")
    backend = scene.backend.last
    for count in range(1, 60):
        backend.says((Delta("字", completion_tokens=count, prompt_tokens=7),))
    told = [event for event in scene.sink.got if isinstance(event, Delta)]
    assert scene.text() == ""
    assert 59 - TELL_TOKENS < told[-1].completion_tokens <= 59
    assert told[-1].prompt_tokens == 7
    assert len(told) < 10


async def test_a_held_sentence_that_is_refused_never_goes_out_and_its_tokens_count(scene: Scene) -> None:
    scene.begins(mode="hold")
    backend = scene.backend.last
    backend.says((Delta(SENTENCE, completion_tokens=9),))
    backend.says((Delta(BAD_SENTENCE, completion_tokens=21), Delta("后面", completion_tokens=22)))
    await soon(lambda: scene.sink.over)
    assert scene.text() == SENTENCE
    assert scene.finishes() == [Finished("content_filter", 0, "violence")]
    assert max(event.completion_tokens for event in scene.sink.got if isinstance(event, Delta)) == 22
    assert backend.cancelled
    assert scene.counted == [("output", "block")]


async def test_what_is_asked_beside_the_answer_cuts_it_when_the_verdict_comes(scene: Scene) -> None:
    scene.moderator.open.clear()
    scene.begins(mode="async")
    backend = scene.backend.last
    backend.says((Delta(BAD_SENTENCE), Delta("后")))
    assert scene.text() == BAD_SENTENCE + "后"
    await soon(lambda: scene.moderator.asked)
    scene.moderator.open.set()
    await soon(lambda: scene.sink.over)
    assert scene.finishes() == [Finished("content_filter", 0, "violence")]
    assert backend.cancelled


async def test_verdicts_on_an_answer_that_was_cut_already_change_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    first = asyncio.Event()

    async def serve(peer: Peer) -> None:
        while head := await _head(peer):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            text = msgspec.json.decode(await peer.reader.readexactly(length))["text"]
            bad = BAD in text
            if not bad:
                await first.wait()
            answer = msgspec.json.encode({"allowed": not bad})
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)

    async with RawUpstream(serve) as server:
        scene.port = server.port
        scene.begins(msgspec.structs.replace(asks(), n=2), mode="async")
        said = scene.backend.last.says
        said((Delta(SENTENCE, 0), Delta(f"{BAD}。{SENTENCE}", 0), Delta(SENTENCE, 1)))
        await soon(scene.finishes)
        first.set()
        said((Finished("stop", 1), REPORT))
        scene.backend.last.ends()
        await soon(lambda: scene.sink.over)
    gc.collect()
    assert scene.finishes() == [Finished("content_filter", 0, "severe_violation"), Finished("stop", 1)]
    assert scene.counted == [("output", "block")]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_end_waits_for_what_is_asked_beside(scene: Scene) -> None:
    scene.moderator.open.clear()
    scene.begins(mode="async")
    scene.backend.last.says((Delta(BAD), Finished("stop"), REPORT))
    scene.backend.last.ends()
    await soon(lambda: scene.moderator.asked)
    assert scene.finishes() == []
    scene.moderator.open.set()
    await soon(lambda: scene.sink.over)
    assert scene.finishes() == [Finished("content_filter", 0, "violence")]


@pytest.mark.parametrize(("stream", "mode"), [(True, "final"), (False, "hold"), (False, "async")])
async def test_a_whole_answer_is_asked_about_once(scene: Scene, stream: bool, mode: str) -> None:
    scene.begins(msgspec.structs.replace(asks(), stream=stream), mode=mode)
    scene.backend.last.says((Delta(SENTENCE), Delta(SENTENCE)))
    assert scene.text() == ""
    scene.backend.last.says((Finished("stop"), REPORT))
    scene.backend.last.ends()
    await soon(lambda: scene.sink.over)
    assert scene.text() == SENTENCE * 2
    assert [asked["text"] for asked in scene.moderator.asked] == [SENTENCE * 2]


@pytest.mark.parametrize("mode", ["hold", "async", "final"])
@pytest.mark.parametrize("on_failure", ["open", "closed"])
async def test_silence_means_what_the_operator_says(scene: Scene, mode: str, on_failure: str) -> None:
    scene.moderator.status = b"500 No"
    scene.begins(mode=mode, on_failure=on_failure)
    scene.backend.last.says((Delta(SENTENCE), Finished("stop"), REPORT))
    scene.backend.last.ends()
    await soon(lambda: scene.sink.over)
    assert ("output", f"fail_{on_failure}") in scene.counted
    if on_failure == "open":
        assert scene.sink.error is None
        assert scene.text() == SENTENCE
    else:
        assert isinstance(scene.sink.error, ModeratorSilent)
        assert scene.finishes() == []


async def test_the_question_is_asked_about_before_anything_begins(scene: Scene) -> None:
    running = scene.begins(asks("问", system="不要说坏人"), stages=["input"])
    running.pause()
    await soon(lambda: scene.backend.asked)
    assert scene.moderator.asked == [{"text": "问", "stage": "input"}]
    assert scene.backend.last.told == ["pause"]
    assert scene.counted == [("input", "allow")]


async def test_a_question_that_is_refused_begins_nothing(scene: Scene) -> None:
    scene.begins(asks(BAD), stages=["input"])
    await soon(lambda: scene.sink.over)
    assert isinstance(scene.sink.error, InputBlocked)
    assert scene.backend.asked == []
    assert scene.counted == [("input", "block")]


async def test_a_long_question_is_asked_about_in_pieces(scene: Scene) -> None:
    scene.begins(asks("问" * 9000 + BAD + "问" * 9000), stages=["input"])
    await soon(lambda: scene.sink.over)
    assert isinstance(scene.sink.error, InputBlocked)
    assert max(len(asked["text"]) for asked in scene.moderator.asked) <= 4200
    assert scene.counted == [("input", "block")]


async def test_of_a_question_without_end_nothing_is_asked(scene: Scene) -> None:
    question = asks("问" * 300_000)
    scene.begins(question, stages=["input"], on_failure="closed")
    await soon(lambda: scene.sink.over)
    assert isinstance(scene.sink.error, ModeratorSilent)
    assert scene.backend.asked == []
    scene.begins(question, stages=["input"], on_failure="open")
    await soon(lambda: scene.backend.asked)
    assert scene.moderator.asked == []
    assert scene.counted == [("input", "fail_closed"), ("input", "fail_open"), ("input", "allow")]


async def test_no_verdict_on_a_question_is_no_fault_of_the_caller(scene: Scene) -> None:
    scene.moderator.status = b"503 No"
    scene.begins(asks("问"), stages=["input"], on_failure="closed")
    await soon(lambda: scene.sink.over)
    assert isinstance(scene.sink.error, ModeratorSilent)
    assert "127.0.0.1" not in scene.sink.error.message


async def test_whoever_leaves_ends_what_is_asked(scene: Scene) -> None:
    scene.moderator.open.clear()
    running = scene.begins(mode="hold")
    scene.backend.last.says((Delta(SENTENCE),))
    await soon(lambda: scene.moderator.asked)
    running.cancel()
    scene.moderator.open.set()
    assert scene.backend.last.cancelled
    await asyncio.sleep(0.05)
    assert scene.sink.got == []
    assert not scene.sink.over


async def test_a_retired_judge_closes_its_session_when_nobody_asks(scene: Scene) -> None:
    scene.moderator.open.clear()
    judge = scene.judge()
    asking = asyncio.create_task(judge.verdict("input", "问"))
    await soon(lambda: scene.moderator.asked)
    await judge.retire()
    scene.moderator.open.set()
    assert await asking == Verdict(True)
    assert judge._session is None
    assert await judge.verdict("input", "问") == Verdict(True)
    assert judge._session is None


@given(st.lists(st.text(alphabet="好。.! \nab", max_size=30), max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_where_an_answer_is_cut_depends_on_its_text_alone(pieces: list[str], sentences: bool) -> None:
    def windows(parts: list[str]) -> list[tuple[str, str, bool]]:
        cutter = Cutter(0, 25, sentences)
        found: list[Window] = []
        said = ""
        for part in parts:
            for piece, window in cutter.cut(part):
                said += piece
                if window not in found:
                    found.append(window)
        assert said == "".join(parts)
        return [(window.text, window.before, window.closed) for window in found]

    text = "".join(pieces)
    assert windows(pieces) == windows([text]) == windows(list(text))
    assert all(len(window) <= 25 for window, _, _ in windows([text]))
