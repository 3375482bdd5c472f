"""Moderation over real sockets, in every dialect: what callers are told, what they never see, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pytest

from arkway.backends.moderation.moderated import Moderated
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.chat import ChatRequest
from arkway.core.errors import InputBlocked
from arkway.core.events import Delta
from arkway.core.model import Deployment
from arkway.flow.pumped import pushing
from arkway.testing import (
    BOT_ID,
    CHAT_CARD,
    ENDPOINT_ID,
    MemoryLedger,
    RunningServer,
    ScriptedBackend,
    endpoint,
    running_server,
    says,
)
from arkway.testing.doubles import Step
from tests.tools.client import Connection, Reply
from tests.tools.waiting import until
from tests.tools.wires import CLIENTS, OF_BOTS, OPENAI, V3, Wire

OF_MODELS = [wire for wire in CLIENTS if wire not in OF_BOTS]
EVERY = pytest.mark.parametrize("wire", [*OF_MODELS, *OF_BOTS], ids=repr)
WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
PLAIN_ENDPOINT_ID = "ep-20990101000000-plain"
STRATEGY = Strategy(
    WordList({"坏人": Hit(True, "violence"), "法轮": Hit(False)}), personal_patterns(("mobile",), Hit(False))
)
SAID = ("他", "是坏", "人", "，再见")
"""What the model says when it is asked for a bad one."""


def answers(request: ChatRequest) -> Iterable[Step]:
    """Says ``SAID``, or what it was asked, a character at a time."""
    asked = request.messages[-1].text()
    return says(*(SAID if asked == "坏" else asked))(request)


class Scene:
    def __init__(self, server: RunningServer, backend: ScriptedBackend, ledger: MemoryLedger) -> None:
        self.server, self.backend, self.ledger = server, backend, ledger
        self.counted: list[tuple[str, str]] = []

    def ask(self, wire: Wire, content: str, *, stream: bool, asked: str = "") -> Reply:
        named = {"asked": asked} if asked else {}
        with Connection(self.server.url) as client:
            return client.post(*wire.chat(content, stream=stream, **named))  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Iterator[Scene]:
    backend, ledger = ScriptedBackend(answers), MemoryLedger()
    counted: list[tuple[str, str]] = []

    def strategy_of(deployment: Deployment) -> Strategy | None:
        return None if deployment.endpoint.id == PLAIN_ENDPOINT_ID else STRATEGY

    moderated = Moderated(pushing(backend), strategy_of, lambda *action: counted.append(action))
    endpoints = [endpoint(BOT_ID, CHAT_CARD.name), endpoint(PLAIN_ENDPOINT_ID, CHAT_CARD.name)]
    with running_server(ledger=ledger, backends={"scripted": moderated}, endpoints=endpoints) as server:
        made = Scene(server, backend, ledger)
        made.counted = counted
        yield made


def settled(scene: Scene) -> tuple[str, int, int]:
    """How the only call ended, and what it cost."""
    until(lambda: scene.ledger.settlements)
    (settlement,) = scene.ledger.settlements.values()
    return settlement.outcome, settlement.usage.prompt_tokens, settlement.usage.completion_tokens


@EVERY
@WAYS
def test_what_may_not_be_asked_is_refused_and_costs_nothing(scene: Scene, wire: Wire, stream: bool) -> None:
    refused(wire, scene.ask(wire, "说说坏\u200b人", stream=stream), stream=stream, place="messages[0]")
    assert scene.backend.requests == []
    assert settled(scene) == ("refused", 0, 0)
    assert scene.counted == [("input", "block")]


@EVERY
@WAYS
def test_what_stands_behind_refuses_is_told_in_the_same_way(scene: Scene, wire: Wire, stream: bool) -> None:
    scene.backend.script = lambda _: [InputBlocked()]
    refused(wire, scene.ask(wire, "问", stream=stream), stream=stream, place="messages")
    assert settled(scene) == ("refused", 0, 0)


def refused(wire: Wire, reply: Reply, *, stream: bool, place: str) -> None:
    """Each dialect has its own error for what may not be asked."""
    error = wire.error(reply, stream=stream)
    if wire.route in ("v1", "v2", "bots"):
        assert (reply.status, error["code"], error["code_n"]) == (400, "ReqTextExistRisk", 1709813)
    elif wire is OPENAI:
        assert (reply.status, error["code"], error["param"]) == (400, "content_policy_violation", place)
    else:
        assert (reply.status, error["code"]) == (400, "InputTextSensitiveContentDetected")
    assert reply.headers["x-should-retry"] == "false"


@EVERY
def test_an_answer_in_a_stream_ends_before_the_hit(scene: Scene, wire: Wire) -> None:
    reply = scene.ask(wire, "坏", stream=True)
    assert reply.status == 200
    assert "坏" not in reply.body.decode()
    assert reply.body.endswith(wire.end)
    if wire.route in ("v1", "v2", "bots"):
        *said, failed, done = wire.frames(reply.body)
        assert "".join(wire.said(choice) for frame in said for choice in wire.choices(frame)) == "他是"
        assert wire.failure(failed)["code_n"] == 1709814
        assert done == "[DONE]"
    else:
        assert wire.text(reply.body) == "他是"
        assert wire.finish_reasons(reply.body) == ["content_filter"]
        (last,) = [c for f in wire.frames(reply.body)[:-1] for c in wire.choices(f) if c.get("finish_reason")]
        assert last["moderation_hit_type"] == "violence"
    outcome, prompt, completion = settled(scene)
    assert (outcome, prompt) == ("done", 7)
    assert completion == 3  # the fourth was never made
    until(lambda: scene.backend.open_streams == 0)
    assert scene.counted == [("input", "allow"), ("output", "block")]


@EVERY
def test_a_whole_answer_ends_before_the_hit(scene: Scene, wire: Wire) -> None:
    reply = scene.ask(wire, "坏", stream=False)
    assert "坏" not in reply.body.decode()
    if wire.route in ("v1", "v2", "bots"):
        error = wire.error(reply)
        assert (reply.status, error["code"], error["code_n"]) == (400, "RespTextExistRisk", 1709814)
    else:
        assert reply.status == 200
        (choice,) = wire.choices(reply.json())
        assert (choice["message"]["content"], choice["finish_reason"]) == ("他是", "content_filter")
        assert choice["moderation_hit_type"] == "violence"
        assert reply.json()["usage"]["completion_tokens" if "usage" in reply.json() else ""] == 3 or wire in OF_BOTS
    assert settled(scene) == ("done", 7, 3)


@EVERY
@WAYS
def test_what_is_masked_is_masked_for_the_model_too(scene: Scene, wire: Wire, stream: bool) -> None:
    reply = scene.ask(wire, "法轮，打13800138000吧", stream=stream)
    assert reply.status == 200
    assert (wire.text(reply.body) if stream else wire.text_of(reply)) == "**，打***********吧"
    assert scene.backend.requests[0].messages[-1].text() == "**，打***********吧"
    assert scene.counted == [("input", "mask"), ("output", "allow")]


@pytest.mark.parametrize("wire", OF_MODELS, ids=repr)
@WAYS
def test_an_endpoint_without_a_strategy_says_what_it_likes(scene: Scene, wire: Wire, stream: bool) -> None:
    reply = scene.ask(wire, "坏", stream=stream, asked=PLAIN_ENDPOINT_ID)
    assert reply.status == 200
    assert (wire.text(reply.body) if stream else wire.text_of(reply)) == "".join(SAID)
    assert scene.counted == []


@pytest.mark.parametrize("wire", [V3, OPENAI], ids=repr)
def test_what_is_held_back_at_the_end_comes_all_the_same(scene: Scene, wire: Wire) -> None:
    reply = scene.ask(wire, "他有法", stream=True)
    assert wire.text(reply.body) == "他有法"
    assert wire.finish_reasons(reply.body) == ["stop"]


def test_no_half_of_what_is_forbidden_is_in_any_frame(scene: Scene) -> None:
    scene.backend.script = lambda _: [Delta("法", completion_tokens=1), *says("轮", "，1380013", "8000。")(_)]
    reply = scene.ask(V3, "问", stream=True)
    pieces: Sequence[str] = [V3.said(c) for f in V3.frames(reply.body)[:-1] for c in V3.choices(f)]
    assert "".join(pieces) == "**，***********。"
    assert not {char for piece in pieces for char in piece} & set("法轮138")


def test_the_endpoint_is_the_one_that_chose(scene: Scene) -> None:
    assert scene.ask(V3, "坏人", stream=False, asked=ENDPOINT_ID).status == 400
    assert scene.ask(V3, "坏人", stream=False, asked=PLAIN_ENDPOINT_ID).status == 200
