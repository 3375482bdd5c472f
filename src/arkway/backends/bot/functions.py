"""The bot's actions as functions that the model may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from arkway.backends.bot.wording import Wording
from arkway.core.bot import ActionKind, BotAction
from arkway.core.chat import Tool, ToolCall

ROUNDS_MAX = 3
"""How often a model may call functions before it has to answer."""
QUERY_MAX_CHARACTERS = 512

_NAMES: Mapping[ActionKind, str] = {
    "knowledge": "search_knowledge",
    "web_search": "search_web",
    "weather": "get_weather",
}


def named(actions: Sequence[BotAction]) -> dict[str, BotAction]:
    """The actions by their functions' names; of one kind, the second is ``search_knowledge_2``."""
    found: dict[str, BotAction] = {}
    for action in actions:
        name = _NAMES[action.kind]
        places = sum(each.kind == action.kind for each in found.values())
        found[f"{name}_{places + 1}" if places else name] = action
    return found


def tools(actions: Mapping[str, BotAction], words: Wording) -> tuple[Tool, ...]:
    """One function for each, which takes a ``query``."""
    query = {"type": "string", "description": words.query}
    shape: dict[str, Any] = {"type": "object", "properties": {"query": query}, "required": ["query"]}
    return tuple([Tool(name, _description(action, words), shape) for name, action in actions.items()])


def query_in(arguments: str, otherwise: str) -> str:
    """The query that the model wrote; ``otherwise`` where that cannot be read."""
    given = (_read(arguments) or {}).get("query")
    text = given.strip()[:QUERY_MAX_CHARACTERS] if isinstance(given, str) else ""
    return text.encode(errors="ignore").decode() or otherwise


def readable(call: ToolCall) -> ToolCall:
    """The call as it can be shown to a model again: many servers read the arguments, and refuse what is not JSON."""
    return call if _read(call.arguments) is not None else replace(call, arguments="{}")


def _read(arguments: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _description(action: BotAction, words: Wording) -> str:
    text = words.functions[action.kind]
    return f"{text} {words.collections}{', '.join(action.collections)}" if action.collections else text
