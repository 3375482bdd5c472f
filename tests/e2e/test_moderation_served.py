"""Strategies of moderation in a server of its own: taken in by SIGHUP, and over a bot with its sources."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arkway.core.caller import Caller
from arkway.core.chat import ChatRequest
from arkway.core.errors import InputBlocked
from arkway.testing import RunningServer, running_server, says
from arkway.testing.doubles import Gate, Step
from tests.e2e.conftest import Home, Served
from tests.tools.client import Connection, Reply, finish_reasons, frames, text
from tests.tools.waiting import PATIENCE_S, until

KEY = "ark-upstreams-own-key"
STRICT = '[moderation.strategies.strict]\nwords = ["words.txt"]\npersonal = ["mobile"]\n'
MOBILE = "13800138000"


class Model:
    """What stands behind the other server: says the last line it gets, or what it should not once ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, request: ChatRequest) -> Iterable[Step]:
        asked = request.messages[-1].text().rpartition("\n")[2]
        if asked == "拒":
            return [InputBlocked()]
        if asked != "等":
            return says(*asked)(request)
        read, first, *ends = says("前面", "新词后面")(request)
        return [read, first, self.gate, *ends]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def endpoint(home: Home, model: Model) -> Iterator[str]:
    """Of a model that another server answers for, under the strategy `strict`."""
    home.path.mkdir(mode=0o700)
    settings = {"surface": {"v3_model_names": True}}
    with running_server(model, keys={KEY: Caller("default", "default", "key-own")}, settings=settings) as upstream:
        yield endpoint_on(home, upstream)


def endpoint_on(home: Home, upstream: RunningServer) -> str:
    home.environ |= {"UPSTREAM_KEY": KEY, "ARKWAY__SERVER__LOG_LEVEL": "info"}
    made = home.json(
        *("upstreams", "add", "first", f"{upstream.url}/api/v3", "--key-env", "UPSTREAM_KEY"),
        *("--serve", f"small={upstream.endpoint_id}"),
    )
    name = str(made["serving"][0]["endpoints"][0])
    home.json("endpoints", "update", name, "--moderation", "strict")
    return name


def configure(home: Home, words: str, strategies: str = STRICT) -> None:
    (home.path / "words.txt").write_text(words, encoding="utf-8")
    (home.path / "arkway.toml").write_text(strategies, encoding="utf-8")


def hang_up(served: Served) -> None:
    """SIGHUP, and its settings are in force, or known to be wrong."""
    before = told(served)
    served.process.send_signal(signal.SIGHUP)
    until(lambda: told(served) > before)


def told(served: Served) -> int:
    words = ("settings were read again; ", "changed settings were not taken in")
    return sum(served.told().count(each) for each in words)


def warnings(served: Served) -> list[str]:
    with urllib.request.urlopen(f"{served.url}/readyz", timeout=PATIENCE_S) as answer:
        return list(msgspec.json.decode(answer.read()).get("warnings", ()))


def client_of(served: Served) -> Connection:
    return Connection(served.url, Path(served.said["key_file"]).read_text().strip())


def body_of(asked: str, content: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": asked, "messages": [{"role": "user", "content": content}], "stream": stream}


def v3(client: Connection, asked: str, content: str, *, stream: bool = False) -> Reply:
    return client.post("/api/v3/chat/completions", body_of(asked, content, stream=stream))


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json()["choices"][0]["message"]["content"])


def test_changed_words_and_strategies_are_taken_in_and_wrong_ones_are_not(home: Home, endpoint: str) -> None:
    configure(home, "旧词\n")
    with home.serving() as served, client_of(served) as client:
        assert v3(client, endpoint, "旧词").status == 400
        assert said(v3(client, endpoint, f"新词{MOBILE}")) == f"新词{'*' * 11}"
        # The file alone has changed.
        configure(home, "新词\n")
        hang_up(served)
        assert said(v3(client, endpoint, "旧词")) == "旧词"
        assert v3(client, endpoint, "新词").error()["code"] == "InputTextSensitiveContentDetected"
        # So has the strategy.
        configure(home, "新词\n", STRICT + 'action = "mask"\n')
        hang_up(served)
        assert said(v3(client, endpoint, "新词")) == "**"
        for words, strategies in (("新词\n", STRICT.replace("words.txt", "none.txt")), ("词\tkill\n", STRICT)):
            configure(home, words, strategies)
            hang_up(served)
            assert len(warnings(served)) == 1
            assert said(v3(client, endpoint, "新词")) == "**"
        # Without any strategy nothing stands in between.
        configure(home, "", "")
        hang_up(served)
        assert warnings(served) == []
        assert said(v3(client, endpoint, f"新词{MOBILE}")) == f"新词{MOBILE}"
        assert client.get("/metrics").body.count(b"arkway_moderation_total{") >= 3


