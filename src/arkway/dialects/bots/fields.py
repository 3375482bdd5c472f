"""The fields of Bot API V2 (seed "API Specification"; protocol §6.1). The bot stands in the path."""

from __future__ import annotations

from arkway.core.errors import EndpointNotFound, InvalidField, MissingField
from arkway.wire.bots import only_bot
from arkway.wire.fields import Field, read, table
from arkway.wire.limits import MODEL_MAX_BYTES, NAME_MAX_BYTES
from arkway.wire.maas_shape.request import CHAT_FIELDS, MESSAGE_FIELDS, Asked, ChatRules, parameter_fields

PATH = table(
    Field("bot_id", "string", "the bot, `bot-…`", True, max_bytes=MODEL_MAX_BYTES, plain=True),
)
PARAMETERS = table(*parameter_fields(None))
MESSAGE = table(
    *MESSAGE_FIELDS,
    Field("content", "string or array", "text, or parts: text and images; absent is empty"),
)

CHAT = table(
    *CHAT_FIELDS,
    Field("extra", "object", "what is for the bot, see below", else_ignored=True),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("functions", "any", "accepted without effect; a bot has actions of its own", effect="ignored"),
    Field("tools", "any", "as `functions`", effect="ignored"),
    Field("crypto_token", "any", "accepted without effect", effect="ignored"),
    Field("verbose", "any", "accepted without effect", effect="ignored"),
)

RULES = ChatRules(PARAMETERS, MESSAGE, follows={"function": ("assistant",)})


def asked(path: str) -> Asked:
    """The bot in ``/api/v2/bots/{id}/chat``. Raises EndpointNotFound for whatever else stands there."""
    segments = path.split("/")
    bot_id = segments[4] if len(segments) > 4 else ""
    try:
        return Asked(only_bot(read(PATH, {"bot_id": bot_id})[0]["bot_id"]))
    except (InvalidField, MissingField):
        raise EndpointNotFound(bot_id) from None
