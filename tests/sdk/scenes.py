"""What the scripted backend plays for the clients, and how to see that it was left in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from arkway.core.chat import ChatRequest, LogprobEntry, TokenLogprob, Usage
from arkway.core.errors import ArkwayError, BackendFailed
from arkway.core.events import Cited, Delta, Finished, Intention, Progress, ToolDelta, UsageReport
from arkway.testing import MemoryLedger, Pause, RunningServer, Script, Step
from tests.wire.scripts import BOT_END, DOCUMENT, PAGE

BOT_ID = "bot-20240701000000-tests"
FREED_WITHIN_S = 1.0


def play(server: RunningServer, script: Script) -> None:
    """What the backend does from now on."""
    server.backend.script = script


def fails(error: ArkwayError) -> Script:
    return lambda _: [error]


def breaks_off(*pieces: str) -> Script:
    def script(_: object) -> Iterable[Step]:
        yield Progress(7, 7)
        for number, piece in enumerate(pieces, 1):
            yield Delta(piece, completion_tokens=number, prompt_tokens=7)
        yield BackendFailed("the engine stopped while it was answering")

    return script


def looks_up(request: ChatRequest) -> Iterable[Step]:
    """A bot's answer: it has found a page and a document, and used the former."""
    if request.wants_intention:
        yield Intention("正在搜索")
    yield Cited((PAGE, DOCUMENT))
    yield Delta("晴[1]")
    yield Delta("。")
    yield Cited((PAGE,))
    yield from BOT_END


def calls_weather(_: object) -> Iterable[Step]:
    """A tool call in three pieces."""
    yield ToolDelta(0, "", id="call_1", name="get_weather")
    yield ToolDelta(0, '{"城市": ', completion_tokens=4)
    yield ToolDelta(0, '"北京"}', completion_tokens=8)
    yield Finished("tool_calls")
    yield UsageReport(Usage(20, 8))


def scores_emoji(_: object) -> Iterable[Step]:
    """One character in two tokens, neither of which is text by itself."""
    head, tail = TokenLogprob("\ufffd", -0.25, b"\xf0\x9f"), TokenLogprob("\ufffd", -0.5, b"\x98\x80")
    yield Delta("", logprobs=(LogprobEntry(head, (head,)),), completion_tokens=1)
    rival = TokenLogprob("好", -1.5, "好".encode())
    yield Delta("😀", logprobs=(LogprobEntry(tail, (rival,)),), completion_tokens=2)
    yield Finished("stop")
    yield UsageReport(Usage(7, 2))


def scores_words(_: object) -> Iterable[Step]:
    """Two tokens of two characters each, each with a rival."""
    for number, (text, rival) in enumerate([("你好", "您好"), ("世界", "大家")], 1):
        chosen = TokenLogprob(text, -0.25 * number, text.encode())
        other = TokenLogprob(rival, -1.5 * number, rival.encode())
        yield Delta(text, logprobs=(LogprobEntry(chosen, (chosen, other)),), completion_tokens=number)
    yield Finished("stop")
    yield UsageReport(Usage(7, 2))


def slowly(_: object) -> Iterable[Step]:
    """Silent for four heartbeats before the first token and for three between the two."""
    yield Progress(0, 7)
    yield Pause(1.3)
    yield Delta("你", completion_tokens=1, prompt_tokens=7)
    yield Pause(1.0)
    yield Delta("好", completion_tokens=2, prompt_tokens=7)
    yield Finished("stop")
    yield UsageReport(Usage(7, 2))


def endlessly(_: object) -> Iterator[Step]:
    for number in count(1):
        yield Delta("又", completion_tokens=number, prompt_tokens=7)
        yield Pause(0.02)


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def assert_freed(server: RunningServer) -> None:
    """The client has left: the backend's stream is closed within a second, and what it cost is on record."""
    assert wait_until(lambda: server.backend.open_streams == 0, FREED_WITHIN_S)
    assert isinstance(server.ledger, MemoryLedger)
    settled = server.ledger.settlements[server.backend.calls[-1].request_id]
    assert settled.outcome == "client_abort"
    assert settled.usage.prompt_tokens == 7
    assert settled.usage.completion_tokens >= 3
