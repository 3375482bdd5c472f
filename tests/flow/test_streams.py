"""Streams beside each other: signs of life, clients that do not read, and nobody's words in another's answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.http.asgi import Limits
from arkway.testing import ENDPOINT_ID, Gate, MemoryLedger, Step, echoes, running_server
from arkway.wire import json
from tests.tools.client import Connection, text

CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")


def ask(content: str) -> dict[str, Any]:
    return {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": content}], "stream": True}


def delta(frame: bytes) -> str:
    return str(json.loads(frame[6:])["choices"][0]["delta"]["content"])


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("spoken", [0, 1], ids=["while the prompt is read", "between tokens"])
def test_a_silent_stream_gives_signs_of_life_that_say_nothing(path: str, spoken: int) -> None:
    gate = Gate()

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Progress(1, 2)
        yield from [Delta("一", completion_tokens=1)] * spoken
        yield gate
        yield Delta("二", completion_tokens=2)
        yield Finished("stop")

    with running_server(script, settings={"stream": {"heartbeat_s": 0.1}}) as server, Connection(server.url) as client:
        client.send("POST", path, ask("问"))
        assert client.head()[0] == 200
        pieces = client.chunks()
        said = [next(pieces) for _ in range(spoken)]
        beats = [next(pieces) for _ in range(3)]
        gate.open()
        rest = b"".join(pieces)
    assert [delta(beat) for beat in beats] == ["", "", ""]
    assert all(beat.startswith(b'data: {"choices":[{"delta":{"content":""') for beat in beats)
    assert text(b"".join(said) + b"".join(beats) + rest) == "一" * spoken + "二"


def test_signs_of_life_end_with_the_stream() -> None:
    with running_server(settings={"stream": {"heartbeat_s": 0.05}}) as server, Connection(server.url) as client:
        for _ in range(5):
            assert text(client.post(CHATS[0], ask("一二三")).body) == "一二三"
            time.sleep(0.1)
            client.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.socket.recv(1)
            client.socket.setblocking(True)


def endless(request: ChatRequest) -> Iterator[Step]:
    """Says ever more, unless the message is to be said back."""
    content = request.messages[-1].text()
    if content != "endless":
        yield from echoes(request)
        return
    count = 0
    while True:
        count += 1
        yield Delta("字" * 20_000, completion_tokens=count, prompt_tokens=7)


def test_a_client_that_never_reads_is_dropped_and_settled() -> None:
    ledger = MemoryLedger()
    process = psutil.Process()
    limits = Limits(write_stall_s=0.5)
    with running_server(endless, ledger=ledger, limits=limits) as server, Connection(server.url) as bystander:
        assert text(bystander.post(CHATS[0], ask("在")).body) == "在"
        files = process.num_fds()
        stuck = [socket.socket() for _ in range(5)]
        for one in stuck:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(bystander.socket.getpeername())
            body = json.dumps(ask("endless"))
            head = f"POST {CHATS[0]} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\n"
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        start = time.monotonic()
        while len(ledger.settlements) < 6 or server.backend.open_streams:
            assert text(bystander.post(CHATS[0], ask("在")).body) == "在"
            assert time.monotonic() - start < 10
            time.sleep(0.02)
        # The server's ends are closed although the clients still hold theirs.
        while process.num_fds() > files + len(stuck):
            assert time.monotonic() - start < 10
            time.sleep(0.02)
        for one in stuck:
            one.close()
    aborted = [entry for entry in ledger.settlements.values() if entry.outcome == "client_abort"]
    assert len(aborted) == len(stuck)
    assert all(entry.usage.completion_tokens > 0 for entry in aborted)


def test_a_slow_client_is_waited_for() -> None:
    with running_server(endless, limits=Limits(write_stall_s=2)) as server, Connection(server.url) as client:
        client.send("POST", CHATS[0], ask("字" * 4000))
        time.sleep(0.3)
        assert text(client.reply().body) == "字" * 4000


def test_two_streams_take_turns() -> None:
    gates = {name: [Gate() for _ in range(6)] for name in "ab"}

    def script(request: ChatRequest) -> Iterable[Step]:
        name = request.messages[-1].text()
        for count, gate in enumerate(gates[name], 1):
            yield gate
            yield Delta(f"{name}{count}", completion_tokens=count)
        yield Finished("stop")

    with running_server(script) as server, Connection(server.url) as a, Connection(server.url) as b:
        streams = {}
        for name, client in (("a", a), ("b", b)):
            client.send("POST", CHATS[0], ask(name))
        for turn in range(6):
            for name, client in (("b", b), ("a", a)):
                gates[name][turn].open()
                if not turn:
                    client.head()
                    streams[name] = client.chunks()
                assert delta(next(streams[name])) == f"{name}{turn + 1}"
        assert all(b"".join(pieces).endswith(b"data: [DONE]\n\n") for pieces in streams.values())


def test_fifty_streams_keep_apart() -> None:
    ledger = MemoryLedger()
    barrier = threading.Barrier(50, timeout=20)
    with running_server(ledger=ledger) as server:

        def one(number: int) -> tuple[str, str, str]:
            with Connection(server.url) as client:
                barrier.wait()
                words = f"第{number}号 " * 20
                reply = client.post(CHATS[number % 2], ask(words), {"X-Client-Request-Id": f"mine-{number}"})
                return words, text(reply.body), reply.headers["x-client-request-id"].removeprefix("mine-")

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(one, range(50)))
    for number, (words, got, echoed) in enumerate(answers):
        assert got == words
        assert echoed == str(number)
    assert len(ledger.settlements) == 50
    assert {entry.outcome for entry in ledger.settlements.values()} == {"done"}


def test_one_connection_carries_call_after_call() -> None:
    with running_server() as server, Connection(server.url) as client:
        for number in range(30):
            body = ask(f"第{number}次")
            if number % 3:
                whole = client.post(CHATS[number % 2], {**body, "stream": False}).json()
                assert whole["choices"][0]["message"]["content"] == f"第{number}次"
            else:
                assert text(client.post(CHATS[number % 2], body).body) == f"第{number}次"


def test_pipelined_calls_are_answered_in_order() -> None:
    with running_server() as server, Connection(server.url) as client:
        for word in ("一", "二", "三"):
            client.send("POST", CHATS[0], {**ask(word), "stream": False})
        said = [client.reply().json()["choices"][0]["message"]["content"] for _ in range(3)]
    assert said == ["一", "二", "三"]
