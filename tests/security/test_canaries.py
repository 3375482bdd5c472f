"""Prompts, answers and keys must not be in any log line, at any level, whatever happens to the call (L1, L4)."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

import pytest

from arkway.core.chat import ChatRequest
from arkway.core.errors import BackendFailed
from arkway.core.events import Delta, Finished
from arkway.telemetry.log import to_stream
from arkway.testing import API_KEY, ENDPOINT_ID, Gate, RunningServer, Step, running_server
from arkway.wire import json
from tests.tools.client import Connection

PROMPT, ANSWER, NAME = "CANARY-PROMPT-7f3a", "CANARY-ANSWER-9c1e", "CANARY-NAME-5d2b"
WRONG_KEY = "ark-CANARYKEY4e8f0123456789abcdef"
CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")


def acts(request: ChatRequest) -> Iterator[Step]:
    way = request.messages[-1].text().split()[0]
    if way == "defect-before":
        yield ValueError(f"{request.messages} {ANSWER}")
    yield Delta(ANSWER, completion_tokens=1)
    match way:
        case "fails":
            yield BackendFailed("the engine stopped")
        case "defect-after":
            yield KeyError(PROMPT)
        case "waits":
            yield Gate()
    yield Finished("stop")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Every line of every logger at debug level."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    to_stream("debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def clean(log: str) -> None:
    for canary in (PROMPT, ANSWER, NAME, API_KEY, WRONG_KEY, "CANARY"):
        assert canary not in log
    for line in log.splitlines():
        assert json.load_object(line.encode())["time"]


def ask(way: str, *, stream: bool) -> dict[str, object]:
    return {
        "model": ENDPOINT_ID,
        "messages": [{"role": "user", "content": f"{way} {PROMPT}", "name": NAME}],
        "stream": stream,
        "user": NAME,
    }


@pytest.mark.parametrize("path", CHATS)
def test_no_call_leaves_its_words_in_the_log(lines: io.StringIO, path: str) -> None:
    with running_server(acts, settings={"server": {"access_log": True}}) as server, Connection(server.url) as client:
        for way in ("speaks", "fails", "defect-before", "defect-after"):
            for stream in (True, False):
                reply = client.post(path, ask(way, stream=stream))
                assert (ANSWER.encode() in reply.body) == (reply.status == 200)
        client.post(path, {**ask("x", stream=False), "model": PROMPT})
        client.post(path, {**ask("x", stream=False), "temperature": PROMPT})
        client.post(path, f'{{"{PROMPT}": NaN}}'.encode())
        client.post(path, b"{" + PROMPT.encode())
        client.post(path, ask("x", stream=False), key=WRONG_KEY)
        client.post(path, ask("x", stream=False), {"Authorization": f"Basic {WRONG_KEY}"})
        client.post(
            path, ask("x", stream=False), {"X-Client-Request-Id": PROMPT, "User-Agent": PROMPT, "Cookie": PROMPT}
        )
        client.get(f"/v1/models/{PROMPT}")
        client.get(f"/{PROMPT}?key={API_KEY}&prompt={PROMPT}")
        left = Connection(server.url)
        left.send("POST", path, ask("waits", stream=True))
        left.head()
        left.close()
        with Connection(server.url) as broken:
            broken.socket.sendall(f"GET /{PROMPT}\x00 HTTP/1.1\r\nX: {API_KEY}\r\n\r\n".encode())
            assert broken.reply().status == 400
        settled_by = time.monotonic() + 10
        while server.backend.open_streams and time.monotonic() < settled_by:
            time.sleep(0.01)
        metrics = client.get("/metrics").body.decode()
    log = lines.getvalue()
    clean(log)
    assert "CANARY" not in metrics
    assert API_KEY not in metrics
    told = [json.load_object(line.encode()) for line in log.splitlines()]
    assert sum(str(line["message"]).startswith("internal error") for line in told) == 4
    assert {"done", "upstream_error", "refused", "client_abort"} <= {str(line.get("outcome")) for line in told}


def test_logged_fields_cannot_forge_lines(lines: io.StringIO) -> None:
    with running_server() as server, Connection(server.url) as client:
        client.get("/%0d%0a%7b%22level%22:%22error%22%7d%1b[31m")
        client.post(CHATS[0], {"model": 'x\n{"level":"error"}', "messages": []})
    clean(lines.getvalue())
    assert "\x1b" not in lines.getvalue()


def test_the_whole_abuse_of_this_folder_left_no_words(log: io.StringIO, server: RunningServer) -> None:
    """Runs with the folder's own server: whatever the other files sent is in this log, or rather is not."""
    assert server.api_key not in log.getvalue()
    with Connection(server.url) as client:
        client.post(CHATS[0], ask("一", stream=True))
    clean(log.getvalue())
