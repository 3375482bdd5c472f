"""Bots as callers reach them: their own endpoints' state, keys, limits and usage, over a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arkway.admin.bots import Bots
from arkway.admin.endpoints import Endpoints
from arkway.admin.keys import Keys
from arkway.core.audit import SERVER
from arkway.core.bot import BotChange
from arkway.core.model import EndpointChange
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, MemoryLedger
from tests.tools.administered import HOST, OTHER, SECOND, Administered, administered
from tests.tools.client import Connection, Reply

NOW_S = int(time.time())
QUESTION = [{"role": "user", "content": "ping"}]


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def place(tmp_path: Path, ledger: MemoryLedger) -> Iterator[Administered]:
    with administered(tmp_path, ledger=ledger) as made:
        yield made


@pytest.fixture
def client(place: Administered) -> Iterator[Connection]:
    with Connection(place.server.url, place.keys[HOST, "inference"]) as connection:
        yield connection


@pytest.fixture
def bots(place: Administered) -> Bots:
    return place.commands.bots(HOST, "default", SERVER)


@pytest.fixture
def endpoints(place: Administered) -> Endpoints:
    return place.commands.endpoints(HOST, "default", SERVER)


@pytest.fixture
def keys(place: Administered) -> Keys:
    return place.commands.keys(HOST, "default", SERVER)


@pytest.fixture
def bot_id(place: Administered) -> str:
    return place.things[HOST]["bot"]


@pytest.fixture
def endpoint_id(place: Administered) -> str:
    return place.things[HOST]["endpoint"]


def ask(client: Connection, model: str, key: str = "") -> Reply:
    return client.post("/api/v3/chat/completions", {"model": model, "messages": QUESTION}, key=key or client.key)


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json()["choices"][0]["message"]["content"])


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, str(reply.error()["code"])


def plain(reply: Reply, *names: str) -> str:
    """The error without what names the request and what was asked for."""
    message = str(reply.error()["message"]).replace(reply.headers["x-request-id"], "REQUEST")
    for name in names:
        message = message.replace(name, "NAME")
    return f"{code(reply)} {message}"


def test_a_bot_answers_with_what_its_endpoint_answers_with(client: Connection, bot_id: str) -> None:
    assert said(ask(client, bot_id)) == "ping"
    stream = client.post("/api/v3/chat/completions", {"model": bot_id, "messages": QUESTION, "stream": True})
    assert stream.status == 200
    assert stream.body.rstrip().endswith(b"[DONE]")
    assert said(client.post("/v1/chat/completions", {"model": bot_id, "messages": QUESTION})) == "ping"


def test_its_calls_are_under_its_own_id_in_the_ledger(client: Connection, ledger: MemoryLedger, bot_id: str) -> None:
    reply = ask(client, bot_id)
    (attempt,) = [each for each in ledger.attempts.values() if each.request_id == reply.headers["x-request-id"]]
    assert (attempt.endpoint_id, attempt.model, attempt.operation) == (bot_id, CHAT_CARD.served_name, "chat")
    assert ledger.settlements[attempt.id].outcome == "done"


def test_a_changed_bot_is_another_one_for_the_next_call(
    place: Administered, client: Connection, bots: Bots, endpoints: Endpoints, bot_id: str
) -> None:
    assert said(ask(client, bot_id)) == "ping"
    bots.update(bot_id, BotChange(prompt="Be brief."), NOW_S)
    ask(client, bot_id)
    assert "Be brief." in [message.text() for message in place.server.backend.requests[-1].messages]
    bots.stop(bot_id, NOW_S)
    stopped = ask(client, bot_id)
    other = endpoints.create("other", CHAT_CARD.name, NOW_S)
    endpoints.stop(other.id, NOW_S)
    assert plain(stopped, bot_id) == plain(ask(client, other.id), other.id)
    bots.start(bot_id, NOW_S)
    assert said(ask(client, bot_id)) == "ping"
    bots.delete(bot_id, NOW_S)
    nobody = "bot-20250101000000-zzzzz"
    assert plain(ask(client, bot_id), bot_id) == plain(ask(client, nobody), nobody)


def test_while_its_endpoint_cannot_serve_a_bot_answers_as_that_would(
    client: Connection, bots: Bots, endpoints: Endpoints, bot_id: str, endpoint_id: str
) -> None:
    def same() -> tuple[int, str]:
        """The bot's answer, which has to be the endpoint's."""
        answers = ask(client, bot_id), ask(client, endpoint_id)
        assert plain(answers[0]) == plain(answers[1])
        return code(answers[0])

    endpoints.stop(endpoint_id, NOW_S)
    assert same()[0] == 400
    endpoints.start(endpoint_id, NOW_S)
    assert said(ask(client, bot_id)) == "ping"
    endpoints.update(endpoint_id, EndpointChange(model_name="nothing", model_version="2"), NOW_S)
    assert same()[0] >= 500
    endpoints.update(endpoint_id, EndpointChange(model_name=CHAT_CARD.name, model_version=""), NOW_S)
    assert said(ask(client, bot_id)) == "ping"
    endpoints.delete(endpoint_id, NOW_S)
    assert same()[0] == 404
    bots.update(bot_id, BotChange(endpoint_id=endpoints.create("new", CHAT_CARD.name, NOW_S).id), NOW_S)
    assert said(ask(client, bot_id)) == "ping"


def test_a_bot_over_a_model_that_does_not_chat_says_so(client: Connection, bots: Bots, endpoints: Endpoints) -> None:
    made = bots.create("vectors", endpoints.create("vectors", EMBEDDING_CARD.name, NOW_S).id, NOW_S)
    assert code(ask(client, made.id)) == code(ask(client, made.endpoint_id))
    embedded = client.post("/api/v3/embeddings", {"model": made.id, "input": ["x"]})
    assert 400 <= embedded.status < 500


def test_an_endpoint_whose_model_is_called_like_a_bot_is_none(
    client: Connection, endpoints: Endpoints, place: Administered
) -> None:
    for bot_id in (place.things[HOST]["bot"], place.things[OTHER]["bot"]):
        odd = endpoints.create("odd", bot_id, NOW_S)
        assert ask(client, odd.id).status in (404, 503)
    with place.client("developer") as admin:
        made = admin.do("endpoints.create", {"name": "x", "model_name": place.things[HOST]["bot"]})
        assert (made.status, made.json()["error"]["field"]) == (400, "model_name")


def test_bots_are_in_no_list_of_models(client: Connection, bot_id: str, endpoint_id: str) -> None:
    for path in ("/api/v3/models", "/v1/models"):
        listed = client.get(path).body.decode()
        assert bot_id not in listed
        assert endpoint_id in listed


def test_anothers_bot_is_not_there(client: Connection, place: Administered) -> None:
    second = place.commands.endpoints(HOST, SECOND, SERVER).create("second", CHAT_CARD.name, NOW_S)
    of_second = place.commands.bots(HOST, SECOND, SERVER).create("second", second.id, NOW_S)
    nobody = "bot-20250101000000-zzzzz"
    for foreign in (place.things[OTHER]["bot"], of_second.id):
        assert plain(ask(client, foreign), foreign) == plain(ask(client, nobody), nobody)


# Keys


def test_a_key_for_a_bot_reaches_that_bot_alone(
    client: Connection, bots: Bots, keys: Keys, bot_id: str, endpoint_id: str
) -> None:
    other = bots.create("other", endpoint_id, NOW_S)
    _, secret = keys.create("shop", NOW_S, (bot_id,))
    assert said(ask(client, bot_id, secret)) == "ping"
    assert {ask(client, each, secret).status for each in (other.id, endpoint_id)} == {403}
    assert client.get("/api/v3/models", key=secret).json()["data"] == []


def test_a_key_for_the_endpoint_does_not_reach_the_bot(
    client: Connection, keys: Keys, bot_id: str, endpoint_id: str
) -> None:
    _, secret = keys.create("chat", NOW_S, (endpoint_id,))
    assert said(ask(client, endpoint_id, secret)) == "ping"
    assert ask(client, bot_id, secret).status == 403


def test_keys_are_made_for_bots_of_the_project_alone(place: Administered, bot_id: str) -> None:
    with place.client("owner") as admin:
        made = admin.do("keys.create", {"name": "shop", "endpoints": [bot_id]})
        assert (made.status, made.json()["endpoints"]) == (201, [bot_id])
        foreign = admin.do("keys.create", {"name": "x", "endpoints": [bot_id, place.things[OTHER]["bot"]]})
        assert (foreign.status, foreign.json()["error"]["field"]) == (400, "endpoints[1]")


# Limits


def test_a_limit_of_a_bot_binds_its_calls_and_not_those_of_its_endpoint(
    place: Administered, client: Connection, bot_id: str
) -> None:
    limits = place.commands.limits(HOST, "default", SERVER)
    limits.set("endpoint", bot_id, {"tokens-total": 1.0}, NOW_S)
    assert [ask(client, bot_id).status for _ in range(2)] == [200, 403]
    own = place.things[HOST]["endpoint"]
    assert said(ask(client, own)) == "ping"
    limits.remove("endpoint", bot_id)
    assert said(ask(client, bot_id)) == "ping"
