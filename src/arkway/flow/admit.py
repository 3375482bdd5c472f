"""May this call go ahead: the request against the model's own card, before any backend is troubled."""

from __future__ import annotations

from arkway.core.chat import ChatRequest
from arkway.core.errors import InvalidField, UnsupportedInput, UnsupportedModel
from arkway.core.model import Capability, Deployment, ModelCard, ParameterRange

SAMPLED = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "repetition_penalty")

OPERATION_NAMES: dict[Capability, str] = {
    "chat": "chat",
    "embeddings": "embeddings",
    "tokenization": "tokenization",
}


def capable(deployment: Deployment, capability: Capability, asked: str) -> None:
    """Raises UnsupportedModel when the model does not offer the operation."""
    if capability not in deployment.card.capabilities:
        raise UnsupportedModel(asked, OPERATION_NAMES[capability])


def chat(deployment: Deployment, request: ChatRequest) -> None:
    """Raises UnsupportedModel, UnsupportedInput or InvalidField naming what the model cannot do."""
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
        raise InvalidField(f"`{card.served_name}` does not give log-probabilities", "logprobs")
    _check_limit(request, card)
    _check_ranges(request, card)


def _refuse_images(request: ChatRequest, card: ModelCard) -> None:
    for index, message in enumerate(request.messages):
        if message.has_image():
            raise UnsupportedInput(f"`{card.served_name}` takes text only, not images", f"messages[{index}].content")


def _check_limit(request: ChatRequest, card: ModelCard) -> None:
    if request.max_tokens is not None and request.max_tokens > card.max_output_tokens:
        raise InvalidField(
            f"`{card.served_name}` answers with at most {card.max_output_tokens} tokens, got {request.max_tokens}",
            request.max_tokens_field,
        )


def _check_ranges(request: ChatRequest, card: ModelCard) -> None:
    for name in SAMPLED:
        value, known = getattr(request.sampling, name), card.parameter(name)
        if value is None or known is None:
            continue
        if (known.low is not None and value < known.low) or (known.high is not None and value > known.high):
            raise InvalidField(f"`{card.served_name}` takes {_range_text(known)}, got {value:g}", name)
    known_n = card.parameter("n")
    if known_n is not None and known_n.high is not None and request.n > known_n.high:
        raise InvalidField(f"`{card.served_name}` gives at most {known_n.high:g} answers per call", "n")


def _range_text(known: ParameterRange) -> str:
    if known.low is None:
        return f"at most {known.high:g}"
    return f"at least {known.low:g}" if known.high is None else f"{known.low:g} to {known.high:g}"
