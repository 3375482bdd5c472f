"""Canonical requests to the bodies that upstream servers of the OpenAI-like shape take.

Whatever cannot be said to an upstream is named in ``Outgoing.dropped``. Fields of the caller's that mean nothing here
(`ChatRequest.extras`) go along, since the upstream may know them, but for those in `NEVER_PASSED` and those whose names
are not in lower case: some servers do not tell ``Model`` from ``model``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from arkway.core.chat import ChatRequest, ImagePart, Message, Part, ResponseFormat, Tool, ToolChoice
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.wire import json

Kind = Literal["openai", "ark"]

EXTRAS_MAX = 64
SCHEMA_NAME = "answer"

NEVER_PASSED = frozenset(
    {
        # Code, files, hosts and devices of the server's own.
        "custom_logit_processor", "custom_params", "logits_processors", "bootstrap_host", "bootstrap_port",
        "bootstrap_room", "kv_transfer_params", "lora", "lora_path", "lora_request", "adapter_id", "vllm_xargs",
        "mm_processor_kwargs", "media_io_kwargs", "session_params", "id_slot", "slot_id", "data_parallel_rank",
        "keep_alive", "options", "docs", "input_embeds", "input_ids", "return_hidden_states", "chat_template",
        "chat_template_kwargs", "prompt_embeds",
        # Others' places in the line, others' caches, others' calls.
        "priority", "request_id", "rid", "cache_salt", "extra_key", "extra_body", "extra_headers",
        # Second names of limits that were checked under their first one.
        "best_of", "n_predict", "num_predict", "max_new_tokens", "prompt", "prompt_logprobs", "use_beam_search",
        "beam_width", "timings_per_token", "return_progress", "echo", "n_probs", "suffix", "n_cmpl",
        # What the operator pays for or answers for: other tiers, searches, records, kinds of answers.
        "service_tier", "store", "background", "web_search_options", "prompt_cache_key", "modalities", "audio",
        # Workers, and ways of decoding under other names than those that were checked.
        "routed_dp_rank", "disagg_prefill_dp_rank", "guided_decoding_backend", "structured_outputs",
    }
)  # fmt: skip
"""Extras of real servers that one caller must not say to a server that others use as well."""


class Outgoing(msgspec.Struct, frozen=True):
    """A body, and the wire names of the request's fields that the upstream will not hear of."""

    body: bytes
    dropped: tuple[str, ...] = ()


