"""A strategy as the operator writes it: ``[moderation.strategies.NAME]`` (docs/moderation.md)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ActionName = Literal["block", "mask"]
HitType = Literal["violence", "severe_violation"]
Stage = Literal["input", "output"]
Personal = Literal["mobile", "id_card", "bank_card", "email", "api_key"]
Shape = Literal["openai", "chat", "webhook"]
Mode = Literal["hold", "async", "final"]

WIDTH_MAX = 512
BOTH: tuple[Stage, ...] = ("input", "output")


class PatternSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A regular expression in RE2's syntax. No match is longer than ``max_chars`` characters.

    ``alphabet``: the characters that a match may consist of (ranges as in ``a-z``); with them only what may become a
    match is held back in a stream, without them ``max_chars`` always are.
    """

    pattern: Annotated[str, Meta(min_length=1, max_length=4096)]
    action: ActionName = "mask"
    hit: HitType = "severe_violation"
    alphabet: str = ""
    max_chars: Annotated[int, Meta(ge=1, le=WIDTH_MAX)] = 64


class ModeratorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A moderator that is asked over HTTP.

    ``key_variable``: the environment variable that holds the key it wants. ``mode``: ``hold`` lets text go out after
    its verdict, ``async`` before it, ``final`` asks once about the whole answer. ``window_chars``: how much text goes
    without a verdict where no sentence ends. ``on_failure``: what happens without a verdict within ``deadline_s``.
    """

    url: Annotated[str, Meta(pattern=r"\Ahttps?://[^\s]+\Z")]
    shape: Shape = "openai"
    model: str = ""
    key_variable: str = ""
    stages: tuple[Stage, ...] = BOTH
    mode: Mode = "hold"
    window_chars: Annotated[int, Meta(ge=20, le=4000)] = 200
    deadline_s: Annotated[float, Meta(gt=0, le=60)] = 0.8
    on_failure: Literal["open", "closed"] = "closed"


class StrategySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One strategy. ``words`` are files; ``action`` and ``hit`` are those of lines that name none.

    ``ignore_separators``: blanks and punctuation between the characters of a word do not hide it.
    """

    words: tuple[str, ...] = ()
    action: ActionName = "block"
    hit: HitType = "severe_violation"
    ignore_separators: bool = False
    personal: tuple[Personal, ...] = ()
    personal_action: ActionName = "mask"
    patterns: tuple[PatternSettings, ...] = ()
    stages: tuple[Stage, ...] = BOTH
    moderator: ModeratorSettings | None = None


class ModerationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What endpoints can choose from by ``moderation``. ``default``: for those that have chosen none of these."""

    default: str = ""
    strategies: dict[str, StrategySettings] = {}
