"""`arkway serve` in front of another server, set up by the command line alone and changed while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.core.caller import Caller
from arkway.core.chat import ChatRequest
from arkway.testing import EMBEDDING_CARD, Gate, RunningServer, Step, echoes, running_server, says
from arkway.wire import json
from tests.e2e.conftest import CHAT_MODEL, Home, Served
from tests.tools.client import Connection, Reply

WITHIN_S = 30.0
KEY = "ark-upstreams-own-key"
SAID = "up and running"
TEXT = {"messages": [{"role": "user", "content": SAID}]}


def soon(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.fixture
def upstream() -> Iterator[RunningServer]:
    """A server that takes one key alone, and model names."""
    settings = {"surface": {"v3_model_names": True}}
    with running_server(echoes, keys={KEY: Caller("default", "default", "key-own")}, settings=settings) as server:
        yield server


def add(home: Home, upstream: RunningServer, *words: str, name: str = "first") -> Any:
    home.environ["UPSTREAM_KEY"] = KEY
    return home.json("upstreams", "add", name, f"{upstream.url}/api/v3", "--key-env", "UPSTREAM_KEY", *words)


def key_of(served: Served) -> str:
    return Path(served.said["key_file"]).read_text().strip()


def ask(client: Connection, model: str, *, stream: bool = False) -> Reply:
    return client.post("/api/v3/chat/completions", {"model": model, "stream": stream, **TEXT})


def text_of(reply: Reply) -> str:
    """Of a whole answer or of a stream of the v3 form, which has to be complete."""
    if reply.headers["content-type"].startswith("application/json"):
        return str(reply.json()["choices"][0]["message"]["content"])
    lines = [line[5:].strip() for line in reply.body.split(b"\n") if line.startswith(b"data:")]
    assert lines[-1] == b"[DONE]"
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice.get("finish_reason")] == ["stop"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_one_command_puts_another_server_behind_this_one(home: Home, upstream: RunningServer) -> None:
    made = add(home, upstream, "--serve", f"small={upstream.endpoint_id}")
    (serving,) = made["serving"]
    checked = home.json("upstreams", "check", "first")
    assert [entry["ok"] for entry in checked] == [True, True], checked
    with home.serving() as served:
        endpoint = served.endpoint("small")
        assert serving["endpoints"] == [endpoint]
        with Connection(served.url, key_of(served)) as client:
            for stream in (False, True):
                assert text_of(ask(client, endpoint, stream=stream)) == SAID
                v1 = {"model": {"endpoint_id": endpoint}, "stream": stream, **TEXT}
                assert _joined(client.post("/api/v1/chat", v1), stream) == SAID
                v2 = {"stream": stream, **TEXT}
                assert _joined(client.post(f"/api/v2/endpoint/{endpoint}/chat", v2), stream) == SAID
                own = {"model": "small", "stream": stream, **TEXT}
                assert text_of(client.post("/v1/chat/completions", own)) == SAID
            listed = [entry["id"] for entry in client.get("/v1/models").json()["data"]]
            assert any("small" in name for name in listed), listed
            metrics = client.get("/metrics").body.decode()
        assert "arkway_upstream_members_well 1" in metrics
        assert "arkway_upstream_calls 8" in metrics
    used = home.json("usage", "--by", "model")
    assert sum(row["calls"] for row in used if row["model"] == "small-1") == 8, used
    assert KEY not in served.errors
    assert KEY.encode() not in (home.path / "arkway.db").read_bytes()


def _joined(reply: Reply, stream: bool) -> str:
    """The text of an answer of the v1 (``choice``) or v2 (``choices``) form."""
    assert reply.status == 200, reply.body
    if not stream:
        return _said(reply.json())
    lines = [line[5:].strip() for line in reply.body.split(b"\n") if line.startswith(b"data:")]
    frames = [json.loads(line) for line in lines if line != b"[DONE]"]
    assert not [frame for frame in frames if frame.get("error")], frames
    return "".join(map(_said, frames))


def _said(frame: dict[str, Any]) -> str:
    choices = frame.get("choices") or [frame.get("choice")]
    parts = [choice.get("delta") or choice.get("message") or {} for choice in choices if choice]
    return "".join(part.get("content") or "" for part in parts)


TOKENS = {"text": ["hello world", "你好，世界"]}


def test_a_server_without_tokenization_has_that_of_an_installed_model(stocked: Home, upstream: RunningServer) -> None:
    made = add(stocked, upstream, "--serve", f"big={upstream.endpoint_id}", "--tokenizer", CHAT_MODEL)
    (endpoint,) = made["serving"][0]["endpoints"]
    with stocked.serving() as served, Connection(served.url, served.secret()) as client:
        lent = client.post("/api/v3/tokenization", {"model": endpoint, **TOKENS})
        assert lent.status == 200, lent.body
        of_model = client.post("/api/v3/tokenization", {"model": served.endpoint(CHAT_MODEL), **TOKENS})
        assert cut(lent) == cut(of_model)
        assert cut(lent)[0][1] == [[0, 5], [5, 11]]
        v1 = client.post("/api/v1/tokenization", {"model": {"endpoint_id": endpoint}, "text": "hello world"})
        v2 = client.post(f"/api/v2/endpoint/{endpoint}/tokenization", {"text": "hello world"})
        assert [reply.json()["total_tokens"] for reply in (v1, v2)] == [2, 2]
        taken = ("groups", "set", "big", "--member", f"first/{upstream.endpoint_id}")
        stocked.json(*taken, "--tokenizer", "qwen2.5-0.5b-instruct:none")
        soon(lambda: "arkway pull qwen2.5-0.5b-instruct:none" in refused(client, endpoint, 500))
        stocked.json(*taken, "--tokenizer", "")
        soon(lambda: "does not support tokenization" in refused(client, endpoint, 400))
    stocked.json("groups", "remove", "big")
    stocked.json("upstreams", "remove", "first")


def cut(reply: Reply) -> list[tuple[list[int], list[list[int]]]]:
    """The ids and ranges of each text."""
    return [(entry["token_ids"], entry["offset_mapping"]) for entry in reply.json()["data"]]


def refused(client: Connection, endpoint: str, status: int) -> str:
    """What is said to a call for tokens, once it is refused with this status."""
    reply = client.post("/api/v3/tokenization", {"model": endpoint, **TOKENS})
    return str(reply.error()["message"]) if reply.status == status else ""


def test_changes_are_taken_in_while_it_serves(home: Home, upstream: RunningServer) -> None:
    with home.serving() as served, Connection(served.url, key_of(served)) as client:
        assert "small" not in [entry["model"] for entry in served.said["endpoints"]]
        (serving,) = add(home, upstream, "--serve", f"small={upstream.endpoint_id}")["serving"]
        (endpoint,) = serving["endpoints"]
        soon(lambda: ask(client, endpoint).status == 200)
        with running_server(says("the other one")) as other:
            home.environ["UPSTREAM_KEY"] = other.api_key
            moved = home.json(
                "upstreams", "update", "first", "--url", f"{other.url}/api/v3", "--key-env", "UPSTREAM_KEY"
            )
            assert (moved["auth"], "secret" in moved) == ("key", False)
            soon(lambda: "the other one" in ask(client, endpoint).body.decode())
        home.json("groups", "remove", "small")
        soon(lambda: ask(client, endpoint).status >= 500)
        home.json("upstreams", "remove", "first")
        error = ask(client, endpoint).error()
        assert upstream.url not in error["message"]
        assert home.json("upstreams", "list") == home.json("groups", "list") == []


def test_calls_under_way_end_where_they_began(home: Home) -> None:
    gate = Gate()
    asked: list[ChatRequest] = []

    def slow(request: ChatRequest) -> Iterator[Step]:
        """The first call waits in its middle."""
        asked.append(request)
        steps = list(says("first", "second")(request))
        yield from (*steps[:2], gate, *steps[2:]) if len(asked) == 1 else steps

    with running_server(slow) as old, running_server(says("new")) as new, home.serving() as served:
        home.environ |= {"OLD": old.api_key, "NEW": new.api_key}
        made = home.json(
            *("upstreams", "add", "one", f"{old.url}/api/v3", "--key-env", "OLD"), "--serve", f"m={old.endpoint_id}"
        )
        (endpoint,) = made["serving"][0]["endpoints"]
        with Connection(served.url, key_of(served)) as under_way, Connection(served.url, key_of(served)) as client:
            soon(lambda: client.get("/api/v3/models").status == 200 and _listed(client, endpoint))
            under_way.send("POST", "/api/v3/chat/completions", {"model": endpoint, "stream": True, **TEXT})
            soon(lambda: old.backend.open_streams == 1)
            home.json("upstreams", "update", "one", "--url", f"{new.url}/api/v3", "--key-env", "NEW")
            soon(lambda: text_of(ask(client, endpoint)) == "new")
            assert old.backend.open_streams == 1
            gate.open()
            assert text_of(under_way.reply("POST")) == "firstsecond"


def _listed(client: Connection, endpoint: str) -> bool:
    return endpoint in client.get("/api/v3/models").body.decode()


def test_several_processes_serve_it(home: Home, upstream: RunningServer, postgres_url: str) -> None:
    home.environ |= {"ARKWAY__DATABASE__URL": postgres_url, "ARKWAY__SERVER__DRAIN_S": "5"}
    with home.serving("--workers", "2") as served:
        (serving,) = add(home, upstream, "--serve", f"small={upstream.endpoint_id}")["serving"]
        (endpoint,) = serving["endpoints"]

        def all_serve() -> bool:
            for _ in range(20):  # connections are spread over both processes
                with Connection(served.url, key_of(served)) as client:
                    if ask(client, endpoint).status != 200:
                        return False
            return True

        soon(all_serve)


def test_embeddings_come_from_it_too(home: Home, upstream: RunningServer) -> None:
    size = str(EMBEDDING_CARD.dimensions)
    add(home, upstream, "--serve", f"vectors={upstream.embedding_endpoint_id}", "--dimensions", size)
    with home.serving() as served, Connection(served.url, key_of(served)) as client:
        body = {"model": served.endpoint("vectors"), "input": ["one", "two"]}
        reply = client.post("/api/v3/embeddings", body)
        assert reply.status == 200, reply.body
        assert [len(entry["embedding"]) for entry in reply.json()["data"]] == [EMBEDDING_CARD.dimensions] * 2
        with Connection(upstream.url, KEY) as direct:
            there = direct.post("/api/v3/embeddings", {**body, "model": upstream.embedding_endpoint_id}).json()
        assert reply.json()["data"] == there["data"]
        assert reply.json()["usage"] == there["usage"]
