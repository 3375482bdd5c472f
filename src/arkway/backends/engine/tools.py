"""Tool calls: what the model is shown, what it is held to, and how its text is read back. Pure.

``required`` and a named tool are enforced by a JSON schema. ``auto`` is read from the text: a ``<tool_call>`` element,
a fenced block or a bare JSON object whose name is a declared tool. Text is held back only while it may become one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from arkway.backends.engine.prompt import arguments
from arkway.backends.engine.schema import check_schema
from arkway.core.chat import ChatRequest, Message, Tool
from arkway.core.errors import InvalidField

JUDGED_CHARS = 1024
"""An object whose first name has not ended by then is no call."""
CALL_KEYS = frozenset({"name", "arguments", "parameters", "type", "id", "function"})
TOOL_TEXT = """\
You may call one or more functions to answer. They are described here as JSON:
{tools}
To call a function, answer with nothing but
<tool_call>
{{"name": <function name>, "arguments": <arguments as a JSON object>}}
</tool_call>"""

_OPENER = re.compile(r"<tool_call>|```(?:json|tool_call)?[ \t]*\n?")
_OPENER_TEXTS = ("<tool_call>", "```json", "```tool_call", "```\n")
_FENCE_LABELS = ("json", "tool_call")
_CLOSER = re.compile(r"\s*(?:</tool_call>|```)?\s*")
_CLOSER_TEXTS = ("</tool_call>", "```")
_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:')
_NAME = re.compile(r'\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"')
_ENFORCED = re.compile(r'\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"arguments"\s*:\s*')


class CallPiece(msgspec.Struct, frozen=True):
    """Part of call number ``position``; ``name`` comes with the first part."""

    position: int
    arguments: str
    name: str = ""


def wire_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Tools in the shape of the OpenAI wire."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def shown_tools(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools the model is told of: none when the caller forbids calls."""
    return () if request.tool_choice.mode == "none" else request.tools