class _Turn(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: Any = msgspec.UNSET
    name: str | None = None
    tool_calls: list[_Called] | None = None
    tool_call_id: str | None = None


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    arguments: str | None = None


class _Called(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"


class _StreamOptions(msgspec.Struct, omit_defaults=True):
    include_usage: bool
    chunk_include_usage: bool = False


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    model: str
    messages: list[_Turn]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}
    logprobs: bool = False
    top_logprobs: int = 0
    n: int = 1
    user: str = ""
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None


class _EmbedBody(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str = ""


_is_passable = re.compile(r"[a-z][a-z0-9_.-]{0,63}").fullmatch
_encode = msgspec.json.Encoder().encode
_USAGE = _StreamOptions(True)
_RUNNING_USAGE = _StreamOptions(True, True)
_NOT_ARKS = ("top_k",)


def chat_body(request: ChatRequest, model: str, kind: Kind) -> Outgoing:
    """The body of a chat call to the upstream's ``model``. A stream always asks for its usage."""
    sampling, limit = request.sampling, request.max_tokens
    newer = request.max_tokens_field == "max_completion_tokens"
    body = _Body(
        model,
        _turns(request.messages),
        request.stream,
        None if not request.stream else _RUNNING_USAGE if kind == "ark" and request.wants_running_usage else _USAGE,
        None if newer else limit,
        limit if newer else None,
        sampling.temperature,
        sampling.top_p,
        sampling.top_k if kind != "ark" else None,
        sampling.frequency_penalty,
        sampling.presence_penalty,
        sampling.repetition_penalty,
        sampling.seed,
        sampling.stop,
        sampling.logit_bias,
        request.logprobs,
        request.top_logprobs if request.logprobs else 0,
        request.n,
        request.user,
    )
    if request.tools:
        body.tools, body.tool_choice = [_tool(tool) for tool in request.tools], _choice(request.tool_choice)
    if request.response_format.kind != "text":
        body.response_format = _format(request.response_format)
    data = _json(body)
    return Outgoing(_with(data, _extras(request, body, kind)) if request.extras else data, dropped(request, kind))


def dropped(request: ChatRequest, kind: Kind) -> tuple[str, ...]:
    """The wire names of what the caller asked for and an upstream of this kind has no word for."""
    names: list[str] = []
    if kind == "ark" and request.sampling.top_k is not None:
        names.append(f"{request.parameter_prefix}top_k")
    if kind == "openai" and request.wants_running_usage:
        names.append("stream_options.chunk_include_usage")
    return tuple(names)


def passed(request: ChatRequest, kind: Kind = "openai") -> tuple[str, ...]:
    """The fields among ``request.ignored`` which an upstream hears of, so that they may have an effect after all."""
    return tuple(_passed(request, kind)) if request.extras else ()


def embed_body(request: EmbedRequest, model: str) -> Outgoing:
    """The body of an embeddings call. Every field of the request has a word upstream."""
    return Outgoing(_json(_EmbedBody(model, request.texts, request.encoding, request.dimensions, request.user)))


def tokenization_body(request: TokenizeRequest, model: str) -> bytes:
    """Ark's own tokenization: every text in one call."""
    return _json({"model": model, "text": list(request.texts)})


def tokenize_body(text: str, model: str) -> bytes:
    """For ``/tokenize`` of vLLM (``prompt``, ``return_token_strs``) and of llama.cpp (``content``, ``with_pieces``).

    Each server ignores the other's words. No token is added that is not the text's.
    """
    return _json(
        {
            "add_special": False,
            "add_special_tokens": False,
            "content": text,
            "model": model,
            "prompt": text,
            "return_token_strs": True,
            "with_pieces": True,
        }
    )


def _json(value: Any) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        # A lone surrogate, which no UTF-8 can carry: written as U+FFFD.
        return json.dumps(msgspec.to_builtins(value, str_keys=True))


def _with(body: bytes, extras: Mapping[str, Any]) -> bytes:
    return body[:-1] + b"," + _json(extras)[1:] if extras else body


def _passed(request: ChatRequest, kind: Kind) -> list[str]:
    names = [
        name
        for name in request.extras
        if _is_passable(name) and name not in NEVER_PASSED and not (kind == "ark" and name in _NOT_ARKS)
    ]
    return names[:EXTRAS_MAX]


def _extras(request: ChatRequest, body: _Body, kind: Kind) -> dict[str, Any]:
    """What is passed on, but for what the body says already."""
    ours = cast(dict[str, Any], msgspec.to_builtins(body, str_keys=True))
    return {name: request.extras[name] for name in _passed(request, kind) if name not in ours}


def _turns(messages: tuple[Message, ...]) -> list[_Turn]:
    turns = []
    for message in messages:
        if type(message.content) is not str or message.tool_calls or message.role in ("tool", "function"):
            return _Conversation().turns(messages)
        turns.append(_Turn(message.role, message.content, message.name))
    return turns


class _Conversation:
    """Messages with parts, calls and their results.

    Calls of the older forms have no ids: they get some here, and each result the id of the call that it answers.
    """

    def __init__(self) -> None:
        self._unanswered: list[_Called] = []

    def turns(self, messages: tuple[Message, ...]) -> list[_Turn]:
        return [self._turn(number, message) for number, message in enumerate(messages)]

    def _turn(self, number: int, message: Message) -> _Turn:
        content = message.content
        turn = _Turn(message.role, [_part(part) for part in content] if isinstance(content, tuple) else content)
        turn.name = message.name
        if message.tool_calls:
            turn.tool_calls = [
                _Called(call.id or f"call_{number}_{position}", _Function(call.name, arguments=call.arguments))
                for position, call in enumerate(message.tool_calls)
            ]
            self._unanswered += turn.tool_calls
        if message.role in ("tool", "function"):
            turn.role, turn.tool_call_id = "tool", self._answered(message)
        return turn

    def _answered(self, message: Message) -> str:
        for position, call in enumerate(self._unanswered):
            if message.tool_call_id == call.id or (
                not message.tool_call_id and message.name in (None, call.function.name)
            ):
                del self._unanswered[position]
                return call.id
        return message.tool_call_id or f"call_{message.name or 'unknown'}"


def _part(part: Part) -> dict[str, Any]:
    if not isinstance(part, ImagePart):
        return {"type": "text", "text": part.text}
    image = {"url": part.url} if part.detail == "auto" else {"url": part.url, "detail": part.detail}
    return {"type": "image_url", "image_url": image}


def _tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": _Function(tool.name, tool.description, tool.parameters)}


def _choice(choice: ToolChoice) -> Any:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return None if choice.mode == "auto" else choice.mode


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    schema: dict[str, Any] = {"name": wanted.name or SCHEMA_NAME, "schema": wanted.schema}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}
