"""What a call of a bot is about: the query that its actions get, and the language in which the model is spoken to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from arkway.core.chat import Message

SHORT_CHARACTERS = 8
"""A turn with fewer hardly stands alone: the user's turn before it goes along."""
QUERY_MAX_CHARACTERS = 512
BEFORE_MAX_CHARACTERS = 256

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_POINTS_BACK = re.compile(
    "[\\s\"'“”‘’，,。.…]*(?:[它他她那这其该此]|前者|后者|"
    r"(?:it|its|he|him|his|she|her|they|them|their|this|that|these|those|there|what about|how about|and)\b)",
    re.IGNORECASE,
)


def user_turns(messages: Sequence[Message]) -> list[str]:
    """The texts of the user's turns, oldest first; a turn of pictures alone is empty."""
    return [message.text().strip() for message in messages if message.role == "user"]


def query_of(messages: Sequence[Message]) -> str:
    """The user's last turn, behind the one before where it is short or begins with what points back; "" = nothing."""
    turns = user_turns(messages)
    last = turns[-1][:QUERY_MAX_CHARACTERS] if turns else ""
    before = next((turn for turn in reversed(turns[:-1]) if turn), "")
    if last and before and (len(last) < SHORT_CHARACTERS or _POINTS_BACK.match(last)):
        last = f"{before[:BEFORE_MAX_CHARACTERS]} {last}"
    return _whole(last)


def is_chinese(text: str) -> bool:
    return _HAN.search(text) is not None


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which no index and no URL takes."""
    return text if text.isascii() else text.encode(errors="ignore").decode()
