"""The fields of MaaS v2's operations (seed "API Specification"; protocol §5.1). The endpoint stands in the path."""

from __future__ import annotations

from arkway.core.errors import MissingField
from arkway.wire.fields import Field, read, table
from arkway.wire.limits import MODEL_MAX_BYTES, NAME_MAX_BYTES, TOOL_CALLS_MAX, TOOLS_MAX
from arkway.wire.maas_shape.request import (
    CHAT_FIELDS,
    CLASSIFY_FIELDS,
    EMBED_FIELDS,
    MESSAGE_FIELDS,
    TOKENIZE_FIELDS,
    Asked,
    ChatRules,
    parameter_fields,
)

ANSWER_MAX = 4000

PATH = table(
    Field("endpoint_id", "string", "the endpoint, `ep-…`", True, max_bytes=MODEL_MAX_BYTES, plain=True),
)
PARAMETERS = table(*parameter_fields(ANSWER_MAX))
MESSAGE = table(
    *MESSAGE_FIELDS,
    Field("content", "string or array", "text, or parts: text and images; absent is empty"),
    Field("tool_calls", "array", "calls the assistant made", max_items=TOOL_CALLS_MAX),
    Field("tool_call_id", "string", "which call a tool message answers", max_bytes=NAME_MAX_BYTES, plain=True),
)

CHAT = table(
    *CHAT_FIELDS,
    Field("tools", "array", "functions the model may call", max_items=TOOLS_MAX),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("verbose", "any", "accepted without effect", effect="ignored"),
)
EMBED = table(*EMBED_FIELDS)
TOKENIZE = table(*TOKENIZE_FIELDS)
CLASSIFY = table(*CLASSIFY_FIELDS)
CERT = table()

RULES = ChatRules(PARAMETERS, MESSAGE, follows={"function": ("assistant",)})


def asked(path: str) -> Asked:
    """The endpoint in ``/api/v2/endpoint/{id}/{operation}``. Raises MissingField, InvalidField."""
    segments = path.split("/")
    endpoint_id = segments[4] if len(segments) > 4 else ""
    if not endpoint_id:
        raise MissingField("endpoint_id")
    return Asked(read(PATH, {"endpoint_id": endpoint_id})[0]["endpoint_id"])
