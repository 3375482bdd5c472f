"""Text that is hard: whatever a backend says and however it is cut, what leaves is UTF-8 and JSON (J4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arkway.core.chat import ChatRequest
from arkway.core.events import Delta, Finished, Progress
from arkway.testing import ENDPOINT_ID, RunningServer, Step, running_server
from tests.tools.client import Connection, frames, text

CHATS = ("/api/v3/chat/completions", "/v1/chat/completions")
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


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("name", SAYINGS)
def test_answers_are_utf8_and_whole(client: Connection, path: str, name: str) -> None:
    body = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": name}]}
    stream = client.post(path, {**body, "stream": True})
    stream.body.decode("utf-8")
    assert text(stream.body) == mended(SAYINGS[name])
    assert len(frames(stream.body)) == len([piece for piece in SAYINGS[name] if piece]) + 2
    whole = client.post(path, body)
    whole.body.decode("utf-8")
    assert whole.json()["choices"][0]["message"]["content"] == mended(["".join(SAYINGS[name])])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.text(st.characters(exclude_categories=())), max_size=8), path=st.sampled_from(CHATS))
def test_anything_at_all_arrives(client: Connection, pieces: list[str], path: str) -> None:
    said[:] = pieces
    body = {"model": ENDPOINT_ID, "messages": [{"role": "user", "content": "?"}], "stream": True}
    assert text(client.post(path, body).body) == mended(pieces)


def test_a_request_may_be_cut_anywhere(server: RunningServer) -> None:
    content = "你好😀\u202e\ufeff"
    body = f'{{"model":"{ENDPOINT_ID}","messages":[{{"role":"user","content":"{content}"}}]}}'.encode()
    with Connection(server.url) as connection:
        for cut in range(len(body) - 30, len(body)):
            head = f"POST {CHATS[0]} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\n"
            head += "Transfer-Encoding: chunked\r\n\r\n"
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:cut], body[cut:]))
            connection.socket.sendall(head.encode() + pieces + b"0\r\n\r\n")
            assert connection.reply().json()["choices"][0]["message"]["content"] == content
