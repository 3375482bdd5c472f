"""What callers say, searched before a model hears it."""

from __future__ import annotations

import msgspec

from arkway.backends.moderation.folding import characters, escaped
from arkway.backends.moderation.strategy import Strategy
from arkway.core.chat import ChatRequest, Message, Part, TextPart, ToolCall
from arkway.core.errors import InputBlocked

LONG_CHARS = 20_000
"""Longer requests are searched in a thread: it takes milliseconds, and others are being answered."""

_replace = msgspec.structs.replace


def searched(strategy: Strategy, request: ChatRequest) -> ChatRequest:
    """The request with what is to be masked masked. Raises InputBlocked naming the first message at fault."""
    messages = tuple(_searched(strategy, message, index) for index, message in enumerate(request.messages))
    same = all(new is old for new, old in zip(messages, request.messages, strict=True))
    return request if same else _replace(request, messages=messages)


def is_long(request: ChatRequest) -> bool:
    """Whether searching it takes long enough to be in the way of other calls."""
    return (
        sum(
            len(message.text()) + sum(len(call.arguments) for call in message.tool_calls)
            for message in request.messages
        )
        > LONG_CHARS
    )


def told(request: ChatRequest) -> str:
    """All that a moderator is shown of a request: what everybody but the system has said."""
    texts = (message.text() for message in request.messages if message.role != "system")
    return "\n".join(text for text in texts if text)


def question(request: ChatRequest) -> str:
    """What the answer is an answer to: the user's last text."""
    return next((message.text() for message in reversed(request.messages) if message.role == "user"), "")


def _searched(strategy: Strategy, message: Message, index: int) -> Message:
    def clean(text: str) -> str:
        chain = strategy.chain(characters)
        said = chain.feed(text, final=True)
        if chain.found is not None:
            raise InputBlocked(f"messages[{index}]")
        return said

    content: str | tuple[Part, ...] | None = message.content
    if isinstance(content, str):
        content = clean(content)
    elif content is not None:
        clean(message.text())  # a word may be spread over parts
        content = tuple(
            _replace(part, text=clean(part.text)) if isinstance(part, TextPart) else part for part in content
        )
    calls = tuple(_called(strategy, call, index) for call in message.tool_calls)
    if content == message.content and calls == message.tool_calls:
        return message
    return _replace(message, content=content, tool_calls=calls)


def _called(strategy: Strategy, call: ToolCall, index: int) -> ToolCall:
    chain = strategy.chain(escaped)
    said = chain.feed(call.arguments, final=True)
    if chain.found is not None:
        raise InputBlocked(f"messages[{index}]")
    return call if said == call.arguments else _replace(call, arguments=said)
