"""From messages to token ids, with the caller's text kept apart from the template's control tokens.

The model's own template is rendered with an unguessable sentinel in place of every text of the caller. Cut at the
sentinels, the template's pieces are read with control tokens recognised, the caller's text without: ``<|im_end|>`` in a
message stays seven ordinary tokens. Text that touches (``user\\n`` and what the user wrote) is tokenised together, as
the engine itself does between two control tokens, so an ordinary prompt gets the very ids of the plain road.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from typing import Any, TypeVar

import msgspec

from arkway.backends.engine.client import EngineClient
from arkway.backends.engine.schema import depth
from arkway.core.chat import Message, Part, TextPart
from arkway.core.errors import BackendFailed, InvalidField

Value = TypeVar("Value")

ARGUMENTS_DEPTH_MAX = 64
"""Deeper arguments are shown as the text they are: values are walked by recursion."""
NO_WIDTH = "\u200b"
CACHED_PIECES = 512
CACHED_PIECE_MAX_CHARS = 16_384


class Masks:
    """Sentinels of one request and the texts they stand for. Alphanumeric: they survive trimming and JSON."""

    def __init__(self) -> None:
        self._stem = f"Q{secrets.token_hex(12)}N"
        self._texts: list[str] = []
        self._pattern = re.compile(f"{self._stem}(\\d+)Z")

    def hide(self, text: str) -> str:
        """The text with its core replaced. Outer white space stays: templates may trim it, and it is harmless."""
        core = text.strip()
        if not core:
            return text
        before, _, after = text.partition(core)
        return f"{before}{self._mask(core)}{after}"

    def hide_json(self, value: Any, hostile: frozenset[str]) -> Any:
        """A JSON value with every hostile string masked by its escaped form, as a template's ``tojson`` would write."""
        if isinstance(value, str):
            return self._mask(msgspec.json.encode(value).decode()[1:-1]) if value in hostile else value
        if isinstance(value, dict):
            return {self.hide_json(key, hostile): self.hide_json(item, hostile) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_json(item, hostile) for item in value]
        return value

    def cut(self, rendered: str) -> list[tuple[str, str]]:
        """Pairs of template text and the caller's text that follows it (empty after the last)."""
        pairs = []
        start = 0
        for found in self._pattern.finditer(rendered):
            pairs.append((rendered[start : found.start()], self._texts[int(found[1])]))
            start = found.end()
        return [*pairs, (rendered[start:], "")]

    def _mask(self, text: str) -> str:
        self._texts.append(text)
        return f"{self._stem}{len(self._texts) - 1}Z"


class PromptReader:
    """Turns messages into token ids for one engine; remembers how the template's constant pieces are cut."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._special: dict[int, bool] = {}
        self._cuts: OrderedDict[str, list[str | int]] = OrderedDict()
        self._plain: OrderedDict[str, list[int]] = OrderedDict()
        self._opening: list[int] | None = None
        self._turn_end: int | None = None

    async def ids(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[int]:
        """Token ids of a chat prompt. ``messages`` and ``tools`` in the shape of the OpenAI wire.

        Raises InvalidField when the template refuses the messages.
        """
        masks = Masks()
        hostile = await self._hostile(_strings([tools, [message.get("tool_calls") for message in messages]]))
        masked = [_masked_message(message, masks, hostile) for message in messages]
        rendered = await self._client.render(masked, masks.hide_json(tools, hostile))
        return await self._joined(await self._runs(masks.cut(rendered)))

    async def text(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The same prompt as text, in which control tokens are to be recognised: the way of prompts with images.

        What the caller wrote is made harmless; where that cannot be done, InvalidField.
        """
        masks = Masks()
        hostile = await self._hostile(_strings([tools, [message.get("tool_calls") for message in messages]]))
        masked = [_masked_message(message, masks, hostile) for message in messages]
        pairs = masks.cut(await self._client.render(masked, masks.hide_json(tools, hostile)))
        harmless = await self._harmless([text for _, text in pairs])
        prompt = "".join(template + text for (template, _), text in zip(pairs, harmless, strict=True))
        own = [part for template, _ in pairs for part in await self._cut(template) if isinstance(part, int)]
        if [token for token, _ in await self._control_tokens(prompt)] != own:
            raise InvalidField("texts that spell control tokens of the model cannot be sent beside images", "messages")
        return prompt

    async def _harmless(self, texts: list[str]) -> list[str]:
        """The texts with every control token in them cut in two by a blank of no width."""
        hostile = await self._differing(texts)
        return [await self._without_control_tokens(text) if text in hostile else text for text in texts]

    async def _without_control_tokens(self, text: str) -> str:
        for word in {word for _, word in await self._control_tokens(text)}:
            text = text.replace(word, f"{word[0]}{NO_WIDTH}{word[1:]}")
        return text

    async def turn_end(self) -> int:
        """The control token with which the template ends an assistant's turn; else the one that ends every text.

        Raises BackendFailed when the model has neither.
        """
        if self._turn_end is None:
            self._turn_end = await self._learnt_turn_end()
        return self._turn_end

    async def _learnt_turn_end(self) -> int:
        """A finished turn is rendered between two others: the template leaves the last one of all open."""
        masks = Masks()
        turns = [{"role": role, "content": masks.hide(role)} for role in ("user", "assistant", "user")]
        pairs = masks.cut(await self._client.render(turns, []))
        after = [pairs[place][0] for place, (_, text) in enumerate(pairs, 1) if text == "assistant"]
        parts = await self._cut(after[0] if after else "")
        if ends := [part for part in parts if isinstance(part, int)]:
            return ends[0]
        ids = await self._client.ids((await self._client.traits()).eos_token, special=True)
        if len(ids) != 1:
            raise BackendFailed("the model has no token that ends its answers; labels cannot be scored with it")
        return ids[0]

    async def _runs(self, pairs: list[tuple[str, str]]) -> list[tuple[str, bool] | int]:
        """Control token ids and, between them, text with a mark that says whether the caller's is in it."""
        runs: list[tuple[str, bool] | int] = []
        for template, text in pairs:
            for part in await self._cut(template):
                _append(runs, part, mixed=False)
            if text:
                _append(runs, text, mixed=True)
        return runs

    async def _joined(self, runs: list[tuple[str, bool] | int]) -> list[int]:
        known = {run[0]: self._plain[run[0]] for run in runs if isinstance(run, tuple) and run[0] in self._plain}
        wanted = list({run[0]: None for run in runs if isinstance(run, tuple) and run[0] not in known})
        fresh = dict(zip(wanted, await self._client.ids_of_each(wanted, special=False), strict=True))
        ids = [*await self._opening_ids()]
        for run in runs:
            if isinstance(run, int):
                ids.append(run)
                continue
            text, mixed = run
            part = known[text] if text in known else fresh[text]
            if not mixed:
                _remember(self._plain, text, part)
            ids += part
        return ids

    async def _opening_ids(self) -> list[int]:
        """The token the engine puts before every prompt, if the model wants one."""
        if self._opening is None:
            self._opening = (await self._client.ids("", special=True, start=True))[:1]
        return self._opening

    async def _cut(self, template: str) -> list[str | int]:
        """A template piece as control token ids and the text between them."""
        if template in self._cuts:
            return self._cuts[template]
        parts: list[str | int] = []
        start = 0
        for token, text in await self._control_tokens(template):
            place = template.index(text, start)
            if place > start:
                parts.append(template[start:place])
            parts.append(token)
            start = place + len(text)
        if start < len(template):
            parts.append(template[start:])
        _remember(self._cuts, template, parts)
        return parts

    async def _control_tokens(self, template: str) -> list[tuple[int, str]]:
        if not template:
            return []
        pieces = await self._client.pieces(template, special=True)
        texts = {piece.id: piece.piece for piece in pieces if isinstance(piece.piece, str)}
        fresh = {token: text for token, text in texts.items() if token not in self._special}
        await self._learn(fresh)
        return [(piece.id, texts[piece.id]) for piece in pieces if self._special.get(piece.id, False)]

    async def _learn(self, texts: dict[int, str]) -> None:
        """A control token is one whose text reads differently when control tokens are recognised."""
        differing = await self._differing(list(texts.values()))
        self._special |= {token: text in differing for token, text in texts.items()}

    async def _hostile(self, strings: list[str]) -> frozenset[str]:
        return frozenset(await self._differing(strings))

    async def _differing(self, strings: list[str]) -> set[str]:
        with_control = await self._client.ids_of_each(strings, special=True)
        without = await self._client.ids_of_each(strings, special=False)
        return {text for text, left, right in zip(strings, with_control, without, strict=True) if left != right}


