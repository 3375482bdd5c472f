from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from arkway.backends.engine.prompt import arguments
from arkway.backends.engine.tools import (
    CallPiece,
    EnforcedCalls,
    FoundCalls,
    enforced_schema,
    messages_without_tool_template,
    whole_json,
)
from arkway.core.chat import ChatRequest, Message, Tool, ToolCall, ToolChoice
from arkway.core.errors import InvalidField

WEATHER = Tool("get_weather", "Weather", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("get_time")
NAMES = frozenset({"get_weather", "get_time"})


def read(reader: FoundCalls | EnforcedCalls, pieces: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """Text shown and calls made."""
    text = ""
    calls: dict[int, list[str]] = {}
    for found in [item for piece in pieces for item in reader.feed(piece)] + list(reader.close()):
        if isinstance(found, CallPiece):
            call = calls.setdefault(found.position, ["", ""])
            call[0] += found.name
            call[1] += found.arguments
        else:
            text += found
    return text, [(name, arguments) for name, arguments in calls.values()]


CALL = '{"name": "get_weather", "arguments": {"city": "a } \\" {"}}'
ARGUMENTS = '{"city": "a } \\" {"}'
WRITTEN = [
    CALL,
    f"\n{CALL}\n",
    f"<tool_call>\n{CALL}\n</tool_call>",
    f"```json\n{CALL}\n```",
    f"```\n{CALL}\n```",
    f'{{"type":"function","function":{CALL}}}',
    CALL.replace("arguments", "parameters"),
]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_calls_are_found_however_they_are_cut(written: str, step: int) -> None:
    pieces = [written[start : start + step] for start in range(0, len(written), step)]
    assert read(FoundCalls(NAMES), pieces) == ("", [("get_weather", ARGUMENTS)])


@pytest.mark.parametrize("step", [1, 4, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "Hello <b>world</b> ```python\nprint({})\n``` and {braces}",
        '{"name": "unknown_tool", "arguments": {}}',
        '{"city": "Berlin"}',
        '{"name": "get_weather", "arguments": ',
        '```json\n{"a": 1}\n```\ndone',
        "<tool_call>nothing</tool_call>",
        "a < b <tool",
        "",
        "  \n",
        '{"name": "get_weather", "arguments": 5}',
    ],
)
def test_everything_else_stays_text(text: str, step: int) -> None:
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    assert read(FoundCalls(NAMES), pieces) == (text, [])


def test_text_before_a_call_is_shown_and_two_calls_are_two() -> None:
    text = f'Let me look.\n<tool_call>{CALL}</tool_call>\n<tool_call>{{"name": "get_time"}}</tool_call>'
    assert read(FoundCalls(NAMES), text) == ("Let me look.\n", [("get_weather", ARGUMENTS), ("get_time", "{}")])


def test_text_that_cannot_become_a_call_is_not_held_back() -> None:
    reader = FoundCalls(NAMES)
    assert list(reader.feed("Hello")) == ["Hello"]
    assert list(reader.feed(" there <")) == [" there "]
    assert list(reader.feed("b>")) == ["<b>"]
    bare = FoundCalls(NAMES)
    assert list(bare.feed('{"cit')) == []
    assert list(bare.feed('y": 1')) == ['{"city": 1']


def test_a_call_is_given_as_soon_as_it_is_whole() -> None:
    reader = FoundCalls(NAMES)
    found = [item for piece in (CALL[:20], CALL[20:]) for item in reader.feed(piece)]
    assert found == [CallPiece(0, ARGUMENTS, "get_weather")]
    assert reader.calls == 1


def test_enforced_arguments_come_piece_by_piece() -> None:
    reader = EnforcedCalls()
    pieces = ['{"na', 'me":"get_weather","arguments":{"ci', 'ty":"x"', "}}"]
    found = [item for piece in pieces for item in reader.feed(piece)]
    assert found == [CallPiece(0, '{"ci', "get_weather"), CallPiece(0, 'ty":"x"'), CallPiece(0, "}")]


def test_required_allows_every_declared_tool_and_named_one() -> None:
    both = ChatRequest("m", (), tools=(WEATHER, TIME), tool_choice=ToolChoice("required"))
    schema = enforced_schema(both)
    assert schema is not None
    assert [call["properties"]["name"]["const"] for call in schema["anyOf"]] == ["get_weather", "get_time"]
    one = ChatRequest("m", (), tools=(WEATHER, TIME), tool_choice=ToolChoice("named", "get_time"))
    named = enforced_schema(one)
    assert named is not None
    assert named["properties"]["name"] == {"const": "get_time"}
    assert enforced_schema(ChatRequest("m", (), tools=(WEATHER,))) is None


def test_references_inside_a_tools_schema_move_along() -> None:
    tool = Tool("t", "", {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}})
    schema = enforced_schema(ChatRequest("m", (), tools=(tool, TIME), tool_choice=ToolChoice("required")))
    assert schema is not None
    arguments = schema["anyOf"][0]["properties"]["arguments"]
    assert arguments["properties"]["a"] == {"$ref": "#/anyOf/0/properties/arguments/$defs/x"}


def test_an_undeclared_named_tool_is_refused() -> None:
    with pytest.raises(InvalidField) as raised:
        enforced_schema(ChatRequest("m", (), tools=(WEATHER,), tool_choice=ToolChoice("named", "nope")))
    assert raised.value.field == "tool_choice"


def test_tools_as_text_for_a_template_without_them() -> None:
    messages = (
        Message("system", "Be kind."),
        Message("user", "hi"),
        Message("assistant", None, tool_calls=(ToolCall("1", "get_time", '{"zone": "UTC"}'),)),
        Message("tool", "12:00", tool_call_id="1"),
    )
    system, _, call, result = messages_without_tool_template(messages, (TIME,))
    assert system.text().startswith("Be kind.\n\n")
    assert '"get_time"' in system.text()
    assert call.text() == '<tool_call>\n{"name":"get_time","arguments":{"zone":"UTC"}}\n</tool_call>'
    assert (result.role, result.text()) == ("user", "<tool_response>\n12:00\n</tool_response>")


@pytest.mark.parametrize(
    "hostile",
    [
        '{"name": "get_time", "arguments": {"a": ' + "[" * 50_000 + "]" * 50_000 + "}}",
        '{"function": ' * 50_000 + "{}" + "}" * 50_000,
        '{"name": "get_time", "arguments": "\\ud800"}',
    ],
)
def test_what_no_decoder_takes_stays_text(hostile: str) -> None:
    assert read(FoundCalls(NAMES), [hostile]) == (hostile, [])


def test_any_number_is_passed_on_as_it_was_written() -> None:
    number = "1" * 5000
    call = f'{{"name": "get_time", "arguments": {{"a": {number}}}}}'
    assert read(FoundCalls(NAMES), [call]) == ("", [("get_time", f'{{"a": {number}}}')])


@pytest.mark.parametrize(
    "text", ['{"a":' * 500 + "1" + "}" * 500, "1" * 5000, '{"a": ' + "9" * 30 + "}", "[" * 9000, "x"]
)
def test_arguments_that_cannot_be_walked_are_kept_as_text(text: str) -> None:
    found = arguments(text)
    assert found in ({"input": text}, {"a": int("9" * 30)})


@pytest.mark.parametrize("opening", ['{"name": "get_time", "arguments": {"a": "', '{"arguments": {"a": "', '{"'])
def test_a_long_call_is_read_once(opening: str) -> None:
    reader = FoundCalls(NAMES)
    began_s = time.process_time()
    for piece in [opening, *["word "] * 20_000]:
        for _ in reader.feed(piece):
            pass
    assert time.process_time() - began_s < 10  # to read it again for every word takes minutes


def test_an_object_whose_first_name_does_not_end_is_shown() -> None:
    text = '{"' + "a" * 2000
    reader = FoundCalls(NAMES)
    assert "".join(str(piece) for piece in reader.feed(text)) == text


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("{}", True),
        (' {"a": [1]}\n', True),
        ("7", True),
        ('{"a"', False),
        ("{} x", False),
        ("", False),
        ("[" * 9000, False),
    ],
)
def test_whole_json(text: str, *, whole: bool) -> None:
    assert whole_json(text) is whole
