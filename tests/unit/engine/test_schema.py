from __future__ import annotations

from typing import Any

import pytest

from arkway.backends.engine.schema import COUNT_MAX, LENGTH_MAX, MAX_DEPTH, check_schema
from arkway.core.errors import InvalidField


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        nested(MAX_DEPTH + 1),
        nested(5000),
        {"enum": ["x" * 70_000]},
        {"type": "zork"},
        {"type": 5},
        {"properties": {"a": {"pattern": "(("}}},
        {"pattern": "a" * 513},
        {"patternProperties": {"((": {}}},
        {"$ref": "http://example.com/schema"},
        {"anyOf": [{"items": {"$ref": "other.json"}}]},
    ],
)
def test_schemas_out_of_bounds_name_their_field(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as raised:
        check_schema(schema, "response_format")
    assert raised.value.field == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(MAX_DEPTH),
        {"type": ["string", "null"], "pattern": "^a+$"},
        {"properties": {"type": {"type": "string"}, "pattern": {"type": "string"}, "$ref": {"type": "string"}}},
        {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
        {"const": {"type": "zork"}},
    ],
)
def test_ordinary_schemas_pass(schema: dict[str, Any]) -> None:
    check_schema(schema, "tools")


COUNTED = {"type": "array", "items": {"type": "integer"}, "maxItems": COUNT_MAX}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "maxItems": 1_000_000}, "maxItems"),
        ({"type": "array", "minItems": 1e9}, "minItems"),
        ({"type": "array", "minItems": -1}, "minItems"),
        ({"type": "array", "minItems": "many"}, "minItems"),
        ({"properties": {"a": {"type": "string", "maxLength": LENGTH_MAX + 1}}}, "maxLength"),
        ({"$defs": {"a": {"minLength": LENGTH_MAX + 1}}}, "minLength"),
        ({"minProperties": COUNT_MAX + 1}, "minProperties"),
        ({"maxProperties": COUNT_MAX + 1}, "maxProperties"),
        ({"enum": list(range(COUNT_MAX + 1))}, "enum"),
        ({"const": "x" * 5000}, "value"),
        ({"properties": {f"p{at}": {} for at in range(301)}}, "names"),
        ({"const": [{f"p{at}": 1 for at in range(301)}]}, "names"),
        ({"pattern": "a{1,100000}"}, "pattern"),
        ({"pattern": "a{100000}"}, "pattern"),
        ({"patternProperties": {"a{100000,}": {}}}, "pattern"),
        ({"anyOf": [COUNTED] * 6}, "counts"),
        ({"$defs": {"a": COUNTED}, "anyOf": [{"$ref": "#/$defs/a", "minItems": at} for at in range(6)]}, "counts"),
        ({"multipleOf": 999_983}, "multipleOf"),
        ({"multipleOf": 0}, "multipleOf"),
        ({"multipleOf": 1e300}, "multipleOf"),
        ({"allOf": [{"multipleOf": 97}, {"multipleOf": 101}, {"multipleOf": 103}]}, "multipleOf"),
        ({"prefixItems": [{"multipleOf": 9973}] * 20}, "multipleOf"),
    ],
)
def test_schemas_that_take_long_to_compile_are_refused(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidField, match=named) as raised:
        check_schema(schema, "tools")
    assert raised.value.field == "tools"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/%24defs/a"}}},
        {"$defs": {"x/y": {"oneOf": [{"$ref": "#/$defs/x~1y"}]}}},
        {"anyOf": [{"anyOf": [{"$ref": "#/anyOf/0"}]}]},
        {"$defs": {f"a{at}": {"$ref": f"#/$defs/a{(at + 1) % 300}"} for at in range(300)}},
    ],
)
def test_references_that_lead_back_to_themselves_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="leads back"):
        check_schema(schema, "response_format")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"child": {"$ref": "#"}}},
        {"$defs": {"tree": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/tree"}}]}}},
        {"$defs": {"a": {"type": "string"}}, "anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]},
        {"$ref": "#/$defs/missing"},
        {"properties": {f"price{at}": {"type": "number", "multipleOf": 0.01} for at in range(50)}},
        {"properties": {"minItems": {"type": "integer"}, "maxItems": {"maxItems": 100}}},
        {"$defs": {"a": {"maxItems": 100}}, "anyOf": [{"$ref": "#/$defs/a", "title": str(at)} for at in range(20)]},
        {"type": "string", "maxLength": LENGTH_MAX},
        COUNTED,
    ],
)
def test_schemas_within_bounds_pass(schema: dict[str, Any]) -> None:
    check_schema(schema, "tools")
