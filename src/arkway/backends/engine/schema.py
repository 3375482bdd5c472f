"""Bounds on a JSON Schema before the engine compiles it: depth, size, patterns, and references that stay inside."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from arkway.core.errors import InvalidField

MAX_DEPTH = 16
MAX_BYTES = 64 * 1024
PATTERN_MAX_CHARS = 512
TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
VALUES = frozenset({"enum", "const", "default", "examples", "required"})


def check_schema(schema: dict[str, Any], field: str) -> None:
    """Raises InvalidField(field) for a schema that is too deep, too large, or that no compiler takes.

    Depth counts nested objects and arrays, the schema itself being 1.
    """
    if depth(schema) > MAX_DEPTH:
        raise InvalidField(f"the JSON schema is nested deeper than {MAX_DEPTH} levels", field)
    if len(msgspec.json.encode(schema)) > MAX_BYTES:
        raise InvalidField(f"the JSON schema is larger than {MAX_BYTES} bytes", field)
    _check_node(schema, field)


def depth(value: Any) -> int:
    """Levels of nesting; found without recursion, because the value may be hostile."""
    deepest = 0
    stack = [(value, 1)]
    while stack:
        item, level = stack.pop()
        if isinstance(item, dict | list | tuple):
            deepest = max(deepest, level)
            if deepest > MAX_DEPTH:
                return deepest
            stack += [(child, level + 1) for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _check_node(node: Any, field: str) -> None:
    if isinstance(node, list):
        for item in node:
            _check_node(item, field)
    if not isinstance(node, dict):
        return
    _check_type(node.get("type"), field)
    _check_pattern(node.get("pattern"), field)
    _check_reference(node.get("$ref"), field)
    for key, child in node.items():
        if key in SCHEMA_MAPS and isinstance(child, dict):
            for pattern in child if key == "patternProperties" else ():
                _check_pattern(pattern, field)
            for schema in child.values():
                _check_node(schema, field)
        elif key not in VALUES:
            _check_node(child, field)


def _check_type(named: Any, field: str) -> None:
    for name in named if isinstance(named, list) else [named]:
        if name is not None and (not isinstance(name, str) or name not in TYPES):
            raise InvalidField(f"the JSON schema names an unknown type {str(name)[:64]!r}", field)


def _check_pattern(pattern: Any, field: str) -> None:
    if pattern is None:
        return
    if not isinstance(pattern, str) or len(pattern) > PATTERN_MAX_CHARS:
        raise InvalidField(f"a `pattern` of the JSON schema is longer than {PATTERN_MAX_CHARS} characters", field)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        raise InvalidField(
            f"a `pattern` of the JSON schema is no regular expression: {pattern[:64]!r}", field
        ) from None


def _check_reference(reference: Any, field: str) -> None:
    if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
        raise InvalidField("a `$ref` of the JSON schema must point inside the schema (`#/$defs/...`)", field)
