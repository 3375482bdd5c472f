"""Requests in the OpenAI-like shape: the field tables that its dialects share, and their parts to canonical values.

Ranges and limits: protocol §7.2 and `docs/limits.md`. What differs between dialects is declared in the dialects.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from arkway.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolChoice,
)
from arkway.core.embedding import EmbedRequest
from arkway.core.errors import InvalidField, MissingField
from arkway.wire.fields import Field, Table, read, table
from arkway.wire.limits import (
    EMBED_INPUT_MAX_BYTES,
    EMBED_INPUTS_MAX,
    LOGIT_BIAS_MAX,
    MESSAGES_MAX,
    MODEL_MAX_BYTES,
    NAME_MAX_BYTES,
    STOP_MAX,
    TOOL_CALLS_MAX,
    TOOLS_MAX,
)
from arkway.wire.messages import (
    an_object,
    functions,
    image_by_url,
    logit_biases,
    parts,
    shown,
    stops,
    texts,
    tool_calls,
    tools,
)

__all__ = [
    "CHAT_FIELDS",
    "EMBED_FIELDS",
    "EMBED_INPUT_MAX_BYTES",
    "MODEL_MAX_BYTES",
    "NAME_MAX_BYTES",
    "chat_request",
    "embed_request",
    "texts",
]

CHAT_FIELDS = (
    Field(
        "model",
        "string",
        "the endpoint id, or a model's name where names are on",
        True,
        max_bytes=MODEL_MAX_BYTES,
        plain=True,
    ),
    Field("messages", "array", "the conversation so far, the last user message included", True, max_items=MESSAGES_MAX),
    Field("stream", "boolean", "answer as server-sent events", default="false"),
    Field("stream_options", "object", "`include_usage`, `chunk_include_usage`; only with `stream: true`"),
    Field("max_tokens", "integer", "the answer's limit in tokens", low=1, default="the model's own"),
    Field("max_completion_tokens", "integer", "as `max_tokens`, the newer name; not both", low=1),
    Field("temperature", "number", "0 is greedy", low=0, high=2, default="the model's own"),
    Field("top_p", "number", "nucleus sampling; 0 is greedy", low=0, high=1, default="the model's own"),
    Field("stop", "string or array", "up to four strings that end the answer", max_items=STOP_MAX),
    Field("frequency_penalty", "number", "lowers repetition by how often a token came", low=-2, high=2, default="0"),
    Field("presence_penalty", "number", "lowers repetition of any token that came", low=-2, high=2, default="0"),
    Field("logit_bias", "object", "token id → −100…100; ids from tokenization", max_items=LOGIT_BIAS_MAX),
    Field("logprobs", "boolean", "return the log-probability of each token", default="false"),
    Field("top_logprobs", "integer", "candidates per position; needs `logprobs: true`", low=0, high=20, default="0"),
    Field("seed", "integer", "same seed, same answer (one stream at a time)", low=-(2**63), high=2**63 - 1),
    Field("tools", "array", "functions the model may call", max_items=TOOLS_MAX),
    Field("tool_choice", "string or object", "`auto`, `none`, `required`, or one function by name", default="auto"),
    Field("functions", "array", "the older form of `tools`", max_items=TOOLS_MAX),
    Field("function_call", "string or object", "the older form of `tool_choice`"),
    Field("response_format", "object", "`text`, `json_object` or `json_schema`", default="text"),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("parallel_tool_calls", "boolean", "accepted without effect; the model decides", effect="ignored"),
    Field("service_tier", "any", "accepted without effect", effect="ignored"),
    Field("chat_template", "any", "a template from a request is code from a stranger", effect="refused"),
    Field("chat_template_kwargs", "any", "as `chat_template`", effect="refused"),
    Field("prompt_embeds", "any", "tensors from a request are not taken", effect="refused"),
)

STREAM_OPTIONS = table(
    Field("include_usage", "boolean", "a last chunk with the usage"),
    Field("chunk_include_usage", "boolean", "the usage so far on every chunk"),
)

EMBED_FIELDS = (
    Field(
        "model",
        "string",
        "the endpoint id, or a model's name where names are on",
        True,
        max_bytes=MODEL_MAX_BYTES,
        plain=True,
    ),
    Field("input", "string or array", "one text or up to 256", True, max_items=EMBED_INPUTS_MAX),
    Field("encoding_format", "string", "how vectors are written", choices=("float", "base64"), default="float"),
    Field("dimensions", "integer", "only the model's own number", low=1, high=65536),
    Field("user", "string", "your own user's id; not interpreted", max_bytes=NAME_MAX_BYTES, plain=True),
)

SCHEMA_NAME_MAX = 64

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "function",
}

MESSAGE = table(
    Field("role", "string", "who speaks", True),
    Field("content", "string or array", "text, or parts"),
    Field("name", "string", "the speaker's name", max_bytes=NAME_MAX_BYTES, plain=True),
    Field("tool_calls", "array", "calls the assistant made", max_items=TOOL_CALLS_MAX),
    Field("function_call", "object", "the older form of `tool_calls`"),
    Field("tool_call_id", "string", "which call a tool message answers", max_bytes=NAME_MAX_BYTES, plain=True),
)


def chat_request(fields: Table, body: dict[str, Any]) -> ChatRequest:
    """A chat body in this shape to the canonical request. Raises MissingField, InvalidField, UnsupportedInput."""
    values, ignored = read(fields, body)
    _check_pairs(values)
    options = read(STREAM_OPTIONS, values["stream_options"], "stream_options.")[0] if "stream_options" in values else {}
    legacy = "functions" in values and "tools" not in values
    limit_field = "max_completion_tokens" if "max_completion_tokens" in values else "max_tokens"
    offered = functions(values["functions"]) if legacy else tools(values["tools"]) if "tools" in values else ()
    choice_field = "tool_choice" if "tool_choice" in values else "function_call"
    return ChatRequest(
        asked=values["model"],
        messages=_messages(values["messages"]),
        sampling=_sampling(values),
        max_tokens=values.get(limit_field),
        max_tokens_field=limit_field,
        logprobs=values.get("logprobs", False),
        top_logprobs=values.get("top_logprobs", 0),
        n=values.get("n", 1),
        stream=values.get("stream", False),
        wants_usage=options.get("include_usage", False),
        wants_running_usage=options.get("chunk_include_usage", False),
        tools=offered,
        tool_choice=_choice(values.get(choice_field), offered, choice_field),
        legacy_functions=legacy,
        response_format=_response_format(values.get("response_format")),
        user=values.get("user", ""),
        ignored=ignored,
        extras=_extras(fields, body) if ignored else {},
    )


def _extras(fields: Table, body: dict[str, Any]) -> dict[str, Any]:
    """The fields without effect here, as they came; those that are refused have been by now."""
    return {
        name: value
        for name, value in body.items()
        if value is not None and (name not in fields or fields[name].effect == "ignored")
    }


def embed_request(fields: Table, body: dict[str, Any]) -> EmbedRequest:
    """An embeddings body in this shape to the canonical request."""
    values, ignored = read(fields, body)
    return EmbedRequest(
        asked=values["model"],
        texts=texts(values["input"], "input"),
        encoding=values.get("encoding_format", "float"),
        dimensions=values.get("dimensions"),
        user=values.get("user", ""),
        ignored=ignored,
    )


def _check_pairs(values: dict[str, Any]) -> None:
    if "max_tokens" in values and "max_completion_tokens" in values:
        raise InvalidField("send either `max_tokens` or `max_completion_tokens`, not both", "max_completion_tokens")
    if values.get("top_logprobs") and not values.get("logprobs"):
        raise InvalidField("`top_logprobs` needs `logprobs: true`", "top_logprobs")
    if values.get("stream_options") and not values.get("stream"):
        raise InvalidField("`stream_options` needs `stream: true`", "stream_options")


def _sampling(values: dict[str, Any]) -> Sampling:
    return Sampling(
        temperature=values.get("temperature"),
        top_p=values.get("top_p"),
        top_k=values.get("top_k"),
        frequency_penalty=values.get("frequency_penalty"),
        presence_penalty=values.get("presence_penalty"),
        repetition_penalty=values.get("repetition_penalty"),
        seed=values.get("seed"),
        stop=stops(values["stop"]) if "stop" in values else (),
        logit_bias=logit_biases(values["logit_bias"]) if "logit_bias" in values else {},
    )


def _messages(entries: list[Any]) -> tuple[Message, ...]:
    if not entries:
        raise InvalidField("expected at least one message", "messages")
    return tuple(_message(entry, f"messages[{index}]") for index, entry in enumerate(entries))


def _message(entry: Any, path: str) -> Message:
    if type(entry) is dict and len(entry) == 2:  # nearly every message: a role and a text
        said, content = entry.get("role"), entry.get("content")
        if type(said) is str and type(content) is str and said in _ROLES:
            return Message(_ROLES[said], content)
    values, _ = read(MESSAGE, an_object(entry, path), f"{path}.")
    role = _ROLES.get(values["role"])
    if role is None:
        raise InvalidField(f"expected one of {', '.join(_ROLES)}, got `{values['role'][:64]}`", f"{path}.role")
    calls = tool_calls(values, path)
    content = values.get("content")
    if content is None and role != "assistant":
        raise MissingField(f"{path}.content")
    return Message(
        role=role,
        content=parts(content, f"{path}.content", image_by_url) if isinstance(content, list) else content,
        name=values.get("name"),
        tool_calls=calls,
        tool_call_id=values.get("tool_call_id"),
    )


def _choice(value: Any, offered: tuple[Tool, ...], field: str) -> ToolChoice:
    if value is None:
        return ToolChoice()
    if isinstance(value, str):
        return _choice_mode(value, offered, field)
    function = value.get("function", value)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidField("expected an object that names a function", field)
    if all(function["name"] != tool.name for tool in offered):
        raise InvalidField(f"there is no tool named `{function['name'][:64]}`", field)
    return ToolChoice("named", function["name"])


def _choice_mode(value: str, offered: tuple[Tool, ...], field: str) -> ToolChoice:
    if value not in ("auto", "none", "required"):
        raise InvalidField(f"expected auto, none or required, got `{value[:64]}`", field)
    if value == "required" and not offered:
        raise InvalidField("`required` needs at least one tool", field)
    return ToolChoice(cast(Literal["auto", "none", "required"], value))


def _response_format(value: dict[str, Any] | None) -> ResponseFormat:
    if value is None:
        return ResponseFormat()
    match value.get("type"):
        case "text":
            return ResponseFormat()
        case "json_object":
            return ResponseFormat("json_object")
        case "json_schema":
            return _schema_format(value.get("json_schema"))
        case other:
            raise InvalidField(f"expected text, json_object or json_schema, got {shown(other)}", "response_format.type")


def _schema_format(value: Any) -> ResponseFormat:
    """The schema, and what the caller calls it; a name or a ``strict`` of a wrong type says nothing."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, dict):
        raise InvalidField("expected an object with a `schema` object", "response_format.json_schema")
    name, strict = value.get("name"), value.get("strict")
    named = isinstance(name, str) and len(name) <= SCHEMA_NAME_MAX
    return ResponseFormat("json_schema", schema, name if named else "", strict if isinstance(strict, bool) else None)
