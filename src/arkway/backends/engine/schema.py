"""Bounds on a JSON Schema before the engine compiles it: depth, size, counts, patterns, and where references lead.

The engine compiles a schema on the thread that serves every slot, so a schema may not take long: item counts cost time
by the item, ``multipleOf`` by its factor, and both once more for each place that a reference copies them to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from typing import Any
from urllib.parse import unquote

import msgspec

from arkway.core.errors import InvalidField

MAX_DEPTH = 16
MAX_BYTES = 64 * 1024
PATTERN_MAX_CHARS = 512
COUNT_MAX = 2_000
"""minItems, maxItems, minProperties, maxProperties, values of an enum, and ``{m,n}`` in patterns."""
NAMES_MAX = 300
"""Names in one object: rendering a tool takes the square of it and more (300: 0.1 s, 1,500: 7 s)."""
LENGTH_MAX = 20_000
"""minLength and maxLength, which cost next to nothing up to here."""
ITEMS_MAX = 10_000
"""All item counts of a schema together: some 0.1 s."""
FACTOR_MAX = 10_000
"""Least common multiple of every ``multipleOf``."""
FACTORS_MAX = 100_000
"""The same, times the places it is used at: some 0.4 s."""
CONSTANT_MAX_CHARS = 4_096
TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
VALUES = frozenset({"enum", "const", "default", "examples", "required", "dependentRequired"})
COUNTS = {
    "minItems": COUNT_MAX,
    "maxItems": COUNT_MAX,
    "minProperties": COUNT_MAX,
    "maxProperties": COUNT_MAX,
    "minContains": COUNT_MAX,
    "maxContains": COUNT_MAX,
    "minLength": LENGTH_MAX,
    "maxLength": LENGTH_MAX,
}
ITEM_COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains")
ALTERNATIVES = ("anyOf", "oneOf", "allOf")

_REPETITION = re.compile(r"\{(\d*),?(\d*)\}")


def check_schema(schema: dict[str, Any], field: str) -> None:
    """Raises InvalidField(field) for a schema that is too deep, too large, too costly, or that no compiler takes.

    Depth counts nested objects and arrays, the schema itself being 1.
    """
    if depth(schema) > MAX_DEPTH:
        raise InvalidField(f"the JSON schema is nested deeper than {MAX_DEPTH} levels", field)
    if len(msgspec.json.encode(schema)) > MAX_BYTES:
        raise InvalidField(f"the JSON schema is larger than {MAX_BYTES} bytes", field)
    _check_names(schema, field)
    nodes = list(_subschemas(schema))
    for node in nodes:
        _check_type(node.get("type"), field)
        _check_pattern(node.get("pattern"), field)
        _check_reference(node.get("$ref"), field)
        _check_counts(node, field)
        _check_constants(node, field)
        patterns = node.get("patternProperties")
        for pattern in patterns if isinstance(patterns, dict) else ():
            _check_pattern(pattern, field)
    _check_cost(nodes, field)
    _check_cycles(schema, nodes, field)


def depth(value: Any, limit: int = MAX_DEPTH) -> int:
    """Levels of nesting, counted up to one over the limit; without recursion, because the value may be hostile."""
    deepest = 0
    stack = [(value, 1)]
    while stack:
        item, level = stack.pop()
        if isinstance(item, dict | list | tuple):
            deepest = max(deepest, level)
            if deepest > limit:
                return deepest
            stack += [(child, level + 1) for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _subschemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every object that is a schema: not those in ``properties`` and its like, nor in values such as ``const``."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _subschemas(item)
    if not isinstance(node, dict):
        return
    yield node
    for key, child in node.items():
        if key in SCHEMA_MAPS and isinstance(child, dict):
            for schema in child.values():
                yield from _subschemas(schema)
        elif key not in VALUES:
            yield from _subschemas(child)


def _check_names(value: Any, field: str) -> None:
    """Every object, whatever it stands for: a template renders them all."""
    if isinstance(value, dict) and len(value) > NAMES_MAX:
        raise InvalidField(f"an object of the JSON schema has more than {NAMES_MAX} names", field)
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_names(item, field)


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
    if any(int(bound or 0) > COUNT_MAX for bound in chain.from_iterable(_REPETITION.findall(pattern))):
        raise InvalidField(f"a `pattern` of the JSON schema repeats more than {COUNT_MAX} times", field)


def _check_reference(reference: Any, field: str) -> None:
    if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
        raise InvalidField("a `$ref` of the JSON schema must point inside the schema (`#/$defs/...`)", field)


def _check_counts(node: dict[str, Any], field: str) -> None:
    for key, limit in COUNTS.items():
        count = node.get(key)
        if count is not None and (not isinstance(count, int | float) or not 0 <= count <= limit):
            raise InvalidField(f"`{key}` in the JSON schema must be a number between 0 and {limit}", field)


def _check_constants(node: dict[str, Any], field: str) -> None:
    allowed = node.get("enum")
    if isinstance(allowed, list | tuple) and len(allowed) > COUNT_MAX:
        raise InvalidField(f"an `enum` of the JSON schema has more than {COUNT_MAX} values", field)
    for value in [node.get("const"), *(allowed if isinstance(allowed, list | tuple) else ())]:
        if isinstance(value, str) and len(value) > CONSTANT_MAX_CHARS:
            raise InvalidField(f"a value in the JSON schema is longer than {CONSTANT_MAX_CHARS} characters", field)


def _check_cost(nodes: list[dict[str, Any]], field: str) -> None:
    """What compiling costs, with everything counted again at each place where a reference is merged with more."""
    merged = sum(_merges(node) for node in nodes)
    counts = [int(node.get(key) or 0) for node in nodes for key in ITEM_COUNTS]
    if sum(counts) + merged * max(counts, default=0) > ITEMS_MAX:
        raise InvalidField(
            f"the item and property counts of the JSON schema add up to more than {ITEMS_MAX}; lower `maxItems`", field
        )
    factors = [_decimal(node["multipleOf"], field) for node in nodes if node.get("multipleOf") is not None]
    common = _common_multiple(factors)
    if common > FACTOR_MAX or common * (len(factors) + merged) > FACTORS_MAX:
        raise InvalidField("the `multipleOf` of the JSON schema are too large or too many", field)


def _merges(node: dict[str, Any]) -> int:
    """References whose target is copied: those that stand beside other keys, or in an ``allOf``."""
    beside = int("$ref" in node and len(node) > 1)
    together = node.get("allOf")
    members = together if isinstance(together, list | tuple) else ()
    return beside + sum(isinstance(member, dict) and "$ref" in member for member in members)


def _decimal(factor: Any, field: str) -> Decimal:
    number = Decimal(repr(factor)) if isinstance(factor, int | float) and not isinstance(factor, bool) else Decimal(0)
    if not (number > 0 and -10 < number.adjusted() < 10):
        raise InvalidField("a `multipleOf` of the JSON schema must be a number between 1e-9 and 1e9", field)
    return number


def _common_multiple(factors: list[Decimal]) -> int:
    """In units of the last decimal place that any factor has."""
    places = max((-int(factor.as_tuple().exponent) for factor in factors), default=0)
    return math.lcm(*(int(factor.scaleb(max(0, places))) for factor in factors))


def _check_cycles(schema: dict[str, Any], nodes: list[dict[str, Any]], field: str) -> None:
    """A schema that comes back to itself before any text is read has no grammar."""
    done: set[int] = set()
    for node in nodes:
        path = {id(node)}
        stack = [(node, _same_text(schema, node))]
        while stack:
            current, following = stack[-1]
            target = next(following, None)
            if target is None:
                stack.pop()
                path.discard(id(current))
                done.add(id(current))
            elif id(target) in path:
                raise InvalidField("a `$ref` of the JSON schema leads back to itself", field)
            elif id(target) not in done:
                path.add(id(target))
                stack.append((target, _same_text(schema, target)))


def _same_text(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that have to match the very text this one matches."""
    if isinstance(reference := node.get("$ref"), str) and isinstance(target := _target(schema, reference), dict):
        yield target
    for key in ALTERNATIVES:
        members = node.get(key)
        for member in members if isinstance(members, list | tuple) else ():
            if isinstance(member, dict):
                yield member


def _target(schema: dict[str, Any], reference: str) -> Any:
    """What a JSON pointer (RFC 6901) in a fragment names; None for nothing."""
    found: Any = schema
    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list | tuple) and key.isdecimal() and len(key) < 6 and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found
