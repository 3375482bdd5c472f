"""The fields of MaaS v1's operations (seed "API Specification"; protocol §4.1, §4.6)."""

from __future__ import annotations

from typing import Any

from arkway.core.errors import MissingField
from arkway.wire.fields import Field, read_in_mode, table
from arkway.wire.limits import MODEL_MAX_BYTES, NAME_MAX_BYTES
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

ANSWER_MAX = 2048

_MODEL = Field("model", "object", "which model or endpoint, see below", True)

MODEL = table(
    Field("name", "string", "a model's name; its default endpoint serves", max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("version", "string", "a version of the named model", max_bytes=MODEL_MAX_BYTES, plain=True),
    Field("endpoint_id", "string", "an endpoint, `ep-…`; wins over `name`", max_bytes=MODEL_MAX_BYTES, plain=True),
)

PARAMETERS = table(*parameter_fields(ANSWER_MAX))
MESSAGE = table(*MESSAGE_FIELDS)

CHAT = table(
    _MODEL,
    *CHAT_FIELDS,
    Field("req_id", "string", "your own id for the call; the answer repeats it", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("method", "any", "accepted without effect", effect="ignored"),
)
EMBED = table(_MODEL, *EMBED_FIELDS)
TOKENIZE = table(_MODEL, *TOKENIZE_FIELDS)
CLASSIFY = table(_MODEL, *CLASSIFY_FIELDS)
CERT = table(_MODEL)

RULES = ChatRules(
    PARAMETERS,
    MESSAGE,
    follows={"user": ("", "assistant"), "assistant": ("user", "function"), "function": ("assistant",)},
    odd=True,
)


def asked(model: dict[str, Any]) -> Asked:
    """What the ``model`` object names; empty strings equal absent. Raises MissingField, InvalidField."""
    values, ignored, _ = read_in_mode(MODEL, model, "model.")
    if values.get("endpoint_id"):
        return Asked(values["endpoint_id"], "", ignored)
    if not values.get("name"):
        raise MissingField("model.name")
    return Asked(values["name"], values.get("version", ""), ignored)
