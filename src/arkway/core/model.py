"""What is known of a model and of what serves it: the "model detail page" as a value.

Four names are kept apart: *asked* (what the caller wrote), *endpoint* (``ep-…``, what callers name), *deployed*
(model name and version the endpoint points to) and *served* (what the answer's ``model`` field says).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Capability = Literal["chat", "embeddings", "tokenization", "tools", "json", "logprobs", "images"]


class ParameterRange(msgspec.Struct, frozen=True):
    """One supported parameter of a model, its inclusive range, and its default when the caller sends none."""

    name: str
    low: float | None = None
    high: float | None = None
    default: float | str | bool | None = None
    note: str = ""


class ModelCard(msgspec.Struct, frozen=True):
    """A model version as validation, the command line and the documentation read it.

    ``context_tokens`` is the room of one call, prompt and answer together; ``max_output_tokens`` the largest answer
    a caller may ask for; ``default_output_tokens`` the answer's limit when the caller sets none. ``dimensions`` is
    the length of an embedding vector. ``tokenizer``: the installed model, ``NAME[:VERSION]``, that cuts texts into the
    same tokens, for a model whose own server does not; "" = none.
    """

    name: str
    version: str
    title: str
    licence: str
    capabilities: tuple[Capability, ...]
    context_tokens: int
    max_output_tokens: int = 0
    default_output_tokens: int = 0
    dimensions: int = 0
    languages: tuple[str, ...] = ()
    parameters: tuple[ParameterRange, ...] = ()
    remarks: str = ""
    tokenizer: str = ""

    @property
    def served_name(self) -> str:
        """What the ``model`` field of an answer says: name and version."""
        return f"{self.name}-{self.version}"

    def parameter(self, name: str) -> ParameterRange | None:
        return next((entry for entry in self.parameters if entry.name == name), None)


class Tag(msgspec.Struct, frozen=True):
    """A label that an endpoint's owner gave it."""

    key: str
    value: str = ""


class Endpoint(msgspec.Struct, frozen=True):
    """What callers name. ``model_version`` empty = the model's default version, wherever that moves.

    Times are epoch seconds; ``updated_at`` 0 = never changed. ``moderation`` is the strategy that its owner chose.
    """

    id: str
    name: str
    model_name: str
    model_version: str
    status: Literal["running", "stopped"]
    account: str
    project: str
    created_at: int
    description: str = ""
    moderation: str = ""
    tags: tuple[Tag, ...] = ()
    updated_at: int = 0


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to become of an endpoint; None stays as it is."""

    name: str | None = None
    description: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    moderation: str | None = None
    tags: tuple[Tag, ...] | None = None


class Deployment(msgspec.Struct, frozen=True):
    """What serves an endpoint: a model card and the key of the backend that runs it."""

    endpoint: Endpoint
    card: ModelCard
    backend: str
