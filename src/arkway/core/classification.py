"""Classification calls in canonical form: which of some labels fits a text, by how likely the model finds each."""

from __future__ import annotations

import msgspec

from arkway.core.chat import Usage


class ClassifyRequest(msgspec.Struct, frozen=True):
    """A text and the labels to choose from, at least two, all different."""

    asked: str
    query: str
    labels: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    asked_version: str = ""


class LabelScore(msgspec.Struct, frozen=True):
    """One label as the model would write it: its tokens, and the natural log-probability of each after those before."""

    label: str
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]


class ClassifyReply(msgspec.Struct, frozen=True):
    """The likeliest label, and every label's score in the order asked."""

    label: str
    scores: tuple[LabelScore, ...]
    usage: Usage
