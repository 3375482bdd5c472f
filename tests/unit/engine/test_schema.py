from __future__ import annotations

from typing import Any

import pytest

from arkway.backends.engine.schema import MAX_DEPTH, check_schema
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
