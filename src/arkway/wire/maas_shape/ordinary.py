"""Ordinary chat bodies in the MaaS shape, by one typed decode.

Nothing is refused here: what is not ordinary is left to `arkway.wire.maas_shape.request`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from arkway.core.chat import ChatRequest, Message, Sampling
from arkway.core.errors import BadRequest
from arkway.core.raw import RawRequest
from arkway.wire.fields import Reading, Table
from arkway.wire.limits import STOP_MAX_BYTES
from arkway.wire.maas_shape.request import Asked, ChatRules, check_order
from arkway.wire.messages import stops
from arkway.wire.ordinary import NUL, ORDINARY_BYTES, body_type, list_of, text_of

_Speaker = Literal["system", "user", "assistant"]


class _Turn(msgspec.Struct, kw_only=True):
    role: _Speaker
    content: str


class _Parameters(msgspec.Struct, kw_only=True):
    max_new_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    do_sample: bool | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: int | None = None


class _Chat(msgspec.Struct, kw_only=True):
    messages: list[_Turn]
    parameters: _Parameters | None = None
    stream: bool | None = None
    model: dict[str, str | None] | None = None
    user: str | None = None
    req_id: str | None = None


_NONE_SAID = _Parameters()


class OrdinaryChats:
    """The ordinary ones among the chats of one dialect in one of the two modes.

    ``asked`` reads what a call asks for from the request and its body.
    """

    __slots__ = ("_asked", "_decode", "_rules", "_strict")

    def __init__(
        self, fields: Table, rules: ChatRules, asked: Callable[[RawRequest, Reading], Asked], *, strict: bool
    ) -> None:
        self._rules = rules
        self._asked = asked
        self._strict = strict
        text = text_of(STOP_MAX_BYTES)
        stop = text | list_of(text, rules.parameters["stop"])
        turn = body_type(_Turn, rules.message, {"role": _Speaker, "content": str}, strict=strict)
        own: dict[str, Any] = {
            "messages": list_of(turn, fields["messages"], least=1),
            "parameters": body_type(_Parameters, rules.parameters, {"stop": stop}, strict=strict),
            "model": dict[str, str | None],
        }
        self._decode = msgspec.json.Decoder(body_type(_Chat, fields, own, strict=strict)).decode

    def read(self, raw: RawRequest, body: bytes) -> ChatRequest | None:
        """What `arkway.wire.maas_shape.request.chat_request` makes of it; None for what is not ordinary.

        Message encryption is not; its header must not be there.
        """
        if len(body) > ORDINARY_BYTES or NUL in body:
            return None
        try:
            chat = self._decode(body)
            asked = self._asked(raw, Reading({"model": chat.model}, (), ()))
            messages = tuple([Message(turn.role, turn.content) for turn in chat.messages])
            if self._strict:
                check_order(self._rules, messages)
        except (ValueError, RecursionError, BadRequest):
            return None
        knobs = chat.parameters or _NONE_SAID
        limit, limit_field = knobs.max_new_tokens, "parameters.max_new_tokens"
        if knobs.max_tokens is not None:
            if limit is not None:
                return None
            limit, limit_field = knobs.max_tokens, "parameters.max_tokens"
        return ChatRequest(
            asked=asked.name,
            asked_version=asked.version,
            messages=messages,
            sampling=_sampling(knobs),
            max_tokens=limit,
            max_tokens_field=limit_field,
            clamp_max_tokens=not self._strict,
            parameter_prefix="parameters.",
            logprobs=bool(knobs.logprobs),
            top_logprobs=knobs.logprobs or 0,
            stream=chat.stream or False,
            user=chat.user or "",
            ignored=asked.ignored,
            client_request_id=chat.req_id or "",
        )


def _sampling(knobs: _Parameters) -> Sampling:
    return Sampling(
        knobs.temperature if knobs.do_sample is not False else 0.0,
        knobs.top_p,
        knobs.top_k,
        knobs.frequency_penalty,
        knobs.presence_penalty,
        knobs.repetition_penalty,
        stop=stops(knobs.stop, "parameters.stop") if knobs.stop else (),
    )
