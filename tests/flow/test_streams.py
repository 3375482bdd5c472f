"""Streams beside each other: signs of life, clients that do not read, and nobody's words in another's answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest

from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.http.asgi import Limits
from arkway.testing import Gate, MemoryLedger, Step, echoes, running_server
from arkway.wire import json
from tests.tools.client import Connection
from tests.tools.waiting import PATIENCE_S, until
from tests.tools.wires import CLIENTS, V3, WIRES, Wire


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("spoken", [0, 1], ids=["while the prompt is read", "between tokens"])
def test_a_silent_stream_gives_signs_of_life_that_say_nothing(wire: Wire, spoken: int) -> None:
    gate = Gate()

    def script(_: ChatRequest) -> Iterable[Step]:
        yield Progress(1, 2)
        yield from [Delta("一", completion_tokens=1)] * spoken
        yield gate
        yield Delta("二", completion_tokens=2)
        yield Finished("stop")

    with running_server(script, settings={"stream": {"heartbeat_s": 0.1}}) as server, Connection(server.url) as client:
        client.send("POST", *wire.chat(stream=True))
        assert client.head()[0] == 200
        pieces = client.chunks()
        said = [next(pieces) for _ in range(spoken)]
        beats = [next(pieces) for _ in range(3)]
        gate.open()
        rest = b"".join(pieces)
    assert all(wire.beats(beat) for beat in beats)
    assert wire.text(b"".join(said) + b"".join(beats) + rest) == "一" * spoken + "二"
    assert rest.endswith(wire.end)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_signs_of_life_end_with_the_stream(wire: Wire) -> None:
    with running_server(settings={"stream": {"heartbeat_s": 0.05}}) as server, Connection(server.url) as client:
        for _ in range(3):
            assert wire.text(client.post(*wire.chat("一二三", stream=True)).body) == "一二三"
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
    here = V3.chat("在", stream=True)
    with running_server(endless, ledger=ledger, limits=limits) as server, Connection(server.url) as bystander:
        assert V3.text(bystander.post(*here).body) == "在"
        files = process.num_fds()
        stuck = [socket.socket() for _ in range(2 * len(WIRES))]
        for number, one in enumerate(stuck):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(bystander.socket.getpeername())
            path, values, _ = WIRES[number % len(WIRES)].chat("endless", stream=True)
            body = json.dumps(values)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\n"
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

        def dropped() -> bool:
            assert V3.text(bystander.post(*here).body) == "在"
            aborted = sum(entry.outcome == "client_abort" for entry in ledger.settlements.values())
            return aborted == len(stuck) and not server.backend.open_streams

        until(dropped)
        # The server's ends are closed although the clients still hold theirs.
        until(lambda: process.num_fds() <= files + len(stuck))
        for one in stuck:
            one.close()
    aborted = [entry for entry in ledger.settlements.values() if entry.outcome == "client_abort"]
    assert len(aborted) == len(stuck)
    assert all(entry.usage.completion_tokens > 0 for entry in aborted)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_a_slow_client_is_waited_for(wire: Wire) -> None:
    with running_server(endless, limits=Limits(write_stall_s=PATIENCE_S)) as server, Connection(server.url) as client:
        client.send("POST", *wire.chat("字" * 4000, stream=True))
        time.sleep(0.3)
        assert wire.text(client.reply().body) == "字" * 4000


def test_streams_take_turns() -> None:
    wires = dict(zip("abcdef", WIRES, strict=True))
    gates = {name: [Gate() for _ in range(6)] for name in wires}

    def script(request: ChatRequest) -> Iterable[Step]:
        name = request.messages[-1].text()
        for count, gate in enumerate(gates[name], 1):
            yield gate
            yield Delta(f"{name}{count}", completion_tokens=count)
        yield Finished("stop")

    with running_server(script) as server, ExitStack() as stack:
        streams = {}
        clients = {name: stack.enter_context(Connection(server.url)) for name in wires}
        for name, client in clients.items():
            client.send("POST", *wires[name].chat(name, stream=True))
        for turn in range(6):
            for name, client in reversed(clients.items()):
                gates[name][turn].open()
                if not turn:
                    client.head()
                    streams[name] = client.chunks()
                assert wires[name].text(next(streams[name])) == f"{name}{turn + 1}"
        assert all(b"".join(pieces).endswith(wires[name].end) for name, pieces in streams.items())


def test_fifty_streams_keep_apart() -> None:
    ledger = MemoryLedger()
    barrier = threading.Barrier(50, timeout=PATIENCE_S)
    with running_server(ledger=ledger) as server:

        def one(number: int) -> tuple[str, str, str]:
            with Connection(server.url) as client:
                barrier.wait()
                words = f"第{number}号 " * 20
                wire = CLIENTS[number % len(CLIENTS)]
                path, body, headers = wire.chat(words, stream=True)
                reply = client.post(path, body, {**headers, "X-Client-Request-Id": f"mine-{number}"})
                return words, wire.text(reply.body), reply.headers["x-client-request-id"].removeprefix("mine-")

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
            wire, stream = CLIENTS[number % len(CLIENTS)], number % 3 == 0
            reply = client.post(*wire.chat(f"第{number}次", stream=stream))
            assert (wire.text(reply.body) if stream else wire.text_of(reply)) == f"第{number}次"


def test_pipelined_calls_are_answered_in_order() -> None:
    with running_server() as server, Connection(server.url) as client:
        for number, wire in enumerate(WIRES):
            client.send("POST", *wire.chat(f"第{number}次"))
        said = [wire.text_of(client.reply()) for wire in WIRES]
    assert said == [f"第{number}次" for number in range(len(WIRES))]
