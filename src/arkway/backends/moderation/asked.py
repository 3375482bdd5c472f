"""What callers say, searched before a model hears it: messages, and what is told of tools and the answer's form."""

from __future__ import annotations

from typing import Any

import msgspec

from arkway.backends.moderation.folding import characters, escaped
from arkway.backends.moderation.strategy import Strategy
from arkway.core.bot import Asker
from arkway.core.chat import ChatRequest, Message, Part, ResponseFormat, TextPart, Tool, ToolCall
from arkway.core.errors import InputBlocked

LONG_CHARS = 4_000
"""Longer requests are searched in a thread: it takes milliseconds, and others are being answered."""
SHOWN_CHARS = 4_000
"""Of what a moderator is asked about at a time; before it stand `OVERLAP_CHARS` of what came before."""
OVERLAP_CHARS = 200

_DESCRIPTIONS = ("description", "title")

_replace = msgspec.structs.replace


def searched(strategy: Strategy, request: ChatRequest) -> ChatRequest:
    """The request with what is to be masked masked. Raises InputBlocked naming the first place at fault."""
    changed: dict[str, Any] = {}
    messages = tuple([_message(strategy, message, f"messages[{i}]") for i, message in enumerate(request.messages)])
    if any(new is not old for new, old in zip(messages, request.messages, strict=True)):
        changed["messages"] = messages
    list_name = "functions" if request.legacy_functions else "tools"
    tools = tuple([_tool(strategy, tool, f"{list_name}[{i}]") for i, tool in enumerate(request.tools)])
    if tools != request.tools:
        changed["tools"] = tools
    if (form := _form(strategy, request.response_format)) != request.response_format:
        changed["response_format"] = form
    extras = {name: _extra(strategy, value, name) for name, value in request.extras.items()}
    if extras != request.extras:
        changed["extras"] = extras
    if (asker := _asker(strategy, request.asker)) != request.asker:
        changed["asker"] = asker
    return _replace(request, **changed) if changed else request


def is_long(request: ChatRequest) -> bool:
    """Whether searching it takes long enough to be in the way of other calls."""
    chars = sum(len(text) for message in request.messages for text in _said(message))
    if request.tools or request.response_format.schema or request.extras:
        chars += len(msgspec.json.encode((request.tools, request.response_format.schema, request.extras)))
    return chars > LONG_CHARS


def shown(request: ChatRequest) -> list[str]:
    """What a moderator is shown of a request, in pieces: what everybody but the system has said."""
    texts = [text for message in request.messages if message.role != "system" for text in _said(message) if text]
    whole = "\n".join(texts)
    return [whole[max(0, start - OVERLAP_CHARS) : start + SHOWN_CHARS] for start in range(0, len(whole), SHOWN_CHARS)]


def question(request: ChatRequest) -> str:
    """What the answer is an answer to: the end of the user's last text."""
    texts = (message.text() for message in reversed(request.messages) if message.role == "user")
    return next(texts, "")[-SHOWN_CHARS:]


def _said(message: Message) -> list[str]:
    return [message.text(), *(call.arguments for call in message.tool_calls)]


def _clean(strategy: Strategy, text: str, field: str) -> str:
    """One text. What is perhaps JSON is read as JSON as well, as models read it. Raises InputBlocked."""
    perhaps_json = "\\u" in text or ("\\" in text and text.lstrip()[:1] in ("{", "[", '"'))
    readings = (characters, escaped) if perhaps_json else (characters,)
    said = strategy.cleaned(text, *readings)
    if said is None:
        raise InputBlocked(field)
    return said


def _message(strategy: Strategy, message: Message, field: str) -> Message:
    content: str | tuple[Part, ...] | None = message.content
    if isinstance(content, str):
        content = _clean(strategy, content, field)
    elif content is not None:
        content = _parts(strategy, content, field)
    name = message.name and _clean(strategy, message.name, field)
    calls = tuple([_called(strategy, call, field) for call in message.tool_calls])
    if content == message.content and name == message.name and calls == message.tool_calls:
        return message
    return _replace(message, content=content, name=name, tool_calls=calls)


def _parts(strategy: Strategy, parts: tuple[Part, ...], field: str) -> tuple[Part, ...]:
    """Searched one by one, and as the one text that they make: a word may be spread over them."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    whole, start = _clean(strategy, "".join(texts), field), 0
    found: list[Part] = []
    for part in parts:
        if isinstance(part, TextPart):
            end = start + len(part.text)
            said = _clean(strategy, whole[start:end], field)
            start = end
            part = part if said == part.text else TextPart(said)
        found.append(part)
    return tuple(found)


def _called(strategy: Strategy, call: ToolCall, field: str) -> ToolCall:
    said = strategy.cleaned(call.arguments, escaped)
    if said is None:
        raise InputBlocked(field)
    return call if said == call.arguments else _replace(call, arguments=said)


def _tool(strategy: Strategy, tool: Tool, field: str) -> Tool:
    said = _clean(strategy, tool.description, field)
    parameters = _schema(strategy, tool.parameters, field, masks=False)
    same = said == tool.description and parameters == tool.parameters
    return tool if same else _replace(tool, description=said, parameters=parameters)


def _form(strategy: Strategy, form: ResponseFormat) -> ResponseFormat:
    if not form.schema:
        return form
    schema = _schema(strategy, form.schema, "response_format", masks=False)
    return form if schema == form.schema else _replace(form, schema=schema)


def _asker(strategy: Strategy, asker: Asker) -> Asker:
    return Asker(_clean(strategy, asker.city, "user_info"), _clean(strategy, asker.district, "user_info"))


def _extra(strategy: Strategy, value: Any, field: str) -> Any:
    """Any JSON: an upstream may show it to its model."""
    if isinstance(value, str):
        return _clean(strategy, value, field)
    if isinstance(value, list):
        return [_extra(strategy, item, field) for item in value]
    if not isinstance(value, dict):
        return value
    return {_clean(strategy, name, field): _extra(strategy, item, field) for name, item in value.items()}


def _schema(strategy: Strategy, value: Any, field: str, *, masks: bool) -> Any:
    """A JSON Schema: every text in it is searched, only descriptions are masked; the rest is what has to be met."""
    if isinstance(value, str):
        said = _clean(strategy, value, field)
        return said if masks else value
    if isinstance(value, list):
        return [_schema(strategy, item, field, masks=False) for item in value]
    if not isinstance(value, dict):
        return value
    for name in value:
        _clean(strategy, name, field)
    return {name: _schema(strategy, item, field, masks=name in _DESCRIPTIONS) for name, item in value.items()}
