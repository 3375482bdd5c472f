from __future__ import annotations

import pytest

from arkway.backends.engine.sampling import answer_limit, engine_sampling, logprob_count
from arkway.core.chat import ChatRequest, Sampling
from arkway.core.errors import ContextTooLong, InvalidField
from arkway.core.model import ModelCard, ParameterRange
from arkway.models.catalogue import QWEN, SMOLLM2, CatalogueEntry

CARD = ModelCard(
    "m", "1", "", "", ("chat",), 100, 100, 40, parameters=(ParameterRange("top_p", 0, 1, 0.5), ParameterRange("top_k"))
)


def test_what_the_caller_says_then_the_card_then_the_fallback() -> None:
    body = engine_sampling(Sampling(temperature=0.3, repetition_penalty=1.2), CARD)
    assert (body["temperature"], body["top_p"], body["top_k"], body["repeat_penalty"]) == (0.3, 0.5, 100, 1.2)
    assert "seed" not in body
    assert "logit_bias" not in body


def test_greedy_cuts_to_one_token_and_keeps_the_penalties() -> None:
    asked = Sampling(temperature=0.0, top_p=0.3, top_k=50, repetition_penalty=1.2, frequency_penalty=0.5)
    body = engine_sampling(asked, CARD)
    assert (body["top_k"], body["top_p"], body["min_p"]) == (1, 1.0, 0.0)
    assert (body["repeat_penalty"], body["frequency_penalty"]) == (1.2, 0.5)


@pytest.mark.parametrize(
    ("entry", "sent"), [(QWEN, (0.7, 0.8, 20, 1.1)), (SMOLLM2, (0.2, 0.9, 50, 1.0))], ids=lambda each: str(each)[:5]
)
def test_the_models_own_defaults_reach_the_engine(entry: CatalogueEntry, sent: tuple[float, float, int, float]) -> None:
    body = engine_sampling(Sampling(), entry.card)
    assert (body["temperature"], body["top_p"], body["top_k"], body["repeat_penalty"]) == sent


def test_bias_bans_at_minus_one_hundred() -> None:
    body = engine_sampling(Sampling(logit_bias={5: -100, 6: 100, 7: -1.5}), CARD)
    assert body["logit_bias"] == [[5, False], [6, 100], [7, -1.5]]


@pytest.mark.parametrize(("seed", "choice", "sent"), [(7, 0, 7), (7, 2, 9), (2**32 - 1, 0, 0), (-1, 0, 2**32 - 2)])
def test_seeds_stay_in_the_engines_range(seed: int, choice: int, sent: int) -> None:
    assert engine_sampling(Sampling(seed=seed), CARD, choice)["seed"] == sent


@pytest.mark.parametrize(("asked", "top", "count"), [(False, 5, 0), (True, 0, 1), (True, 5, 5), (True, 400, 20)])
def test_candidates_asked_for(asked: bool, top: int, count: int) -> None:
    assert logprob_count(ChatRequest("m", (), logprobs=asked, top_logprobs=top)) == count


def test_answer_limits() -> None:
    assert answer_limit(ChatRequest("m", ()), CARD, 10) == 40
    assert answer_limit(ChatRequest("m", ()), CARD, 80) == 20
    assert answer_limit(ChatRequest("m", (), max_tokens=90), CARD, 10) == 90


@pytest.mark.parametrize(
    ("max_tokens", "prompt", "field"),
    [(91, 10, "max_completion_tokens"), (1, 100, "messages"), (None, 100, "messages"), (5, 300, "messages")],
)
def test_what_does_not_fit_is_refused(max_tokens: int | None, prompt: int, field: str) -> None:
    asked = ChatRequest("m", (), max_tokens=max_tokens, max_tokens_field="max_completion_tokens")
    with pytest.raises(ContextTooLong) as raised:
        answer_limit(asked, CARD, prompt)
    assert raised.value.field == field


def test_less_than_one_token_is_no_answer() -> None:
    with pytest.raises(InvalidField):
        answer_limit(ChatRequest("m", (), max_tokens=0), CARD, 10)
