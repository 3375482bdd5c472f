"""The tokenizer that a card names: after the model's own, and with precise words where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from arkway.backends.declared import ASK_AGAIN_S, DeclaredTokenizer
from arkway.core.caller import Call
from arkway.core.embedding import Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, BackendUnavailable, UnsupportedModel
from arkway.core.model import Deployment, Endpoint, ModelCard
from arkway.testing import CHAT_CARD

REQUEST = TokenizeRequest("ep-1", ("hi",))
OWN, LENT = Tokenized((1,), ((0, 2),)), Tokenized((7, 8), ((0, 1), (1, 2)))


class Scripted:
    """Cuts every text in one way, or refuses; ``asked`` are the models that it was asked for."""

    def __init__(self, answer: Tokenized | ArkwayError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        self.asked.append(deployment.card.served_name)
        if isinstance(self.answer, ArkwayError):
            raise self.answer
        return (self.answer,)


class Place:
    """A server's own tokenizer, one that is lent, and a clock. ``small`` 1 and ``embeds`` 1 are installed."""

    def __init__(self, own: Tokenized | ArkwayError, tokenizer: str = "small") -> None:
        self.own, self.lent, self.now_s = Scripted(own), Scripted(LENT), 1000.0
        self.card = replaced(name="big", tokenizer=tokenizer)
        self.tokenizer = DeclaredTokenizer(self.own, self.find, {"engine": self.lent.tokenize}, lambda: self.now_s)

    def find(self, name: str, version: str) -> tuple[ModelCard, str] | None:
        known = {"small": "engine", "embeds": "another"}
        return (replaced(name=name), known[name]) if name in known and version in ("", "1") else None

    async def cut(self) -> Tokenized:
        endpoint = Endpoint("ep-1", "ep", "big", "1", "running", "a", "p", 0)
        (found,) = await self.tokenizer.tokenize(Deployment(endpoint, self.card, "upstream"), REQUEST, Call("req"))
        return found


def replaced(**fields: Any) -> ModelCard:
    known = {"title": "", "licence": "", "capabilities": CHAT_CARD.capabilities, "context_tokens": 100}
    return ModelCard(**{"version": "1", **known, **fields})


async def test_a_server_that_has_tokenization_is_asked() -> None:
    place = Place(OWN)
    assert await place.cut() == OWN
    assert place.lent.asked == []


@pytest.mark.parametrize("tokenizer", ["small", "small:1"])
async def test_one_that_has_none_is_helped_out_and_not_asked_each_time(tokenizer: str) -> None:
    place = Place(UnsupportedModel("ep-1", "tokenization"), tokenizer)
    assert [await place.cut() for _ in range(3)] == [LENT] * 3
    assert (place.own.asked, place.lent.asked) == (["big-1"], ["small-1"] * 3)
    place.own.answer = OWN
    assert await place.cut() == LENT
    place.now_s += ASK_AGAIN_S
    assert await place.cut() == OWN


async def test_without_a_declared_one_the_answer_is_what_it_was() -> None:
    refusal = UnsupportedModel("ep-1", "tokenization")
    place = Place(refusal, tokenizer="")
    for _ in range(2):
        with pytest.raises(UnsupportedModel) as caught:
            await place.cut()
        assert caught.value is refusal
    assert place.own.asked == ["big-1"] * 2


async def test_another_failure_of_the_server_is_told_as_it_is() -> None:
    place = Place(BackendUnavailable("the server is down"))
    with pytest.raises(BackendUnavailable, match="the server is down"):
        await place.cut()
    assert place.lent.asked == []


@pytest.mark.parametrize("tokenizer", ["nobody", "small:2", "embeds"])
async def test_a_model_that_cannot_lend_its_tokenizer_is_named(tokenizer: str) -> None:
    place = Place(UnsupportedModel("ep-1", "tokenization"), tokenizer)
    with pytest.raises(BackendUnavailable, match=f"`big-1` .* `{tokenizer}`, which is not installed.*arkway pull"):
        await place.cut()
