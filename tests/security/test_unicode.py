"""Text that is hard: whatever a backend says and however it is cut, what leaves is UTF-8 and JSON (J4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.testing import RunningServer, Step, running_server
from arkway.wire import json
from tests.tools.client import Connection
from tests.tools.examples import examples
from tests.tools.wires import CLIENTS, WIRES, Wire

SAYINGS: dict[str, list[str]] = {
    "an emoji in halves": ["\ud83d", "\ude00"],
    "a lone high surrogate": ["a\ud83d", "b"],
    "a lone low surrogate": ["\ude00"],
    "a nul": ["a\0b"],
    "right to left": ["\u202e", "مرحبا", "\u2066שלום\u2069"],
    "byte order marks": ["\ufeff", "\ufffe"],
    "frames": ["data: [DONE]\n\n", "\r\n\r\n", "\n\ndata: {}\n\n", "event: x\n"],
    "separators": ["\u2028", "\u2029", "\x85", "\x0b"],
    "the encoder's own marker": ["\ue000", '"\ue000"'],
    "nothing": ["", "", ""],
    "joined": list("👩‍👩‍👧‍👦"),
    "combining": ["e", "\u0301"],
    "markup": ["</script>", "<|im_end|>", '"}]}'],
    "long": ["字" * 100_000],
}
said: list[str] = []


def repeats(request: ChatRequest) -> Iterator[Step]:
    """Says a list by name, or what the test has put down."""
    yield Progress(1, 1)
    for count, piece in enumerate(SAYINGS.get(request.messages[-1].text(), said), 1):
        yield Delta(piece, completion_tokens=count)
    yield Finished("stop")


@pytest.fixture(scope="module")
def client() -> Iterator[Connection]:
    with running_server(repeats) as server, Connection(server.url) as connection:
        yield connection


def mended(pieces: Iterable[str]) -> str:
    """The text as UTF-8 can carry it, each piece by itself."""
    return "".join(p.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for p in pieces)


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
@pytest.mark.parametrize("name", SAYINGS)
def test_answers_are_utf8_and_whole(client: Connection, wire: Wire, name: str) -> None:
    stream = client.post(*wire.chat(name, stream=True))
    stream.body.decode("utf-8")
    assert wire.text(stream.body) == mended(SAYINGS[name])
    assert len(wire.frames(stream.body)) == len([piece for piece in SAYINGS[name] if piece]) + 2
    whole = client.post(*wire.chat(name))
    whole.body.decode("utf-8")
    assert wire.text_of(whole) == mended(["".join(SAYINGS[name])])


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.text(st.characters(exclude_categories=())), max_size=8), wire=st.sampled_from(CLIENTS))
def test_anything_at_all_arrives(client: Connection, pieces: list[str], wire: Wire) -> None:
    said[:] = pieces
    assert wire.text(client.post(*wire.chat("?", stream=True)).body) == mended(pieces)


@pytest.mark.parametrize("wire", WIRES, ids=repr)
def test_a_request_may_be_cut_anywhere(server: RunningServer, wire: Wire) -> None:
    content = "你好😀\u202e\ufeff"
    path, values, _ = wire.chat(content)
    body = json.dumps(values)
    end = body.index(content.encode()) + len(content.encode()) + 3
    with Connection(server.url) as connection:
        for cut in range(end - 30, end):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\n"
            head += "Transfer-Encoding: chunked\r\n\r\n"
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:cut], body[cut:]))
            connection.socket.sendall(head.encode() + pieces + b"0\r\n\r\n")
            assert wire.text_of(connection.reply()) == content
