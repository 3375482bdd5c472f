"""A chat request's sampling as the engine's own parameters. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from arkway.core.chat import ChatRequest, Sampling
from arkway.core.errors import ContextTooLong, InvalidField
from arkway.core.model import ModelCard

TOP_LOGPROBS_MAX = 20
BAN = -100
TOKEN_MAX_BYTES = 128
"""The longest token of the known vocabularies: 128 blanks."""
SEED_SPAN = 2**32 - 1
"""The engine reads 2³² − 1 as "choose a seed yourself"."""

FALLBACKS = {
    "temperature": 1.0,
    "top_p": 0.7,
    "top_k": 100,
    "min_p": 0.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""What holds where neither the caller nor the model's card says anything.

``top_k`` 100 keeps all that matters of the distribution and spares the engine sorting its vocabulary for every token.
"""

GREEDY = {"top_k": 1, "top_p": 1.0, "min_p": 0.0}


def engine_sampling(sampling: Sampling, card: ModelCard, choice: int = 0) -> dict[str, Any]:
    """Body fields of a completion. ``choice`` moves the seed, so that each of n answers has its own.

    At temperature 0 the engine cuts to one token after penalties, biases and grammar; nothing is left to draw from.
    """
    body: dict[str, Any] = {
        "temperature": _number("temperature", sampling.temperature, card),
        "top_p": _number("top_p", sampling.top_p, card),
        "top_k": int(_number("top_k", sampling.top_k, card)),
        "min_p": _number("min_p", None, card),
        "frequency_penalty": _number("frequency_penalty", sampling.frequency_penalty, card),
        "presence_penalty": _number("presence_penalty", sampling.presence_penalty, card),
        "repeat_penalty": _number("repetition_penalty", sampling.repetition_penalty, card),
        "stop": [text for text in sampling.stop if text],
    }
    if body["temperature"] <= 0:
        body |= GREEDY
    if sampling.seed is not None:
        body["seed"] = (sampling.seed + choice) % SEED_SPAN
    if sampling.logit_bias:
        body["logit_bias"] = [[token, _bias(bias)] for token, bias in sampling.logit_bias.items()]
    return body


def logprob_count(request: ChatRequest) -> int:
    """How many candidates the engine is asked for: 0, or at least the chosen one."""
    if not request.logprobs:
        return 0
    return max(1, min(request.top_logprobs, TOP_LOGPROBS_MAX))


def answer_limit(request: ChatRequest, card: ModelCard, prompt_tokens: int) -> int:
    """Tokens the answer may take. Raises ContextTooLong when prompt and answer do not fit, before any prefill."""
    free = card.context_tokens - prompt_tokens
    wanted = request.max_tokens
    if free < 1:
        raise ContextTooLong(prompt_tokens, max(1, wanted or 1), card.context_tokens, "messages")
    if wanted is None:
        return min(card.default_output_tokens or free, free)
    if wanted < 1:
        raise InvalidField(f"`{request.max_tokens_field}` must be at least 1", request.max_tokens_field)
    if wanted > free and request.clamp_max_tokens:
        return free  # the answer ends for its length, as its caller expects of an API that knows no error for this
    if wanted > free:
        raise ContextTooLong(prompt_tokens, wanted, card.context_tokens, request.max_tokens_field)
    return wanted


def check_size(request: ChatRequest, card: ModelCard) -> None:
    """Raises ContextTooLong for texts that could not fit whatever their tokens are, before anything counts those."""
    size = sum(_size(text) for text in _texts(request))
    tokens = -(-size // TOKEN_MAX_BYTES)
    if tokens > card.context_tokens:
        error = ContextTooLong(tokens, max(1, request.max_tokens or 1), card.context_tokens, "messages")
        error.message = (
            f"messages and tools hold {size} bytes, which is {tokens} tokens at the very least, "
            f"but the model's context holds {card.context_tokens}; shorten the messages"
        )
        error.args = (error.message,)
        raise error


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        yield message.text()
        yield from (call.arguments for call in message.tool_calls)
    for tool in request.tools if request.tool_choice.mode != "none" else ():
        yield tool.description
        yield msgspec.json.encode(tool.parameters).decode()


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _number(name: str, asked: float | None, card: ModelCard) -> float:
    if asked is not None:
        return asked
    parameter = card.parameter(name)
    default = None if parameter is None else parameter.default
    return float(default) if isinstance(default, int | float) else FALLBACKS[name]


def _bias(bias: float) -> float | bool:
    """−100 bans: the engine writes that as ``false``."""
    return False if bias <= BAN else bias
