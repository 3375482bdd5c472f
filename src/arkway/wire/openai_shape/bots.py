"""Bots in the OpenAI-like shape: Ark v3's own route for them, and ``bot-…`` as the model of a chat (protocol §7.3)."""

from __future__ import annotations

from typing import Any

import msgspec

from arkway.core.bot import BotUsage
from arkway.core.chat import ChatRequest
from arkway.core.reference import Reference
from arkway.wire import bots
from arkway.wire.fields import Field, Table
from arkway.wire.limits import MODEL_MAX_BYTES
from arkway.wire.openai_shape.request import chat_request

BOT_FIELDS = (
    Field("model", "string", "the bot, `bot-…`", True, max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("bot_id", "string", "as `model`, where that names no bot", max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("metadata", "object", "what is for the bot, see below", else_ignored=True),
)


def bot_request(fields: Table, body: dict[str, Any]) -> ChatRequest:
    """A chat with a bot. Raises as `arkway.wire.openai_shape.request.chat_request`.

    Real callers send ``stream_options`` without a stream; here it has no effect (it is an error beside a model).
    """
    body, told = dict(body), []
    bot_id, metadata = body.get("bot_id"), body.get("metadata")
    if bots.is_bot(bot_id) and not bots.is_bot(body.get("model")):
        body["model"] = bot_id
    elif bot_id is not None and bot_id != body.get("model"):
        told.append("bot_id")
    if body.get("stream_options") is not None and not body.get("stream"):
        del body["stream_options"]
        told.append("stream_options")
    request = chat_request(fields, body)
    aside = bots.aside(metadata if isinstance(metadata, dict) else None, "metadata.")
    return msgspec.structs.replace(
        request,
        asker=aside.asker,
        wants_intention=aside.wants_intention,
        ignored=(*request.ignored, *told, *aside.ignored),
    )


def references(found: tuple[Reference, ...]) -> list[dict[str, Any]]:
    """The ``references`` of an answer. Keys are in alphabetical order here, too."""
    return [dict(sorted(bots.reference(entry).items())) for entry in found]


def bot_usage(report: BotUsage) -> dict[str, Any]:
    """The ``bot_usage`` of an answer."""
    return {
        "action_details": [bots.action_detail(detail) for detail in report.details],
        "action_usage": [bots.action_use(use, tokens=False) for use in report.actions],
        "model_usage": [bots.model_use(use) for use in report.models],
    }
