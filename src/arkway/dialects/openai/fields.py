"""The fields of OpenAI's operations."""

from __future__ import annotations

from arkway.wire.fields import Field, table
from arkway.wire.openai_shape.bots import BOT_FIELDS
from arkway.wire.openai_shape.request import CHAT_FIELDS, EMBED_FIELDS

CHAT = table(
    *CHAT_FIELDS,
    Field("n", "integer", "answers per call, up to the engine's slots", low=1, high=8, default="1"),
    Field("store", "any", "accepted; nothing is stored", effect="ignored"),
    Field("metadata", "any", "accepted without effect", effect="ignored"),
    Field("reasoning_effort", "any", "accepted without effect", effect="ignored"),
)
BOT_CHAT = table(*CHAT.values(), *BOT_FIELDS)
"""A chat with a bot."""

EMBED = table(*EMBED_FIELDS)
