"""A call's messages as the model behind the bot gets them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from arkway.core.chat import Message, TextPart


def ordered(prompt: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The bot's prompt, then the system messages, then the rest.

    All that is plain text of the former is one message: the templates of many models take a single one, and it has to
    be the first (seed 003: they are put together in that order).
    """
    texts = [prompt] if prompt else []
    parts: list[Message] = []
    rest: list[Message] = []
    for message in messages:
        if message.role != "system":
            rest.append(message)
        elif isinstance(message.content, str) and not parts:
            texts.append(message.content)
        else:
            parts.append(message)
    if texts:
        return (Message("system", "\n\n".join(texts)), *parts, *rest)
    return (*parts, *rest)


def introduced(messages: tuple[Message, ...], block: str) -> tuple[Message, ...]:
    """The user's last turn with the block before it, in the same message: many templates want the roles to alternate.

    Messages without a turn of the user's stay as they are.
    """
    place = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    if place < 0:
        return messages
    turn = messages[place]
    content = turn.content
    if isinstance(content, tuple):
        turn = replace(turn, content=(TextPart(block), *content))
    else:
        turn = replace(turn, content=block + (content or ""))
    return (*messages[:place], turn, *messages[place + 1 :])
