"""What the wires of bots have in common: what callers say beside the chat, and the objects that only bots answer with.

Bot API V2 has the former in ``extra``, Ark v3 in ``metadata`` (protocol §6, §7.3; §11 rows 18 to 21). Callers write it
in several forms; what cannot be read is never an error, but has no effect and is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from arkway.core.bot import ActionDetail, ActionUse, Asker, BotUsage, ModelUse, ToolDetail
from arkway.core.chat import Usage
from arkway.core.errors import BadRequest, EndpointNotFound
from arkway.core.reference import Reference
from arkway.wire import json
from arkway.wire.fields import Field, table
from arkway.wire.limits import PLACE_MAX_BYTES

PREFIX = "bot-"
USER_INFO = "user_info"
INTENTION = "emit_intention_signal_extra"

ASIDE = table(
    Field(USER_INFO, "string or object", 'where the user is: `{"city", "district"}`, or that as JSON in a string'),
    Field(INTENTION, "any", 'true or "true": a stream says that something is being looked up'),
)
"""What stands in ``extra`` and in ``metadata``."""

_PLACES = ("city", "district")
_WISHES: Mapping[Any, bool] = {True: True, False: False, "true": True, "false": False, "": False}
_OF_PAGES = ("url", "logo_url", "mobile_url", "site_name", "title", "summary", "publish_time")
_OF_DOCUMENTS = ("collection_name", "doc_id", "doc_name", "doc_type", "doc_title", "chunk_id", "chunk_title")
_OF_EITHER = ("freshness_info", "project")


class Aside(NamedTuple):
    """What a caller says to a bot beside the chat, and the wire paths of what had no effect."""

    asker: Asker
    wants_intention: bool
    ignored: tuple[str, ...]


def is_bot(asked: Any) -> bool:
    """Whether this names a bot rather than an endpoint or a model."""
    return isinstance(asked, str) and asked.startswith(PREFIX)


def only_bot(asked: str) -> str:
    """The name of a bot. Raises EndpointNotFound for anything else, as for a bot that does not exist."""
    if not is_bot(asked):
        raise EndpointNotFound(asked)
    return asked


def aside(given: Any, prefix: str) -> Aside:
    """Reads ``extra`` or ``metadata``; ``prefix`` is its path with a dot."""
    if given is None:
        return Aside(Asker(), False, ())
    if not isinstance(given, dict):
        return Aside(Asker(), False, (prefix[:-1],))
    ignored = [prefix + name[:64] for name, value in given.items() if name not in ASIDE and value is not None]
    asker, unread = _asker(given.get(USER_INFO), prefix + USER_INFO)
    wish = given.get(INTENTION)
    known = wish is None or (isinstance(wish, bool | str) and _plain_wish(wish) in _WISHES)
    if not known:
        ignored.append(prefix + INTENTION)
    return Aside(asker, known and wish is not None and _WISHES[_plain_wish(wish)], (*ignored, *unread))


def _plain_wish(wish: bool | str) -> bool | str:
    return wish.lower() if isinstance(wish, str) else wish


def _asker(given: Any, path: str) -> tuple[Asker, tuple[str, ...]]:
    """``user_info``, an object or JSON in a string, and the paths of what cannot be read in it."""
    if given is None or given == "":
        return Asker(), ()
    if isinstance(given, str):
        try:
            given = json.loads(given.encode())
        except (BadRequest, UnicodeEncodeError):
            return Asker(), (path,)
    if not isinstance(given, dict):
        return Asker(), (path,)
    found = {name: value for name, value in given.items() if name in _PLACES and _is_place(value)}
    unread = [f"{path}.{name[:64]}" for name, value in given.items() if name not in found and value is not None]
    return Asker(**found), tuple(unread)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.encode(errors="replace")) <= PLACE_MAX_BYTES


def reference(found: Reference) -> dict[str, Any]:
    """One source: every field of its kind, page or document, and whatever else is known of it. No ``idx``."""
    document = bool(found.collection_name)
    base = _OF_DOCUMENTS if document else _OF_PAGES
    names = (*base, *(_OF_PAGES if document else _OF_DOCUMENTS), *_OF_EITHER)
    shown: dict[str, Any] = {name: value for name in names if (value := getattr(found, name)) or name in base}
    if found.cover is not None:
        shown["cover_image"] = {"url": found.cover.url, "width": found.cover.width, "height": found.cover.height}
    if found.extra:
        shown["extra"] = found.extra
    return shown


def used(report: BotUsage | None, asked: str, total: Usage) -> BotUsage:
    """What a bot used; where it has not said, one call of what was asked for."""
    return report or BotUsage((ModelUse(asked, total.prompt_tokens, total.completion_tokens),))


def model_use(use: ModelUse) -> dict[str, Any]:
    """One entry of ``model_usage``."""
    return {"name": use.name, **_counts(use)}


def action_use(use: ActionUse, *, tokens: bool) -> dict[str, Any]:
    """One entry of ``action_usage``. No ``tokens`` on v3, where the Go SDK takes one of them for a string (§7.3)."""
    shown = {"name": use.name, "action_name": use.action_name, "count": use.count, "search_count": use.count}
    return {**shown, **_counts(use)} if tokens else shown


def action_detail(detail: ActionDetail) -> dict[str, Any]:
    """One entry of ``action_details``."""
    calls = [_tool_detail(call) for call in detail.tool_details]
    return {"name": detail.name, "count": detail.count, "tool_details": calls}


def _counts(use: ModelUse | ActionUse) -> dict[str, int]:
    return {
        "prompt_tokens": use.prompt_tokens,
        "completion_tokens": use.completion_tokens,
        "total_tokens": use.total_tokens,
    }


def _tool_detail(call: ToolDetail) -> dict[str, Any]:
    return {
        "name": call.name,
        "input": call.input,
        "output": call.output,
        "created_at": call.created_at,
        "completed_at": call.completed_at,
    }
