"""How many tokens a text may take, before any model has read it: a guess that is rather too large.

A token for three octets of UTF-8, which is right for Chinese and a third too much for English; digits and signs, of
which many models make a token each, count as one.
"""

from __future__ import annotations

from arkway.core.chat import ChatRequest, ImagePart, Message
from arkway.core.model import ModelCard

OCTETS_PER_TOKEN = 3
MESSAGE_TOKENS = 4
IMAGE_TOKENS = 1312
"""The vendor's most for one image."""
WORDING_TOKENS = 256
"""What stands around the sources."""

_SIGNS = bytes((*range(0x21, 0x41), *range(0x5B, 0x61), *range(0x7B, 0x7F)))
"""Digits and signs of ASCII, which stand for themselves in UTF-8."""


def tokens(text: str) -> int:
    """How many of them the text may take. A nanosecond or two for each octet: requests may be megabytes."""
    octets = text.encode(errors="surrogatepass")
    signs = len(octets) - len(octets.translate(None, _SIGNS))
    return -(-(len(octets) + (OCTETS_PER_TOKEN - 1) * signs) // OCTETS_PER_TOKEN)


def cut(text: str, limit: int) -> str:
    """As much of the beginning as takes at most ``limit`` tokens."""
    text = text[: max(0, limit) * OCTETS_PER_TOKEN]
    while text and (size := tokens(text)) > limit:
        text = text[: min(len(text) - 1, len(text) * limit // size)]
    return text


def prompt(request: ChatRequest) -> int:
    """What a model has to read of this request."""
    return sum(map(_message, request.messages)) + sum(tokens(str(tool.parameters)) for tool in request.tools)


def room(card: ModelCard, request: ChatRequest, share: float) -> int:
    """Tokens for sources: at most this share of the context, and no more than fits beside prompt and answer."""
    context = card.context_tokens
    if sum(len(message.text()) for message in request.messages) > context * OCTETS_PER_TOKEN:
        return 0  # there is nothing to be counted in megabytes that cannot fit
    answer = min(request.max_tokens or card.default_output_tokens, context)
    if request.max_tokens is None or request.clamp_max_tokens:
        answer = min(answer, context // 4)
    return max(0, min(int(context * share), context - answer - prompt(request) - WORDING_TOKENS))


def _message(message: Message) -> int:
    parts = message.content if isinstance(message.content, tuple) else ()
    images = sum(isinstance(part, ImagePart) for part in parts)
    called = sum(tokens(call.arguments) for call in message.tool_calls)
    return MESSAGE_TOKENS + tokens(message.text()) + called + IMAGE_TOKENS * images
