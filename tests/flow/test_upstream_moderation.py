"""Answers that an upstream's own moderation has stopped, over real sockets, as callers of every dialect see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arkway.backends.group import Group, Groups
from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy
from arkway.testing import CHAT_CARD, RunningServer, running_server
from arkway.wire import json
from tests.tools.client import Connection, Reply
from tests.tools.raw_upstream import OK, Peer, RawUpstream, upstream_at
from tests.tools.waiting import PATIENCE_S
from tests.tools.wires import CLIENTS, OPENAI, V3, V3_BOTS, Wire

EVERY = pytest.mark.parametrize("wire", CLIENTS, ids=repr)
WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
IN_CHOICES = (V3, OPENAI, V3_BOTS)
"""The dialects in which such an answer is one still."""
STOPPED = {"index": 0, "finish_reason": "content_filter"}
COUNTS = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Moderating:
    """Stops each answer after a character, as Ark does, for what ``beside`` says of the choice."""

    def __init__(self) -> None:
        self.beside: dict[str, Any] = {}

    async def __call__(self, peer: Peer) -> None:
        while request := await peer.request():
            asked = json.load_object(request.partition(b"\r\n\r\n")[2])
            kind, body = (
                (b"text/event-stream", self._stream()) if asked.get("stream") else (b"application/json", self._whole())
            )
            await peer.say(OK + b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)), body)

    def _whole(self) -> bytes:
        choice = {**STOPPED, "message": {"role": "assistant", "content": "好"}, **self.beside}
        return json.dumps({"object": "chat.completion", "choices": [choice], "usage": COUNTS})

    def _stream(self) -> bytes:
        said = {"index": 0, "delta": {"role": "assistant", "content": "好"}}
        stopped = {**STOPPED, "delta": {"role": "assistant", "content": ""}, **self.beside}
        bodies = [{"choices": [said]}, {"choices": [stopped]}, {"choices": [], "usage": COUNTS}]
        return b"".join(b"data: %b\n\n" % json.dumps(body) for body in bodies) + b"data: [DONE]\n\n"


class Scene:
    def __init__(self, server: RunningServer, upstream: Moderating) -> None:
        self.upstream = upstream
        self._server = server

    async def ask(self, wire: Wire, *, stream: bool) -> Reply:
        def asked() -> Reply:
            with Connection(self._server.url, timeout_s=2 * PATIENCE_S) as client:
                return client.post(*wire.chat(stream=stream))

        return await asyncio.to_thread(asked)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    upstream, groups = Moderating(), Groups()
    async with RawUpstream(upstream) as raw:
        there = UpstreamServer(upstream_at(raw.url()))
        value = GroupValue(card=CHAT_CARD, members=(Member(upstream="scripted", model="m"),), policy=Policy())
        groups.replace([Group(value, lambda member: there.model(member.model))])
        with running_server(backends={"scripted": groups}, shutdown=there.aclose) as server:
            yield Scene(server, upstream)


@EVERY
@WAYS
async def test_what_it_has_found_is_told(scene: Scene, wire: Wire, stream: bool) -> None:
    scene.upstream.beside = {"moderation_hit_type": "violence"}
    reply = await scene.ask(wire, stream=stream)
    if wire in IN_CHOICES:
        assert reply.status == 200
        assert (wire.text(reply.body) if stream else wire.text_of(reply)) == "好"
        assert [(end["finish_reason"], end["moderation_hit_type"]) for end in ends(wire, reply, stream=stream)] == [
            ("content_filter", "violence")
        ]
    elif stream:
        assert reply.status == 200
        *_, failed, done = wire.frames(reply.body)
        assert (wire.failure(failed)["code_n"], done) == (1709814, "[DONE]")
    else:
        error = wire.error(reply)
        assert (reply.status, error["code"], error["code_n"]) == (400, "RespTextExistRisk", 1709814)


@EVERY
@WAYS
@pytest.mark.parametrize("beside", [{}, {"moderation_hit_type": {"type": "坏"}}], ids=["nothing", "garbage"])
async def test_without_a_word_of_what_was_found_the_answer_is_filtered(
    scene: Scene, wire: Wire, stream: bool, beside: dict[str, Any]
) -> None:
    scene.upstream.beside = beside
    reply = await scene.ask(wire, stream=stream)
    assert reply.status == 200
    (end,) = ends(wire, reply, stream=stream)
    assert end["finish_reason"] == "content_filter"
    assert "moderation_hit_type" not in end


def ends(wire: Wire, reply: Reply, *, stream: bool) -> list[dict[str, Any]]:
    """The choices that say why they have ended."""
    parts = [part for part in wire.frames(reply.body) if part != "[DONE]"] if stream else [reply.json()]
    return [choice for part in parts for choice in wire.choices(part) if choice.get("finish_reason")]
