"""A bot made by the command line, in front of another server, called over Bot API V2 and over v3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arkway.core.caller import Caller
from arkway.testing import RunningServer, echoes, running_server
from arkway.wire import json
from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection, Reply

WITHIN_S = 30.0
KEY = "ark-upstreams-own-key"
PROMPT = "You are the shop's assistant."
SAID = "up and running"
MESSAGES = [{"role": "user", "content": SAID}]


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


@pytest.fixture
def endpoint(home: Home, upstream: RunningServer) -> str:
    """Of a model that the other server answers for."""
    home.environ["UPSTREAM_KEY"] = KEY
    made = home.json(
        *("upstreams", "add", "first", f"{upstream.url}/api/v3", "--key-env", "UPSTREAM_KEY"),
        *("--serve", f"small={upstream.endpoint_id}"),
    )
    return str(made["serving"][0]["endpoints"][0])


def bot_on(home: Home, endpoint: str, *words: str, name: str = "helper") -> str:
    made = home.json("bots", "create", "--name", name, "--endpoint", endpoint, "--prompt", PROMPT, *words)
    return str(made["id"])


def key_of(served: Served) -> str:
    return Path(served.said["key_file"]).read_text().strip()


def v2(client: Connection, bot: str, *, stream: bool = False, key: str = "") -> Reply:
    return client.post(f"/api/v2/bots/{bot}/chat", {"messages": MESSAGES, "stream": stream}, key=key or client.key)


def v3(client: Connection, bot: str, *, stream: bool = False, key: str = "") -> Reply:
    body = {"model": bot, "messages": MESSAGES, "stream": stream}
    return client.post("/api/v3/bots/chat/completions", body, key=key or client.key)


def text_of(reply: Reply) -> str:
    """Of a whole answer, or of a stream that has to be complete."""
    assert reply.status == 200, reply.body
    if reply.headers["content-type"].startswith("application/json"):
        return str(reply.json()["choices"][0]["message"]["content"])
    lines = [line[5:].strip() for line in reply.body.split(b"\n") if line.startswith(b"data:")]
    assert lines[-1] == b"[DONE]"
    choices = [choice for line in lines[:-1] for choice in json.loads(line).get("choices") or ()]
    return "".join(_said(choice) for choice in choices)


def _said(choice: dict[str, Any]) -> str:
    return str((choice.get("delta") or choice.get("message") or {}).get("content") or "")


def test_a_bot_made_by_command_answers_on_both_generations(home: Home, upstream: RunningServer, endpoint: str) -> None:
    bot = bot_on(home, endpoint)
    with home.serving() as served, Connection(served.url, key_of(served)) as client:
        for stream in (False, True):
            assert text_of(v2(client, bot, stream=stream)) == SAID
            assert text_of(v3(client, bot, stream=stream)) == SAID
        whole = v3(client, bot).json()
        assert whole["bot_usage"]["model_usage"][0]["total_tokens"] == whole["usage"]["total_tokens"] > 0
        (used,) = v2(client, bot).json()["usage"]["model_usage"]
        assert used["name"] == endpoint
        assert used["total_tokens"] > 0
        assert client.get("/metrics").status == 200
    systems = [request.messages[0].text() for request in upstream.backend.requests]
    assert systems == [PROMPT] * 6
    sums = home.json("usage", "--by", "endpoint")
    assert {row["endpoint"]: row["calls"] for row in sums} == {bot: 6}


def test_changes_are_taken_in_while_it_serves(home: Home, endpoint: str) -> None:
    with home.serving() as served, Connection(served.url, key_of(served)) as client:
        bot = bot_on(home, endpoint)
        soon(lambda: v3(client, bot).status == 200)
        home.json("bots", "stop", bot)
        soon(lambda: v3(client, bot).status != 200)
        home.json("bots", "start", bot)
        soon(lambda: v3(client, bot).status == 200)
        home.json("endpoints", "stop", endpoint)
        soon(lambda: v3(client, bot).status != 200)
        home.json("endpoints", "start", endpoint)
        soon(lambda: v3(client, bot).status == 200)
        home.json("bots", "delete", bot)
        soon(lambda: v3(client, bot).status == 404)


def test_a_temporary_key_reaches_its_bot_and_nothing_else(home: Home, endpoint: str) -> None:
    bot, other = bot_on(home, endpoint), bot_on(home, endpoint, name="other")
    pair = home.json("aksk", "create", "--name", "asking")
    with home.serving() as served, Connection(served.url) as client:
        given = home.json(
            *("api", "GetApiKey", "--ResourceType", "bot", "--ResourceIds", bot, "--DurationSeconds", "600"),
            *("--ak", pair["id"], "--sk", pair["secret"], "--url", served.url),
        )
        key = given["body"]["Result"]["ApiKey"]
        assert text_of(v2(client, bot, key=key)) == text_of(v3(client, bot, key=key)) == SAID
        # The old generation says 401 to a key that is not for this bot.
        assert [v2(client, other, key=key).status, v3(client, other, key=key).status] == [401, 403]
        body = {"model": endpoint, "messages": MESSAGES}
        assert client.post("/api/v3/chat/completions", body, key=key).status == 403


def test_a_file_makes_a_bot_that_serves(home: Home, endpoint: str, tmp_path: Path) -> None:
    name = next(each["name"] for each in home.json("endpoints", "list") if each["id"] == endpoint)
    file = tmp_path / "platform.toml"
    file.write_text(f'[[bots]]\nname = "filed"\nendpoint = "{name}"\nprompt = "{PROMPT}"\n')
    home.json("apply", "-f", str(file), "--yes")
    (bot,) = home.json("bots", "list")
    with home.serving() as served, Connection(served.url, key_of(served)) as client:
        assert text_of(v2(client, bot["id"])) == SAID
    assert 'name = "filed"' in home.json("export")["platform"]
