"""May this call go ahead: the request against the model's own card, before any backend is troubled."""

from __future__ import annotations

import msgspec

from arkway.core.chat import ChatRequest
from arkway.core.errors import InvalidField, UnsupportedInput, UnsupportedModel
from arkway.core.model import Capability, Deployment, ModelCard, ParameterRange

SAMPLED = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty")


def capable(deployment: Deployment, capability: Capability, asked: str, operation: str = "") -> None:
    """Raises UnsupportedModel when the model does not offer the operation, by default named as the capability."""
    if capability not in deployment.card.capabilities:
        raise UnsupportedModel(asked, operation or capability)


def chat(deployment: Deployment, request: ChatRequest) -> ChatRequest:
    """The request as it goes to the model, its limit lowered to the model's own where the caller's API wants that.

    Raises UnsupportedModel, UnsupportedInput or InvalidField naming what the model cannot do.
    """
    card = deployment.card
    capable(deployment, "chat", request.asked)
    if "images" not in card.capabilities:
        _refuse_images(request, card)
    if request.tools and "tools" not in card.capabilities:
        raise InvalidField(f"`{card.served_name}` does not support tools", "tools")
    if request.response_format.kind != "text" and "json" not in card.capabilities:
        raise InvalidField(
            f"`{request.response_format.kind}` is not supported by `{card.served_name}`", "response_format"
        )
    if request.logprobs and "logprobs" not in card.capabilities:
        field = f"{request.parameter_prefix}logprobs"
        raise InvalidField(f"`{card.served_name}` does not give log-probabilities", field)
    _check_ranges(request, card)
    return _limited(request, card)


def _refuse_images(request: ChatRequest, card: ModelCard) -> None:
    for index, message in enumerate(request.messages):
        if message.has_image():
            raise UnsupportedInput(f"`{card.served_name}` takes text only, not images", f"messages[{index}].content")


def _limited(request: ChatRequest, card: ModelCard) -> ChatRequest:
    if request.max_tokens is None or request.max_tokens <= card.max_output_tokens:
        return request
    if request.clamp_max_tokens:
        clamped = (*request.clamped, request.max_tokens_field)
        return msgspec.structs.replace(request, max_tokens=card.max_output_tokens, clamped=clamped)
    raise InvalidField(
        f"`{card.served_name}` answers with at most {card.max_output_tokens} tokens, got {request.max_tokens}",
        request.max_tokens_field,
    )


def _check_ranges(request: ChatRequest, card: ModelCard) -> None:
    for name in SAMPLED:
        value = getattr(request.sampling, name)
        if value is None or (known := card.parameter(name)) is None:
            continue
        if (known.low is not None and value < known.low) or (known.high is not None and value > known.high):
            field = f"{request.parameter_prefix}{name}"
            raise InvalidField(f"`{card.served_name}` takes {_range_text(known)}, got {value:g}", field)
    known_n = card.parameter("n") if request.n > 1 else None
    if known_n is not None and known_n.high is not None and request.n > known_n.high:
        raise InvalidField(f"`{card.served_name}` gives at most {known_n.high:g} answers per call", "n")


def _range_text(known: ParameterRange) -> str:
    if known.low is None:
        return f"at most {known.high:g}"
    return f"at least {known.low:g}" if known.high is None else f"{known.low:g} to {known.high:g}"
