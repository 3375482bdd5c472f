"""What callers say, in every place where they can say it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arkway.backends.moderation.asked import searched, shown
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.bot import Asker
from arkway.core.chat import ChatRequest, Message, ResponseFormat, TextPart, Tool, ToolCall
from arkway.core.errors import InputBlocked
from tests.tools.pushing import asks

STRATEGY = Strategy(WordList({"坏人": Hit(True), "法轮": Hit(False)}))
BLOCKED, MASKED = "坏人", "法轮"


def request(**fields: Any) -> ChatRequest:
    return msgspec.structs.replace(asks("好"), **fields)


def schema(word: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"type": "string", "description": f"a {word}", "enum": ["a", word]}}}


PLACES = {
    "messages[0]": lambda word: request(messages=(Message("user", "好", name=word),)),
    "messages[1]": lambda word: request(messages=(Message("system", "好"), Message("tool", f"a {word}"))),
    "tools[0]": lambda word: request(tools=(Tool("f", f"a {word}"),)),
    "tools[1]": lambda word: request(tools=(Tool("f"), Tool("g", "", schema(word)))),
    "documents": lambda word: request(extras={"top_k": 3, "documents": [{"text": f"a {word}"}]}),
    "user_info": lambda word: request(asker=Asker(city="北京", district=word)),
    "response_format": lambda word: request(response_format=ResponseFormat("json_schema", schema(word), "n")),
}


@pytest.mark.parametrize("field", PLACES)
def test_what_is_forbidden_is_refused_wherever_it_stands(field: str) -> None:
    with pytest.raises(InputBlocked) as caught:
        searched(STRATEGY, PLACES[field](BLOCKED))
    assert caught.value.field == field
    clean = PLACES[field]("好")
    assert searched(STRATEGY, clean) is clean


def test_functions_are_named_as_the_caller_named_them() -> None:
    with pytest.raises(InputBlocked) as caught:
        searched(STRATEGY, request(tools=(Tool("f", BLOCKED),), legacy_functions=True))
    assert caught.value.field == "functions[0]"


def test_names_in_a_schema_are_read_too() -> None:
    with pytest.raises(InputBlocked):
        searched(STRATEGY, request(tools=(Tool("f", "", {"properties": {BLOCKED: {}}}),)))


def test_descriptions_are_masked_and_values_stay_as_they_have_to_be() -> None:
    found = searched(STRATEGY, PLACES["tools[1]"](MASKED)).tools[1]
    assert found.parameters["properties"]["x"] == {"type": "string", "description": "a **", "enum": ["a", MASKED]}
    found = searched(STRATEGY, PLACES["tools[0]"](MASKED)).tools[0]
    assert found.description == "a **"
    asked = searched(STRATEGY, PLACES["response_format"](MASKED)).response_format
    assert asked.schema["properties"]["x"]["description"] == "a **"
    assert asked.name == "n"
    extras = searched(STRATEGY, PLACES["documents"](MASKED)).extras
    assert extras == {"top_k": 3, "documents": [{"text": "a **"}]}
    assert searched(STRATEGY, PLACES["user_info"](MASKED)).asker == Asker(city="北京", district="**")


def test_a_word_that_is_spread_over_parts_is_masked_in_each() -> None:
    parts = (TextPart("看法"), TextPart("轮"), TextPart("法轮"))
    found = searched(STRATEGY, request(messages=(Message("user", parts),))).messages[0].content
    assert found == (TextPart("看*"), TextPart("*"), TextPart("**"))


@pytest.mark.parametrize("role", ["tool", "user"])
def test_json_hides_nothing_in_what_tools_and_users_say(role: Any) -> None:
    with pytest.raises(InputBlocked):
        searched(STRATEGY, request(messages=(Message(role, '{"who":"\\u574f\\u4eba"}'),)))
    found = searched(STRATEGY, request(messages=(Message(role, '{"who":"\\u6cd5\\u8f6e"}'),)))
    assert found.messages[0].content == f'{{"who":"{"*" * 12}"}}'
    numbers = Strategy(None, personal_patterns(("mobile",), Hit(False)))
    found = searched(numbers, request(messages=(Message(role, ' {"who":"a\\n13800138000"}'),)))
    assert found.messages[0].content == f' {{"who":"a\\n{"*" * 11}"}}'
    plain = request(messages=(Message(role, "C:\\users\\new 法国"),))
    assert searched(STRATEGY, plain) is plain


def test_a_moderator_is_shown_everything_but_the_systems_words_in_pieces() -> None:
    messages = (
        Message("system", "secret"),
        Message("user", "问" * 5000),
        Message("assistant", None, tool_calls=(ToolCall("c", "f", '{"a":"\\u574f"}'),)),
        Message("tool", "答"),
    )
    pieces = shown(request(messages=messages))
    assert all(0 < len(piece) <= 4200 for piece in pieces)
    assert "secret" not in "".join(pieces)
    assert pieces[-1].endswith('{"a":"\\u574f"}\n答')
    assert "".join(pieces).count("问") >= 5000
    # What is cut stands whole in one of the pieces.
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    cut = shown(request(messages=(Message("user", text),)))
    assert all(any(text[place : place + 50] in piece for piece in cut) for place in range(0, 8950, 7))
    assert shown(request(messages=(Message("system", "x"),))) == []
