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


class Admission:
    """What one model takes, as its card says, ready to be held against requests."""

    __slots__ = ("_most_answers", "_ranges", "_takes", "card")

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._takes = frozenset(card.capabilities)
        self._ranges = [known for name in SAMPLED if (known := card.parameter(name)) is not None]
        self._most_answers = known.high if (known := card.parameter("n")) is not None else None

    def chat(self, request: ChatRequest) -> ChatRequest:
        """The request as it goes to the model, its limit lowered to the model's own where the caller's API wants that.

        Raises UnsupportedModel, UnsupportedInput or InvalidField naming what the model cannot do.
        """
        takes, card = self._takes, self.card
        if "chat" not in takes:
            raise UnsupportedModel(request.asked, "chat")
        if "images" not in takes:
            for index, message in enumerate(request.messages):
                if type(message.content) is not str and message.has_image():
                    raise UnsupportedInput(
                        f"`{card.served_name}` takes text only, not images", f"messages[{index}].content"
                    )
        if request.tools and "tools" not in takes:
            raise InvalidField(f"`{card.served_name}` does not support tools", "tools")
        if "json" not in takes and request.response_format.kind != "text":
            raise InvalidField(
                f"`{request.response_format.kind}` is not supported by `{card.served_name}`", "response_format"
            )
        if request.logprobs and "logprobs" not in takes:
            field = f"{request.parameter_prefix}logprobs"
            raise InvalidField(f"`{card.served_name}` does not give log-probabilities", field)
        self._check_ranges(request)
        if request.max_tokens is None or request.max_tokens <= card.max_output_tokens:
            return request
        return _limited(request, request.max_tokens, card)

    def _check_ranges(self, request: ChatRequest) -> None:
        sampling = request.sampling
        for known in self._ranges:
            value = getattr(sampling, known.name)
            if value is None:
                continue
            if (known.low is not None and value < known.low) or (known.high is not None and value > known.high):
                field = f"{request.parameter_prefix}{known.name}"
                raise InvalidField(f"`{self.card.served_name}` takes {_range_text(known)}, got {value:g}", field)
        most = self._most_answers
        if most is not None and request.n > max(1, most):
            raise InvalidField(f"`{self.card.served_name}` gives at most {most:g} answers per call", "n")


def _limited(request: ChatRequest, asked_tokens: int, card: ModelCard) -> ChatRequest:
    if request.clamp_max_tokens:
        clamped = (*request.clamped, request.max_tokens_field)
        return msgspec.structs.replace(request, max_tokens=card.max_output_tokens, clamped=clamped)
    raise InvalidField(
        f"`{card.served_name}` answers with at most {card.max_output_tokens} tokens, got {asked_tokens}",
        request.max_tokens_field,
    )


def _range_text(known: ParameterRange) -> str:
    if known.low is None:
        return f"at most {known.high:g}"
    return f"at least {known.low:g}" if known.high is None else f"{known.low:g} to {known.high:g}"
