"""The fields of Ark v3's operations (seed "API 规范"; protocol §7.2)."""

from __future__ import annotations

from arkway.wire.fields import Field, table
from arkway.wire.openai_shape.bots import BOT_FIELDS
from arkway.wire.openai_shape.request import CHAT_FIELDS, EMBED_FIELDS, MODEL_MAX_BYTES, NAME_MAX_BYTES

CHAT = table(
    *CHAT_FIELDS,
    Field("model", "string", "the endpoint id, `ep-…`", True, max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("n", "integer", "answers per call: exactly one on v3", low=1, high=1, default="1"),
    Field(
        "repetition_penalty",
        "number",
        "1 is none, more lowers repetition",
        low=0.01,
        high=10,
        default="the model's own",
    ),
    Field("top_k", "integer", "draw from the k likeliest; 0 is off", low=0, high=1000, default="the model's own"),
    Field("thinking", "any", "accepted without effect", effect="ignored"),
    Field("reasoning_effort", "any", "accepted without effect", effect="ignored"),
    Field("metadata", "any", "accepted without effect", effect="ignored"),
)
BOT_CHAT = table(*CHAT.values(), *BOT_FIELDS)
"""A chat with a bot, on the bots' own route and on any other."""

EMBED = table(*EMBED_FIELDS)

TOKENIZE = table(
    Field("model", "string", "the endpoint id, `ep-…`", True, max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("text", "string or array", "one text or up to 256", True, max_items=256),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
)
