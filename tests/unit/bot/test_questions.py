"""What actions are asked, and in which language the model is spoken to."""

from __future__ import annotations

import pytest

from arkway.backends.bot.intent import is_needed
from arkway.backends.bot.prompt import introduced, ordered
from arkway.backends.bot.question import QUERY_MAX_CHARACTERS, is_chinese, query_of
from arkway.core.chat import ImagePart, Message, TextPart
from tests.tools.bots import asks


@pytest.mark.parametrize(
    ("turns", "query"),
    [
        (("What does the warranty cover?",), "What does the warranty cover?"),
        (("北京明天的天气怎么样？", "晴", "那后天呢？还会下雨吗"), "北京明天的天气怎么样？ 那后天呢？还会下雨吗"),
        (("Who wrote Faust?", "Goethe", "When did he write it, roughly?"), "When did he write it, roughly?"),
        (("Who wrote Faust?", "Goethe", "He was born where, exactly?"), "Who wrote Faust? He was born where, exactly?"),
        (("Who wrote Faust?", "Goethe", "“that was when?”"), "Who wrote Faust? “that was when?”"),
        (("Who wrote Faust?", "Goethe", "When?"), "Who wrote Faust? When?"),
        (("Who wrote Faust?", "Goethe", "Item 7 of the list, please"), "Item 7 of the list, please"),
        (("When?",), "When?"),
        (("", "?", "When?"), "When?"),
        (("  ",), ""),
    ],
)
def test_the_query_stands_alone(turns: tuple[str, ...], query: str) -> None:
    assert query_of(asks(*turns).messages) == query


def test_a_query_has_an_end_and_is_text() -> None:
    assert len(query_of(asks("字" * 10_000).messages)) == QUERY_MAX_CHARACTERS
    assert query_of(asks("half \ud83d of a pair").messages) == "half  of a pair"
    assert query_of((Message("system", "x"), Message("assistant", "y"))) == ""
    assert query_of((Message("user", (ImagePart("data:,"), TextPart("What is this?"))),)) == "What is this?"


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("法国的首都", True), ("iPhone 多少钱", True), ("capital", False), ("", False), ("かな", False)],
)
def test_the_language_is_the_questions(text: str, chinese: bool) -> None:
    assert is_chinese(text) is chinese


@pytest.mark.parametrize("said", ["需要", " “需要”。", "需要检索", "YES", "Yes, it", "**需要**"])
def test_a_clear_yes(said: str) -> None:
    assert is_needed(said)


@pytest.mark.parametrize("said", ["不需要", "无需检索", "No", "not needed", "", "maybe", "<think>", "好的", "没必要"])
def test_anything_else_is_a_no(said: str) -> None:
    assert not is_needed(said)


def test_system_messages_come_first_in_their_order() -> None:
    mixed = (Message("user", "a"), Message("system", "one"), Message("assistant", "b"), Message("system", "two"))
    assert ordered("zero", mixed) == (
        Message("system", "zero\n\none\n\ntwo"),
        Message("user", "a"),
        Message("assistant", "b"),
    )
    assert ordered("", mixed[:1]) == mixed[:1]


def test_the_block_stands_before_the_last_turn_of_the_users() -> None:
    picture = ImagePart("data:,")
    messages = (Message("user", "old"), Message("user", (picture,)), Message("assistant", None))
    assert introduced(messages, "block\n") == (
        Message("user", "old"),
        Message("user", (TextPart("block\n"), picture)),
        Message("assistant", None),
    )
    assert introduced(messages[2:], "block") == messages[2:]