def wire_message(message: Message, marker: str = "") -> dict[str, Any]:
    """A message in the shape of the OpenAI wire, which the engine's templates read; tool arguments as they came.

    ``marker`` stands in the text where an image is.
    """
    content = _marked(message.content, marker) if isinstance(message.content, tuple) else message.text()
    wire: dict[str, Any] = {"role": "tool" if message.role == "function" else message.role, "content": content}
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments(call.arguments)}}
            for call in message.tool_calls
        ]
    return wire


def arguments(text: str) -> dict[str, Any]:
    """A call's arguments as an object; text that is none is kept whole under the name ``input``."""
    try:
        value = msgspec.json.decode(text or "{}")
        msgspec.json.encode(value)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError):
        value = text
    if depth(value, ARGUMENTS_DEPTH_MAX) > ARGUMENTS_DEPTH_MAX:
        value = text
    return value if isinstance(value, dict) else {"input": value}


def _marked(parts: tuple[Part, ...], marker: str) -> str:
    return "".join(part.text if isinstance(part, TextPart) else marker for part in parts)


def _masked_message(message: dict[str, Any], masks: Masks, hostile: frozenset[str]) -> dict[str, Any]:
    masked = {**message, "content": masks.hide(message["content"])}
    masked |= {key: masks.hide(message[key]) for key in ("name", "tool_call_id") if key in message}
    if calls := message.get("tool_calls"):
        masked["tool_calls"] = [_masked_call(call, masks, hostile) for call in calls]
    return masked


def _masked_call(call: dict[str, Any], masks: Masks, hostile: frozenset[str]) -> dict[str, Any]:
    hidden = masks.hide_json(call, hostile)
    function = hidden["function"]
    return {**hidden, "function": {**function, "arguments": msgspec.json.encode(function["arguments"]).decode()}}


def _strings(value: Any) -> list[str]:
    """Every string in a JSON value, keys too, once each."""
    found: dict[str, None] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found[item] = None
        elif isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            stack += item
    return list(found)


def _append(runs: list[tuple[str, bool] | int], part: str | int, *, mixed: bool) -> None:
    if isinstance(part, str) and runs and isinstance(runs[-1], tuple):
        text, was_mixed = runs[-1]
        runs[-1] = (text + part, was_mixed or mixed)
    else:
        runs.append(part if isinstance(part, int) else (part, mixed))


def _remember(cache: OrderedDict[str, Value], key: str, value: Value) -> None:
    """Keeps the newest; texts too long to be a template's constant piece are not kept."""
    if len(key) > CACHED_PIECE_MAX_CHARS:
        return
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > CACHED_PIECES:
        cache.popitem(last=False)