def messages_without_tool_template(messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> tuple[Message, ...]:
    """Tools, calls and results as plain text, for a template that knows none of them."""
    plain = [_plain(message) for message in messages]
    if tools:
        described = TOOL_TEXT.format(tools="\n".join(msgspec.json.encode(tool).decode() for tool in wire_tools(tools)))
        own = plain.pop(0).text() if plain and plain[0].role == "system" else ""
        plain.insert(0, Message("system", f"{own}\n\n{described}" if own else described))
    return tuple(plain)


def enforced_schema(request: ChatRequest) -> dict[str, Any] | None:
    """The schema that a required or named call has to meet; None when nothing is enforced.

    Raises InvalidField for a tool that was not declared and for schemas out of bounds.
    """
    for tool in request.tools:
        check_schema(tool.parameters, "tools")
    choice = request.tool_choice
    if choice.mode == "named":
        named = [tool for tool in request.tools if tool.name == choice.name]
        if not named:
            raise InvalidField(
                f"tool_choice names the tool `{choice.name[:128]}`, which is not declared", "tool_choice"
            )
        return _call_schema(named[0], "#")
    if choice.mode == "required":
        if not request.tools:
            raise InvalidField("tool_choice is `required`, but no tools are declared", "tool_choice")
        if len(request.tools) == 1:
            return _call_schema(request.tools[0], "#")
        return {"anyOf": [_call_schema(tool, f"#/anyOf/{place}") for place, tool in enumerate(request.tools)]}
    return None


class EnforcedCalls:
    """Reads text that the schema of ``enforced_schema`` shaped: arguments are passed on as they come."""

    def __init__(self) -> None:
        self._held = ""
        self._value: JsonExtent | None = None
        self.calls = 0

    def feed(self, text: str) -> Iterator[str | CallPiece]:
        if self._value is None:
            self._held += text
            opening = _ENFORCED.match(self._held)
            if opening is None or opening.end() == len(self._held):
                return
            text, self._held = self._held[opening.end() :], ""
            self._value = JsonExtent()
            self.calls = 1
            yield CallPiece(0, self._value.take(text), _unescaped(opening[1]))
        elif piece := self._value.take(text):
            yield CallPiece(0, piece)

    def close(self) -> Iterator[str | CallPiece]:
        """An answer cut off before its first argument is shown as the text it is."""
        if self._value is None and self._held:
            yield self._held


class FoundCalls:
    """Finds calls in free text. ``feed`` and ``close`` give text to show and calls, in order."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held = ""
        self._object: JsonExtent | None = None
        self._start = self._read = 0
        self._state: Callable[[], Iterator[str | CallPiece]] = self._at_start
        self.calls = 0

    def feed(self, text: str) -> Iterator[str | CallPiece]:
        self._held += text
        before = None
        while self._held and before != (self._state, self._held):
            before = (self._state, self._held)
            yield from self._state()

    def close(self) -> Iterator[str | CallPiece]:
        """What was held and became no call is text after all; what followed a call and says nothing is dropped."""
        rest, self._held = self._held, ""
        if rest and not (self.calls and not _CLOSER.sub("", rest)):
            yield rest

    def _at_start(self) -> Iterator[str | CallPiece]:
        """Before any text, and after a call: a bare object may follow. White space after a call is not shown."""
        rest = self._held.lstrip()
        if not rest:
            return
        if self.calls:
            self._held = rest
        self._state = self._in_object if rest.startswith("{") else self._in_text
        yield from ()

    def _in_text(self) -> Iterator[str | CallPiece]:
        opener = _OPENER.search(self._held)
        if opener is None:
            keep = _tail_that_may_open(self._held)
            shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            if shown:
                yield shown
            return
        if opener.start():
            yield self._held[: opener.start()]
            self._held = self._held[opener.start() :]
            return
        rest = self._held[opener.end() :].lstrip()
        if rest.startswith("{"):
            self._state = self._in_object
        elif rest and not any(label.startswith(rest) for label in _FENCE_LABELS):
            yield from self._show(opener.end())

    def _in_object(self) -> Iterator[str | CallPiece]:
        if self._object is None:
            self._object, self._start = JsonExtent(), self._held.index("{")
            self._read = self._start
        self._read += len(self._object.take(self._held[self._read :]))
        start, stop = self._start, self._read
        if not self._object.complete:
            if not self._may_be_call(self._held[start : start + JUDGED_CHARS + 1]):
                yield from self._show(len(self._held))
            return
        call = _call(self._held[start:stop], self._names)
        if call is None:
            yield from self._show(stop)
            return
        self._object = None
        self._held = self._held[stop:]
        self._state = self._after_call
        yield CallPiece(self.calls, call[1], call[0])
        self.calls += 1

    def _after_call(self) -> Iterator[str | CallPiece]:
        rest = self._held.lstrip()
        closer = next((text for text in _CLOSER_TEXTS if rest.startswith(text)), None)
        if closer is not None:
            self._held = rest[len(closer) :]
            self._state = self._at_start
        elif rest and not any(text.startswith(rest) for text in _CLOSER_TEXTS):
            self._state = self._at_start
        yield from ()

    def _show(self, count: int) -> Iterator[str | CallPiece]:
        self._object = None
        self._state = self._in_text
        shown, self._held = self._held[:count], self._held[count:]
        if shown:
            yield shown

    def _may_be_call(self, text: str) -> bool:
        """Judged by the beginning, so that a token costs the same however long the object has become."""
        key = _FIRST_KEY.match(text)
        if key is None and len(text) > JUDGED_CHARS:
            return False
        if key is not None and key[1] not in CALL_KEYS:
            return False
        name = _NAME.match(text)
        return name is None or _unescaped(name[1]) in self._names


class JsonExtent:
    """Finds where a JSON object, array or string ends in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.complete = False

    def take(self, text: str) -> str:
        """The part of ``text`` that belongs to the value."""
        if self.complete:
            return ""
        for place, letter in enumerate(text):
            if self._ends_with(letter):
                return text[: place + 1]
        return text

    def _ends_with(self, letter: str) -> bool:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif letter == "\\":
                self._escaped = True
            elif letter == '"':
                self._in_string = False
                self.complete = self._depth == 0
        elif letter == '"':
            self._in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            self.complete = self._depth <= 0
        return self.complete


class _Written(msgspec.Struct):
    """A call as models write it: flat, or wrapped the way the wire has it."""

    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")
    parameters: msgspec.Raw = msgspec.Raw(b"")
    function: _Written | None = None


def _call(text: str, names: frozenset[str]) -> tuple[str, str] | None:
    """Name and arguments of a declared tool's call, or None."""
    try:
        written = msgspec.json.decode(text, type=_Written)
        written = written.function or written
        raw = bytes(written.arguments) or bytes(written.parameters) or b"{}"
        arguments = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if written.name not in names or raw[:1] not in (b"{", b'"'):
        return None
    return (written.name, arguments)


def whole_json(text: str) -> bool:
    """Whether the text is one JSON value and nothing else; values are not built, so any number will do."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    return True


def _call_schema(tool: Tool, place: str) -> dict[str, Any]:
    """``place`` is where this schema will stand: references inside the tool's own schema move along."""
    parameters = _moved(tool.parameters or {"type": "object"}, f"{place}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(node: Any, base: str) -> Any:
    if isinstance(node, list | tuple):
        return [_moved(item, base) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: f"{base}{item[1:]}"
        if key == "$ref" and isinstance(item, str) and item.startswith("#")
        else _moved(item, base)
        for key, item in node.items()
    }


def _plain(message: Message) -> Message:
    if message.role in ("tool", "function"):
        return Message("user", f"<tool_response>\n{message.text()}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        msgspec.json.encode({"name": call.name, "arguments": arguments(call.arguments)}).decode()
        for call in message.tool_calls
    ]
    written = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    return Message("assistant", f"{message.text()}\n{written}".lstrip("\n"))


def _tail_that_may_open(text: str) -> int:
    """Length of the longest end of ``text`` that an opener could begin with."""
    longest = max(len(opener) for opener in _OPENER_TEXTS)
    for length in range(min(longest, len(text)), 0, -1):
        if any(opener.startswith(text[-length:]) for opener in _OPENER_TEXTS):
            return length
    return 0


def _unescaped(text: str) -> str:
    try:
        return msgspec.json.decode(f'"{text}"', type=str)
    except msgspec.MsgspecError:
        return text
