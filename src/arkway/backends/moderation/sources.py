"""The sources that a bot names, and what it tells of how they were found: searched as its answer is.

What is to be masked is masked. A source in which something is found that would end an answer keeps its number and its
ids and says nothing any more: the answer goes on, and what it cites is where it was. Addresses are never masked, which
would make them lead nowhere; percent-encoding hides nothing in them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from arkway.backends.moderation.strategy import Strategy
from arkway.core.bot import ActionDetail, ToolDetail
from arkway.core.events import BotReport, Cited
from arkway.core.reference import Reference

_TEXTS = ("site_name", "title", "summary", "doc_name", "doc_title", "chunk_title")
_KEPT = ("collection_name", "doc_id", "doc_type", "chunk_id", "project", "publish_time", "freshness_info")

_replace = msgspec.structs.replace


def cited(strategy: Strategy, event: Cited) -> Cited:
    """The sources of an answer; the very event where there is nothing in them."""
    found = tuple([_reference(strategy, reference) for reference in event.references])
    return event if _same(found, event.references) else Cited(found)


def reported(strategy: Strategy, event: BotReport) -> BotReport:
    """What a bot has used; the very event where there is nothing in it."""
    details = tuple([_action(strategy, detail) for detail in event.usage.details])
    return event if _same(details, event.usage.details) else BotReport(_replace(event.usage, details=details))


def _same(found: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    return all(new is old for new, old in zip(found, before, strict=True))


def _reference(strategy: Strategy, reference: Reference) -> Reference:
    changed: dict[str, Any] = {}
    for name in _TEXTS:
        text = getattr(reference, name)
        if text and (said := strategy.cleaned(text)) != text:
            changed[name] = said
    extra, stands = _value(strategy, reference.extra)
    cover = reference.cover.url if reference.cover is not None else ""
    addresses = (reference.url, reference.logo_url, reference.mobile_url, cover)
    if None in changed.values() or not stands or not all(_may_lead(strategy, address) for address in addresses):
        return Reference(idx=reference.idx, **{name: getattr(reference, name) for name in _KEPT})
    if extra != reference.extra:
        changed["extra"] = extra
    return _replace(reference, **changed) if changed else reference


def _action(strategy: Strategy, action: ActionDetail) -> ActionDetail:
    calls = tuple([_call(strategy, call) for call in action.tool_details])
    return action if _same(calls, action.tool_details) else _replace(action, tool_details=calls)


def _call(strategy: Strategy, call: ToolDetail) -> ToolDetail:
    given, output = _value(strategy, call.input)[0], _value(strategy, call.output)[0]
    return call if given == call.input and output == call.output else _replace(call, input=given, output=output)


def _may_lead(strategy: Strategy, address: str) -> bool:
    if not address:
        return True
    return strategy.cleaned(address) is not None and (
        "%" not in address or strategy.cleaned(unquote(address)) is not None
    )


def _value(strategy: Strategy, value: Any) -> tuple[Any, bool]:
    """JSON, and whether all of it may stand. An object with a text that may not has no texts any more, but its ids."""
    if isinstance(value, str):
        said = strategy.cleaned(value)
        return said or "", said is not None
    if isinstance(value, dict):
        return _object(strategy, value)
    if isinstance(value, list | tuple):
        found = [_value(strategy, item) for item in value]
        return [item for item, _ in found], all(stands for _, stands in found)
    return value, True


def _object(strategy: Strategy, value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    found: dict[str, Any] = {}
    within, beside = True, True
    for name, item in value.items():
        if strategy.cleaned(name) is None:
            beside = False
        elif not isinstance(item, str):
            found[name], stands = _value(strategy, item)
            within = within and stands
        elif name.endswith("url"):
            found[name] = item
            beside = beside and _may_lead(strategy, item)
        elif name in _KEPT:
            found[name] = item
        else:
            found[name], stands = _value(strategy, item)
            beside = beside and stands
    if not beside:
        found = {name: "" if isinstance(item, str) and name not in _KEPT else item for name, item in found.items()}
    return found, within and beside
