"""Requests in the MaaS shape: the fields that its dialects share, and a body to the canonical request.

Two modes (protocol §11a). Compat, the default, takes what real callers send; strict enforces what the vendor's
documents say. Which is which stands in the field tables.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from arkway.core.chat import ChatRequest, ImagePart, Message, Role, Sampling, Tool
from arkway.core.classification import ClassifyRequest
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import InvalidField, MissingField
from arkway.wire.fields import Field, Reading, Strict, Table, json_type, read_in_mode
from arkway.wire.limits import (
    CRYPTO_TOKEN_MAX_BYTES,
    EMBED_INPUT_MAX_BYTES,
    EMBED_INPUTS_MAX,
    LABEL_MAX_BYTES,
    LABELS_MAX,
    LEGACY_STOP_MAX,
    LOGIT_BIAS_MAX,
    MESSAGES_MAX,
    NAME_MAX_BYTES,
    TOOLS_MAX,
    TOP_LOGPROBS_MAX,
)
from arkway.wire.messages import an_object, functions, logit_biases, parts, stops, texts, tool_calls, tools

CRYPTO_HEADER = "ml-maas-crypto-token"
_OWN = "the model's own"
_ROLES = ("system", "user", "assistant", "function", "tool")
_SPEAKERS = frozenset(_ROLES[:3])
_STREAM = b'"stream"'
_TRUE = re.compile(rb"\s*:\s*true")
# What base64 of an image of each kind begins with.
_IMAGES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}

Open = Callable[[str], str]


class Asked(NamedTuple):
    """The endpoint or model a call names, the model's version ("" = the default one), and what had no effect."""

    name: str
    version: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRules:
    """What differs between the chats of this shape.

    In strict mode a role that is a key of ``follows`` may only come after one of its values ("" = nothing), system
    messages left aside, and where ``odd`` the number of messages is odd.
    """

    parameters: Table
    message: Table
    follows: Mapping[str, tuple[str, ...]]
    odd: bool = False


CHAT_FIELDS = (
    Field("messages", "array", "the conversation so far, the last user message included", True, max_items=MESSAGES_MAX),
    Field("parameters", "object", "how to answer, see below"),
    Field("stream", "boolean", "answer as server-sent events", default="false"),
    Field("functions", "array", "functions the model may call, the older form", max_items=TOOLS_MAX),
    Field(
        "crypto_token",
        "string",
        "the caller's half of message encryption, where that is on; also as the header `Ml-Maas-Crypto-Token`",
        max_bytes=CRYPTO_TOKEN_MAX_BYTES,
    ),
    Field("plugins", "any", "accepted without effect", effect="ignored"),
    Field("extra", "any", "accepted without effect", effect="ignored"),
)