def test_a_call_ends_under_the_strategy_that_it_began_with(home: Home, endpoint: str, model: Model) -> None:
    configure(home, "旧词\n")
    with home.serving() as served, client_of(served) as client, client_of(served) as other:
        client.send("POST", "/api/v3/chat/completions", body_of(endpoint, "等", stream=True))
        assert client.head()[0] == 200
        pieces = client.chunks()
        first = next(pieces)
        configure(home, "新词\n")
        hang_up(served)
        assert v3(other, endpoint, "新词").status == 400
        model.gate.open()
        whole = first + b"".join(pieces)
        assert text(whole) == "前面新词后面"
        assert finish_reasons(whole) == ["stop"]
        blocked = v3(other, endpoint, "等", stream=True)
        assert (text(blocked.body), finish_reasons(blocked.body)) == ("前面", ["content_filter"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_an_upstream_refuses_is_told_in_the_callers_own_words(home: Home, endpoint: str, stream: bool) -> None:
    configure(home, "坏人\n")
    helper = home.json("bots", "create", "--name", "helper", "--endpoint", endpoint)["id"]
    with home.serving() as served, client_of(served) as client:
        reply = v3(client, endpoint, "拒", stream=stream)
        assert (reply.status, reply.error()["code"]) == (400, "InputTextSensitiveContentDetected")
        assert reply.headers["x-should-retry"] == "false"
        reply = v2(client, helper, "拒", stream=stream)
        assert (reply.status, reply.json()["error"]["code_n"]) == (400, 1709813)
        # It says nothing against the upstream.
        assert said(v3(client, endpoint, "好")) == "好"


@pytest.fixture
def bot(home: Home, endpoint: str, tmp_path: Path) -> str:
    """A bot without a strategy of its own, over documents of which one says what it should not."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "pump.md").write_text(f"# Pump {MOBILE}\n\nThe pump of 老王 is checked every week.\n", encoding="utf-8")
    (folder / "rotor.md").write_text(
        "# Rotor\n\nThe rotor of the pump is checked by 坏人 every day.\n", encoding="utf-8"
    )
    configure(home, "坏人\tblock\tviolence\n老王\tmask\n")
    home.json("kb", "create", "parts")
    assert [job["state"] for job in home.json("kb", "sync", "parts", str(folder))["jobs"]] == ["done"] * 2
    made = home.json(
        *("bots", "create", "--name", "helper", "--endpoint", endpoint, "--prompt", "You know 坏人."),
        *("--action", "knowledge:parts,deadline_s=30", "--intent", "always", "--citation", "all"),
    )
    return str(made["id"])


def v2(client: Connection, asked: str, content: str, *, stream: bool = False) -> Reply:
    return client.post(f"/api/v2/bots/{asked}/chat", body_of(asked, content, stream=stream))


QUESTION = "is the pump checked by 老王?"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_bot_has_the_strategy_of_what_stands_behind_it_and_so_have_its_sources(
    home: Home, bot: str, stream: bool
) -> None:
    with home.serving() as served, client_of(served) as client:
        for ask in (v2, v3):
            reply = ask(client, bot, QUESTION, stream=stream)
            assert reply.status == 200, reply.body
            shown = reply.body.decode()
            assert (text_of(reply) if stream else said(reply)) == "is the pump checked by **?"
            assert "坏人" not in shown
            assert "老王" not in shown
            assert MOBILE not in shown
            found = sources_of(reply, stream=stream)
            assert [source["idx"] for source in found if "idx" in source] in ([0, 1], [])
            assert {source["collection_name"] for source in found} == {"parts"}
            by_title = {str(source["chunk_title"] or source["doc_title"]): source for source in found}
            assert len(found) == 2
            assert any("***********" in title for title in by_title)
            assert "" in by_title
        assert v2(client, bot, "坏人", stream=False).json()["error"]["code_n"] == 1709813
        assert v3(client, bot, "坏人").error()["code"] == "InputTextSensitiveContentDetected"


def text_of(reply: Reply) -> str:
    """Of a stream of either generation."""
    choices = [choice for part in parts_of(reply) for choice in part.get("choices") or ()]
    return "".join((choice.get("delta") or choice.get("message") or {}).get("content") or "" for choice in choices)


def parts_of(reply: Reply) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in reply.body.split(b"\n") if line.startswith(b"data:")]
    assert lines[-1] == b"[DONE]"
    return [msgspec.json.decode(line) for line in lines[:-1]]


def sources_of(reply: Reply, *, stream: bool) -> list[dict[str, Any]]:
    """The sources that an answer names last."""
    found: list[dict[str, Any]] = []
    for part in parts_of(reply) if stream else [reply.json()]:
        messages = [choice.get("message") or {} for choice in part.get("choices") or ()]
        for told_of in (part, *messages):
            found = told_of.get("references") or found
    return found


def test_a_bots_own_strategy_counts_before_the_one_behind_it(home: Home, bot: str) -> None:
    configure(home, "坏人\n", STRICT + '[moderation.strategies.soft]\npersonal = ["mobile"]\n')
    home.json("bots", "update", bot, "--moderation", "soft")
    with home.serving() as served, client_of(served) as client:
        reply = v3(client, bot, "坏人?", stream=True)
        assert reply.status == 200
        assert text(reply.body) == "坏人?"
        assert MOBILE not in reply.body.decode()
        assert frames(reply.body)[-1] == "[DONE]"
