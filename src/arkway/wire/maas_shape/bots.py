"""Answers of Bot API V2: the MaaS shape with sources in the message and a usage of its own (protocol §6.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arkway.core.bot import BotUsage
from arkway.core.chat import ChatReply, ChatRequest, ReplyTag, Usage
from arkway.core.errors import ArkwayError, OutputBlocked
from arkway.core.events import BotReport, Cited, Delta, Event, Intention, Quoted
from arkway.core.reference import Reference
from arkway.wire import bots, json, sse
from arkway.wire.maas_shape.reply import ReplyStyle, check_moderation, choice_of, shown_id
from arkway.wire.maas_shape.stream import FrameEncoder

STYLE = ReplyStyle(one_choice=False, length="max_length")


def completion(reply: ChatReply, request: ChatRequest, tag: ReplyTag) -> bytes:
    """A whole answer in JSON. Its only choice names the sources, be it none. Raises OutputBlocked."""
    check_moderation(reply)
    choices = [choice_of(choice, request, STYLE, None) for choice in reply.choices]
    for choice in choices:
        choice["message"]["references"] = references(reply.references)
    counts = usage(bots.used(reply.bot_usage, request.asked, reply.usage))
    return json.dumps(STYLE.headed(shown_id(request, tag), {"choices": choices, "usage": counts}))


def references(found: tuple[Reference, ...]) -> list[dict[str, Any]]:
    """The sources of an answer. The time of a page has its name, and the one that the vendor's document gives it."""
    return [_reference(entry) for entry in found]


def usage(report: BotUsage) -> dict[str, Any]:
    """What a bot used; every count an integer."""
    return {
        "model_usage": [bots.model_use(use) for use in report.models],
        "action_usage": [bots.action_use(use, tokens=True) for use in report.actions],
        "action_details": [bots.action_detail(detail) for detail in report.details],
    }


class BotFrames(FrameEncoder):
    """One stream; implements `arkway.ports.StreamEncoder`.

    The first frame with content names the sources, and the last one, by when they may be fewer: those that were used.
    """

    def __init__(self, request: ChatRequest, tag: ReplyTag, error_payload: Callable[[ArkwayError], bytes]) -> None:
        super().__init__(request, tag, STYLE, error_payload, None)
        self._asked = request.asked
        self._references: tuple[Reference, ...] | None = None
        self._due = False
        self._report: BotUsage | None = None

    def feed(self, event: Event) -> bytes:
        match event:
            case Delta() if self._due:
                return self._led(event)
            case Quoted() if self._due:
                return self._led(event.delta())
            case Intention():
                body = {"choices": [self._choice(0, "")], "extra": {"intention": event.text}}
                return sse.tight(json.dumps(STYLE.headed(self._id, body)))
            case Cited():
                self._due = self._due or (self._references is None and bool(event.references))
                self._references = event.references
            case BotReport():
                self._report = event.usage
            case _:
                return super().feed(event)
        return b""

    def close(self, usage_total: Usage) -> bytes:
        if self._blocked:
            return self.fail(OutputBlocked())
        ends = [self._end(index, reason) for index, reason in sorted(self._finished.items())]
        if self._references is not None:
            for end in ends:
                end["message"]["references"] = references(self._references)
        counts = usage(bots.used(self._report, self._asked, usage_total))
        return (self._frame(ends, counts) if ends else b"") + sse.TIGHT_DONE

    def _led(self, event: Delta) -> bytes:
        """The first frame with content, if this makes one."""
        choice = self._said(event)
        if choice is None:
            return b""
        self._due = False
        choice["message"]["references"] = references(self._references or ())
        return self._frame([choice])


def _reference(found: Reference) -> dict[str, Any]:
    shown = {"idx": found.idx, **bots.reference(found)}
    if "publish_time" in shown:
        shown["pulish_time"] = found.publish_time
    return shown