_ROLE = Field("role", "string", "who speaks", True, choices=_ROLES, strict=Strict(choices=_ROLES[:4]))
MESSAGE_FIELDS = (
    _ROLE,
    Field("content", "string", "the text; absent is empty"),
    Field("name", "string", "the speaker's name, or the function's", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("function_call", "object", "the call the assistant made"),
    Field("references", "any", "accepted without effect", effect="ignored"),
)

EMBED_FIELDS = (
    Field("input", "string or array", "one text or up to 256", True, max_items=EMBED_INPUTS_MAX),
    Field("encoding_format", "string", "how vectors are written", choices=("float", "base64"), default="float"),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
)
TOKENIZE_FIELDS = (Field("text", "string", "the text", True),)
CLASSIFY_FIELDS = (
    Field("query", "string", "the text", True, max_bytes=EMBED_INPUT_MAX_BYTES),
    Field("labels", "array", "two or more labels, all different", True, max_items=LABELS_MAX),
)


_SAMPLING_FIELDS = (
    Field(
        "temperature",
        "number",
        "0 is greedy",
        low=0,
        high=2,
        default=_OWN,
        strict=Strict(0, 1, above_low=True),
    ),
    Field("top_p", "number", "nucleus sampling; 0 is greedy", low=0, high=1, default=_OWN),
    Field(
        "top_k",
        "integer",
        "draw from the k likeliest",
        low=0,
        high=1000,
        default=_OWN,
        strict=Strict(1, 1000),
        quoted=True,
        zero_is_unset=True,
    ),
    Field("do_sample", "boolean", "false is greedy", default="true"),
    Field("stop", "string or array", "strings that end the answer", max_items=LEGACY_STOP_MAX),
    Field("presence_penalty", "number", "lowers repetition of any token that came", low=-2, high=2, default="0"),
    Field("frequency_penalty", "number", "lowers repetition by how often a token came", low=-2, high=2, default="0"),
    Field(
        "repetition_penalty",
        "number",
        "1 is none, more lowers repetition",
        low=0.01,
        high=10,
        default=_OWN,
        zero_is_unset=True,
    ),
    Field(
        "logprobs",
        "integer",
        "candidates per position to return with their log-probabilities",
        low=0,
        high=TOP_LOGPROBS_MAX,
        default="0",
        quoted=True,
        clamps=True,
    ),
    Field(
        "logit_bias",
        "object",
        "token id → −100…100; ids from tokenization",
        max_items=LOGIT_BIAS_MAX,
        else_ignored=True,
    ),
    Field("min_new_tokens", "any", "accepted without effect", effect="ignored"),
    Field("max_prompt_tokens", "any", "accepted without effect", effect="ignored"),
    Field("guidance", "any", "accepted without effect", effect="ignored"),
)


def parameter_fields(answer_max: int | None) -> tuple[Field, ...]:
    """The fields of ``parameters``; ``answer_max`` is the documented limit of an answer in tokens, if any."""
    limit = Strict(1, answer_max)
    return (
        Field(
            "max_new_tokens",
            "integer",
            "the answer's limit in tokens; more than the model gives is lowered to that in compat mode",
            low=1,
            default=_OWN,
            strict=limit,
            quoted=True,
            zero_is_unset=True,
        ),
        Field(
            "max_tokens",
            "integer",
            "as `max_new_tokens`, which counts where both are sent",
            low=1,
            strict=limit,
            quoted=True,
            zero_is_unset=True,
        ),
        *_SAMPLING_FIELDS,
    )


def wants_stream(body: bytes) -> bool:
    """Whether a body, which may be broken JSON, asks for a stream."""
    start = body.find(_STREAM)
    while start >= 0:
        if _TRUE.match(body, start + len(_STREAM)):
            return True
        start = body.find(_STREAM, start + len(_STREAM))
    return False


def token_of(reading: Reading, header: str) -> str:
    """The caller's half of message encryption, from the body or else the header; empty = none."""
    return reading.values.get("crypto_token") or header


def chat_request(
    rules: ChatRules, reading: Reading, asked: Asked, opened: Open | None, *, token: str = "", strict: bool = False
) -> ChatRequest:
    """A chat body in this shape to the canonical request; ``opened`` decrypts a text when ``token`` was sent.

    Raises MissingField, InvalidField, UnsupportedInput.
    """
    values = reading.values
    knobs = read_in_mode(rules.parameters, values.get("parameters", {}), "parameters.", strict=strict)
    limit = "max_tokens" if "max_tokens" in knobs.values and "max_new_tokens" not in knobs.values else "max_new_tokens"
    legacy = bool(values.get("functions")) and not values.get("tools")
    candidates = 0 if opened else knobs.values.get("logprobs", 0)
    messages, unheard = _messages(rules, values["messages"], opened, strict=strict)
    own = (*reading.ignored, *asked.ignored, *knobs.ignored)
    return ChatRequest(
        asked=asked.name,
        asked_version=asked.version,
        messages=messages,
        sampling=_sampling(knobs.values),
        max_tokens=knobs.values.get(limit),
        max_tokens_field=f"parameters.{limit}",
        clamp_max_tokens=not strict,
        parameter_prefix="parameters.",
        logprobs=candidates > 0,
        top_logprobs=candidates,
        stream=values.get("stream", False),
        tools=_offered(values, legacy=legacy),
        legacy_functions=legacy,
        user=values.get("user", ""),
        ignored=(*own, *unheard, *_without_effect(values, knobs.values, opened)),
        clamped=(*reading.clamped, *knobs.clamped),
        crypto_token=token,
        client_request_id=values.get("req_id", ""),
    )


def embed_request(reading: Reading, asked: Asked) -> EmbedRequest:
    """An embeddings body to the canonical request."""
    values = reading.values
    return EmbedRequest(
        asked=asked.name,
        asked_version=asked.version,
        texts=texts(values["input"], "input"),
        encoding=values.get("encoding_format", "float"),
        user=values.get("user", ""),
        ignored=(*reading.ignored, *asked.ignored),
    )


def tokenize_request(reading: Reading, asked: Asked) -> TokenizeRequest:
    """A tokenization body to the canonical request: always one text."""
    return TokenizeRequest(
        asked=asked.name,
        asked_version=asked.version,
        texts=texts(reading.values["text"], "text"),
        ignored=(*reading.ignored, *asked.ignored),
    )


def classify_request(reading: Reading, asked: Asked) -> ClassifyRequest:
    """A classification body to the canonical request."""
    query, labels = reading.values["query"], reading.values["labels"]
    if not query:
        raise InvalidField("expected a text that is not empty", "query")
    return ClassifyRequest(
        asked=asked.name,
        asked_version=asked.version,
        query=query,
        labels=_labels(labels),
        ignored=(*reading.ignored, *asked.ignored),
    )


def image_by_url_or_bytes(value: Any, path: str) -> ImagePart:
    """An image of MaaS v2: ``url``, or ``image_bytes`` in base64, which becomes a ``data:`` URL."""
    image = an_object(value, path)
    detail = image.get("detail")
    detail = detail if isinstance(detail, str) and detail else "auto"
    if image.get("url"):
        if not isinstance(image["url"], str):
            raise InvalidField(f"expected a string, got {json_type(image['url'])}", f"{path}.url")
        return ImagePart(image["url"], detail)
    if not isinstance(image.get("image_bytes"), str):
        raise InvalidField("expected an object with a `url` or with `image_bytes`", path)
    return ImagePart(_data_url(image["image_bytes"], f"{path}.image_bytes"), detail)


def _data_url(encoded: str, path: str) -> str:
    kind = next((kind for start, kind in _IMAGES.items() if encoded.startswith(start)), None)
    try:
        base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        kind = None
    if kind is None:
        raise InvalidField("expected the base64 of a PNG, JPEG, GIF or WebP image", path)
    return f"data:image/{kind};base64,{encoded}"


def _sampling(values: Mapping[str, Any]) -> Sampling:
    return Sampling(
        temperature=values.get("temperature") if values.get("do_sample", True) else 0.0,
        top_p=values.get("top_p"),
        top_k=values.get("top_k"),
        frequency_penalty=values.get("frequency_penalty"),
        presence_penalty=values.get("presence_penalty"),
        repetition_penalty=values.get("repetition_penalty"),
        stop=stops(values["stop"], "parameters.stop") if "stop" in values else (),
        logit_bias=logit_biases(values["logit_bias"], "parameters.logit_bias") if "logit_bias" in values else {},
    )


def _offered(values: Mapping[str, Any], *, legacy: bool) -> tuple[Tool, ...]:
    return functions(values["functions"]) if legacy else tools(values.get("tools", []))


def _without_effect(values: Mapping[str, Any], knobs: Mapping[str, Any], opened: Open | None) -> Iterator[str]:
    """What was right by itself and still does nothing here."""
    if "max_new_tokens" in knobs and "max_tokens" in knobs:
        yield "parameters.max_tokens"
    if opened and knobs.get("logprobs"):
        yield "parameters.logprobs"  # the tokens would tell in clear what is sealed
    if values.get("tools") and values.get("functions"):
        yield "functions"
    for index, function in enumerate(values.get("functions", [])):
        if isinstance(function, dict) and function.get("examples"):
            yield f"functions[{index}].examples"


def _messages(
    rules: ChatRules, entries: list[Any], opened: Open | None, *, strict: bool
) -> tuple[tuple[Message, ...], Iterable[str]]:
    """The messages, and the names of their fields that have no effect, each once: ``messages[].references``."""
    if not entries:
        raise MissingField("messages")
    unheard: dict[str, None] = {}
    messages = []
    for index, entry in enumerate(entries):
        if not opened and (plain := _plain(entry)) is not None:
            messages.append(plain)
            continue
        path = f"messages[{index}]"
        reading = read_in_mode(rules.message, an_object(entry, path), f"{path}.", strict=strict)
        messages.append(_message(reading.values, path, opened))
        unheard |= dict.fromkeys(f"messages[].{name[len(path) + 1 :]}" for name in reading.ignored)
    if strict:
        check_order(rules, messages)
    return tuple(messages), unheard


def _plain(entry: Any) -> Message | None:
    """Nearly every message: a role and a text, about which nothing has to be looked up."""
    if type(entry) is not dict or len(entry) != 2:
        return None
    said, content = entry.get("role"), entry.get("content")
    if type(said) is str and type(content) is str and said in _SPEAKERS:
        return Message(cast(Role, said), content)
    return None


def _message(values: dict[str, Any], path: str, opened: Open | None) -> Message:
    calls = tool_calls(values, path)
    content = values.get("content", None if calls else "")
    if opened and content:
        content = _in_clear(content, f"{path}.content", opened)
    return Message(
        role=cast(Role, values["role"]),
        content=parts(content, f"{path}.content", image_by_url_or_bytes) if isinstance(content, list) else content,
        name=values.get("name"),
        tool_calls=calls,
        tool_call_id=values.get("tool_call_id"),
    )


def _in_clear(content: Any, path: str, opened: Open) -> str:
    if not isinstance(content, str):
        raise InvalidField("with `crypto_token` expected one encrypted text, got parts", path)
    try:
        return opened(content)
    except InvalidField as error:
        raise InvalidField(error.message, path) from None


def check_order(rules: ChatRules, messages: Sequence[Message]) -> None:
    """Strict mode's order of roles. Raises InvalidField."""
    before, count = "", 0
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        allowed = rules.follows.get(message.role)
        if allowed is not None and before not in allowed:
            after = " or ".join(f"`{role}`" if role else "nothing" for role in allowed)
            said = f"`{before}`" if before else "nothing"
            raise InvalidField(
                f"in strict mode `{message.role}` comes after {after}, here it comes after {said}",
                f"messages[{index}].role",
            )
        before, count = message.role, count + 1
    if rules.odd and count % 2 == 0:
        raise InvalidField(
            f"in strict mode an odd number of messages is expected, system messages aside, got {count}", "messages"
        )


def _labels(entries: list[Any]) -> tuple[str, ...]:
    for index, label in enumerate(entries):
        if not isinstance(label, str) or not label:
            got = "an empty one" if label == "" else json_type(label)
            raise InvalidField(f"expected a string that is not empty, got {got}", f"labels[{index}]")
        if len(label.encode()) > LABEL_MAX_BYTES:
            raise InvalidField(f"at most {LABEL_MAX_BYTES} bytes are taken", f"labels[{index}]")
        if label in entries[:index]:
            raise InvalidField(f"the label `{label[:64]}` comes twice", f"labels[{index}]")
    if len(entries) < 2:
        raise InvalidField(f"expected at least two labels to choose from, got {len(entries)}", "labels")
    return tuple(entries)
