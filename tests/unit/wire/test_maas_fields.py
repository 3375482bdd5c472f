"""The field tables of MaaS v1 and v2, both modes: every field at and beyond its type and its range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from arkway.core.chat import ChatRequest
from arkway.core.classification import ClassifyRequest
from arkway.core.embedding import EmbedRequest, TokenizeRequest
from arkway.core.errors import BadRequest, InvalidField, MissingField
from arkway.core.raw import RawRequest, Tap
from arkway.dialects.v1 import MaasV1
from arkway.dialects.v1 import fields as v1_fields
from arkway.dialects.v2 import MaasV2
from arkway.dialects.v2 import fields as v2_fields
from arkway.wire import json
from arkway.wire.fields import Field, Strict, Table, mode_rows


async def _no_body(limit_bytes: int, tap: Tap | None) -> bytes:
    return b""


RAW = RawRequest("POST", "/api/v2/endpoint/ep-1/operation", "", {}, "id", 0, _no_body)
COMPAT: Mapping[str, MaasV1 | MaasV2] = {"v1": MaasV1(), "v2": MaasV2()}
STRICT: Mapping[str, MaasV1 | MaasV2] = {"v1": MaasV1(strict=True), "v2": MaasV2(strict=True)}
PARAMETERS: Mapping[str, Table] = {"v1": v1_fields.PARAMETERS, "v2": v2_fields.PARAMETERS}
CHAT: Mapping[str, Table] = {"v1": v1_fields.CHAT, "v2": v2_fields.CHAT}
OTHERS: Mapping[str, tuple[Table, ...]] = {
    "v1": (v1_fields.EMBED, v1_fields.TOKENIZE, v1_fields.CLASSIFY),
    "v2": (v2_fields.EMBED, v2_fields.TOKENIZE, v2_fields.CLASSIFY),
}
Decode = Callable[[RawRequest, bytes], EmbedRequest | TokenizeRequest | ClassifyRequest]
JSON_VALUES: Mapping[str, Any] = {
    "boolean": True,
    "integer": 1,
    "number": 1.5,
    "string": "x",
    "array": ["x"],
    "object": {"1": 1},
}
TAKES = {"number": {"integer", "number"}, "string or array": {"string", "array"}}
HOSTILE = ("1e999", "1" + "0" * 400, "NaN", "01", "1e308", "-1e308", "18446744073709551615", '"1_0"', '"１"', '"0x1"')


def body(dialect: str, **extra: Any) -> bytes:
    model = {"model": {"name": "m"}} if dialect == "v1" else {}
    return json.dumps({**model, "messages": [{"role": "user", "content": "hi"}], **extra})


def decoded(dialect: str, parameters: dict[str, Any], *, strict: bool = False) -> ChatRequest:
    return (STRICT if strict else COMPAT)[dialect].decode_chat(RAW, body(dialect, parameters=parameters))


def refused(dialect: str, parameters: dict[str, Any], *, strict: bool = False) -> str:
    """The path that is blamed."""
    with pytest.raises(InvalidField) as caught:
        decoded(dialect, parameters, strict=strict)
    return caught.value.field


def parameters(effect: str = "honoured") -> list[Any]:
    return [
        pytest.param(dialect, field, id=f"{dialect}-{field.name}")
        for dialect, table in PARAMETERS.items()
        for field in table.values()
        if field.effect == effect
    ]


def ranged() -> list[Any]:
    return [case for case in parameters() if case.values[1].low is not None]


def step(field: Field) -> float:
    return 1 if field.kind == "integer" else 0.001


def number(field: Field, value: float) -> float:
    return int(value) if field.kind == "integer" else value


@pytest.mark.parametrize("dialect, field", parameters())
def test_null_equals_absent(dialect: str, field: Field) -> None:
    assert decoded(dialect, {field.name: None}) == decoded(dialect, {})


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dialect, field", parameters())
def test_every_other_json_type_is_refused_by_name_or_ignored(dialect: str, field: Field, strict: bool) -> None:
    for kind, value in JSON_VALUES.items():
        if kind in TAKES.get(field.kind, {field.kind}):
            continue
        if field.else_ignored:
            assert decoded(dialect, {field.name: value}, strict=strict).ignored == (f"parameters.{field.name}",)
        else:
            assert refused(dialect, {field.name: value}, strict=strict) == f"parameters.{field.name}"


@pytest.mark.parametrize("dialect, field", ranged())
def test_compat_takes_the_wide_range_and_no_more(dialect: str, field: Field) -> None:
    assert field.low is not None
    assert decoded(dialect, {field.name: number(field, field.low)})
    below = number(field, field.low - step(field))
    if not (field.zero_is_unset and below == 0):
        assert refused(dialect, {field.name: below}) == f"parameters.{field.name}"
    if field.high is None:
        assert decoded(dialect, {field.name: 10**9}).max_tokens == 10**9
        return
    assert decoded(dialect, {field.name: number(field, field.high)}).clamped == ()
    above = number(field, field.high + step(field))
    if field.clamps:
        at_most = decoded(dialect, {field.name: number(field, field.high)})
        assert decoded(dialect, {field.name: above}).clamped == (f"parameters.{field.name}",)
        assert decoded(dialect, {field.name: above}).top_logprobs == at_most.top_logprobs
    else:
        assert refused(dialect, {field.name: above}) == f"parameters.{field.name}"


@pytest.mark.parametrize("dialect, field", ranged())
def test_strict_takes_the_documented_range_and_no_more(dialect: str, field: Field) -> None:
    bounds = field.strict or Strict(field.low, field.high)
    assert bounds.low is not None
    assert bounds.high is not None
    lowest = number(field, bounds.low + (step(field) if bounds.above_low else 0))
    below = bounds.low if bounds.above_low else bounds.low - step(field)
    for value in (lowest, number(field, bounds.high)):
        assert decoded(dialect, {field.name: value}, strict=True).clamped == ()
    for value in (number(field, below), number(field, bounds.high + step(field))):
        assert refused(dialect, {field.name: value}, strict=True) == f"parameters.{field.name}"


@pytest.mark.parametrize("dialect, field", [case for case in parameters() if case.values[1].zero_is_unset])
def test_zero_is_unset_in_compat(dialect: str, field: Field) -> None:
    assert decoded(dialect, {field.name: 0}) == decoded(dialect, {})
    assert refused(dialect, {field.name: 0}, strict=True) == f"parameters.{field.name}"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dialect, field", [case for case in parameters() if case.values[1].kind == "integer"])
def test_integers_may_be_quoted(dialect: str, field: Field, strict: bool) -> None:
    assert field.quoted
    assert decoded(dialect, {field.name: "7"}, strict=strict) == decoded(dialect, {field.name: 7}, strict=strict)
    for text in ("", " 7", "7 ", "+7", "07", "7.0", "7e0", "seven", "٧", "7\n", "9" * 20):
        assert refused(dialect, {field.name: text}, strict=strict) == f"parameters.{field.name}"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dialect, field", ranged())
def test_hostile_numbers_are_refused_or_clamped(dialect: str, field: Field, strict: bool) -> None:
    translator = (STRICT if strict else COMPAT)[dialect]
    for text in HOSTILE:
        raw = body(dialect, parameters={field.name: "@"}).replace(b'"@"', text.encode())
        if field.clamps and not strict and text == "18446744073709551615":
            assert translator.decode_chat(RAW, raw).top_logprobs == field.high
            continue
        with pytest.raises(BadRequest) as caught:
            translator.decode_chat(RAW, raw)
        # Either it is no JSON, which has no path, or the field is to blame.
        assert caught.value.field == ("" if type(caught.value) is BadRequest else f"parameters.{field.name}"), text


@pytest.mark.parametrize("dialect, field", parameters("ignored"))
def test_ignored_parameters_are_taken_and_reported(dialect: str, field: Field) -> None:
    for value in JSON_VALUES.values():
        assert decoded(dialect, {field.name: value}).ignored == (f"parameters.{field.name}",)
    assert decoded(dialect, {field.name: None}).ignored == ()


@pytest.mark.parametrize("dialect", CHAT)
def test_fields_of_the_body_are_checked_and_reported_by_name(dialect: str) -> None:
    for field in CHAT[dialect].values():
        if field.effect == "ignored":
            assert COMPAT[dialect].decode_chat(RAW, body(dialect, **{field.name: [1]})).ignored == (field.name,)
            continue
        wrong = 1.5 if field.kind != "number" else "x"
        with pytest.raises(InvalidField) as caught:
            COMPAT[dialect].decode_chat(RAW, body(dialect, **{field.name: wrong}))
        assert caught.value.field == field.name


@pytest.mark.parametrize("dialect", CHAT)
def test_names_are_bounded_and_hold_no_nul(dialect: str) -> None:
    for field in (field for field in CHAT[dialect].values() if field.max_bytes is not None):
        values = ["x" * (field.max_bytes or 0) + "x", *(["a\0"] if field.plain else [])]
        for value in values:
            with pytest.raises(InvalidField) as caught:
                COMPAT[dialect].decode_chat(RAW, body(dialect, **{field.name: value}))
            assert caught.value.field == field.name


def long_lists() -> Iterator[Any]:
    for dialect in CHAT:
        function = {"name": "f"}
        yield pytest.param(dialect, {"messages": [{"role": "user", "content": ""}] * 2049}, "messages")
        yield pytest.param(dialect, {"functions": [function] * 129}, "functions")
        yield pytest.param(dialect, {"parameters": {"stop": ["a"] * 17}}, "parameters.stop")
        biases = {str(token): 1 for token in range(1025)}
        yield pytest.param(dialect, {"parameters": {"logit_bias": biases}}, "parameters.logit_bias")
    yield pytest.param("v2", {"tools": [{"function": {"name": "f"}}] * 129}, "tools")
    parts = [{"type": "text", "text": "a"}] * 257
    yield pytest.param("v2", {"messages": [{"role": "user", "content": parts}]}, "messages[0].content")


@pytest.mark.parametrize("dialect, extra, path", list(long_lists()))
def test_lists_are_bounded(dialect: str, extra: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as caught:
        COMPAT[dialect].decode_chat(RAW, body(dialect, **extra))
    assert caught.value.field == path


@pytest.mark.parametrize("dialect", OTHERS)
def test_the_required_fields_of_the_other_operations_are_missed_by_name(dialect: str) -> None:
    translator = COMPAT[dialect]
    decoders: tuple[Decode, ...] = (translator.decode_embed, translator.decode_tokenize, translator.decode_classify)
    whole = {"model": {"name": "m"}, "input": ["a"], "text": "a", "query": "a", "labels": ["a", "b"]}
    for table, decode in zip(OTHERS[dialect], decoders, strict=True):
        present = {name: whole[name] for name in table if name in whole}
        assert decode(RAW, json.dumps(present)).asked == ("m" if dialect == "v1" else "ep-1")
        for name in (name for name, field in table.items() if field.required):
            with pytest.raises(MissingField) as caught:
                decode(RAW, json.dumps({**present, name: None}))
            assert caught.value.field == name


def test_both_modes_are_told_from_the_tables() -> None:
    rows = {name: words for name, _, *words in mode_rows(v1_fields.PARAMETERS, "parameters.")}
    assert rows["parameters.temperature"] == ["a number from 0 to 2", "a number above 0 and at most 1"]
    assert rows["parameters.max_new_tokens"] == [
        "at least 1, digits in a string too, 0 is unset",
        "a number from 1 to 2048, digits in a string too",
    ]
    assert rows["parameters.logprobs"] == [
        "a number from 0 to 20, digits in a string too, more counts as 20",
        "a number from 0 to 20, digits in a string too",
    ]
    assert rows["parameters.logit_bias"] == ["any other type is ignored", "any other type is ignored"]
    assert rows["parameters.guidance"] == ["ignored", "ignored"]
    roles = next(mode_rows(v2_fields.MESSAGE))
    assert roles[2:] == (
        "required, system or user or assistant or function or tool",
        "required, system or user or assistant or function",
    )
    assert {name: strict for name, _, _, strict in mode_rows(v2_fields.PARAMETERS)}["max_tokens"].startswith(
        "a number from 1 to 4000"
    )
