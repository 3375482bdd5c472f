"""Every field of every table, at and beyond its type, its range and its limits; the cases come from the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from arkway.core.errors import BadRequest, InvalidField, MissingField
from arkway.core.raw import RawRequest, Tap
from arkway.dialects.openai import OpenAI
from arkway.dialects.openai import fields as openai_fields
from arkway.dialects.v3 import ArkV3
from arkway.dialects.v3 import fields as v3_fields
from arkway.wire import json
from arkway.wire.fields import Field, Table
from arkway.wire.openai_shape import request as shape

Decode = Callable[[RawRequest, bytes], Any]


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


RAW = RawRequest("POST", "/", "", {}, "id", 0, _no_body)
V3, OPENAI = ArkV3(), OpenAI()
TABLES: dict[str, tuple[Table, Decode]] = {
    "v3 chat": (v3_fields.CHAT, V3.decode_chat),
    "v3 embeddings": (v3_fields.EMBED, V3.decode_embed),
    "v3 tokenization": (v3_fields.TOKENIZE, V3.decode_tokenize),
    "openai chat": (openai_fields.CHAT, OPENAI.decode_chat),
    "openai embeddings": (openai_fields.EMBED, OPENAI.decode_embed),
}

TOOL = {"type": "function", "function": {"name": "f"}}
BASE: Mapping[str, dict[str, Any]] = {
    "chat": {"model": "ep-1", "messages": [{"role": "user", "content": "hi"}]},
    "embeddings": {"model": "ep-1", "input": "hi"},
    "tokenization": {"model": "ep-1", "text": "hi"},
}
# What has to be there for a field to be read at all.
COMPANIONS: Mapping[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
    "function_call": {"functions": [{"name": "f"}]},
}
# One entry of each array or object whose size is limited.
ENTRIES: Mapping[str, Callable[[int], Any]] = {
    "messages": lambda i: {"role": "user", "content": str(i)},
    "stop": str,
    "tools": lambda i: {"type": "function", "function": {"name": f"f{i}"}},
    "functions": lambda i: {"name": f"f{i}"},
    "input": str,
    "text": str,
}
JSON_VALUES: Mapping[str, tuple[Any, ...]] = {
    "boolean": (True, False),
    "integer": (1,),
    "number": (1.5,),
    "string": ("x",),
    "array": (["x"],),
    "object": ({"x": 1},),
}
TAKES: Mapping[str, frozenset[str]] = {
    "integer": frozenset({"integer"}),
    "number": frozenset({"integer", "number"}),
    "string or array": frozenset({"string", "array"}),
    "string or object": frozenset({"string", "object"}),
    "any": frozenset(JSON_VALUES),
}
# As JSON texts: beyond 64 bits, beyond a double, not JSON at all, and what only looks like a number.
NEVER_NUMBERS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "1" + "0" * 400,
    "1_0",
    "0x1",
    "01",
    "+1",
    "１",
    "true",
    '"1"',
)
NEVER_INTEGERS = (*NEVER_NUMBERS, "1.0", "1e0", "-0.0", "5e-324", "18446744073709551616", "-9223372036854775809")
BEYOND_EVERY_RANGE = ("1e308", "-1e308", "9223372036854775808", "18446744073709551615")


def every_field() -> Iterator[Any]:
    for name, (fields, _) in TABLES.items():
        for field in fields.values():
            yield pytest.param(name, field, id=f"{name}-{field.name}")


def honoured(test: Callable[[Field], bool] = lambda field: True) -> list[Any]:
    return [case for case in every_field() if case.values[1].effect == "honoured" and test(case.values[1])]


def decoded(name: str, field: Field, *value: Any) -> Any:
    """What the operation makes of the field with this value, or without it."""
    body = {**BASE[name.split()[1]], **COMPANIONS.get(field.name, {})}
    if value:
        body[field.name] = value[0]
    return of_body(name, body)


def of_body(name: str, body: dict[str, Any]) -> Any:
    return json_decoded(name, json.dumps(body))


def json_decoded(name: str, body: bytes) -> Any:
    return TABLES[name][1](RAW, body)


def refused(name: str, field: Field, value: Any) -> str:
    """The path that is blamed for this value."""
    with pytest.raises(InvalidField) as caught:
        decoded(name, field, value)
    assert caught.value.message
    return caught.value.field


@pytest.mark.parametrize("name, field", honoured(lambda field: not field.required))
def test_null_equals_absent(name: str, field: Field) -> None:
    assert decoded(name, field, None) == decoded(name, field)


@pytest.mark.parametrize("name, field", honoured(lambda field: field.required))
def test_a_required_field_is_missed_by_name(name: str, field: Field) -> None:
    for body in ({**BASE[name.split()[1]], field.name: None}, {}):
        with pytest.raises(MissingField) as caught:
            of_body(name, body)
        assert caught.value.field == (field.name if body else "model")


@pytest.mark.parametrize("name, field", honoured())
def test_every_other_json_type_is_refused_by_name(name: str, field: Field) -> None:
    taken = TAKES.get(field.kind, {field.kind})
    for kind, values in JSON_VALUES.items():
        for value in values if kind not in taken else ():
            assert refused(name, field, value) == field.name


@pytest.mark.parametrize("name, field", honoured(lambda field: field.kind in ("integer", "number")))
def test_hostile_numbers_are_refused(name: str, field: Field) -> None:
    texts = (NEVER_INTEGERS if field.kind == "integer" else NEVER_NUMBERS) + BEYOND_EVERY_RANGE
    for text in texts:
        body = {**BASE[name.split()[1]], **COMPANIONS.get(field.name, {}), field.name: "@"}
        with pytest.raises(BadRequest) as caught:
            json_decoded(name, json.dumps(body).replace(b'"@"', text.encode()))
        # Either it is no JSON, which has no path, or the field is to blame.
        assert caught.value.field == ("" if type(caught.value) is BadRequest else field.name), text


@pytest.mark.parametrize("name, field", honoured(lambda field: field.low is not None))
def test_the_lowest_value_is_the_lowest(name: str, field: Field) -> None:
    assert field.low is not None
    low = int(field.low) if field.kind == "integer" else field.low
    decoded(name, field, low)
    if low > -(2**63):
        assert refused(name, field, low - (1 if field.kind == "integer" else 0.001)) == field.name


@pytest.mark.parametrize("name, field", honoured(lambda field: field.high is not None))
def test_the_highest_value_is_the_highest(name: str, field: Field) -> None:
    assert field.high is not None
    high = int(field.high) if field.kind == "integer" else field.high
    decoded(name, field, high)
    assert refused(name, field, high + (1 if field.kind == "integer" else 0.001)) == field.name
    if high - 1 >= (field.low or 0):
        decoded(name, field, high - 1)


@pytest.mark.parametrize("name, field", honoured(lambda field: field.max_bytes is not None and field.name != "stop"))
def test_texts_are_limited_in_bytes(name: str, field: Field) -> None:
    assert field.max_bytes is not None
    for fits in ("a" * (field.max_bytes - 1), "a" * field.max_bytes, "字" * (field.max_bytes // 3)):
        decoded(name, field, fits)
    for beyond in ("a" * (field.max_bytes + 1), "字" * (field.max_bytes // 3 + 1)):
        assert refused(name, field, beyond) == field.name


@pytest.mark.parametrize("name, field", honoured(lambda field: field.max_items is not None))
def test_lists_and_maps_are_limited_in_entries(name: str, field: Field) -> None:
    assert field.max_items is not None

    def filled(count: int) -> Any:
        if field.name == "logit_bias":
            return {str(i): 1 for i in range(count)}
        return [ENTRIES[field.name](i) for i in range(count)]

    decoded(name, field, filled(field.max_items - 1))
    decoded(name, field, filled(field.max_items))
    assert refused(name, field, filled(field.max_items + 1)) == field.name


@pytest.mark.parametrize("name, field", honoured(lambda field: field.choices != ()))
def test_choices_are_taken_and_nothing_else(name: str, field: Field) -> None:
    for choice in field.choices:
        decoded(name, field, choice)
        assert refused(name, field, choice + " ") == field.name
        assert refused(name, field, choice.upper()) == field.name


@pytest.mark.parametrize("name, field", honoured(lambda field: field.plain))
def test_names_hold_no_nul(name: str, field: Field) -> None:
    assert refused(name, field, "ep\0-1") == field.name


@pytest.mark.parametrize("name, field", [case for case in every_field() if case.values[1].effect == "refused"])
def test_refused_fields_are_refused_whatever_they_hold(name: str, field: Field) -> None:
    for values in JSON_VALUES.values():
        for value in values:
            assert refused(name, field, value) == field.name
    assert decoded(name, field, None) == decoded(name, field)


@pytest.mark.parametrize("name, field", [case for case in every_field() if case.values[1].effect == "ignored"])
def test_ignored_fields_are_taken_and_reported(name: str, field: Field) -> None:
    values = JSON_VALUES if field.kind == "any" else {field.kind: JSON_VALUES[field.kind]}
    for value in (value for values in values.values() for value in values):
        assert decoded(name, field, value).ignored == (field.name,)
    assert decoded(name, field, None).ignored == ()


@pytest.mark.parametrize("name", TABLES)
def test_unknown_fields_are_taken_and_reported(name: str) -> None:
    body = {**BASE[name.split()[1]], "surprise": {"deep": [1]}, "nothing": None, "x" * 1000: 1}
    assert of_body(name, body).ignored == ("surprise", "x" * 64)


NESTED: list[tuple[dict[str, Any], str]] = [
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"chunk_include_usage": "true"}}, "stream_options.chunk_include_usage"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [{"role": None, "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": 1, "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": {"text": "a"}}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": {}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}]},
        "messages[0].content[0].image_url",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 257}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "a", "name": 1}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": "a", "name": "a\0"}]}, "messages[0].name"),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]},
        "messages[0].tool_calls[0].function.name",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "f"}}]}]},
        "messages[0].tool_calls[0].id",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 65}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 129}]},
        "messages[0].tool_calls",
    ),
    ({"messages": [{"role": "assistant", "function_call": {}}]}, "messages[0].function_call.name"),
    ({"messages": [{"role": "tool", "content": "a", "tool_call_id": 1}]}, "messages[0].tool_call_id"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": ["a", "b" * 257]}, "stop[1]"),
    ({"stop": ["字" * 86]}, "stop[0]"),
    ({"stop": "b" * 257}, "stop[0]"),
    ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
    ({"logit_bias": {"2147483648": 1}}, "logit_bias.2147483648"),
    ({"logit_bias": {"１": 1}}, "logit_bias.１"),
    ({"logit_bias": {"": 1}}, "logit_bias."),
    ({"logit_bias": {"9" * 400: 1}}, "logit_bias." + "9" * 32),
    ({"logit_bias": {"1": 100.5}}, "logit_bias.1"),
    ({"logit_bias": {"1": 1e300}}, "logit_bias.1"),
    ({"logit_bias": {"1": "1"}}, "logit_bias.1"),
    ({"logit_bias": {"1": None}}, "logit_bias.1"),
    ({"tools": [1]}, "tools[0]"),
    ({"tools": [{"type": 1, "function": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"function": None}]}, "tools[0].function"),
    ({"tools": [{"function": {"name": 1}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {"name": "f" * 257}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": [{"function": {"name": "f", "description": 1}}]}, "tools[0].function.description"),
    ({"tools": [{"function": {"name": "f", "parameters": {"x": "y" * 65536}}}]}, "tools[0].function"),
    ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"function": 1}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"functions": [1]}, "functions[0]"),
    ({"functions": [{}]}, "functions[0].name"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": ["text"]}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}}, "response_format.json_schema"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"),
    ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
    ({"stream": False, "stream_options": {"include_usage": False}}, "stream_options"),
]


@pytest.mark.parametrize("name", ["v3 chat", "openai chat"])
@pytest.mark.parametrize("extra, path", NESTED, ids=lambda value: value if isinstance(value, str) else "")
def test_nested_values_are_blamed_by_their_path(name: str, extra: dict[str, Any], path: str) -> None:
    with pytest.raises((InvalidField, MissingField)) as caught:
        of_body(name, {**BASE["chat"], **extra})
    assert caught.value.field == path


@pytest.mark.parametrize("name", ["v3 embeddings", "openai embeddings", "v3 tokenization"])
def test_lists_of_texts_are_blamed_by_their_place(name: str) -> None:
    field = "text" if "tokenization" in name else "input"
    largest = "a" * shape.EMBED_INPUT_MAX_BYTES
    of_body(name, {"model": "ep-1", field: largest})
    for value, path in (
        (["a", 1], f"{field}[1]"),
        (["a", ""], f"{field}[1]"),
        (["a", None], f"{field}[1]"),
        ([["a"]], f"{field}[0]"),
        ([], field),
        ("", field),
        ([largest + "a"], f"{field}[0]"),
        (largest[1:] + "é", field),
    ):
        with pytest.raises(InvalidField) as caught:
            of_body(name, {"model": "ep-1", field: value})
        assert caught.value.field == path


def test_a_later_field_of_the_same_name_replaces_the_earlier() -> None:
    assert v3_fields.CHAT["n"].high == 1
    assert openai_fields.CHAT["n"].high == 8
